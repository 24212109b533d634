"""Colorization with color codes: several colorings of a gray image."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from srcolor import images
from srcolor.color_code import color_code
from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.losses import HuberAB
from srcolor.metrics import MEASURES, Values, mean
from srcolor.nets.code_prior import standard_normal
from srcolor.nets.unet_codes import UNetCodes
from srcolor.tasks.adversarial import FITTED_ON
from srcolor.tasks.colorization import ColorizationTask

SAMPLES = 8  # colorings per image in the test
SHOWN = 6  # colorings per image in the sample grids


class ColorCodesTask(ColorizationTask):
    """Train and evaluate a network that takes color codes; see `UNetCodes`.

    The loss is the sum of three: the pixel loss of the network's own answer, the pixel loss of its answer to the true
    code of the target, and the negative log-likelihood of that code under the predicted distribution.

    Evaluation adds rows beside the network's answer (`net`): its answer to the true code (`true_code`) and, in the
    test, the first of eight samples (`sample`) and the one of the eight that has the least ab-RMSE (`best_of_8`). The
    samples of an image are seeded by its row. If the predicted distributions are less likely in validation than one
    Gaussian for all images, the network uses that instead.

    Args:
        net: The network.
        loss: The pixel loss.
        optimizer: See `Task`.
        schedule: See `Task`.
        ema: See `Task`.
        baselines: See `Task`.
        measures: See `Task`.
        validated: See `Task`.
        adversary: Not supported.

    Raises:
        UserError: If the network takes no codes, the loss is not `HuberAB`, or there is an adversary.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Callable[[float], float],
        ema: float | None,
        baselines: dict[str, nn.Module],
        measures: Sequence[str] | None = None,
        validated: Sequence[str] | None = None,
        adversary: Any = None,
    ) -> None:
        if not isinstance(net, UNetCodes):
            raise UserError(
                f"{type(net).__name__} takes no color codes: expected net=unet_codes. For another network use "
                "experiment=colorize64."
            )
        if not isinstance(loss, HuberAB) or loss.lightness:
            name = f"{type(loss).__name__} of L*" if isinstance(loss, HuberAB) else type(loss).__name__
            raise UserError(f"{name} is not a loss of a* and b* alone: expected loss=huber_ab with loss.lightness=0.")
        if adversary is not None:
            raise UserError("adversary=... is not supported with color codes. Remove it.")
        super().__init__(net, loss, optimizer, schedule, ema, baselines, measures, validated)
        self._likelihood = Values()
        self._sampling = False  # whether samples are evaluated too
        self._drawn = torch.zeros(0)  # the samples of the latest batch

    def setup(self, stage: str) -> None:
        """See `ColorizationTask`; compute the statistics of the codes, unless the network already has them."""
        super().setup(stage)
        if stage == "fit" and not cast(UNetCodes, self.net).fitted:
            for net in (self.net, self.evaluated_net):
                cast(UNetCodes, net).fit(self.trainer.datamodule.pairs("train", FITTED_ON))  # type: ignore[attr-defined]

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        ab = images.rgb_to_lab(batch.target)[:, 1:]
        with self._seeded():
            answers = cast(UNetCodes, self.net).answers(batch.input, color_code(ab))
        loss = cast(HuberAB, self.loss)
        own, coded = loss.of_ab(answers.own.float(), ab), loss.of_ab(answers.coded, ab)
        likelihood = -answers.prior.log_density(answers.code).mean()
        total = own + coded + likelihood
        self.log_loss("loss", total)
        for name, value in (("own", own), ("coded", coded), ("code_nll", likelihood)):
            self.log(f"train/{name}", value)
        self.log("train/lr", torch.tensor(self.trainer.optimizers[0].param_groups[0]["lr"]))  # on the CPU
        return total

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Make dropout a function of seed, batch and process, so that a resumed run has the same masks."""
        seeds = np.random.SeedSequence((torch.initial_seed(), self.trainer.fit_loop.total_batch_idx, self.global_rank))
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(seeds.generate_state(1)[0]))
            yield

    # -- evaluation ----------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """See `Task`."""
        self._sampling = False
        super().on_validation_epoch_start()

    def on_test_epoch_start(self) -> None:
        """See `Task`."""
        self._sampling = True
        super().on_validation_epoch_start()

    def evaluated_nets(self) -> dict[str, nn.Module]:
        """See `Task`; the answers to a code are rows of the evaluated network."""
        rows = ("true_code", "sample", "best_of_8") if self._sampling else ("true_code",)
        return {**super().evaluated_nets(), **dict.fromkeys(rows, self.evaluated_net)}

    def predictions(self, batch: Pair) -> dict[str, Tensor]:
        """See `Task`."""
        nets = super().evaluated_nets().items()
        predictions = {name: self.postprocess(self.predict(net, batch)) for name, net in nets}
        true_code = self.codes_net.colorize(batch.input, color_code(_ab(batch.target)))
        predictions["true_code"] = self.postprocess(true_code)
        if self._sampling:
            samples = self._drawn = self.samples(batch, SAMPLES)
            target = _ab(batch.target)
            errors = torch.stack([(_ab(one) - target).square().mean((1, 2, 3)) for one in samples.unbind(1)], 1)
            predictions["sample"] = samples[:, 0]
            predictions["best_of_8"] = samples[torch.arange(len(samples)), errors.argmin(1)]
        return predictions

    def illustrations(self, batch: Pair) -> dict[str, Tensor]:
        """See `Task`: the first six samples."""
        samples = self.samples(batch, SHOWN).unbind(1)
        return {f"sample {number}": sample for number, sample in enumerate(samples, 1)}

    def samples(self, batch: Pair, count: int) -> Tensor:
        """Return colorings of each image, (N, count, 3, H, W), seeded by its row."""
        return self.codes_net.samples(batch.input, count, temperature=1, seeds=batch.row.tolist()).clamp(0, 1)

    @property
    def codes_net(self) -> UNetCodes:
        """The evaluated network."""
        return cast(UNetCodes, self.evaluated_net)

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        """See `Task`; also compute how likely the true codes are."""
        super().validation_step(batch, batch_idx)
        with torch.autocast(self.device.type, enabled=False):
            answers = self.codes_net.answers(batch.input, color_code(_ab(batch.target)))
            plain = standard_normal(answers.prior).log_density(answers.code)
        likelihoods = {"code_nll": -answers.prior.log_density(answers.code), "code_nll_gaussian": -plain}
        self._likelihood.update(likelihoods)

    def on_validation_epoch_end(self) -> None:
        """See `Task`; let the network use the predicted distributions of codes only if they beat a single Gaussian."""
        super().on_validation_epoch_end()
        likelihood = {name: mean(values) for name, values in self._likelihood.gather().items()}
        for name, value in likelihood.items():
            self.log(f"val/{name}", value)
        informed = bool(likelihood["code_nll"] <= likelihood["code_nll_gaussian"])
        for net in cast("tuple[UNetCodes, ...]", (self.net, self.evaluated_net)):
            net.prior.informed.fill_(informed)

    def test_step(self, batch: Pair, batch_idx: int) -> None:
        """See `Task`; also compute how much the samples of an image differ."""
        super().test_step(batch, batch_idx)
        with torch.autocast(self.device.type, enabled=False):
            samples = torch.stack([images.rgb_to_lab(one) for one in self._drawn.unbind(1)], 1)
        self._values["sample"].update({"spread": MEASURES["spread"]()(samples, samples)})


def _ab(rgb: Tensor) -> Tensor:
    return images.rgb_to_lab(rgb)[:, 1:]
