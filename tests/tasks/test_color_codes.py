"""The task of color codes on images in memory: loss, what validation sets, samples of the test, resume."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import Callback
from test_unet_codes import pale
from tiny_data import TinyData, fit
from torch import distributions
from torch.nn import functional as F
from torch.utils.data import DataLoader

from srcolor import images, losses
from srcolor.color_code import color_code
from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.metrics import MEASURES
from srcolor.nets.chroma_table import floors
from srcolor.nets.code_prior import Mixture
from srcolor.nets.unet import UNet
from srcolor.nets.unet_codes import UNetCodes
from srcolor.tasks import base
from srcolor.tasks.color_codes import SAMPLES, ColorCodesTask
from srcolor.tasks.colorization import ColorizationTask
from srcolor.training import schedules
from srcolor.training.checkpoints import RunCheckpoint


class ColorData(TinyData):
    """Pale images: `batches` batches of two for training, one batch of six for validation and test."""

    def batch(self, first, count):
        return Pair(*(part[first : first + count] for part in pale(24)))

    def train_dataloader(self):
        return DataLoader([self.batch(2 * number, 2) for number in range(self.batches)], batch_size=None)

    def val_dataloader(self):
        return DataLoader([self.batch(16, 6)], batch_size=None)

    test_dataloader = val_dataloader

    def pairs(self, split, limit=None):
        yield self.batch(0, 16)


def make_task(net=None, loss=None, ema=0.9, lr=1e-3, kind=ColorCodesTask, **settings):
    torch.manual_seed(0)
    net = UNetCodes(channels=8) if net is None else net
    optimizer = partial(torch.optim.Adam, lr=lr)
    loss = losses.HuberAB() if loss is None else loss
    return kind(net, loss, optimizer, schedules.constant, ema, floors(), **settings)


def ab(rgb):
    return images.rgb_to_lab(rgb)[:, 1:]


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """Train for an epoch, and test."""
    task = make_task()
    trainer = fit(task, ColorData(), tmp_path_factory.mktemp("codes"), max_epochs=1)
    trainer.test(task, ColorData(), verbose=False)
    return task


# -- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"net": UNet(channels=8)}, "UNet takes no color codes: expected net=unet_codes"),
        ({"loss": losses.L1()}, r"L1 is not a loss of a\* and b\* alone: expected loss=huber_ab"),
        ({"loss": losses.HuberAB(lightness=0.5)}, r"HuberAB of L\* is not a loss .* with loss\.lightness=0"),
        ({"adversary": object()}, r"adversary=\.\.\. is not supported with color codes"),
    ],
)
def test_another_network_another_loss_and_an_adversary_are_refused_in_one_line(settings, message):
    with pytest.raises(UserError, match=message) as error:
        make_task(**settings)
    assert "\n" not in str(error.value)


def stand_alone(task):
    """Give a task what a training step needs of its trainer."""
    optimizer = task.configure_optimizers()
    task.log = lambda *_: None
    task.trainer = SimpleNamespace(
        optimizers=[optimizer], fit_loop=SimpleNamespace(total_batch_idx=0), global_rank=0, strategy=None
    )
    return task


def test_the_loss_is_that_of_both_predictions_and_the_likelihood_of_the_code():
    task = stand_alone(make_task())
    task.net.fit([pale(16)])
    pair = pale(3)
    total = task.training_step(pair, 0)
    target, net = ab(pair.target), task.net
    encoded, code = net.encode(pair.input), color_code(target)
    plain = net.decode(pair.input, *encoded)
    scale, shift = net.film(net.whiten(code))[..., None, None].chunk(2, 1)
    given = net.decode(pair.input, encoded[0] * (1 + scale) + shift, encoded[1])
    assert torch.equal(given, plain)  # before training FiLM is the identity; the map to the code is not
    given = net.training_outputs(pair.input, code).coded
    weights, means, log_stds = net.training_outputs(pair.input, code).prior
    normals = distributions.Independent(distributions.Normal(means, log_stds.exp()), 1)
    mixture = distributions.MixtureSameFamily(distributions.Categorical(logits=weights), normals)
    expected = sum(F.huber_loss(one, target, delta=10.0) / 10 for one in (plain, given))
    expected = expected - mixture.log_prob(net.whiten(code)).mean()
    assert total.item() == pytest.approx(expected.item(), rel=1e-4)


def test_every_weight_is_trained(tmp_path):
    """After a few steps: layers that start at zero hide those before them."""
    task = make_task()
    before = {name: weight.clone() for name, weight in task.net.named_parameters()}
    fit(task, ColorData(), tmp_path, max_steps=4, limit_val_batches=0)
    assert [name for name, weight in task.net.named_parameters() if torch.equal(weight, before[name])] == []


def test_a_training_step_reads_nothing_from_the_device(monkeypatch):
    """See `test_tasks.test_a_training_step_reads_nothing_from_the_device`; `meta` has no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(base, "copy_to_host", lambda loss: (torch.zeros(()), None))
    task = stand_alone(make_task().to("meta"))
    batch = Pair(*(torch.empty(2, planes, 32, 32, device="meta") for planes in (1, 3)), torch.empty(2, device="meta"))
    task.training_step(batch, 0).backward()
    assert task.net.head.weight.grad is not None


