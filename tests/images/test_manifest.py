"""moorage.yaml: what is read, and the sentence for each fault. Parser and published schema agree."""

import contextlib
import json

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from moorage.wire import ClusterSpec, Schedule, Size
from moorage_images.errors import ManifestError
from moorage_images.manifest import Manifest, parse
from moorage_images.schema import PUBLISHED, published

PYTHONS = ["3.11", "3.12"]
WHOLE = """
name: Fish
python: "3.12"
packages:
  - pandas>=2
  - ray[default] == 2.60.0
system: [libgomp1]
clusters:
  ray: {min_workers: 0, max_workers: 4, worker: {cpu: 0.5, memory: 1.5GiB, gpu: 1, gpu_type: h200}}
jobs:
  nightly:
    notebook: reports/daily.ipynb
    files: [lib.py]
    schedule: "0 6 * * *"
    timezone: Europe/Berlin
    parameters: {rows: 10}
    secrets: [KEY]
    size: {cpu: 1, memory: 512MiB}
    cluster: {engine: dask, max_workers: 2, worker: {cpu: 1, memory: 1GB}}
    timeout_s: 600
"""


def test_a_whole_manifest_is_read() -> None:
    read = parse(WHOLE, PYTHONS)
    assert (read.name, read.python, read.system) == ("Fish", "3.12", ("libgomp1",))
    assert read.packages == ("pandas>=2", "ray[default]==2.60.0")
    worker = Size(cpu=0.5, memory=3 << 29, gpu=1, gpu_type="h200")
    assert read.clusters == {"ray": ClusterSpec(engine="ray", min_workers=0, max_workers=4, worker=worker)}
    (job,) = read.jobs
    assert (job.name, job.notebook, job.files, job.secrets) == ("nightly", "reports/daily.ipynb", ("lib.py",), ("KEY",))
    assert job.schedule == Schedule(cron="0 6 * * *", timezone="Europe/Berlin")
    assert (job.parameters, job.size, job.timeout_s) == ({"rows": 10}, Size(cpu=1, memory=512 << 20), 600)
    assert job.cluster == ClusterSpec(engine="dask", max_workers=2, worker=Size(cpu=1, memory=10**9))


def test_a_name_is_enough() -> None:
    assert parse("name: Fish", PYTHONS) == Manifest(name="Fish", python="3.11")


def test_a_version_without_quotes_is_understood_where_it_can_be() -> None:
    assert parse("name: x\npython: 3.12", PYTHONS).python == "3.12"


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("", None, "no keys"),
        ("- a", None, "no keys"),
        ("a: [", None, "line 1"),
        ("name: x\nname: y", "name", "twice"),
        ("x: &a 1\ny: *a", None, "aliases"),
        ("name: \x00", None, "not YAML"),
        ("a: " + "[" * 5000, None, "nested too deeply"),
        ("a: " + "x" * 70_000, None, "below 65536"),
        ("packages: [a]", "name", "'name' is missing"),
        ("name: x\npakages: [a]", "pakages", "Did you mean 'packages'"),
        ("name: x\npython: 3.10", "python", 'in quotes; this installation offers "3.11", "3.12"'),
        ('name: x\npython: "3.9"', "python", 'Choose one of "3.11", "3.12"'),
        ("name: x\npackages: pandas", "packages", "not a list"),
        ("name: x\npackages:", "packages", "not a list"),
        ("name: x\npackages: [pandas>>2]", "packages[0]", "not a requirement"),
        ("name: x\npackages: [ok, -r other.txt]", "packages[1]", "is an option"),
        ("name: x\npackages: [./here]", "packages[0]", "a path or a URL"),
        ("name: x\npackages: ['a @ git+https://example.org/a']", "packages[0]", "a path or a URL"),
        ("name: x\npackages: [Moorage_Service]", "packages[0]", "Moorage's own"),
        ("name: x\nsystem: [Bad Name]", "system[0]", "Debian package"),
        ("name: x\nclusters: {slurm: {}}", "clusters.slurm", "Known are: dask, ray"),
        ("name: x\nclusters: {ray: {worker: {cpu: 0, memory: 1GiB}}}", "clusters.ray.worker.cpu", "least is 0.1"),
        ("name: x\nclusters: {ray: {worker: {cpu: .nan, memory: 1GiB}}}", "clusters.ray.worker.cpu", "not an amount"),
        ("name: x\nclusters: {ray: {worker: {cpu: 1, memory: 4}}}", "clusters.ray.worker.memory", "with a unit"),
        (
            "name: x\nclusters: {ray: {min_workers: 3, max_workers: 2, worker: {cpu: 1, memory: 1GiB}}}",
            "clusters.ray.min_workers",
            "3 is more than max_workers",
        ),
        ("name: x\njobs: {Bad_Name: {notebook: a.ipynb}}", "jobs", "'Bad_Name'"),
        ("name: x\njobs: {a: {notebook: ../a.ipynb}}", "jobs.a.notebook", "ends in .ipynb"),
        ("name: x\njobs: {a: {notebook: a.ipynb, schedule: daily}}", "jobs.a.schedule", "five cron fields"),
        ("name: x\njobs: {a: {notebook: a.ipynb, timezone: UTC}}", "jobs.a.timezone", "no schedule"),
    ],
)
def test_a_fault_names_field_and_remedy(text: str, field: str | None, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse(text, PYTHONS)
    assert caught.value.field == field
    assert words in caught.value.message


_KEYS = st.sampled_from(["name", "python", "packages", "clusters", "jobs", "ray", "worker", "cpu", "memory", "x"])
_LEAVES = st.none() | st.booleans() | st.floats() | st.text()
_DOCUMENTS = st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner))


@given(_DOCUMENTS)
def test_whatever_is_sent_the_answer_is_a_manifest_or_a_sentence(document: object) -> None:
    with contextlib.suppress(ManifestError):
        assert isinstance(parse(yaml.safe_dump(document, allow_unicode=True), PYTHONS), Manifest)


def test_the_published_schema_is_the_present_one() -> None:
    assert PUBLISHED.read_text() == published(), "run `python -m moorage_images.schema`"
    jsonschema.Draft202012Validator.check_schema(json.loads(published()))
