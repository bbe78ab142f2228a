"""What may be asked of a notebook."""

from typing import Any

import pytest

from moorage.wire import Size
from moorage_spawners.options import BadOption, read_options

DEFAULT = Size(cpu=1, memory=2 << 30)


def test_what_is_left_out_is_the_default() -> None:
    found = read_options({}, "starter", DEFAULT)
    assert (found.project, found.size) == ("starter", DEFAULT)


@pytest.mark.parametrize(
    "given",
    [
        {"project": "starter", "cpu": 2, "memory": 1 << 30, "gpu": 1, "gpu_type": "a100"},
        {"project": ["starter"], "cpu": ["2"], "memory": ["1073741824"], "gpu": ["1"], "gpu_type": ["a100"]},
        {"cpu": "2000m", "memory": "1GiB", "gpu": "1", "gpu_type": "a100"},
    ],
)
def test_form_and_api_ask_alike(given: dict[str, Any]) -> None:
    assert read_options(given, "starter", DEFAULT).size == Size(cpu=2, memory=1 << 30, gpu=1, gpu_type="a100")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"image": "evil"}, "image is no option of a notebook; those there are: project, cpu, memory, gpu, gpu_type."),
        ({"cpu": 0}, "cpu"),
        ({"cpu": True}, "cpu"),
        ({"cpu": "-1"}, "cpu '-1' is not a number of cores"),
        ({"cpu": "nan"}, "cpu 'nan' is not a number of cores"),
        ({"memory": "lots"}, "memory 'lots' is not an amount of memory"),
        ({"memory": -5}, "memory is -5; give more than 0 bytes"),
        ({"memory": {"a": 1}}, "memory"),
        ({"gpu": -1}, "gpu -1 is not a whole number"),
        ({"gpu": "two"}, "gpu 'two' is not a whole number"),
        ({"gpu_type": "a100"}, "gpu_type is 'a100' but gpu is 0"),
        ({"gpu": 1, "gpu_type": 4}, "gpu_type 4 is not a text"),
        ({"project": "other"}, "project is 'other' but the server is named 'starter'"),
    ],
)
def test_a_bad_option_is_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadOption) as caught:
        read_options(given, "starter", DEFAULT)
    assert sentence in str(caught.value)


def test_a_server_without_a_name_has_no_project() -> None:
    with pytest.raises(BadOption, match="A notebook belongs to a project"):
        read_options({}, "", DEFAULT)
