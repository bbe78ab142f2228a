"""The built-in list of users: names with a salted scrypt hash, in one private file, read at every login."""

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from moorage_hub.errors import BadAccount
from moorage_hub.settings import USER_NAME, HubSettings, one_user_only
from moorage_hub.state import write_private

WORK = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 << 20}


@dataclass(frozen=True)
class Account:
    salt: str
    hash: str
    admin: bool


class Accounts:
    """`owner` is the one user who is served where users' notebooks are not kept apart: on one machine, not as root.

    `in_pods`: they are, whoever runs this.
    """

    def __init__(self, state: Path, owner: str, *, in_pods: bool = False) -> None:
        self._path = state / "secrets" / "accounts.json"
        self._password_path = state / "secrets" / "password"
        self._owner = owner
        self._in_pods = in_pods

    @classmethod
    def of(cls, settings: HubSettings) -> Self:
        return cls(settings.state, settings.user, in_pods=settings.platform == "kubernetes")

    def all(self) -> dict[str, Account]:
        if not self._path.exists():
            return {}
        return {name: Account(**fields) for name, fields in json.loads(self._path.read_text()).items()}

    def get(self, name: str) -> Account | None:
        """None for a name that is not listed, and, where users are not kept apart, for everybody but the owner."""
        if not self._serves(name):
            return None
        return self.all().get(name)

    def check(self, name: str, password: str) -> bool:
        account = self.get(name)
        salt = account.salt if account is not None else "00"
        given = _hash(password, salt)  # also for an unknown name, so that the time taken does not tell
        return account is not None and hmac.compare_digest(given, account.hash)

    def add(self, name: str, *, admin: bool = False) -> str:
        """Adds a user and returns the password that was made for them. Raises BadAccount."""
        if not USER_NAME.fullmatch(name):
            raise BadAccount(f"user {name!r}: write lower-case letters, digits, dash and underscore, a letter first.")
        if not self._serves(name):
            raise BadAccount(one_user_only(name) + ".")
        if name in self.all():
            raise BadAccount(f"user {name!r} is there already; `{self._command(name)}` gives them a new password.")
        return self._set(name, admin=admin)

    def new_password(self, name: str) -> str:
        """Raises BadAccount when there is no such user."""
        account = self.all().get(name)
        if account is None:
            raise BadAccount(f"user {name!r} is not listed; those who are: {', '.join(self.all()) or 'nobody'}.")
        return self._set(name, admin=account.admin)

    def remove(self, name: str) -> None:
        """Whoever is removed cannot log in again; their files stay. Raises BadAccount."""
        accounts = self.all()
        if name == self._owner:
            raise BadAccount(f"user {name!r} is the first user of this installation and stays.")
        if accounts.pop(name, None) is None:
            raise BadAccount(f"user {name!r} is not listed.")
        self._write(accounts)

    def ensure_owner(self) -> None:
        """Makes the first user at the first start. Their password stays readable, in a private file of its own."""
        if self._owner not in self.all():
            write_private(self._password_path, self._set(self._owner, admin=True) + "\n")

    def _serves(self, name: str) -> bool:
        return self._in_pods or os.geteuid() == 0 or name == self._owner

    def _command(self, name: str) -> str:
        return f"moorage-hub user password {name}" if self._in_pods else f"make user ARGS='password {name}'"

    def _set(self, name: str, *, admin: bool) -> str:
        password, salt = secrets.token_urlsafe(24), secrets.token_hex(16)
        self._write({**self.all(), name: Account(salt=salt, hash=_hash(password, salt), admin=admin)})
        return password

    def _write(self, accounts: dict[str, Account]) -> None:
        write_private(self._path, json.dumps({name: asdict(account) for name, account in accounts.items()}, indent=1))


def _hash(password: str, salt: str) -> str:
    return hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), **WORK).hex()
