"""The Grafana dashboard asks for metrics that there are, with labels that they have."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from moorage_service import metrics
from moorage_service.context import Context
from tests.service.conftest import client, clock, context, database_url, hub, people, project, settings
from tests.service.world import make_world

__all__ = [
    "client",
    "clock",
    "context",
    "database_url",
    "hub",
    "people",
    "project",
    "settings",
]  # fixtures, found here by pytest

BOARD = json.loads((Path(__file__).parents[2] / "docs" / "grafana" / "moorage.json").read_text())
METRIC = re.compile(r"\b(moorage_[a-z_]+)")
BY = re.compile(r"\bby \(([a-z_, ]+)\)")


def queries() -> list[Any]:
    return [pytest.param(target["expr"], id=panel["title"]) for panel in BOARD["panels"] for target in panel["targets"]]


@pytest.fixture
def exported(client: TestClient, context: Context, people: object) -> dict[str, set[str]]:
    """Name of each series -> its labels, from a scrape and, for what nothing was counted of yet, from its declaration."""
    make_world(context, "ada", "adas")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        found.setdefault(family.name, set())
        for sample in family.samples:
            found[sample.name] = set(sample.labels)
    for declared in vars(metrics).values():
        if hasattr(declared, "_labelnames"):
            for ending in ("", "_total", "_bucket"):
                more = {"le"} if ending == "_bucket" else set()
                found[declared._name + ending] = {*declared._labelnames, *more}
    return found


@pytest.mark.parametrize("query", queries())
def test_each_query_asks_for_what_is_exported(query: str, exported: dict[str, set[str]]) -> None:
    names = METRIC.findall(query)
    assert names
    for name in names:
        assert name in exported, name
    grouped = {label.strip() for labels in BY.findall(query) for label in labels.split(",")}
    assert grouped <= set().union(*(exported[name] for name in names))


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
