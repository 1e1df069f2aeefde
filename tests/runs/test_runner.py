"""An ablation with the tiny encoder: runs, tracking, reuse, and failures."""

import io
import json
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from rich.console import Console

from ablation.config.schema import FIELDS
from ablation.config.variants import TABLE_3
from ablation.core.errors import RunError, UsageError
from ablation.core.identity import RunKey
from ablation.core.state import has_kept_weights
from ablation.models.kept_weights import find_kept, remove_kept
from ablation.models.predictor import load_model
from ablation.runs.doctor import examine
from ablation.runs.plan import PlannedRun
from ablation.runs.progress import Progress
from ablation.runs.request import RunRequest, prepare_all, resolve_run
from ablation.runs.results import RunOutcome
from ablation.runs.runner import run_plan
from ablation.tracking import names
from ablation.tracking.reading import read_frame, read_json
from ablation.tracking.store import Store, open_store
from ablation.training import train_run
from ablation.training.evaluation import pearson
from tests.conftest import some_rows, write_corpus

QUICK = {"optimisation.epochs": 1}


def quiet() -> Progress:
    return Progress(Console(file=io.StringIO()))


@pytest.fixture
def request_(small_corpus: Path, store_uri: str) -> RunRequest:
    return RunRequest(
        data=str(small_corpus),
        profile="smoke",
        variants=("mse", "epm+ft", "ensemble"),
        splits=("dev1",),
        overrides=QUICK,
        tracking_uri=store_uri,
    )


def carry_out(request: RunRequest) -> list[RunOutcome]:
    return run_plan(resolve_run(request), quiet())


def runs_of(store: Store, kind: str) -> list[Run]:
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    return list(store.client.search_runs(experiments, f"tags.`{names.KIND}` = '{kind}'"))


def states(plan: list[PlannedRun]) -> dict[str, str]:
    return {f"{run.key.variant} {run.key.split}": run.state for run in plan}


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> tuple[Store, list[RunOutcome]]:
    folder = tmp_path_factory.mktemp("ablation")
    seen = ("en", "es", "fr", "zh")
    corpus = write_corpus(
        folder / "corpus", some_rows(20, seen), some_rows(6, (*seen, "ko"), start=100)
    )
    uri = f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}"
    request = RunRequest(data=str(corpus), profile="smoke", seeds=(0, 1), tracking_uri=uri)
    outcomes = carry_out(request)
    return open_store(uri), outcomes


