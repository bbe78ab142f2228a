"""What lets the hub be killed and restarted at any moment without cutting anybody off."""

from traitlets.config import Config

from moorage_hub.settings import HubSettings


def configure_recovery(c: Config, settings: HubSettings) -> None:
    c.JupyterHub.cleanup_servers = False  # notebooks outlive the hub
    # A server that was starting when the hub was lost waits for the hub, so the hub must not wait for it before it answers.
    c.JupyterHub.init_spawners_timeout = 1
    c.ConfigurableHTTPProxy.should_start = False  # and so does the proxy: `moorage_hub.proxy_child`
    c.Hub.check_routes_s = settings.check_routes_s
