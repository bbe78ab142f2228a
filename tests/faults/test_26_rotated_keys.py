"""Fault 26: keys and tokens are changed for new ones under work that goes on.

Nothing is dropped, and the old one is dead in the stated time.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import select

from moorage_hub.state import read_token
from moorage_service.clusters.operations import credentials_of
from moorage_service.context import Context
from moorage_service.identity.vault import Vault
from moorage_service.recovery import cards, rotation
from moorage_service.recovery.rows import to_values
from moorage_service.store.tables import ClusterRow, SecretRow
from tests.faults.checking import check, check_at
from tests.faults.figures import Report, Scale
from tests.faults.installation import Installation
from tests.faults.up import Up
from tests.faults.whole import PEOPLE, Whole
from tests.waiting import eventually

STRAGGLERS_S = 1.0
TAKEN_S = 60.0  # by an agent, which asks at its own pace


@dataclass
class Worker:
    """Somebody who goes on working meanwhile; `wrong` is every answer that should not have been."""

    work: Callable[[], httpx.Response]
    done: int = 0
    wrong: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(0.02):
            answer = self.work()
            self.done += 1
            if answer.status_code >= 300:
                self.wrong.append(f"{answer.status_code}: {answer.text[:200]}")


@contextmanager
def working(*work: Callable[[], httpx.Response]) -> Iterator[list[Worker]]:
    stop, workers = threading.Event(), [Worker(each) for each in work]
    threads = [threading.Thread(target=each.run, args=(stop,)) for each in workers]
    for thread in threads:
        thread.start()
    try:
        yield workers
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [each.wrong for each in workers] == [[] for _ in workers]


def rotate(installation: Installation, work: Callable[[Context, float], str], within_s: float = STRAGGLERS_S) -> None:
    """As `moorage admin rotate` does, beside the service and its process."""
    with installation.context() as context:
        assert "dead" in work(context, within_s) or work is rotation.vault_key


def cluster_of(installation: Installation, http: httpx.Client) -> str:
    answer = http.post("/clusters", json=installation.cluster_request())
    assert answer.status_code == 201, answer.text
    installation.wait(answer.json()["id"], "ready")
    return str(answer.json()["id"])


def sealed_values(context: Context, cluster: str) -> list[bytes]:
    """Everything there is that was sealed, in the store and beside the records."""
    with context.database.read() as session:
        found = [*session.scalars(select(SecretRow.sealed)), session.get_one(ClusterRow, cluster).sealed or b""]
    card = cards.cards_of(context).read(cluster, cards.NAME)
    assert card is not None
    (row,) = card["rows"]["clusters"]
    return [*found, to_values(ClusterRow, row)["sealed"]]


def test_the_vaults_key_is_changed_under_secrets_and_clusters_in_use(
    installation: Installation, scale: Scale, report: Report
) -> None:
    installation.start()
    key_file = installation.state / "secrets" / "vault-key"
    rounds, done = (scale.rounds(5) if scale.full else 1), 0
    with installation.api() as http, installation.api() as other:
        cluster = cluster_of(installation, http)
        for number in range(rounds):
            old = key_file.read_bytes()
            assert http.put("/me/secrets/KEY", json={"value": f"before-{number}"}).status_code < 300
            with working(
                lambda: http.put("/me/secrets/KEY", json={"value": "meanwhile"}),
                lambda: other.get(f"/clusters/{cluster}"),
            ) as workers:
                rotate(installation, rotation.vault_key)
            done += sum(each.done for each in workers)
            assert key_file.read_bytes() != old
            assert key_file.stat().st_mode & 0o077 == 0
            with installation.context() as context:
                for sealed in sealed_values(context, cluster):
                    assert context.vault.open_sealed(sealed)
                    with pytest.raises(InvalidToken):
                        Fernet(old).decrypt(sealed)
        # What is sealed is still of use: an agent that dies is started again with the credentials from the vault.
        (agent,) = [seen for seen in installation.running() if seen.role == "agent"]
        installation.processes.stop(cluster, role="agent", grace_s=0)
        eventually(lambda: any(seen.role == "agent-2" for seen in installation.running()), what="another agent")
        assert agent.pid
        installation.wait(cluster, "ready")
    check(installation)
    report(26, case="vault key", rounds=rounds, requests=done, dropped=0, dead_after_s=STRAGGLERS_S)


def test_the_hubs_token_is_changed_while_it_starts_notebooks(
    installation: Installation, scale: Scale, report: Report
) -> None:
    service = installation.start()
    token_file = installation.state / "secrets" / "hub-to-service"
    rounds, done = (scale.rounds(5) if scale.full else 1), 0
    notebook = installation.start_notebook()

    def as_the_hub() -> httpx.Response:
        """Which reads its token at each use."""
        token = token_file.read_text().split()[0]
        with httpx.Client(trust_env=False, timeout=60) as http:
            return http.post(
                f"{service.url}/api/v1/notebooks/{notebook}/observations", json={"state": "ready"},
                headers={"Authorization": f"Bearer {token}"},
            )  # fmt: skip

    for _ in range(rounds):
        old = token_file.read_text().strip()
        with working(as_the_hub) as workers:
            rotate(installation, rotation.hub_to_service)
        done += workers[0].done
        answer = httpx.post(
            f"{service.url}/api/v1/notebooks/{notebook}/observations", json={"state": "ready"}, trust_env=False, timeout=60,
            headers={"Authorization": f"Bearer {old}"},
        )  # fmt: skip
        assert answer.status_code in (401, 503), "the old token is still good"
        assert token_file.read_text().split() != [old]
    check(installation)
    report(26, case="hub-to-service", rounds=rounds, requests=done, dropped=0, dead_after_s=STRAGGLERS_S)


def test_the_services_token_is_changed_and_the_hub_started_with_it(own_whole: Whole, report: Report) -> None:
    up = Up(own_whole)
    up.start()
    old = read_token(own_whole.state, "service-to-hub")
    with own_whole.context() as context:
        said = rotation.service_to_hub(context, 60)
    assert said.endswith("which was started again; the old one is dead.")
    eventually(lambda: asks_the_hub(own_whole, old) == 403, within=60, what="the hub's refusal of the old token")
    assert asks_the_hub(own_whole, read_token(own_whole.state, "service-to-hub")) == 200
    person = own_whole.person(PEOPLE[1])  # the portal signs in with it
    person.close()
    check_at(own_whole.state)
    up.interrupt()
    report(26, case="service-to-hub", rounds=1)


def asks_the_hub(whole: Whole, token: str) -> int:
    """The status of its answer; 0 while it starts."""
    headers = {"Authorization": f"token {token}"}
    try:
        return httpx.get(f"{whole.settings.hub_api_url}/user", headers=headers, trust_env=False).status_code
    except httpx.TransportError:
        return 0


def test_a_clusters_token_is_changed_while_its_agent_reports(
    installation: Installation, scale: Scale, report: Report
) -> None:
    service = installation.start()
    rounds, longest = (scale.rounds(5) if scale.full else 1), 0.0
    with installation.api() as http:
        cluster = cluster_of(installation, http)
        pids = {seen.role: seen.pid for seen in installation.running()}
        for _ in range(rounds):
            old, begun = agent_token(installation, cluster), time.monotonic()
            rotate(installation, partial(rotation.workload_token, workload_id=cluster), TAKEN_S)
            longest = max(longest, time.monotonic() - begun)
            answer = httpx.post(
                f"{service.url}/api/v1/agent/reports", json={"generation": 1}, trust_env=False, timeout=60,
                headers={"Authorization": f"Bearer {old}"},
            )  # fmt: skip
            assert answer.status_code == 401, "the old token is still good"
            assert agent_token(installation, cluster) != old
        reported = http.get(f"/clusters/{cluster}").json()
        assert reported["phase"] == "ready"
        assert {seen.role: seen.pid for seen in installation.running()} == pids, "a process was started anew"
    assert "401" not in Path(installation.state / "workloads" / cluster / "agent" / "1" / "log").read_text()
    check(installation)
    report(26, case="a cluster's token", rounds=rounds, dropped=0, dead_after_s=round(longest, 1))


def agent_token(installation: Installation, cluster: str) -> str:
    with installation.context() as context, context.database.read() as session:
        return credentials_of(context, session.get_one(ClusterRow, cluster))["agent"]


def test_what_can_not_be_given_another_token_while_it_runs_says_so(installation: Installation) -> None:
    installation.start()
    notebook = installation.start_notebook()
    command = [
        sys.executable,
        "-m",
        "moorage.cli",
        "admin",
        "rotate",
        "token",
        notebook,
        "--state",
        str(installation.state),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "Stop it, and start it again" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rotation_that_was_cut_off_is_ended_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "vault-key"
    vault = Vault.open(path)
    sealed = vault.seal("mine")
    path.write_bytes(Fernet.generate_key() + b"\n" + path.read_bytes())
    assert vault.open_sealed(sealed) == "mine"
    assert not vault.is_sealed_with_the_key_in_use(sealed)
    assert vault.is_sealed_with_the_key_in_use(vault.seal_again(sealed))
