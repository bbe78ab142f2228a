"""The node's own images, made without a container engine, once, into the cache: `pause`, and a base with Python.

An image that is imported and one that is pulled must never have the same id: the kubelet refuses the imported one once it has
pulled the other. So `pause` is imported and pinned, and everything else is pulled from the local registry.
"""

import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.kube.cache import built_once, digest
from tests.kube.commands import find, run
from tests.kube.errors import MissingPart
from tests.kube.place import BASE_IMAGE, PAUSE_IMAGE, Place
from tests.kube.programs import Programs

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
INCLUDED = ("ca-certificates", "git", "python3", "tini")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
COPY = ("skopeo", "--insecure-policy", "copy", "--quiet")  # by no policy of the machine about who may sign images
MAKER = "moorage tests 2"  # raise it when what this file makes changes


def pause_archive(place: Place, programs: Programs) -> Path:
    """An archive as `docker save` writes it, for `ctr images import`."""

    def make(folder: Path) -> None:
        layer = folder / "layer.tar"
        with tarfile.open(layer, "w") as tar:
            tar.add(programs.path("pause"), "pause", filter=_as_root)
        _write_archive(folder / "image.tar", layer, PAUSE_IMAGE, {"Entrypoint": ["/pause"]})
        layer.unlink()

    return built_once(place.cache, "pause", digest([programs.path("pause"), PAUSE_IMAGE, MAKER]), make) / "image.tar"


def base_layout(place: Place) -> Path:
    """A folder in the OCI image layout, with the image `base`: this machine's Debian, the smallest variant, with Python.

    Made by mmdebstrap from the package sources that this machine uses itself. Raises MissingPart where that is no Debian.
    """
    suite, sources, trusted = _release(), _package_sources(), authorities()
    key = digest([suite, *INCLUDED, *sources, *([] if trusted is None else [trusted]), MAKER])

    def make(folder: Path) -> None:
        layer, archive = folder / "layer.tar", folder / "image.tar"
        argv: list[str | Path] = [
            "nice",
            "-n",
            "5",
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={','.join(INCLUDED)}",
        ]
        options = [part for option in _fetching_options() for part in ("--aptopt", option)]
        if trusted is not None:
            options.append(f"--customize-hook=upload {trusted} {AUTHORITIES}")
        run([*argv, *options, suite, layer, *sources])
        _write_archive(archive, layer, BASE_IMAGE, {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": ["/bin/bash"]})
        run([*COPY, f"docker-archive:{archive}", f"oci:{folder}/layout:base"])
        layer.unlink()
        archive.unlink()

    return built_once(place.cache, "base", key, make) / "layout"


def push(layout: Path, image: str, name: str) -> None:
    """Copies an image of an OCI layout to a registry of this machine, as `name`."""
    run([*COPY, "--dest-tls-verify=false", f"oci:{layout}:{image}", f"docker://{name}"])


def authorities() -> Path | None:
    """By whom this machine knows package indexes, where it has been told of somebody special; in the base it lies at AUTHORITIES."""
    path = Path(os.environ.get("SSL_CERT_FILE") or os.environ.get("NODE_EXTRA_CA_CERTS") or "/nowhere")
    return path if path.is_file() else None


def _release() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    facts = {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}
    if "VERSION_CODENAME" not in facts or find("mmdebstrap") is None:
        raise MissingPart(
            "Debian", "The base image is made of this machine's own packages by mmdebstrap: use Debian or Ubuntu."
        )
    return facts["VERSION_CODENAME"]


def _package_sources() -> list[Path]:
    """The files that say where this machine's release comes from."""
    folder = Path("/etc/apt/sources.list.d")
    found = [Path("/etc/apt/sources.list"), *sorted([*folder.glob("*.sources"), *folder.glob("*.list")])]
    release = _release()
    return [path for path in found if path.is_file() and release in path.read_text()]


def _fetching_options() -> list[str]:
    """How this machine's apt reaches its sources, where it has been told something special."""
    told = run(["apt-config", "dump", "Acquire"]).stdout.splitlines()
    return [
        line for line in told if any(word in line for word in ("Proxy", "CaInfo", "Check-Valid-Until", "Check-Date"))
    ]


def _write_archive(archive: Path, layer: Path, name: str, config: Mapping[str, Sequence[str]]) -> None:
    with layer.open("rb") as file:
        identity = hashlib.file_digest(file, "sha256").hexdigest()
    described: dict[str, Any] = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{identity}"]},
        "history": [{"created_by": MAKER}],  # buildah refuses to build on layers that have none
    }
    said = json.dumps(described).encode()
    config_name = f"{hashlib.sha256(said).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        for member, content in ((config_name, said), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        tar.add(layer, "layer.tar")


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755
    return entry
