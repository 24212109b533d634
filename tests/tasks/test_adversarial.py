"""The adversarial task: the parts of a run, the game, what is saved and loaded, and resume."""

import copy
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback
from tiny_data import TinyData, fit
from torch.nn import functional as F
from torch.utils.data import DataLoader

from srcolor import images, losses, runs
from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.nets.haar_critic import HaarCritic
from srcolor.nets.patch_critic import PatchCritic
from srcolor.nets.projected import Projected
from srcolor.nets.residual import Residual
from srcolor.runs import checkpoints
from srcolor.tasks import base
from srcolor.tasks.adversary import Adversary
from srcolor.tasks.super_resolution import SuperResolutionTask
from srcolor.training import schedules
from srcolor.training.checkpoints import RunCheckpoint

ADAM = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.99))
NET = {"_target_": "srcolor.nets.residual.Residual", "channels": 4, "blocks": 1, "scale": 2}


def make_adversary(critic=None, **settings):
    settings = {"start": 0.0, "penalty_interval": 2, "critic_steps": 2, "ramp_steps": 2, **settings}
    schedule = partial(schedules.warmup_cosine, warmup=0.0, final=0.1)
    return Adversary(PatchCritic(width=2) if critic is None else critic, ADAM, ADAM, schedule, **settings)


def make_task(critic=None, net=None, ema=0.9, measures=("psnr",), **settings):
    torch.manual_seed(0)
    adversary = make_adversary(critic, **settings)
    net = Residual(4, 1, 2) if net is None else net
    optimizer = partial(torch.optim.Adam, lr=3e-3)
    return SuperResolutionTask(
        net, losses.L1(), optimizer, schedules.warmup_cosine, ema, {}, measures, list(measures), adversary
    )


def is_equal(one, other):
    return all(torch.equal(value, other[key]) for key, value in one.items())


class Recorder(Callback):
    """Records the state after each batch."""

    def __init__(self):
        self.states, self.rates, self.losses = [], [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.states.append(copy.deepcopy(pl_module.state_dict()))
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])
        self.losses.append(dict(pl_module.losses))

    def weights(self, prefix):
        return [
            torch.cat([value.flatten().double() for key, value in state.items() if key.startswith(prefix)])
            for state in self.states
        ]


def run(folder, task=None, ckpt_path=None, **settings):
    task, recorder = make_task() if task is None else task, Recorder()
    callbacks = [recorder, RunCheckpoint(str(folder), "last")]
    trainer = fit(task, TinyData(side=32), folder, callbacks, ckpt_path, **settings)
    return task, recorder, trainer


# -- the parts of a run ----------------------------------------------------------------------------------------


def test_first_the_critic_trains_alone_then_both(tmp_path):
    task, recorder, trainer = run(tmp_path, max_epochs=2)
    net, critic = recorder.weights("net."), recorder.weights("adversary.critic.")
    assert torch.equal(net[0], net[1])
    assert all(not torch.equal(one, other) for one, other in pairwise(net[1:]))
    assert all(not torch.equal(one, other) for one, other in pairwise(critic))
    assert trainer.global_step == 8  # one per batch
    assert task.adversary.step == 8
    assert task.average.n_averaged == 6


def test_the_pixel_loss_alone_trains_until_its_share_of_the_run_is_over(tmp_path):
    task, recorder, trainer = run(tmp_path, make_task(start=0.5, critic_steps=1), max_epochs=2)
    critic = recorder.weights("adversary.critic.")
    assert torch.equal(critic[0], critic[3])
    assert not torch.equal(critic[3], critic[4])
    average, reference = recorder.weights("average.module."), recorder.weights("adversary.reference.")
    net = recorder.weights("net.")
    assert torch.equal(reference[4], average[3])  # as it was at the end of the first part
    assert torch.equal(net[4], average[3])  # which is where the second part starts
    assert torch.equal(reference[7], reference[4])
    assert trainer.global_step == 8
    assert [task.average.n_averaged.item(), task.adversary.step] == [3, 4]
    pixel = [3e-3 * schedules.warmup_cosine((number + 0.5) / 4) for number in range(4)]
    assert [rates[0] for rates in recorder.rates[:4]] == pytest.approx(pixel)
    adversarial = [1e-3 * schedules.warmup_cosine((number + 0.5) / 4, 0.0, 0.1) for number in range(4)]
    assert [rates[1] for rates in recorder.rates[4:]] == pytest.approx(adversarial)
    assert [rates[2] for rates in recorder.rates[4:]] == pytest.approx(adversarial)


