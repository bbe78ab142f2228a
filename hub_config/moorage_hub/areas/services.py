"""The one service beside the hub, and its OAuth client."""

from traitlets.config import Config

from moorage_hub.areas.roles import OF_THE_PORTAL, SERVICE
from moorage_hub.settings import HubSettings
from moorage_hub.state import read_token

PREFIX = f"/services/{SERVICE}/"


def configure_services(c: Config, settings: HubSettings) -> None:
    # No `url`: the hub would wait for the service at its own start. The proxy knows the route by itself.
    c.JupyterHub.services = [
        {
            "name": SERVICE,
            "api_token": read_token(settings.state, "service-to-hub"),
            "oauth_client_id": f"service-{SERVICE}",
            "oauth_redirect_uri": f"{PREFIX}oauth_callback",
            "oauth_no_confirm": True,
            "oauth_client_allowed_scopes": list(OF_THE_PORTAL),
            "display": False,
        }
    ]
    c.Proxy.extra_routes = {PREFIX: settings.service_origin}
    c.JupyterHub.default_url = PREFIX
