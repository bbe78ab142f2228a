"""The step that installs Debian's packages, as its own process, with a small apt: what it changed, and why it could not."""

import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from moorage_images import root_changes
from moorage_images.system_build import SystemTask
from tests.fakes.apt import FakeApt, fake_apt


@dataclass(frozen=True)
class Pod:
    folder: Path
    apt: FakeApt

    def run(self, *packages: str, sources: str = "", settings: str = "") -> "subprocess.CompletedProcess[str]":
        given = {
            "task": self.folder / "task", "root": self.apt.root, "layer": self.folder / "layer.tar", "scratch": self.folder,
            "authorities": self.folder / "authorities.crt", "result": self.folder / "result", "path": self.apt.folder,
        }  # fmt: skip
        given["task"].write_bytes(SystemTask(packages=packages, sources=sources, settings=settings).encoded())
        argv = [sys.executable, "-I", "-m", "moorage_images.system_build"]
        argv += [part for name, place in given.items() for part in (f"--{name}", str(place))]
        return subprocess.run(argv, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)

    def refused(self, *packages: str) -> str:
        done = self.run(*packages)
        said = json.loads((self.folder / "result").read_text())
        assert (done.returncode, said["error"]) == (1, "build_failed")
        assert said["message"] in done.stdout
        assert not (self.folder / "layer.tar").exists()
        return str(said["message"])

    def members(self) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(self.folder / "layer.tar") as tar:
            return {each.name: each for each in tar}


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path, fake_apt(tmp_path / "apt", "tide", "libgomp1", "g++"))


def test_what_the_packages_changed_and_removed_is_the_layer_and_nothing_else(pod: Pod) -> None:
    done = pod.run("tide")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  Setting up tide (1.0) ..." in done.stdout.splitlines()
    found = pod.members()
    files = {name for name, each in found.items() if not each.isdir()}
    assert files == {"usr/bin/tide", "var/lib/dpkg/status", "etc/.wh.old"}
    assert {"usr", "usr/bin", "var", "var/log", "var/log/apt"} <= set(
        found
    )  # with the folders they lie in; of logs those alone
    assert (found["usr/bin/tide"].mode, found["usr/bin/tide"].uname) == (0o4755, "")


def test_where_all_is_there_already_there_is_still_a_layer(pod: Pod) -> None:
    assert pod.run().returncode == 0
    assert list(pod.members()) == ["var"]


def test_apt_asks_nobody_removes_nothing_and_installs_no_more_than_it_must(pod: Pod) -> None:
    pod.run("tide", "g++")
    update, install = pod.apt.asked
    assert update.split()[1:] == ["update", "--error-on=any"]
    assert {"--yes", "--no-remove", "--no-install-recommends"} <= set(install.split())
    assert install.endswith(" tide g++")


def test_an_admins_sources_take_the_place_of_the_images(pod: Pod) -> None:
    (pod.folder / "authorities.crt").touch()
    pod.run(
        "tide",
        sources="Types: deb\nURIs: http://mirror.example.org",
        settings='Acquire::http::Proxy "http://proxy:3128";',
    )
    said = dict(line.rstrip(";").split(" ", 1) for line in pod.apt.config.splitlines())
    assert said["Acquire::http::Proxy"] == '"http://proxy:3128"'
    assert said["Acquire::https::CaInfo"] == f'"{pod.folder}/authorities.crt"'
    assert said["Dir::Etc::SourceParts"] == '"-"'
    assert Path(said["Dir::Etc::SourceList"].strip('"')).read_text().startswith("Types: deb\n")


@pytest.mark.parametrize("name", ["nothing", "tide-", "tide+", "ti.e", "libgomp"])
def test_a_name_counts_as_it_is_written(pod: Pod, name: str) -> None:
    """To apt "tide-" means to remove it, and a pattern whatever it fits."""
    assert pod.refused("tide", name).startswith(f"apt has no package '{name}'. Correct `system:` in moorage.yaml")
    assert len(pod.apt.asked) == 1


def test_a_mirror_that_cannot_be_reached_is_the_admins(pod: Pod) -> None:
    pod.apt.unreachable()
    said = pod.refused("tide")
    assert "Could not resolve 'mirror.example.org'" in said
    assert "`builds.system.sources`" in said
    assert "Err:1" not in said


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("dpkg: error: failed to write (No space left on device)\n", "`builds.disk`"),
        ("noise\nE: Unable to correct problems, you have held broken packages.\n", "held broken packages. Correct `system:`"),
        ("E: Packages need to be removed but remove is disabled.\n", "remove is disabled. Correct `system:`"),
    ],
)  # fmt: skip
def test_what_apt_cannot_do_is_told_by_its_own_reason(pod: Pod, told: str, says: str) -> None:
    pod.apt.fail(told)
    said = pod.refused("tide")
    assert says in said
    assert "noise" not in said


def test_an_image_without_apt_says_so(pod: Pod) -> None:
    (pod.apt.folder / "apt-get").unlink()
    assert "The notebook image has no apt-get" in pod.refused("tide")


def test_links_second_names_and_replaced_folders_are_kept_and_sockets_are_not(tmp_path: Path) -> None:
    root, archive = tmp_path / "root", tmp_path / "layer.tar"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "file").write_text("x")
    before = root_changes.look(root, ())
    (root / "folder" / "file").unlink()
    (root / "folder").rmdir()
    (root / "folder").symlink_to("elsewhere")
    (root / "first").write_text("same")
    (root / "second").hardlink_to(root / "first")
    os.mkfifo(root / "pipe")
    with archive.open("wb") as into:
        root_changes.write(root, before, root_changes.look(root, ()), into)
    with tarfile.open(archive) as tar:
        found = {each.name: each for each in tar}
    assert set(found) == {"folder", "first", "second"}
    assert (found["folder"].issym(), found["second"].islnk(), found["second"].linkname) == (True, True, "first")


def test_what_is_mounted_is_not_the_images() -> None:
    assert {"proc", "sys"} <= root_changes.mounted()
    assert "" not in root_changes.mounted()
