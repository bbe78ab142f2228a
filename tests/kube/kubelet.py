"""The kubelet and kube-proxy: what makes the machine a node."""

import json
from typing import Any

from tests.kube.daemons import Daemons
from tests.kube.place import ADDRESS, CGROUP, DNS_SERVICE, NODE_NAME, PODS, Place
from tests.kube.programs import Programs


def start_kubelet(daemons: Daemons, place: Place, programs: Programs) -> None:
    """In containerd's mount namespace, or neither would see what the other mounts."""
    config = place.work / "kubelet.json"
    config.write_text(json.dumps(_configuration(place), indent=1))
    argv = [
        "nsenter", f"--target={daemons['containerd'].pid}", "--mount", "--",
        *programs.kubernetes("kubelet"), f"--config={config}", f"--kubeconfig={place.kubeconfig_of('kubelet')}",
        f"--root-dir={place.work / 'kubelet'}", f"--hostname-override={NODE_NAME}", f"--node-ip={ADDRESS}",
    ]  # fmt: skip
    daemons.start("kubelet", argv)


def start_proxy(daemons: Daemons, place: Place, programs: Programs) -> None:
    """It leaves the kernel's settings for connections alone: they are the machine's."""
    argv = [
        *programs.kubernetes("kube-proxy"),
        f"--kubeconfig={place.kubeconfig_of('proxy')}",
        f"--hostname-override={NODE_NAME}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={PODS}",
        f"--nodeport-addresses={ADDRESS}/32",
        "--iptables-localhost-nodeports=false",
        "--iptables-min-sync-period=100ms",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
        "--oom-score-adj=0",
        "--bind-address-hard-fail=true",
        "--healthz-bind-address=127.0.0.1:10256",
        "--metrics-bind-address=127.0.0.1:10249",
    ]
    daemons.start("kube-proxy", argv)


def _configuration(place: Place) -> dict[str, Any]:
    pki = place.pki
    resolv = place.work / "resolv.conf"  # the machine's may lie below /run, which the kubelet does not see
    resolv.write_text(f"nameserver {ADDRESS}\n")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "tlsCertFile": f"{pki}/serving.crt",
        "tlsPrivateKeyFile": f"{pki}/serving.key",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{place.containerd_socket}",
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolv),
        "podLogsDir": str(place.work / "pod-logs"),
        "volumePluginDir": str(place.work / "volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": ["pods"],
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        # The machine's disk is not ours alone: nobody is evicted, and no image collected, before it is really full.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "2%", "nodefs.available": "2%", "nodefs.inodesFree": "2%", "imagefs.available": "2%",
        },
        "singleProcessOOMKill": True,  # as with control groups of version 1, where it can't be otherwise
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "serializeImagePulls": False,
    }  # fmt: skip
