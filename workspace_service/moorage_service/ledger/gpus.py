"""Which devices a claim gets: those of the asked type first, then any whose type the limits leave to its owner."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moorage_service.errors import BadRequest
from moorage_service.ledger.inventory import Capacity
from moorage_service.ledger.limits import Rule, Standing
from moorage_service.ledger.resources import Amounts


@dataclass(frozen=True)
class Lease:
    """`devices` may be fewer than asked: then a rule refuses, `short_of` where it is a rule about one type."""

    devices: list[str]
    amounts: Amounts  # what is asked, with the types of all devices: "gpu": 2 -> "gpu": 2, "gpu:h200": 2
    short_of: str | None = None


def choose(capacity: Capacity, taken: Iterable[str], asked: Amounts, found: Sequence[Standing]) -> Lease:
    """`found`: the rules that apply to the owner, as they stand. Pure."""
    if capacity.cluster:
        kinds = {f"gpu:{each}" for each in capacity.gpu_types}
        only = {next(iter(kinds)): asked["gpu"]} if "gpu" in asked and len(kinds) == 1 else {}
        return Lease([], {**asked, **only})
    used = set(taken)
    free = [device for device in capacity.gpus if device not in used]
    left: dict[str, int] = {}
    for each in found:
        resource = each.rule.resource
        if resource.startswith("gpu:") and each.rule.window_s is None:
            left[resource] = min(left.get(resource, each.left), each.left)
    devices = [
        device
        for resource, count in asked.items()
        if resource.startswith("gpu:")
        for device in [each for each in free if type_of(capacity, each) == resource][:count]
    ]
    amounts = dict(asked)
    short_of = None
    for device in [each for each in free if each not in devices]:
        if len(devices) >= asked.get("gpu", 0):
            break
        resource = type_of(capacity, device)
        if amounts.get(resource, 0) < left.get(resource, 1 << 60):
            devices.append(device)
            amounts[resource] = amounts.get(resource, 0) + 1
        else:
            short_of = resource
    if short_of is not None and len(devices) < asked.get("gpu", 0):
        amounts[short_of] = amounts.get(short_of, 0) + asked["gpu"] - len(devices)
        return Lease(devices, amounts, short_of)
    return Lease(devices, amounts)


def type_of(capacity: Capacity, device: str) -> str:
    return f"gpu:{capacity.gpus[device]}"


def absent_types(capacity: Capacity, asked: Amounts) -> list[Rule]:
    """A type of GPU that there is none of is a rule as well: 0 of them are lent."""
    there = listed(capacity)
    advice = f"The GPU types here: {there}. Ask for one of them." if there else "There are no GPUs here: ask for none."
    return [
        Rule(
            id=f"machine-{name}",
            scope="machine",
            scope_id=None,
            scope_name=whole(capacity),
            sharing="pool",
            resource=name,
            amount=0,
            advice=advice,
        )
        for name in asked
        if name.startswith("gpu:") and name.removeprefix("gpu:") not in capacity.gpu_types
    ]


def by_type_only(capacity: Capacity, bounded: Iterable[str]) -> bool:
    """Whether a GPU must be asked for by type. `bounded`: the resources of the rules that apply.

    A cluster chooses the device itself, after admission, so limits by type would bound nobody who names none.
    """
    return capacity.cluster and len(capacity.gpu_types) > 1 and any(each.startswith("gpu:") for each in bounded)


def refuse_untyped(capacity: Capacity, asked: Amounts, found: Sequence[Standing]) -> None:
    """Raises BadRequest."""
    typed = sum(units for name, units in asked.items() if name.startswith("gpu:"))
    if asked.get("gpu", 0) > typed and by_type_only(capacity, (each.rule.resource for each in found)):
        raise BadRequest(
            f"gpu_type: which type of GPU? There are limits by type here, so choose one of {listed(capacity)}.",
            field="gpu_type",
        )


def listed(capacity: Capacity) -> str:
    return ", ".join(sorted(capacity.gpu_types))


def whole(capacity: Capacity) -> str:
    """What lends all this, in words."""
    return "this cluster" if capacity.cluster else "this machine"
