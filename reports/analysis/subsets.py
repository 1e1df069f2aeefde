"""Name the rows that a score is computed on.

An *eval set* is the development rows of a split, or the test rows; a subset of it is all of its
languages, those seen in training, the unseen ones, or a single one.
"""

from dataclasses import dataclass
from typing import Final

from ablation.runs.comparison import column_name

TEST: Final = "test"


@dataclass(frozen=True, order=True)
class EvalSubset:
    """Rows to score on.

    Attributes:
        eval_set: A split's name for its development rows, the kind of several splits, or `test`.
        languages: `all`, `seen`, `unseen`, or one language's code.
        splits: The splits to average over, whose development rows, or whose models on test rows,
            are scored; empty for one split.
    """

    eval_set: str
    languages: str = "all"
    splits: tuple[str, ...] = ()

    @property
    def is_test(self) -> bool:
        return self.eval_set == TEST

    def __str__(self) -> str:
        name = self.eval_set
        if name.startswith("dev"):
            name = f"D{name[1:]}"
        if self.splits and not self.is_test:
            name = column_name(name, self.splits)
        if self.is_test and self.languages == "all":
            return "test overall"
        return name if self.languages == "all" else f"{name} {self.languages}"
