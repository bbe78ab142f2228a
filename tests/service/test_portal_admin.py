"""The admin's pages: limits, who holds what, users, audit."""

import pytest
from fastapi.testclient import TestClient

from moorage_service.context import Context
from moorage_service.store.tables import ProjectRow
from tests.fakes.hub import FakeHub
from tests.service.conftest import Headers
from tests.service.portal_bench import Visitor, admit_notebook, sign_in, text_of

AT = "/admin/limits"
ONE_CPU = {"scope": "user", "name": "ada", "resource": "cpu", "amount": "1", "why": "on trial"}


@pytest.fixture
def admin_at(client: TestClient, context: Context, admin: Headers, project: ProjectRow) -> Visitor:
    return sign_in(client, context, admin, "root")


def _rule_id(admin_at: Visitor) -> str:
    rule: str = next(each["id"] for each in admin_at.get("/api/v1/limits").json() if each["scope"] != "machine")
    return rule


def test_a_limit_is_set_changed_and_removed_with_its_reason(admin_at: Visitor) -> None:
    assert "No rule yet" in admin_at.page(AT)
    assert "Set: ada may hold at most 1 cpu at once." in admin_at.send(AT, ONE_CPU, referer=AT)
    admit_notebook(admin_at.context, "ada")
    assert "1 core of 1 core" in text_of(admin_at.page(AT))
    rule = _rule_id(admin_at)
    changed = admin_at.send(f"{AT}/{rule}/change", {"amount": "2.5", "why": "trusted"}, referer=AT)
    assert "Changed: ada may hold at most 2.5 cpu at once." in changed
    assert "Removed." in admin_at.send(f"{AT}/{rule}/remove", {"why": "not needed"}, referer=AT)
    audit = text_of(admin_at.page("/admin/audit"))
    for piece in ("amount: 1 → 2.5 trusted", "on trial", "limit.remove", "not needed"):
        assert piece in audit, piece


def test_memory_is_given_in_gibibytes_or_with_its_unit(admin_at: Visitor) -> None:
    everyone = {"scope": "everyone", "resource": "memory"}
    assert "each user may hold at most 4 GiB memory" in admin_at.send(AT, {**everyone, "amount": "4"}, referer=AT)
    assert "each user may hold at most 512 MiB memory" in admin_at.send(
        AT, {**everyone, "amount": "512MiB"}, referer=AT
    )
    assert 'value="0.5"' in admin_at.page(AT)


def test_budgets_and_pools_are_limits_too(admin_at: Visitor) -> None:
    page = admin_at.send(
        AT, {"scope": "group", "name": "ml", "resource": "gpu:h200", "amount": "2", "sharing": "pool", "window_s": "86400"},
        referer=AT,
    )  # fmt: skip
    assert "group ml together may use at most 2 gpu:h200-hours in any day" in page
    assert 'value="2"' in page
    assert "0 gpu:h200-seconds used" in page


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "nobody"}, "There is no user 'nobody'."),
        ({"name": ""}, "name: say which user the limit is for."),
        ({"amount": "lots"}, "Amount: 'lots' is not a number."),
        ({"amount": "-1"}, "amount: -1.0 is not an amount."),
        ({"resource": "coffee"}, "resource: 'coffee' is not a resource."),
        ({"resource": "memory", "amount": "4 cups"}, "unknown unit"),
        ({"resource": "memory", "amount": " "}, "is not an amount of memory"),
        ({"scope": "planet"}, "scope: 'planet' is none of"),
        ({"sharing": "some"}, "sharing: 'some' is none of"),
        ({"window_s": "5"}, "window_s: 5 is out of range."),
    ],
)
def test_a_limit_that_cannot_be_is_refused_in_a_sentence(
    admin_at: Visitor, change: dict[str, str], sentence: str
) -> None:
    page = admin_at.send(AT, {**ONE_CPU, **change}, referer=AT)
    assert sentence in page
    assert "No rule yet" in page


def test_a_rule_that_is_gone_meanwhile_says_so(admin_at: Visitor) -> None:
    assert "somebody removed it" in admin_at.send(f"{AT}/li-gone/change", {"amount": "1"}, referer=AT)
    assert "There is no limit 'li-gone'." in admin_at.send(f"{AT}/li-gone/remove", referer=AT)


def test_an_admin_sees_who_holds_what_and_can_stop_it(admin_at: Visitor) -> None:
    assert "All is quiet" in admin_at.page("/admin/usage")
    workload = admit_notebook(admin_at.context, "ada", cpu=2)
    page = text_of(admin_at.page("/admin/usage"))
    assert "2 cores of 8 cores" in page
    assert "ada notebook starter starter pending" in page
    back = "/services/moorage/admin/usage"
    assert "is stopping" in admin_at.send(f"/workloads/{workload}/stop", {"back": back}, referer="/admin/usage")
    assert "Stopped by the admin root." in admin_at.page(f"/workloads/{workload}")
    assert "workload.stop" in admin_at.page("/admin/audit")


def test_a_user_is_disabled_and_enabled(admin_at: Visitor, client: TestClient, hub: FakeHub, ada: Headers) -> None:
    ada_at = sign_in(client, admin_at.context, ada, "ada")
    assert "ada is disabled" in admin_at.send("/admin/users/ada", {"active": "no"}, referer="/admin/users")
    assert ada_at.get("/").status_code in (302, 403)
    assert "ada is enabled" in admin_at.send("/admin/users/ada", {"active": "yes"}, referer="/admin/users")
    assert ada_at.get("/").status_code == 302  # to sign in again
    ada_at = sign_in(client, admin_at.context, {"Authorization": f"Bearer {hub.add_token('ada')}"}, "ada")
    assert ada_at.get("/").status_code == 200
    assert "ada is signed out everywhere" in admin_at.send(
        "/admin/users/ada/sign-out", {"why": "lost"}, referer="/admin/users"
    )
    assert ada_at.get("/").status_code == 302


def test_a_uid_of_the_system_is_refused(admin_at: Visitor) -> None:
    assert "uid: 0 belongs to the system." in admin_at.send("/admin/users/ada", {"uid": "0"}, referer="/admin/users")
    assert "uid: 'x' is not a number." in admin_at.send("/admin/users/ada", {"uid": "x"}, referer="/admin/users")