class TestTracking:
    """A command's runs in MLflow."""

    def test_table_3_on_two_splits_with_two_seeds_is_24_runs(
        self, finished: tuple[Store, list[RunOutcome]]
    ) -> None:
        store, outcomes = finished
        assert [outcome.state for outcome in outcomes] == ["finished"] * 24
        assert len({(o.key.variant, o.key.split, o.key.seed) for o in outcomes}) == 24
        assert [run.info.status for run in runs_of(store, names.RUN)] == ["FINISHED"] * 24

    def test_every_run_is_nested_below_the_one_suite(
        self, finished: tuple[Store, list[RunOutcome]]
    ) -> None:
        store, _ = finished
        (suite,) = runs_of(store, names.SUITE)
        assert suite.info.status == "FINISHED"
        assert {run.data.tags["mlflow.parentRunId"] for run in runs_of(store, names.RUN)} == {
            suite.info.run_id
        }

    def test_a_trained_run_has_its_settings_curves_finals_and_artifacts(
        self, finished: tuple[Store, list[RunOutcome]]
    ) -> None:
        store, outcomes = finished
        outcome = next(o for o in outcomes if o.key.variant == "epm+cl")
        assert outcome.run_id
        run = store.client.get_run(outcome.run_id)
        assert set(FIELDS) <= set(run.data.params)
        assert run.data.params["loss.contrastive"] == "as_printed"
        for tag in (
            names.IDENTITY,
            names.COMMIT,
            names.ENCODER,
            names.SYNTHETIC,
            names.PROCESS,
            names.TEST_READ,
        ):
            assert run.data.tags[tag]
        for metric in (
            "train/loss_contrastive",
            "train/pearson",
            "train/grad_norm",
            "lr/head",
            "dev/pearson",
            "dev/pearson_zh",
            "best/epoch",
            "best/dev_pearson",
            "test/pearson_unseen",
            "test/pearson_ko",
            "cost/seconds",
        ):
            assert metric in run.data.metrics, metric
        assert len(store.client.get_metric_history(outcome.run_id, "dev/pearson")) == 2
        assert set(json.loads(run.data.tags[names.MANIFEST])) >= {
            names.CONFIG_FILE,
            names.RECORD_FILE,
            names.DEV_PREDICTIONS,
            names.TEST_PREDICTIONS,
            names.CURVES,
            names.DISTANCES,
        }

    def test_the_curves_are_kept_in_one_file_with_the_points_that_mlflow_has(
        self, finished: tuple[Store, list[RunOutcome]]
    ) -> None:
        store, outcomes = finished
        run_id = next(o.run_id for o in outcomes if o.key.variant == "epm+cl")
        assert run_id
        curves = read_frame(store, run_id, names.CURVES)
        for name in ("train/pearson", "dev/pearson", "lr/head"):
            kept = curves[curves["name"] == name]
            tracked = store.client.get_metric_history(run_id, name)
            assert [(m.step, m.value) for m in sorted(tracked, key=lambda m: m.step)] == list(
                zip(kept["step"], kept["value"], strict=True)
            )

    def test_each_run_says_in_which_environment_it_was_made(
        self, finished: tuple[Store, list[RunOutcome]]
    ) -> None:
        store, outcomes = finished
        for outcome in outcomes:
            assert outcome.run_id
            environment = read_json(store, outcome.run_id, names.ENVIRONMENT_FILE)
            assert environment["packages"]["torch"]
            assert environment["torch_threads"] == torch.get_num_threads()
            assert environment["thread_pools"]
            assert names.ENVIRONMENT_FILE in json.loads(
                store.client.get_run(outcome.run_id).data.tags[names.MANIFEST]
            )

    def test_every_figure_can_be_computed_again_from_the_predictions(
        self, finished: tuple[Store, list[RunOutcome]]
    ) -> None:
        store, outcomes = finished
        for outcome in outcomes:
            assert outcome.record is not None
            assert outcome.run_id
            test = read_frame(store, outcome.run_id, names.TEST_PREDICTIONS)
            r = pearson(test["prediction"].to_numpy(), test["label"].to_numpy())
            assert (outcome.record.test or {}).get("pearson") == r
            korean = test[test["language"] == "ko"]
            assert (outcome.record.test or {}).get("pearson_unseen") == pearson(
                korean["prediction"].to_numpy(), korean["label"].to_numpy()
            )

    def test_the_ensemble_names_its_members_and_is_no_worse_on_development_rows(
        self, finished: tuple[Store, list[RunOutcome]]
    ) -> None:
        store, outcomes = finished
        for ensemble in (o for o in outcomes if o.key.variant == "ensemble"):
            assert ensemble.record is not None
            assert ensemble.record.members
            ids = json.loads(
                store.client.get_run(str(ensemble.run_id)).data.tags[names.MEMBER_RUNS]
            )
            assert {o.key.variant: o.run_id for o in outcomes if o.run_id in ids.values()} == ids
            assert set(ids) == set(ensemble.record.members)
            members = [
                o
                for o in outcomes
                if o.key.split == ensemble.key.split
                and o.key.seed == ensemble.key.seed
                and o != ensemble
            ]
            best = max(o.record.dev.get("pearson", -1.0) for o in members if o.record)
            assert ensemble.record.dev["pearson"] >= best - 1e-9

    def test_dev2_tells_its_seen_and_unseen_rows_apart(
        self, finished: tuple[Store, list[RunOutcome]]
    ) -> None:
        _, outcomes = finished
        record = next(o.record for o in outcomes if o.key.split == "dev2" and o.record)
        assert len(record.unseen_in_training) == 2
        assert {"pearson_seen", "pearson_unseen"} <= set(record.dev)

    def test_the_suite_has_the_table_the_corpus_and_the_environment(
        self, finished: tuple[Store, list[RunOutcome]]
    ) -> None:
        store, _ = finished
        (suite,) = runs_of(store, names.SUITE)
        manifest = json.loads(suite.data.tags[names.MANIFEST])
        assert {
            "comparison.md",
            "comparison.csv",
            names.TRAIN_CORPUS,
            names.TEST_CORPUS,
            names.ENVIRONMENT_FILE,
        } <= set(manifest)
        children = [
            run.data.metrics["best/dev_pearson"]
            for run in runs_of(store, names.RUN)
            if (run.data.tags[names.VARIANT], run.data.tags[names.SPLIT]) == ("epm+cl", "dev1")
        ]
        assert suite.data.metrics["dev1/epm-cl"] == pytest.approx(sum(children) / len(children))
        assert suite.data.tags["mlflow.user"]
        assert "torch" in read_json(store, suite.info.run_id, names.ENVIRONMENT_FILE)["packages"]
        texts = read_frame(store, suite.info.run_id, names.TRAIN_CORPUS)
        assert {"row", "text", "label", "language"} == set(texts.columns)


