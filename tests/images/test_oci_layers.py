"""Layers are the same to the byte for the same content, hold nothing that can harm, and change only where the environment did."""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage import folders
from moorage_images.errors import UnsafeTreeError
from moorage_images.oci.layers import PREFIX, Layer, write_layers
from moorage_images.oci.split import MIB, Part
from moorage_images.oci.tree import TreeBounds
from tests.images.trees import PYTHON, SITE, content, install, members, small_tree, unpacked
from tests.nesting import nest_below

BELOW = str(PREFIX).removeprefix("/")
PACKAGES = {
    "ray-2.54.0": {"ray/__init__.py": b"ray"},
    "tide-1.0": {"tide.py": b"HEIGHT = 1\n"},
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return small_tree(tmp_path / "tree", PACKAGES)


def layers_of(tree: Path, bounds: TreeBounds = TreeBounds()) -> dict[Part, Layer]:
    into = Path(tempfile.mkdtemp(dir=tree.parent))
    return {layer.part: layer for layer in write_layers(tree, into, interpreter=PYTHON, bounds=bounds)}


def digests(tree: Path) -> dict[Part, str]:
    return {part: layer.digest for part, layer in layers_of(tree).items()}


def test_a_layer_says_what_lies_on_the_disk(tree: Path) -> None:
    for layer in layers_of(tree).values():
        packed, tar = layer.path.read_bytes(), unpacked(layer)
        assert layer.digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
        assert layer.size == len(packed)
        assert layer.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
        assert layer.unpacked == len(tar)
        assert layer.entries == len(members(layer))


def test_who_owned_it_when_and_how_leaves_no_trace(tree: Path, tmp_path: Path) -> None:
    first = digests(tree)
    other = small_tree(tmp_path / "other")
    for name in reversed(PACKAGES):  # another order, other times, other modes, other owners
        install(other, name, PACKAGES[name])
    for path in other.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o777 if path.is_dir() else 0o600)
            os.utime(path, (1, 1))
            if os.geteuid() == 0:
                os.chown(path, 4711, 4712)
    assert digests(other) == first


def test_modes_owners_and_times_are_those_of_every_image(tree: Path) -> None:
    program = tree / "bin" / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o6711)
    os.link(program, tree / "bin" / "twin")
    (tree / "empty").mkdir(mode=0o1777)
    found = members(layers_of(tree)[Part.REST])
    assert {member.mode for member in found.values() if member.isdir()} == {0o755}
    assert {found[f"{BELOW}/bin/{name}"].mode for name in ("program", "twin")} == {0o755}
    assert all(found[f"{BELOW}/bin/{name}"].isreg() for name in ("program", "twin"))
    assert found[f"{BELOW}/{SITE}/tide.py"].mode == 0o644
    assert found[f"{BELOW}/empty"].isdir()
    assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in found.values()} == {(0, 0, "", "", 0)}


def test_every_folder_comes_before_what_lies_in_it(tree: Path) -> None:
    for layer in layers_of(tree).values():
        seen = {"."}
        for path, member in members(layer).items():
            assert str(PurePosixPath(path).parent) in seen
            if member.isdir():
                seen.add(path)


def test_a_link_to_it_bears_the_name_of_the_digest(tree: Path, tmp_path: Path) -> None:
    alias = PurePosixPath("/opt/moorage/environments/0123")
    layers = {one.part: one for one in write_layers(tree, tmp_path, interpreter=PYTHON, alias=alias)}
    assert members(layers[Part.REST])["opt/moorage/environments/0123"].linkname == str(PREFIX)
    assert layers[Part.ENGINES].digest == digests(tree)[Part.ENGINES]


def test_each_package_lies_in_the_layer_of_its_kind_and_size(tree: Path) -> None:
    install(tree, "big-1.0", {"big/lib.so": b"x"}, sizes=30 * MIB)
    install(tree, "medium-1.0", {"medium.py": b"x"}, sizes=5 * MIB)
    install(tree, "distributed-2026.1", {"distributed/__init__.py": b"", "../../../bin/dask": b"#!"})
    cache = tree / SITE / "ray" / "__pycache__"
    cache.mkdir()
    (cache / "__init__.cpython-311.pyc").write_bytes(b"compiled")  # uv does not list it
    found = {part: set(members(layer)) for part, layer in layers_of(tree).items()}
    assert f"{BELOW}/{SITE}/big/lib.so" in found[Part.BIG]
    assert f"{BELOW}/{SITE}/medium.py" in found[Part.MEDIUM]
    assert f"{BELOW}/{SITE}/distributed/__init__.py" in found[Part.ENGINES]
    assert f"{BELOW}/{SITE}/ray/__pycache__/__init__.cpython-311.pyc" in found[Part.ENGINES]
    assert f"{BELOW}/{SITE}/tide.py" in found[Part.REST]
    assert f"{BELOW}/bin/dask" in found[Part.REST]


