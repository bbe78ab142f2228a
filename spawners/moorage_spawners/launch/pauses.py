"""How long to wait before what failed is tried again: longer and longer, and never as long as others who failed at the same moment."""

import random

MOST_DOUBLINGS = 20  # a power without a bound would overflow one day


def pause_s(failures: int, *, first_s: float, longest_s: float) -> float:
    """Seconds after so many failures in a row: at most `first_s` after the first, doubled with each, `longest_s` in the end."""
    longest_now: float = min(longest_s, first_s * 2 ** min(max(failures - 1, 0), MOST_DOUBLINGS))
    return longest_now * random.uniform(0.5, 1)  # noqa: S311 - many who wait for one server must not come all at once
