"""The rule that stops adversarial training: each sign of failure on a constructed run, and what best.ckpt is."""

import logging
import math
from dataclasses import replace

import pytest
import torch
from lightning import Callback
from test_adversarial import is_equal, make_task
from tiny_data import TinyData, fit

from srcolor.training.checkpoints import RunCheckpoint
from srcolor.training.stop_rule import Epoch, StopRule, judge

GOOD = Epoch(0.1, 1.0, margin=1.0, critic=0.4, penalty=1.0, saturated=False, band_energy=-1.0, checkerboard=-20.0)
TIRED = replace(GOOD, critic=0.692, penalty=0.005)
WON = replace(GOOD, margin=6.0, saturated=True, band_energy=-3.2)


def verdict(*history):
    return judge(history, tolerance=2.0, limit=3.0)


# -- the decision ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "failure"),
    [
        ([replace(GOOD, cost=3.1)], "fidelity fell by 3.1, more than 3"),
        ([replace(GOOD, band_energy=1.1)] * 2, r"noise or ringing: band energy \+1.10 dB, above \+1 dB for two epochs"),
        ([replace(GOOD, checkerboard=3.5)], r"checkerboard: \+3.50 dB"),
        ([WON], "the critic wins: margin 6.00"),
        ([replace(WON, band_energy=None)], "the critic wins"),
        ([TIRED] * 3, "the critic is not learning: its loss is stuck at 0.692 .log 2.; lower adversary.gamma"),
        ([replace(GOOD, score=math.nan)], "not finite"),
        ([replace(GOOD, margin=math.inf)], "not finite"),
    ],
)
def test_each_sign_of_failure(history, failure):
    assert verdict(GOOD, *history).failure is not None
    with pytest.raises(AssertionError, match=failure):
        raise AssertionError(verdict(GOOD, *history).failure)
    assert not verdict(GOOD, *history).admissible


@pytest.mark.parametrize(
    "history",
    [
        [GOOD],
        [replace(GOOD, cost=2.9)],
        [replace(GOOD, band_energy=1.1)],  # once
        [replace(GOOD, band_energy=1.1), GOOD, replace(GOOD, band_energy=1.1)],  # not twice in a row
        [replace(GOOD, checkerboard=2.9)],
        [replace(GOOD, checkerboard=3.5, reference_checkerboard=4.0)],
        [replace(WON, margin=4.9)],
        [replace(WON, saturated=False)],
        [replace(WON, band_energy=-2.9)],
        [TIRED] * 2,
        [TIRED, GOOD, TIRED, TIRED],
        [replace(TIRED, penalty=0.02)] * 3,
        [replace(TIRED, critic=0.68)] * 3,
        [replace(GOOD, band_energy=None, checkerboard=None)],
    ],
)
def test_what_is_close_to_a_failure_is_none(history):
    assert verdict(GOOD, *history).failure is None


@pytest.mark.parametrize(
    ("epoch", "admissible"),
    [
        (GOOD, True),
        (replace(GOOD, cost=2.0, band_energy=0.5), True),
        (replace(GOOD, cost=-0.1), True),
        (replace(GOOD, cost=2.01), False),
        (replace(GOOD, band_energy=0.51), False),
        (replace(GOOD, band_energy=None), True),
    ],
)
def test_only_a_faithful_epoch_without_noise_may_be_kept(epoch, admissible):
    assert verdict(epoch).admissible == admissible


def test_training_is_finished_after_five_epochs_without_improvement():
    better, unfaithful = replace(GOOD, score=0.09), replace(GOOD, score=0.01, cost=2.5)
    assert not verdict(*[GOOD] * 5).finished
    assert verdict(*[GOOD] * 6).finished
    assert not verdict(*[GOOD] * 5, better).finished
    assert verdict(GOOD, *[unfaithful] * 5).finished  # what may not be kept is no improvement
    assert not verdict(*[unfaithful] * 4).finished
    assert verdict(*[unfaithful] * 5).finished


# -- the callback ----------------------------------------------------------------------------------------------


class Scripted(StopRule):
    """Takes the figures of its epochs from a list; the metric that chooses best.ckpt is the real one."""

    def __init__(self, folder, script):
        super().__init__(str(folder), "best", "val/texture")
        self.script = list(script)
        self.textures = []

    def _epoch(self, metrics, task):
        self.textures.append(metrics["val/texture"].item())
        return self.script.pop(0)


