"""The name of an image: HOST/REPOSITORY[:TAG][@DIGEST]. Pure."""

import dataclasses
import re
from dataclasses import dataclass

from moorage_images.errors import RefusedError

_HOST = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?", re.ASCII)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, order=True)
class Reference:
    """`host` with its port. Where both are said, the digest counts, and the tag is what people read."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        name = f"{self.host}/{self.repository}"
        return name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def version(self) -> str:
        """What the API calls the manifest by."""
        return self.digest or self.tag or "latest"

    def at(self, digest: str) -> "Reference":
        """That very image, whatever its tag comes to mean."""
        return dataclasses.replace(self, tag="", digest=digest)


def parse(text: str) -> Reference:
    """Raises RefusedError for what can't be a name; one without a host can't, for nobody should have to guess whose image it is."""
    name, _, digest = text.partition("@")
    host, slash, rest = name.partition("/")
    repository, colon, tag = rest.partition(":")
    good = (
        slash
        and len(text) <= 1000
        and ("." in host or ":" in host or host == "localhost")
        and _HOST.fullmatch(host)
        and len(repository) <= 255
        and _REPOSITORY.fullmatch(repository)
        and (not colon or _TAG.fullmatch(tag))
        and ("@" not in text or _DIGEST.fullmatch(digest))
    )
    if not good:
        raise RefusedError(
            f"{text[:200]!r} can't be the name of an image. Write it in full, as registry.example/team/base:1 "
            "or docker.io/library/python:3.11."
        )
    return Reference(host, repository, tag, digest)
