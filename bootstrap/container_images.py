"""`make images`: Moorage's own container images by buildah, from this checkout: `control` (hub and service), `notebook`, `proxy`.

No daemon, and no root where the machine lets others make user namespaces. Each is an OCI layout below `<state>/container-images`.
"""

import hashlib
import os
import shlex
import shutil
import tempfile
from pathlib import Path

from bootstrap.environments import DONE, OWN, build_wheels, uv_environment
from bootstrap.interpreter import choose
from bootstrap.node import ensure_proxy
from bootstrap.places import ROOT, Places, SetupError
from bootstrap.say import run, step
from bootstrap.uv_tool import ensure_uv

NAMES = {"control": "control", "notebook": "server", "proxy": None}  # image -> the environment that it holds
SOURCES = ROOT / "images" / "containers"
BASE = "docker.io/library/debian:bookworm-slim"


def make_images(places: Places, *, base: str = BASE, push_to: str = "") -> dict[str, Path]:
    """Image -> its OCI layout; made anew only when the base's name, sources or locks changed. `base` as buildah names images.

    `push_to` ("registry.example.org/moorage"): each is pushed to `<push_to>/<image>:<version>` too. Raises SetupError in words.
    """
    for program in ("buildah", "skopeo"):
        if shutil.which(program) is None:
            raise SetupError(f"`make images` needs {program}: install the package {program}.")
    interpreter = choose(places)
    uv = ensure_uv(places)
    wheels = build_wheels(places, uv, interpreter)
    script = ensure_proxy(places, uv, interpreter)
    made = {}
    for name, environment in NAMES.items():
        with tempfile.TemporaryDirectory(prefix="context-", dir=places.cache) as folder:
            context = Path(folder)
            for path in SOURCES.iterdir():
                _link(path, context / path.name)
            if environment is None:
                _fill_with_proxy(context, script)
            else:
                _fill_with_environment(context, environment, uv.resolve(), wheels)
            made[name] = _ensure(places, name, base, context)
    if push_to:
        for name, layout in made.items():
            _push(layout, f"{push_to}/{name}:{_version(wheels)}")
    return made


def _fill_with_environment(context: Path, environment: str, uv: Path, wheels: dict[str, Path]) -> None:
    _link(uv, context / "uv")
    _link(ROOT / "locks" / f"{environment}.txt", context / f"{environment}.txt")
    for package in OWN[environment]:
        _link(wheels[package], context / "own" / environment / wheels[package].name)


def _fill_with_proxy(context: Path, script: Path) -> None:
    modules = next(parent for parent in script.parents if parent.name == "node_modules")
    shutil.copytree(modules, context / "node" / "node_modules", symlinks=True)
    _link((modules.parent / "bin" / "node").resolve(), context / "node" / "bin" / "node")


def _link(source: Path, target: Path) -> None:
    """Into a build's context; a hard link where the disk is the same, so that nothing is copied twice."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _ensure(places: Places, name: str, base: str, context: Path) -> Path:
    """All that is in the context is part of the image, so another image's change does not make it anew."""
    identity = hashlib.sha256(f"{name} {base}".encode())
    for path in sorted(path for path in context.rglob("*") if path.is_file()):
        identity.update(f"{path.relative_to(context)}\0".encode())
        identity.update(hashlib.sha256(path.read_bytes()).digest())
    layout = places.state / "container-images" / f"{name}-{identity.hexdigest()[:12]}"
    if not (layout / DONE).exists():
        with step(f"Building the image {name}"):
            shutil.rmtree(layout, ignore_errors=True)
            layout.parent.mkdir(exist_ok=True)
            _build(places, name, base, context, layout)
            (layout / DONE).touch()
    return layout


def _build(places: Places, name: str, base: str, context: Path, layout: Path) -> None:
    """Without `--layers`, by which buildah would keep each step, and take it again whatever a mounted lock or wheel says now.

    What it keeps of the image itself goes, too, once the image is written.
    """
    tag = f"localhost/moorage-{name}"
    with tempfile.TemporaryDirectory(prefix="lent-", dir=places.cache) as folder:
        lent = _lend(Path(folder), places)
        argv: list[str | Path] = [
            "buildah", "bud", "--isolation", "chroot", "--format", "oci", "--timestamp", "0",
            "-v", f"{lent}:/lent:ro", "-v", f"{places.cache / 'uv'}:/cache:rw", "--build-arg", f"BASE={base}", "--target", name,
            "-f", context / "Containerfile", "-t", tag, context,
        ]  # fmt: skip
        run(argv, f"Building the image {name}")
    run(["buildah", "push", "--quiet", tag, f"oci:{layout}:{name}"], f"Writing the image {name}")
    run(["buildah", "rmi", tag], f"Removing what buildah keeps of the image {name}")


def _lend(folder: Path, places: Places) -> Path:
    """What this machine needs to reach a package index is there while an image is built, and stays in none."""
    variables = {key: value for key, value in uv_environment(places).items() if key.startswith("UV_")}
    variables["UV_CACHE_DIR"] = "/cache"
    (places.cache / "uv").mkdir(exist_ok=True)
    authorities = os.environ.get("SSL_CERT_FILE") or os.environ.get("NODE_EXTRA_CA_CERTS")
    if authorities and Path(authorities).is_file():
        shutil.copy(authorities, folder / "authorities.crt")
        variables["SSL_CERT_FILE"] = "/lent/authorities.crt"
    lines = [f"export {key}={shlex.quote(value)}\n" for key, value in variables.items()]
    (folder / "variables").write_text("".join(lines))
    return folder


def _push(layout: Path, target: str) -> None:
    name = layout.name.rpartition("-")[0]
    with step(f"Pushing {target}"):
        run(
            ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{layout}:{name}", f"docker://{target}"],
            f"Pushing {target}",
        )


def _version(wheels: dict[str, Path]) -> str:
    return wheels["moorage_service"].name.split("-")[1]
