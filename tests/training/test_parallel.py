"""A batch's halves on a thread each learn and predict what the whole batch does."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DistilBertConfig, DistilBertModel

from ablation.config.schema import LossConfig, RunConfig
from ablation.training.batching import collate, merge, split_batch
from ablation.training.evaluation import predict
from ablation.training.freezing import freeze
from ablation.training.frozen_cache import FrozenLayerCache, attach_cached_hidden
from ablation.training.loop import Hooks, TrainingData, fit
from ablation.training.model import IntimacyRegressor, build_model
from ablation.training.parallel import PIECES, THREAD_NAME, count_pieces, map_threads
from tests.training.test_loop import FAST, model, texts

CPU = torch.device("cpu")
LOSSES = {
    "mse": LossConfig(),
    "ccc": LossConfig(regression="ccc"),
    "pearson": LossConfig(regression="pearson"),
    "epm+cl": LossConfig(regression="epm", contrastive="as_printed"),
    "epm+cl(attract)": LossConfig(regression="epm", contrastive="attract", contrastive_weight=0.3),
}
STEPS = FAST.model_copy(
    update={"log_every": 1, "batch_size": 9}
)  # halves of five and of four texts


@pytest.fixture
def two() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


class TestDealing:
    @given(st.integers(1, 30), st.integers(1, 5))
    def test_every_text_is_in_one_piece_and_together_they_are_the_batch_again(
        self, count: int, pieces: int
    ) -> None:
        data = texts(count)
        batch = collate(data, data.row, CPU)
        batch = replace(batch, hidden=torch.randn(len(batch.ids), 3))
        dealt = split_batch(batch, pieces)
        assert len(dealt) == min(pieces, count)
        for name in ("lengths", "label", "language"):
            assert torch.equal(
                merge([getattr(piece, name) for piece in dealt]), getattr(batch, name)
            )
        starts = batch.lengths.cumsum(0) - batch.lengths
        for first, piece in enumerate(dealt):
            assert piece.row.tolist() == batch.row[first::pieces].tolist()
            tokens = torch.cat(
                [torch.arange(s, s + n) for s, n in zip(starts, batch.lengths, strict=True)][
                    first::pieces
                ]
            )
            assert torch.equal(piece.ids, batch.ids[tokens])
            assert piece.hidden is not None
            assert torch.equal(piece.hidden, batch.hidden[tokens])

    def test_pieces_of_a_sorted_batch_take_as_long_as_each_other(self) -> None:
        data = texts(64)
        batch = collate(data, data.row[np.argsort(-data.lengths)], CPU)
        first, second = (int(piece.lengths.sum()) for piece in split_batch(batch, 2))
        assert abs(first - second) <= int(batch.lengths.max() - batch.lengths.min())


class TestWhoTakesPart:
    def test_the_number_of_threads_does_not_decide(self) -> None:
        regressor, found = model(), []
        for count in (1, 2, 3, 4):
            torch.set_num_threads(count)
            found.append(count_pieces(regressor))
        torch.set_num_threads(1)
        assert found == [PIECES] * 4

    @pytest.mark.usefixtures("two")
    def test_no_padded_encoder_whose_dropout_would_depend_on_who_comes_first(self) -> None:
        padded = DistilBertModel(
            DistilBertConfig(vocab_size=50, dim=8, n_heads=2, n_layers=1, hidden_dim=16)
        )
        assert count_pieces(build_model(padded, "mean", dropout=None, label_mean=3.0, seed=0)) == 1

    @pytest.mark.usefixtures("two")
    def test_each_has_a_share_of_the_cores_and_the_caller_keeps_all(self) -> None:
        both = threading.Barrier(2)

        def look(number: int) -> tuple[str, int]:
            both.wait()
            return threading.current_thread().name, torch.get_num_threads()

        seen = map_threads(look, range(2))
        assert len({name for name, _ in seen}) == 2
        assert all(name.startswith(THREAD_NAME) and threads == 1 for name, threads in seen)
        assert torch.get_num_threads() == 2
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked on this system")
    def test_a_forked_process_makes_threads_of_its_own(self) -> None:
        """In a fresh interpreter: a fork of this one could catch a thread that holds a lock."""
        program = """
import os, signal, torch
from ablation.training.parallel import map_threads
torch.set_num_threads(2)
map_threads(abs, [1, -2])
child = os.fork()
if not child:
    signal.alarm(60)  # the parent would wait for one that hangs
    os._exit(map_threads(abs, [3, -4]) != [3, 4])
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
        assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0

    @pytest.mark.usefixtures("two")
    def test_an_error_is_raised_when_both_have_ended(self) -> None:
        ended, failed = [], threading.Event()

        def work(number: int) -> None:
            if number == 0:
                failed.set()
                raise ValueError("the first one's")
            failed.wait()
            ended.append(number)

        with pytest.raises(ValueError, match="the first one's"):
            map_threads(work, range(2))
        assert ended == [1]


