"""Who may log in."""

from traitlets.config import Config

from moorage_hub.accounts import Accounts
from moorage_hub.authenticator import PasswordAuthenticator
from moorage_hub.settings import BUILT_IN, HubSettings


def configure_auth(c: Config, settings: HubSettings) -> None:
    c.JupyterHub.cookie_secret_file = str(settings.state / "secrets" / "cookie-secret")
    if settings.authenticator == BUILT_IN:
        accounts = Accounts(settings.state, settings.user)
        accounts.ensure_owner()
        c.JupyterHub.authenticator_class = PasswordAuthenticator
        c.PasswordAuthenticator.state_folder = str(settings.state)
        c.PasswordAuthenticator.owner = settings.user
        c.PasswordAuthenticator.login_link_s = settings.login_link_s
        c.PasswordAuthenticator.any_allow_config = True  # the list itself
    else:
        c.JupyterHub.authenticator_class = settings.authenticator
    for name, values in settings.authenticator_settings.items():
        c[name].update(values)
