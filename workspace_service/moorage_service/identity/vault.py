"""Encryption at rest for what the store must give back in clear: secrets, cluster credentials, hub tokens."""

import os
from pathlib import Path

from cryptography.fernet import Fernet


class Vault:
    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)

    @classmethod
    def open(cls, path: Path) -> "Vault":
        """Reads the key at `path` (0600), or makes one there."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls(path.read_bytes())
        with os.fdopen(handle, "wb") as file:
            file.write(Fernet.generate_key())
        return cls(path.read_bytes())

    def seal(self, text: str) -> bytes:
        return self._fernet.encrypt(text.encode())

    def open_sealed(self, sealed: bytes) -> str:
        """Raises cryptography.fernet.InvalidToken when it was sealed with another key."""
        return self._fernet.decrypt(sealed).decode()
