"""Nothing that a person may choose changes more of a pod than its own place in it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from moorage.wire import Size
from moorage_spawners.launch.errors import ManifestError
from moorage_spawners.launch.labels import Ownership
from moorage_spawners.launch.pod_parts import PodSettings, literal
from moorage_spawners.launch.pods import PodSpec, manifest
from tests.fakes.pod_security import violations

IMAGE = "registry.example.org/tide/env@sha256:" + "0" * 64
# Of a pod only these may differ; what is in them is checked where it is made.
OPEN = {
    ("metadata", "labels"),
    ("metadata", "annotations"),
    ("container", "command"),
    ("container", "env"),
    ("container", "resources"),
}
texts = st.text(max_size=40) | st.sampled_from(
    [
        "hostPath",
        "../../etc",
        "privileged: true",
        "$(KUBERNETES)",
        '{"securityContext": null}',
        "a\nb: c",
        "system:masters",
    ]
)


def pod(owner: str, project: str, argv: tuple[str, ...], env: dict[str, str], size: Size) -> dict[str, Any]:
    whose = Ownership(workload_id="nb-1", generation=1, kind="notebook", role="server", owner=owner, project=project)
    spec = PodSpec(
        ownership=whose, namespace="ns", image=IMAGE, argv=argv, env=env, size=size, home="/home/user", shm=1 << 20
    )
    return manifest(spec, PodSettings())


def closed(made: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """What nobody may choose."""
    body = {**made["spec"]}
    (container,) = body.pop("containers")
    parts = {"metadata": made["metadata"], "container": container, "spec": body}
    return {
        (part, name): value
        for part, fields in parts.items()
        for name, value in fields.items()
        if (part, name) not in OPEN
    }


TEMPLATE = closed(pod("ada", "tide", ("python",), {}, Size(cpu=1, memory=1 << 30)))


@given(
    texts,
    texts,
    st.lists(texts, max_size=3),
    st.dictionaries(texts, texts, max_size=3),
    st.builds(Size, cpu=st.floats(), memory=st.integers(), gpu=st.integers(), gpu_type=st.none() | texts),
)
def test_whatever_is_asked_the_rest_of_the_pod_stays(
    owner: str, project: str, argv: list[str], env: dict[str, str], size: Size
) -> None:
    try:
        made = pod(owner, project, ("python", *argv), env, size)
    except ManifestError:
        return
    assert closed(made) == TEMPLATE
    assert violations(made["spec"]) == []
    resources = made["spec"]["containers"][0]["resources"]
    assert {name for kind in resources.values() for name in kind} <= {
        "cpu",
        "memory",
        "ephemeral-storage",
        "nvidia.com/gpu",
    }


def expand(text: str, variables: dict[str, str]) -> str:
    """What the kubelet makes of a value: k8s.io/kubernetes/third_party/forked/golang/expansion."""
    out, at = "", 0
    while at < len(text):
        if text[at] != "$" or at + 1 == len(text):
            out, at = out + text[at], at + 1
        elif text[at + 1] == "$":
            out, at = out + "$", at + 2
        elif text[at + 1] == "(" and ")" in text[at:]:
            name = text[at + 2 : text.index(")", at)]
            out, at = out + variables.get(name, f"$({name})"), at + len(name) + 3
        else:
            out, at = out + text[at : at + 2], at + 2
    return out


@given(st.text(alphabet="$()HOME ab", max_size=30))
def test_a_value_reaches_the_process_as_it_was_given(value: str) -> None:
    assert expand(literal(value), {"HOME": "/etc", "": "x"}) == value
