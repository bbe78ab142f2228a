"""Amounts as the API server writes them: "1500m", "2Gi", "2G"; its own G is 10^9, unlike what people mean in a form of ours."""

import re
from decimal import Decimal

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][0-9]+)?)(m|[kMGTPE]|[KMGTPE]i)?", re.ASCII)
_FACTORS = {
    "": Decimal(1), "m": Decimal("0.001"), **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}  # fmt: skip


def parse_quantity(text: str) -> Decimal:
    """Raises ValueError for what is none."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r:.40} is no quantity of Kubernetes")
    return Decimal(found[1]) * _FACTORS[found[2] or ""]
