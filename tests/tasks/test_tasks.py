"""Tasks with one optimizer: budgets, learning rates, the average, measures, and steps without synchronization."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback
from tiny_data import TinyData, fit
from torch import nn

from srcolor import losses
from srcolor.data import augment, draws, pairs
from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.chroma_table import floors
from srcolor.nets.residual import Residual
from srcolor.nets.size_decoder import SizeDecoder
from srcolor.tasks import base
from srcolor.tasks.colorization import ColorizationTask
from srcolor.tasks.super_resolution import SuperResolutionTask
from srcolor.training import schedules


def make_task(net=None, optimizer=torch.optim.Adam, schedule=schedules.constant, ema=0.999, kind=SuperResolutionTask):
    return kind(Residual(8, 1, 2) if net is None else net, losses.L1(), optimizer, schedule, ema, {})


class Recorder(Callback):
    """Record the learning rates and the progress after each batch."""

    def __init__(self):
        self.rates, self.progress = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.rates.append([group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups])
        self.progress.append(pl_module.progress)


@pytest.mark.parametrize("net", [Residual(8, 1, 2), SizeDecoder()], ids=["residual", "size_decoder"])
def test_a_training_step_reads_nothing_from_the_device(net, monkeypatch):
    """A tensor on `meta` has no values, so reading one raises. The one copy to the host is replaced."""
    monkeypatch.setattr(base, "copy_to_host", lambda loss: (torch.zeros(()), None))
    task = make_task(net).to("meta")
    task.log = lambda *_: None
    optimizer = task.configure_optimizers()
    loop = SimpleNamespace(total_batch_idx=0)
    task.trainer = SimpleNamespace(
        optimizers=[optimizer], max_steps=4, max_epochs=-1, global_step=0, callbacks=[], fit_loop=loop,
        accumulate_grad_batches=1, num_training_batches=4,
    )  # fmt: skip
    task.on_fit_start()
    table = torch.rand(4, draws.COLUMNS, generator=torch.Generator().manual_seed(0))
    for number in range(2):
        loop.total_batch_idx = number
        images = torch.empty(4, 3, 32, 32, device="meta")
        images = augment.jitter(augment.zoom(images, table, 0.5), table, 0.1)
        batch = pairs.block_mean(images, torch.empty(4, dtype=torch.int64, device="meta"), 2)
        task.on_train_batch_start(batch, 0)
        task.training_step(batch, 0).backward()
        task.on_before_optimizer_step(optimizer)
        optimizer.step()
        task.on_train_batch_end(None, batch, 0)
    assert task.average.count == 2
    assert all(parameter.grad is not None for parameter in task.net.parameters())


def test_reading_from_meta_raises():
    """The premise of the test above."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(torch.isfinite(torch.zeros((), device="meta")))


def test_every_parameter_group_keeps_its_own_rate(tmp_path):
    net = nn.Sequential(Bicubic(2), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))

    def two_rates(_):
        return torch.optim.SGD([{"params": net[1].parameters()}, {"params": net[2].parameters(), "lr": 0.01}], lr=0.1)

    recorder = Recorder()
    fit(make_task(net, two_rates, schedules.warmup_cosine), TinyData(), tmp_path, [recorder], max_steps=5)
    middle = schedules.warmup_cosine(0.5)  # the middle of the third batch of five: half of the cosine
    assert recorder.rates[2] == pytest.approx([0.1 * middle, 0.01 * middle])


@pytest.mark.parametrize("steps", [1, 2, 100])
def test_no_step_of_a_budget_has_a_rate_of_zero(steps, tmp_path):
    recorder = Recorder()
    task = make_task(nn.Sequential(Bicubic(2), nn.Conv2d(3, 3, 1)), schedule=schedules.warmup_cosine)
    fit(task, TinyData(), tmp_path, [recorder], max_steps=steps, limit_val_batches=0)
    assert len(recorder.rates) == steps
    assert all(0 < rate <= 1e-3 for (rate,) in recorder.rates)


