"""The codec reads what the service sends, and forgives what it does not know."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage import wire
from moorage.wire import codec

SIZE = {"cpu": 1, "memory": 2**31, "gpu": 0}
WORKLOAD = {
    "id": "c1",
    "kind": "cluster",
    "name": "ray-1",
    "owner": "ada",
    "project": "starter",
    "phase": "ready",
    "created_at": "2026-11-21T06:00:00Z",
}
CLUSTER = {**WORKLOAD, "spec": {"engine": "ray", "worker": SIZE}}


def test_a_nested_answer_becomes_typed_values() -> None:
    cluster = codec.parse(wire.Cluster, {**CLUSTER, "events": [{"at": "x", "code": "cluster.ready", "message": "m"}]})
    assert cluster.phase is wire.Phase.READY
    assert cluster.spec.worker == wire.Size(cpu=1.0, memory=2**31)
    assert isinstance(cluster.spec.worker.cpu, float)
    assert cluster.events[0].message == "m"


def test_unknown_fields_are_ignored() -> None:
    assert codec.parse(wire.Size, {**SIZE, "tpu": 4}) == wire.Size(cpu=1, memory=2**31)


def test_a_phase_of_a_newer_service_is_kept_as_its_text() -> None:
    cluster = codec.parse(wire.Cluster, {**CLUSTER, "phase": "hibernating"})
    assert str(cluster.phase) == "hibernating"
    assert not cluster.phase.ended
    assert json.dumps(codec.dump(cluster.phase)) == '"hibernating"'


def test_a_literal_of_a_newer_service_is_kept() -> None:
    assert codec.parse(wire.ClusterSpec, {"engine": "spark", "worker": SIZE}).engine == "spark"  # type: ignore[comparison-overlap]


def test_a_forward_reference_is_followed() -> None:
    job = codec.parse(wire.Job, {"id": "j", "name": "n", "project": "p", "stage": "prototype", "run_as": "ada"})
    assert job.last_run is None
    run = {**WORKLOAD, "kind": "run", "job": "j", "version": 1, "trigger": "manual"}
    assert codec.parse(wire.Job, {**codec.dump(job), "last_run": run}).last_run is not None


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"memory": 1}, "Size lacks the field 'cpu'"),
        ({"cpu": "two", "memory": 1}, "Size.cpu should be a number, and is 'two'"),
        ({"cpu": 1, "memory": 1.5}, "Size.memory should be a whole number, and is 1.5"),
        ({"cpu": 1, "memory": True}, "Size.memory should be a whole number, and is True"),
        ([], "Size should be an object, and is []"),
    ],
)
def test_a_wrong_shape_is_said_in_words(data: object, sentence: str) -> None:
    with pytest.raises(codec.WireError) as caught:
        codec.parse(wire.Size, data)
    assert str(caught.value) == sentence


def test_lists_and_dicts_say_where() -> None:
    with pytest.raises(codec.WireError, match=r"list\[.*Size\]\[1\] lacks the field 'cpu'"):
        codec.parse(list[wire.Size], [SIZE, {"memory": 3}])


sizes = st.builds(
    wire.Size,
    cpu=st.floats(0.1, 100),
    memory=st.integers(1, 2**50),
    gpu=st.integers(0, 8),
    gpu_type=st.none() | st.text(),
)
specs = st.builds(
    wire.ClusterSpec,
    engine=st.sampled_from(["ray", "dask"]),
    worker=sizes,
    head=st.none() | sizes,
    max_workers=st.integers(1, 99),
)


@given(specs)
def test_what_is_dumped_is_parsed_to_the_same(spec: wire.ClusterSpec) -> None:
    assert codec.parse(wire.ClusterSpec, json.loads(json.dumps(codec.dump(spec)))) == spec
