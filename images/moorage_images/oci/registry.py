"""A small client of the OCI distribution API: what appending layers and collecting images need of it, and no more."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from moorage_images.errors import BlobLostError, ImageNotFoundError, RefusedError
from moorage_images.oci.connection import LARGEST_DOCUMENT, Connection
from moorage_images.oci.image import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    MANIFEST,
    Descriptor,
    RemoteImage,
    choose,
    decoded,
    digest_of,
    is_digest,
    not_an_image,
    parse_descriptor,
    parse_diff_ids,
    parse_layers,
)
from moorage_images.oci.reference import Reference

_CHUNK = 1 << 20
_ACCEPT = {"Accept": ", ".join((MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX))}
_BYTES = {"Content-Type": "application/octet-stream"}
_MOST_TAGS = 100_000
_PAGE = 1000
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


class Registry:
    """What a registry holds. Blobs and manifests are found by their digests, and checked against them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def digest(self, reference: Reference) -> str | None:
        """Of the manifest that the reference means, an index too; None when there is none."""
        url = self._manifest_url(reference, reference.version)
        try:
            answer = self._connection.again(
                lambda: self._connection.send(
                    "HEAD",
                    reference.host,
                    url,
                    scopes=[_pull(reference)],
                    accept=[200],
                    what=reference,
                    headers=_ACCEPT,
                )
            )
            said = answer.headers.get("docker-content-digest", "")
            return said if is_digest(said) else digest_of(self._manifest(reference)[0])  # it need not be said
        except ImageNotFoundError:
            return None

    def image(self, reference: Reference, architecture: str) -> RemoteImage:
        """For linux and `architecture` ("amd64", "arm64"), where there are several."""
        body, manifest = self._manifest(reference)
        if manifest.get("mediaType") in (INDEX, DOCKER_INDEX) or "manifests" in manifest:
            reference = reference.at(choose(manifest, architecture, reference))
            body, manifest = self._manifest(reference)
        found = reference.at(digest_of(body))
        layers = parse_layers(manifest, reference)
        described = parse_descriptor(manifest.get("config"), reference)
        config = decoded(self._small_blob(found, described), reference)
        if (config.get("os"), config.get("architecture")) != ("linux", architecture):
            raise not_an_image(reference, f"it is for {config.get('os')}/{config.get('architecture')}")
        return RemoteImage(
            reference=found, layers=layers, diff_ids=parse_diff_ids(config, len(layers), reference), config=config
        )

    def has_blob(self, where: Reference, digest: str) -> bool:
        try:
            self._connection.again(
                lambda: self._connection.send(
                    "HEAD", where.host, self._blob_url(where, digest), scopes=[_pull(where)], accept=[200], what=digest
                )
            )
        except ImageNotFoundError:
            return False
        return True

    def upload(self, where: Reference, content: Path | bytes, digest: str) -> bool:
        """Puts a blob there, unless it is; whether it was sent. A file is read as it goes, and again with another try."""
        if self.has_blob(where, digest):
            return False
        size = len(content) if isinstance(content, bytes) else content.stat().st_size

        def once() -> None:
            session = self._begin(where)
            assert session is not None
            self._finish(where, session, digest, size, content if isinstance(content, bytes) else _FileContent(content))

        self._connection.again(once)
        return True

    def bring(self, blob: Descriptor, source: Reference, where: Reference) -> bool:
        """Puts a blob of another repository there, unless it is; whether it had to be sent, as from another registry.

        Within one registry it is mounted: nothing is sent. Raises BlobLostError when it is in neither.
        """
        if self.has_blob(where, blob.digest):
            return False
        if (source.host, source.repository) == (where.host, where.repository):
            raise _lost(blob, source)
        return self._connection.again(partial(self._bring_once, blob, source, where))

    def _bring_once(self, blob: Descriptor, source: Reference, where: Reference) -> bool:
        if source.host == where.host:
            session = self._begin(where, mount=blob.digest, source=source)
            if session is None:
                return False
        else:
            session = self._begin(where)
            assert session is not None
        try:
            with self._connection.open(
                "GET", source.host, self._blob_url(source, blob.digest), scopes=[_pull(source)], accept=[200], what=source
            ) as response:  # fmt: skip
                self._finish(where, session, blob.digest, blob.size, response.iter_raw(_CHUNK))
        except ImageNotFoundError as error:
            raise _lost(blob, source) from error
        return True

    def put_manifest(self, reference: Reference, body: bytes) -> Reference:
        """The image by its digest. Under the reference's tag too, if it has one. Raises BlobLostError when a part of it is not there."""
        digest = digest_of(body)
        url = self._manifest_url(reference, reference.tag or digest)
        self._connection.again(
            lambda: self._connection.send(
                "PUT",
                reference.host,
                url,
                scopes=[_pull_push(reference)],
                accept=[201, 202],
                what=reference,
                headers={"Content-Type": MANIFEST},
                content=body,
            )
        )
        return reference.at(digest)

    def tags(self, repository: Reference) -> list[str]:
        """All of a repository, sorted; none when there is no such repository."""
        url: httpx.URL | None = self._connection.url(repository.host, f"{repository.repository}/tags/list?n={_PAGE}")
        found: set[str] = set()
        while url is not None:
            page, url = self._connection.again(partial(self._tags_page, repository, url))
            found |= page
            if len(found) > _MOST_TAGS:
                raise RefusedError(f"{repository} has more than {_MOST_TAGS} tags. Ask an admin to remove old ones.")
        return sorted(found)

    def _tags_page(self, repository: Reference, url: httpx.URL) -> tuple[set[str], httpx.URL | None]:
        answer = self._connection.send(
            "GET", repository.host, url, scopes=[_pull(repository)], accept=[200, 404], what=repository
        )
        if answer.status == 404:
            return set(), None
        following = _NEXT.search(answer.headers.get("link", ""))
        tags = decoded(answer.body, repository).get("tags") or []
        page = {tag for tag in tags if isinstance(tag, str)}
        # A page without tags ends it: a registry that says "next" for ever keeps nobody.
        return page, answer.url.join(following[1]) if following and page else None

    def delete(self, reference: Reference) -> bool:
        """Takes an image, named by digest, out of the repository, with all its tags; False when it was gone already."""
        assert reference.digest, "a tag may mean another image by now"
        url = self._manifest_url(reference, reference.digest)
        answer = self._connection.again(
            lambda: self._connection.send(
                "DELETE",
                reference.host,
                url,
                scopes=[_pull_push(reference), _delete(reference)],
                accept=[200, 202, 404, 405],
                what=reference,
            )
        )
        if answer.status == 405:
            raise RefusedError(
                f"The registry {reference.host} keeps images from being deleted. An admin has to allow it "
                "(`storage.delete.enabled` of a Docker registry)."
            )
        return answer.status != 404

    def _manifest(self, reference: Reference) -> tuple[bytes, dict[str, Any]]:
        url = self._manifest_url(reference, reference.version)
        body = self._connection.again(
            lambda: self._connection.send(
                "GET", reference.host, url, scopes=[_pull(reference)], accept=[200], what=reference, headers=_ACCEPT
            )
        ).body
        if reference.digest and digest_of(body) != reference.digest:
            raise not_an_image(reference, "the registry's manifest has another digest")
        return body, decoded(body, reference)

    def _small_blob(self, where: Reference, blob: Descriptor) -> bytes:
        if blob.size > LARGEST_DOCUMENT:
            raise not_an_image(where, f"its config has {blob.size} bytes")
        url = self._blob_url(where, blob.digest)
        try:
            body = self._connection.again(
                lambda: self._connection.send("GET", where.host, url, scopes=[_pull(where)], accept=[200], what=where)
            ).body
        except ImageNotFoundError as error:
            raise _lost(blob, where) from error
        if digest_of(body) != blob.digest:
            raise not_an_image(where, "its config has another digest than its manifest says")
        return body

    def _begin(self, where: Reference, mount: str = "", source: Reference | None = None) -> httpx.URL | None:
        """Where a blob is to be sent; None when it was mounted, and is there."""
        url = self._connection.url(where.host, f"{where.repository}/blobs/uploads/")
        scopes = [_pull_push(where)]
        if source is not None:
            url = url.copy_merge_params({"mount": mount, "from": source.repository})
            scopes.append(_pull(source))
        answer = self._connection.send(
            "POST", where.host, url, scopes=scopes, accept=[201, 202], what=where, headers={"Content-Length": "0"}
        )
        if answer.status == 201:
            return None
        location = answer.url.join(answer.headers.get("location", ""))
        if location.host == url.host and url.scheme == "https":
            return location.copy_with(
                scheme="https"
            )  # a registry behind a proxy may not know that it is asked by https
        return location

    def _finish(
        self, where: Reference, session: httpx.URL, digest: str, size: int, content: "bytes | _FileContent | Iterator[bytes]"
    ) -> None:  # fmt: skip
        headers: Mapping[str, str] = {**_BYTES, "Content-Length": str(size)}
        self._connection.send(
            "PUT", where.host, session.copy_merge_params({"digest": digest}), scopes=[_pull_push(where)], accept=[201],
            what=f"{digest} in {where}", headers=headers, content=content,
        )  # fmt: skip

    def _manifest_url(self, where: Reference, version: str) -> httpx.URL:
        return self._connection.url(where.host, f"{where.repository}/manifests/{version}")

    def _blob_url(self, where: Reference, digest: str) -> httpx.URL:
        return self._connection.url(where.host, f"{where.repository}/blobs/{digest}")


class _FileContent:
    """A file's content, from its beginning each time that it is asked for: a request may have to be sent again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def _pull(reference: Reference) -> str:
    return f"repository:{reference.repository}:pull"


def _pull_push(reference: Reference) -> str:
    return f"repository:{reference.repository}:pull,push"


def _delete(reference: Reference) -> str:
    return f"repository:{reference.repository}:delete"


def _lost(blob: Descriptor, where: Reference) -> BlobLostError:
    return BlobLostError(
        f"{blob.digest} of {where} is no longer in the registry. Push that image again, or build it again."
    )
