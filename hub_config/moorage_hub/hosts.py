"""The names by which browsers come: they must lead here, and on this machine nobody else may answer to them."""

import errno
import secrets
import socket

from moorage.origins import CONTENT, Origins
from moorage_hub.errors import BadSettings


def check_names(addresses: Origins) -> None:
    """Raises BadSettings when the names below the portal's lead nowhere. Browsers know those below localhost by themselves."""
    if not addresses.per_user or _is_local(addresses):
        return
    for label in (CONTENT, f"any-{secrets.token_hex(3)}"):
        name = addresses.host_of(label)
        try:
            socket.getaddrinfo(name, None)
        except OSError as error:
            raise BadSettings(
                f"The name {name} leads nowhere ({error}), but each user's servers are to have a name below {addresses.host}. "
                f"Add a wildcard entry for *.{addresses.host} to the DNS, or set `origins: one` below `hub:` in settings.yaml"
            ) from error


def hold_other_loopback(addresses: Origins, bind: str, port: int) -> socket.socket | None:
    """Takes the port at ::1, where browsers look for localhost, too, and does not answer there; None where there is no IPv6.

    Another account of this machine could else answer in our place, and be sent our users' cookies. Raises BadSettings.
    """
    if not _is_local(addresses) or bind != "127.0.0.1":
        return None
    held = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        held.bind(("::1", port))
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            raise BadSettings(
                f"Another program holds port {port} at ::1, where browsers look for localhost first: it would be sent what is meant "
                "for Moorage. Stop it, or set another `port` below `hub:` in settings.yaml"
            ) from error
        return None
    return held


def _is_local(addresses: Origins) -> bool:
    return addresses.host == "localhost" or addresses.host.endswith(".localhost")
