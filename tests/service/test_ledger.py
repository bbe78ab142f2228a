"""What the ledger admits and what it refuses, in which words, on both databases."""

from collections.abc import Iterator

import pytest

from moorage.wire import Refusal, Size, WorkloadKind
from moorage_service.errors import BadRequest, Conflict, LimitRefused, NotFound
from moorage_service.ledger import admission, operations
from moorage_service.ledger.inventory import Capacity, short_type
from moorage_service.ledger.resources import of_size, to_units
from moorage_service.settings import Settings
from moorage_service.store.database import Database
from moorage_service.store.tables import ProjectRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from tests.service.databases import each_database
from tests.service.ledger_rows import GIB, ROOM, Ledger

TWO_CPU = {"cpu": 2000, "memory": GIB}


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    database = Database(settings.sqlalchemy_url)
    database.migrate()
    with database.begin() as session:
        yield Ledger(session)
    database.close()


@pytest.fixture
def ada(ledger: Ledger) -> UserRow:
    return ledger.user("ada", "staff")


@pytest.fixture
def bob(ledger: Ledger) -> UserRow:
    return ledger.user("bob", "staff")


@pytest.fixture
def lab(ledger: Ledger) -> ProjectRow:
    return ledger.project("lab")


def refused(ledger: Ledger, user: UserRow, project: ProjectRow, amounts: dict[str, int], **given: bool) -> Refusal:
    with pytest.raises(LimitRefused) as caught:
        ledger.claim(user, project, amounts, **given)  # type: ignore[arg-type]
    return caught.value.refusal


@each_database
def test_a_refusal_names_the_rule_what_is_used_what_was_asked_and_what_to_do(
    ledger: Ledger, ada: UserRow, lab: ProjectRow
) -> None:
    ledger.limit("user", "cpu", 3, name="ada")
    ledger.claim(ada, lab, TWO_CPU, name="rays")
    found = refused(ledger, ada, lab, TWO_CPU)
    assert (found.resource, found.amount, found.used, found.asked) == ("cpu", 3, 2, 2)
    assert [(each.name, each.owner, each.amount) for each in found.held_by] == [("rays", "ada", 2)]
    assert found.message == (
        "Refused by the limit that ada may hold at most 3 cpu at once: 2 cpu in use, held by cluster rays (2 cpu); "
        "this cluster asks for 2 cpu. Stop one of these, ask for less, or ask an admin to raise this limit."
    )


@each_database
def test_what_can_never_fit_is_advised_to_ask_for_less(ledger: Ledger, ada: UserRow, lab: ProjectRow) -> None:
    ledger.limit("everyone", "memory", 0.5 * GIB)
    found = refused(ledger, ada, lab, TWO_CPU)
    assert found.message.endswith("asks for 1 GiB memory. Ask for less, or ask an admin to raise this limit.")


@each_database
def test_a_shared_pool_hides_the_workloads_of_others_from_members(
    ledger: Ledger, ada: UserRow, bob: UserRow, lab: ProjectRow
) -> None:
    ledger.limit("group", "cpu", 5, name="staff", sharing="pool")
    ledger.claim(bob, lab, TWO_CPU, name="bobs-secret-work")
    ledger.claim(ada, lab, TWO_CPU, name="rays")
    found = refused(ledger, ada, lab, TWO_CPU)
    assert [each.owner for each in found.held_by] == ["ada"]
    assert "bobs-secret-work" not in found.message
    assert "held by cluster rays (2 cpu), others (2 cpu)" in found.message


@each_database
def test_an_admin_sees_who_holds_a_shared_pool(ledger: Ledger, ada: UserRow, bob: UserRow, lab: ProjectRow) -> None:
    ledger.limit("project", "cpu", 3, name="lab", sharing="pool")
    ledger.claim(bob, lab, TWO_CPU, name="theirs")
    found = refused(ledger, ada, lab, TWO_CPU, show_others=True)
    assert [(each.owner, each.name) for each in found.held_by] == [("bob", "theirs")]
    assert "cluster theirs of bob (2 cpu)" in found.message


