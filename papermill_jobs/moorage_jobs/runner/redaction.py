"""Secrets leave no trace: their exact values are replaced in whatever a run shows or keeps."""

import base64
import html
import json
import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

MASK = "***"
_MIN_LENGTH = 4  # shorter values are part of too many words to be replaced
_MIN_LINE = 8  # of a value of several lines, each line this long is replaced by itself, too

log = logging.getLogger(__name__)


class Redactor:
    """Replaces values, and the forms that printing gives them (repr, JSON, HTML, URL, base64)."""

    def __init__(self, values: Mapping[str, str]) -> None:
        forms: set[str] = set()
        for name, value in values.items():
            if len(value) < _MIN_LENGTH:
                log.warning("The secret %s is shorter than %d characters: it is not hidden.", name, _MIN_LENGTH)
                continue
            for text in [value, *(line for line in value.splitlines() if len(line.strip()) >= _MIN_LINE)]:
                forms |= {form for form in _forms(text) if len(form) >= _MIN_LENGTH}
        self.longest = max(map(len, forms), default=0)
        ordered = sorted(forms, key=len, reverse=True)  # a value that contains another goes first
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """The text with every known form masked."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def tree(self, value: Any) -> Any:
        """A copy of a JSON value with every string in it masked, keys included."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.tree(item) for key, item in value.items()}
        return [self.tree(item) for item in value] if isinstance(value, list) else value


def _forms(value: str) -> set[str]:
    plain = value.strip("\r\n")
    encoded = plain.encode("utf-8", "surrogateescape")
    return {
        plain,
        repr(plain)[1:-1],
        json.dumps(plain)[1:-1],
        json.dumps(plain, ensure_ascii=False)[1:-1],
        html.escape(plain),
        quote(encoded, safe=""),
        base64.b64encode(encoded).decode(),
    }
