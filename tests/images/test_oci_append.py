"""An environment's layers go onto a base in the registry, and onto the next one, and no byte of the base is sent again."""

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath

import httpx
import pytest

from moorage_images.errors import BlobLostError, RefusedError
from moorage_images.oci import push
from moorage_images.oci.append import BASE, ENVIRONMENT, PART, Changes, Image, append, own, reappend
from moorage_images.oci.image import DOCKER_MANIFEST, digest_of, encoded
from moorage_images.oci.layers import PREFIX, write_layers
from moorage_images.oci.reference import Reference
from moorage_images.oci.registry import Registry
from moorage_images.oci.split import MIB
from tests.images.base_images import push_base
from tests.images.registries import RunningRegistry
from tests.images.trees import PYTHON, install, small_tree
from tests.ports import free_port
from tests.waiting import eventually

CHANGES = Changes(environment="0123abcd", prefix=PREFIX, labels={"moorage.project": "pr-1"})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = small_tree(tmp_path / "tree", {"ray-2.54.0": {"ray/__init__.py": b"ray"}, "tide-1.0": {"tide.py": b""}})
    install(tree, "big-1.0", {"big/lib.so": b"x" * 100_000}, sizes=30 * MIB)
    return tree


@pytest.fixture
def base(registry: Registry, server: RunningRegistry) -> Reference:
    return push_base(registry, Reference(server.host, "bases/python", "3.11"))


def appended(registry: Registry, base: Reference, tree: Path, target: Reference, into: Path) -> Image:
    into.mkdir(exist_ok=True)
    layers = own(write_layers(tree, into, interpreter=PYTHON))
    return append(registry, base, layers, target, CHANGES, architecture="amd64")


def test_an_image_is_the_base_and_the_layers(
    registry: Registry, base: Reference, tree: Path, tmp_path: Path, server: RunningRegistry
) -> None:
    target = Reference(server.host, "whole/project", "one")
    made = appended(registry, base, tree, target, tmp_path / "layers")
    below, image = registry.image(base, "amd64"), registry.image(made.reference, "amd64")
    assert registry.image(target, "amd64") == image
    assert made.base == base
    assert image.layers[:1] == below.layers
    assert [one.annotations[PART] for one in image.layers[1:]] == ["engines", "big", "rest"]
    assert image.diff_ids[:1] == below.diff_ids
    assert image.labels == {
        "maker": "tests", "moorage.project": "pr-1", ENVIRONMENT: "0123abcd", BASE: base.digest, "moorage.prefix": str(PREFIX),
    }  # fmt: skip
    assert image.variables == {
        "LANG": "C.UTF-8", "PATH": f"{PREFIX}/bin:/usr/local/bin:/usr/bin", "VIRTUAL_ENV": str(PREFIX),
    }  # fmt: skip
    assert image.settings["User"] == "1000"
    assert image.config["created"] == below.config["created"]
    assert len(image.config["history"]) == len(below.config["history"]) + 3
    assert made.size == sum(one.size for one in image.layers)
    assert made.sent == made.size - below.layers[0].size


def test_the_same_gives_the_same_and_nothing_is_sent_again(
    registry: Registry, base: Reference, tree: Path, tmp_path: Path, server: RunningRegistry
) -> None:
    first = appended(registry, base, tree, Reference(server.host, "same/project", "one"), tmp_path / "a")
    again = appended(registry, base, tree, Reference(server.host, "same/project", "two"), tmp_path / "b")
    assert again.reference == first.reference
    assert (first.sent > 0, again.sent) == (True, 0)


def test_nothing_of_the_base_moves(
    registry: Registry, base: Reference, tree: Path, tmp_path: Path, server: RunningRegistry
) -> None:
    layer = registry.image(base, "amd64").layers[0]
    appended(registry, base, tree, Reference(server.host, "still/project", "one"), tmp_path / "layers")
    eventually(lambda: "PUT /v2/still/project/manifests/one 201" in server.requests(), what="the log's last line")
    hexadecimal = layer.digest.removeprefix("sha256:")
    moved = [line for line in server.requests() if hexadecimal in line and " /v2/still/" in line]
    assert [line[:4] for line in moved] == ["HEAD", "POST"]  # asked for, and mounted
    assert moved[-1].endswith(" 201")


def test_a_new_base_takes_the_same_layers_and_nothing_is_sent(
    registry: Registry, base: Reference, tree: Path, tmp_path: Path, server: RunningRegistry
) -> None:
    target = Reference(server.host, "moved/project", "old")
    old = appended(registry, base, tree, target, tmp_path / "layers")
    newer = push_base(registry, Reference(server.host, "bases/python", "3.11.9"), text=b"newer")
    new = reappend(registry, old.reference, newer, replace(target, tag="new"), architecture="amd64")
    before, after = registry.image(old.reference, "amd64"), registry.image(new.reference, "amd64")
    assert after.layers[1:] == before.layers[1:]
    assert after.layers[0] != before.layers[0]
    assert after.diff_ids[1:] == before.diff_ids[1:]
    assert after.labels == {**before.labels, BASE: newer.digest}
    assert after.variables == before.variables
    assert new.sent == 0
    assert registry.digest(old.reference) == old.reference.digest


def test_layers_go_to_another_repository_without_being_sent(
    registry: Registry, base: Reference, tree: Path, tmp_path: Path, server: RunningRegistry
) -> None:
    old = appended(registry, base, tree, Reference(server.host, "from/project", "one"), tmp_path / "layers")
    new = reappend(registry, old.reference, base, Reference(server.host, "to/project", "one"), architecture="amd64")
    assert new.reference.digest == old.reference.digest
    assert new.sent == 0


