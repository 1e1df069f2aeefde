"""The plan of runs: their order, their identities, and what is reused, repeated or stale."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablation.core.identity import RunKey
from ablation.data.corpus import Corpus, load_corpus
from ablation.runs.plan import History, PlannedRun, RunGrid, ensemble_identity, make_plan
from ablation.tracking.history import PastRun

SETTINGS = {"model.encoder": "tiny"}
KEY = RunKey("mse", "dev1", 0)


@pytest.fixture
def corpus(small_corpus: Path) -> Corpus:
    return load_corpus(str(small_corpus))


def plan(
    corpus: Corpus,
    past: Sequence[PastRun] = (),
    *,
    variants: Sequence[str] = ("mse",),
    splits: Sequence[str] = ("dev1",),
    seeds: Sequence[int] = (0,),
    settings: Mapping[str, Any] = SETTINGS,
    lost: Sequence[str] = (),
    **more: Any,
) -> list[PlannedRun]:
    """Plan with `past` runs, newest first; `lost` are ids of runs whose artifacts are gone."""
    history = History(past, lambda run: run.run_id not in lost)
    return make_plan(corpus, settings, RunGrid(variants, splits, seeds), history, **more)


@pytest.fixture
def past(corpus: Corpus) -> PastRun:
    """A finished run of the plan's first."""
    (run,) = plan(corpus)
    assert run.config is not None
    return PastRun(
        run_id="one",
        key=run.key,
        status="FINISHED",
        identity=run.identity.digest,
        parts=dict(run.identity.parts),
        params={name: str(value) for name, value in run.config.flat().items()},
        reason=None,
        manifest="{}",
        profile="smoke",
    )


def test_trained_runs_come_by_split_seed_and_variant_and_ensembles_after_them(
    corpus: Corpus,
) -> None:
    runs = plan(
        corpus,
        variants=("mse", "epm", "ensemble"),
        splits=("dev1", "dev2"),
        seeds=(0, 1),
    )
    trained = [run.key for run in runs if run.config is not None]
    assert trained == [
        RunKey(variant, split, seed)
        for split in ("dev1", "dev2")
        for seed in (0, 1)
        for variant in ("mse", "epm")
    ]
    assert [run.key for run in runs[len(trained) :]] == [
        RunKey("ensemble", split, seed) for split in ("dev1", "dev2") for seed in (0, 1)
    ]
    assert {run.state for run in runs} == {"to do"}
    assert len({run.identity.digest for run in runs}) == len(runs)


def test_an_ensemble_is_identified_by_the_members_of_its_own_split_and_seed(
    corpus: Corpus,
) -> None:
    runs = plan(corpus, variants=("mse", "epm", "ensemble"), splits=("dev1", "dev2"), seeds=(0, 1))
    for ensemble in (run for run in runs if run.config is None):
        members = [
            run.identity.digest
            for run in runs
            if run.config is not None
            and (run.key.split, run.key.seed) == (ensemble.key.split, ensemble.key.seed)
        ]
        assert ensemble.identity == ensemble_identity(ensemble.key, members)
        assert ensemble_identity(ensemble.key, members[::-1]) == ensemble.identity
        assert ensemble_identity(ensemble.key, members[:1]) != ensemble.identity


def test_a_finished_run_with_its_artifacts_is_reused(corpus: Corpus, past: PastRun) -> None:
    (run,) = plan(corpus, [past])
    assert (run.state, run.run_id, run.is_reused) == ("finished", "one", True)


def test_the_newest_complete_one_of_several_is_reused(corpus: Corpus, past: PastRun) -> None:
    newest, newer = replace(past, run_id="three"), replace(past, run_id="two")
    (run,) = plan(corpus, [newest, newer, past], lost=["three"])
    assert (run.state, run.run_id) == ("finished", "two")


def test_a_finished_run_is_reused_although_a_newer_one_failed(
    corpus: Corpus, past: PastRun
) -> None:
    (run,) = plan(corpus, [replace(past, run_id="two", status="FAILED"), past])
    assert (run.state, run.run_id) == ("finished", "one")


def test_fresh_reuses_nothing_and_says_why(corpus: Corpus, past: PastRun) -> None:
    (run,) = plan(corpus, [past], fresh=True)
    assert (run.state, run.run_id, run.reason) == ("to do", None, "trained again, as requested")
    assert plan(corpus, fresh=True)[0].reason == ""


def test_a_finished_run_without_its_artifacts_is_trained_again(
    corpus: Corpus, past: PastRun
) -> None:
    (run,) = plan(corpus, [past], lost=["one"])
    assert (run.state, run.run_id) == ("failed", None)
    assert "artifacts are missing" in run.reason


@pytest.mark.parametrize(
    ("status", "reason", "state", "words"),
    [
        ("FAILED", "MemoryError: too large", "failed", "failed: MemoryError: too large"),
        ("KILLED", None, "failed", "killed: no reason was recorded"),
        ("RUNNING", None, "to do", "marked as running"),
    ],
)
def test_a_run_that_did_not_finish_is_trained_again_and_its_end_is_told(
    corpus: Corpus, past: PastRun, status: str, reason: str | None, state: str, words: str
) -> None:
    (run,) = plan(corpus, [replace(past, status=status, reason=reason)])
    assert run.state == state
    assert run.reason.startswith(words)
    assert not run.is_reused


def test_of_several_unfinished_runs_the_newest_is_told(corpus: Corpus, past: PastRun) -> None:
    failed = replace(past, status="FAILED", reason="first")
    killed = replace(past, status="KILLED", reason="interrupted")
    assert plan(corpus, [killed, failed])[0].reason == "killed: interrupted"


@pytest.mark.parametrize("key", [RunKey("epm", "dev1", 0), RunKey("mse", "dev2", 0)])
def test_a_run_of_another_key_is_no_past_of_this_one(
    corpus: Corpus, past: PastRun, key: RunKey
) -> None:
    (run,) = plan(corpus, [replace(past, key=key, identity="other")])
    assert (run.state, run.reason) == ("to do", "")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("data", "the data"),
        ("encoder", "the encoder's weights"),
        ("code", "the code"),
        ("libraries", "library versions"),
        ("config", "settings"),
    ],
)
def test_a_stale_run_names_what_has_changed(
    corpus: Corpus, past: PastRun, part: str, words: str
) -> None:
    outdated = replace(past, identity="other", parts={**past.parts, part: "other"})
    (run,) = plan(corpus, [outdated])
    assert (run.state, run.run_id, run.reason) == ("stale", None, f"changed since: {words}")


def test_changed_settings_are_named_with_both_values(corpus: Corpus, past: PastRun) -> None:
    changed = {**SETTINGS, "loss.tau": 0.5, "optimisation.epochs": 2}
    (run,) = plan(corpus, [past], settings=changed)
    assert run.state == "stale"
    assert run.reason == "changed since: loss.tau 0.2 -> 0.5, optimisation.epochs 11 -> 2"


def test_an_outdated_run_that_failed_says_nothing_about_this_one(
    corpus: Corpus, past: PastRun
) -> None:
    (run,) = plan(corpus, [replace(past, identity="other", status="FAILED", reason="x")])
    assert (run.state, run.reason) == ("to do", "")


def test_settings_found_by_a_study_are_another_run(corpus: Corpus, past: PastRun) -> None:
    (run,) = plan(corpus, [past], more_parts={"tuning": "digest of the study"})
    assert run.reason == "changed since: how the settings were found"