def test_one_changed_package_changes_one_layer(tree: Path) -> None:
    install(tree, "big-1.0", {"big/lib.so": b"x"}, sizes=30 * MIB)
    first = digests(tree)
    shutil.rmtree(tree / SITE / "tide-1.0.dist-info")
    install(tree, "tide-2.0", {"tide.py": b"HEIGHT = 2\n", "tide_more/deep/er.py": b""})
    second = digests(tree)
    assert {part for part in first if first[part] != second[part]} == {Part.REST}


def _outside(tree: Path) -> None:
    (tree / "lib" / "passwd").symlink_to("/etc/passwd")


def _outside_by_steps(tree: Path) -> None:
    (tree / "lib" / "up").symlink_to("../..")
    (tree / "lib" / "out").symlink_to("up/../etc")


def _beside_python(tree: Path) -> None:
    (tree / "lib" / "other").symlink_to("/usr/bin/python3/../perl")


def _other_python(tree: Path) -> None:
    (tree / "bin" / "python").unlink()
    (tree / "bin" / "python").symlink_to("/usr/bin/perl")


def _python_elsewhere(tree: Path) -> None:
    (tree / "bin" / "python").unlink()
    (tree / "bin" / "python").symlink_to("/home/someone/python3")


def _no_python(tree: Path) -> None:
    (tree / "bin" / "python").unlink()
    (tree / "bin" / "python").write_text("#!/bin/sh\n")


def _other_home(tree: Path) -> None:
    (tree / "pyvenv.cfg").write_text("home = /tmp\n")


def _home_by_link(tree: Path) -> None:
    (tree / "pyvenv.cfg").rename(tree / "lib" / "pyvenv.cfg")
    (tree / "pyvenv.cfg").symlink_to("lib/pyvenv.cfg")


def _pipe(tree: Path) -> None:
    os.mkfifo(tree / "lib" / "pipe")


def _pipe_as_record(tree: Path) -> None:
    os.mkfifo(tree / SITE / "tide-1.0.dist-info" / "RECORD.new")
    (tree / SITE / "tide-1.0.dist-info" / "RECORD.new").rename(tree / SITE / "tide-1.0.dist-info" / "RECORD")


def _link_as_record(tree: Path) -> None:
    (tree / SITE / "tide-1.0.dist-info" / "RECORD").unlink()
    (tree / SITE / "tide-1.0.dist-info" / "RECORD").symlink_to("/dev/zero")


def _socket(tree: Path) -> None:
    os.mknod(tree / "lib" / "socket", stat.S_IFSOCK | 0o600)


def _sparse(tree: Path) -> None:
    with (tree / "lib" / "hole").open("wb") as file:
        file.truncate(1 << 42)


def _sparse_settings(tree: Path) -> None:
    with (tree / "pyvenv.cfg").open("r+b") as file:
        file.truncate(1 << 40)


def _endless_record(tree: Path) -> None:
    with (tree / SITE / "tide-1.0.dist-info" / "RECORD").open("r+b") as file:
        file.truncate(1 << 40)


def _deep(tree: Path) -> None:
    nest_below(tree / "lib")


def _whiteout(tree: Path) -> None:
    (tree / "lib" / ".wh..wh..opq").write_text("")


def _whiteout_folder(tree: Path) -> None:
    (tree / "lib" / ".wh.bin").mkdir()


