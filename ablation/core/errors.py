"""The two ways in which a command ends badly, and the exit code of each."""

from collections.abc import Sequence
from typing import Final

LONGEST_LINE: Final = 280


def one_line(text: str) -> str:
    """`text` for a message: on one line, without characters that a terminal obeys, its middle left out if it is long."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return (
        line if len(line) <= LONGEST_LINE else f"{line[:170]} ... {line[-(LONGEST_LINE - 175) :]}"
    )


def first_line(error: BaseException, *, longest: int = 200) -> str:
    """Return the first line of an error's message, or its type's name if it has none."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:longest]


class UsageError(Exception):
    """Something that the user can mend: an argument, a profile, a data file, an encoder's name.

    Each problem is one line that says what is wrong, where, and what to do. Exit code 2.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class RunError(Exception):
    """A run that began and could not be carried through. Exit code 1."""

    exit_code = 1