def test_a_training_step_draws_no_random_numbers():
    """So a resumed run, and a run with other batches or processes, needs no state of a generator."""
    task = stand_alone(make_task())
    task.net.fit([pale(16)])
    before = torch.get_rng_state()
    task.training_step(pale(3), 0)
    assert torch.equal(torch.get_rng_state(), before)


# -- validation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "informed"), [(0.0, True), (10.0, False)])
@pytest.mark.parametrize("ema", [0.9, None])
def test_a_prior_that_is_worse_than_one_gaussian_is_not_used(offset, informed, ema, tmp_path, monkeypatch):
    outputs = UNetCodes.training_outputs

    def outputs_with_a_prior_at(net, gray, code):
        result = outputs(net, gray, code)
        means = (result.code + offset)[:, None].expand_as(result.prior.means)
        return result._replace(prior=Mixture(result.prior.log_weights, means, torch.full_like(means, -1.0)))

    task = make_task(ema=ema, lr=0)
    monkeypatch.setattr(UNetCodes, "training_outputs", outputs_with_a_prior_at)
    task.informed.fill_(not informed)
    fit(task, ColorData(), tmp_path, [RunCheckpoint(str(tmp_path), "best", "val/ab_rmse")], max_epochs=1)
    saved = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    assert bool(saved["net.prior.informed"]) != informed  # the network that was validated
    assert bool(saved["informed"]) == informed
    fit(task, ColorData(), tmp_path, max_epochs=1)
    assert [bool(net.prior.informed) for net in (task.net, task.evaluated_net)] == [informed] * 2


def test_validation_compares_the_likelihoods_in_evaluation_mode(tmp_path):
    """The logged values are those of the averaged network in evaluation mode, against `torch.distributions`."""
    task = make_task()
    trainer = fit(task, ColorData(), tmp_path, max_epochs=1)
    batch, net = next(iter(ColorData().val_dataloader())), task.evaluated_net.eval()
    with torch.no_grad():
        outputs = net.training_outputs(batch.input, color_code(ab(batch.target)))
    assert trainer.callback_metrics["val/code_nll"].item() == pytest.approx(
        -outputs.prior.log_density(outputs.code).mean().item(), rel=1e-4
    )
    normal = distributions.MultivariateNormal(torch.zeros(5), torch.eye(5))
    expected = -normal.log_prob(outputs.code).mean().item()
    assert trainer.callback_metrics["val/code_nll_gaussian"].item() == pytest.approx(expected, rel=1e-4)


# -- test ----------------------------------------------------------------------------------------------------------


def test_the_test_adds_rows_of_the_true_code_and_of_samples(tested):
    rows = {"net", "gray", "mean_color", "mean_ab_given_luma", "true_code", "sample", "best_of_8"}
    assert set(tested.per_image) == rows
    assert {name for name, columns in tested.per_image.items() if "spread" in columns} == {"sample"}
    assert all(len(columns["ab_rmse"]) == 6 for columns in tested.per_image.values())