@pytest.mark.parametrize(
    ("budget", "every", "batches"),
    [
        ({"max_epochs": 3}, 1, 15),
        ({"max_epochs": 3}, 2, 15),
        ({"max_steps": 7}, 1, 7),
        ({"max_steps": 2}, 2, 4),
        ({"max_steps": 3}, 2, 5),  # the last batch of an epoch of five steps alone
        ({"max_steps": 7}, 2, 12),
        ({"max_steps": 7, "max_epochs": 1}, 2, 5),
    ],
)
def test_progress_counts_batches_and_reaches_one_when_a_budget_is_spent(budget, every, batches, tmp_path):
    recorder = Recorder()
    settings = {"limit_val_batches": 0, "accumulate_grad_batches": every, **budget}
    fit(make_task(), TinyData(batches=5), tmp_path, [recorder], **settings)
    assert recorder.progress == pytest.approx([(number + 1) / batches for number in range(batches)])


def test_the_average_follows_its_formula():
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


def test_accumulated_gradients_move_the_average_once(tmp_path):
    task = make_task()
    fit(task, TinyData(batches=4), tmp_path, max_epochs=1, accumulate_grad_batches=2, limit_val_batches=0)
    assert task.average.n_averaged == 2


def test_measures_are_built_once_and_named_by_the_configuration():
    task = ColorizationTask(Residual(8, 1, 2), losses.L1(), torch.optim.Adam, schedules.constant, None, {})
    assert [kind.name for kind in task.measures.values()] == list(ColorizationTask.default_measures[:-1])
    build = partial(SuperResolutionTask, Residual(8, 1, 2), losses.L1(), torch.optim.Adam, schedules.constant, None, {})
    assert build(measures=["ssim", "psnr_luma"]).validated == ["ssim"]
    assert build(measures=["psnr_luma"], validated=["psnr_luma"]).validated == ["psnr_luma"]
    with pytest.raises(UserError, match=r"task\.measures: unknown measure psnr_lumma. Did you mean psnr_luma\?"):
        build(measures=["psnr_lumma"])
    with pytest.raises(UserError, match=r"task\.validated: unknown measure ssim"):
        build(measures=["psnr"], validated=["ssim"])


class Signed(SuperResolutionTask):
    """A task whose predictions lie in [-1, 1] and may be smaller than the target."""

    def postprocess(self, prediction):
        return (prediction.clamp(-1, 1) + 1) / 2

    def check(self, prediction, target):
        if prediction.shape[:2] != target.shape[:2]:
            raise UserError("channels")


def test_postprocess_and_check_can_be_overridden():
    batch = Pair(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16), torch.arange(1))
    with pytest.raises(UserError, match=r"the prediction is \(1, 3, 32, 32\), the target \(1, 3, 16, 16\)"):
        make_task(Bicubic(2), ema=None).predictions(batch)
    task = make_task(Bicubic(2), ema=None, kind=Signed)
    expected = (Bicubic(2)(batch.input).clamp(-1, 1) + 1) / 2
    torch.testing.assert_close(task.predictions(batch)["net"], expected)


def test_a_checkpoint_of_an_older_version_loads_with_its_former_baseline_name():
    build = partial(ColorizationTask, Residual(8, 1, 2), losses.L1(), torch.optim.Adam, schedules.constant, None)
    task = build(floors())
    task.baselines["mean_color"].ab.fill_(3.0)
    older = {key.replace("mean_color", "mean_colour"): value for key, value in task.state_dict().items()}
    checkpoint, other = {"state_dict": older}, build(floors())
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])
    assert torch.equal(other.baselines["mean_color"].ab, task.baselines["mean_color"].ab)


def test_every_test_image_is_kept_with_its_row(tmp_path):
    task = SuperResolutionTask(
        Residual(8, 1, 2), losses.L1(), torch.optim.Adam, schedules.constant, None, {"bicubic": Bicubic(2)}
    )
    trainer = fit(task, TinyData(), tmp_path, max_steps=1)
    trainer.test(task, TinyData(), verbose=False)
    assert task.rows == [0, 1]
    assert {net: list(columns) for net, columns in task.per_image.items()} == {
        "net": ["psnr", "ssim", "texture", "consistency", "band_energy"],
        "bicubic": ["psnr", "ssim", "texture", "consistency", "band_energy"],
    }
    batch = next(iter(TinyData().test_dataloader()))
    psnr = task.measures["psnr"](Bicubic(2)(batch.input).clamp(0, 1), batch.target)
    assert task.per_image["bicubic"]["psnr"] == psnr.tolist()
    assert trainer.callback_metrics["test_bicubic/psnr"].item() == pytest.approx(psnr.mean().item())
