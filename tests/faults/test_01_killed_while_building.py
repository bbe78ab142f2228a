"""Fault 1, for builds: the service is killed (SIGKILL) while it builds an environment, and started again.

The build has succeeded or failed with words; no half-built environment is left, and the next build of the same text succeeds.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage_images import environments
from tests.fakes.package_index import PackageIndex, client_wheel
from tests.faults.checking import check
from tests.faults.crashes import Tally, dies
from tests.faults.figures import Report, Scale
from tests.faults.installation import ENVIRONMENT, Installation
from tests.images.places import find_uv, open_python
from tests.waiting import eventually

# Before anything was built; when the environment is complete on disk, and the store knows nothing of it; when it does.
POINTS = ("build.sealed", "build.claimed", "build.recorded")


@pytest.fixture
def building(open_folder: Path, index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    for name, value in index.variables.items():
        monkeypatch.setenv(name, value)
    given: dict[str, Any] = {
        "uv": str(find_uv()), "python_versions": {"3.11": str(open_python())}, "builder_uid_first": 65800,
        "client_wheel": str(client_wheel(open_folder / "client")),
    }  # fmt: skip
    with Installation.make(**given) as made:
        yield made


def test_a_build_that_was_cut_off_ends_with_words_and_leaves_nothing_half_built(
    building: Installation, scale: Scale, report: Report
) -> None:
    tally, rounds, failed = Tally(), scale.rounds(30, short=1), 0
    for number in range(rounds):
        point, slug = POINTS[number % len(POINTS)], f"fish-{number}"
        for service in building.services:
            service.kill()
        doomed = building.start(crash_at=point)
        tally.rounds += 1
        with building.api(service=doomed) as http:
            manifest = f"name: Fish {number}\npackages: [tide==1.0]\n"
            made = http.post("/projects", json={"slug": slug, "manifest": manifest})
            assert made.status_code == 201, made.text
        dies(doomed.status, point, tally, within=120)
        doomed.kill()
        building.start()
        first = ended(building, made.json()["build"]["id"])
        if point == "build.recorded":
            assert first["state"] == "succeeded"
        else:
            failed += 1
            assert (first["state"], first["error"]) == (
                "failed",
                "The service ended while it built this environment. Build again.",
            )
            with building.api() as http:
                again = http.post(f"/projects/{slug}/builds").json()["id"]
            assert ended(building, again)["state"] == "succeeded"
        assert half_built(building) == []
    check(building)
    assert not tally.missed
    report(1, builds=rounds, points=len(POINTS), kills=tally.kills, failed_with_words=failed, half_built=0)


def ended(building: Installation, build: str) -> dict[str, str]:
    def there() -> dict[str, str] | None:
        with building.api() as http:
            found: dict[str, str] = http.get(f"/builds/{build}").json()
        return found if found["state"] not in ("queued", "building") else None

    return eventually(there, within=120, what="the end of the build")


def half_built(building: Installation) -> list[str]:
    root = building.state / "environments"
    return [
        path.name for path in root.iterdir() if path.name != ENVIRONMENT and environments.read(root, path.name) is None
    ]
