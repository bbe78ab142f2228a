"""What can go wrong when a workload is started, and when it is looked at."""


class LaunchError(Exception):
    """A process could not be started, and nothing of it is left. The text is a sentence for the workload's owner."""

    code = "launch.failed"


class OtherGenerationError(LaunchError):
    """Another generation of the same role still runs, or a newer one was started already."""

    code = "launch.other_generation"


class WallError(LaunchError):
    """Ports can't be kept for their owner; the text says why."""

    code = "launch.port_wall"


class ManifestError(LaunchError):
    """What was asked for can't be said in a manifest; the text names it and the remedy."""

    code = "launch.manifest"


class StaleViewError(LaunchError):
    """What Kubernetes shows was not heard of for too long to decide anything by it."""

    code = "launch.stale_view"


class PodRefusedError(LaunchError):
    """Kubernetes did not take a pod. `code` is the reason's; the text its sentence and remedy."""

    def __init__(self, code: str, message: str, *, waits: bool) -> None:
        super().__init__(message)
        self.code = code
        self.waits = waits  # it may be taken later


class Unanswered(Exception):
    """The API server gave no usable answer. The text is a sentence; `retry_after_s`: when it wants to be asked again."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Silent(Unanswered):
    """Nothing came in a stream for so long that its connection may be lost: there was nothing to tell, or nobody hears of it."""
