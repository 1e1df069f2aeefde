"""Plan how many seeds, splits and rows decide the paper's claims, and write table and picture.

`reports.analysis.planning` has the rules and `reports.analysis.power` the mathematics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ablation.core.counting import counted
from ablation.core.errors import UsageError
from ablation.core.files import write_atomically
from ablation.data.splits import by_kind
from ablation.runs.request import DEFAULT_EXPERIMENT, ResolvedRun
from reports.analysis.claims import CURVE_FAMILY, SCORE_CLAIMS, SCORE_FAMILY, ScoreClaim, find_claim
from reports.analysis.few_runs import paired_runs_for_rates, runs_to_decide
from reports.analysis.inference import POWER
from reports.analysis.labels import contrast_text
from reports.analysis.planning import (
    ClaimPlan,
    Design,
    EffectPlan,
    VarianceSource,
    claims_of,
    pilot_variances,
    plan_claims,
    stated_variances,
)
from reports.analysis.power import Sources
from reports.analysis.scope import SplitsAre
from reports.build import ReportRequest, quiet, read_inputs
from reports.rendering import plotting
from reports.rendering.power_figures import power_curves
from reports.seal import count_reading

PICTURE: Final = "power"
TABLE: Final = "power.csv"
_STATE_THEM: Final = "state them: --seed-sd, --row-error and --rows"


@dataclass(frozen=True)
class PowerRequest:
    """A plan as it is asked for. Sizes of effects are in points, Pearson times 100.

    Attributes:
        experiment: The pilot's name or id; not read if variances are stated.
        tracking_uri: Its store; the environment's by default.
        group: Number of its group of runs, as in a report.
        claims: Ids of the paper's claims about scores; all by default.
        seeds: Trainings of each variant on each split that are planned.
        splits: Splits that are averaged over, 1 for a fixed one; 0 for as many as the pilot has of
            a kind, or 1 without a pilot.
        rows: Rows to score on; the pilot's by default.
        effect: The effect to show; the claims' own by default.
        target: The power wanted, in (0, 1).
        cautious: Take a pilot's seed variance at its upper 80 % confidence limit.
        seed_sd: Stated standard deviation of an effect between seeds.
        row_error: Stated standard error of an effect that comes from having only `rows` rows.
        split_sd: Standard deviation of an effect between splits; 0 for fixed splits.
    """

    experiment: str = "ablation"
    tracking_uri: str | None = None
    group: int = 1
    claims: Sequence[str] = ()
    seeds: int = 3
    splits: int = 0
    rows: int | None = None
    effect: float | None = None
    target: float = POWER
    cautious: bool = True
    seed_sd: float | None = None
    row_error: float | None = None
    split_sd: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes that no experiment can have. Raises UsageError with a line for each."""
        sizes = {"seed-sd": self.seed_sd, "row-error": self.row_error, "split-sd": self.split_sd}
        problems = [
            f"--{name} {value}: give a number from 0 on, in points"
            for name, value in sizes.items()
            if value is not None and not 0 <= value < np.inf
        ]
        least = {"seeds": (self.seeds, 2), "splits": (self.splits, 0), "rows": (self.rows, 2)}
        problems += [
            f"--{name} {value}: give a whole number from {low} on"
            for name, (value, low) in least.items()
            if value is not None and value < low
        ]
        if self.effect is not None and not 0 < abs(self.effect) < 200:
            problems.append(f"--effect {self.effect}: give points of Pearson × 100 other than 0")
        if not 0.05 < self.target < 1:
            problems.append(f"--target {self.target}: give a power between 0.05 and 1")
        if isinstance(self.claims, str):
            problems.append(f"claims = {self.claims!r}: give a list, such as [{self.claims!r}]")
        if problems:
            raise UsageError(problems)

    @property
    def states_variances(self) -> bool:
        """Tell if the variances are stated. Raises UsageError if only some of them are."""
        stated = [self.seed_sd is not None, self.row_error is not None]
        if any(stated) and not (all(stated) and self.rows):
            raise UsageError("stated variances take all three of --seed-sd, --row-error and --rows")
        return any(stated)

    @property
    def design(self) -> Design:
        effect = None if self.effect is None else self.effect / 100
        return Design(self.seeds, self.splits, self.rows, effect, self.target)


