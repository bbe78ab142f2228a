"""One tree of errors. Each has a stable `code`, and its text is a sentence that says what to do."""

from typing import ClassVar

from moorage.quantities import show_amount
from moorage.wire.limits import Refusal


class MoorageError(Exception):
    """Base of all errors that Moorage raises in a kernel or a terminal."""

    code: ClassVar[str] = "moorage.error"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = code or self.code
        self.field = field

    def _render_traceback_(self) -> list[str]:
        """IPython shows this instead of a traceback: the sentence is the whole message."""
        return [f"{type(self).__name__}: {self.message}"]


class InvalidInput(MoorageError):
    """A value that the caller gave cannot be used; the message names field, value and remedy."""

    code = "input.invalid"


class NotConfigured(MoorageError):
    """The address of the service or the token is not known here."""

    code = "client.not_configured"


class ServiceUnreachable(MoorageError):
    """Nothing answered at the service's address, or the answer was not the service's."""

    code = "client.unreachable"


class ServiceError(MoorageError):
    """The service answered with an error. `status` is the HTTP status."""

    code = "service.error"

    def __init__(self, message: str, *, status: int, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message, code=code, field=field)
        self.status = status


class Unauthorized(ServiceError):
    code = "service.unauthorized"


class Forbidden(ServiceError):
    code = "service.forbidden"


class NotFound(ServiceError):
    code = "service.not_found"


class BadRequest(ServiceError):
    code = "service.bad_request"


class Conflict(ServiceError):
    code = "service.conflict"


class ServiceFailed(ServiceError):
    """The service itself failed (5xx)."""

    code = "service.failed"


class LimitRefused(ServiceError):
    """An admission was refused. `refusal` has the rule, what is used, what was asked and who holds it."""

    code = "limit.refused"

    def __init__(self, refusal: Refusal, *, status: int = 409, message: str | None = None) -> None:
        super().__init__("\n".join(refusal_lines(refusal, message)), status=status, code=self.code)
        self.refusal = refusal


class ClusterError(MoorageError):
    """Something about a cluster that was asked for cannot be."""

    code = "cluster.error"


class NoCluster(ClusterError):
    code = "cluster.none"


class SeveralClusters(ClusterError):
    code = "cluster.several"


class ClusterEnded(ClusterError):
    """The cluster failed or was stopped before it could be used."""

    code = "cluster.ended"


class WaitedTooLong(ClusterError):
    code = "cluster.timeout"


class EngineMissing(ClusterError):
    """This kernel's environment lacks ray or distributed."""

    code = "cluster.engine_missing"


class VersionMismatch(ClusterError):
    """This kernel's python or engine differs from the cluster's."""

    code = "cluster.version_mismatch"


class ConnectRefused(ClusterError):
    """The cluster did not take the connection: credential, address or state."""

    code = "cluster.connect_refused"


def refusal_lines(refusal: Refusal, message: str | None = None) -> list[str]:
    """A refusal in words: the sentence, then the rule, what is used and asked, then a line for each holder."""
    lines = [message or refusal.message or "Refused by a limit."]
    used = show_amount(refusal.resource, refusal.used)
    asked = show_amount(refusal.resource, refusal.asked)
    amount = show_amount(refusal.resource, refusal.amount)
    lines.append(f"Rule: {refusal.rule}. Used: {used} of {amount}; asked: {asked}.")
    lines += [
        f"Held: {show_amount(refusal.resource, holder.amount)} by {holder.kind} {holder.name} of {holder.owner}"
        for holder in refusal.held_by
    ]
    return lines
