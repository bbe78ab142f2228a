"""Which account of the identity provider each user name belongs to: one private file, read at every sign-in.

A provider's names may be chosen, changed and given again; what it calls an account by itself (`sub`, or a number) is not. The first
who signs in under a name is noted with that; nobody else is let in under the same name afterwards.
"""

import json
from pathlib import Path

from moorage_hub.errors import BadAccount
from moorage_hub.state import write_private


class Identities:
    """The hub alone writes while it runs; `unlink` is a person's at the terminal."""

    def __init__(self, state: Path) -> None:
        self._path = state / "secrets" / "identities.json"

    def subject_of(self, name: str) -> str | None:
        """None: nobody has signed in under this name yet."""
        return self._all().get(name)

    def is_anothers(self, name: str, subject: str) -> bool:
        return self.subject_of(name) not in (None, subject)

    def link(self, name: str, subject: str) -> bool:
        """Notes the account at the first sign-in. False: the name is another's."""
        known = self._all()
        if name not in known:
            write_private(self._path, json.dumps({**known, name: subject}, indent=1))
        return known.get(name, subject) == subject

    def unlink(self, name: str) -> None:
        """The next who signs in under this name is its user: for a person whose account at the provider is a new one."""
        known = self._all()
        if known.pop(name, None) is None:
            raise BadAccount(
                f"user {name!r} has not signed in through the identity provider; there is nothing to unlink."
            )
        write_private(self._path, json.dumps(known, indent=1))

    def _all(self) -> dict[str, str]:
        return dict(json.loads(self._path.read_text())) if self._path.exists() else {}