@each_database
def test_a_rule_for_each_member_counts_each_by_themselves(
    ledger: Ledger, ada: UserRow, bob: UserRow, lab: ProjectRow
) -> None:
    for scope, name in (("everyone", None), ("group", "staff"), ("project", "lab")):
        ledger.limit(scope, "cpu", 3, name=name)
    ledger.claim(bob, lab, TWO_CPU)
    ledger.claim(ada, lab, TWO_CPU)
    assert refused(ledger, bob, lab, TWO_CPU).used == 2


@each_database
def test_the_rules_of_other_scopes_do_not_apply(ledger: Ledger, ada: UserRow, bob: UserRow, lab: ProjectRow) -> None:
    ledger.project("other")
    ledger.limit("user", "cpu", 0, name="bob")
    ledger.limit("group", "cpu", 0, name="strangers")
    ledger.limit("project", "cpu", 0, name="other")
    ledger.claim(ada, lab, TWO_CPU)


@each_database
def test_workloads_are_counted_by_kind(ledger: Ledger, ada: UserRow, lab: ProjectRow) -> None:
    ledger.limit("user", "clusters", 1, name="ada")
    ledger.claim(ada, lab, TWO_CPU)
    ledger.claim(ada, lab, TWO_CPU, kind=WorkloadKind.NOTEBOOK)
    found = refused(ledger, ada, lab, TWO_CPU)
    assert found.rule == "ada may hold at most 1 cluster at once"


@each_database
def test_the_machine_itself_is_a_limit(ledger: Ledger, ada: UserRow, lab: ProjectRow) -> None:
    found = refused(ledger, ada, lab, {"cpu": 65_000, "memory": GIB})
    assert found.rule == "this machine can lend at most 64 cpu at once"


@each_database
def test_only_what_is_gone_gives_back_what_it_held(ledger: Ledger, ada: UserRow, lab: ProjectRow) -> None:
    ledger.limit("user", "cpu", 2, name="ada")
    first = ledger.claim(ada, lab, TWO_CPU)
    asked_to_end(ledger, first)
    refused(ledger, ada, lab, TWO_CPU)
    ledger.gone(first)
    ledger.claim(ada, lab, TWO_CPU)


def asked_to_end(ledger: Ledger, workload: WorkloadRow) -> None:
    lifecycle.ask_to_end(ledger.session, workload, now=ledger.now, reason="Stopped by its owner.")
    ledger.session.flush()


@each_database
def test_lowering_a_limit_ends_nothing_and_refuses_what_comes_next(
    ledger: Ledger, ada: UserRow, lab: ProjectRow
) -> None:
    ledger.limit("user", "cpu", 8, name="ada")
    first = ledger.claim(ada, lab, TWO_CPU)
    again = ledger.limit("user", "cpu", 1, name="ada")
    assert first.target == "running"
    assert ledger.remaining(ada, lab)[0].left == 0
    assert refused(ledger, ada, lab, {"cpu": 100, "memory": GIB}).used == 2
    assert [
        row.amount for row in operations.list_limits(ledger.session, ROOM, now=ledger.now) if row.id == again.id
    ] == [1]


@each_database
def test_a_budget_is_used_up_as_time_passes_and_frees_up_as_its_window_moves(
    ledger: Ledger, ada: UserRow, lab: ProjectRow
) -> None:
    ledger.limit("user", "cpu", 7200, name="ada", window_s=86400)  # two core-hours a day
    first = ledger.claim(ada, lab, TWO_CPU)
    ledger.pass_time(1800)
    ledger.claim(ada, lab, {"cpu": 10, "memory": GIB}, name="small")  # one of two hours is used
    ledger.pass_time(1800)
    found = refused(ledger, ada, lab, TWO_CPU)
    assert found.message.startswith(
        "Refused by the limit that ada may use at most 2 cpu-hours in any day: 2.005 cpu-hours used"
    )
    assert "It frees up as the day passes" in found.message
    ledger.gone(first)
    left = {each.resource: each for each in ledger.remaining(ada, lab)}
    assert left["cpu"].left == 0
    ledger.pass_time(86400 - 1800)  # half an hour of the first claim is still in the window, the small one runs
    ledger.claim(ada, lab, TWO_CPU)


