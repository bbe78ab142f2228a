"""YAML without its traps: one mapping, keys are text, none repeated; no aliases, no tags, no dates; bounded."""

from typing import Any

import yaml

from moorage_images.errors import ManifestError

LONGEST = 64 * 1024  # characters
MOST_DIGITS = 30  # of a number; more mean nothing here, and Python refuses to write them out
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_DATE = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            line = self.get_mark().line + 1
            raise ManifestError(f"line {line}: aliases (*name) are not accepted. Write the value out.")
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            line = event.start_mark.line + 1
            raise ManifestError(
                f"line {line}: tags ({event.tag[:40]}) are not accepted. Write plain text, numbers or lists."
            )
        return super().compose_node(parent, index)

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """A date stays the text that it is: nothing here takes one, and a notebook's parameter has no such type."""
        node = super().compose_scalar_node(anchor)
        if node.tag == _DATE:
            node.tag = "tag:yaml.org,2002:str"
        if node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
            line = node.start_mark.line + 1
            raise ManifestError(
                f"line {line}: a number of {len(node.value)} digits is too long. Give fewer, or put it in quotes."
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            text = str(key.value)
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                line = key.start_mark.line + 1
                raise ManifestError(f"line {line}: the key {text[:60]!r} is not text. Put it in quotes.")
            if text in seen:
                line = key.start_mark.line + 1
                raise ManifestError(f"line {line}: the key {text!r} appears twice. Keep one of them.", field=text)
            seen.add(text)
        return super().construct_mapping(node, deep)


def load(text: str) -> dict[str, Any]:
    """The mapping that `text` holds. Raises ManifestError naming the line."""
    if len(text) > LONGEST:
        raise ManifestError(f"The text has {len(text)} characters. Keep moorage.yaml below {LONGEST}.")
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader, made stricter
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        reason = error.problem or error.context
        raise ManifestError(f"{line}this is not YAML: {reason}. Check indentation, colons and quotes.") from error
    except (yaml.YAMLError, ValueError) as error:  # a control character, or a date that does not exist
        reason = str(error).splitlines()[0]
        raise ManifestError(f"This is not YAML: {reason}. Save it as plain UTF-8 text.") from error
    except RecursionError:
        raise ManifestError("The text is nested too deeply. moorage.yaml needs a few levels only.") from None
    if not isinstance(document, dict):
        raise ManifestError("The text holds no keys. Begin with `name: My project` and `packages:`.")
    return document
