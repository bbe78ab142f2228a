"""configurable-http-proxy: its ports and its token; and the origins that it serves."""

import hashlib
import re
from collections.abc import Callable

from jupyterhub.utils import subdomain_hook_idna
from traitlets.config import Config

from moorage.origins import free_label
from moorage_hub.settings import HubSettings
from moorage_hub.state import read_token

_LABEL = re.compile(r"[a-z0-9](-?[a-z0-9]){0,62}")


def configure_proxy(c: Config, settings: HubSettings) -> None:
    host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    c.JupyterHub.bind_url = f"http://{host}:{settings.port}"
    c.JupyterHub.hub_bind_url = f"http://{settings.hub_host}:{settings.hub_port}"
    c.JupyterHub.hub_connect_url = settings.hub_connect_url
    c.ConfigurableHTTPProxy.api_url = settings.proxy_api_url
    c.ConfigurableHTTPProxy.auth_token = read_token(settings.state, "proxy-token")


def configure_origins(c: Config, settings: HubSettings) -> None:
    """One origin for all, or one per user: then the proxy routes by host, and the hub's cookies stay on the hub's host."""
    addresses = settings.addresses
    c.JupyterHub.public_url = f"{addresses.portal}/"
    if not addresses.per_user:
        return
    c.JupyterHub.subdomain_host = addresses.portal
    c.JupyterHub.subdomain_hook = user_hosts(addresses.host)
    # The hub sets its session's cookie for this domain and all below it. With none it is host-only, as all others are.
    c.JupyterHub.tornado_settings["domain"] = ""
    if addresses.secure:
        c.JupyterHub.cookie_host_prefix_enabled = True  # and no other host can set one


def user_hosts(domain: str) -> Callable[[str, str, str], str]:
    """The hub's own hook, but for the labels that we keep, and for names that are no label themselves, such as addresses.

    Of these the hub takes 28 bits of a digest: whoever chooses their name could find one with another user's origin. And
    it takes letters for plain that a browser reads as others, such as the sign of the kelvin. The domain is told here,
    for the hub's settings hold none.
    """

    def hook(name: str, _domain: str, kind: str) -> str:
        label = str(subdomain_hook_idna(name, domain, kind)).removesuffix(f".{domain}")
        plain = (label == name and _LABEL.fullmatch(label)) or label.startswith("xn--")
        if kind == "user" and not plain:
            label = f"u--{hashlib.sha256(name.encode()).hexdigest()[:40]}"
        return f"{free_label(label, name)}.{domain}"

    return hook
