"""YAML without its traps: one mapping, no repeated keys, no aliases, bounded."""

from typing import Any

import yaml

from moorage_images.errors import ManifestError

LONGEST = 64 * 1024  # characters


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            line = self.get_mark().line + 1
            raise ManifestError(f"line {line}: aliases (*name) are not accepted. Write the value out.")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            text = str(key.value)
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
