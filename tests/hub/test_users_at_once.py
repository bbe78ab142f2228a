"""The short form of bench/users.py: twenty people sign in and start their notebooks, four in a second."""

from pathlib import Path

from bench.users import measure

USERS = 20


def test_twenty_people_sign_in_at_once_and_each_gets_their_own_notebook(
    proxy_script: Path, server_python: Path
) -> None:
    figures = measure(USERS, 4, proxy_script, server_python, pages=1, think_s=0.5)
    assert figures.errors == []
    assert figures.ready == USERS
    rows = {row["page"]: row for row in figures.table()}
    assert rows["sign-in, to the portal's first page"]["n"] == USERS
    assert rows["hub page, unloaded"]["p95_ratio"] >= 1
