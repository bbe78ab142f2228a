"""What stops Moorage before it starts. Each text is a sentence for the person at the terminal."""


class HubError(Exception):
    """Base: shown without a traceback."""

    code = "hub.error"


class BadSettings(HubError):
    """A setting cannot be used; the text names the field, the value and the remedy."""

    code = "hub.settings"


class BadAccount(HubError):
    """A user of the built-in password list cannot be added or found."""

    code = "hub.account"


class AlreadyRunning(HubError):
    """This state folder is served already."""

    code = "hub.already_running"


class ChildFailed(HubError):
    """Hub or service ended and could not be brought back, or did not come up."""

    code = "hub.child_failed"
