"""One-time login links: a secret in a link, its hash in a private file that is removed by the first who uses it."""

import contextlib
import hashlib
import json
import secrets
import time
from pathlib import Path

from moorage_hub.state import write_private


class LoginLinks:
    def __init__(self, state: Path, *, lifetime_s: float = 3600.0) -> None:
        self._folder = state / "secrets" / "login-links"
        self._lifetime_s = lifetime_s

    def create(self, user: str) -> str:
        """A nonce that logs `user` in, once, until it expires."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._remove_expired()
        nonce = secrets.token_urlsafe(32)
        write_private(self._path(nonce), json.dumps({"user": user, "expires": time.time() + self._lifetime_s}))
        return nonce

    def use(self, nonce: str) -> str | None:
        """The user whom the nonce logs in, or None when it is unknown, used or expired. Used up either way."""
        path = self._path(nonce)
        claimed = path.with_suffix(".used")
        try:
            path.rename(claimed)  # of two who try at once one finds it gone
        except FileNotFoundError:
            return None
        content = json.loads(claimed.read_text())
        claimed.unlink()
        return str(content["user"]) if content["expires"] > time.time() else None

    def _path(self, nonce: str) -> Path:
        return self._folder / hashlib.sha256(nonce.encode()).hexdigest()

    def _remove_expired(self) -> None:
        for path in self._folder.iterdir():
            if path.name.startswith("."):
                continue
            with contextlib.suppress(FileNotFoundError):  # used in this moment
                if json.loads(path.read_text())["expires"] < time.time():
                    path.unlink()
