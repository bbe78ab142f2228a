"""How many examples a property is tried with: few and always the same in `make test`, many with MOORAGE_FAULTS=full."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings

FULL = os.environ.get("MOORAGE_FAULTS") == "full"
TIMES = 40  # as many in full


def examples(count: int, *, times: int = TIMES) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a `@given` test. No time limits of its own: the machine may be busy."""
    return settings(
        max_examples=count * times if FULL else count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )
