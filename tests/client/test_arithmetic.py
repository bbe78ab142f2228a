"""The sizing form adds up what a cluster would hold and compares it with what is left."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from moorage.widget import arithmetic
from moorage.widget.arithmetic import Form
from moorage.wire import ClusterOptions, codec
from tests.fakes.service_api import GIB, OPTIONS

options = codec.parse(ClusterOptions, OPTIONS)


def test_the_form_starts_with_the_services_default() -> None:
    form = arithmetic.first_form(options, None)
    assert (form.engine, form.min_workers, form.max_workers, form.cpu, form.memory) == ("ray", 1, 2, 1.0, 2 * GIB)


def test_a_cluster_counts_at_its_maximum_with_its_head() -> None:
    total = arithmetic.total(Form(engine="ray", max_workers=3, cpu=2, memory=GIB, gpu=1, gpu_type="a100"), options)
    assert total == {"cpu": 7.0, "memory": 5.0 * GIB, "gpu": 3.0, "gpu:a100": 3.0, "clusters": 1.0}


def test_what_does_not_fit_names_the_rule_and_what_would() -> None:
    check = arithmetic.check(Form(engine="ray", max_workers=5, cpu=1, memory=GIB), options)
    assert not check.ok
    assert [line.resource for line in check.lines if line.over] == ["cpu"]
    assert check.sentence == (
        "This asks for 6 cores; left: 4 cores, for everyone may hold at most 6 cores at once. "
        "At most 3 workers of this size fit."
    )


def test_a_worker_that_never_fits_asks_for_smaller_ones() -> None:
    check = arithmetic.check(Form(engine="ray", max_workers=1, cpu=4, memory=GIB), options)
    assert "Choose smaller workers" in check.sentence


def test_an_engine_that_the_project_lacks_says_the_remedy() -> None:
    check = arithmetic.check(Form(engine="dask"), options)
    assert not check.ok
    assert "add it to moorage.yaml" in check.sentence


def test_least_and_most_workers_push_each_other() -> None:
    form = Form(engine="ray", min_workers=1, max_workers=2)
    assert arithmetic.change(form, "min_workers", 4, options).max_workers == 4
    assert arithmetic.change(replace(form, min_workers=2), "max_workers", 1, options).min_workers == 1


def test_values_out_of_bounds_become_the_nearest_within() -> None:
    form = Form(engine="ray")
    assert arithmetic.change(form, "cpu", 99, options).cpu == 4.0
    assert arithmetic.change(form, "memory", 1, options).memory == GIB // 2
    assert arithmetic.change(form, "max_workers", -3, options).max_workers == 1
    assert arithmetic.change(form, "gpu", 5, options) == replace(form, gpu=2, gpu_type="a100")


def test_a_field_that_is_unknown_or_no_number_changes_nothing() -> None:
    form = Form(engine="ray")
    for field, value in (("cpu", "much"), ("cpu", None), ("colour", 3), ("engine", "spark"), ("gpu", True)):
        assert arithmetic.change(form, field, value, options) == form


fields = st.sampled_from(["min_workers", "max_workers", "cpu", "memory", "gpu"])
numbers = st.one_of(st.integers(-5, 2**40), st.floats(-5, 1e12))


@given(st.lists(st.tuples(fields, numbers), max_size=6))
def test_whatever_is_moved_the_form_stays_within_bounds(moves: list[tuple[str, float]]) -> None:
    form = arithmetic.first_form(options, "ray")
    for field, value in moves:
        form = arithmetic.change(form, field, value, options)
    assert 0 <= form.min_workers <= form.max_workers <= options.max_workers
    assert 0 < form.cpu <= options.max_worker.cpu
    assert 0 < form.memory <= options.max_worker.memory
    assert 0 <= form.gpu <= options.max_worker.gpu
    assert (form.gpu_type is None) == (form.gpu == 0)
