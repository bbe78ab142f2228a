"""The least versions that are safe to run: one file for locks and project environments, `minimums.txt`."""

import functools
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

LIST = Path(__file__).with_name("minimums.txt")


@functools.cache
def minimums() -> Mapping[str, Version]:
    """Package -> the least version that is safe."""
    found: dict[str, Version] = {}
    for line in LIST.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            requirement = Requirement(text)
            (bound,) = requirement.specifier
            assert bound.operator == ">=", line
            found[canonicalize_name(requirement.name)] = Version(bound.version)
    return found


def is_safe(package: str, version: str) -> bool:
    """Whether this version may run. A package that is not in the list may; a text that is no version may not."""
    least = minimums().get(canonicalize_name(package))
    if least is None:
        return True
    try:
        return Version(version) >= least
    except InvalidVersion:
        return False


def unsafe(packages: Mapping[str, str]) -> dict[str, str]:
    """Of package -> version, those that may not run: package -> the least version that may."""
    return {
        name: str(minimums()[canonicalize_name(name)])
        for name, version in packages.items()
        if not is_safe(name, version)
    }