@dataclass(frozen=True)
class PowerPlan:
    """The plan of each claim; `origin` says where the variances come from."""

    request: PowerRequest
    claims: tuple[ClaimPlan, ...]
    origin: str
    test_readings: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row an effect, sizes in points of Pearson × 100.

        Columns: claim, effect, on (rows that it is scored on), printed, to_show (what the test has
        to tell from 0), rows, row_error (standard error from the rows alone), seed_sd, power (of
        this effect with the planned size), claim_power (of all of the claim's effects, at least),
        seeds, splits, rows_needed (the smallest number of each that reaches the target; at most
        one is given) and takes (the same in words).
        """
        return pd.DataFrame(
            [_row(claim, plan) for claim in self.claims for plan in claim.effects],
            columns=_COLUMNS,
        )

    @property
    def notes(self) -> list[str]:
        """Return what has to be known to read the table, a sentence each."""
        request = self.request
        lead = f"Planned for: {counted(request.seeds, 'seed')}, {self._splits},"
        lead += f" power {request.target:.0%}."
        curves = runs_to_decide(CURVE_FAMILY.per_claim)
        sides = paired_runs_for_rates(CURVE_FAMILY.per_claim)
        return [
            lead,
            f"Variances: {self.origin}.",
            f"Level: 5% over the {SCORE_FAMILY.size} claims about scores, two-sided; all effects of"
            " a claim have to be shown. A claimed sign takes the printed effect, a claimed size"
            " half of it.",
            f"Claims about training curves take at least {curves} seeds that agree, and collapse at"
            f" least {sides} runs a side, whatever the variances.",
            *filter(None, [self.test_readings]),
        ]

    @property
    def has_random_splits(self) -> bool:
        """Tell if splits add to the variance of any effect."""
        plans = [plan for claim in self.claims for plan in claim.effects]
        return any(plan.variances and plan.variances.sources.splits > 0 for plan in plans)

    @property
    def _splits(self) -> str:
        """Say how many splits are planned, and what they are."""
        plans = [plan for claim in self.claims for plan in claim.effects]
        counts = sorted({plan.variances.splits for plan in plans if plan.variances})
        if counts == [1] and not self.has_random_splits:
            return "one fixed split"
        kind = "random" if self.has_random_splits else "fixed"
        return f"{' or '.join(map(str, counts))} {kind} splits"


_COLUMNS: Final = (
    "claim",
    "effect",
    "on",
    "printed",
    "to_show",
    "rows",
    "row_error",
    "seed_sd",
    "power",
    "claim_power",
    "seeds",
    "splits",
    "rows_needed",
    "takes",
)


def claim_ids() -> list[str]:
    """Return the ids of the claims that can be planned for."""
    return [claim.id for claim in SCORE_CLAIMS]


def plan_power(request: PowerRequest) -> PowerPlan:
    """Plan the claims of a request.

    Raises:
        UsageError: A claim is unknown, variances are stated in part, or the pilot has none.
    """
    claims = _claims(request.claims)
    if request.states_variances:
        source, origin, counted = _stated(request), "stated", ""
    else:
        source, origin, counted = _of_pilot(request)
    plans = tuple(plan_claims(claims, request.design, source))
    if not any(effect.variances for plan in plans for effect in plan.effects):
        raise UsageError(
            f"experiment {request.experiment!r} has no two seeds of both sides of any of these"
            f" claims, so that the seeds' variance is not known; train them, or {_STATE_THEM}"
        )
    return PowerPlan(request, plans, origin, counted)


def plan_power_of(planned: ResolvedRun) -> PowerPlan:
    """Plan the claims that the planned variants answer, with its experiment as the pilot.

    Raises:
        UsageError: The variants answer no claim about scores, or the experiment is no pilot.
    """
    variants = dict.fromkeys(run.key.variant for run in planned.runs)
    claims = claims_of(variants)
    if not claims:
        raise UsageError(f"no claim of the paper is about {', '.join(variants)} alone")
    seeds = {run.key.seed for run in planned.runs}
    splits = dict.fromkeys(run.key.split for run in planned.runs)
    counts = {len(of_kind) for of_kind in by_kind(tuple(splits)).values()}
    return plan_power(
        PowerRequest(
            experiment=planned.request.experiment or DEFAULT_EXPERIMENT,
            tracking_uri=planned.store.uri,
            claims=[claim.id for claim in claims],
            seeds=max(2, len(seeds)),
            splits=counts.pop() if len(counts) == 1 else 0,
        )
    )


def write_plan(plan: PowerPlan, folder: Path) -> list[Path]:
    """Write the table and, if anything is known, the picture; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TABLE, plan.to_frame().to_csv(index=False), durable=False)
    files = [folder / TABLE]
    known = [claim for claim in plan.claims if claim.is_known]
    if known:
        figure = power_curves(known)
        plotting.fix_layout(figure)
        for form in plotting.FORMATS:
            plotting.save(figure, folder, PICTURE, form)
            files.append(folder / f"{PICTURE}.{form}")
    return files


