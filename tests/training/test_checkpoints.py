"""Checkpoints: whole or absent, checked, bounded; runs continue from them to the same bit."""

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch

from ablation.config.schema import LossConfig, OptimisationConfig, RunConfig
from ablation.core.errors import RunError
from ablation.training import checkpoints, loop
from ablation.training.batching import Texts
from ablation.training.checkpoints import (
    Checkpoint,
    CheckpointWriter,
    clear,
    load_latest,
    prune,
    remove_corrupt,
    save,
)
from ablation.training.evaluation import pearson
from ablation.training.freezing import freeze
from ablation.training.loop import FitResult, Hooks, TrainingData, fit
from ablation.training.model import IntimacyRegressor
from tests.training.test_loop import model, texts


def some(epoch: int) -> Checkpoint:
    return Checkpoint(
        epoch,
        {"a/b": torch.arange(6.0).view(2, 3) + epoch},
        {"step": epoch, "nothing": math.inf, "text": "é"},
    )


class TestFiles:
    def test_what_was_saved_is_loaded(self, tmp_path: Path) -> None:
        save(tmp_path, some(3))
        found = load_latest(tmp_path)
        assert found is not None
        assert (found.epoch, found.state) == (3, some(3).state)
        assert torch.equal(found.tensors["a/b"], some(3).tensors["a/b"])
        assert load_latest(tmp_path / "other") is None

    def test_the_last_two_are_kept(self, tmp_path: Path) -> None:
        for epoch in range(1, 5):
            save(tmp_path, some(epoch))
        assert sorted(f.name for f in tmp_path.iterdir()) == [
            f"epoch-00000{e}.{s}" for e in (3, 4) for s in ("json", "safetensors")
        ]

    @pytest.mark.parametrize("suffix", ["json", "safetensors"])
    @pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "empty"])
    def test_of_a_damaged_one_the_one_before_is_used(
        self, tmp_path: Path, suffix: str, damage: str
    ) -> None:
        save(tmp_path, some(1))
        save(tmp_path, some(2))
        file = tmp_path / f"epoch-000002.{suffix}"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        damaged = {"cut": bytes(content[:-3]), "flipped": bytes(content), "empty": b""}
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(damaged[damage])
        found = load_latest(tmp_path)
        assert found is not None
        assert found.epoch == 1

    @pytest.mark.parametrize("at", range(6))
    def test_a_write_that_stops_anywhere_leaves_the_one_before(
        self, tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each call that touches the disk fails once, as if the process had died there."""
        save(tmp_path, some(1))
        calls = 0

        def counted(real):  # type: ignore[no-untyped-def]
            def call(*args, **kwargs):  # type: ignore[no-untyped-def]
                nonlocal calls
                calls += 1
                if calls == at + 1:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return real(*args, **kwargs)

            return call

        monkeypatch.setattr(checkpoints, "save_file", counted(checkpoints.save_file))
        monkeypatch.setattr(os, "fsync", counted(os.fsync))
        monkeypatch.setattr(Path, "replace", counted(Path.replace))
        with pytest.raises(RunError, match="can't be written: No space left on device"):
            save(tmp_path, some(2))
        found = load_latest(tmp_path)
        assert found is not None
        assert found.epoch == (2 if at == 5 else 1)

    def test_what_stands_in_no_json_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "epoch-000009.json").write_text(json.dumps([1]))
        assert load_latest(tmp_path) is None

    def test_a_changed_state_is_not_read(self, tmp_path: Path) -> None:
        save(tmp_path, some(1))
        (file,) = tmp_path.glob("*.json")
        body = json.loads(file.read_text())
        file.write_text(json.dumps({**body, "state": {**body["state"], "step": 7}}))
        assert load_latest(tmp_path) is None

    def test_a_folder_that_can_not_be_written_is_told_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        writer = CheckpointWriter(tmp_path / "file" / "below")
        with pytest.raises(RunError, match="Not a directory"):
            writer.save(some(1))
        writer.close()

    def test_what_goes_wrong_in_the_background_is_told_at_the_next_save(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(file: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(checkpoints, "flush_to_disk", full)
        writer = CheckpointWriter(tmp_path)
        writer.save(some(1))
        with pytest.raises(RunError, match="No space left on device"):
            writer.save(some(2))
        writer.close()

    def test_tensors_may_change_as_soon_as_they_were_saved(self, tmp_path: Path) -> None:
        checkpoint, writer = some(1), CheckpointWriter(tmp_path)
        writer.save(checkpoint)
        checkpoint.tensors["a/b"].zero_()
        writer.wait()
        writer.close()
        found = load_latest(tmp_path)
        assert found is not None
        assert torch.equal(found.tensors["a/b"], some(1).tensors["a/b"])

    def test_runs_that_never_finish_are_bounded(self, tmp_path: Path) -> None:
        for number in range(5):
            save(tmp_path / str(number), some(1))
            os.utime(tmp_path / str(number), (number, number))
        assert [f.name for f in prune(tmp_path, 2)] == ["2", "1", "0"]
        assert sorted(f.name for f in tmp_path.iterdir()) == ["3", "4"]
        clear(tmp_path / "3")
        assert [f.name for f in tmp_path.iterdir()] == ["4"]


def test_a_slot_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """A link would have its target's files read as checkpoints, and removed."""
    target, slot = tmp_path / "target", tmp_path / "root" / "slot"
    target.mkdir()
    slot.parent.mkdir()
    (target / "thesis.tex").write_text("mine")
    slot.symlink_to(target)
    for use in (load_latest, remove_corrupt, lambda folder: save(folder, some(1))):
        with pytest.raises(RunError, match="slot: is a symbolic link"):
            use(slot)
    clear(slot)
    prune(slot.parent, 0)
    assert [file.name for file in target.iterdir()] == ["thesis.tex"]


class Died(BaseException):
    """Stands for the end of the process."""


FAST = OptimisationConfig(
    epochs=4, batch_size=8, lr_encoder=1e-3, lr_head=1e-2, log_every=3, weight_decay=0.1
)
AVERAGED = FAST.model_copy(update={"ema_decay": 0.8})
VARIANTS = {
    "mse": (LossConfig(), None, FAST),
    "epm+cl+ft": (LossConfig(regression="epm", contrastive="as_printed"), 2, FAST),
    "averaged weights": (LossConfig(), None, AVERAGED),
}


class TestGoingOn:
    """Training that was interrupted at a step, compared with uninterrupted training."""

    def train(
        self,
        regressor: IntimacyRegressor,
        data: Texts,
        loss: LossConfig,
        folder: Path | None,
        die_at: int | None = None,
        scores: Iterator[float] | None = None,
        optimisation: OptimisationConfig = FAST,
    ) -> tuple[FitResult, list[tuple[int, Mapping[str, float]]], list[int]]:
        points: list[tuple[int, Mapping[str, float]]] = []
        resumed: list[int] = []

        def dev_scores(p):  # type: ignore[no-untyped-def]
            r = pearson(p, data.label) if scores is None else next(scores)
            return {} if r is None else {"pearson": r}

        def on_step(done: int, total: int) -> None:
            if done == die_at:
                raise Died

        hooks = Hooks(
            on_point=lambda v, s: points.append((s, dict(v))),
            on_step=on_step,
            on_resume=resumed.append,
        )
        result = fit(
            regressor,
            TrainingData(data, data, dev_scores),
            RunConfig(loss=loss, optimisation=optimisation),
            seed=1,
            hooks=hooks,
            checkpoints=folder,
        )
        return result, points, resumed

    @pytest.mark.parametrize("variant", VARIANTS)
    @pytest.mark.parametrize(
        "die_at", [2, 7, 16]
    )  # 4 batches an epoch, points at steps 3, 6, 9, ...
    @pytest.mark.usefixtures("threads")
    def test_it_ends_in_the_same_weights_predictions_and_points(
        self, tmp_path: Path, variant: str, die_at: int
    ) -> None:
        data, (loss, depth, optimisation) = texts(), VARIANTS[variant]
        alone, first, second = (model() for _ in range(3))
        for each in (alone, first, second):
            if depth is not None:
                freeze(each, depth)
        expected, points, _ = self.train(alone, data, loss, None, optimisation=optimisation)
        with pytest.raises(Died):
            self.train(first, data, loss, tmp_path, die_at, optimisation=optimisation)
        torch.manual_seed(99)  # another process has drawn other numbers
        found, told, resumed = self.train(second, data, loss, tmp_path, optimisation=optimisation)
        assert resumed == ([] if die_at < 4 else [(die_at - 1) // 4])
        assert told == points
        assert found.dev_predictions.tobytes() == expected.dev_predictions.tobytes()
        assert len(expected.epoch_predictions) == FAST.epochs
        assert [p.tobytes() for p in found.epoch_predictions] == [
            p.tobytes() for p in expected.epoch_predictions
        ]
        assert (
            found.best_epoch,
            found.dev_scores,
            found.steps,
            found.tokens,
            found.skipped_contrastive,
        ) == (
            expected.best_epoch,
            expected.dev_scores,
            expected.steps,
            expected.tokens,
            expected.skipped_contrastive,
        )
        assert all(
            torch.equal(a, b) for a, b in zip(alone.parameters(), second.parameters(), strict=True)
        )

    def test_the_best_epoch_may_be_one_of_the_process_that_died(self, tmp_path: Path) -> None:
        data, scores = texts(), [0.9, 0.8, 0.7, 0.6]
        alone, first, second = model(), model(), model()
        expected, _, _ = self.train(alone, data, LossConfig(), None, scores=iter(scores))
        with pytest.raises(Died):
            self.train(first, data, LossConfig(), tmp_path, 14, scores=iter(scores))
        found, _, resumed = self.train(
            second, data, LossConfig(), tmp_path, scores=iter(scores[3:])
        )
        assert (resumed, found.best_epoch, found.dev_scores) == ([3], 1, {"pearson": 0.9})
        assert found.dev_predictions.tobytes() == expected.dev_predictions.tobytes()
        assert all(
            torch.equal(a, b) for a, b in zip(alone.parameters(), second.parameters(), strict=True)
        )
        assert not all(
            torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
        )

    def test_counts_continue(self, tmp_path: Path) -> None:
        data, loss = texts(languages=1), LossConfig(contrastive="attract")
        with pytest.raises(Died):
            self.train(model(), data, loss, tmp_path, 9)
        result, _, _ = self.train(model(), data, loss, tmp_path)
        assert result.skipped_contrastive == result.steps == 16
        assert result.tokens == 4 * data.lengths.sum()

    def test_an_older_checkpoint_serves_as_well(self, tmp_path: Path) -> None:
        data = texts()
        alone, first, second = model(), model(), model()
        _, points, _ = self.train(alone, data, LossConfig(), None)
        with pytest.raises(Died):
            self.train(first, data, LossConfig(), tmp_path, 14)
        (tmp_path / "epoch-000003.safetensors").write_bytes(b"damaged")
        _, told, resumed = self.train(second, data, LossConfig(), tmp_path)
        assert resumed == [2]
        assert told == points
        assert all(
            torch.equal(a, b) for a, b in zip(alone.parameters(), second.parameters(), strict=True)
        )

    def test_seconds_of_the_process_that_died_count(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = iter(float(i) for i in range(1000))
        monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
        with pytest.raises(Died):
            self.train(model(), texts(), LossConfig(), tmp_path, 7)
        result, _, _ = self.train(model(), texts(), LossConfig(), tmp_path)
        assert result.seconds_before > 0
