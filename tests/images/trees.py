"""Trees as `uv venv` and `uv pip install` leave them, in their essentials; and what layers hold, read back."""

import io
import tarfile
from pathlib import Path, PurePosixPath

import zstandard

from moorage_images.oci.layers import Layer

PYTHON = PurePosixPath("/usr/bin/python3")
SITE = "lib/python3.11/site-packages"


def small_tree(root: Path, packages: dict[str, dict[str, bytes]] | None = None) -> Path:
    """`packages`: "name-version" -> path below site-packages -> content."""
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "python").symlink_to(PYTHON)
    (root / "bin" / "python3").symlink_to("python")
    (root / SITE).mkdir(parents=True)
    (root / "lib64").symlink_to("lib")
    (root / "pyvenv.cfg").write_text(f"home = {PYTHON.parent}\n")
    for name, files in (packages or {}).items():
        install(root, name, files)
    return root


def install(root: Path, name: str, files: dict[str, bytes], *, sizes: int | None = None) -> None:
    """`sizes`: what RECORD says of each file's length, whatever it is."""
    info = f"{name}.dist-info"
    for path, content in {**files, f"{info}/METADATA": f"Name: {name}\n".encode()}.items():
        place = root / SITE / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    lines = [f"{path},sha256=x,{len(content) if sizes is None else sizes}\n" for path, content in files.items()]
    (root / SITE / info / "RECORD").write_text("".join(lines) + f"{info}/METADATA,,\n{info}/RECORD,,\n")


def members(layer: Layer) -> dict[str, tarfile.TarInfo]:
    """By path below /. A path that comes twice fails."""
    found: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(fileobj=io.BytesIO(unpacked(layer)), errorlevel=2) as archive:
        for member in archive:
            assert member.name not in found
            found[member.name] = member
    return found


def content(layer: Layer, path: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(unpacked(layer))) as archive:
        file = archive.extractfile(path)
        assert file is not None
        return file.read()


def unpacked(layer: Layer) -> bytes:
    with layer.path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
        return reader.read()