def test_the_pixel_part_is_the_training_of_a_task_without_an_adversary(tmp_path):
    _, recorder, _ = run(tmp_path / "with", make_task(start=0.5), max_steps=4)
    torch.manual_seed(0)
    make_adversary()  # draws the same random numbers before the network
    net = Residual(4, 1, 2)

    def schedule(progress):
        return schedules.warmup_cosine(progress / 0.5)

    task = SuperResolutionTask(net, losses.L1(), partial(torch.optim.Adam, lr=3e-3), schedule, 0.9, {})
    _, plain, _ = run(tmp_path / "without", task, max_steps=4)
    assert torch.equal(recorder.weights("net.")[1], plain.weights("net.")[1])


def test_a_network_that_starts_from_trained_weights_meets_its_adversary_at_once():
    assert make_adversary(start=0.5, init_from="best:sr64to128").start == 0
    assert make_adversary(start=0.5).start == 0.5


def test_a_task_without_an_adversary_has_nothing_of_it():
    task = SuperResolutionTask(Residual(4, 1, 2), losses.L1(), ADAM, schedules.constant, None, {})
    assert task.automatic_optimization
    assert task.state_dict().keys() == {f"net.{key}" for key in task.net.state_dict()}
    assert "checkerboard" not in task.measures


# -- the game --------------------------------------------------------------------------------------------------


def test_the_weight_is_the_moving_average_of_the_clamped_gradient_ratio_every_four_steps():
    torch.manual_seed(0)
    net, adversary = Residual(4, 1, 2), make_adversary(critic_steps=10, max_weight=3.0)
    x = torch.rand(2, 3, 8, 8)
    expected = None
    for step in range(10, 20):
        adversary.step = step
        pixel, adversarial = net(x).square().mean(), (net(x) * torch.rand(2, 3, 16, 16) * (step - 9)).mean()
        one, other = (torch.autograd.grad(x, net.tail.weight, retain_graph=True)[0] for x in (pixel, adversarial))
        ratio = min(max((one.norm() / other.norm()).item(), 1e-4), 3.0)
        if step in (10, 14, 18):
            expected = ratio if expected is None else 0.99 * expected + 0.01 * ratio
        adversary.update_weight(pixel, adversarial, net)
        assert adversary.weight.item() == pytest.approx(expected, rel=1e-5)
    adversary.step = 10
    adversary.update_weight(pixel, 0 * adversarial, net)
    assert adversary.weight.item() == 3.0
    assert adversary.saturated


def test_the_losses_of_a_step_are_those_of_the_recipe():
    torch.manual_seed(0)
    adversary = make_adversary(gamma=0.5, penalty_interval=4)
    target, prediction = torch.rand(2, 2, 3, 32, 32)
    real, fake = adversary.critic(target), adversary.critic(prediction)
    adversary.step = 0
    loss, penalty, margin = adversary.critic_loss(target, prediction)
    torch.testing.assert_close(loss, F.softplus(fake - real).mean())
    torch.testing.assert_close(margin, (real - fake).mean())
    parts = [losses.gradient_penalty(adversary.critic, x) for x in (target, prediction)]
    torch.testing.assert_close(penalty, sum(parts))
    assert adversary.penalty_weight == 0.5 / 2 * 4
    torch.testing.assert_close(adversary.generator_loss(target, prediction), F.softplus(real - fake).mean())
    adversary.step = 1
    assert adversary.critic_loss(target, prediction)[1] is None


def test_the_adversarial_weight_rises_after_the_critics_steps():
    adversary = make_adversary(critic_steps=3, ramp_steps=4)
    ramps = []
    for _ in range(9):
        adversary.advance()
        ramps.append(adversary.ramp)
    assert ramps == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]