class Interrupt(Callback):
    """Stops training from outside, after some epochs."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop |= trainer.current_epoch + 1 == self.epochs


def run(folder, script, ckpt_path=None, epochs=None, interrupt=-1, **settings):
    task = make_task(measures=("psnr", "texture"), critic_steps=0, **settings)
    rule = Scripted(folder, script)
    callbacks = [rule, RunCheckpoint(str(folder), "last"), Interrupt(interrupt)]
    epochs = len(script) if epochs is None else epochs
    trainer = fit(task, TinyData(batches=2, side=32), folder, callbacks, ckpt_path, max_epochs=epochs)
    return task, rule, trainer


def best(folder):
    return torch.load(folder / "best.ckpt", weights_only=True)


def part(checkpoint, prefix):
    state = checkpoint["state_dict"]
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def scores(*values, **changes):
    return [replace(GOOD, score=value, **changes) for value in values]


def test_the_kept_epoch_has_the_best_score_among_the_faithful(tmp_path):
    _, rule, _ = run(tmp_path, [GOOD] * 4)
    order = sorted(range(4), key=rule.textures.__getitem__)
    assert best(tmp_path)["epoch"] == order[0]
    script = [GOOD] * 4
    script[order[0]] = replace(GOOD, cost=2.5)
    run(tmp_path, script)
    assert best(tmp_path)["epoch"] == order[1]


def test_training_ends_early_without_improvement(tmp_path):
    task, _, trainer = run(tmp_path, scores(*[0.1] * 9))
    assert trainer.current_epoch == 6
    assert task.progress < 1


def test_before_the_adversary_starts_the_best_epoch_is_kept_as_ever(tmp_path):
    _, rule, _ = run(tmp_path, [], epochs=4, start=0.99)
    assert rule.history == []
    assert best(tmp_path)["epoch"] in range(4)


def test_epochs_of_the_pixel_loss_alone_do_not_compete_with_adversarial_ones(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        task, rule, _ = run(tmp_path, [replace(GOOD, cost=2.5)] * 2, epochs=4, start=0.5)
    assert len(rule.history) == 2
    assert "No epoch was faithful enough; best.ckpt is the pixel-loss network" in caplog.text
    saved = best(tmp_path)
    assert is_equal(part(saved, "net."), task.adversary.reference.state_dict())


def test_after_a_failure_training_starts_once_more_with_a_third_of_the_weight(tmp_path, caplog):
    failed = replace(GOOD, cost=4.0)
    with caplog.at_level(logging.WARNING):
        task, rule, _ = run(tmp_path, [*scores(0.08), failed, *scores(0.09)])
    assert "failed in epoch 1: fidelity fell by 4, more than 3. Starting it once more" in caplog.text
    assert task.adversary.retry.item() == pytest.approx(1 / 3)
    assert task.adversary.step == 2  # those of the last epoch
    assert [rule.failures, len(rule.history), rule.finished] == [1, 1, False]
    # The epoch that was kept before the failure stays, unless a better one follows.
    assert best(tmp_path)["epoch"] == (0 if rule.textures[0] < rule.textures[2] else 2)


def test_after_a_second_failure_the_pixel_loss_network_is_kept(tmp_path, caplog):
    failed = replace(GOOD, cost=4.0)
    with caplog.at_level(logging.WARNING):
        _, rule, trainer = run(tmp_path, [*scores(0.001), failed, *scores(0.001), failed, *scores(0.0)])
    assert "failed again: fidelity fell by 4, more than 3. Keeping the pixel-loss network" in caplog.text
    assert trainer.current_epoch == 4
    saved = best(tmp_path)
    reference = part(saved, "adversary.reference.")
    assert is_equal(reference, part(saved, "average.module."))
    assert is_equal(reference, part(saved, "net."))
    (state,) = [one for one in saved["callbacks"].values() if one.get("monitor") == "val/texture"]
    assert state["current_score"] == trainer.callback_metrics["val_pixel_loss/texture"]
    # and a resumed run trains no further
    _, rule, trainer = run(tmp_path, scores(0.0), str(tmp_path / "last.ckpt"), epochs=9)
    assert rule.finished
    assert trainer.current_epoch == 4


def test_if_no_epoch_may_be_kept_the_pixel_loss_network_is(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        run(tmp_path, scores(0.1, 0.09, cost=2.5))
    assert "No epoch was faithful enough; best.ckpt is the pixel-loss network" in caplog.text
    saved = best(tmp_path)
    assert is_equal(part(saved, "adversary.reference."), part(saved, "average.module."))


def test_the_rule_survives_a_resume(tmp_path):
    script = [*scores(0.10), replace(GOOD, cost=4.0), *scores(0.09, 0.10, 0.11)]
    _, whole, _ = run(tmp_path / "whole", script, epochs=5)
    run(tmp_path, script[:3], epochs=5, interrupt=3)
    _, part, _ = run(tmp_path, script[3:], str(tmp_path / "last.ckpt"), epochs=5)
    for name in ("history", "failures", "finished", "best_model_score"):
        assert getattr(part, name) == getattr(whole, name), name
    assert len(part.history) == 3


@pytest.mark.parametrize(("fidelity", "cost"), [(("psnr",), 1.5), (("patches", "detail"), 0.05)])
def test_the_cost_is_a_difference_in_db_or_a_relative_increase_of_errors(fidelity, cost, tmp_path):
    rule = StopRule(str(tmp_path), "best", "val/texture", fidelity, 0.03, 0.06)
    figures = {"val/psnr": 34.5, "val_pixel_loss/psnr": 36.0, "val/patches": 4.2, "val/detail": 3.15}
    figures |= {"val_pixel_loss/patches": 4.0, "val_pixel_loss/detail": 3.0}
    metrics = {key: torch.tensor(value) for key, value in figures.items()}
    assert rule._cost(metrics) == pytest.approx(cost, rel=1e-4)


def test_the_figures_of_a_real_epoch_are_those_of_the_validation(tmp_path):
    task = make_task(measures=("psnr", "texture", "band_energy", "checkerboard"), critic_steps=0)
    rule = StopRule(str(tmp_path), "best", "val/texture")
    trainer = fit(task, TinyData(side=32), tmp_path, [rule], max_epochs=1)
    figures = {key: value.item() for key, value in trainer.callback_metrics.items()}
    assert rule.history == [
        Epoch(
            figures["val/texture"],
            figures["val_pixel_loss/psnr"] - figures["val/psnr"],
            figures["val/margin"],
            figures["val/critic"],
            task.adversary.penalty.item(),
            task.adversary.saturated,
            figures["val/band_energy"],
            figures["val/checkerboard"],
            figures["val_pixel_loss/checkerboard"],
        )
    ]
