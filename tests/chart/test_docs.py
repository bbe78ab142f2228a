"""What docs/kubernetes.md shows can be typed."""

import re
import textwrap
from typing import Any

import pytest
import yaml

from helm.write_schema import PAGE
from tests.chart.rendering import Chart

TEXT = PAGE.read_text()
EXAMPLES: list[dict[str, Any]] = [
    yaml.safe_load(textwrap.dedent(block))
    for block in re.findall(r"^ *```yaml\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda values: ", ".join(values)[:40])
def test_values_that_it_shows_are_taken(chart: Chart, values: dict[str, Any]) -> None:
    assert chart.render(values).pods()


def test_it_shows_some() -> None:
    assert len(EXAMPLES) == 4


def test_commands_name_objects_that_there_are(chart: Chart) -> None:
    made = {(each["kind"], each["metadata"]["name"]) for each in chart.render().objects}
    kinds = {"deploy": "Deployment", "svc": "Service"}
    named = re.findall(r"\b(deploy|svc)/([\w-]+)", TEXT)
    assert len(named) >= 3
    assert {(kinds[kind], name) for kind, name in named} <= made


def test_every_setting_that_the_chart_writes_says_from_where(chart: Chart) -> None:
    section = TEXT.partition("\n## Settings\n")[2].partition("\n## ")[0]
    for part in ("hub", "service"):
        unsaid = {
            name for name in chart.render().settings(part) if f"`{name}`" not in section and not name.endswith("port")
        }
        assert unsaid <= {"log_format"}


def test_the_roles_that_it_tells_of_are_those_that_there_are(chart: Chart) -> None:
    told = {f"moorage-{name}" for name in re.findall(r"role `<release>-([\w-]+)`", TEXT)}
    rendered = chart.render({"builds": {"system": {"namespace": "packages"}}})
    roles = (each["metadata"] for kind in ("ClusterRole", "Role") for each in rendered.of(kind))
    assert told == {
        each["name"] for each in roles if each.get("namespace") != chart.namespace
    }  # that one is the hook's