def test_the_best_of_eight_is_at_least_as_good_as_the_first_for_every_image(tested):
    best, first = (np.array(tested.per_image[name]["ab_rmse"]) for name in ("best_of_8", "sample"))
    assert (best <= first + 1e-4).all()
    assert best.mean() < first.mean() - 0.1
    batch = next(iter(ColorData().test_dataloader()))
    with torch.no_grad():
        samples = tested.codes_net.samples(batch.input, SAMPLES, 1, batch.row.tolist()).unbind(1)
    errors = np.array([(ab(one) - ab(batch.target)).square().mean((1, 2, 3)).sqrt().tolist() for one in samples])
    assert best == pytest.approx(errors.min(0), abs=1e-3)
    assert first == pytest.approx(errors[0], abs=1e-3)


def test_the_spread_is_that_of_the_eight_samples(tested):
    batch = next(iter(ColorData().test_dataloader()))
    with torch.no_grad():
        samples = tested.codes_net.samples(batch.input, SAMPLES, 1, batch.row.tolist())
    colors = torch.stack([ab(one) for one in samples.unbind(1)])
    pairs = [(colors[i] - colors[j]).square().mean((1, 2, 3)) for i in range(8) for j in range(i)]
    expected = torch.stack(pairs).mean(0).sqrt()
    assert tested.per_image["sample"]["spread"] == pytest.approx(expected.tolist(), rel=1e-3)


def test_samples_are_seeded_by_the_row_of_their_image(tested):
    batch = next(iter(ColorData().test_dataloader()))
    turned = Pair(*(part.flip(0) for part in batch))
    with torch.no_grad():
        one, other = (tested.predictions(pair)["sample"] for pair in (batch, turned))
    torch.testing.assert_close(one, other.flip(0), rtol=0, atol=1e-4)


def test_the_test_is_float32_whatever_the_training(tested):
    batch = next(iter(ColorData().test_dataloader()))

    def values():
        tested.on_test_epoch_start()
        with torch.no_grad():
            tested.test_step(batch, 0)
        columns = tested._values["sample"].gather()
        return columns["spread"], columns["ab_rmse"]

    expected = values()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(one, other) for one, other in zip(values(), expected, strict=True))


def test_spread_in_the_measures_of_a_task_is_an_error_before_training(tmp_path):
    for kind, net in ((ColorizationTask, UNet(channels=8)), (ColorCodesTask, None)):
        task = make_task(net, kind=kind, measures=["ab_rmse", "spread"])
        with pytest.raises(UserError, match=r"spread requires several colorings per image\. Remove it from"):
            fit(task, ColorData(), tmp_path, max_epochs=1)
        assert task.global_step == 0
    with pytest.raises(UserError, match="spread requires several colorings"):
        MEASURES["spread"]()(*[torch.zeros(1, 3, 8, 8)] * 2)


# -- checkpoints ---------------------------------------------------------------------------------------------------


def test_a_fitted_network_keeps_its_statistics(tmp_path):
    """As after `init_from=`."""
    net = UNetCodes(channels=8)
    net.fit([pale(16)])
    net.code_mean += 1
    expected = net.code_mean.clone()
    task = make_task(net)
    fit(task, ColorData(), tmp_path, max_steps=1)
    assert torch.equal(task.net.code_mean, expected)
    assert torch.equal(task.average.module.code_mean, expected)


def test_a_resumed_run_continues_bit_by_bit(tmp_path):
    """Weights and statistics of the codes."""

    class Interrupt(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.should_stop = True

    whole, part, resumed = (make_task() for _ in range(3))
    fit(whole, ColorData(), tmp_path / "whole", max_epochs=3)
    fit(part, ColorData(), tmp_path, [RunCheckpoint(str(tmp_path), "last"), Interrupt()], max_epochs=3)
    fit(resumed, ColorData(), tmp_path, [], str(tmp_path / "last.ckpt"), max_epochs=3)
    assert resumed.trainer.global_step == whole.trainer.global_step == 12
    state = resumed.state_dict()
    assert {"net.prior.informed", "average.module.code_root"} <= state.keys()
    for key, value in whole.state_dict().items():
        assert torch.equal(state[key], value), key
