"""Who may do what at the hub, as data: the least that works."""

from typing import Any

from traitlets.config import Config

SERVICE = "moorage"
OF_EVERY_USER = {f"access:services!service={SERVICE}"}
# The portal starts and stops the user's own servers with the user's own token.
OF_THE_PORTAL = ["start:servers!user", "delete:servers!user", "read:servers!user"]
# A notebook's hub token reaches its own server and nothing else: for the service it has another token, which is never an admin's.
OF_A_NOTEBOOK = ["users:activity!user", "access:servers!server"]
ROLES: list[dict[str, Any]] = [
    {
        "name": "moorage-service",
        "description": "Ends notebooks whose limits or whose admin say so.",
        "scopes": ["read:servers", "delete:servers"],
        "services": [SERVICE],
    },
]


def configure_roles(c: Config) -> None:
    c.JupyterHub.extra_user_scopes = set(OF_EVERY_USER)
    c.JupyterHub.load_roles = [dict(role) for role in ROLES]
