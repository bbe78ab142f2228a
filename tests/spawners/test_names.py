"""Names and labels in Kubernetes: valid whatever people are called, and never one for two."""

import random
import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage_spawners.launch.errors import ManifestError
from moorage_spawners.launch.labels import GENERATION, OWNER, PROJECT, Ownership
from moorage_spawners.launch.names import label_value, namespace_name, pod_name

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")  # as Kubernetes' own validation writes them
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
HARD = "aA1-._@ /é漢\U0001f40d\u0130\u0000\n"


def valid(pattern: re.Pattern[str], text: str) -> bool:
    return len(text) <= 63 and pattern.fullmatch(text) is not None


def test_no_two_of_100_000_users_share_a_namespace_or_a_label() -> None:
    chance = random.Random(7)
    names = {"".join(chance.choices(HARD, k=chance.randint(1, 90))) for _ in range(95_000)}
    names |= {f"user-{number:04}" for number in range(5_000)} | {"a" * length for length in range(1, 300)}
    names |= {"".join(parts) for parts in product("aA-", repeat=8)}
    assert len(names) > 100_000
    spaces = {namespace_name("moorage", name, name) for name in names}
    labels = {label_value(name) for name in names}
    assert len(spaces) == len(labels) == len(names)
    assert all(valid(DNS_LABEL, space) and space.startswith("moorage-") for space in spaces)
    assert all(valid(LABEL_VALUE, label) and label for label in labels)


@given(st.text(), st.text(), st.from_regex(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?", fullmatch=True))
def test_a_namespace_is_valid_for_any_name_and_prefix(user_id: str, name: str, prefix: str) -> None:
    assert valid(DNS_LABEL, namespace_name(prefix, user_id, name))


def test_two_users_of_one_name_are_apart_and_the_name_can_be_read() -> None:
    first, second = namespace_name("moorage", "us-1", "Ada.Lovelace"), namespace_name("moorage", "us-2", "Ada.Lovelace")
    assert first != second
    assert first.startswith("moorage-ada-lovelace-")


@given(st.text(), st.text())
def test_two_texts_never_give_one_label(first: str, second: str) -> None:
    assert valid(LABEL_VALUE, label_value(first))
    assert (label_value(first) == label_value(second)) == (first == second)


@given(st.text())
def test_a_label_that_was_made_is_not_taken_for_itself(text: str) -> None:
    made = label_value(text)
    assert made == text or label_value(made) != made


@pytest.mark.parametrize("plain", ["ada", "Ada.Lovelace", "a_b-c.d", "x" * 63])
def test_a_valid_text_is_its_own_label(plain: str) -> None:
    assert label_value(plain) == plain


def test_a_pod_is_named_after_its_workload_and_generation() -> None:
    assert pod_name("nb-k3x9", 2) == "nb-k3x9-2"


@given(
    st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
    st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
    *[st.integers(0, 200)] * 2,
)
def test_two_workloads_never_share_a_pod(first: str, second: str, one: int, other: int) -> None:
    try:
        names = pod_name(first, one), pod_name(second, other)
    except ManifestError:
        return
    assert all(valid(DNS_LABEL, name) for name in names)
    assert (names[0] == names[1]) == ((first, one) == (second, other))


@pytest.mark.parametrize("bad", ["", "NB-1", "nb_1", "-nb", "nb.1", "nb\n", "x" * 62, "nb é"])
def test_an_id_that_can_name_no_pod_is_refused(bad: str) -> None:
    with pytest.raises(ManifestError, match="lower-case letters"):
        pod_name(bad, 1)


@pytest.mark.parametrize("bad", ["", "Moorage", "x" * 21, "moor_age", "moorage-"])
def test_a_prefix_that_can_start_no_namespace_is_refused(bad: str) -> None:
    with pytest.raises(ManifestError, match="namespace prefix"):
        namespace_name(bad, "us-1", "ada")


@given(st.text(), st.text(), st.text(), st.text())
def test_labels_and_annotations_give_back_whose_it_is(owner: str, project: str, kind: str, role: str) -> None:
    whose = Ownership(workload_id="nb-1", generation=3, kind=kind, role=role, owner=owner, project=project)
    metadata = {"labels": whose.labels(), "annotations": whose.annotations()}
    assert all(valid(LABEL_VALUE, value) for value in whose.labels().values())
    assert Ownership.of(metadata) == whose


def test_an_annotation_that_was_changed_is_not_believed() -> None:
    whose = Ownership(workload_id="nb-1", generation=3, kind="notebook", role="server", owner="ada", project="tide")
    metadata = {"labels": whose.labels(), "annotations": {OWNER: "eve", GENERATION: "9", PROJECT: "tide"}}
    assert Ownership.of(metadata) == whose


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"app.kubernetes.io/managed-by": "Helm"},
        {"app.kubernetes.io/managed-by": "moorage", "moorage.dev/workload": "nb-1"},
    ],
)
def test_what_is_not_ours_has_no_owner(labels: dict[str, str]) -> None:
    assert Ownership.of({"labels": labels}) is None
