"""The proxy as a process of its own beside the hub: when the hub dies, connections to notebooks go on.

The hub keeps its routes: it looks every `check_routes_s` seconds and adds what is missing, all of them after a restart of the proxy.
"""

from collections.abc import Mapping

from moorage_hub.children import Child
from moorage_hub.settings import HubSettings
from moorage_hub.state import read_token
from moorage_spawners.launch.marks import mark_of
from moorage_spawners.shim import tree


def proxy_child(settings: HubSettings, environ: Mapping[str, str]) -> Child:
    """configurable-http-proxy, told where it listens. Its token comes by the environment, which only we can read."""
    own = {"CONFIGPROXY_AUTH_TOKEN": read_token(settings.state, "proxy-token"), tree.COOKIE: mark_of(settings.state)}
    return Child(
        name="proxy",
        argv=(settings.node, settings.proxy_script, *_arguments(settings)),
        env={**environ, **own},
        log=settings.state / "logs" / "proxy.log",
        cwd=settings.state / "database",
    )


def _arguments(settings: HubSettings) -> list[str]:
    by_host = ["--host-routing"] if settings.addresses.per_user else []
    return [
        "--ip", settings.bind, "--port", str(settings.port),
        "--api-ip", "127.0.0.1", "--api-port", str(settings.proxy_api_port),
        "--error-target", f"http://127.0.0.1:{settings.hub_port}/hub/error",
        *by_host,
    ]  # fmt: skip
