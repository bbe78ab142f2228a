"""The node's parts that Debian packages: installed by apt-get where they are missing and this process may install them."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kube.commands import find, run
from tests.kube.errors import MissingPart

# What is looked for, by name or path, and the Debian package that brings it.
PACKAGES = {
    "etcd": "etcd-server",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",  # kube-proxy ends connections to what is gone with it
    "nft": "nftables",
    "ip": "iproute2",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "mmdebstrap": "mmdebstrap",
    "docker-registry": "docker-registry",
    "unshare": "util-linux",
    "mount": "mount",
}
START_POLICY = Path("/usr/sbin/policy-rc.d")


def ensure_packages() -> None:
    """Raises MissingPart naming the programs when they can't be installed here."""
    _require_this_machine()
    missing = [program for program in PACKAGES if find(program) is None]
    if not missing:
        return
    packages = sorted({PACKAGES[program] for program in missing})
    if find("apt-get") is None:
        raise MissingPart(
            ", ".join(missing), f"Install what Debian calls {' '.join(packages)}; there is no apt-get here."
        )
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    with _nothing_started():
        run(["apt-get", "update", "-qq"], env=env)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=env)
    still = [program for program in missing if find(program) is None]
    if still:
        raise MissingPart(", ".join(still), f"apt-get installed {' '.join(packages)}, which do not bring it here.")


def _require_this_machine() -> None:
    if platform.system() != "Linux":
        raise MissingPart("Linux", "A node needs its kernel: use a Linux machine or virtual machine.")
    if os.geteuid() != 0:
        raise MissingPart(
            "root",
            "A node makes bridges, mounts and cgroups: run the tests as root, for example in a container with its rights.",
        )
    if not Path("/sys/fs/cgroup").is_dir() or not os.access("/sys/fs/cgroup", os.W_OK):
        raise MissingPart(
            "a writable /sys/fs/cgroup",
            "Mount the cgroup file systems there, or run with --cgroupns=host and --privileged.",
        )
    if (
        "\toverlay\n" not in Path("/proc/filesystems").read_text()
        and run(["modprobe", "-q", "overlay"], check=False).returncode
    ):
        raise MissingPart("overlayfs", "Load the kernel's module `overlay`, or use a kernel that has it.")


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Packages of daemons start them on a machine with an init system; ours are started by us alone."""
    if START_POLICY.exists():  # the machine's own policy, which is not ours to change
        yield
        return
    START_POLICY.write_text("#!/bin/sh\nexit 101\n")
    START_POLICY.chmod(0o755)
    try:
        yield
    finally:
        START_POLICY.unlink(missing_ok=True)
