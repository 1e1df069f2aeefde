"""Numbers as a reader sees them."""

from hypothesis import given
from hypothesis import strategies as st

from ablation.config.overrides import parse_seeds
from ablation.core.counting import counted, number_ranges


def test_one_thing_is_singular() -> None:
    assert [counted(n, "run") for n in (0, 1, 2, 1000)] == [
        "0 runs",
        "1 run",
        "2 runs",
        "1,000 runs",
    ]


def test_numbers_that_follow_each_other_are_a_range() -> None:
    assert number_ranges([7, 0, 1, 2, 4, 5]) == "0-2, 4-5, 7"
    assert number_ranges([]) == ""


@given(seeds=st.lists(st.integers(0, 300), min_size=1))
def test_ranges_are_what_the_command_line_reads(seeds: list[int]) -> None:
    assert set(parse_seeds(number_ranges(seeds).replace(" ", ""))) == set(seeds)
