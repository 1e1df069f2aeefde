"""Seeds that depend on their purpose alone; batches that hold every row once."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ablation.data.seeding import seed_for
from ablation.training.batching import Texts, collate, epoch_batches, prediction_batches


def texts(lengths: list[int]) -> Texts:
    count = len(lengths)
    return Texts(
        [np.arange(n) for n in lengths],
        np.arange(count) / 2,
        np.arange(count) % 2,
        np.arange(100, 100 + count),
    )


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_for("order", 0, 1) == 6998642760411335394


@given(st.text(), st.text(), st.integers(), st.integers())
def test_seeds_fit_every_generator_and_differ_where_anything_differs(
    a: str, b: str, m: int, n: int
) -> None:
    assert 0 <= seed_for(a, m) < 2**63
    if a != b and "\x1f" not in a + b:
        assert seed_for(a, m) != seed_for(b, m)
    if m != n:
        assert seed_for(a, m) != seed_for(a, n)
    torch.Generator().manual_seed(seed_for(a, m))
    np.random.default_rng(seed_for(a, m))


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 50))
def test_an_epoch_holds_every_row_once(rows: int, batch_size: int, seed: int) -> None:
    batches = epoch_batches(texts([3] * rows), batch_size, seed)
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    assert all(len(batch) <= batch_size + batch_size // 8 for batch in batches)


def test_no_step_is_made_on_a_handful_of_left_over_rows() -> None:
    assert [len(batch) for batch in epoch_batches(texts([3] * 67), 64, 0)] == [67]
    assert [len(batch) for batch in epoch_batches(texts([3] * 72), 64, 0)] == [64, 8]


def test_the_seed_alone_decides_the_batches() -> None:
    first, again, other = (epoch_batches(texts([3] * 50), 8, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_longest_texts_of_a_batch_come_first() -> None:
    data = texts([1 + i % 7 for i in range(40)])
    for batch in epoch_batches(data, 8, 0):
        assert data.lengths[batch].tolist() == sorted(data.lengths[batch], reverse=True)


def test_languages_are_mixed_in_batches() -> None:
    data = texts([3] * 400)
    assert all(len(set(data.language[batch])) == 2 for batch in epoch_batches(data, 32, 0))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.data())
def test_a_batch_is_its_rows_end_to_end_in_the_order_asked_for(
    lengths: list[int], data: st.DataObject
) -> None:
    rows = [100 * i + np.arange(n) for i, n in enumerate(lengths)]
    nothing = np.zeros(len(rows))
    some = Texts(rows, nothing, nothing.astype(np.int64), np.arange(len(rows)))
    chosen = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=30)))
    batch = collate(some, chosen, torch.device("cpu"))
    assert batch.ids.tolist() == [token for i in chosen for token in rows[i].tolist()]
    assert batch.lengths.tolist() == [lengths[i] for i in chosen]
    assert batch.row.tolist() == chosen.tolist()


def test_prediction_goes_from_the_longest_to_the_shortest() -> None:
    batches = prediction_batches(texts([2, 9, 4, 7]), 2)
    assert [batch.tolist() for batch in batches] == [[1, 3], [2, 0]]


def test_a_batch_lays_its_texts_end_to_end() -> None:
    data = texts([2, 3, 1])
    batch = collate(data, np.array([1, 0]), torch.device("cpu"))
    assert batch.ids.tolist() == [0, 1, 2, 0, 1]
    assert batch.lengths.tolist() == [3, 2]
    assert batch.label.tolist() == [0.5, 0.0]
    assert batch.label.dtype == torch.float32
    assert batch.language.tolist() == [1, 0]
    assert batch.row.tolist() == [101, 100]


def test_taking_rows_keeps_their_numbers() -> None:
    taken = texts([2, 3, 1]).take(np.array([2, 0]))
    assert taken.row.tolist() == [102, 100]
    assert taken.lengths.tolist() == [1, 2]
    assert len(taken) == 2


@pytest.mark.parametrize("purpose", ["order", "head", "dropout", "split"])
def test_each_purpose_has_a_stream_of_its_own(purpose: str) -> None:
    others = {
        seed_for(name, 0) for name in ("order", "head", "dropout", "split") if name != purpose
    }
    assert seed_for(purpose, 0) not in others
