"""What failed is tried again later and later, and never by all at once."""

from moorage_spawners.launch.pauses import pause_s


def test_a_pause_grows_to_the_longest_and_no_further() -> None:
    for failures, longest_now in ((0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (10_000, 10)):
        pauses = [pause_s(failures, first_s=1, longest_s=10) for _ in range(50)]
        assert all(longest_now / 2 <= each <= longest_now for each in pauses)


def test_no_two_who_failed_together_come_back_together() -> None:
    assert len({pause_s(3, first_s=1, longest_s=10) for _ in range(100)}) > 90
