"""Clusters from a notebook: found again, waited for, stopped, and shown."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from moorage import cluster as clusters
from moorage import errors, wire
from moorage.client import Client
from moorage.cluster import Cluster
from moorage.environment import Surroundings
from tests.fakes.service_api import GIB, FakeServiceApi


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeServiceApi:
    for name in ("MOORAGE_CLUSTER", "MOORAGE_PROJECT", "MOORAGE_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(clusters, "POLL_S", 0.0)
    return FakeServiceApi()


@pytest.fixture
def client(api: FakeServiceApi) -> Client:
    return api.client()


def turning(api: FakeServiceApi, cluster_id: str, *changes: dict[str, Any]) -> None:
    """Each look at the cluster makes the next change."""
    left = list(changes)

    def look(_request: httpx.Request) -> httpx.Response:
        if left:
            api.clusters[cluster_id] |= left.pop(0)
        return httpx.Response(200, json=api.clusters[cluster_id])

    api.routes["GET", f"/clusters/{cluster_id}"] = look


def test_create_says_how_many_and_how_large(api: FakeServiceApi, client: Client) -> None:
    made = Cluster.create("ray", workers=(0, 3), cpu="500m", memory="1GiB", name="mine", client=client)
    assert made.state.spec == wire.ClusterSpec(
        engine="ray", min_workers=0, max_workers=3, worker=wire.Size(cpu=0.5, memory=GIB)
    )
    assert made.name == "mine"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"workers": (3, 1)}, "workers (3, 1)"),
        ({"workers": 0}, "workers (0, 0)"),
        ({"cpu": "lots"}, "'lots'"),
        ({"memory": "2"}, "'2'"),
        ({"gpu": -1}, "gpu -1"),
        ({"engine": "spark"}, "'spark'"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_before_anything_is_sent(
    api: FakeServiceApi, client: Client, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        Cluster.create(**{"engine": "ray", "client": client, **options})
    assert word in caught.value.message
    assert not api.requests


def test_wait_says_how_it_goes(api: FakeServiceApi, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    api.add_cluster("c1", "ray-1")
    turning(api, "c1", {"phase": "starting", "reason": "The head is starting."}, {}, {"phase": "ready", "reason": None})
    cluster = clusters.attach(client=client)
    assert cluster.phase is wire.Phase.READY
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2, "one line for a phase, however long it lasts"
    assert lines[0].startswith("ray-1: starting, 0 of at most 2 workers - The head is starting (")
    assert lines[1].startswith("ray-1: ready, ")


def test_a_cluster_that_fails_says_why(api: FakeServiceApi, client: Client) -> None:
    api.add_cluster("c1", "ray-1")
    turning(api, "c1", {"phase": "failed", "reason": "Its head ran out of memory."})
    with pytest.raises(errors.ClusterEnded, match="failed: Its head ran out of memory"):
        clusters.attach(client=client)


def test_a_wait_that_is_too_long_ends_with_what_to_do(api: FakeServiceApi, client: Client) -> None:
    api.add_cluster("c1", "ray-1")
    with pytest.raises(errors.WaitedTooLong, match="wait\\(\\) again, or stop\\(\\) it"):
        clusters.attach(client=client, timeout=0.0)


def test_attach_finds_the_only_one_and_else_asks(api: FakeServiceApi, client: Client) -> None:
    with pytest.raises(errors.NoCluster, match=r"moorage\.sizing\(\)"):
        clusters.attach(client=client)
    api.add_cluster("c1", "ray-1", phase="ready")
    api.add_cluster("c0", "old", phase="stopping")
    assert clusters.attach(client=client).id == "c1"
    api.add_cluster("c2", "dask-1", phase="ready")
    with pytest.raises(errors.SeveralClusters, match="dask-1, ray-1"):
        clusters.attach(client=client)
    assert clusters.attach("dask-1", client=client).id == "c2"
    with pytest.raises(errors.NoCluster, match="'x'"):
        clusters.attach("x", client=client)


def test_a_run_attaches_to_its_own_cluster(
    api: FakeServiceApi, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.add_cluster("c1", "ray-1", phase="ready")
    api.add_cluster("c9", "of-the-run", phase="ready")
    monkeypatch.setenv("MOORAGE_CLUSTER", "c9")
    assert clusters.attach(client=client).name == "of-the-run"


def test_stop_may_be_asked_again(api: FakeServiceApi, client: Client) -> None:
    api.add_cluster("c1", "ray-1", phase="ready")
    cluster = clusters.attach(client=client)
    cluster.stop()
    assert api.clusters["c1"]["phase"] == "stopping"
    del api.clusters["c1"]
    cluster.stop()


def test_what_is_shown_is_escaped(api: FakeServiceApi, client: Client) -> None:
    state = api.add_cluster("c1", "<b>x</b>", phase="ready", dashboard="/d/?a=1&b=2", reason="<script>")
    around = Surroundings(public_url="http://hub.test")
    shown = Cluster(wire.codec.parse(wire.Cluster, state), client=client, around=around)._repr_html_()
    assert "<b>x</b>" not in shown
    assert "<script>" not in shown
    assert 'href="http://hub.test/d/?a=1&amp;b=2"' in shown


def test_importing_moorage_brings_no_engine_and_no_widgets(run_python: Callable[[str], str]) -> None:
    heavy = "{'ray', 'distributed', 'ipywidgets', 'anywidget', 'IPython'}"
    found = run_python(f"import sys, moorage; moorage.Cluster, moorage.attach; print({heavy} & set(sys.modules))")
    assert found.strip() == "set()"


def test_it_is_kept_for_a_while_and_ends_with_its_notebook_again(api: FakeServiceApi, client: Client) -> None:
    made = Cluster.create("ray", on_notebook_end="stop", client=client)
    api.clusters[made.id] |= {"stops_at": "2999-01-01T00:00:00Z", "stops_why": "Its notebook has ended."}
    assert "Its notebook has ended; stops in" in made.status
    made.keep(hours=2)
    assert (api.clusters[made.id]["keep_for_s"], made.state.on_notebook_end) == (7200.0, "keep")
    assert "stops in" not in made.status
    assert made.end_with_notebook().state.on_notebook_end == "stop"
    with pytest.raises(errors.InvalidInput, match="write 'stop' or 'keep'"):
        Cluster.create("ray", on_notebook_end="burn", client=client)  # type: ignore[arg-type]
