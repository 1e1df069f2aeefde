"""What was trained on what: Tables 1, 2 and 4, and the data of Figures 1, 2 and 3."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from ablation.config.schema import FIELDS, RunConfig
from ablation.data.description import label_histogram, row_counts
from ablation.data.languages import language_name, ordered
from ablation.tracking import names
from reports.analysis.collect import Experiment, StoredRun, read_tables
from reports.analysis.groups import Group
from reports.analysis.measures import Measurements
from reports.rendering.tables import Cell, Column, Table, number
from reports.sections.scores import title

#: Table 4's lines and the settings that they are; what the paper has is the settings' default.
TABLE_4: Final = (
    ("Number of freeze layer", "model.freeze_layers"),
    ("Max sequence length", "data.max_tokens"),
    ("Batch size", "optimisation.batch_size"),
    ("Epochs", "optimisation.epochs"),
    ("Adam epsilon", "optimisation.adam_eps"),
    ("Weight decay", "optimisation.weight_decay"),
    ("Scheduler after the warmup", "optimisation.decay"),
    ("Warmup rate", "optimisation.warmup"),
    ("Max grad norm", "optimisation.max_grad_norm"),
    ("τ", "loss.tau"),
    ("XLM-R learning rate", "optimisation.lr_encoder"),
    ("Classifier learning rate", "optimisation.lr_head"),
)
#: Figure 2 shows as many rows of the batch as the paper's sketch has.
PAIRS_SHOWN: Final = 8


@dataclass(frozen=True)
class Distances:
    """One batch's KL matrix (rows, rows), sorted by language, and the run that it is of."""

    run: StoredRun
    kl: np.ndarray
    language: np.ndarray
    tau: float

    def few(self, count: int = PAIRS_SHOWN) -> "Distances":
        """`count` of the rows, evenly from the batch's languages."""
        order = pd.Series(self.language).groupby(self.language).cumcount().to_numpy()
        chosen = np.sort(np.lexsort((np.arange(len(order)), order))[:count])
        return Distances(self.run, self.kl[np.ix_(chosen, chosen)], self.language[chosen], self.tau)


def table_1(train: pd.DataFrame) -> Table:
    """One sample of each language: its first row of a length that is neither short nor long."""
    rows = []
    for code in ordered(set(train["language"])):
        of_language = train[train["language"] == code]
        lengths = of_language["text"].str.len()
        typical = of_language[lengths.between(lengths.quantile(0.25), lengths.quantile(0.75))].iloc[
            0
        ]
        rows.append(
            (
                Cell(str(typical["text"]), language=code),
                Cell(language_name(code)),
                number(float(typical["label"]), 1),
            )
        )
    heads = (Column("Text"), Column("Language"), Column("Intimacy", True))
    note = (
        "Intimacy from 1 to 5. Of each language the first row whose length is in the middle half."
    )
    return Table(
        "table1",
        "Table 1: samples of the training set",
        heads,
        tuple(rows),
        (note,),
        wide=True,
        widths=(78, 12, 10),
    )


def table_2(train: pd.DataFrame, test: pd.DataFrame | None) -> Table:
    """Rows of each language against the paper's Table 2; differing ones marked."""
    counts = row_counts(train, test)
    rows = []
    for code, row in [*counts.iterrows(), ("All", counts.sum())]:
        cells = []
        for ours, theirs in (("train", "paper train"), ("test", "paper test")):
            differs = row[ours] != row[theirs]
            cells += [
                Cell(f"{row[ours]:,}", float(row[ours]), mark="differs" if differs else ""),
                Cell(f"{row[theirs]:,}", float(row[theirs])),
            ]
        rows.append(
            (Cell(f"{language_name(str(code))} ({code})" if code != "All" else "All"), *cells)
        )
    heads = (
        Column("Language"),
        Column("ours", True, "Train"),
        Column("paper", True, "Train"),
        Column("ours", True, "Test"),
        Column("paper", True, "Test"),
    )
    note = "Marked: other than the paper's. MINT's labelled test rows are fewer, since the file handed out held unlabelled decoys."
    return Table("table2", "Table 2: rows of each language", heads, tuple(rows), (note,))


def table_4(group: Group) -> Table:
    """The paper's hyperparameters and the ones used; then every other setting that is not its default."""
    printed, rows = RunConfig().flat(), []
    listed = {field: heading for heading, field in TABLE_4}
    for field in (*listed, *(f for f in FIELDS if f not in listed)):
        used = _used(group, field)
        default = str(printed[field])
        shown = "not given" if printed[field] is None else default
        differs = used != [default]
        if not used or (field not in listed and (not differs or field in _MAKES_THE_VARIANT)):
            continue
        rows.append(
            (
                Cell(listed.get(field, "–")),
                Cell(field),
                Cell(
                    shown
                    if field in listed or field == "model.encoder"
                    else f"{shown} (not in Table 4)"
                ),
                Cell(", ".join(used), mark="differs" if differs else ""),
            )
        )
    rows.insert(4, (Cell("Optimizer"), Cell("–"), Cell("AdamW"), Cell("AdamW")))
    heads = (Column("Table 4"), Column("setting"), Column("paper"), Column("used"))
    note = "Marked: other than the paper's. What makes a variant (its losses, frozen tuning) is not listed."
    return Table(
        "table4",
        "Table 4: the settings used",
        heads,
        tuple(rows),
        (note,),
        wide=True,
        widths=(27, 28, 30, 15),
    )


def histogram(train: pd.DataFrame) -> pd.Series:
    """Figure 1: labelled rows by label, in bins of 0.25."""
    return label_histogram(train["label"])


def layers(measured: Measurements) -> pd.DataFrame:
    """Figure 3: columns variant (title), total, frozen (layers), trainable (share of parameters); tracked runs only."""
    rows = {}
    for run in measured.group.runs:
        record = measured.records[run.run_id]
        if record.layers_total is not None and record.layers_frozen is not None:
            share = (record.parameters_trainable or 0) / (record.parameters_total or 1)
            rows[run.variant] = {
                "variant": title(run.variant),
                "total": record.layers_total,
                "frozen": record.layers_frozen,
                "trainable": share,
            }
    return pd.DataFrame(list(rows.values()), columns=["variant", "total", "frozen", "trainable"])


def distances(
    experiment: Experiment, group: Group, wanted: Sequence[str] = ("epm+cl", "epm", "mse")
) -> list[Distances]:
    """Figure 2's matrices: with CL, and without for comparison; of the lowest seed of the first split."""
    found = []
    for variant in wanted:
        run = next(
            (r for r in group.runs if r.variant == variant and r.split == group.splits[0]), None
        )
        frame = read_tables(experiment, [run], names.DISTANCES)[run.run_id] if run else None
        if run and frame is not None:
            kl = frame.filter(like="kl_").to_numpy(np.float64)
            found.append(
                Distances(run, kl, frame["language"].to_numpy(), float(run.params["loss.tau"]))
            )
    return found[:2]


_MAKES_THE_VARIANT: Final = ("loss.regression", "loss.contrastive", "model.frozen_tuning")


def _used(group: Group, field: str) -> list[str]:
    return sorted({run.params[field] for run in group.runs if field in run.params})
