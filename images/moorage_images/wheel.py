"""The wheel of the `moorage` client, which Moorage puts into every project environment by path and hash."""

import email.parser
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from moorage_images.errors import BuildError


@dataclass(frozen=True, kw_only=True)
class ClientWheel:
    path: Path
    name: str
    version: str
    sha256: str
    requires: tuple[str, ...]  # what it needs itself, without its extras


def read(path: Path) -> ClientWheel:
    """Raises BuildError when there is no wheel at `path`."""
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            place = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = email.parser.BytesHeaderParser().parsebytes(archive.read(place))
    except (OSError, zipfile.BadZipFile, StopIteration) as error:
        raise BuildError(
            f"{path} is not a wheel of the client: {error}. An admin has to run `make up` again."
        ) from error
    declared = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    return ClientWheel(
        path=path,
        name=metadata["Name"],
        version=metadata["Version"],
        sha256=hashlib.sha256(content).hexdigest(),
        requires=tuple(str(one) for one in declared if "extra" not in str(one.marker)),
    )
