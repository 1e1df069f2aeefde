"""A loss of one's own: pinned to its source, tried before training, executed only when named."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ablation.config.overrides import resolve_config
from ablation.config.own_code import parse_own, pin, source_of
from ablation.config.schema import LossConfig, RunConfig
from ablation.config.variants import load_table
from ablation.core.errors import UsageError
from ablation.training.losses import total_loss
from ablation.training.losses.regression import regression_loss
from ablation.training.losses.trial import try_regression_loss
from ablation.training.model import Output

TILTED = """
import torch

def tilted(prediction, label, *, weight=None):
    r = label - prediction
    loss = torch.maximum(0.6 * r, -0.4 * r)
    return (loss if weight is None else weight * loss).mean()
"""
LABEL = np.linspace(1, 5, 50)
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write `own.py` in the current folder, and return the pinned name of its `loss`."""
    monkeypatch.chdir(tmp_path)

    def make(source: str) -> str:
        (tmp_path / "own.py").write_text(source, "utf-8")
        return pin("own.py:loss")

    return make


class TestItsName:
    def test_it_is_pinned_to_the_source_without_a_path(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        file = tmp_path / "deep" / "losses.py"
        file.write_text(TILTED, "utf-8")
        pinned = pin("deep/losses.py:tilted", tmp_path)
        assert pinned.startswith("losses.py:tilted@")
        assert pinned == pin(f"{file}:tilted") == pin(pinned)
        own = parse_own(pinned)
        assert own is not None
        assert source_of(own) == TILTED

    def test_another_source_is_another_run(self, tmp_path: Path) -> None:
        digests = set()
        for source in (TILTED, TILTED.replace("0.6", "0.7")):
            (tmp_path / "losses.py").write_text(source, "utf-8")
            name = pin("losses.py:tilted", tmp_path)
            digests.add(RunConfig(loss=LossConfig(regression=name)).digest())
        assert len(digests) == 2

    def test_a_module_is_found_without_importing_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "installed_losses.py").write_text("raise SystemExit\n" + TILTED, "utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        assert pin("installed_losses:tilted").startswith("installed_losses:tilted@")
        assert "installed_losses" not in sys.modules

    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("none.py:f", r"none\.py: can't be read: No such file"),
            ("no.such.module:f", "no.such"),
            ("math:f", "no installed module 'math' with Python source"),
        ],
    )
    def test_what_is_not_there_is_an_error_of_the_setting(self, name: str, problem: str) -> None:
        with pytest.raises(UsageError, match=rf"loss\.regression = .*{problem}"):
            resolve_config({"loss.regression": name})

    def test_in_a_file_of_variants_it_is_relative_to_that_file(self, tmp_path: Path) -> None:
        (tmp_path / "losses.py").write_text(TILTED, "utf-8")
        rows = tmp_path / "rows.toml"
        text = "[variants.a]\ntitle = 'A'\nquestion = '?'\nloss.regression = 'losses.py:tilted'\n"
        rows.write_text(text, "utf-8")
        name = str(load_table(rows).variants["a"].changes["loss.regression"])
        assert name.startswith("losses.py:tilted@")
        rows.write_text(text.replace("losses.py", "lossse.py"), "utf-8")
        with pytest.raises(
            UsageError, match=r"rows\.toml: variants\.a: loss\.regression = .*lossse"
        ):
            load_table(rows)

    def test_a_source_that_is_gone_is_no_error_until_it_is_needed(self) -> None:
        name = "gone.py:f@0123456789ab"
        assert LossConfig(regression=name).regression == name
        with pytest.raises(UsageError, match=r"gone\.py:f: its source is not at hand"):
            regression_loss(name)


class TestItsValue:
    def test_it_is_what_the_function_returns(self, tmp_path: Path) -> None:
        (tmp_path / "losses.py").write_text(TILTED, "utf-8")
        config = LossConfig(regression=pin("losses.py:tilted", tmp_path))
        try_regression_loss(config, LABEL, np.ones(50, dtype=np.float32))
        output = Output(torch.tensor([1.0, 5.0]), torch.eye(2))
        label, language = torch.tensor([2.0, 1.0]), torch.tensor([0, 1])
        terms = total_loss(output, label, language, config)
        assert terms.total.item() == pytest.approx((0.6 + 0.4 * 4) / 2)
        terms = total_loss(output, label, language, config, torch.tensor([2.0, 0.0]))
        assert terms.total.item() == pytest.approx(0.6)

    def test_several_terms_are_added_and_named(self, write: Write) -> None:
        name = write(
            "def loss(prediction, label):\n"
            "    r = (label - prediction).abs()\n"
            "    return {'near': r.mean(), 'far': r.square().mean()}\n"
        )
        output = Output(torch.tensor([1.0, 2.0]), torch.eye(2))
        terms = total_loss(
            output, torch.tensor([2.0, 4.0]), torch.tensor([0, 1]), LossConfig(regression=name)
        )
        assert terms.regression.item() == pytest.approx(1.5 + 2.5)
        assert {k: v.item() for k, v in terms.named.items()} == {"near": 1.5, "far": 2.5}


class TestTheTrial:
    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            ("return (prediction - label).abs()", r"returned shape \(32,\), not a scalar"),
            ("return 3.0", "returned 3.0, not a scalar"),
            ("return {}", "returned no term"),
            ("return {'regression': prediction.mean()}", "'regression'; give it another name"),
            ("return {'a b': prediction.mean()}", "'a b'; give it another name"),
            ("return (prediction - label).mean().detach()", "does not depend on the predictions"),
            ("return label.mean()", "does not depend on the predictions"),
            ("return (prediction - 100).log().mean()", "its value is not finite"),
            ("return (prediction - prediction).sqrt().sum()", "its gradient is not finite"),
            ("raise KeyError('x')", r"fails on a batch of 32 texts: KeyError: 'x' \(line 2\)"),
            ("return prediction @ label.numpy().tolist()", r"fails on a batch .*\(line 2\)"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(self, write: Write, body: str, problem: str) -> None:
        name = write(f"def loss(prediction, label):\n    {body}\n")
        with pytest.raises(UsageError, match=rf"loss\.regression = .*{problem}"):
            try_regression_loss(LossConfig(regression=name), LABEL)

    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            ("def loss(:", r"own\.py: SyntaxError: .*\(line 1\)"),
            ("\nimport nothing_like_it", r"own\.py: ModuleNotFoundError: .*\(line 2\)"),
            ("def lass(p, y): ...", r"own\.py: has no function 'loss'"),
            ("loss = 3", r"own\.py: has no function 'loss'"),
        ],
    )
    def test_a_module_that_fails_is_named(self, write: Write, source: str, problem: str) -> None:
        name = write(source)
        with pytest.raises(UsageError, match=problem):
            try_regression_loss(LossConfig(regression=name), LABEL)

    def test_weights_need_an_argument_for_them(self, write: Write) -> None:
        name = write("def loss(prediction, label):\n    return (prediction - label).abs().mean()\n")
        with pytest.raises(UsageError, match="takes no argument `weight`"):
            try_regression_loss(LossConfig(regression=name), LABEL, np.ones(50, dtype=np.float32))

    def test_it_leaves_the_random_state_alone(self, write: Write) -> None:
        name = write(
            "import torch\n"
            "def loss(prediction, label):\n"
            "    return (prediction + torch.randn(len(label))).square().mean()\n"
        )
        before = torch.get_rng_state()
        try_regression_loss(LossConfig(regression=name), LABEL)
        assert torch.equal(torch.get_rng_state(), before)
