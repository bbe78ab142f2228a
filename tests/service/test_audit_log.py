"""The audit as admins read it: chosen, paged, as a difference, and as CSV."""

import csv
import io
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moorage.wire import AuditEntry
from moorage_service.context import Context
from moorage_service.portal.audit import PAGE, Change, changes
from moorage_service.store.tables import AuditRow, ProjectRow
from tests.service.conftest import Headers
from tests.service.databases import each_database
from tests.service.portal_bench import Visitor, sign_in, text_of

AT = "/admin/audit"


def write(context: Context, count: int, **given: Any) -> None:
    values = {"actor": "root", "action": "limit.set", "target": "ada may hold at most 2 cpu at once", **given}
    with context.database.begin() as session:
        for number in range(count):
            session.add(AuditRow(at=context.clock(), **{"after": {"amount": number}, **values}))


@pytest.fixture
def admin_at(client: TestClient, context: Context, admin: Headers, project: ProjectRow) -> Visitor:
    return sign_in(client, context, admin, "root")


@each_database
def test_entries_are_chosen_by_who_what_and_of_what(client: TestClient, context: Context, admin: Headers) -> None:
    write(context, 2)
    write(context, 1, action="limit.remove", actor="eve")
    write(context, 1, action="limiter", actor="eve")
    write(context, 1, action="user.change", target="Bob_100%")

    def found(**query: str | int) -> list[str]:
        return [each["action"] for each in client.get("/api/v1/audit", headers=admin, params=query).json()]

    assert found() == ["user.change", "limiter", "limit.remove", "limit.set", "limit.set"]
    assert found(actor="eve") == ["limiter", "limit.remove"]
    assert found(action="limit") == ["limit.remove", "limit.set", "limit.set"]
    assert found(action="limit.set", actor="root", most=1) == ["limit.set"]
    assert found(target="bob_") == ["user.change"]
    assert found(target="%") == ["user.change"]  # a letter like any other
    assert found(actor="mallory") == []


def test_all_of_it_is_read_page_by_page(client: TestClient, context: Context, admin: Headers) -> None:
    write(context, 25)
    ids: list[int] = []
    while True:
        older = {"older_than": ids[-1]} if ids else {}
        page = client.get("/api/v1/audit", headers=admin, params={"most": 10, **older}).json()
        if not page:
            break
        ids += [each["id"] for each in page]
    assert len(ids) == 25
    assert ids == sorted(set(ids), reverse=True)


def test_the_page_goes_on_where_the_one_before_ended(admin_at: Visitor) -> None:
    write(admin_at.context, PAGE + 5, action="user.change", target="somebody")
    write(admin_at.context, 3)
    first = admin_at.page(f"{AT}?action=user")
    assert first.count("<tr id=") == PAGE
    older = first.partition('">Older</a>')[0].rpartition('href="')[2].partition("/services/moorage")[2]
    last = admin_at.page(older)
    assert last.count("<tr id=") == 5
    assert ">Newest</a>" in last
    assert ">Older</a>" not in last
    assert 'value="user" selected' in last


def test_what_nothing_is_like_is_said(admin_at: Visitor) -> None:
    write(admin_at.context, 1)
    assert "No entry is like that" in admin_at.page(f"{AT}?target=zzz")


def test_before_and_after_are_a_difference(admin_at: Visitor) -> None:
    entry = AuditEntry(
        at="", actor="root", action="user.change", target="bob", before={"uid": None, "active": True, "name": "bob", "old": [1]},
        after={"uid": 1001, "active": False, "name": "bob", "limit": "li-1", "groups": {"a": 1}},
    )  # fmt: skip
    assert changes(entry) == [
        Change(name="uid", was="none", now="1001"), Change(name="active", was="yes", now="no"), Change(name="old", was="1", now=None),
        Change(name="groups", was=None, now="a: 1"), Change(name="name", was="bob", now="bob"),
    ]  # fmt: skip
    memory = AuditEntry(
        at="", actor="", action="", target="bob may hold at most 4 GiB memory at once", after={"amount": 2**32}
    )
    assert changes(memory) == [Change(name="amount", was=None, now="4 GiB")]
    write(admin_at.context, 1, before={"uid": None}, after={"uid": 1001}, target="bob")
    page = admin_at.page(AT)
    assert "<del>none</del>" in page
    assert "uid: none → 1001" in text_of(page)


def test_as_csv_with_facts_as_json_and_nothing_to_carry_out(
    client: TestClient, context: Context, admin: Headers
) -> None:
    write(context, 1, target="=cmd|' /C calc'!A0", why="+1, é", before={"amount": 1}, after=None)
    answer = client.get("/api/v1/audit?format=csv", headers=admin)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    (row,) = csv.DictReader(io.StringIO(answer.content.decode("utf-8")))
    assert (row["target"], row["why"], row["before"], row["after"]) == (
        "'=cmd|' /C calc'!A0",
        "'+1, é",
        '{"amount": 1}',
        "",
    )


def test_nobody_but_admins_reads_it(client: TestClient, ada: Headers) -> None:
    assert client.get("/api/v1/audit?format=csv", headers=ada).status_code == 403
