"""Labels of any range, pairs of texts and weights of rows in training."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ablation.config.overrides import load_profile, resolve_config
from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.data.corpus import load_corpus
from ablation.encoders.loading import load_encoder
from ablation.training.evaluation import pearson, predict
from ablation.training.label_scale import LabelScale, label_scale
from ablation.training.loop import Hooks
from ablation.training.train_run import RunResult, prepare, train_run

SMOKE = load_profile("smoke")
ENDS = st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 1e3)).map(lambda t: (t[0], t[0] + t[1]))


@given(ENDS, ENDS, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_labels_come_back_from_the_training_scale(
    own: tuple[float, float], training: tuple[float, float], shares: list[float]
) -> None:
    scale = LabelScale(own, training)
    label = own[0] + np.array(shares) * (own[1] - own[0])
    mapped = scale.to_training(label)
    width = training[1] - training[0]
    assert mapped == pytest.approx(training[0] + np.array(shares) * width, abs=1e-6 * width + 1e-9)
    back = scale.to_own(mapped)
    assert back == pytest.approx(label, rel=1e-6, abs=1e-6 * (own[1] - own[0]) + 1e-9)


def test_an_equal_scale_changes_nothing() -> None:
    values = np.array([1.0, 3.3])
    for setting in ("1..5", "own"):
        scale = label_scale((1.0, 5.0), setting)
        assert scale.to_training(values) is values
        assert scale.to_own(values) is values
    assert label_scale((0.0, 3.0), "own").is_identity


@pytest.mark.parametrize("text", ["", "5..1", "1-5", "a..b", "0..inf", "1..1"])
def test_what_is_no_scale_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"label\.train_on"):
        resolve_config(SMOKE | {"label.train_on": text})


def test_the_default_scale_leaves_the_digest_of_settings_as_it_was() -> None:
    default = resolve_config(SMOKE)
    assert default.digest() == resolve_config(SMOKE | {"label.train_on": "1..5"}).digest()
    assert default.digest() != resolve_config(SMOKE | {"label.train_on": "0..1"}).digest()


def trained(folder: Path, frame: pd.DataFrame, more: str, variant: str = "epm") -> RunResult:
    folder.mkdir()
    frame.to_csv(folder / "rows.csv", index=False)
    (folder / "corpus.toml").write_text(
        '[files]\ntrain = "rows.csv"\n[columns]\ngroup = "g"\n' + more
    )
    config = resolve_config(SMOKE, variant)
    prepared = prepare(load_corpus(str(folder)), config)
    return train_run(prepared, config, RunKey(variant, "dev1", 0), "", Hooks())


def rows(low: float, high: float) -> pd.DataFrame:
    texts = [f"post {i} {'love ' * (i % 5)}" for i in range(80)]
    label = [low + (high - low) * (i % 5) / 4 for i in range(80)]
    return pd.DataFrame({"text": texts, "label": label, "g": ["a", "b"] * 40})


def test_a_linear_change_of_the_labels_changes_predictions_alike(tmp_path: Path) -> None:
    kind = '[group]\nkind = "domain"\n[label]\n'
    first = trained(tmp_path / "a", rows(1, 5), f"{kind}lowest = 1\nhighest = 5")
    other = trained(tmp_path / "b", rows(-20, 100), f"{kind}lowest = -20\nhighest = 100")
    expected = -20 + 30 * (first.dev["prediction"].to_numpy() - 1)
    assert other.dev["prediction"].to_numpy() == pytest.approx(expected, abs=0.02)
    assert other.dev["label"].max() == 100
    assert other.record.dev["pearson"] == pytest.approx(first.record.dev["pearson"], abs=1e-4)
    assert other.model is not None
    config = resolve_config(SMOKE, "epm")
    prepared = prepare(load_corpus(str(tmp_path / "b")), config)
    by_model = predict(other.model, prepared.train.take(other.dev["row"].to_numpy()))
    assert by_model == pytest.approx(other.dev["prediction"].to_numpy(), abs=0.01)


def test_a_pair_is_tokenised_as_the_tokenizer_joins_it(tmp_path: Path) -> None:
    frame = rows(1, 5).assign(second=[f"reply {i}" for i in range(80)])
    frame.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "corpus.toml").write_text(
        '[files]\ntrain = "rows.csv"\n[columns]\nsecond_text = "second"\nothers = "ignored"'
    )
    prepared = prepare(load_corpus(str(tmp_path)), resolve_config(SMOKE))
    pair = load_encoder("tiny").tokenizer(frame["text"][3].strip(), "reply 3")["input_ids"]
    assert prepared.vocabulary.kept[prepared.train.ids[3]].tolist() == pair


def test_equal_weights_change_nothing_and_others_do(tmp_path: Path) -> None:
    more = '[group]\nkind = "domain"\n'
    frame = rows(1, 5)
    plain = trained(tmp_path / "plain", frame, more)
    weighted = more.replace("[group]", 'weight = "w"\n[group]')
    equal = trained(tmp_path / "equal", frame.assign(w=2.5), weighted)
    other = trained(tmp_path / "other", frame.assign(w=[1, 9] * 40), weighted)
    expected = plain.dev["prediction"].to_numpy()
    assert equal.dev["prediction"].to_numpy() == pytest.approx(expected, abs=1e-3)
    assert np.abs(other.dev["prediction"].to_numpy() - expected).max() > 1e-3
    assert (
        other.dev["weight"].tolist() == frame.assign(w=[1, 9] * 40)["w"][other.dev["row"]].tolist()
    )


@given(
    st.lists(
        st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.integers(1, 4)), min_size=3, max_size=12
    )
)
@example([(0.0, 0.0, 1), (0.0, 0.0, 1), (1.0, 1.2e-295, 1)])  # squares of such labels are 0
@example([(0.0, 0.0, 2), (1e-200, 1.0, 1), (0.0, 3.0, 1)])
def test_a_weight_counts_as_that_many_rows(triples: list[tuple[float, float, int]]) -> None:
    prediction, label, weight = (np.array(values) for values in zip(*triples, strict=True))
    repeated = pearson(np.repeat(prediction, weight), np.repeat(label, weight))
    weighted = pearson(prediction, label, weight)
    assert (repeated is None) == (weighted is None)
    if repeated is not None and weighted is not None:
        assert weighted == pytest.approx(repeated, abs=1e-6)
