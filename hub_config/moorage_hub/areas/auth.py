"""Who may log in."""

import types

from traitlets.config import Config

from moorage_hub import sign_on
from moorage_hub.accounts import Accounts
from moorage_hub.authenticator import PasswordAuthenticator
from moorage_hub.front_door import FrontDoor
from moorage_hub.guard import guarded
from moorage_hub.settings import BUILT_IN, HubSettings
from moorage_hub.state import read_token


def configure_auth(c: Config, settings: HubSettings) -> None:
    c.FrontDoor.sign_in_rate = settings.sign_in_rate
    c.FrontDoor.platform = settings.platform
    c.FrontDoor.proxy_pods = settings.kubernetes.proxy_pods if settings.kubernetes else ""
    c.JupyterHub.trusted_downstream_ips = list(settings.trusted_proxies)
    c.JupyterHub.cookie_secret_file = str(settings.state / "secrets" / "cookie-secret")
    if settings.authenticator == BUILT_IN:
        accounts = Accounts.of(settings)
        accounts.ensure_owner()
        c.JupyterHub.authenticator_class = PasswordAuthenticator
        c.PasswordAuthenticator.state_folder = str(settings.state)
        c.PasswordAuthenticator.owner = settings.user
        c.PasswordAuthenticator.in_pods = settings.platform == "kubernetes"
        c.PasswordAuthenticator.login_link_s = settings.login_link_s
        c.PasswordAuthenticator.any_allow_config = True  # the list itself
    else:
        cls = sign_on.authenticator_class(settings.authenticator)
        c.JupyterHub.authenticator_class = types.new_class(f"Moorage{cls.__name__}", (FrontDoor, cls))
        if sign_on.is_single_sign_on(cls):
            _configure_single_sign_on(c, cls, settings)
            return
    for name, values in settings.authenticator_settings.items():
        c[name].update(values)


def _configure_single_sign_on(c: Config, cls: type, settings: HubSettings) -> None:
    """Ours first, so that what an admin sets wins, but for the guard."""
    c.JupyterHub.authenticator_class = guarded(cls)
    c.OAuthenticator.oauth_callback_url = f"{settings.public_url}/hub/oauth_callback"
    # With what the provider gave at the sign-in it is asked again whether the user may still come in.
    c.CryptKeeper["keys"] = [read_token(settings.state, "auth-state-key")]
    c.Authenticator.enable_auth_state = True
    c.Authenticator.auth_refresh_age = settings.identity_check_s
    c.Authenticator.auth_refresh_strict = True  # tokens go with their user
    for name, values in sign_on.with_defaults(cls, settings.authenticator_settings).items():
        c[name].update(values)
    c.IdentityGuard.state_folder = str(settings.state)
    c.IdentityGuard.allowed_email_domains = list(settings.allowed_email_domains)
