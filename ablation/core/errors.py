"""The two errors that end a command, each with its exit code, and one-line messages."""

from collections.abc import Sequence
from typing import Final

LONGEST_LINE: Final = 280


def one_line(text: str) -> str:
    """Return `text` on one line for a message.

    Control characters are escaped, and the middle of a text longer than `LONGEST_LINE` is left out.
    """
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return (
        line if len(line) <= LONGEST_LINE else f"{line[:170]} ... {line[-(LONGEST_LINE - 175) :]}"
    )


def first_line(error: BaseException, *, longest: int = 200) -> str:
    """Return the first line of an error's message, or its type's name if it has none."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:longest]


class UsageError(Exception):
    """Invalid input that the user can fix: an argument, a profile, a data file, an encoder's name.

    Ends a command with exit code 2.

    Args:
        problems: One line each: what is wrong, where, and what to do.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class RunError(Exception):
    """A run that started and failed. Ends a command with exit code 1."""

    exit_code = 1