def test_a_step_of_the_network_leaves_no_gradient_in_the_critic(tmp_path):
    task = make_task(critic_steps=0, gamma=0.0)
    gradients = []

    class Watch(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            gradients.append([parameter.grad.clone() for parameter in pl_module.adversary.critic.parameters()])

        def on_train_batch_end(self, trainer, pl_module, *_):
            gradients.append([parameter.grad.clone() for parameter in pl_module.adversary.critic.parameters()])

    fit(task, TinyData(side=32), tmp_path, [Watch()], max_steps=1)
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_a_step_reads_nothing_from_the_device(monkeypatch):
    """On `meta`, where reading a value raises; see `test_tasks`."""
    monkeypatch.setattr(base, "copy_to_host", lambda loss: (torch.zeros(()), None))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it does not know `meta`
    task = make_task(HaarCritic(width=2), Projected(Residual(4, 1, 2)), critic_steps=1).to("meta")
    task.log = lambda *_: None
    optimizers = task.configure_optimizers()
    loop = SimpleNamespace(total_batch_idx=0, epoch_loop=SimpleNamespace(max_steps=-1))
    task.trainer = SimpleNamespace(
        optimizers=optimizers, max_steps=4, max_epochs=-1, global_step=0, callbacks=[], fit_loop=loop, strategy=None,
        accumulate_grad_batches=1, num_training_batches=4, world_size=1,
    )  # fmt: skip
    task.optimizers = lambda: [
        SimpleNamespace(zero_grad=one.zero_grad, step=one.step, optimizer=one, param_groups=one.param_groups)
        for one in optimizers
    ]
    task.manual_backward = lambda loss, **settings: loss.backward(**settings)
    task.on_fit_start()
    for number in range(3):
        loop.total_batch_idx = number
        target = torch.empty(2, 3, 64, 64, device="meta")
        batch = Pair(images.block_mean(target, 2), target, torch.empty(2, dtype=torch.int64, device="meta"))
        task.on_train_batch_start(batch, number)
        task.training_step(batch, number)
        task.on_before_optimizer_step(optimizers[1])
        task.on_train_batch_end(None, batch, number)
    assert task.average.count == 2
    assert task.adversary.step == 3


class Broken(PatchCritic):
    """Its logits are not finite."""

    def forward(self, encoded):
        return super().forward(encoded) * torch.nan


def test_the_loss_that_is_not_finite_is_named(tmp_path):
    with pytest.raises(UserError, match=r"train/critic is nan at step 0 .* Images in the batch: train/0, train/1\."):
        run(tmp_path, make_task(Broken(2)), max_steps=2)


def test_a_crop_that_the_critic_cannot_judge_is_an_error(tmp_path):
    with pytest.raises(UserError, match="HaarCritic looks at 56x56 pixels, but the targets are 32x32"):
        run(tmp_path, make_task(HaarCritic(2)), max_steps=1)


def test_luma_is_judged_too(tmp_path):
    class Luma(TinyData):
        def train_dataloader(self):
            pairs = list(super().train_dataloader())
            return DataLoader([Pair(images.luma(x), images.luma(y), row) for x, y, row in pairs], batch_size=None)

        val_dataloader = train_dataloader

    net = torch.nn.Sequential(torch.nn.Upsample(scale_factor=2), torch.nn.Conv2d(1, 1, 3, padding=1))
    task = make_task(HaarCritic(2), net)
    fit(task, Luma(side=64), tmp_path, max_steps=4)
    assert task.adversary.step == 4
    assert len(task.adversary.critic.std.unique()) == 3  # the channels of gray are the same


# -- validation, checkpoints, resume ---------------------------------------------------------------------------


def test_the_validation_has_the_reference_and_the_critics_margin(tmp_path):
    task, _, trainer = run(tmp_path, max_epochs=1)
    figures = trainer.callback_metrics
    (batch,) = TinyData(side=32).val_dataloader()
    real, fake = (task.adversary.critic(x) for x in (batch.target, task.predictions(batch)["net"]))
    assert figures["val/margin"].item() == pytest.approx((real - fake).mean().item(), rel=1e-4)
    assert figures["val/critic"].item() == pytest.approx(F.softplus(fake - real).mean().item(), rel=1e-4)
    psnr = task.measures["psnr"](task.adversary.reference(batch.input).clamp(0, 1), batch.target).mean()
    assert figures["val_pixel_loss/psnr"].item() == pytest.approx(psnr.item(), rel=1e-4)
    assert figures["val_pixel_loss/psnr"] != figures["val/psnr"]
    named = {"loss", "adversarial", "critic", "penalty", "weight", "margin", "lr"}
    assert {f"train/{name}" for name in named} <= figures.keys()


def test_with_an_adversary_the_measures_of_its_rule_are_validated():
    settings = {"ema": None, "baselines": {}, "adversary": make_adversary()}
    task = SuperResolutionTask(Residual(4, 1, 2), losses.L1(), ADAM, schedules.constant, **settings)
    assert {"psnr", "texture", "band_energy", "checkerboard"} <= set(task.validated)


def test_only_the_generator_is_loaded_from_a_checkpoint(tmp_path):
    task, _, _ = run(tmp_path, max_epochs=1)
    file = tmp_path / "last.ckpt"
    saved = torch.load(file, weights_only=True)
    torch.save({**saved, "net_config": NET, "trained_on": []}, file)
    net, reference = runs.load_net(str(file)), runs.load_reference(str(file))
    assert is_equal(net.state_dict(), task.average.module.state_dict())
    assert is_equal(reference.state_dict(), task.adversary.reference.state_dict())
    assert not is_equal(net.state_dict(), reference.state_dict())


def test_a_run_that_stopped_before_its_adversary_started_is_its_own_reference(tmp_path):
    task, _, _ = run(tmp_path, make_task(start=0.99), max_epochs=1)
    weights = checkpoints.reference(task.state_dict())
    assert is_equal(weights, task.average.module.state_dict())


def test_a_run_without_an_adversary_has_no_reference():
    assert checkpoints.reference({"net.weight": torch.zeros(1)}) is None


@pytest.mark.parametrize("settings", [{}, {"start": 0.5}, {"start": 0.3, "critic_steps": 0}])
def test_its_resume_after_an_epoch_is_bit_identical(settings, tmp_path):
    whole, _, _ = run(tmp_path / "whole", make_task(**settings), max_epochs=3)

    class Interrupt(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.should_stop = True

    part = make_task(**settings)
    callbacks = [RunCheckpoint(str(tmp_path), "last"), Interrupt()]
    fit(part, TinyData(side=32), tmp_path, callbacks, max_epochs=3)
    # As after `init_from=`, which a resumed run does not have: its share comes from the checkpoint.
    task = make_task(**settings | {"start": 0.9} if settings.get("start", 0) == 0 else settings)
    task, recorder, _ = run(tmp_path, task, str(tmp_path / "last.ckpt"), max_epochs=3)
    assert len(recorder.states) == 8
    state = task.state_dict()
    for key, value in whole.state_dict().items():
        assert torch.equal(state[key], value), key
    files = [torch.load(folder / "last.ckpt", weights_only=True) for folder in (tmp_path / "whole", tmp_path)]
    for one, other in zip(*(file["optimizer_states"] for file in files), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_resumed_run_whose_critic_is_missing_is_an_error(tmp_path):
    torch.manual_seed(0)
    plain = SuperResolutionTask(Residual(4, 1, 2), losses.L1(), ADAM, schedules.constant, 0.9, {})
    run(tmp_path, plain, max_epochs=1)
    with pytest.raises(UserError, match=r"this run has an adversary, but the checkpoint has none"):
        run(tmp_path, make_task(), str(tmp_path / "last.ckpt"), max_epochs=2)


def test_a_restart_returns_to_the_reference_with_a_new_critic_and_less_weight(tmp_path):
    task, _, trainer = run(tmp_path, make_task(strength=3.0), max_epochs=1)
    critic = task.adversary.critic.layers[0].weight.clone()
    task.restart(1 / 3)
    reference = task.adversary.reference.state_dict()
    assert is_equal(reference, task.net.state_dict())
    assert is_equal(reference, task.average.module.state_dict())
    assert not torch.equal(task.adversary.critic.layers[0].weight, critic)
    assert task.adversary.retry.item() == pytest.approx(1 / 3)
    assert [task.adversary.step, task.adversary.saved_step.item(), task.average.n_averaged.item()] == [0, 0, 0]
    assert not any(optimizer.state for optimizer in trainer.optimizers[1:])
