"""The one service beside the hub, and its OAuth client."""

from typing import Any

from traitlets.config import Config

from moorage.origins import CONTENT, PREFIX, Origins
from moorage_hub.areas.roles import OF_THE_PORTAL, SERVICE
from moorage_hub.settings import HubSettings
from moorage_hub.state import read_token


def configure_services(c: Config, settings: HubSettings) -> None:
    c.JupyterHub.services = [service(settings)]
    c.Proxy.extra_routes = dict.fromkeys(routes(settings.addresses), settings.service_connect_url)
    c.JupyterHub.default_url = f"{PREFIX}/"


def service(settings: HubSettings) -> dict[str, Any]:
    """As `c.JupyterHub.services` has it."""
    # No `url`: the hub would wait for the service at its own start. The proxy knows the route by itself.
    return {
        "name": SERVICE,
        "api_token": read_token(settings.state, "service-to-hub"),
        "oauth_client_id": f"service-{SERVICE}",
        "oauth_redirect_uri": f"{PREFIX}/oauth_callback",
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": list(OF_THE_PORTAL),
        "display": False,
    }


def routes(addresses: Origins) -> tuple[str, ...]:
    """What the proxy takes to the service. The content origin is the service's alone: the hub has nothing to say there."""
    if not addresses.per_user:
        return (f"{PREFIX}/",)
    return f"{addresses.host}{PREFIX}/", f"{addresses.host_of(CONTENT)}/"