@pytest.mark.parametrize(
    "harm",
    [_outside, _outside_by_steps, _beside_python, _other_python, _python_elsewhere, _no_python, _other_home, _home_by_link, _pipe,
     _pipe_as_record, _link_as_record, _endless_record, _socket, _sparse, _sparse_settings, _deep, _whiteout, _whiteout_folder],
)  # fmt: skip
def test_what_can_do_harm_is_refused_and_leaves_no_layer(tree: Path, harm: Callable[[Path], None]) -> None:
    harm(tree)
    into = tree.parent / "layers"
    into.mkdir()
    try:
        with pytest.raises(UnsafeTreeError, match=r"Remove the package|Ask for fewer|again"):
            write_layers(tree, into, interpreter=PYTHON)
        assert list(into.iterdir()) == []
    finally:
        folders.remove(tree)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_refused(tree: Path) -> None:
    try:
        os.mknod(tree / "lib" / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this root may not make devices")
    with pytest.raises(UnsafeTreeError, match="neither a file nor a folder"):
        layers_of(tree)


def test_a_tree_that_is_a_link_is_refused(tree: Path) -> None:
    link = tree.parent / "link"
    link.symlink_to(tree)
    with pytest.raises(UnsafeTreeError):
        layers_of(link)


def test_bounds_hold(tree: Path) -> None:
    with pytest.raises(UnsafeTreeError, match="more than 5 files"):
        layers_of(tree, TreeBounds(entries=5))
    with pytest.raises(UnsafeTreeError, match="GiB"):
        layers_of(tree, TreeBounds(size=20))
    with pytest.raises(UnsafeTreeError, match="more than 2 links"):
        layers_of(tree, TreeBounds(links=2))
    with pytest.raises(UnsafeTreeError, match="too deep"):
        layers_of(tree, TreeBounds(longest_path=10))


def test_links_that_take_too_long_to_follow_are_refused(tree: Path) -> None:
    (tree / "lib" / "one").symlink_to("./" * 2040)
    layers_of(tree)
    (tree / "lib" / "two").symlink_to("./" * 2040 + "one")
    with pytest.raises(UnsafeTreeError, match="lib/two links to"):
        layers_of(tree)


def test_links_that_lead_in_circles_are_kept_as_links(tree: Path) -> None:
    (tree / "lib" / "a").symlink_to("b/x")
    (tree / "lib" / "b").symlink_to("a/y")
    (tree / "lib" / "self").symlink_to("self")
    (tree / "lib" / "whole").symlink_to(str(PREFIX))
    found = members(layers_of(tree)[Part.REST])
    assert {found[f"{BELOW}/lib/{name}"].linkname for name in ("a", "b", "self", "whole")} == {
        "b/x", "a/y", "self", str(PREFIX),
    }  # fmt: skip


@pytest.mark.parametrize(
    "nonsense",
    [
        b'"unclosed,\xff\0,,\n/etc/passwd,,99999999999999999999999\n../../../../../x,a,-1\n,,\n\r\x0b"ray/__init__.py',
        b"x" * 200_000 + b"\nray/__init__.py,,\n",  # longer than csv takes
        b"a\rb\rc,,\n",
    ],
    ids=range(3),
)
def test_a_record_of_nonsense_harms_nobody(tree: Path, nonsense: bytes) -> None:
    (tree / SITE / "ray-2.54.0.dist-info" / "RECORD").write_bytes(nonsense)
    found = layers_of(tree)
    assert f"{BELOW}/{SITE}/ray/__init__.py" in {path for layer in found.values() for path in members(layer)}


NAMES = st.binary(min_size=1, max_size=120).filter(lambda name: b"/" not in name and b"\0" not in name).filter(
    lambda name: name not in (b".", b"..") and not name.startswith(b".wh.")
)  # fmt: skip


@settings(max_examples=40)
@given(files=st.dictionaries(st.lists(NAMES, min_size=1, max_size=4).map(tuple), st.binary(max_size=2000), max_size=12))
def test_any_names_and_any_content_come_back_as_they_were_and_twice_the_same(
    files: dict[tuple[bytes, ...], bytes],
) -> None:
    with tempfile.TemporaryDirectory() as place:
        trees = [small_tree(Path(place) / name, PACKAGES) for name in ("one", "two")]
        written: dict[bytes, bytes] = {}
        for path, data in files.items():
            below = b"/".join((b"share", *path))
            if all(not _fits(tree, below) for tree in trees):
                continue
            for tree in trees:
                _place(tree, below, data)
            written[below] = data
        first, second = layers_of(trees[0]), layers_of(trees[1])
        assert {part: layer.digest for part, layer in first.items()} == {p: layer.digest for p, layer in second.items()}
        found = {os.fsencode(name) for name in members(first[Part.REST])}
        for below, data in written.items():
            assert os.fsencode(BELOW) + b"/" + below in found
            assert content(first[Part.REST], f"{BELOW}/{os.fsdecode(below)}") == data


def _fits(tree: Path, below: bytes) -> bool:
    """Whether a file can be put there: no file lies where a folder would have to, nor the reverse."""
    path = os.path.join(os.fsencode(tree), below)
    above = os.path.dirname(path)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    return os.path.isdir(above) and not os.path.lexists(path)


def _place(tree: Path, below: bytes, data: bytes) -> None:
    path = os.path.join(os.fsencode(tree), below)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
