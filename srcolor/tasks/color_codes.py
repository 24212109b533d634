"""Colorization with color codes: several colorings of a gray image."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

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
from srcolor.tasks.base import FITTED_ON
from srcolor.tasks.colorization import ColorizationTask

SAMPLES = 8  # colorings per image in the test
SHOWN = 6  # colorings per image in the sample grids


class ColorCodesTask(ColorizationTask):
    """Train and evaluate a network that takes color codes; see `UNetCodes`.

    The loss is the sum of three: the pixel loss of the prediction without a code, the pixel loss of the prediction with
    the true code of the target, and the negative log-likelihood of that code under the predicted distribution.

    Evaluation adds rows beside the stable coloring (`net`): the prediction with the true code (`true_code`) and, in the
    test, the first of eight samples (`sample`) and the one of the eight with the least ab-RMSE (`best_of_8`). The last
    and the first know the target, so they are bounds. The samples of an image are seeded by its row. While the
    predicted distributions are less likely in validation than one Gaussian for all images, the network uses that.

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
        self.informed: Tensor  # whether the predicted distributions beat one Gaussian in the latest validation
        self.register_buffer("informed", torch.tensor(True))
        self._sampling = False  # whether samples are evaluated too
        self._drawn = torch.zeros(0)  # the samples of the latest batch

    def setup(self, stage: str) -> None:
        """See `ColorizationTask`; compute the statistics of the codes, unless the network already has them."""
        super().setup(stage)
        if stage == "fit" and not cast(UNetCodes, self.net).fitted:
            cast(UNetCodes, self.net).fit(self.trainer.datamodule.pairs("train", FITTED_ON))  # type: ignore[attr-defined]
            if self.average is not None:
                self.average.module.load_state_dict(self.net.state_dict())

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        ab = images.rgb_to_ab(batch.target)
        outputs = cast(UNetCodes, self.net).training_outputs(batch.input, color_code(ab))
        loss = cast(HuberAB, self.loss)
        plain, coded = loss.of_ab(outputs.plain.float(), ab), loss.of_ab(outputs.coded, ab)
        likelihood = -outputs.prior.log_density(outputs.code).mean()
        total = plain + coded + likelihood
        self.log_loss("loss", total)
        for name, value in (("plain", plain), ("coded", coded), ("code_nll", likelihood)):
            self.log(f"train/{name}", value)
        self.log_rate(self.trainer.optimizers[0])
        return total

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
        true_code = self.codes_net.colorize(batch.input, color_code(images.rgb_to_ab(batch.target)))
        predictions["true_code"] = self.postprocess(true_code)
        if self._sampling:
            samples = self._drawn = self.samples(batch, SAMPLES)
            target = images.rgb_to_ab(batch.target)
            errors = torch.stack(
                [(images.rgb_to_ab(one) - target).square().mean((1, 2, 3)) for one in samples.unbind(1)], 1
            )
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
            outputs = self.codes_net.training_outputs(batch.input, color_code(images.rgb_to_ab(batch.target)))
            gaussian = standard_normal(outputs.prior).log_density(outputs.code)
        likelihoods = {"code_nll": -outputs.prior.log_density(outputs.code), "code_nll_gaussian": -gaussian}
        self._likelihood.update(likelihoods)

    def on_validation_epoch_end(self) -> None:
        """See `Task`; log how likely the codes are under the predicted distributions, and under one Gaussian."""
        super().on_validation_epoch_end()
        likelihood = {name: mean(values) for name, values in self._likelihood.gather().items()}
        for name, value in likelihood.items():
            self.log(f"val/{name}", value)
        self.informed.fill_(bool(likelihood["code_nll"] <= likelihood["code_nll_gaussian"]))

    def on_train_epoch_start(self) -> None:
        """Use the predicted distributions if they beat one Gaussian in the latest validation.

        Not earlier: the checkpoint of a validation has the network that was validated.
        """
        for net in cast("tuple[UNetCodes, ...]", (self.net, self.evaluated_net)):
            net.prior.informed.copy_(self.informed)

    def test_step(self, batch: Pair, batch_idx: int) -> None:
        """See `Task`; also compute how much the samples of an image differ."""
        super().test_step(batch, batch_idx)
        with torch.autocast(self.device.type, enabled=False):
            samples = torch.stack([images.rgb_to_lab(one) for one in self._drawn.unbind(1)], 1)
        self._values["sample"].update({"spread": MEASURES["spread"]()(samples, samples)})
