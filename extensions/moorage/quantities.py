"""Amounts as people write them: memory "2GiB" <-> bytes, cpu "1.5" or "500m" <-> cores.

Bad text raises `InvalidQuantity` (a ValueError), a sentence that names the field, the value and the remedy.
"""

import re

_UNITS = {
    "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
    "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_MEMORY = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]+)\s*", re.ASCII)
_CPU = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(m?)\s*", re.ASCII)
_COUNT = re.compile(r"\s*[0-9]{1,20}\s*", re.ASCII)
MOST = 1 << 60  # bytes, thousandths of a core, or things: more than any machine has


class InvalidQuantity(ValueError):
    """Text that is no amount; the message is a sentence."""


def parse_memory(text: str | int, field: str = "memory") -> int:
    """Bytes of "512MiB", "2GiB" or "2GB" (2G means 2GiB). A plain int is bytes already."""
    if isinstance(text, int) and not isinstance(text, bool):
        if text <= 0:
            raise InvalidQuantity(f"{field} is {_given(text)}; give more than 0 bytes, such as 2GiB.")
        return _bounded(text, text, field, "2GiB")
    match = _MEMORY.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise InvalidQuantity(
            f"{field} {_given(text)} is not an amount of memory; write a number with a unit, such as 2GiB or 512MiB."
        )
    factor = _UNITS.get(match[2].upper())
    if factor is None:
        raise InvalidQuantity(
            f"{field} {_given(text)} has the unknown unit {match[2][:20]!r}; write KiB, MiB, GiB or TiB, such as 2GiB."
        )
    amount = round(float(match[1]) * factor)
    if amount <= 0:
        raise InvalidQuantity(f"{field} {_given(text)} is nothing; give more than 0, such as 2GiB.")
    return _bounded(amount, text, field, "2GiB")


def parse_cpu(text: str | float, field: str = "cpu") -> float:
    """Cores of "2", "1.5", "500m" or a number."""
    plain = text if isinstance(text, str) else _plain(text)
    match = _CPU.fullmatch(plain)
    if not match:
        raise InvalidQuantity(f"{field} {_given(text)} is not a number of cores; write one such as 2, 1.5 or 500m.")
    cores = float(match[1]) / (1000 if match[2] else 1)
    if not cores > 0:
        raise InvalidQuantity(f"{field} {_given(text)} is nothing; give more than 0 cores, such as 0.5.")
    _bounded(round(cores * 1000), text, field, "2")
    return cores


def parse_count(text: str | int, field: str) -> int:
    """A number of things, from 0 up: "2" or 2."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return _bounded(text, text, field, "2")
    if not isinstance(text, str) or not _COUNT.fullmatch(text):
        raise InvalidQuantity(f"{field} {_given(text)} is not a whole number; write 0, 1, 2 and so on.")
    return _bounded(int(text), text, field, "2")


def _bounded(amount: int, given: object, field: str, example: str) -> int:
    if amount > MOST:
        raise InvalidQuantity(f"{field} {_given(given)} is more than any machine has; give less, such as {example}.")
    return amount


def _plain(number: object) -> str:
    """A number as digits; empty for what is none, or too large to have any meaning here."""
    if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= MOST:
        return ""
    return str(number) if isinstance(number, int) else f"{number:.12f}"


def _given(value: object) -> str:
    """What was given, as a sentence can quote it."""
    if isinstance(value, int) and abs(value) > MOST:
        return "with very many digits"  # that Python would refuse to write out
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def show_memory(amount: float) -> str:
    """Bytes in words: "2 GiB", "1.5 GiB", "512 MiB", "0 B"."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(amount) >= factor:
            return f"{_short(amount / factor)} {unit}"
    return f"{_short(amount)} B"


def show_cpu(cores: float) -> str:
    """Cores in words: "1 core", "1.5 cores"."""
    return f"{_short(cores)} {'core' if cores == 1 else 'cores'}"


def show_amount(resource: str, amount: float) -> str:
    """An amount of a limited resource in words: "2 cores", "4 GiB", "1 gpu (a100)", "3 clusters"."""
    if resource == "cpu":
        return show_cpu(amount)
    if resource == "memory":
        return show_memory(amount)
    if resource == "gpu" or resource.startswith("gpu:"):
        kind = f" ({resource[4:]})" if resource.startswith("gpu:") else ""
        return f"{_short(amount)} {'gpu' if amount == 1 else 'gpus'}{kind}"
    return f"{_short(amount)} {resource[:-1] if amount == 1 and resource.endswith('s') else resource}"


def memory_text(amount: int) -> str:
    """Bytes as text that `parse_memory` reads back to the same number: "2GiB", "1536MiB", "1000B"."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if amount >= factor and amount % factor == 0:
            return f"{amount // factor}{unit}"
    return f"{amount}B"


def _short(number: float) -> str:
    text = f"{number:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text
