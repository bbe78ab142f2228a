"""From moorage/schema.yaml: values.yaml, values.schema.json, and the table of values in docs/kubernetes.md. `make chart-schema` runs it.

A leaf of the schema is a node with a default; its words go to all three. A test says when what lies there is not what this would write.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "moorage"
PAGE = Path(__file__).parents[1] / "docs" / "kubernetes.md"
BEGIN, END = "<!-- values: written by `make chart-schema` -->", "<!-- end of values -->"
HEAD = (
    "# The chart's defaults, with what they mean. Written from schema.yaml by `make chart-schema`: change them there.\n"
)
WIDTH = 130
Node = dict[str, Any]


def schema() -> Node:
    """The schema whole: references resolved, and every object that lists properties closed to all others."""
    source = yaml.safe_load((CHART / "schema.yaml").read_text())
    definitions = source.pop("$defs")
    closed = _resolve(source, definitions)
    return {"$schema": "http://json-schema.org/draft-07/schema#", **closed}


def _resolve(node: Any, definitions: Mapping[str, Any]) -> Any:
    """What stands beside a `$ref` is laid over what it names, property by property."""
    if isinstance(node, list):
        return [_resolve(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        own = {key: value for key, value in node.items() if key != "$ref"}
        node = _over(deepcopy(definitions[node["$ref"].removeprefix("#/$defs/")]), own)
        return _resolve(node, definitions)
    found = {key: value if key == "default" else _resolve(value, definitions) for key, value in node.items()}
    if isinstance(found.get("properties"), dict) and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


def _over(below: Node, above: Mapping[str, Any]) -> Node:
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict) and key != "default"
        below[key] = _over(below[key], value) if both else value
    return below


def defaults(node: Node) -> Any:
    """The values of the chart, as helm reads them."""
    if "default" in node:
        return node["default"]
    return {name: defaults(child) for name, child in node["properties"].items()}


def leaves(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Node]]:
    """Every value that may be set, by its path; `<name>` stands for a key of the reader's choice."""
    if path and ("default" in node or "properties" not in node):
        yield ".".join(path), node
    inner = node.get("additionalProperties")
    if isinstance(inner, dict) and "properties" in inner:
        for name, child in inner["properties"].items():
            yield ".".join((*path, "<name>", name)), child
    if "default" in node:
        return
    for name, child in node.get("properties", {}).items():
        yield from leaves(child, (*path, name))
    for child in node.get("patternProperties", {}).values():
        yield ".".join((*path, child["title"])), child


def values_yaml(node: Node) -> str:
    return HEAD + "\n".join(_lines(node, 0)) + "\n"


def _lines(node: Node, depth: int) -> Iterator[str]:
    space = "  " * depth
    for name, child in node["properties"].items():
        if depth == 0:
            yield ""
        for line in textwrap.wrap(child.get("description", ""), WIDTH - len(space)):
            yield f"{space}# {line}"
        if "default" in child:
            yield f"{space}{name}: {_flow(child['default'])}"
        else:
            yield f"{space}{name}:"
            yield from _lines(child, depth + 1)


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("...\n").strip()


def table(node: Node) -> str:
    """The table of docs/kubernetes.md."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for path, leaf in leaves(node):
        default = leaf.get("default")
        shown = "" if default in (None, "", [], {}) else f"`{_flow(default)}`"
        rows.append(f"| `{path}` | {shown} | {leaf.get('description', '').replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def files() -> dict[Path, str]:
    """What is written from the schema: path -> text."""
    whole = schema()
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return {
        CHART / "values.yaml": values_yaml(whole),
        CHART / "values.schema.json": json.dumps(whole, indent=1) + "\n",
        PAGE: f"{before}{BEGIN}\n\n{table(whole)}\n{END}{after}",
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
