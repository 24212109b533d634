"""A task with two optimizers and manual optimization: batches, schedule, average and resume as with one."""

import pytest
import torch
from lightning import Callback
from tiny_data import TinyData, fit
from torch import nn
from torch.nn import functional as F

from srcolor import losses
from srcolor.errors import UserError
from srcolor.nets.bicubic import Bicubic
from srcolor.tasks.super_resolution import SuperResolutionTask
from srcolor.training import schedules
from srcolor.training.checkpoints import RunCheckpoint
from srcolor.training.speed import Speed


class Adversarial(SuperResolutionTask):
    """A network and a critic that takes two steps for each step of the network."""

    def __init__(self, schedule=schedules.constant):
        net = nn.Sequential(Bicubic(2), nn.Conv2d(3, 3, 3, padding=1))
        super().__init__(net, losses.L1(), torch.optim.Adam, schedule, 0.9, {})
        self.automatic_optimization = False
        self.critic = nn.Conv2d(3, 1, 3)

    def configure_optimizers(self):
        groups = [{"params": [self.critic.weight]}, {"params": [self.critic.bias], "lr": 0.01}]
        return [super().configure_optimizers(), torch.optim.SGD(groups, lr=0.1)]

    def training_step(self, batch, batch_idx):
        optimizer, critic_optimizer = self.optimizers()
        prediction = self.predict(self.net, batch)
        for _ in range(2):
            self.update("critic", critic_optimizer, self.score(batch.target) - self.score(prediction.detach()))
        loss = self.loss(prediction, batch.target)
        self.update("loss", optimizer, loss + 0.01 * self.score(prediction))

    def score(self, images):
        return F.softplus(self.critic(images)).mean()

    def update(self, name, optimizer, loss):
        self.log_loss(name, loss)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


class Recorder(Callback):
    """Record weights, average and learning rates after each batch."""

    def __init__(self):
        self.weights, self.averages, self.rates = [], [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.weights.append(pl_module.net[1].weight.detach().clone())
        self.averages.append(pl_module.average.module[1].weight.detach().clone())
        self.rates.append([[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers])


def run(folder, schedule=schedules.constant, ckpt_path=None, callbacks=(), **budget):
    torch.manual_seed(0)
    task, recorder = Adversarial(schedule), Recorder()
    callbacks = [recorder, *callbacks, RunCheckpoint(str(folder), "last")]
    trainer = fit(task, TinyData(), folder, callbacks, ckpt_path, **budget)
    return task, recorder, trainer


@pytest.mark.parametrize(("budget", "batches"), [({"max_epochs": 3}, 12), ({"max_steps": 10}, 10)])
def test_it_trains_all_batches_of_its_budget(budget, batches, tmp_path):
    task, recorder, trainer = run(tmp_path, **budget)
    assert len(recorder.weights) == batches
    assert trainer.global_step == 3 * batches  # Lightning counts the steps of both
    assert task.progress == 1
    assert "val/psnr" in trainer.callback_metrics
    assert {"train/loss", "train/critic"} <= trainer.callback_metrics.keys()


def test_its_average_follows_the_steps_of_the_network(tmp_path):
    task, recorder, _ = run(tmp_path, max_epochs=2)
    assert task.average.n_averaged == 8  # once per batch, not for the critic's steps
    expected = recorder.weights[0]
    for count, (weight, average) in enumerate(zip(recorder.weights, recorder.averages, strict=True)):
        decay = min(0.9, (1 + count) / (10 + count)) if count else 0.0
        expected = decay * expected + (1 - decay) * weight
        torch.testing.assert_close(average, expected)
    assert not torch.equal(recorder.averages[-1], recorder.averages[0])


def test_its_schedule_reaches_every_group_of_both_optimizers(tmp_path):
    _, recorder, _ = run(tmp_path, schedules.warmup_cosine, max_steps=10)
    factors = [schedules.warmup_cosine((number + 0.5) / 10) for number in range(10)]
    for rates, factor in zip(recorder.rates, factors, strict=True):
        assert rates[0] == pytest.approx([1e-3 * factor])
        assert rates[1] == pytest.approx([0.1 * factor, 0.01 * factor])


@pytest.mark.parametrize(
    ("short", "long"), [({"max_epochs": 1}, {"max_epochs": 3}), ({"max_steps": 4}, {"max_steps": 12})]
)
def test_its_resume_is_bit_identical(short, long, tmp_path):
    whole, _, _ = run(tmp_path / "whole", **long)
    run(tmp_path / "part", **short)
    task, recorder, _ = run(tmp_path / "part", ckpt_path=str(tmp_path / "part" / "last.ckpt"), **long)
    assert len(recorder.weights) == 8
    state = task.state_dict()
    for key, value in whole.state_dict().items():
        assert torch.equal(state[key], value), key
    files = [torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "part")]
    for one, other in zip(*(file["optimizer_states"] for file in files), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("budget", [{"max_epochs": 2}, {"max_steps": 8}])
def test_a_run_that_has_spent_its_budget_trains_no_further_batch(budget, tmp_path):
    run(tmp_path, **budget)
    _, recorder, _ = run(tmp_path, ckpt_path=str(tmp_path / "last.ckpt"), **budget)
    assert recorder.weights == []


def test_its_images_are_counted_exactly_after_a_resume(tmp_path):
    run(tmp_path, callbacks=[Speed()], max_epochs=1)
    speed = Speed()
    run(tmp_path, callbacks=[speed], ckpt_path=str(tmp_path / "last.ckpt"), max_epochs=3)
    assert speed.state_dict()["images"] == 2 * 12


class Broken(Adversarial):
    """A task whose critic diverges."""

    def score(self, images):
        return super().score(images) * torch.nan


def test_the_loss_that_is_not_finite_is_named(tmp_path):
    task = Broken()
    with pytest.raises(UserError, match=r"train/critic is nan at step 0 .* batch: train/0, train/1\. Lower"):
        fit(task, TinyData(), tmp_path, max_steps=2)
