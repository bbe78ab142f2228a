"""configurable-http-proxy: its program, its ports, its token."""

from traitlets.config import Config

from moorage_hub.settings import HubSettings
from moorage_hub.state import read_token


def configure_proxy(c: Config, settings: HubSettings) -> None:
    host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    c.JupyterHub.bind_url = f"http://{host}:{settings.port}"
    c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{settings.hub_port}"
    c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{settings.proxy_api_port}"
    c.ConfigurableHTTPProxy.auth_token = read_token(settings.state, "proxy-token")
    c.ConfigurableHTTPProxy.command = [settings.node, settings.proxy_script]
    c.ConfigurableHTTPProxy.pid_file = str(settings.state / "database" / "proxy.pid")
