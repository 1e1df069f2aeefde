"""Write the notes on the pages of suites and runs: what each asks, and what came out.

Test scores are sealed while runs end, so notes have those of development rows only.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from ablation.config.variant_table import VariantTable
from ablation.core.counting import counted
from ablation.core.identity import RunKey
from ablation.runs import comparison
from ablation.runs.request import ResolvedRun
from ablation.runs.results import RunOutcome
from ablation.training.records import RunRecord

#: Notes are cut here, at the end of a line; MLflow's limit of a tag is not far above.
LONGEST: Final = 4500
_SUBSETS: Final = {
    "pearson": "all",
    "pearson_seen": "seen languages",
    "pearson_unseen": "unseen languages",
}


def results_table(planned: ResolvedRun, records: Sequence[RunRecord]) -> str:
    """Return the table of development scores as Markdown, with what has to be known to read it."""
    corpus, rows = planned.corpus, planned.table
    scores = comparison.compare(records, rows=rows)
    scores = scores[~scores["column"].isin(list(comparison.TEST_COLUMNS))]
    table = comparison.as_markdown(scores, with_paper=comparison.prints_for(rows, corpus))
    caption = comparison.caption(records, corpus, rows, has_test_columns=False)
    return f"{table}\n{caption}"


def suite_note(planned: ResolvedRun, outcomes: Sequence[RunOutcome]) -> str:
    """Return a suite's note: its table, how its runs ended, and the question of each row."""
    records = [outcome.record for outcome in outcomes if outcome.record]
    states = Counter(outcome.state for outcome in outcomes)
    ended = ", ".join(f"{count} {state}" for state, count in states.items())
    parts = [f"{counted(len(outcomes), 'run')}: {ended}.", suite_questions(planned)]
    if records:
        parts.insert(0, results_table(planned, records))
    return _cut("\n\n".join(parts))


def suite_questions(planned: ResolvedRun) -> str:
    """Return the question of each row of a suite, which is its note until it ends."""
    rows = planned.table.variants
    questions = [
        f"- {rows[name].title}: {rows[name].question}"
        for name in dict.fromkeys(run.key.variant for run in planned.runs)
        if name in rows
    ]
    return _cut("**Questions**\n\n" + "\n".join(questions))


def question_of(key: RunKey, rows: VariantTable) -> str:
    """Return the beginning of a run's note: its row, and the question that the row answers."""
    variant = rows.variants.get(key.variant)
    title = variant.title if variant else key.variant
    asked = f" {variant.question}" if variant else ""
    return f"**{title}** on {key.split}, seed {key.seed}.{asked}"


def run_note(question: str, record: RunRecord) -> str:
    """Return the note of a finished run: its question, and its scores on development rows."""
    if record.collapsed:
        return f"{question}\n\nIt collapsed: constant predictions have no Pearson."
    scores = ", ".join(
        f"{record.dev[name]:.4f} ({rows})" for name, rows in _SUBSETS.items() if name in record.dev
    )
    lines = [question, f"Pearson on development rows: {scores}."]
    if record.members:
        shares = ", ".join(f"{name} × {count}" for name, count in record.members.items())
        lines.append(f"It averages {shares}, selected on these rows.")
    elif record.best_epoch is not None:
        lines.append(f"Epoch {record.best_epoch} was selected on these rows.")
    return "\n\n".join(lines)


def failed_note(question: str, reason: str) -> str:
    """Return the note of a run that failed."""
    return _cut(f"{question}\n\nFailed: {reason}")


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST].rpartition("\n")[0] + "\n\n..."
