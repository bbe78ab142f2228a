"""Our client against Debian's docker-registry: with and without a password, and behind a token service."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from moorage_images.errors import (
    BlobLostError,
    ImageNotFoundError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
)
from moorage_images.oci import credentials
from moorage_images.oci.connection import Connection
from moorage_images.oci.credentials import Credential
from moorage_images.oci.image import INDEX, MANIFEST, Descriptor, digest_of, encoded
from moorage_images.oci.reference import Reference, parse
from moorage_images.oci.registry import Registry
from tests.images.base_images import push_base
from tests.images.registries import NAME, PASSWORD, RunningRegistry, TokenService, behind_password, running
from tests.ports import free_port
from tests.waiting import eventually

KNOWN = Credential(NAME, PASSWORD)


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running(tmp_path_factory.mktemp("open")) as registry:
        yield registry


@pytest.fixture(scope="module")
def locked_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    folder = tmp_path_factory.mktemp("locked")
    with running(folder, behind_password(folder)) as registry:
        yield registry


@pytest.fixture
def connection(open_registry: RunningRegistry) -> Iterator[Connection]:
    with Connection({}, plain_http=[open_registry.host], wait_s=0.01) as connection:
        yield connection


@pytest.fixture
def registry(connection: Connection) -> Registry:
    return Registry(connection)


def answering(handler: httpx.MockTransport) -> Registry:
    return Registry(Connection({}, wait_s=0.001, transport=handler))


def test_what_was_pushed_is_found_by_tag_and_by_digest(registry: Registry, open_registry: RunningRegistry) -> None:
    tagged = Reference(open_registry.host, "found/base", "1")
    pushed = push_base(registry, tagged)
    image = registry.image(tagged, "amd64")
    assert image.reference == pushed
    assert registry.image(pushed, "amd64") == image
    assert registry.digest(tagged) == pushed.digest
    assert image.labels == {"maker": "tests"}
    assert registry.has_blob(pushed, image.layers[0].digest)


def test_a_file_is_sent_once(registry: Registry, open_registry: RunningRegistry, tmp_path: Path) -> None:
    where = Reference(open_registry.host, "sent/once")
    file = tmp_path / "blob"
    file.write_bytes(bytes(3_000_000) + b"end")
    digest = digest_of(file.read_bytes())
    assert registry.upload(where, file, digest)
    assert not registry.upload(where, file, digest)
    assert registry.has_blob(where, digest)


def test_what_is_not_what_it_claims_is_refused(registry: Registry, open_registry: RunningRegistry) -> None:
    with pytest.raises(RefusedError, match="DIGEST_INVALID"):
        registry.upload(Reference(open_registry.host, "false/digest"), b"one", digest_of(b"another"))


def test_a_blob_is_mounted_within_a_registry(registry: Registry, open_registry: RunningRegistry) -> None:
    base = push_base(registry, Reference(open_registry.host, "mount/base", "1"))
    layer = registry.image(base, "amd64").layers[0]
    target = Reference(open_registry.host, "mount/project")
    assert not registry.bring(layer, base, target)
    assert registry.has_blob(target, layer.digest)
    asked = f"HEAD /v2/mount/project/blobs/{layer.digest} 200"
    eventually(lambda: asked in open_registry.requests(), what="the log's last line")
    assert {line.split()[0] for line in open_registry.requests() if " /v2/mount/project/" in line} == {"HEAD", "POST"}


def test_a_blob_is_carried_to_another_registry(
    registry: Registry, open_registry: RunningRegistry, tmp_path: Path
) -> None:
    base = push_base(registry, Reference(open_registry.host, "carried/base", "1"))
    layer = registry.image(base, "amd64").layers[0]
    with running(tmp_path / "other") as other, Connection({}, plain_http=[open_registry.host, other.host]) as both:
        target = Reference(other.host, "carried/project")
        assert Registry(both).bring(layer, base, target)
        assert not Registry(both).bring(layer, base, target)
        assert Registry(both).has_blob(target, layer.digest)


def test_a_lost_blob_is_told_as_lost(registry: Registry, open_registry: RunningRegistry) -> None:
    base = push_base(registry, Reference(open_registry.host, "lost/base", "1"))
    gone = Descriptor(media_type="x", digest=digest_of(b"never there"), size=11)
    for target in (base, Reference(open_registry.host, "lost/project")):
        with pytest.raises(BlobLostError, match="no longer in the registry"):
            registry.bring(gone, base, target)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": gone.document(), "layers": []}
    with pytest.raises(BlobLostError):
        registry.put_manifest(Reference(open_registry.host, "lost/base", "2"), encoded(manifest))


def test_a_manifest_whose_config_was_lost_is_told_as_lost(registry: Registry, open_registry: RunningRegistry) -> None:
    base = push_base(registry, Reference(open_registry.host, "lost/config", "1"), author="only here")
    config = digest_of(encoded(dict(registry.image(base, "amd64").config)))
    for link in open_registry.storage.rglob(f"lost/config/_layers/sha256/{config.removeprefix('sha256:')}/link"):
        link.unlink()
    with pytest.raises(BlobLostError):
        registry.image(base, "amd64")


def test_of_several_architectures_the_wanted_one_is_chosen(registry: Registry, open_registry: RunningRegistry) -> None:
    where = Reference(open_registry.host, "several/base", "many")
    ours = push_base(registry, where)
    other = push_base(registry, where, architecture="arm64")
    manifests = [
        {"mediaType": MANIFEST, "digest": one.digest, "size": size, "platform": {"os": system, "architecture": name}}
        for one, system, name, size in (
            (other, "windows", "amd64", 1), (other, "linux", "arm64", 1), (ours, "linux", "amd64", 1)
        )
    ]  # fmt: skip
    index = encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
    url = f"http://{where.host}/v2/{where.repository}/manifests/many"
    assert httpx.put(url, content=index, headers={"Content-Type": INDEX}, trust_env=False).status_code == 201
    assert registry.image(where, "amd64").reference == ours
    assert registry.image(where, "arm64").reference == other
    with pytest.raises(RefusedError, match="linux/riscv64"):
        registry.image(where, "riscv64")
    with pytest.raises(RefusedError, match="linux/amd64"):
        registry.image(ours, "arm64")


def test_a_digest_is_found_where_the_registry_does_not_say_it() -> None:
    registry = answering(httpx.MockTransport(lambda _request: httpx.Response(200, content=b"{}")))
    assert registry.digest(Reference("r.test", "x", "1")) == digest_of(b"{}")


def test_tags_are_listed_over_several_pages(open_registry: RunningRegistry) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params.get("last", "0"))
        link = {"link": f'</v2/r/tags/list?n=2&last={page + 1}>; rel="next"'} if page < 2 else {}
        return httpx.Response(200, json={"name": "r", "tags": [f"t{page}a", f"t{page}b"]}, headers=link)

    paged = answering(httpx.MockTransport(handler))
    assert paged.tags(Reference("r.test", "r")) == ["t0a", "t0b", "t1a", "t1b", "t2a", "t2b"]


def test_tags_are_listed_and_images_deleted(registry: Registry, open_registry: RunningRegistry) -> None:
    where = Reference(open_registry.host, "listed/base")
    assert registry.tags(where) == []
    pushed = push_base(registry, Reference(where.host, where.repository, "b"))
    push_base(registry, Reference(where.host, where.repository, "a"))
    assert registry.tags(where) == ["a", "b"]
    assert registry.delete(pushed)
    assert not registry.delete(pushed)
    assert registry.digest(pushed) is None
    with pytest.raises(ImageNotFoundError, match="not in the registry"):
        registry.image(pushed, "amd64")


def test_a_registry_that_keeps_images_says_so(tmp_path: Path) -> None:
    with running(tmp_path / "keeps", deletes=False) as keeps, Connection({}, plain_http=[keeps.host]) as connection:
        pushed = push_base(Registry(connection), Reference(keeps.host, "kept", "1"))
        with pytest.raises(RefusedError, match=r"storage\.delete\.enabled"):
            Registry(connection).delete(pushed)


def test_a_name_and_a_password_open_a_locked_registry(locked_registry: RunningRegistry, tmp_path: Path) -> None:
    file = tmp_path / ".dockerconfigjson"
    file.write_text(json.dumps({"auths": {f"http://{locked_registry.host}": {"auth": KNOWN.basic.split()[1]}}}))
    with Connection(credentials.read(file), plain_http=[locked_registry.host]) as connection:
        assert push_base(Registry(connection), Reference(locked_registry.host, "locked/base", "1")).digest


@pytest.mark.parametrize(("known", "says"), [(None, "wants a name"), (Credential(NAME, "wrong"), "refuses our name")])
def test_without_the_right_ones_it_stays_locked(
    locked_registry: RunningRegistry, known: Credential | None, says: str
) -> None:
    held = {locked_registry.host: known} if known else {}
    with Connection(held, plain_http=[locked_registry.host]) as connection:
        with pytest.raises(UnauthorizedError, match=says) as refused:
            Registry(connection).tags(Reference(locked_registry.host, "locked/base"))
        assert "wrong" not in str(refused.value)


def test_a_token_is_had_for_each_thing_that_is_done(tmp_path: Path) -> None:
    with TokenService(tmp_path / "tokens") as tokens, running(tmp_path / "registry", tokens.line) as guarded:
        plain = [guarded.host, tokens.host]
        with Connection({guarded.host: KNOWN}, plain_http=plain) as connection:
            registry = Registry(connection)
            base = push_base(registry, Reference(guarded.host, "tokens/base", "1"))
            layer = registry.image(base, "amd64").layers[0]
            assert not registry.bring(layer, base, Reference(guarded.host, "tokens/project"))
            scopes = [asked["scope"] for asked in tokens.asked]
            assert ["repository:tokens/base:pull", "repository:tokens/project:pull,push"] in scopes
            assert len(scopes) == len({tuple(one) for one in scopes})  # each is had once
            assert registry.delete(base)
        with Connection({}, plain_http=plain) as connection:
            assert Registry(connection).tags(base) == []
            with pytest.raises(UnauthorizedError, match="wants a name and a password"):
                push_base(Registry(connection), base)
        with (
            Connection({guarded.host: Credential(NAME, "wrong")}, plain_http=plain) as connection,
            pytest.raises(UnauthorizedError, match="refuses our name"),
        ):
            push_base(Registry(connection), base)


def test_a_token_that_ran_out_is_had_again(tmp_path: Path) -> None:
    with TokenService(tmp_path / "tokens") as tokens, running(tmp_path / "registry", tokens.line) as guarded:
        tokens.lifetime_s = -3600
        with Connection({guarded.host: KNOWN}, plain_http=[guarded.host, tokens.host], attempts=1) as connection:
            where = Reference(guarded.host, "late/base", "1")
            with pytest.raises(UnauthorizedError):
                Registry(connection).tags(where)
            tokens.lifetime_s = 60
            assert Registry(connection).tags(where) == []


def test_a_password_goes_to_no_token_service_without_tls(tmp_path: Path) -> None:
    with TokenService(tmp_path / "tokens") as tokens, running(tmp_path / "registry", tokens.line) as guarded:
        with (
            Connection({guarded.host: KNOWN}, plain_http=[guarded.host]) as connection,
            pytest.raises(UnauthorizedError, match="not https"),
        ):
            Registry(connection).tags(Reference(guarded.host, "any"))
        assert tokens.asked == []


def test_a_password_goes_nowhere_but_to_its_registry() -> None:
    seen: list[tuple[str, bool]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, "authorization" in request.headers))
        if request.url.host == "r.test" and "authorization" not in request.headers:
            return httpx.Response(401, headers={"www-authenticate": 'Basic realm="x"'})
        if request.method == "HEAD":
            return httpx.Response(404)
        if request.method == "POST":
            return httpx.Response(202, headers={"location": "https://elsewhere.test/upload?state=1"})
        return httpx.Response(201)

    connection = Connection({"r.test": KNOWN}, transport=httpx.MockTransport(handler))
    Registry(connection).upload(Reference("r.test", "x"), b"content", digest_of(b"content"))
    assert seen[-1] == ("elsewhere.test", False)
    assert ("r.test", True) in seen


def test_a_failure_that_passes_is_tried_again_with_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "blob"
    file.write_bytes(b"x" * 2_500_000)
    bodies: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "HEAD":
            return httpx.Response(404)
        if request.method == "POST":
            return httpx.Response(202, headers={"location": "/v2/x/blobs/uploads/1"})
        bodies.append(len(request.read()))
        if len(bodies) == 1:
            raise httpx.ReadError("cut")
        return httpx.Response(503 if len(bodies) == 2 else 201)

    assert answering(httpx.MockTransport(handler)).upload(Reference("r.test", "x"), file, digest_of(file.read_bytes()))
    assert bodies == [2_500_000] * 3


def test_one_that_does_not_pass_ends_in_a_sentence() -> None:
    where = Reference(f"127.0.0.1:{free_port()}", "x", "1")
    with (
        Connection({}, plain_http=[where.host], attempts=2, wait_s=0.001) as connection,
        pytest.raises(UnreachableError, match=re.escape(f"{where.host} can't be reached")),
    ):
        Registry(connection).image(where, "amd64")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"nonsense", b"[" * 100_000, b'{"layers": 1}', b'{"layers": [{}]}', b'{"layers": []}', b'{"manifests": 3}',
     b'{"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}]}',
     b'{"layers": [{"mediaType": "x", "digest": "sha256:../../etc", "size": 1}]}', b"x" * (9 << 20)],
    ids=range(11),
)  # fmt: skip
def test_what_is_no_image_is_refused_in_a_sentence(body: bytes) -> None:
    registry = answering(httpx.MockTransport(lambda _request: httpx.Response(200, content=body)))
    with pytest.raises(RefusedError, match=r"Name another one|Ask an admin|Name a base"):
        registry.image(Reference("r.test", "x", "1"), "amd64")


def test_a_manifest_of_another_digest_is_refused() -> None:
    registry = answering(httpx.MockTransport(lambda _request: httpx.Response(200, content=b"{}")))
    with pytest.raises(RefusedError, match="another digest"):
        registry.image(Reference("r.test", "x", digest=digest_of(b"other")), "amd64")


@pytest.mark.parametrize(
    "text", ["python", "library/python", "r.test/", "r.test/UPPER", "r.test/a:b:c", "r.test/a@sha256:12", "r.test/../a", "/a", "r.test//a",
             "r.test/a:", "r.test/a@", "user@r.test/a", "r.test/a b", "r.test/a:tag@", "https://r.test/a", "r.test\n/a", "r.test/a\n"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="Write it in full"):
        parse(text)


@pytest.mark.parametrize(
    "text", ["r.test/a", "r.test/a/b-c/d__e:1.0_x", "127.0.0.1:5000/a:1", "localhost/a", f"r.test/a@{digest_of(b'')}",
             f"[::1]:5000/a/b:1@{digest_of(b'')}", "docker.io/library/python:3.11"],
)  # fmt: skip
def test_a_name_is_read_and_written_the_same(text: str) -> None:
    assert str(parse(text)) == text


def test_credentials_are_found_by_host_in_all_their_forms(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    auth = KNOWN.basic.split()[1]
    auths = {
        "https://index.docker.io/v1/": {"auth": auth},
        "r.test:5000": {"username": "u", "password": "p"},
        "e.test": {},
    }
    file.write_text(json.dumps({"auths": auths}))
    assert credentials.read(file) == {"docker.io": KNOWN, "r.test:5000": Credential("u", "p")}
    assert PASSWORD not in repr(credentials.read(file))


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"auths": 3}', '{"auths": {"r": {"auth": "secret!"}}}', '{"auths": {"r": {"auth": "c2VjcmV0"}}}'],
)
def test_credentials_that_cannot_be_read_are_told_without_them(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(UnauthorizedError, match="kubectl create secret") as refused:
        credentials.read(file)
    assert "secret!" not in str(refused.value)
