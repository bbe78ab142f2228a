"""What lets the hub be killed and restarted at any moment without cutting anybody off."""

from traitlets.config import Config

from moorage_hub.settings import HubSettings


def configure_recovery(c: Config, settings: HubSettings) -> None:
    c.JupyterHub.cleanup_servers = False  # notebooks outlive the hub
    c.ConfigurableHTTPProxy.should_start = False  # and so does the proxy: `moorage_hub.proxy_child`
    # So often the hub compares the proxy's routes with its own view, and mends them.
    c.JupyterHub.last_activity_interval = settings.check_routes_s
