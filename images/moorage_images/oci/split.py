"""Which layer an installed package lies in. Pure, and stable: a package's layer depends on that package alone.

What a project changes is small packages and its own; ray, pyarrow and their like stay for months. A layer without a change keeps its
digest, is not sent and not pulled again: of four layers one small change moves 64 MiB, not 404 (knowledge/kubernetes_parts.md, 2).
"""

import contextlib
import csv
import io
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from packaging.utils import canonicalize_name

MIB = 1 << 20
# By size, with fixed bounds: ranks would move a package when another one changes.
_BIG, _MEDIUM = 20 * MIB, 3 * MIB
_ENGINES = frozenset({"ray", "dask", "distributed"})
_OURS = "moorage"  # changes with each release of Moorage
_BYTECODE = re.compile(r"(.*/)?__pycache__/([^/]+)\.[a-z]+-[0-9]+[a-z]*(\.opt-[12])?\.pyc")


class Part(Enum):
    """The layers of an environment, the steadiest first, which is their order in an image."""

    ENGINES = "engines"
    BIG = "big"
    MEDIUM = "medium"
    REST = "rest"  # small packages, ours, programs, and what belongs to no package


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """An installed package, by its own word. `paths` lie below the tree; `size` in bytes, without bytecode."""

    name: str
    size: int
    paths: tuple[str, ...]


def parse_record(folder: str, record: bytes) -> Distribution:
    """`folder`: the path of the .dist-info folder below the tree; `record`: the content of its RECORD, whatever it holds."""
    site, _, info = folder.rpartition("/")
    name = canonicalize_name(info.removesuffix(".dist-info").rpartition("-")[0])
    paths: list[str] = []
    size = 0
    text = record.decode(errors="surrogateescape").replace("\0", "")
    with contextlib.suppress(csv.Error):  # what follows there is nobody's
        for row in csv.reader(io.StringIO(text, newline="")):
            if row and row[0]:
                paths.append(posixpath.normpath(posixpath.join(site, row[0])))
                size += int(row[2]) if len(row) > 2 and re.fullmatch("[0-9]{1,15}", row[2], re.ASCII) else 0
    return Distribution(name=name, size=size, paths=tuple(paths))


def part_of(distribution: Distribution) -> Part:
    if distribution.name in _ENGINES:
        return Part.ENGINES
    if distribution.name == _OURS or distribution.size < _MEDIUM:
        return Part.REST
    return Part.BIG if distribution.size >= _BIG else Part.MEDIUM


class Split:
    """Of a path below the tree, the layer. Where two packages claim a path, the name that sorts first has it."""

    def __init__(self, distributions: Iterable[Distribution]) -> None:
        self._parts: dict[str, Part] = {}
        for one in sorted(distributions, key=lambda each: (each.name, each.paths)):
            part = part_of(one)
            if part is not Part.REST:
                for path in one.paths:
                    self._parts.setdefault(path, part)

    def part(self, path: str) -> Part:
        """Bytecode lies with its source, whether or not the installer listed it. Programs, with the path in their first line, are REST."""
        if path.startswith("bin/"):
            return Part.REST
        found = self._parts.get(path)
        if found is None and (bytecode := _BYTECODE.fullmatch(path)):
            found = self._parts.get(f"{bytecode[1] or ''}{bytecode[2]}.py")
        return found or Part.REST