def test_only_an_image_of_ours_can_be_put_on_another_base(
    registry: Registry, base: Reference, server: RunningRegistry
) -> None:
    with pytest.raises(RefusedError, match="no image of an environment"):
        reappend(registry, base, base, Reference(server.host, "none/project", "one"), architecture="amd64")


def test_an_environment_is_no_base(
    registry: Registry, base: Reference, tree: Path, tmp_path: Path, server: RunningRegistry
) -> None:
    target = Reference(server.host, "twice/project", "one")
    first = appended(registry, base, tree, target, tmp_path / "layers")
    with pytest.raises(RefusedError, match="holds an environment already"):
        appended(registry, first.reference, tree, target, tmp_path / "layers")


def test_layers_that_were_lost_are_told_as_lost(
    registry: Registry, base: Reference, tree: Path, tmp_path: Path, server: RunningRegistry
) -> None:
    target = Reference(server.host, "lost/project", "one")
    made = appended(registry, base, tree, target, tmp_path / "layers")
    lost = registry.image(made.reference, "amd64").layers[-1].digest.removeprefix("sha256:")
    (server.storage / "docker/registry/v2/repositories/lost/project/_layers/sha256" / lost / "link").unlink()
    with pytest.raises(BlobLostError, match="Push that image again, or build it again"):
        reappend(registry, made.reference, base, replace(target, tag="two"), architecture="amd64")


def test_a_base_in_dockers_form_keeps_its_blobs(
    registry: Registry, base: Reference, tree: Path, tmp_path: Path, server: RunningRegistry
) -> None:
    below = registry.image(base, "amd64")
    config = encoded(dict(below.config))
    manifest = {
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest_of(config), "size": len(config)},
        "layers": [{**below.layers[0].document(), "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}],
    }  # fmt: skip
    url = f"http://{server.host}/v2/{base.repository}/manifests/docker"
    sent = httpx.put(url, content=encoded(manifest), headers={"Content-Type": DOCKER_MANIFEST}, trust_env=False)
    assert sent.status_code == 201
    target = Reference(server.host, "docker/project", "one")
    made = appended(registry, Reference(server.host, base.repository, "docker"), tree, target, tmp_path / "layers")
    assert registry.image(made.reference, "amd64").layers[0] == below.layers[0]


def pushed(tree: Path, base: Reference, target: Reference, result: Path, *more: str) -> tuple[int, dict[str, object]]:
    status = push.main(
        ["--tree", str(tree), "--base", str(base), "--target", str(target), "--result", str(result), "--environment", "0123abcd",
         "--interpreter", str(PYTHON), "--architecture", "amd64", "--plain-http", target.host, "--scratch", str(result.parent), *more]
    )  # fmt: skip
    return status, json.loads(result.read_text())


def test_the_program_tells_what_it_made(
    registry: Registry, base: Reference, tree: Path, tmp_path: Path, server: RunningRegistry
) -> None:
    target = Reference(server.host, "program/project", "one")
    status, said = pushed(tree, base, target, tmp_path / "result.json")
    assert status == 0
    assert said["image"] == str(target.at(registry.digest(target) or ""))
    assert said["base"] == str(base)
    assert set(said["layers"]) == {"engines", "big", "rest"}  # type: ignore[call-overload]
    assert set(said["seconds"]) == {"layers", "push"}  # type: ignore[call-overload]
    assert {path.name for path in tmp_path.iterdir()} == {"tree", "result.json"}  # no layer is left


def test_the_program_tells_why_it_failed(
    base: Reference, tree: Path, tmp_path: Path, server: RunningRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Reference(server.host, "failing/project", "one")
    nobody = Reference(f"127.0.0.1:{free_port()}", "failing/project", "one")
    no_password = tmp_path / "absent"
    (tree / "lib" / "passwd").symlink_to("/etc/passwd")
    for arguments, code in (
        ((base, target), "build_unsafe"),
        ((base, target, "--credentials", str(no_password)), "registry_unauthorized"),
        ((base, target, "--environment", "../up"), "build_failed"),
        ((base, target, "--interpreter", "/usr/bin/perl5"), "build_unsafe"),
    ):
        status, said = pushed(tree, arguments[0], arguments[1], tmp_path / "result.json", *arguments[2:])
        assert (status, said["error"]) == (1, code)
        assert str(said["message"]).endswith(".")
        assert capsys.readouterr().err == f"{said['message']}\n"
    (tree / "lib" / "passwd").unlink()
    status, said = pushed(tree, replace(base, digest=digest_of(b"")), target, tmp_path / "result.json")
    assert (status, said["error"]) == (1, "image_not_found")
    status, said = pushed(tree, base, nobody, tmp_path / "result.json", "--plain-http", base.host)
    assert (status, said["error"]) == (1, "registry_unreachable")


def test_a_prefix_of_its_own_is_in_the_image(
    registry: Registry, base: Reference, tree: Path, tmp_path: Path, server: RunningRegistry
) -> None:
    target = Reference(server.host, "prefix/project", "one")
    place = "/opt/moorage/environments/0123abcd"
    assert pushed(tree, base, target, tmp_path / "result.json", "--prefix", place)[0] == 0
    assert PurePosixPath(registry.image(target, "amd64").variables["VIRTUAL_ENV"]) == PurePosixPath(place)
