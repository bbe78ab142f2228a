"""containerd with its network plugins, in a mount namespace that the kubelet shares and that ends with them.

In it `/run`, `/var/lib` and `/var/log` are folders of ours, for some parts write there whatever they are told.
"""

import json
import shlex
from pathlib import Path

from tests.kube import images
from tests.kube.commands import find, run
from tests.kube.daemons import Daemons
from tests.kube.errors import MissingPart
from tests.kube.machine import smallest_mtu
from tests.kube.place import CNI_NETWORK, PAUSE_IMAGE, POD_BRIDGE, PODS, REGISTRY, Place
from tests.kube.programs import Programs

PLUGINS = Path("/usr/lib/cni")
UNUSED = ("io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing")
HIDDEN = ("/run", "/var/lib", "/var/log")

CONFIG = """\
version = 3
root = '{folder}/root'
state = '{folder}/state'
disabled_plugins = {unused}

[grpc]
  address = '{socket}'

[plugins.'io.containerd.cri.v1.images']
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{pause}'
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = '{registries}'

[plugins.'io.containerd.cri.v1.runtime']
  # Where root lacks CAP_SYS_RESOURCE no sandbox would start otherwise.
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['{plugins}']
    conf_dir = '{folder}/cni'
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = '{runc}'
        SystemdCgroup = false
"""


def start_containerd(daemons: Daemons, place: Place, programs: Programs) -> None:
    """Returns when it answers. It finds its shim beside itself."""
    folder = place.work / "containerd"
    (folder / "cni").mkdir(parents=True)
    (folder / "cni" / "10-bridge.conflist").write_text(json.dumps(_network(place), indent=1))
    config = folder / "config.toml"
    config.write_text(
        CONFIG.format(
            folder=folder, unused=list(UNUSED), socket=place.containerd_socket, pause=PAUSE_IMAGE, plugins=PLUGINS,
            registries=place.registries, runc=_runc(),
        )
    )  # fmt: skip
    name_registry(place, REGISTRY)
    steps = ["mount --make-rshared /"]  # the machine's own may be private, and mounts that pods are to see fail then
    for hidden in HIDDEN:
        ours = place.work / "hidden" / hidden.strip("/").replace("/", "-")
        ours.mkdir(parents=True)
        steps.append(f"mount --bind {shlex.quote(str(ours))} {hidden}")
    steps.append(shlex.join(["exec", str(programs.path("containerd")), "--config", str(config)]))
    env = {"PATH": f"{programs.folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    daemon = daemons.start("containerd", ["unshare", "--mount", "sh", "-c", " && ".join(steps)], env=env)
    daemon.until(lambda: _ctr(place, programs, "version", check=False), "it answers")


def import_pause(place: Place, programs: Programs) -> None:
    """Pinned, or the kubelet may collect it, and nobody could bring it back."""
    archive = images.pause_archive(place, programs)
    _ctr(place, programs, "images", "import", "--local", str(archive))
    _ctr(place, programs, "images", "label", PAUSE_IMAGE, "io.cri-containerd.pinned=pinned")


def image_names(place: Place, programs: Programs, repository: str) -> list[str]:
    """Under which the machine has images of this repository, such as `host:port/path`."""
    found = run(_command(place, programs, "images", "list", "--quiet")).stdout.split()
    return [name for name in found if name.startswith((f"{repository}:", f"{repository}@"))]


def rename_image(place: Place, programs: Programs, name: str, other: str) -> None:
    """Its layers stay, so to pull it again costs little; an image that had the other name loses it."""
    _ctr(place, programs, "images", "tag", "--force", name, other)
    _ctr(place, programs, "images", "remove", name)


def name_registry(place: Place, host: str, *, address: str | None = None) -> None:
    """Images named `<host>/...` are pulled over plain HTTP from `address`, or from the host itself. At once, no restart."""
    folder = place.registries / host
    folder.mkdir(parents=True, exist_ok=True)
    url = f"http://{address or host}"
    (folder / "hosts.toml").write_text(f'server = "{url}"\n[host."{url}"]\n  capabilities = ["pull", "resolve"]\n')


def _network(place: Place) -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(place.work / "addresses"),
    }
    bridge = {
        "type": "bridge", "bridge": POD_BRIDGE, "isGateway": True, "ipMasq": True, "hairpinMode": True, "mtu": smallest_mtu(),
        "ipam": addresses,
    }  # fmt: skip
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": CNI_NETWORK, "plugins": [bridge, ports]}


def _ctr(place: Place, programs: Programs, *argv: str, check: bool = True) -> bool:
    return run(_command(place, programs, *argv), check=check).returncode == 0


def _command(place: Place, programs: Programs, *argv: str) -> list[str | Path]:
    return [programs.path("ctr"), "--address", place.containerd_socket, "--namespace", "k8s.io", *argv]


def _runc() -> str:
    found = find("runc")
    if found is None:
        raise MissingPart("runc", "Install the package runc.")
    return found
