"""Amounts are read and shown as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage import quantities


@pytest.mark.parametrize(
    ("text", "amount"),
    [("2GiB", 2**31), ("512MiB", 2**29), (" 1.5 gib ", 3 * 2**29), ("2G", 2**31), ("2GB", 2 * 10**9), (1024, 1024)],
)
def test_memory_is_read(text: str | int, amount: int) -> None:
    assert quantities.parse_memory(text) == amount


@pytest.mark.parametrize("text", ["2", "two", "", "-1GiB", "2GiBs", "0GiB", 0, "1e9B"])
def test_memory_that_is_none_is_refused_with_field_value_and_remedy(text: str | int) -> None:
    with pytest.raises(quantities.InvalidQuantity) as caught:
        quantities.parse_memory(text, "worker memory")
    assert "worker memory" in str(caught.value)
    assert "2GiB" in str(caught.value)


@pytest.mark.parametrize(("text", "cores"), [("2", 2.0), ("1.5", 1.5), ("500m", 0.5), (3, 3.0)])
def test_cores_are_read(text: str | float, cores: float) -> None:
    assert quantities.parse_cpu(text) == cores


@pytest.mark.parametrize("text", ["0", "many", "-1", "nan", "inf", ""])
def test_cores_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(quantities.InvalidQuantity, match="cpu"):
        quantities.parse_cpu(text)


def test_amounts_are_shown_in_words() -> None:
    assert quantities.show_amount("cpu", 1.5) == "1.5 cores"
    assert quantities.show_amount("memory", 3 * 2**29) == "1.5 GiB"
    assert quantities.show_amount("gpu:a100", 1) == "1 gpu (a100)"
    assert quantities.show_amount("clusters", 1) == "1 cluster"
    assert quantities.show_amount("runs", 0) == "0 runs"


@given(st.integers(1, 2**50))
def test_memory_written_as_text_is_read_back_exactly(amount: int) -> None:
    assert quantities.parse_memory(quantities.memory_text(amount)) == amount
