"""Figures that the paper prints about its data and its result, read from `paper_figures.toml`."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

_FIGURES: Final[dict[str, Any]] = tomllib.loads(
    (files("ablation.config") / "paper_figures.toml").read_text("utf-8")
)

#: Table 2, labelled rows by language (ISO 639-1).
TRAIN_ROWS: Final[Mapping[str, int]] = {
    code: int(rows["train"]) for code, rows in _FIGURES["rows"].items()
}
#: Table 2, test rows by language.
TEST_ROWS: Final[Mapping[str, int]] = {
    code: int(rows["test"]) for code, rows in _FIGURES["rows"].items()
}
#: Digest of the training rows that the figures are about, see `ablation.data.reference`.
TRAIN_DIGEST: Final[str] = str(_FIGURES["train_digest"])
#: The submitted system's Pearson over all ten languages, times 100 (abstract).
OVERALL: Final[float] = float(_FIGURES["overall"])
