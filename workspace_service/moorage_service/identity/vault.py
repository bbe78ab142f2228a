"""Encryption at rest for what the store must give back in clear: secrets, cluster credentials, hub tokens."""

from pathlib import Path

from cryptography.fernet import Fernet

from moorage_service.identity.keys import read_or_make


class Vault:
    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)

    @classmethod
    def open(cls, path: Path) -> "Vault":
        """Reads the key at `path` (0600), or makes one there."""
        return cls(read_or_make(path, Fernet.generate_key))

    def seal(self, text: str) -> bytes:
        return self._fernet.encrypt(text.encode())

    def open_sealed(self, sealed: bytes) -> str:
        """Raises cryptography.fernet.InvalidToken when it was sealed with another key."""
        return self._fernet.decrypt(sealed).decode()
