"""Encryption at rest for what the store must give back in clear: secrets, cluster credentials, hub tokens."""

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from moorage_service.identity.keys import KeyFile


class Vault:
    """Seals with the key in use; opens what was sealed with it, or with one that is still accepted (see `keys`)."""

    def __init__(self, file: KeyFile) -> None:
        self._file = file
        self._known: tuple[tuple[bytes, ...], MultiFernet] | None = None

    @classmethod
    def open(cls, path: Path) -> "Vault":
        """Reads the keys at `path` (0600), or makes one there."""
        made = cls(KeyFile(path, Fernet.generate_key))
        made._fernet()
        return made

    def _fernet(self) -> MultiFernet:
        keys, known = self._file.read(), self._known
        if known is None or known[0] != keys:
            known = (keys, MultiFernet([Fernet(key) for key in keys]))
            self._known = known
        return known[1]

    def seal(self, text: str) -> bytes:
        return self._fernet().encrypt(text.encode())

    def open_sealed(self, sealed: bytes) -> str:
        """Raises cryptography.fernet.InvalidToken when it was sealed with another key."""
        return self._fernet().decrypt(sealed).decode()

    def is_sealed_with_the_key_in_use(self, sealed: bytes) -> bool:
        try:
            Fernet(self._file.read()[0]).decrypt(sealed)
        except InvalidToken:
            return False
        return True

    def seal_again(self, sealed: bytes) -> bytes:
        """The same text, sealed with the key in use. Raises as `open_sealed`."""
        return self._fernet().rotate(sealed)
