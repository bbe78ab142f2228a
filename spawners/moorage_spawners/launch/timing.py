"""How long is waited for the API server, and how old what it said may be."""

from dataclasses import dataclass

STALE_AFTER_S = 150.0  # a server that is quiet is asked for a list before


@dataclass(frozen=True)
class Timing:
    """In seconds. A list comes at least every `resync_s`; a stream is dead after `silence_s` without a byte; a page of a list is
    waited for `page_within_s`. Between cycles that fail it waits from `first_pause_s`, doubled each time, to `longest_pause_s`;
    a stream that lasted `steady_s` starts that anew.
    """

    resync_s: float = 300.0
    silence_s: float = 100.0
    page_within_s: float = 15.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 10.0
    steady_s: float = 10.0