def _claims(ids: Sequence[str]) -> list[ScoreClaim]:
    if not ids:
        return list(SCORE_CLAIMS)
    claims = []
    for claim_id in ids:
        claim = find_claim(claim_id)
        if not isinstance(claim, ScoreClaim):
            needed = runs_to_decide(CURVE_FAMILY.per_claim)
            raise UsageError(
                f"claim {claim_id!r} is about training curves: its exact test takes at least"
                f" {needed} seeds that agree, whatever the variances"
            )
        claims.append(claim)
    return claims


def _stated(request: PowerRequest) -> VarianceSource:
    rows = request.rows or 0
    sources = Sources(
        rows=((request.row_error or 0.0) / 100) ** 2 * rows,
        seeds=((request.seed_sd or 0.0) / 100) ** 2,
        splits=(request.split_sd / 100) ** 2,
    )
    return stated_variances(sources, rows)


def _of_pilot(request: PowerRequest) -> tuple[VarianceSource, str, str]:
    """Return the pilot's variances, where they come from, and how often its test rows were read."""
    splits: SplitsAre = "fixed" if request.splits == 1 else "auto"
    asked = ReportRequest(
        request.experiment, request.tracking_uri, group=request.group, splits=splits
    )
    inputs = read_inputs(asked, quiet)
    seeds = inputs.group.seeds
    if len(seeds) < 2:
        raise UsageError(
            f"experiment {request.experiment!r} has one seed, so that the seeds' variance is not"
            f" known; train a second one, or {_STATE_THEM}"
        )
    source = pilot_variances(
        inputs.measurements,
        cautious=request.cautious,
        split_variance=(request.split_sd / 100) ** 2,
    )
    origin = f"of the pilot {inputs.experiment.name!r} with {len(seeds)} seeds"
    if request.cautious:
        origin += ", the seeds' at its upper 80% confidence limit"
    if inputs.comparability.obstacle:
        origin += f" ({inputs.comparability.obstacle})"
    return source, origin, count_reading(inputs.experiment, "power")


def _row(claim: ClaimPlan, plan: EffectPlan) -> tuple[object, ...]:
    variances, need = plan.variances, plan.need
    on = str(variances.subset if variances else plan.effect.subsets[0])
    head = (claim.claim.id, contrast_text(plan.effect.weights), on)
    sizes = (round(100 * plan.printed, 4), round(100 * plan.to_show, 4))
    if variances is None or need is None:
        return (*head, *sizes, *(None,) * 8, "not in the pilot")
    single = ClaimPlan(claim.claim, claim.design, (plan,))
    return (
        *head,
        *sizes,
        variances.rows,
        100 * float(np.sqrt(variances.sources.rows / variances.rows)),
        100 * float(np.sqrt(variances.sources.seeds)),
        float(single.power()[0]),
        float(claim.power()[0]),
        need.seeds,
        need.splits,
        need.rows,
        str(need),
    )
