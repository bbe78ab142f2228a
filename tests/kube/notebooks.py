"""What a notebook needs on the node, as builder and service make it: an image with an environment, a home, a Secret, the hub's rights."""

import gzip
import hashlib
import io
import platform
import tarfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration

from moorage.wire import NotebookAdmission, PodPlace
from moorage_images.oci.append import PART, Changes, OwnLayer, append
from moorage_images.oci.connection import Connection
from moorage_images.oci.image import Descriptor
from moorage_images.oci.reference import parse
from moorage_images.oci.registry import Registry
from tests.kube.images import ARCHITECTURES
from tests.kube.namespace import Namespace
from tests.kube.node import Node

ENVIRONMENT = "0123abcd"
GZIPPED = "application/vnd.oci.image.layer.v1.tar+gzip"
HUBS_RULES = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "delete"]},
    {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["get", "list", "watch"]},
]  # as the chart's role of the spawner


def environment_image(node: Node, notebook: str, folder: Path) -> str:
    """The notebook image with an environment on it, whose Python is the server's own; by digest."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        link = tarfile.TarInfo(f"opt/moorage/environments/{ENVIRONMENT}")
        link.type, link.linkname = tarfile.SYMTYPE, "/opt/moorage/server"
        tar.addfile(link)
    packed = gzip.compress(content.getvalue(), mtime=0)
    path = folder / "layer.tar.gz"
    path.write_bytes(packed)
    descriptor = Descriptor(media_type=GZIPPED, digest=_digest(packed), size=len(packed), annotations={PART: "rest"})
    layer = OwnLayer(descriptor=descriptor, diff_id=_digest(content.getvalue()), source=path)
    changes = Changes(environment=ENVIRONMENT, prefix=PurePosixPath(f"/opt/moorage/environments/{ENVIRONMENT}"))
    target = parse(f"{node.registry}/moorage/tide:{ENVIRONMENT}")
    with Connection({}, plain_http=[node.registry]) as connection:
        made = append(
            Registry(connection), parse(notebook), [layer], target, changes, architecture=ARCHITECTURES[platform.machine()]
        )  # fmt: skip
    return f"{node.registry}/moorage/tide@{made.reference.digest}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def admission(namespace: Namespace, image: str) -> NotebookAdmission:
    """Home and Secret are made; the token is what the fake service takes."""
    namespace.claim("home")
    namespace.kubectl.apply(
        namespace.manifest("Secret", "nb", stringData={"token": "workload-token", "key": "of-the-user"})
    )
    place = PodPlace(
        namespace=namespace.name, image=image, home_claim="home", secret_name="nb", owner="us-1",
        secret_variables={"MOORAGE_TOKEN": "token", "API_KEY": "key"},
    )  # fmt: skip
    return NotebookAdmission(
        workload_id="nb", generation=1, token="", project="tide", environment=ENVIRONMENT, environment_path="", project_files=None,
        home="", uid=None, gid=None, pod=place,
    )  # fmt: skip


def elsewhere(found: NotebookAdmission, image: str) -> NotebookAdmission:
    assert found.pod is not None
    return replace(found, pod=replace(found.pod, image=image))


async def as_the_hub(namespace: Namespace) -> ApiClient:
    """A client with the hub's rights in this namespace, and none elsewhere. Close it."""
    namespace.kubectl.apply(
        namespace.manifest("ServiceAccount", "hub"),
        namespace.manifest("Role", "spawner", version="rbac.authorization.k8s.io/v1", rules=HUBS_RULES),
        namespace.manifest(
            "RoleBinding", "hub", version="rbac.authorization.k8s.io/v1",
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "spawner"},
            subjects=[{"kind": "ServiceAccount", "name": "hub", "namespace": namespace.name}],
        ),
    )  # fmt: skip
    token = namespace.kubectl("create", "token", "hub", "-n", namespace.name).strip()
    configuration = Configuration()
    await config.load_kube_config(config_file=str(namespace.node.kubeconfig), client_configuration=configuration)
    configuration.cert_file = configuration.key_file = None  # the admin's
    configuration.api_key = {"BearerToken": f"Bearer {token}"}
    configuration.connection_pool_maxsize = 0
    return ApiClient(configuration)
