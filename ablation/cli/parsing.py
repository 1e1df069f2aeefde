"""Turn the text of options into Python values."""

from collections.abc import Mapping, Sequence

from ablation.config import label_range
from ablation.core.errors import UsageError


def split_list(text: str) -> tuple[str, ...]:
    """Return the entries of a comma-separated list, without blanks around them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_taus(text: str) -> tuple[float, ...]:
    """Return temperatures from text such as "0.02,0.2,2". Raises UsageError."""
    try:
        return tuple(float(part) for part in split_list(text))
    except ValueError as error:
        hint = "give temperatures above 0, such as 0.02,0.2,2"
        raise UsageError(f"--taus {text!r}: {hint}") from error


def parse_range(option: str, text: str) -> tuple[float, float]:
    """Return the ends of a range such as "0..3". Raises UsageError."""
    try:
        return label_range.parse_range(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: {error}") from error


def switches_from_text(
    arguments: Sequence[str], switches: Mapping[str, str | None], *, takes_arguments: bool = False
) -> list[str]:
    """Replace `--switch true` and `--switch false` by the switches that they stand for.

    MLproject can only fill in text: its `--fresh {fresh}` becomes `--fresh true`.

    Args:
        arguments: The command line after the command's name.
        switches: Names of switches, with the name that turns each off ("--no-report"); None if
            leaving the switch out does.
        takes_arguments: Whether other text after a switch may be an argument of the command.

    Raises:
        UsageError: A switch is followed by other text.
    """
    result: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        result.append(argument)
        if argument == "--":
            return result + rest
        if argument not in switches or not rest or rest[0].startswith("-"):
            continue
        value = rest.pop(0)
        if value.lower() not in ("true", "false"):
            if takes_arguments:
                result.append(value)
                continue
            raise UsageError(f"{argument} {value!r}: this is a switch; give true, false or nothing")
        if value.lower() == "false":
            result[-1:] = [off] if (off := switches[argument]) else []
    return result