class TestReuse:
    def test_finished_runs_are_reused_and_said_so(self, request_: RunRequest) -> None:
        first = carry_out(request_)
        again = carry_out(request_)
        assert [o.state for o in again] == ["reused"] * 3
        assert [o.run_id for o in again] == [o.run_id for o in first]
        assert [o.record for o in again] == [o.record for o in first]

    def test_fresh_trains_them_again_with_the_same_figures(self, request_: RunRequest) -> None:
        first = carry_out(request_)
        again = carry_out(replace(request_, fresh=True))
        assert [o.state for o in again] == ["finished"] * 3
        for old, new in zip(first, again, strict=True):
            assert old.run_id != new.run_id
            assert old.record
            assert new.record
            assert old.record.dev == new.record.dev
            assert old.record.test == new.record.test

    def test_a_further_seed_trains_only_that(self, request_: RunRequest) -> None:
        carry_out(request_)
        outcomes = carry_out(replace(request_, seeds=(0, 1)))
        assert {o.key.seed: o.state for o in outcomes} == {0: "reused", 1: "finished"}

    def test_a_changed_setting_makes_runs_stale_and_says_which(self, request_: RunRequest) -> None:
        carry_out(request_)
        plan = resolve_run(replace(request_, overrides=QUICK | {"loss.tau": 0.5})).runs
        assert set(states(plan).values()) == {"stale"}
        assert plan[0].reason == "changed since: loss.tau 0.2 -> 0.5"

    def test_a_changed_byte_of_the_data_makes_runs_stale(self, request_: RunRequest) -> None:
        carry_out(request_)
        train = Path(request_.data) / "train.csv"
        train.write_text(
            train.read_text("utf-8").replace("en post number 3 ", "en post number three ", 1),
            "utf-8",
        )
        plan = resolve_run(request_).runs
        assert plan[0].state == "stale"
        assert plan[0].reason == "changed since: the data"

    def test_changed_test_rows_are_predicted_by_kept_weights_instead_of_a_training(
        self, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = replace(request_, variants=("mse", "epm", "ensemble"), keep="all")
        first = carry_out(wanted)
        test = Path(request_.data) / "test.csv"
        lines = test.read_text("utf-8").splitlines(keepends=True)
        test.write_text("".join([lines[0], *lines[5:]]), "utf-8")
        runs = resolve_run(wanted).runs
        assert [run.weights_of.run_id for run in runs[:2] if run.weights_of] == [
            outcome.run_id for outcome in first[:2]
        ]
        with monkeypatch.context() as patch:
            patch.setattr("ablation.training.train_run.fit", None)  # training would fail
            again = carry_out(wanted)
        assert {outcome.state for outcome in again} == {"finished"}
        store = open_store(request_.tracking_uri)
        for one, other in zip(first[:2], again[:2], strict=True):
            before, after = (
                read_frame(store, str(outcome.run_id), names.TEST_PREDICTIONS)
                for outcome in (one, other)
            )
            assert len(after) == len(before) - 4
            np.testing.assert_allclose(after["prediction"], before["prediction"][4:], atol=1e-5)
            assert one.record is not None
            assert other.record is not None
            assert other.record.dev == one.record.dev
            assert other.record.test != one.record.test
            tags = store.client.get_run(str(other.run_id)).data.tags
            assert tags[names.PREDICTED_FROM] == one.run_id
        assert all(run.is_reused for run in resolve_run(wanted).runs)
        assert all(has_kept_weights(run.identity.digest) for run in resolve_run(wanted).runs[:2])

    def test_changed_training_rows_and_removed_weights_are_trained_again(
        self, request_: RunRequest
    ) -> None:
        wanted = replace(request_, keep="all")
        outcome = carry_out(wanted)[0]
        test, train = (Path(request_.data) / name for name in ("test.csv", "train.csv"))
        test.write_text("".join(test.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
        before = train.read_text("utf-8")
        train.write_text(before.replace("en post number 3 ", "en post number three ", 1), "utf-8")
        assert resolve_run(wanted).runs[0].weights_of is None
        train.write_text(before, "utf-8")
        assert outcome.record is not None
        remove_kept([outcome.record.identity])
        assert resolve_run(wanted).runs[0].weights_of is None

    def test_changed_code_makes_runs_stale(
        self, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        carry_out(request_)
        monkeypatch.setattr("ablation.runs.plan.code_digest", lambda: "other")
        assert resolve_run(request_).runs[0].reason == "changed since: the code"

    def test_a_run_whose_artifacts_are_gone_is_not_reused(self, request_: RunRequest) -> None:
        outcome = carry_out(request_)[0]
        assert outcome.run_id
        store = open_store(request_.tracking_uri)
        folder = Path(
            store.client.get_run(outcome.run_id).info.artifact_uri.removeprefix("file://")
        )
        (folder / names.TEST_PREDICTIONS).unlink()
        plan = resolve_run(request_).runs
        assert plan[0].state == "failed"
        assert "missing, incomplete or changed" in plan[0].reason
        assert [o.state for o in carry_out(request_)] == ["finished", "reused", "reused"]

    @pytest.mark.parametrize("path", [names.RECORD_FILE, names.DEV_PREDICTIONS])
    def test_only_a_run_whose_bytes_were_changed_is_trained_again(
        self, path: str, request_: RunRequest
    ) -> None:
        first = carry_out(request_)
        where = open_store(request_.tracking_uri).client.get_run(str(first[0].run_id)).info
        file = Path(str(where.artifact_uri).removeprefix("file://")) / path
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1  # of the same size
        file.write_bytes(content)
        plan = resolve_run(request_).runs
        assert [run.state for run in plan] == ["failed", "finished", "finished"]
        again = carry_out(request_)
        assert [outcome.state for outcome in again] == ["finished", "reused", "reused"]
        assert again[0].record
        assert again[0].record.dev == first[0].record.dev  # type: ignore[union-attr]

    def test_a_record_that_is_damaged_after_the_plan_is_trained_again(
        self, request_: RunRequest
    ) -> None:
        first = carry_out(request_)
        planned = resolve_run(request_)
        where = open_store(request_.tracking_uri).client.get_run(str(first[0].run_id)).info
        Path(str(where.artifact_uri).removeprefix("file://"), names.RECORD_FILE).write_text("{}")
        output = io.StringIO()
        outcomes = run_plan(planned, Progress(Console(file=output, width=200)))
        assert [outcome.state for outcome in outcomes] == ["finished", "reused", "reused"]
        assert f"run {first[0].run_id}: its artifact record.json was changed" in output.getvalue()

    def test_a_tag_that_was_edited_by_hand_is_named_and_ends_nothing(
        self, request_: RunRequest
    ) -> None:
        first = carry_out(request_)
        store = open_store(request_.tracking_uri)
        store.client.set_tag(str(first[0].run_id), names.SEED, "abc")
        planned = resolve_run(request_)
        assert [run.state for run in planned.runs] == ["to do", "finished", "finished"]
        (warning,) = planned.warnings
        assert f"run {first[0].run_id}: its tag ablation.seed is 'abc'" in warning
        assert [line for line in examine(store) if warning in line]
        again = [o.state for o in run_plan(planned, quiet())]
        assert again == ["finished", "reused", "reused"]


class TestFailure:
    @pytest.fixture
    def broken_epm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = train_run.train_run

        def fails_for_epm(prepared: Any, config: Any, key: Any, *rest: Any) -> Any:
            if key.variant == "epm+ft":
                raise RunError("train/loss is not a finite number at step 3 (training rows 1, 2)")
            return real(prepared, config, key, *rest)

        monkeypatch.setattr(train_run, "train_run", fails_for_epm)

    @pytest.mark.parametrize(
        ("moment", "kinds"),
        [
            (
                "ablation.runs.runner.TrackedRun.log_params",
                [names.SUITE],
            ),  # as the suite's run was made
            ("ablation.tracking.provenance.environment", [names.SUITE]),
            (
                "ablation.runs.one_run.run_and_record",
                [names.SUITE, names.RUN],
            ),  # as the first run was made
            (
                "ablation.tracking.runs.PointWriter.close",
                [names.SUITE, names.RUN],
            ),  # as it was ended
        ],
    )
    def test_an_interrupt_at_any_moment_ends_what_runs_as_killed(
        self, moment: str, kinds: list[str], request_: RunRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt("signal 15")

        monkeypatch.setattr(moment, interrupted)
        with pytest.raises(KeyboardInterrupt):
            carry_out(request_)
        for kind in kinds:
            (run,) = runs_of(open_store(request_.tracking_uri), kind)
            assert (run.info.status, run.data.tags[names.REASON]) == ("KILLED", "interrupted")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_that_a_library_swallows_is_obeyed_at_the_next_step(
        self, number: signal.Signals, request_: RunRequest
    ) -> None:
        class Swallowing(Progress):
            def step(self, key: RunKey, done: int, total: int) -> None:
                steps.append(done)
                with suppress(KeyboardInterrupt):  # as Python does in a finaliser
                    signal.raise_signal(number)

        steps: list[int] = []
        before = signal.signal(number, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                run_plan(resolve_run(request_), Swallowing(Console(file=io.StringIO())))
        finally:
            signal.signal(number, before)
        assert steps == [1]
        store = open_store(request_.tracking_uri)
        statuses = [r.info.status for k in (names.SUITE, names.RUN) for r in runs_of(store, k)]
        assert statuses == ["KILLED", "KILLED"]

    @pytest.mark.usefixtures("broken_epm")
    def test_one_runs_failure_is_its_own_and_is_recorded(self, request_: RunRequest) -> None:
        outcomes = carry_out(request_)
        assert [o.state for o in outcomes] == ["finished", "failed", "finished"]
        assert "step 3" in outcomes[1].reason
        store = open_store(request_.tracking_uri)
        assert outcomes[1].run_id
        failed = store.client.get_run(outcomes[1].run_id)
        assert failed.info.status == "FAILED"
        assert "step 3" in failed.data.tags[names.REASON]
        assert names.TRACEBACK_FILE in [
            f.path for f in store.client.list_artifacts(outcomes[1].run_id)
        ]
        (suite,) = runs_of(store, names.SUITE)
        assert suite.info.status == "FAILED"
        assert outcomes[2].record
        assert set(outcomes[2].record.members or {}) == {"mse"}

    def test_what_failed_is_trained_the_next_time_and_the_plan_says_so(
        self, request_: RunRequest
    ) -> None:
        with pytest.MonkeyPatch.context() as patch:
            real = train_run.train_run

            def fail(prepared: Any, config: Any, key: Any, *rest: Any) -> Any:
                if key.variant == "mse":
                    raise MemoryError
                return real(prepared, config, key, *rest)

            patch.setattr(train_run, "train_run", fail)
            carry_out(request_)
        plan = resolve_run(request_).runs
        assert states(plan)["mse dev1"] == "failed"
        assert plan[0].reason == "failed: MemoryError: no message"
        # The ensemble that was made without it is no longer the same one.
        assert [o.state for o in carry_out(request_)] == ["finished", "reused", "finished"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"overrides": {"model.freeze_layers": 9}},
                r"freeze_layers = 9: the encoder has 4 layers",
            ),
            ({"overrides": {"model.layers": 9}}, r"model\.layers = 9: encoder 'tiny' has 4 layers"),
            ({"encoder": "./nowhere"}, "the folder does not exist"),
            ({"variants": ("epm+clt",)}, "did you mean"),
        ],
    )
    def test_what_can_be_known_before_training_leaves_no_run_behind(
        self, request_: RunRequest, change: Mapping[str, Any], message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            carry_out(replace(request_, **change))
        store = open_store(request_.tracking_uri)
        assert runs_of(store, names.RUN) == runs_of(store, names.SUITE) == []

    def test_nothing_is_prepared_for_runs_that_are_reused(self, request_: RunRequest) -> None:
        carry_out(request_)
        assert prepare_all(resolve_run(request_)).made == {}


class TestUnlabelledTestRows:
    def test_they_are_predicted_and_not_scored(self, tmp_path: Path, request_: RunRequest) -> None:
        rows = [
            (text, None, language) for text, _, language in some_rows(5, ("en", "ko"), start=50)
        ]
        corpus = write_corpus(
            tmp_path / "unlabelled", some_rows(20, ("en", "es", "fr", "zh")), rows
        )
        outcome = carry_out(replace(request_, data=str(corpus)))[0]
        assert outcome.record
        assert outcome.record.test is None
        assert outcome.run_id
        store = open_store(request_.tracking_uri)
        predictions = read_frame(store, outcome.run_id, names.TEST_PREDICTIONS)
        assert len(predictions) == 10
        assert predictions["label"].isna().all()
        assert predictions["prediction"].notna().all()
        run = store.client.get_run(outcome.run_id)
        assert not [name for name in run.data.metrics if name.startswith("test/")]
        assert "no labels" in run.data.tags[names.TEST_READ]

    def test_without_a_test_file_there_are_no_test_predictions(
        self, tmp_path: Path, request_: RunRequest
    ) -> None:
        corpus = write_corpus(tmp_path / "untested", some_rows(20, ("en", "es", "fr", "zh")))
        outcomes = carry_out(replace(request_, data=str(corpus)))
        assert [o.state for o in outcomes] == ["finished"] * 3
        assert outcomes[2].record
        assert outcomes[2].record.test is None


class TestAdoption:
    """Under `mlflow run`, which has opened a run already."""

    def test_the_opened_run_becomes_the_suite(
        self, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = open_store(request_.tracking_uri)
        opened = store.client.create_run("0", tags={"mlflow.source.type": "PROJECT"})
        store.client.log_param(opened.info.run_id, "seeds", "0")
        monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
        carry_out(request_)
        (suite,) = runs_of(store, names.SUITE)
        assert suite.info.run_id == opened.info.run_id
        assert len(runs_of(store, names.RUN)) == 3

    def test_another_experiment_takes_the_suite_and_the_opened_run_says_where_it_is(
        self, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = open_store(request_.tracking_uri)
        opened = store.client.create_run("0", tags={"mlflow.source.type": "PROJECT"})
        monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
        carry_out(replace(request_, experiment="elsewhere"))
        (suite,) = runs_of(store, names.SUITE)
        assert store.client.get_experiment(suite.info.experiment_id).name == "elsewhere"
        assert (
            suite.info.run_id
            in store.client.get_run(opened.info.run_id).data.tags["mlflow.note.content"]
        )

    @pytest.mark.parametrize("leftover", ["finished", "a user's", "a run of ours", "unknown"])
    def test_a_leftover_variable_turns_no_other_run_into_a_suite(
        self, leftover: str, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = open_store(request_.tracking_uri)
        tags = {} if leftover == "a user's" else {"mlflow.source.type": "PROJECT"}
        if leftover == "a run of ours":
            tags[names.KIND] = names.RUN
        other = store.client.create_run("0", tags=tags, run_name="theirs").info.run_id
        if leftover == "finished":
            store.client.set_terminated(other)
        before = store.client.get_run(other).to_dictionary()
        monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32 if leftover == "unknown" else other)
        planned = resolve_run(request_)
        (warning,) = planned.warnings
        assert warning.startswith("MLFLOW_RUN_ID=")
        assert {o.state for o in run_plan(planned, quiet())} == {"finished"}
        (suite,) = runs_of(store, names.SUITE)
        assert suite.info.run_id != other
        assert store.client.get_run(other).to_dictionary() == before


def test_every_run_is_exported_with_a_card_and_reused_ones_need_no_training(
    request_: RunRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out(request_)
    monkeypatch.setattr("ablation.runs.one_run.train_tracked", None)
    outcomes = carry_out(replace(request_, export=tmp_path / "models"))
    assert {outcome.state for outcome in outcomes} == {"reused"}
    folders = {folder.name: folder for folder in (tmp_path / "models").iterdir()}
    assert set(folders) == {"mse-dev1-seed0", "epm+ft-dev1-seed0", "ensemble-dev1-seed0"}
    store = open_store(request_.tracking_uri)
    texts = resolve_run(request_).corpus.test
    assert texts is not None
    for outcome in outcomes:
        folder = folders[f"{outcome.key.variant}-dev1-seed0"]
        expected = read_frame(store, str(outcome.run_id), names.TEST_PREDICTIONS)
        predicted = load_model(folder).predict(texts["text"].tolist())
        assert predicted == pytest.approx(expected["prediction"].to_numpy(), abs=1e-5)
        card = (folder / "README.md").read_text("utf-8")
        assert outcome.record
        assert outcome.record.identity in card
        assert f"{outcome.record.dev['pearson']:.3f}" in card


def test_runs_whose_weights_were_not_kept_are_named_when_they_are_to_be_exported(
    request_: RunRequest, tmp_path: Path
) -> None:
    outcomes = carry_out(replace(request_, keep="none"))
    assert all(find_kept(o.record.identity) is None for o in outcomes if o.record)
    screen = io.StringIO()
    again = replace(request_, export=tmp_path / "models")
    run_plan(resolve_run(again), Progress(Console(file=screen, width=200)))
    assert screen.getvalue().count("not exported") == 3
    assert not (tmp_path / "models").exists()


def test_the_best_seed_of_each_row_keeps_its_weights(request_: RunRequest) -> None:
    outcomes = carry_out(replace(request_, variants=("mse", "epm+ft"), seeds=(0, 1, 2)))
    for variant in ("mse", "epm+ft"):
        records = [o.record for o in outcomes if o.record and o.key.variant == variant]
        best = max(records, key=lambda record: record.dev["pearson"])
        assert [r for r in records if find_kept(r.identity)] == [best]


class TestNotes:
    """The texts on the pages of suites and runs in MLflow."""

    def test_a_suite_says_its_questions_and_its_development_scores_and_no_test_score(
        self, finished: tuple[Store, list[RunOutcome]]
    ) -> None:
        store, _ = finished
        (suite,) = runs_of(store, names.SUITE)
        note = suite.data.tags[names.NOTE]
        assert TABLE_3.variants["epm"].question in note
        assert "24 finished" in note
        heading = note.splitlines()[0]  # the table comes first: MLflow folds the rest
        assert "dev1" in heading
        assert "test" not in heading

    def test_a_run_says_its_question_and_its_score(
        self, finished: tuple[Store, list[RunOutcome]]
    ) -> None:
        store, outcomes = finished
        for variant in ("epm", "ensemble"):
            outcome = next(o for o in outcomes if o.key.variant == variant)
            assert outcome.run_id
            assert outcome.record
            note = store.client.get_run(outcome.run_id).data.tags[names.NOTE]
            assert TABLE_3.variants[variant].question in note
            assert f"{outcome.record.dev['pearson']:.4f}" in note

    def test_a_run_that_failed_says_why(
        self, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*arguments: object, **options: object) -> None:
            raise RunError("the loss is not finite")

        monkeypatch.setattr(train_run, "train_run", broken)
        outcomes = carry_out(replace(request_, variants=("mse",)))
        assert outcomes[0].run_id
        store = open_store(request_.tracking_uri)
        note = store.client.get_run(outcomes[0].run_id).data.tags[names.NOTE]
        assert "Failed: the loss is not finite" in note


class TestModelPages:
    """Models in MLflow of runs whose weights are not kept."""

    def test_exactly_those_without_weights_have_one_with_metrics_and_data(
        self, finished: tuple[Store, list[RunOutcome]]
    ) -> None:
        store, outcomes = finished
        experiment = store.client.get_run(str(outcomes[0].run_id)).info.experiment_id
        models = store.client.search_logged_models([experiment])
        kept = {
            o.run_id
            for o in outcomes
            if o.record and not o.record.members and find_kept(o.record.identity)
        }
        trained = {o.run_id for o in outcomes if o.record and not o.record.members}
        sources = {str(model.source_run_id) for model in models}
        assert kept
        assert sources & trained == trained - kept
        model = next(m for m in models if m.source_run_id in trained)
        (score,) = [m for m in model.metrics or [] if m.key == "test/pearson"]
        run = store.client.get_run(str(model.source_run_id))
        assert score.value == run.data.metrics["test/pearson"]
        assert score.dataset_name == "corpus-test"
        assert model.tags["mlflow.model.isExternal"] == "true"

    def test_runs_of_an_interrupted_suite_get_theirs_when_it_is_resumed(
        self, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = replace(request_, variants=("mse", "epm"), keep="none")
        real, trained = train_run.train_run, 0

        def interrupted_in_the_second(*arguments: Any, **options: Any) -> object:
            nonlocal trained
            trained += 1
            if trained == 2:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(train_run, "train_run", interrupted_in_the_second)
            with pytest.raises(KeyboardInterrupt):
                carry_out(request)
        store = open_store(request.tracking_uri)
        for _ in range(2):  # and once only
            outcomes = carry_out(request)
            experiment = store.client.get_run(str(outcomes[0].run_id)).info.experiment_id
            models = store.client.search_logged_models([experiment])
            assert sorted(str(model.source_run_id) for model in models) == sorted(
                str(outcome.run_id) for outcome in outcomes
            )

    def test_a_store_that_refuses_them_loses_no_run(
        self, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*arguments: object, **options: object) -> None:
            raise MlflowException("no models here")

        monkeypatch.setattr(MlflowClient, "create_logged_model", refuse)
        log = io.StringIO()
        request = replace(request_, variants=("mse",), keep="none")
        outcomes = run_plan(resolve_run(request), Progress(Console(file=log)))
        assert [outcome.state for outcome in outcomes] == ["finished"]
        assert "models without weights were not logged: no models here" in log.getvalue()
