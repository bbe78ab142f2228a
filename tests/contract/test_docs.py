"""What the docs say about settings, routes, metrics and commands is what there is."""

import re
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts
from prometheus_client import REGISTRY
from pydantic import BaseModel

from moorage_hub.settings import HubSettings
from moorage_service import metrics
from moorage_service.app import API, create_app
from moorage_service.context import make_context
from moorage_service.settings import Inventory, Rates, Settings
from tests.contract import commands_page
from tests.contract.settings_table import table_of

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("model", [HubSettings, Settings, Inventory, Rates])
def test_the_admins_page_has_every_setting(model: type[BaseModel]) -> None:
    wanted = "\n".join(table_of(model))
    assert wanted in (DOCS / "admin.md").read_text(), f"put this table into docs/admin.md:\n{wanted}"


def test_the_admins_page_has_every_metric() -> None:
    assert metrics.LIVE is not None
    text = (DOCS / "admin.md").read_text()
    named = {family.name for family in REGISTRY.collect() if family.name.startswith("moorage_")}
    missing = {name for name in named if f"`{name}" not in text}
    assert not missing


def test_every_command_option_and_target_is_documented() -> None:
    assert commands_page.PAGE.read_text() == commands_page.page(), "run `python -m tests.contract.commands_page`"
    told = "".join((DOCS / name).read_text() for name in ("user.md", "admin.md", "jobs.md", "projects.md"))
    groups = set(re.findall(r"^### `(moorage [\w-]+)`", commands_page.page(), re.MULTILINE))
    assert len(groups) >= 9
    assert {name for name in groups if f"`{name} " not in told and f"{name} " not in told} == set(), (
        "say what they are for"
    )


Route = tuple[str, str]


def nameless(path: str) -> str:
    return re.sub(r"{[^}]*}", "{}", path)


def documented() -> set[Route]:
    """Of the table in architecture.md: "`GET, POST /limits`" is two routes."""
    found = set()
    section = (DOCS / "architecture.md").read_text().partition("## The REST API")[2]
    for row in (line.split("|")[1] for line in section.splitlines() if line.startswith("| `")):
        for methods, path in re.findall(r"((?:[A-Z]+, )*[A-Z]+) (/[\w/{}-]*)", row):
            found |= {(method, nameless(path)) for method in methods.split(", ")}
    return found - {("GET", "/metrics")}


def test_the_table_of_routes_has_every_route_and_no_other(tmp_path: Path) -> None:
    context = make_context(Settings(state=tmp_path / "state"))
    app = create_app(context, background=False)
    there = {
        (method, nameless(found.path.removeprefix(API)))
        for found in iter_route_contexts(app.router.routes)
        if found.path and found.path.startswith(API) and getattr(found, "include_in_schema", False)
        for method in (found.methods or ())
    }
    context.hub.close()
    context.database.close()
    told = documented()
    assert sorted(there - told) == [], "routes that docs/architecture.md lacks"
    assert sorted(told - there) == [], "routes that docs/architecture.md has and the service has not"


def test_links_between_the_docs_lead_somewhere() -> None:
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
