"""A pooling and a head of one's own: tried before training, trained, kept, and in the identity."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablation.config.overrides import resolve_config
from ablation.config.own_code import pin
from ablation.config.schema import ModelConfig, OptimisationConfig, RunConfig
from ablation.core.errors import UsageError
from ablation.encoders.loading import load_encoder
from ablation.training.model import IntimacyRegressor, build_model
from ablation.training.optimizer import make_optimizer
from ablation.training.own_parts import try_own_parts

HIDDEN = 8
MEAN = """
def part(hidden, mask):
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1)
"""
ATTENTION = """
import torch

class part(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.query = torch.nn.Linear(size, 1)

    def forward(self, hidden, mask):
        score = self.query(hidden).squeeze(-1).masked_fill(~mask, -torch.inf)
        return (score.softmax(-1).unsqueeze(-1) * hidden).sum(1)
"""
TWO_LAYERS = """
import torch

def part(size):
    return torch.nn.Sequential(torch.nn.Linear(size, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
"""
LENGTHS = torch.tensor([4, 1, 3])
IDS = torch.arange(8) + 5
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write `own.py` in the current folder, and return the pinned name of its `part`."""
    monkeypatch.chdir(tmp_path)

    def make(source: str) -> str:
        (tmp_path / "own.py").write_text(source, "utf-8")
        return pin("own.py:part")

    return make


def model_of(pooling: str = "mean", head: str = "linear", seed: int = 0) -> IntimacyRegressor:
    return build_model(
        load_encoder("tiny").model, pooling, dropout=0.0, label_mean=2.5, seed=seed, head=head
    )


class TestAPooling:
    def test_a_function_is_given_padded_states_and_their_mask(self, write: Write) -> None:
        ours, theirs = model_of().eval(), model_of(write(MEAN)).eval()
        for one, other in zip(ours(IDS, LENGTHS), theirs(IDS, LENGTHS), strict=True):
            torch.testing.assert_close(one, other)

    def test_a_class_has_parameters_that_train_with_the_rate_of_the_head(
        self, write: Write
    ) -> None:
        model = model_of(write(ATTENTION))
        rates = OptimisationConfig(lr_encoder=1e-3, lr_head=0.5)
        trained = {
            id(p): group["lr"]
            for group in make_optimizer(model, rates).param_groups
            for p in group["params"]
        }
        above = {n: p for n, p in model.named_parameters() if not n.startswith("encoder.")}
        assert set(above) == {
            *("own_pooling.query.weight", "own_pooling.query.bias", "head.weight", "head.bias")
        }
        assert {trained[id(p)] for p in above.values()} == {0.5}
        model(IDS, LENGTHS).prediction.sum().backward()
        assert above["own_pooling.query.weight"].grad is not None

    def test_its_vectors_may_have_another_size(self, write: Write) -> None:
        both = MEAN.replace("return ", "import torch\n    mean = ").rstrip()
        model = model_of(write(f"{both}\n    return torch.cat([hidden[:, 0], mean], -1)\n"))
        output = model(IDS, LENGTHS)
        assert output.sentence.shape == (3, 2 * model.encoder.config.hidden_size)
        assert output.prediction.shape == (3,)


class TestAHead:
    def test_it_begins_at_the_mean_of_the_labels_and_is_seeded(self, write: Write) -> None:
        name = write(TWO_LAYERS)
        first, again, other = (model_of(head=name, seed=seed).eval() for seed in (0, 0, 1))
        score = first(IDS, LENGTHS).prediction
        assert score.mean().item() == pytest.approx(2.5, abs=2)
        assert torch.equal(score, again(IDS, LENGTHS).prediction)
        assert not torch.equal(score, other(IDS, LENGTHS).prediction)

    @pytest.mark.parametrize("end", ["", ".squeeze(-1)"])
    def test_a_score_for_each_text_may_be_a_column(self, write: Write, end: str) -> None:
        source = (
            "import torch\nclass part(torch.nn.Linear):\n"
            "    def __init__(self, size): super().__init__(size, 1)\n"
            f"    def forward(self, v): return super().forward(v){end}\n"
        )
        head = write(source)
        try_own_parts(ModelConfig(head=head), HIDDEN)
        assert model_of(head=head)(IDS, LENGTHS).prediction.shape == (3,)


class TestTheIdentity:
    @pytest.mark.parametrize("field", ["pooling", "head"])
    def test_another_source_is_another_run(self, write: Write, field: str) -> None:
        names = [write(ATTENTION), write(ATTENTION.replace("size, 1", "size, 1, bias=False"))]
        digests = {RunConfig(model=ModelConfig(**{field: name})).digest() for name in names}
        assert len(digests) == 2

    def test_the_linear_head_is_that_of_runs_before_there_was_another(self) -> None:
        assert RunConfig().digest() == RunConfig(model=ModelConfig(head="linear")).digest()

    @pytest.mark.parametrize("field", ["model.pooling", "model.head"])
    def test_an_unknown_name_is_an_error_of_the_setting(self, field: str) -> None:
        with pytest.raises(UsageError, match=rf"{field} = 'lienar'.*unknown"):
            resolve_config({field: "lienar"})
        with pytest.raises(UsageError, match=rf"{field} = .*none\.py: can't be read"):
            resolve_config({field: "none.py:part"})


class TestTheTrial:
    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            ("return hidden", r"returned shape \(3, 5, 8\), not \(3, features\)"),
            ("return 3", "returned 3, not"),
            ("return hidden.detach().mean(1)", "does not depend on the hidden states"),
            ("return hidden.mean(1)", "changes with the longer ones in its batch"),
            ("return hidden[:, 0] / 0", "its value is not finite"),
            ("return (hidden[:, 0] * 0).sqrt()", "its gradient is not finite"),
            ("raise KeyError('x')", r"fails on a batch: KeyError: 'x' \(line 2\)"),
        ],
    )
    def test_what_is_wrong_with_a_pooling_is_said_in_a_line(
        self, write: Write, body: str, problem: str
    ) -> None:
        name = write(f"def part(hidden, mask):\n    {body}\n")
        with pytest.raises(UsageError, match=rf"model\.pooling = .*{problem}"):
            try_own_parts(ModelConfig(pooling=name), HIDDEN)

    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            ("def part(size): return 3", "is a int, not a torch.nn.Module"),
            ("def part(size): raise KeyError(size)", r"can't be made with 8: KeyError: 8 \(line"),
            ("import torch\ndef part(size): return torch.nn.Linear(size, 2)", "not \\(3,\\)"),
            (
                "from torch.nn import BatchNorm1d, Linear, Sequential\n"
                "def part(size): return Sequential(BatchNorm1d(size), Linear(size, 1))",
                r"keeps '0\.running_mean', which does not train",
            ),
            ("def part(:", "SyntaxError"),
        ],
    )
    def test_what_is_wrong_with_a_head_is_said_in_a_line(
        self, write: Write, source: str, problem: str
    ) -> None:
        name = write(source)
        with pytest.raises(UsageError, match=problem):
            try_own_parts(ModelConfig(head=name), HIDDEN)

    def test_parts_that_are_right_pass(self, write: Write) -> None:
        for source in (MEAN, ATTENTION):
            try_own_parts(ModelConfig(pooling=write(source)), HIDDEN)
        try_own_parts(ModelConfig(head=write(TWO_LAYERS)), HIDDEN)
        try_own_parts(ModelConfig(), HIDDEN)
