"""A notebook's pod: made of what was admitted, and read again when it runs already. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moorage.wire import NotebookAdmission, PodPlace, Size
from moorage_spawners import server
from moorage_spawners.launch.errors import ManifestError
from moorage_spawners.launch.labels import Ownership
from moorage_spawners.launch.names import pod_name
from moorage_spawners.launch.observed import now_utc, observe
from moorage_spawners.launch.pod_view import address_of
from moorage_spawners.launch.pods import ENVIRONMENTS, PodSpec, Readiness
from moorage_spawners.launch.types import Object
from moorage_spawners.project import KIND, ROLE
from moorage_spawners.readiness import NotReady

# Where the notebook image has things.
PYTHON = "/opt/moorage/server/bin/python"
SCRATCH = "/run/moorage"  # the server's own files: it runs though the home is full
JUPYTER, RUNTIME = f"{SCRATCH}/jupyter", f"{SCRATCH}/runtime"
HUB_TOKEN = "JUPYTERHUB_API_TOKEN"  # noqa: S105 - the variable's name


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What is the same for all notebooks. `home`: where a pod has its user's; `start_within_s`: until its first answer."""

    addresses: server.Addresses
    home: str
    uid: int
    gid: int
    port: int
    start_within_s: int
    grace_s: int
    session_check_s: float


def place_of(admission: NotebookAdmission) -> PodPlace:
    if admission.pod is None:
        raise ManifestError(
            "The service said nothing of a pod: hub and service are set up for different platforms. Tell an admin."
        )
    return admission.pod


def spec(
    admission: NotebookAdmission, size: Size, *, user: str, hub: Mapping[str, str], base_url: str, here: Installation
) -> PodSpec:
    """`hub`: the variables that the hub gives its servers; `base_url`: the server's path. Raises ManifestError."""
    place = place_of(admission)
    environment = f"{ENVIRONMENTS}/{admission.environment}"
    # Secrets come by reference alone: whoever may read a pod could read them in it.
    inside = replace(admission, home=here.home, environment_path=environment, environment_variables={})
    env = server.environment(hub, inside, user, here.addresses, Path(JUPYTER), Path(RUNTIME))
    del env["MOORAGE_TOKEN"]  # comes from the Secret
    del env["SHELL"]  # the pod's own
    if size.gpu:
        del env["CUDA_VISIBLE_DEVICES"]  # Kubernetes says which
    else:
        env["NVIDIA_VISIBLE_DEVICES"] = "void"  # else an image made for GPUs would be shown all of its machine
    return PodSpec(
        ownership=Ownership(
            workload_id=admission.workload_id, generation=admission.generation, kind=KIND, role=ROLE, owner=place.owner,
            project=admission.project,
        ),
        namespace=place.namespace, image=place.image, argv=_argv(admission.project, environment, here), env=env, size=size,
        home=here.home, home_claim=place.home_claim, secret_name=place.secret_name,
        secret_env={name: key for name, key in place.secret_variables.items() if name not in env},
        uid=here.uid, gid=here.gid, scratch_paths=(SCRATCH,), ports={"notebook": here.port}, grace_s=here.grace_s,
        readiness=Readiness(port=here.port, path=f"{base_url}api", within_s=here.start_within_s),
    )  # fmt: skip


def _argv(project: str, environment: str, here: Installation) -> tuple[str, ...]:
    """The pod's first program, which becomes the server: `moorage.notebook`. Tini takes in what others leave behind."""
    return (
        "tini", "--", PYTHON, "-I", "-m", "moorage.notebook", "--home", here.home, "--project", project,
        "--environment", environment, "--jupyter", JUPYTER, "--runtime", RUNTIME,
        "--session-check-s", f"{here.session_check_s:g}",
    )  # fmt: skip


@dataclass(frozen=True)
class RunningPod:
    """A notebook that runs already: its pod, where it listens, and by which token the hub knows it."""

    name: str
    address: str
    hub_token: str

    @staticmethod
    def among(pods: Sequence[Object], admission: NotebookAdmission) -> "RunningPod":
        """Of the workload's pods the one of the admitted generation. Raises NotReady when it does not run, or hides its token."""
        name = pod_name(admission.workload_id, admission.generation)
        pod = next((each for each in pods if each["metadata"]["name"] == name), None)
        seen = None if pod is None else observe(pod, now_utc())
        if pod is None or seen is None or seen.state != "running" or pod["metadata"].get("deletionTimestamp"):
            raise NotReady("It does not run, or ended in this moment.")
        address = address_of(pod)
        tokens = [
            str(variable.get("value") or "")
            for container in (pod.get("spec") or {}).get("containers") or ()
            for variable in container.get("env") or ()
            if variable.get("name") == HUB_TOKEN
        ]
        if address is None or len(tokens) != 1 or not tokens[0]:
            raise NotReady("Its address, or its token for the hub, can't be found.")
        return RunningPod(name, address, tokens[0].replace("$$", "$"))