def learned(
    loss: LossConfig, frozen: int | None, dropout: float, threads: int, pieces: int = PIECES
) -> tuple[IntimacyRegressor, list[dict[str, float]]]:
    """Train with this many threads and pieces; return the weights and the points."""
    torch.set_num_threads(threads)
    data, points, regressor = texts(32), list[dict[str, float]](), model(dropout=dropout)
    if frozen is not None:
        freeze(regressor, frozen)
        data = attach_cached_hidden(FrozenLayerCache(), "train", regressor, data, "float32")
    hooks = Hooks(on_point=lambda values, step: points.append(dict(values)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ablation.training.step.count_pieces", lambda model: pieces)
        fit(
            regressor,
            TrainingData(data, data, lambda p: {}),
            RunConfig(loss=loss, optimisation=STEPS),
            seed=0,
            hooks=hooks,
        )
    torch.set_num_threads(1)
    return regressor, points


@pytest.mark.parametrize("frozen", [None, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_weights_are_those_of_whole_batches(loss: str, frozen: int | None) -> None:
    """Step by step, without dropout, whose masks depend on how many texts are run at a time."""
    whole, at_once = (learned(LOSSES[loss], frozen, 0.0, pieces, pieces) for pieces in (1, PIECES))
    for mine, theirs in zip(at_once[1], whole[1], strict=True):
        assert mine == pytest.approx(theirs, rel=2e-4, abs=2e-5)
    for a, b in zip(whole[0].parameters(), at_once[0].parameters(), strict=True):
        # A key's bias has no gradient: AdamW makes steps of what rounding leaves of it.
        assert torch.allclose(a, b, rtol=2e-3, atol=5e-5)


def test_one_thread_and_three_give_what_two_give() -> None:
    """Runs of unlike machines are taken for the same: only the last digits may differ."""
    (_, one), (_, two), (_, three) = (
        learned(LOSSES["epm+cl"], None, 0.3, threads) for threads in (1, 2, 3)
    )
    for other in (one, three):
        for mine, theirs in zip(other, two, strict=True):
            assert mine == pytest.approx(theirs, rel=2e-4, abs=2e-5)


def test_dropout_falls_on_each_half_by_itself() -> None:
    (_, first), (_, again), (_, without) = (
        learned(LOSSES["mse"], None, dropout, 2) for dropout in (0.5, 0.5, 0.0)
    )
    assert first == again
    assert first != without


#: The function that each half runs in its thread, and the number of texts among its arguments.
HALVES: dict[str, tuple[object, str, Callable[..., int]]] = {
    "forward": (IntimacyRegressor, "forward", lambda model, ids, lengths, hidden: len(lengths)),
    "backward": (torch.autograd, "backward", lambda tensors, gradients: len(tensors[0])),
}


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("way", HALVES)
def test_whichever_half_comes_first_no_bit_changes(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, trained = texts(9), []
    owner, name, count_texts = HALVES[way]
    run = getattr(owner, name)
    for first in (0, 1):
        ended = [threading.Event(), threading.Event()]

        def in_order(
            *arguments: object, first: int = first, ended: Sequence[threading.Event] = ended
        ) -> object:
            # The half of five texts is number 0, that of four number 1.
            number = {5: 0, 4: 1}.get(count_texts(*arguments))
            if number is None:  # the whole, in prediction
                return run(*arguments)
            if number != first:
                ended[first].wait()
            try:
                return run(*arguments)
            finally:
                ended[number].set()

        monkeypatch.setattr(owner, name, in_order)
        regressor = model(dropout=0.3)
        one = STEPS.model_copy(update={"epochs": 1})
        fit(
            regressor,
            TrainingData(data, data.take(np.arange(2)), lambda p: {}),
            RunConfig(loss=LOSSES["epm+cl"], optimisation=one),
            seed=0,
        )
        assert all(event.is_set() for event in ended)
        trained.append(regressor)
    assert all(
        torch.equal(a, b)
        for a, b in zip(trained[0].parameters(), trained[1].parameters(), strict=True)
    )


def test_predictions_are_those_of_whole_batches() -> None:
    regressor, data = model(), texts(33)
    expected = predict(regressor, data)
    torch.set_num_threads(2)
    found = predict(regressor, data)
    one = predict(regressor, data.take(np.array([4])))
    torch.set_num_threads(1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(one, expected[4:5], atol=1e-5)
