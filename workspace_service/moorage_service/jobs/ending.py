"""How a run ended: from its process and the runner's exit code, never from the notebook's own metadata."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from moorage.wire import Phase
from moorage_jobs.outcome import REASONS, Outcome, outcome_of
from moorage_service.ledger.resources import in_words
from moorage_spawners.launch import Observation


@dataclass(frozen=True)
class Ending:
    phase: Phase
    code: str
    reason: str
    at: datetime | None = None  # None: now


def ending_of(
    seen: Observation, progress: dict[str, Any] | None, *, stop_asked: bool, asked_why: str | None, memory: int
) -> Ending:
    """The final phase and its reason in words. `progress` is the runner's last report, for the failing cell; `memory` the
    bytes that the run might use.
    """
    if seen.exit_code == Outcome.SUCCEEDED:
        return Ending(Phase.SUCCEEDED, "run.succeeded", "It ran to its end in good order.")
    outcome = outcome_of(seen.exit_code)
    if stop_asked and (outcome in (Outcome.CANCELLED, Outcome.INFRASTRUCTURE) or seen.signal is not None):
        return Ending(Phase.CANCELLED, "run.cancelled", asked_why or REASONS[Outcome.CANCELLED][1])
    if seen.out_of_memory and outcome in (Outcome.KERNEL_DIED, Outcome.INFRASTRUCTURE):
        reason = f"It used more than its {in_words('memory', memory)} and was ended. Promote it again with more memory."
        return Ending(Phase.FAILED, "run.out-of-memory", reason)
    if outcome is Outcome.USER_ERROR:
        return Ending(Phase.FAILED, "run.error", _failing_cell(progress or {}))
    if outcome in (Outcome.TIMEOUT, Outcome.KERNEL_DIED, Outcome.OUTPUT_LOST):
        code, sentence = REASONS[outcome]
        return Ending(Phase.FAILED, code, (progress or {}).get("error_value") or sentence)
    if outcome is Outcome.CANCELLED:  # by somebody else's SIGTERM, such as the machine's shutdown
        return Ending(Phase.FAILED, "run.interrupted", "The run was interrupted from outside Moorage. Start it again.")
    return _not_in_order(seen, progress or {})


def without_its_output(ending: Ending, why: str, advice: str) -> Ending:
    """The same ending, but no success, and with words on what became of the outputs."""
    if ending.phase is not Phase.SUCCEEDED:
        return replace(ending, reason=f"{ending.reason} Besides, {why}. {advice}")
    return replace(ending, phase=Phase.FAILED, code="run.output-lost", reason=f"It ran to its end, but {why}. {advice}")


def _failing_cell(progress: dict[str, Any]) -> str:
    name, value, cell = progress.get("error_name"), progress.get("error_value"), progress.get("error_cell")
    if not name:
        return REASONS[Outcome.USER_ERROR][1]
    where = f"Cell {cell + 1} failed" if cell is not None else "A cell failed"
    lines = (value or "").strip().splitlines()
    return f"{where}: {name}" + (f": {lines[0][:300]}" if lines else "") + "."


def _not_in_order(seen: Observation, progress: dict[str, Any]) -> Ending:
    if seen.exit_code == Outcome.INFRASTRUCTURE:
        sentence = progress.get("error_value") or REASONS[Outcome.INFRASTRUCTURE][1]
        return Ending(Phase.FAILED, "run.infrastructure", sentence)
    if seen.machine_restarted:
        return Ending(Phase.FAILED, "run.machine-restarted", "The machine was restarted while it ran. Start it again.")
    if seen.signal is None and seen.exit_code is None:
        reason = seen.message or "It ended without a record, for example by a restart of the machine. Start it again."
        return Ending(Phase.FAILED, "run.lost", reason)
    how = f"signal {seen.signal}" if seen.signal else f"exit status {seen.exit_code}"
    return Ending(Phase.FAILED, "run.runner-died", f"The process that ran the notebook ended with {how}. See its log.")
