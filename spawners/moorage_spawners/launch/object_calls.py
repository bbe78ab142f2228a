"""Single objects of the API: made, kept as wanted, removed. Every call may be repeated.

All raise PodRefusedError with the reason, or Unanswered when nobody knows whether it was done: call again.
"""

import logging
from typing import NoReturn

from kubernetes_asyncio.client import ApiClient

from moorage_spawners.launch.api_objects import LONGEST_REPLY, Resource, Unanswered, send
from moorage_spawners.launch.errors import OtherOwnerError, PodRefusedError
from moorage_spawners.launch.labels import OWNER
from moorage_spawners.launch.reasons import refused
from moorage_spawners.launch.types import Object

log = logging.getLogger(__name__)
WITHIN_S = 15.0
_GROUPS = {
    "Namespace": "namespaces", "ResourceQuota": "resourcequotas", "LimitRange": "limitranges", "Pod": "pods",
    "NetworkPolicy": "networkpolicies", "RoleBinding": "rolebindings", "Secret": "secrets",
    "PersistentVolumeClaim": "persistentvolumeclaims",
}  # fmt: skip


async def make(api: ApiClient, wanted: Object) -> None:
    """What is there already stays as it is."""
    status, answer = await send(api, "POST", collection_of(wanted), wanted, within_s=WITHIN_S)
    if status == 409 and answer.get("reason") == "AlreadyExists":
        return
    if status not in (200, 201):
        raise_refused(status, answer)


async def make_own(api: ApiClient, wanted: Object) -> None:
    """One user's own: what is there already stays as it is, and must be theirs by its label. Raises OtherOwnerError, too."""
    await make(api, wanted)
    path, owner = path_of(wanted), wanted["metadata"]["labels"][OWNER]
    status, there = await send(api, "GET", path, None, within_s=WITHIN_S)
    if status == 404:
        raise Unanswered(f"{path} was there and is gone; asking again.")
    if status != 200:
        raise_refused(status, there)
    found = (there["metadata"].get("labels") or {}).get(OWNER)
    if found != owner:
        raise OtherOwnerError(_not_theirs(wanted, found))


def _not_theirs(wanted: Object, found: str | None) -> str:
    metadata = wanted["metadata"]
    namespace, name, owner = metadata["namespace"], metadata["name"], metadata["labels"][OWNER]
    label = f"kubectl --namespace {namespace} label persistentvolumeclaim {name} {OWNER}={owner} --overwrite"
    return (
        f"The home there is {f'of user {found}' if found else 'of nobody that Moorage knows'}, and you are user {owner}. It may be that "
        f"the store was lost: an admin puts back a copy of it, or, if the home is yours nevertheless, says so by `{label}`."
    )


async def keep(api: ApiClient, wanted: Object) -> None:
    """What is there already gets this content."""
    status, answer = await send(api, "POST", collection_of(wanted), wanted, within_s=WITHIN_S)
    if status == 409:
        status, answer = await send(api, "PUT", path_of(wanted), wanted, within_s=WITHIN_S)
    if status not in (200, 201):
        raise_refused(status, answer)


async def remove(api: ApiClient, there: Object, *, grace_s: int | None = None) -> None:
    """What is gone already is no error. `grace_s`: of a pod, between its being asked to end and its end."""
    options = {} if grace_s is None else {"gracePeriodSeconds": max(1, grace_s)}
    status, answer = await send(api, "DELETE", path_of(there), options, within_s=WITHIN_S)
    if status not in (200, 202, 404):
        raise_refused(status, answer)


async def list_of(api: ApiClient, kind: str, namespace: str, labels: str) -> list[Object]:
    """Those of the core API with these labels, as `remove` takes them; none when there is no such namespace. Raises Expired, too."""
    listing = await Resource(api, _GROUPS[kind], namespace=namespace, labels=labels).read_all(page_within_s=WITHIN_S)
    return [
        {"apiVersion": "v1", "kind": kind, **each} for each in listing.objects
    ]  # in a list they do not say what they are


def raise_refused(status: int, answer: Object) -> NoReturn:
    """The server's answer as an error."""
    said = str(answer.get("message") or "")
    reason = refused(status, said)
    log.info("the API server answered %d: %s", status, said[:LONGEST_REPLY])  # people are told in other words
    if status in (429, 500, 502, 503, 504):
        raise Unanswered(str(reason))
    raise PodRefusedError(reason.code, str(reason), waits=reason.waits)


def path_of(each: Object) -> str:
    return f"{collection_of(each)}/{each['metadata']['name']}"


def collection_of(each: Object) -> str:
    """Where objects of this kind are made."""
    version, namespace = each["apiVersion"], each["metadata"].get("namespace")
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return (
        f"{group}/namespaces/{namespace}/{_GROUPS[each['kind']]}" if namespace else f"{group}/{_GROUPS[each['kind']]}"
    )
