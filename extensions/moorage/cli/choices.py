"""Reading what a person wrote on a command line. Everything raises InvalidInput: field, value, remedy."""

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar, get_args

from moorage import wire
from moorage.cluster import make_spec
from moorage.errors import InvalidInput, NotFound
from moorage.quantities import InvalidQuantity, parse_count, parse_cpu, parse_memory
from moorage.wire.clusters import OnNotebookEnd

_CLUSTER = "engine:least-most:cpu:memory[:gpus[:type]], such as ray:1-2:1:2GiB"
_DURATION = re.compile(r"([0-9]{1,9})(s|min|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


class Named(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def pick(there: Sequence[N], wanted: str, what: str) -> N:
    """The one with this id or name; of several with the same name, the first (the newest)."""
    for one in there:
        if one.id == wanted:
            return one
    for one in there:
        if one.name == wanted:
            return one
    names = ", ".join(dict.fromkeys(one.name for one in there)) or "none"
    raise NotFound(f"There is no {what} {wanted!r} here. There are: {names}.", status=404)


def parse_cluster(text: str) -> wire.ClusterSpec:
    """ "ray:1-2:1:2GiB" or "dask:4:2:8GiB:1:a100"."""
    parts = text.split(":")
    if not 4 <= len(parts) <= 6:
        raise InvalidInput(f"cluster {text!r} is not understood; write {_CLUSTER}.", field="cluster")
    least, _, most = parts[1].partition("-")
    try:
        workers = (parse_count(least, "cluster workers"), parse_count(most or least, "cluster workers"))
        gpu = parse_count(parts[4], "cluster gpus") if len(parts) > 4 else 0
    except InvalidQuantity as error:
        raise InvalidInput(f"{str(error).rstrip('.')}: {_CLUSTER}.", field="cluster") from error
    engine: Any = parts[0]  # make_spec refuses what is no engine
    return make_spec(engine, workers, parts[2], parts[3], gpu, parts[5] if len(parts) > 5 else None)


def parse_ending(text: str | None) -> OnNotebookEnd | None:
    """What becomes of a cluster when its notebook ends."""
    if text is None:
        return None
    for known in get_args(OnNotebookEnd):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise InvalidInput(f"on-notebook-end {text!r} is neither; write stop or keep.", field="on_notebook_end")


def parse_size(cpu: str, memory: str, gpu: int = 0, gpu_type: str | None = None) -> wire.Size:
    try:
        return wire.Size(cpu=parse_cpu(cpu), memory=parse_memory(memory), gpu=gpu, gpu_type=gpu_type)
    except InvalidQuantity as error:
        raise InvalidInput(str(error)) from error


def parse_amount(resource: str, text: str) -> float:
    """The amount of a limit in its resource's unit: memory with a unit, everything else a number."""
    try:
        if resource == "memory":
            return 0.0 if text.strip() == "0" else float(parse_memory(text, "amount"))
        if resource == "cpu" and text.strip() != "0":
            return parse_cpu(text, "amount")
        return float(parse_count(text, "amount"))
    except InvalidQuantity as error:
        raise InvalidInput(str(error), field="amount") from error


def parse_duration(text: str, field: str) -> int:
    """Seconds of "30d", "12h", "90min", "600s"."""
    match = _DURATION.fullmatch(text.strip().lower())
    if not match or int(match[1]) == 0:
        raise InvalidInput(f"{field} {text!r} is no duration; write one such as 7d, 12h, 30min or 600s.", field=field)
    return int(match[1]) * _SECONDS[match[2]]


def parse_pairs(pairs: Iterable[str], option: str) -> dict[str, str]:
    """ "name=value" texts as a dict."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise InvalidInput(f"{option} {pair!r} lacks a name or a value; write {option} name=value.", field=option)
        found[name.strip()] = value
    return found


def read_secret(name: str, *, ask: bool) -> str:
    """A secret's value from standard input, or typed unseen. Never from the command line, which others can see."""
    import getpass

    value = getpass.getpass(f"Value of {name}: ") if ask else sys.stdin.read().removesuffix("\n")
    if not value:
        raise InvalidInput(
            f"The value of {name} is empty. Type it, or pipe it in: echo -n ... | moorage secret set {name}"
        )
    return value
