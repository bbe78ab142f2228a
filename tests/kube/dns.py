"""CoreDNS, on the machine itself: the cluster's names, and for all others whom the machine asks."""

from tests.kube.daemons import Daemons
from tests.kube.kubectl import Kubectl
from tests.kube.place import ADDRESS, DNS_READY_PORT, DNS_SERVICE, Place
from tests.kube.programs import Programs

# No cache: a test that makes a Service asks for its name at once, and again.
COREFILE = """\
.:53 {{
  bind {address}
  errors
  ready {address}:{ready}
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
  }}
  forward . /etc/resolv.conf
}}
"""
LABELS = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}


def start_dns(daemons: Daemons, place: Place, programs: Programs) -> None:
    corefile = place.work / "Corefile"
    corefile.write_text(COREFILE.format(address=ADDRESS, ready=DNS_READY_PORT, kubeconfig=place.kubeconfig))
    daemons.start("coredns", [programs.path("coredns"), "-conf", corefile])


def publish_dns(kubectl: Kubectl) -> None:
    """The Service that pods ask. It selects no pods: its end is the machine."""
    metadata = {"name": "kube-dns", "namespace": "kube-system", "labels": LABELS}
    protocols = {"dns": "UDP", "dns-tcp": "TCP"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": DNS_SERVICE,
            "ports": [{"name": name, "port": 53, "protocol": protocol} for name, protocol in protocols.items()],
        },
    }
    ends = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}],
        "ports": [{"name": name, "port": 53, "protocol": protocol} for name, protocol in protocols.items()],
    }
    kubectl.apply(service, ends)
