"""The shared training step: rates, averages, and nothing that makes the host wait for the device."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from srcolor import losses, schedules
from srcolor.data import augment, draws, pairs
from srcolor.images import Pair
from srcolor.nets.residual import Residual
from srcolor.nets.size_decoder import SizeDecoder
from srcolor.tasks import base
from srcolor.tasks.super_resolution import SuperResolutionTask


def make_task(net, optimizer=torch.optim.Adam, schedule=schedules.constant, ema=0.999):
    task = SuperResolutionTask(net, losses.L1(), optimizer, schedule, ema, {})
    task.log = lambda *_: None
    return task


def trainer(optimizer, **changes):
    return SimpleNamespace(
        **{
            "optimizers": [optimizer],
            "max_steps": 4,
            "max_epochs": -1,
            "global_step": 0,
            "callbacks": [],
            "accumulate_grad_batches": 1,
            "world_size": 1,
            "num_training_batches": 1,
            **changes,
        }
    )


def attach(task, **changes):
    optimizer = task.configure_optimizers()
    task.trainer = trainer(optimizer, **changes)
    return optimizer


@pytest.mark.parametrize("net", [Residual(8, 1, 2), SizeDecoder()], ids=["residual", "size_decoder"])
def test_a_training_step_reads_nothing_from_the_device(net, monkeypatch):
    """A tensor on `meta` has no values: whatever reads one raises. The one copy that is waited for is replaced."""
    monkeypatch.setattr(base, "_copy_to_host", lambda loss: (torch.zeros(()), None))
    task = make_task(net).to("meta")
    task._unchecked.clear()
    optimizer = attach(task)
    table = torch.rand(4, draws.COLUMNS, generator=torch.Generator().manual_seed(0))
    weights = [parameter for parameter in task.net.parameters()]
    for _ in range(2):
        images = torch.empty(4, 3, 32, 32, dtype=torch.uint8, device="meta")
        images = augment.flip(images, table, "dihedral").float()
        images = augment.jitter(augment.zoom(images, table, 0.5), table, 0.1)
        batch = pairs.block_mean(images, torch.empty(4, dtype=torch.int64, device="meta"), 2)
        task.on_train_batch_start(batch, 0)
        task.training_step(batch, 0).backward()
        task.on_before_optimizer_step(optimizer)
        optimizer.step()
        task._update_average()
        task.on_train_batch_end(None, batch, 0)
    assert task._averaged == 2
    assert all(parameter.grad is not None for parameter in weights)


def test_what_reads_from_meta_raises():
    """The premise of the test above."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(torch.isfinite(torch.zeros((), device="meta")))


def test_every_parameter_group_keeps_its_own_rate():
    net = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])

    def two_rates(_):
        return torch.optim.SGD([{"params": net[0].parameters()}, {"params": net[1].parameters(), "lr": 0.01}], lr=0.1)

    task = make_task(net, two_rates, schedules.warmup_cosine, ema=None)
    optimizer = attach(task, global_step=2, max_steps=5)  # the middle of the third step of five: half of the cosine
    task.on_train_batch_start(Pair(*(torch.zeros(1, 3, 16, 16),) * 2, torch.zeros(1)), 1)
    middle = schedules.warmup_cosine(0.5)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1 * middle, 0.01 * middle])


@pytest.mark.parametrize("steps", [1, 2, 100])
def test_no_step_of_a_budget_has_a_rate_of_zero(steps):
    task = make_task(Residual(8, 1, 2), schedule=schedules.warmup_cosine)
    for step in range(steps):
        optimizer = attach(task, global_step=step, max_steps=steps)
        task.on_train_batch_start(Pair(*(torch.zeros(1, 3, 16, 16),) * 2, torch.zeros(1)), 1)
        assert 0 < optimizer.param_groups[0]["lr"] <= 1e-3


def test_the_average_is_the_mean_that_its_formula_says():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1))
    task = make_task(net, ema=0.6)
    expected = None
    for count in range(12):
        with torch.no_grad():
            net[0].weight.normal_()
            net[1].num_batches_tracked.fill_(count)
        task._update_average()
        decay = min(0.6, (1 + count) / (10 + count)) if count else 0.0
        expected = net[0].weight.clone() if expected is None else decay * expected + (1 - decay) * net[0].weight
        torch.testing.assert_close(task.average.module[0].weight, expected)
        assert task.average.module[1].num_batches_tracked == count
    assert task.average.n_averaged == 12
