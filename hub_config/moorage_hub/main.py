"""The `moorage-hub` command: up, down, link, and the built-in list of users."""

import os
from pathlib import Path
from typing import Annotated

import typer

from moorage_hub.accounts import Accounts
from moorage_hub.errors import BadAccount, HubError
from moorage_hub.identities import Identities
from moorage_hub.login_links import LoginLinks
from moorage_hub.settings import BUILT_IN, HubSettings, load
from moorage_hub.state import default_state, prepare_state
from moorage_hub.supervise import Supervisor, end_everything, what_goes_on

app = typer.Typer(help="Start and stop Moorage on this machine.", no_args_is_help=True, pretty_exceptions_enable=False)
user_app = typer.Typer(help="The built-in list of users.", no_args_is_help=True)
app.add_typer(user_app, name="user")

State = Annotated[
    Path | None, typer.Option("--state", help="The state folder; MOORAGE_HOME, or the usual place, when left out.")
]


def main() -> None:
    """Errors of ours are one sentence on standard error, with exit status 1."""
    os.umask(0o022)
    try:
        app()
    except HubError as error:
        typer.echo(f"moorage-hub: {error}", err=True)
        raise SystemExit(1) from None


def settings_of(state: Path | None) -> HubSettings:
    folder = state or default_state()
    prepare_state(folder)
    return load(folder)


def login_link(settings: HubSettings) -> str:
    """A link that logs the first user in, once; the plain address where somebody else says who may log in."""
    if settings.authenticator != BUILT_IN:
        return settings.addresses.page()
    Accounts.of(settings).ensure_owner()
    nonce = LoginLinks(settings.state, lifetime_s=settings.login_link_s).create(settings.user)
    return settings.addresses.hub("/login-once", token=nonce)


def new_users(settings: HubSettings) -> dict[str, str]:
    """Lists those of `users` in the settings who are not listed yet; their passwords."""
    if settings.authenticator != BUILT_IN:
        return {}
    accounts = Accounts.of(settings)
    return {name: accounts.add(name) for name in settings.users if accounts.get(name) is None}


@app.command()
def up(state: State = None) -> None:
    """Start service, hub and proxy; stay until Ctrl-C. Notebooks, clusters and runs outlive this command."""
    settings = settings_of(state)
    with Supervisor(settings, os.environ, typer.echo) as supervisor:
        for name, password in new_users(settings).items():
            typer.echo(f"Added the user {name} of settings.yaml. Their password, shown this once: {password}")
        supervisor.say("Starting service, hub and proxy")
        supervisor.start()
        typer.echo(f"\nMoorage runs at {settings.public_url}. Open this link to log in as {settings.user}, once:\n")
        typer.echo(f"    {login_link(settings)}\n")
        typer.echo(f"Logs are in {settings.state / 'logs'}. Ctrl-C stops hub, proxy and service.")
        supervisor.watch()
        typer.echo("\nStopping hub, proxy and service")
    typer.echo(what_goes_on(settings.state))


@app.command()
def down(state: State = None) -> None:
    """Stop everything: service, hub, proxy, and all notebooks, clusters and runs."""
    end_everything(settings_of(state), typer.echo)


@app.command()
def link(state: State = None) -> None:
    """Make a new one-time login link for the first user."""
    typer.echo(login_link(settings_of(state)))


@user_app.command("add")
def user_add(
    name: str,
    admin: Annotated[bool, typer.Option(help="Let them manage users and limits.")] = False,
    state: State = None,
) -> None:
    """Add a user; prints their password, which is stored as a hash only. Needs root, or a cluster."""
    password = accounts_of(state).add(name, admin=admin)
    typer.echo(f"Added {name}. Their password, shown this once: {password}")


@user_app.command("password")
def user_password(name: str, state: State = None) -> None:
    """Give a user a new password."""
    typer.echo(f"The new password of {name}, shown this once: {accounts_of(state).new_password(name)}")


@user_app.command("remove")
def user_remove(name: str, state: State = None) -> None:
    """Remove a user from the list; their files stay."""
    accounts_of(state).remove(name)
    typer.echo(f"Removed {name}: they cannot log in again.")


@user_app.command("unlink")
def user_unlink(name: str, state: State = None) -> None:
    """Single sign-on: forget which account of the identity provider is NAME's. The next who comes under that name is."""
    Identities(settings_of(state).state).unlink(name)
    typer.echo(f"Unlinked {name}: whoever signs in under that name next is this user.")


@user_app.command("list")
def user_list(state: State = None) -> None:
    """List the users."""
    for name, account in accounts_of(state).all().items():
        typer.echo(f"{name}{' (admin)' if account.admin else ''}")


def accounts_of(state: Path | None) -> Accounts:
    settings = settings_of(state)
    if settings.authenticator != BUILT_IN:
        raise BadAccount(f"users are listed by the authenticator {settings.authenticator!r} here; add them there.")
    accounts = Accounts.of(settings)
    accounts.ensure_owner()
    return accounts


if __name__ == "__main__":
    main()
