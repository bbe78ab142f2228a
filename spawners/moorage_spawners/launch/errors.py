"""What can go wrong before a workload's process exists."""


class LaunchError(Exception):
    """A process could not be started, and nothing of it is left. The text is a sentence for the workload's owner."""

    code = "launch.failed"


class OtherGenerationError(LaunchError):
    """Another generation of the same role still runs, or a newer one was started already."""

    code = "launch.other_generation"


class WallError(LaunchError):
    """Ports can't be kept for their owner; the text says why."""

    code = "launch.port_wall"