@each_database
def test_remaining_shows_the_tightest_rule_of_each_resource(ledger: Ledger, ada: UserRow, lab: ProjectRow) -> None:
    ledger.limit("everyone", "cpu", 10)
    ledger.limit("user", "cpu", 4, name="ada")
    ledger.limit("user", "clusters", 2, name="ada")
    ledger.claim(ada, lab, TWO_CPU)
    found = {each.resource: each for each in ledger.remaining(ada, lab)}
    assert (found["cpu"].left, found["cpu"].rule) == (2, "ada may hold at most 4 cpu at once")
    assert (found["clusters"].left, found["clusters"].amount) == (1, 2)
    assert found["memory"].left == 255 * GIB  # the machine's


@each_database
def test_each_gpu_goes_to_one_workload_at_a_time(ledger: Ledger, ada: UserRow, bob: UserRow, lab: ProjectRow) -> None:
    ledger.capacity = Capacity(
        {**ROOM.amounts, "gpu": 3, "gpu:a100": 2, "gpu:t4": 1}, {"0": "a100", "1": "a100", "2": "t4"}
    )
    one = ledger.claim(ada, lab, {"cpu": 1000, "gpu": 1})
    two = ledger.claim(bob, lab, {"cpu": 1000, "gpu": 1, "gpu:a100": 1})
    leased = [admission.leased_gpus(ledger.session, each.id) for each in (one, two)]
    assert leased == [["0"], ["1"]]
    assert refused(ledger, ada, lab, {"cpu": 1000, "gpu": 1, "gpu:a100": 1}).resource == "gpu:a100"
    three = ledger.claim(ada, lab, {"cpu": 1000, "gpu": 1})
    assert admission.leased_gpus(ledger.session, three.id) == ["2"]
    assert refused(ledger, bob, lab, {"cpu": 1000, "gpu": 1}).resource == "gpu"
    ledger.gone(two)
    assert admission.leased_gpus(ledger.session, ledger.claim(bob, lab, {"gpu": 1}).id) == ["1"]


@each_database
def test_any_gpu_is_none_of_a_type_that_a_limit_forbids(ledger: Ledger, ada: UserRow, lab: ProjectRow) -> None:
    ledger.capacity = Capacity({**ROOM.amounts, "gpu": 2, "gpu:a100": 1, "gpu:t4": 1}, {"0": "a100", "1": "t4"})
    ledger.limit("user", "gpu:a100", 0, name="ada")
    assert admission.leased_gpus(ledger.session, ledger.claim(ada, lab, {"gpu": 1}).id) == ["1"]
    assert refused(ledger, ada, lab, {"gpu": 1}).rule == "ada may hold at most 0 gpu:a100 at once"


@each_database
def test_a_type_of_gpu_that_the_machine_lacks_is_refused(ledger: Ledger, ada: UserRow, lab: ProjectRow) -> None:
    ledger.capacity = Capacity({**ROOM.amounts, "gpu": 1, "gpu:t4": 1}, {"0": "t4"})
    assert (
        refused(ledger, ada, lab, {"gpu": 1, "gpu:h200": 1}).rule == "this machine can lend at most 0 gpu:h200 at once"
    )


@each_database
def test_the_same_limit_again_changes_it_and_another_window_is_another_limit(ledger: Ledger, ada: UserRow) -> None:
    first = ledger.limit("user", "cpu", 1, name="ada")
    assert ledger.limit("user", "cpu", 2, name="ada").id == first.id
    assert ledger.limit("user", "cpu", 2, name="ada", window_s=3600).id != first.id
    assert ledger.limit("user", "cpu", 2, name="ada", sharing="pool").id != first.id


