"""The comparison table: the paper's Table 3 with measured scores beside the printed ones.

The paper does not say which split's models its test columns belong to. Here they come from one
split, Dev1 where it was run (its models saw all training languages), and the table names it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import pandas as pd

from ablation.config.variant_table import PrintedCells, VariantTable
from ablation.config.variants import TABLE_3
from ablation.data.corpus import Corpus
from ablation.data.splits import by_kind, draw_kind
from ablation.training.records import RunRecord

#: The test columns and the figures of `RunRecord.test` that they show.
TEST_COLUMNS: Final = {
    "test seen": "pearson_seen",
    "test unseen": "pearson_unseen",
    "test overall": "pearson",
}
_PAPER_COLUMNS: Final = {
    "dev1": "dev1",
    "dev2": "dev2",
    "test seen": "seen",
    "test unseen": "unseen",
}


def test_split(splits: Sequence[str]) -> str:
    """Return the split whose models give the test columns.

    Dev1, whose models train on every group, or `given`, whose models train on the whole training
    file; without both the first split.
    """
    preferred = (s for kind in ("dev1", "given") for s in splits if draw_kind(s) == kind)
    return next(preferred, splits[0])


def test_splits(splits: Sequence[str]) -> tuple[str, ...]:
    """Return the splits over whose models the test columns average: those of `test_split`'s kind.

    All draws of Dev1, for example, or all pairs of languages that Dev2 held out.
    """
    return by_kind(splits)[draw_kind(test_split(splits))]


def largest_grid(
    seeds_of: Mapping[str, Collection[int]],
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the splits and the seeds that all of them have, as many runs as there can be.

    A mean over splits and seeds takes each split with the same seeds: a suite that was broken off
    would otherwise count its first splits more. Of equal grids, the one with more splits.

    Args:
        seeds_of: The seeds of each split; splits without seeds are left out.
    """
    order = sorted((s for s in seeds_of if seeds_of[s]), key=lambda s: -len(seeds_of[s]))
    best: tuple[tuple[str, ...], tuple[int, ...]] = ((), ())
    for count in range(1, len(order) + 1):
        seeds = set.intersection(*(set(seeds_of[split]) for split in order[:count]))
        if count * len(seeds) >= len(best[0]) * len(best[1]):
            kept = set(order[:count])
            best = tuple(s for s in seeds_of if s in kept), tuple(sorted(seeds))
    return best


def column_name(kind: str, splits: Sequence[str]) -> str:
    """Name the column of a kind of split: the split, or the kind and how many it averages over."""
    return splits[0] if len(splits) == 1 else f"{kind} ({len(splits)} splits)"


def prints_for(rows: VariantTable, corpus: Corpus) -> bool:
    """Return True if the table has printed figures that are about this corpus."""
    publication = rows.publication
    return publication is not None and publication.corpus in (corpus.reference, corpus.name)


def compare(
    records: Iterable[RunRecord], test_from: str | None = None, rows: VariantTable = TABLE_3
) -> pd.DataFrame:
    """Average the records over seeds: a row for each variant and column, in the table's order.

    Several splits of one kind, such as Dev2's pairs, are one column.

    Args:
        records: Records of finished runs.
        test_from: The split whose models give the test columns; chosen by `test_splits` if None.
        rows: The table that the variants are rows of.

    Returns:
        Columns: `variant`, `title`, `column` (a split's name, or test seen, unseen, overall),
        `mean` and `sd` over seeds and splits (Pearson times 100; sd with n - 1, NaN for one run),
        `seeds` (runs behind the cell), and `paper`. A cell whose runs have no Pearson has `mean`
        NaN.
    """
    records = list(records)
    splits = list(dict.fromkeys(record.split for record in records))
    if not splits:
        return pd.DataFrame(columns=["variant", "title", "column", "mean", "sd", "seeds", "paper"])
    tested_on = (test_from,) if test_from else test_splits(splits)
    lines = []
    for variant in (name for name in rows.variants if any(r.variant == name for r in records)):
        own = [record for record in records if record.variant == variant]
        cells: dict[str, list[float | None]] = {}
        for kind, members in by_kind(splits).items():
            dev = {(r.split, r.seed): r.dev.get("pearson") for r in own if r.split in members}
            cells[column_name(kind, members)] = _on_grid(dev)
        tested = {(r.split, r.seed): r.test or {} for r in own if r.split in tested_on}
        for column, figure in TEST_COLUMNS.items():
            cells[column] = _on_grid({key: test.get(figure) for key, test in tested.items()})
        for column, values in cells.items():
            known = pd.Series([100 * v for v in values if v is not None], dtype=float)
            lines.append(
                {
                    "variant": variant,
                    "title": rows.variants[variant].title,
                    "column": column,
                    "mean": known.mean(),
                    "sd": known.std(ddof=1),
                    "seeds": len(known),
                    "paper": _printed_cell(rows.variants[variant].printed, column),
                }
            )
    return pd.DataFrame(lines)


