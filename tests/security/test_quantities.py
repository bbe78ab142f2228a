"""An amount is read by one rule at every door: refused, or within what a machine can have. Never a traceback, never a guess."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from moorage.cli.choices import parse_amount, parse_cluster, parse_size
from moorage.cluster import make_spec
from moorage.errors import InvalidInput
from moorage.quantities import MOST
from moorage.wire import ClusterSpec, LimitRequest, Size
from moorage_images.errors import ManifestError
from moorage_images.manifest import parse
from moorage_service.clusters import specs
from moorage_service.errors import BadRequest
from moorage_service.ledger.resources import Amounts, of_size, to_units
from moorage_service.portal import forms
from moorage_spawners.options import BadOption, read_options
from tests.security.examples import examples

GIB = 1 << 30
REFUSALS = (InvalidInput, BadOption, BadRequest, ManifestError, ValidationError)
SIZE = TypeAdapter(Size)
LIMIT = TypeAdapter(LimitRequest)


def manifest(cpu: Any = "1", memory: Any = "2GiB", gpu: Any = "0") -> Size:
    text = f"name: x\nclusters: {{ray: {{worker: {{cpu: {cpu}, memory: {memory}, gpu: {gpu}}}}}}}\n"
    return parse(text, ["3.11"]).clusters["ray"].worker


# Door -> what it makes of one amount in text. All lead to the ledger's own gate, `of_size`.
CPU_DOORS: dict[str, Callable[[str], Size]] = {
    "client": lambda text: make_spec("ray", 1, text, "2GiB").worker,
    "command line": lambda text: parse_size(text, "2GiB"),
    "command line's cluster": lambda text: parse_cluster(f"ray:1:{text}:2GiB").worker,
    "hub": lambda text: read_options({"cpu": text}, "p", Size(cpu=0, memory=GIB)).size,
    "form": lambda text: forms.size(cpu=text, memory_gib="2"),
    "moorage.yaml": lambda text: manifest(cpu=f"{text!r}"),
}
MEMORY_DOORS: dict[str, Callable[[str], Size]] = {
    "client": lambda text: make_spec("ray", 1, 1, text).worker,
    "command line": lambda text: parse_size("1", text),
    "hub": lambda text: read_options({"memory": text or "?"}, "p", Size(cpu=1, memory=0)).size,
    "form": lambda text: forms.size(cpu="1", memory_gib=text),
    "moorage.yaml": lambda text: manifest(memory=f"{text!r}"),
}
GPU_DOORS: dict[str, Callable[[str], Size]] = {
    "command line's cluster": lambda text: parse_cluster(f"ray:1:1:2GiB:{text}").worker,
    "hub": lambda text: read_options({"gpu": text or "?"}, "p", Size(cpu=1, memory=GIB)).size,
    "form": lambda text: forms.size(cpu="1", memory_gib="2", gpu=text if text.strip() else "?"),
    "moorage.yaml": lambda text: manifest(gpu=f"{text!r}"),
}
NO_AMOUNT = [
    "-1", "1e9", "1E9", "0x10", "1_000", "nan", "NaN", "inf", "-inf", "1Ei", "1e400", "9" * 400, "9" * 5000, "", " ", "+1", "1;2", "1 2",
    "\u00b2", "\u0661", "\u00bd", "1\u200b", "1\0", "\u066b5", "--1", "1..2", ".", "None", "true", "1GiB2GiB", "1/2", "-0.5m", "1mm",
    "1\x1f", "1Gi\u0130b", "__import__('os')",
]  # fmt: skip


@pytest.mark.parametrize("text", [*NO_AMOUNT, "0", "0.0", "0m"])
@pytest.mark.parametrize("door", CPU_DOORS)
def test_cores_that_are_none_are_refused_at_every_door(door: str, text: str) -> None:
    refused(lambda: of_size(CPU_DOORS[door](text)))


@pytest.mark.parametrize(
    "text", [*NO_AMOUNT, "0", "0GiB", "0.0000000001B", "1.5.5GiB", "GiB", "1EiB", "999999999999TiB"]
)
@pytest.mark.parametrize("door", MEMORY_DOORS)
def test_memory_that_is_none_is_refused_at_every_door(door: str, text: str) -> None:
    refused(lambda: of_size(MEMORY_DOORS[door](text)))


@pytest.mark.parametrize("text", [*NO_AMOUNT, "0.5", "1GiB"])
@pytest.mark.parametrize("door", GPU_DOORS)
def test_gpus_that_are_none_are_refused_at_every_door(door: str, text: str) -> None:
    refused(lambda: of_size(GPU_DOORS[door](text)))


def test_a_thousandth_of_a_core_is_read_and_too_little() -> None:
    for door, read in CPU_DOORS.items():
        refused(lambda read=read: of_size(read("0.5m")), door)  # type: ignore[misc]


def refused(ask: Callable[[], Any], told: str = "") -> None:
    with pytest.raises(REFUSALS) as caught:
        print(told, ask())
    assert 10 < len(str(caught.value)) < 6000


AMOUNTS = st.one_of(
    st.text(max_size=30),
    st.from_regex(r"\s*[-+]?[0-9]{0,25}([.,][0-9]{0,5})?([eE][-+]?[0-9]{1,4})?\s*[A-Za-z]{0,3}", fullmatch=True),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(NO_AMOUNT),
)


@examples(300)
@given(AMOUNTS)
@example("9" * 5000)
def test_whatever_is_written_an_amount_is_refused_or_bounded(text: str) -> None:
    for doors in (CPU_DOORS, MEMORY_DOORS, GPU_DOORS):
        for read in doors.values():
            try:
                amounts = of_size(read(text))
            except REFUSALS:
                continue
            assert all(0 <= units <= MOST for units in amounts.values()), text


JSON_NUMBERS = st.one_of(
    st.integers(), st.floats(), st.integers(min_value=-(10**400), max_value=10**400), st.booleans(), st.text(max_size=5)
)


@examples(300)
@given(JSON_NUMBERS, JSON_NUMBERS, JSON_NUMBERS)
@example(0.1, 1e308, 10**4000)
@example(float("nan"), 1, 1)
@example(True, True, True)
def test_whatever_number_comes_over_the_wire_is_refused_or_bounded(cpu: Any, memory: Any, gpu: Any) -> None:
    asks: tuple[Callable[[], Amounts], ...] = (
        lambda: of_size(SIZE.validate_python({"cpu": cpu, "memory": memory, "gpu": gpu}), count=1000),
        lambda: of_size(read_options({"cpu": cpu, "memory": memory, "gpu": gpu}, "p", Size(cpu=1, memory=GIB)).size),
    )
    for ask in asks:
        try:
            amounts = ask()
        except REFUSALS:
            continue
        assert all(0 <= units <= 1000 * MOST for units in amounts.values())


@examples(200)
@given(JSON_NUMBERS, JSON_NUMBERS)
@example(2**63, 1)
@example(1, 10**400)
def test_whatever_number_of_workers_is_asked_for_is_refused_or_bounded(least: Any, most: Any) -> None:
    body = {"engine": "ray", "min_workers": least, "max_workers": most, "worker": {"cpu": 1, "memory": 2 * GIB}}
    try:
        spec = TypeAdapter(ClusterSpec).validate_python(body)
        amounts = specs.check(spec, Size(cpu=1, memory=2 * GIB), max_workers=50, gpu_types=())
    except REFUSALS:
        return
    assert 0 <= spec.min_workers <= spec.max_workers <= 50
    assert amounts["cpu"] == 1000 * (spec.max_workers + 1)


@examples(300)
@given(JSON_NUMBERS, st.sampled_from(["cpu", "memory", "gpu", "gpu:a100", "clusters"]))
@example(float("nan"), "cpu")
@example(float("-inf"), "memory")
@example(10**400, "clusters")
def test_whatever_a_limit_is_set_to_is_refused_or_bounded(amount: Any, resource: str) -> None:
    try:
        asked = LIMIT.validate_python({"scope": "everyone", "resource": resource, "amount": amount})
        units = to_units(resource, asked.amount)
    except REFUSALS:
        return
    assert 0 <= units <= MOST


@examples(200)
@given(AMOUNTS, st.sampled_from(["cpu", "memory", "gpu", "clusters"]))
def test_whatever_is_written_for_a_limit_is_refused_or_bounded(text: str, resource: str) -> None:
    try:
        units = to_units(resource, parse_amount(resource, text))
    except REFUSALS:
        return
    assert 0 <= units <= MOST
