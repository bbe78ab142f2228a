"""How a run ended, as the runner's exit code says it: the one thing that outlives a runner whose reports were lost."""

from enum import IntEnum


class Outcome(IntEnum):
    """Exit codes of the runner. Anything else (1, 137, ...) means that the runner itself did not end in good order."""

    SUCCEEDED = 0
    USER_ERROR = 10  # a cell raised
    TIMEOUT = 11  # the whole run's deadline
    CANCELLED = 12  # asked to stop by SIGTERM
    KERNEL_DIED = 13  # killed, out of memory, or crashed
    INFRASTRUCTURE = 14  # the kernel did not start, or the runner could not do its part
    OUTPUT_LOST = 15  # all cells ran, but the disk did not take the notebook, and the service did not, either


REASONS: dict[Outcome, tuple[str, str]] = {
    Outcome.USER_ERROR: ("run.error", "A cell of the notebook failed."),
    Outcome.TIMEOUT: ("run.timeout", "The run took longer than its time limit, and was stopped."),
    Outcome.CANCELLED: ("run.cancelled", "The run was stopped on request."),
    Outcome.KERNEL_DIED: (
        "run.kernel-died",
        "The notebook's kernel died. The likeliest cause is memory: give the run more, or let it load less at a time.",
    ),
    Outcome.OUTPUT_LOST: (
        "run.output-lost",
        "It ran to its end, but its notebook could be neither written to the disk nor sent. Make room, and start it again.",
    ),
    Outcome.INFRASTRUCTURE: ("run.infrastructure", "The run could not be carried out; its log says why."),
}


def outcome_of(exit_code: int | None) -> Outcome:
    """The outcome for an exit code; unknown ones and None count as infrastructure."""
    try:
        return Outcome(exit_code) if exit_code is not None else Outcome.INFRASTRUCTURE
    except ValueError:
        return Outcome.INFRASTRUCTURE
