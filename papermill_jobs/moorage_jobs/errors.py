"""What can be wrong with a promotion, its parameters or its schedule: one tree, each with a code and a sentence."""


class JobsError(Exception):
    """The base. `code` is stable, `status` is the HTTP status it maps to, `field` names what was given wrongly."""

    code = "jobs.error"
    status = 400

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class ParameterError(JobsError):
    """A parameter that the notebook does not have, or a value of the wrong type."""

    code = "jobs.parameter"


class ScheduleError(JobsError):
    """A cron text or a time zone that cannot be understood."""

    code = "jobs.schedule"


class SourceError(JobsError):
    """A notebook or a file beside it that cannot be promoted."""

    code = "jobs.source"


class SnapshotMissingError(JobsError):
    """A snapshot that the store does not have, or no longer has whole."""

    code = "jobs.snapshot-missing"
    status = 404
