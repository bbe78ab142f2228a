"""A real virtual environment, by uv, becomes the same layers each time, and runs from them."""

import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from moorage import folders
from moorage_images.interpreters import Interpreter
from moorage_images.oci.layers import Layer, write_layers
from moorage_images.oci.split import Part
from tests.fakes.package_index import PackageIndex
from tests.images.places import find_uv
from tests.images.trees import unpacked


@dataclass(frozen=True)
class Builder:
    """Builds at one place, as a pod does: what the place is called stands in programs and bytecode."""

    place: Path
    python: Path
    index: PackageIndex

    def layers(self, into: Path, *packages: str) -> dict[Part, Layer]:
        self._uv("venv", self.place, "--python", self.python, "--no-python-downloads")
        self._uv("pip", "install", "--python", self.place / "bin" / "python", "--compile-bytecode", *packages)
        into.mkdir()
        interpreter = PurePosixPath((self.place / "bin" / "python").readlink())
        made = write_layers(self.place, into, interpreter=interpreter, prefix=PurePosixPath(self.place))
        folders.remove(self.place)
        return {one.part: one for one in made}

    def _uv(self, *arguments: str | Path) -> None:
        variables = {
            "PATH": os.environ["PATH"], "HOME": str(self.place.parent), "UV_CACHE_DIR": str(self.place.parent / "cache"),
            "UV_LINK_MODE": "copy", "PYC_INVALIDATION_MODE": "UNCHECKED_HASH", **self.index.variables,
        }  # fmt: skip
        done = subprocess.run([find_uv(), "--quiet", *arguments], env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def builder(tmp_path: Path, index: PackageIndex, interpreter: Interpreter) -> Builder:
    index.wheel("ray", "2.54.0", {"ray/__init__.py": "VERSION = 1\n", "ray/_raylet.py": "x = 1\n" * 1000})
    return Builder(tmp_path / "environment", interpreter.path, index)


def test_two_builds_give_the_same_layers_that_run(builder: Builder, tmp_path: Path) -> None:
    first = builder.layers(tmp_path / "a", "ray", "tide==1.0")
    second = builder.layers(tmp_path / "b", "ray", "tide==1.0")
    assert set(first) == {Part.ENGINES, Part.REST}
    assert {part: one.digest for part, one in first.items()} == {part: one.digest for part, one in second.items()}
    root = tmp_path / "root"
    for layer in first.values():
        with tarfile.open(fileobj=io.BytesIO(unpacked(layer))) as archive:
            archive.extractall(root)
    python = root / str(builder.place).removeprefix("/") / "bin" / "python"
    code = "import ray, tide, sys; print(tide.HEIGHT, ray.VERSION, ray.__cached__, sys.prefix)"
    done = subprocess.run([python, "-I", "-v", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    height, version, cached, prefix = done.stdout.split()
    assert (height, version, prefix) == ("1", "1", str(python.parents[1]))
    assert (
        f"# {cached} matches " in done.stderr or f"code object from {cached!r}" in done.stderr
    )  # its bytecode is good


def test_another_package_makes_one_layer_new(builder: Builder, tmp_path: Path) -> None:
    first = builder.layers(tmp_path / "a", "ray", "tide==1.0")
    second = builder.layers(tmp_path / "b", "ray", "tide==2.0")
    assert {part for part in first if first[part].digest != second[part].digest} == {Part.REST}
