"""What a stranger's root wrote becomes a layer of our own writing, and hides or takes over nothing of Moorage's."""

import io
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from moorage_images.errors import RefusedError, UnsafeTreeError
from moorage_images.oci import push_system
from moorage_images.oci.append import BASE, SYSTEM, Changes, append, own, reappend
from moorage_images.oci.layers import PREFIX, write_layers
from moorage_images.oci.reference import Reference
from moorage_images.oci.registry import Registry
from moorage_images.oci.sift import SiftBounds, sift
from tests.images.base_images import push_base
from tests.images.registries import RunningRegistry
from tests.images.trees import PYTHON, small_tree


def archive(path: Path, *members: tuple[str, bytes, str]) -> Path:
    """Each by its name, its kind and its content, or what it leads to."""
    with tarfile.open(path, "w") as tar:
        for name, kind, text in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid, entry.mtime = kind, 0o4755, 101, 1_700_000_000
            if kind == tarfile.REGTYPE:
                entry.size = len(text)
            else:
                entry.linkname = text
            tar.addfile(entry, io.BytesIO(text.encode()) if kind == tarfile.REGTYPE else None)
    return path


def read(layer: Path) -> dict[str, tarfile.TarInfo]:
    with layer.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
        unpacked = io.BytesIO(reader.read())
    with tarfile.open(fileobj=unpacked) as tar:
        return {each.name: each for each in tar}


FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def test_files_folders_and_links_are_kept_with_their_owners_and_times_and_no_users_rights_are_raised(
    tmp_path: Path,
) -> None:
    source = archive(
        tmp_path / "a", ("./usr", FOLDER, ""), ("usr/tide", FILE, "high"), ("usr/ebb", HARD, "usr/tide"),
        ("usr/flow", LINK, "/usr/tide"), ("opt", FOLDER, ""), ("opt/other", FILE, ""), ("etc/.wh.old", FILE, ""),
    )  # fmt: skip
    made = sift(source, tmp_path / "layer")
    found = read(tmp_path / "layer")
    assert list(found) == ["usr", "usr/tide", "usr/ebb", "usr/flow", "opt", "opt/other", "etc/.wh.old"]
    assert made.entries == len(found)
    assert {(each.uid, each.mtime) for each in found.values()} == {(101, 1_700_000_000)}
    assert stat.S_IMODE(found["usr/tide"].mode) == 0o755
    assert (found["usr/ebb"].linkname, found["usr/flow"].linkname) == ("usr/tide", "/usr/tide")


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("opt/moorage/bin/uv", FILE, "")], "Moorage's own programs"),
        ([("opt/moorage", FOLDER, "")], "Moorage's own programs"),
        ([("opt/moorage", LINK, "/tmp")], "Moorage's own programs"),
        ([("opt", LINK, "/tmp")], "Moorage's own programs"),
        ([("opt/.wh.moorage", FILE, "")], "Moorage's own programs"),
        ([(".wh.opt", FILE, "")], "Moorage's own programs"),
        ([("way", LINK, "/opt/moorage"), ("way/bin/uv", FILE, "")], "leads through a link"),
        ([("opt/.wh..wh..opq", FILE, "")], "hide more"),
        ([("usr/.wh.", FILE, "")], "hide more"),
        ([("usr/.wh.bin/sh", FILE, "")], "hide more"),
        ([("../etc/passwd", FILE, "")], "no path below"),
        ([("/etc/passwd", FILE, "")], "no path below"),
        ([("usr//bin", FILE, "")], "no path below"),
        ([("usr/ebb", HARD, "etc/shadow")], "link to nothing"),
        ([("usr/ebb", HARD, "../etc/shadow")], "no path below"),
        ([("dev/disk", tarfile.BLKTYPE, "")], "device or a pipe"),
        ([("run/pipe", tarfile.FIFOTYPE, "")], "device or a pipe"),
        ([("a" * 4000, FILE, "")], "at most 3000 bytes"),
        ([(f"file-{number}", FILE, "") for number in range(9)], "more than 8 files"),
        ([("large", FILE, "x" * 2000)], "Ask for fewer"),
    ],
    ids=str,
)  # fmt: skip
def test_what_could_harm_is_refused(tmp_path: Path, members: list[tuple[str, bytes, str]], says: str) -> None:
    with pytest.raises(UnsafeTreeError, match=says):
        sift(archive(tmp_path / "a", *members), tmp_path / "layer", SiftBounds(entries=8, size=1000))
    assert not (tmp_path / "layer").exists()


@pytest.mark.parametrize("damage", [lambda raw: raw[:700], lambda _: b"no archive", lambda _: b""])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    source = archive(tmp_path / "a", ("usr/tide", FILE, "x" * 1000))
    source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(UnsafeTreeError):
        sift(source, tmp_path / "layer")


def push(server: RunningRegistry, base: Reference, layer: Path, tag: str = "one") -> str:
    """What its result file says."""
    target, result = Reference(server.host, "system", tag), layer.with_name("result")
    argv = ["--layer", str(layer), "--base", str(base), "--target", str(target), "--result", str(result)]
    argv += ["--packages", "sl", "tide", "--plain-http", server.host, "--architecture", "amd64"]
    push_system.main(argv)
    return result.read_text()


def test_the_image_is_the_base_and_one_layer_and_environments_are_laid_on_it(
    registry: Registry, server: RunningRegistry, tmp_path: Path
) -> None:
    base = push_base(registry, Reference(server.host, "notebook", "1"))
    said = push(server, base, archive(tmp_path / "a", ("usr/tide", FILE, "high")))
    assert '"image"' in said
    below, image = registry.image(base, "amd64"), registry.image(Reference(server.host, "system", "one"), "amd64")
    assert image.layers[:-1] == below.layers
    assert image.labels == {**below.labels, SYSTEM: "sl tide", BASE: base.digest}
    assert (image.variables, image.settings["User"]) == (below.variables, "1000")
    assert len(image.history) == len(below.history) + 1

    (tmp_path / "layers").mkdir()
    layers = own(write_layers(small_tree(tmp_path / "tree"), tmp_path / "layers", interpreter=PYTHON))
    changes, target = Changes(environment="0123", prefix=PREFIX), Reference(server.host, "environments", "one")
    made = append(registry, image.reference, layers, target, changes, architecture="amd64")
    environment = registry.image(made.reference, "amd64")
    assert environment.labels[SYSTEM] == "sl tide"
    assert environment.layers[: len(image.layers)] == image.layers
    with pytest.raises(RefusedError, match="packages of Debian"):
        reappend(registry, made.reference, base, target, architecture="amd64")
    again = reappend(registry, made.reference, image.reference, target, architecture="amd64")
    assert again.reference == made.reference


def test_what_is_refused_is_said_and_nothing_is_pushed(
    registry: Registry, server: RunningRegistry, tmp_path: Path
) -> None:
    base = push_base(registry, Reference(server.host, "notebook", "2"))
    said = push(server, base, archive(tmp_path / "a", ("opt/moorage/bin/uv", FILE, "")), tag="two")
    assert "build_unsafe" in said
    assert "opt/moorage/bin/uv" in said
    assert registry.digest(Reference(server.host, "system", "two")) is None
