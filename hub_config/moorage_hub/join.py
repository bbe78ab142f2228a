"""A hub that somebody runs already gets projects' notebooks and the portal; all else of it stays as it is.

At the end of that hub's own configuration: `from moorage_hub.join import join; join(c, "/srv/moorage")`. docs/kubernetes.md has it
for the chart of Zero to JupyterHub.
"""

from pathlib import Path
from typing import Any

from jupyterhub.app import JupyterHub
from traitlets.config import Config

from moorage.origins import PREFIX
from moorage_hub.areas.roles import OF_EVERY_USER, ROLES
from moorage_hub.areas.services import service
from moorage_hub.areas.spawner import configure_pods, configure_projects
from moorage_hub.errors import BadSettings
from moorage_hub.settings import HubSettings, load_joined
from moorage_hub.sign_out import SignOutHandler
from moorage_spawners.beside import beside

PATIENCE_S = 2


def join(c: Config, folder: str | Path) -> None:
    """Adds to `c`, of which nothing that is there is changed but the spawner's class and that named servers are allowed.

    `folder`: settings.yaml as the chart writes it with `existingHub.enabled`, and in secrets/ the tokens hub-to-service and
    service-to-hub; only read. Raises BadSettings where it can't be.
    """
    settings = load_joined(Path(folder))
    _check(c, settings)
    hub = c.JupyterHub
    # With a `url` it is shown among the hub's services, and the hub makes the route. Its start waits for the service so long at most.
    address = {"url": settings.service_connect_url, "display": True, "timeout": PATIENCE_S}
    hub.services.append({**service(settings), **address})
    hub.load_roles.extend([dict(role) for role in ROLES])
    hub.extra_user_scopes.update(OF_EVERY_USER)
    hub.extra_handlers.append((r"/api/sign-out/([^/]+)", SignOutHandler))
    hub.allow_named_servers = True
    assert settings.kubernetes is not None
    configure_projects(c, settings)
    configure_pods(c, settings.kubernetes)
    # Where the hub itself says how it is reached, that need not be a name in users' namespaces.
    c.ProjectSpawner.hub_connect_url = settings.hub_connect_url
    hub.spawner_class = beside(_spawner_class(hub.get("spawner_class")))


def _check(c: Config, settings: HubSettings) -> None:
    if settings.kubernetes is None:
        raise BadSettings(
            f"{settings.state}/settings.yaml says nothing of a cluster: mount the Secret that the chart makes with existingHub.enabled."
        )
    if settings.addresses.per_user or c.JupyterHub.get("subdomain_host"):
        raise BadSettings(
            "A hub that is joined has one origin for all: leave `subdomain_host` out there, and `origins` in the chart's values."
        )
    base = str(c.JupyterHub.get("base_url") or "/")
    if base.strip("/"):
        raise BadSettings(
            f"The hub's base_url is {base!r}, but the portal answers at {PREFIX}/ alone: give the hub a host name of its own."
        )


def _spawner_class(given: Any) -> Any:
    """The class that the hub would take for `given`: a class, a short name, a dotted name, or None for its default."""
    trait = JupyterHub.class_traits()["spawner_class"]
    return trait.validate(None, trait.default_value if given is None else given)