def _on_grid(values: Mapping[tuple[str, int], float | None]) -> list[float | None]:
    """Return the values, by split and seed, of the largest grid of splits and seeds."""
    seeds_of: dict[str, list[int]] = {}
    for (split, seed), value in values.items():
        if value is not None:
            seeds_of.setdefault(split, []).append(seed)
    splits, seeds = largest_grid(seeds_of)
    return [values[split, seed] for split in splits for seed in seeds]


def as_text(table: pd.DataFrame, *, with_paper: bool = True) -> pd.DataFrame:
    """Pivot the table to variants by columns, with cells such as `68.86 ± 0.31 [68.86]`.

    The paper's figures stand in brackets if `with_paper`: they hold for MINT alone.
    """
    if table.empty:
        return pd.DataFrame()
    paper = table["paper"] if with_paper else pd.Series(float("nan"), table.index)
    texts = table.assign(
        cell=[_cell(*row) for row in zip(table["mean"], table["sd"], paper, strict=True)]
    )
    wide = texts.pivot(index="variant", columns="column", values="cell")
    wide = wide.loc[list(dict.fromkeys(table["variant"])), list(dict.fromkeys(table["column"]))]
    titles = dict(zip(table["variant"], table["title"], strict=True))
    wide.insert(0, "Method", [titles[name] for name in wide.index])
    wide.columns.name = None
    return wide.rename_axis(None)


def caption(
    records: Iterable[RunRecord],
    corpus: Corpus,
    rows: VariantTable = TABLE_3,
    *,
    has_test_columns: bool = True,
) -> str:
    """Say what has to be known to read the table's figures."""
    splits = list(dict.fromkeys(record.split for record in records))
    several = any(len(members) > 1 for members in by_kind(splits).values())
    over = "splits and seeds" if several else "seeds"
    text = f"Pearson × 100, pooled over rows, mean ± sd over {over}"
    if corpus.synthetic:
        text += "; synthetic data, no benchmark"
    elif prints_for(rows, corpus) and rows.publication:
        source = "the paper's Table 3" if rows.is_the_papers else rows.publication.name
        text += f"; in brackets {source}, on {rows.publication.corpus}"
    elif rows.is_the_papers and corpus.layout.is_mint:
        text += "; not the paper's data, so its figures do not apply"
    if not splits:
        return f"{text}."
    text += (
        ". Development columns: the rows on which epochs and ensemble members were chosen, so they"
        " are flattered."
    )
    if not has_test_columns:
        return text
    tested_on = test_splits(splits)
    return (
        f"{text} Test columns: models chosen on {column_name(draw_kind(tested_on[0]), tested_on)}."
    )


def as_markdown(table: pd.DataFrame, *, with_paper: bool = True) -> str:
    """Format the table as Markdown."""
    text = as_text(table, with_paper=with_paper)
    lines = [list(text.columns), ["---"] * len(text.columns), *text.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def _cell(mean: float, sd: float, paper: float) -> str:
    ours = "–" if pd.isna(mean) else f"{mean:.2f}" + ("" if pd.isna(sd) else f" ± {sd:.2f}")
    return ours if pd.isna(paper) else f"{ours} [{paper:.2f}]"


def _printed_cell(cells: PrintedCells | None, column: str) -> float:
    name = _PAPER_COLUMNS.get(draw_kind(column.partition(" (")[0]))
    value = None if cells is None or name is None else getattr(cells, name)
    return float("nan") if value is None else value
