"""From our settings to the hub's configuration."""

from traitlets.config import Config

from moorage_hub import database
from moorage_hub.areas.auth import configure_auth
from moorage_hub.areas.proxy import configure_origins, configure_proxy
from moorage_hub.areas.recovery import configure_recovery
from moorage_hub.areas.roles import configure_roles
from moorage_hub.areas.services import configure_services
from moorage_hub.areas.spawner import configure_spawner
from moorage_hub.settings import HubSettings


def install(c: Config, settings: HubSettings) -> None:
    """Fills in `c`. The state folder must have been prepared (`state.prepare_state`)."""
    c.JupyterHub.db_url = settings.sqlalchemy_url
    c.JupyterHub.db_kwargs = database.arguments(settings.sqlalchemy_url)
    c.JupyterHub.log_level = "INFO"
    configure_auth(c, settings)
    configure_roles(c)
    configure_services(c, settings)
    configure_spawner(c, settings)
    configure_proxy(c, settings)
    configure_recovery(c, settings)
    configure_origins(c, settings)
