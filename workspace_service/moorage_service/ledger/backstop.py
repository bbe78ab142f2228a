"""The quota of a user's namespace: the backstop behind the ledger, for what would get past it."""

from collections.abc import Mapping

from sqlalchemy.orm import Session

from moorage_service.ledger.admission import owner_of, rules
from moorage_service.ledger.inventory import Capacity
from moorage_service.ledger.limits import applies
from moorage_service.store.tables import UserRow
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from moorage_spawners.launch.pod_parts import PodSettings


def hard_quota(session: Session, settings: KubernetesSettings, user: UserRow) -> dict[str, str]:
    """`hard` of the ResourceQuota: the least of what the user may hold at once in all projects; what the chart says goes before that."""
    owner = owner_of(session, user.id, "")
    bounds: dict[str, int] = {}
    for rule in rules(session, Capacity({})):
        shared = (
            rule.sharing == "pool" and rule.scope != "user"
        )  # what others hold counts, too: the ledger's alone to know
        if rule.window_s is None and not shared and rule.scope != "project" and applies(rule, owner):
            bounds[rule.resource] = min(rule.amount, bounds.get(rule.resource, rule.amount))
    named = {"cpu": ("requests.cpu", "m"), "memory": ("requests.memory", "")}
    from_limits = {named[each][0]: f"{bounds[each]}{named[each][1]}" for each in named if each in bounds}
    chart = {name: str(amount) for name, amount in settings.quota.items()}
    return {**from_limits, **_of_gpus(settings, bounds), **chart}


def _of_gpus(settings: KubernetesSettings, bounds: Mapping[str, int]) -> dict[str, str]:
    """A quota knows resources, not types: what all types of one resource may be together, if each of them has a limit."""
    usual = PodSettings.gpu_resource
    hard: dict[str, str] = {}
    for resource in sorted({usual, *(each.resource for each in settings.gpu_types.values())}):
        types = [f"gpu:{name}" for name, each in settings.gpu_types.items() if each.resource == resource]
        together = [bounds["gpu"]] if "gpu" in bounds else []
        if types and all(name in bounds for name in types):
            together.append(sum(bounds[name] for name in types))
        if together:
            hard[f"requests.{resource}"] = str(min(together))
    return hard
