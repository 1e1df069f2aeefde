"""A loss is one file: dropped into the folder it trains, and every other name is an error."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch

from ablation.config import loss_names
from ablation.config.overrides import load_profile, resolve_config
from ablation.config.schema import LossConfig, ModelConfig, RunConfig
from ablation.config.variants import VARIANTS, Variant
from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.data.corpus import load_corpus
from ablation.runs.request import RunRequest, resolve_run
from ablation.training.loop import Hooks
from ablation.training.losses import regression, regression_loss, total_loss
from ablation.training.losses.contrastive import language_contrastive
from ablation.training.model import Output
from ablation.training.train_run import check_trainable, prepare, train_run

ABSOLUTE_ERROR = """
def absolute_error(prediction, label):
    return (prediction.float() - label.float()).abs().mean()
"""
OUTPUT = Output(torch.tensor([1.0, 2.0]), torch.eye(2))
LABEL, LANGUAGE = torch.tensor([2.0, 4.0]), torch.tensor([0, 1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of losses beside the shipped ones, which this test alone has."""
    for file in Path(str(loss_names.REGRESSION_FOLDER)).glob("*.py"):
        (tmp_path / file.name).write_text(file.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(loss_names, "REGRESSION_FOLDER", tmp_path)
    monkeypatch.setattr(regression, "__path__", [str(tmp_path)])
    regression_loss.cache_clear()
    yield tmp_path
    regression_loss.cache_clear()


class TestOneFile:
    @pytest.fixture(autouse=True)
    def variant(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "absolute_error.py").write_text(ABSOLUTE_ERROR, "utf-8")
        changes = {**VARIANTS["mse"].changes, "loss.regression": "absolute_error"}
        monkeypatch.setitem(VARIANTS, "absolute", Variant("L1", "Is L1 better?", changes))

    def test_its_name_is_a_setting(self) -> None:
        config = resolve_config({}, "absolute")
        assert config.loss.regression == "absolute_error"
        assert RunConfig.model_validate(config.model_dump(mode="json")) == config
        assert config.digest() != resolve_config({}, "mse").digest()

    def test_the_total_is_made_of_it(self) -> None:
        terms = total_loss(OUTPUT, LABEL, LANGUAGE, LossConfig(regression="absolute_error"))
        assert terms.total.item() == terms.regression.item() == 1.5

    def test_a_run_trains_with_it(self, small_corpus: Path) -> None:
        corpus = load_corpus(str(small_corpus))
        first = {}
        for name in ("mse", "absolute"):
            config = resolve_config(load_profile("smoke") | {"optimisation.log_every": 1}, name)
            points: list[float] = []

            def on_point(values: Mapping[str, float], step: int, to: list[float] = points) -> None:
                to.append(values.get("train/loss", 0.0))

            key = RunKey(name, "dev1", 0)
            train_run(prepare(corpus, config), config, key, "", Hooks(on_point=on_point))
            first[name] = points[0]
        # Batch and weights are the same: a mean is at most the root of the mean square.
        assert 0 < first["absolute"] < first["mse"] ** 0.5


class TestUnknown:
    def test_settings_name_the_nearest(self) -> None:
        with pytest.raises(UsageError, match=r"loss\.regression = 'epn'.*did you mean 'epm'"):
            resolve_config({"loss.regression": "epn"})

    def test_settings_name_all_where_none_is_near(self) -> None:
        with pytest.raises(UsageError, match=r"known are .*epm.*, mse"):
            resolve_config({"loss.regression": "zzzzzz"})

    def test_nothing_is_planned_with_it(self, small_corpus: Path, store_uri: str) -> None:
        request = RunRequest(
            data=str(small_corpus), tracking_uri=store_uri, overrides={"loss.regression": "hubris"}
        )
        with pytest.raises(UsageError, match=r"loss\.regression = 'hubris'"):
            resolve_run(request)

    @pytest.mark.parametrize("name", ["hubris", "", "__init__", "mse.mse", "../mse"])
    def test_it_has_no_function(self, name: str) -> None:
        with pytest.raises(UsageError, match=r"loss\.regression = "):
            regression_loss(name)

    def test_no_total_is_computed_with_one_that_slipped_past_the_settings(self) -> None:
        regression = LossConfig().model_copy(update={"regression": "hubris"})
        contrastive = LossConfig().model_copy(update={"contrastive": "repel"})
        for config in (regression, contrastive):
            with pytest.raises(UsageError, match=r"'hubris'|'repel'"):
                total_loss(OUTPUT, LABEL, LANGUAGE, config)

    def test_a_reading_of_eq_9_is_one_of_two(self) -> None:
        with pytest.raises(UsageError, match=r"'attracts': did you mean 'attract'"):
            language_contrastive(OUTPUT.sentence, LANGUAGE, tau=0.2, sign="attracts")


class TestBroken:
    """A loss that can't be used is an error before training starts, never another loss."""

    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            ("def broken(:", "invalid syntax"),
            ("import a_library_that_nobody_has", "a_library_that_nobody_has"),
            ("def other(prediction, label): ...", "no function 'broken'"),
            ("broken = 3", "no function 'broken'"),
        ],
    )
    def test_a_module_without_the_function_is_named(
        self, folder: Path, small_corpus: Path, source: str, problem: str
    ) -> None:
        (folder / "broken.py").write_text(source, "utf-8")
        config = RunConfig(model=ModelConfig(encoder="tiny"), loss=LossConfig(regression="broken"))
        prepared = prepare(load_corpus(str(small_corpus)), config)
        with pytest.raises(UsageError, match=rf"loss\.regression = 'broken': .*{problem}"):
            check_trainable(config, prepared)

    def test_a_loss_for_each_text_is_not_a_loss(self, folder: Path) -> None:
        source = "def unreduced(prediction, label):\n    return (prediction - label).abs()"
        (folder / "unreduced.py").write_text(source, "utf-8")
        with pytest.raises(UsageError, match=r"'unreduced': returned shape \(2,\), not a scalar"):
            total_loss(OUTPUT, LABEL, LANGUAGE, LossConfig(regression="unreduced"))


def test_the_help_of_the_setting_names_every_loss() -> None:
    description = LossConfig.model_fields["regression"].description or ""
    assert all(name in description for name in loss_names.regression_losses())