@each_database
def test_use_is_shown_for_each_rule_and_of_a_rule_for_each_by_who_uses_the_most(
    ledger: Ledger, ada: UserRow, bob: UserRow, lab: ProjectRow
) -> None:
    each = ledger.limit("everyone", "cpu", 9)
    pool = ledger.limit("everyone", "cpu", 20, sharing="pool")
    idle = ledger.limit("group", "cpu", 3, name="strangers")
    ledger.claim(ada, lab, TWO_CPU)
    ledger.claim(bob, lab, {"cpu": 3000})
    found = {row.id: row for row in operations.list_limits(ledger.session, ROOM, now=ledger.now)}
    assert (found[each.id].used, found[pool.id].used, found[idle.id].used) == (3, 5, 0)
    assert found["machine-cpu"].used == 5


@each_database
@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"scope": "user", "resource": "cpu", "amount": 1}, "name"),
        ({"scope": "everyone", "name": "ada", "resource": "cpu", "amount": 1}, "name"),
        ({"scope": "everyone", "resource": "disk", "amount": 1}, "resource"),
        ({"scope": "everyone", "resource": "gpu:", "amount": 1}, "resource"),
        ({"scope": "everyone", "resource": "cpu", "amount": -1}, "amount"),
        ({"scope": "everyone", "resource": "cpu", "amount": float("nan")}, "amount"),
        ({"scope": "everyone", "resource": "memory", "amount": 1e30}, "amount"),
        ({"scope": "everyone", "resource": "clusters", "amount": 1.5}, "amount"),
        ({"scope": "everyone", "resource": "cpu", "amount": 1, "window_s": 5}, "window_s"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_by_its_field(
    ledger: Ledger, given: dict[str, object], field: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        ledger.limit(**given)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.message.startswith(f"{field}: ")


@each_database
def test_a_limit_on_nobody_is_not_found(ledger: Ledger) -> None:
    for scope in ("user", "project"):
        with pytest.raises(NotFound):
            ledger.limit(scope, "cpu", 1, name="nobody")


@each_database
def test_a_limit_of_terabytes_fits_the_database(ledger: Ledger) -> None:
    row = ledger.limit("everyone", "memory", 8 << 40)
    ledger.session.expire(row)
    assert row.amount == 8 << 40


def test_the_numbers_of_resources() -> None:
    assert to_units("cpu", 0.5) == 500
    assert short_type("NVIDIA A100-SXM4-80GB") == "a100"
    assert short_type("Tesla T4") == "t4"


@each_database
def test_busy_devices_without_a_rule_in_the_way_are_a_conflict(ledger: Ledger, ada: UserRow, lab: ProjectRow) -> None:
    """The inventory was changed by hand: more are counted than there are devices."""
    ledger.capacity = Capacity({**ROOM.amounts, "gpu": 2, "gpu:t4": 2}, {"0": "t4"})
    ledger.claim(ada, lab, {"gpu": 1})
    with pytest.raises(Conflict, match="still in use"):
        ledger.claim(ada, lab, {"gpu": 1})


def test_a_size_is_checked_by_field() -> None:
    good = {"cpu": 1.0, "memory": GIB}
    bad: list[tuple[dict[str, object], str]] = [
        ({"cpu": 0.01}, "cpu"), ({"cpu": float("nan")}, "cpu"), ({"cpu": float("inf")}, "cpu"), ({"memory": 1}, "memory"),
        ({"gpu": -1}, "gpu"), ({"gpu": 1, "gpu_type": "A 100"}, "gpu_type"),
    ]  # fmt: skip
    for change, field in bad:
        with pytest.raises(BadRequest) as caught:
            of_size(Size(**{**good, **change}))  # type: ignore[arg-type]
        assert caught.value.field == field
    assert of_size(Size(cpu=0.5, memory=GIB, gpu=1, gpu_type="t4"), count=2) == {
        "cpu": 1000, "memory": 2 * GIB, "gpu": 2, "gpu:t4": 2,
    }  # fmt: skip
