"""What the health page says of an installation on Kubernetes, beside what is the same everywhere."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx

from moorage.wire import Part
from moorage_service.context import Context
from moorage_service.watch import answers
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings

if TYPE_CHECKING:
    from moorage_spawners.launch.pod_processes import PodProcesses

LOG = "The log of the service's pod"
ROOM = "Make room, or enlarge its volume, before builds fail."
PROXY_PORT = 8000  # of the proxy's pods
UNTOLD = (
    "The service was not told of its cluster: the part `kubernetes` of its settings is missing. The chart writes it; "
    "`helm upgrade` with this release's chart."
)


def parts(context: Context) -> Iterator[Part]:
    """Of the cluster itself, then of what serves there."""
    told = context.settings.kubernetes
    if told is None:
        yield Part(name="platform", ok=False, says=UNTOLD)
        return
    yield Part(name="platform", ok=True, says=f"Kubernetes. {_namespaces(told)}")
    if context.pods is not None:
        yield _watch(context.pods, told.watch.stale_s)
    yield _proxy(context, told)
    yield _builder(context, told)


def _namespaces(told: KubernetesSettings) -> str:
    if told.namespaces:
        return f"Workloads run in the namespaces {', '.join(f'`{each}`' for each in told.namespaces)}"
    return f"Each user's workloads run in a namespace of their own, `{told.namespace_prefix}-...`"


def _watch(pods: "PodProcesses", stale_s: float) -> Part:
    """What is decided about workloads is decided by what was heard of their pods, and nothing when that is too old."""
    age, trouble = pods.heard_of()
    ok = trouble is None and age <= stale_s
    heard = "never heard of so far" if math.isinf(age) else f"last heard of {age:.0f} s ago"
    says = f"The cluster was {heard}" + (f". {trouble}" if trouble else "")
    return Part(name="watch", ok=ok, says=says)


def _proxy(context: Context, told: KubernetesSettings) -> Part:
    """By the name that leads to its pods: what stands in front of them may be out of our reach."""
    return answers.of_proxy(httpx.URL(f"http://{told.proxy_pods}:{PROXY_PORT}"), httpx.URL(context.settings.public_url))


def _builder(context: Context, told: KubernetesSettings) -> Part:
    if not told.registry.url:
        says = (
            "No registry is set, so no environment can be built. Set `registry.url` in the chart's values, and "
            "`registry.pushSecret` if pushing needs a password."
        )
        return Part(name="builder", ok=False, says=says)
    part = answers.of_builder(context)
    return Part(name=part.name, ok=part.ok, says=f"{part.says}; images are kept in `{told.registry.url}`")


def advice(context: Context) -> Iterator[str]:
    if context.settings.origins == "one":
        yield (
            "All users' notebooks share one origin with the portal, so a page of one user's notebook can act as whoever opens it. "
            "Give the chart's `publicUrl`, or its Ingress, a name with wildcard DNS and set `origins: per-user`."
        )
