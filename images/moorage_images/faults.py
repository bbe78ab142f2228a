"""From a fault that the schema found to a sentence: field, value, remedy."""

import difflib
from typing import Any

from jsonschema import ValidationError

from moorage_images.errors import ManifestError

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


def refusal(place: str, sentences: str) -> ManifestError:
    """The error that names `place` ("clusters.ray.worker") and then says what is wrong and what to do."""
    return ManifestError(f"{place or 'moorage.yaml'}: {sentences}", field=place or None)


def refusal_of(fault: ValidationError) -> ManifestError:
    place = _place(fault)
    rule: Any = fault.schema
    bound: Any = fault.validator_value
    remedy = rule.get("errorMessage") or rule.get("description") or "Correct it."
    given: Any = fault.instance
    shown = _shown(given)
    match fault.validator:
        case "additionalProperties":
            return _unknown(place, rule, given)
        case "required":
            missing = next(key for key in bound if key not in given)
            description = rule["properties"][missing]["description"]
            error = refusal(place, f"the key {missing!r} is missing. {description}")
            error.field = f"{place}.{missing}".strip(".")
            return error
        case "type":
            expected = bound if isinstance(bound, str) else bound[0]
            return refusal(place, f"{shown} is not {_TYPES[expected]}. {remedy}")
        case "minimum":
            return refusal(place, f"{shown} is too little; the least is {bound}. {remedy}")
        case "maximum":
            return refusal(place, f"{shown} is too much; the most is {bound}. {remedy}")
        case "minLength":
            return refusal(place, f"the text is empty. {remedy}")
        case "maxLength" | "maxItems" | "maxProperties":
            return refusal(place, f"its length is {len(given)}; the most is {bound}. {remedy}")
        case "uniqueItems":
            return refusal(place, f"an entry of {shown} appears twice. Keep one of them.")
        case "pattern" if "propertyNames" in fault.absolute_schema_path:
            return refusal(place, f"the name {shown} can't be used. It must match {bound}.")
    return refusal(place, f"{shown} can't be accepted. {remedy}")


def _unknown(place: str, rule: dict[str, Any], given: dict[Any, Any]) -> ManifestError:
    known = sorted(rule["properties"])
    unknown = next(str(key) for key in given if key not in rule["properties"])
    close = difflib.get_close_matches(unknown, known, 1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    error = refusal(place, f"the key {unknown!r} is unknown. {hint}Known are: {', '.join(known)}.")
    error.field = f"{place}.{unknown}".strip(".")
    return error


def _place(fault: ValidationError) -> str:
    text = ""
    for part in fault.absolute_path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
