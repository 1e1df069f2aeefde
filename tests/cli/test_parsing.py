"""Text of options becomes Python values, or a UsageError that says what to write."""

import pytest

from ablation.cli.parsing import parse_taus, split_list, switches_from_text
from ablation.core.errors import UsageError


def test_lists_have_commas_and_no_blanks() -> None:
    assert split_list(" mse, epm ,,") == ("mse", "epm")
    assert split_list("") == ()


def test_temperatures_are_numbers() -> None:
    assert parse_taus("0.02, 2") == (0.02, 2.0)
    with pytest.raises(UsageError, match="give temperatures above 0"):
        parse_taus("warm")


SWITCHES = {"--fresh": None, "--report": "--no-report", "--no-report": None}


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("--fresh", "--fresh"),
        ("--fresh true --seeds 0", "--fresh --seeds 0"),
        ("--fresh False --seeds 0", "--seeds 0"),
        ("--report true", "--report"),
        ("--report false", "--no-report"),
        ("--no-report --fresh", "--no-report --fresh"),
        ("--seeds true", "--seeds true"),
        ("-- --fresh true", "-- --fresh true"),
    ],
)
def test_true_and_false_after_a_switch_set_it(text: str, arguments: str) -> None:
    assert switches_from_text(text.split(), SWITCHES) == arguments.split()


@pytest.mark.parametrize("value", ["perhaps", "", "1"])
def test_other_text_after_a_switch_is_explained(value: str) -> None:
    with pytest.raises(UsageError, match=f"--fresh '{value}': .*give true, false or nothing"):
        switches_from_text(["--fresh", value], SWITCHES)
