"""What every task shares: one step, the averaged weights, progress and schedule, metrics a split."""

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import Timer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics.utilities.distributed import gather_all_tensors

from srcolor.errors import UserError, check_range
from srcolor.images import Pair
from srcolor.metrics import PerImage, update_all


class Task(LightningModule):
    """Trains a network on pairs, and judges it on whole images beside baselines.

    A subclass says in `metrics` what is measured. What is validated, saved as best, tested and loaded is
    the average of the weights, where there is one. After a test, `per_image` has a column of `row`s of
    the test split, and a column for each metric: `psnr`, and `bicubic_psnr` for a baseline's.

    Args:
        net: Maps a pair's input to its target.
        loss: Maps (prediction, target) to a scalar.
        optimizer: Makes the optimizer of the parameters.
        schedule: Maps the progress of the run, 0 to 1, to a factor on the learning rate.
        ema: Decay of the exponential moving average of the weights, in [0, 1], reached after a warm-up
            (1 + n) / (10 + n); None for no average.
        baselines: Networks without parameters, measured on the same images.

    Attributes:
        net_config: What the network is built from; goes into checkpoints, so that they stand alone.
        trained_on: What it was trained on, and before it the networks that it started from, as
            `datamodule.trained_on` tells it; goes there too.
    """

    metrics: ClassVar[dict[str, type[PerImage]]]
    validated: ClassVar[tuple[str, ...]]  # the names of those that are cheap enough for every validation
    net_config: dict[str, Any]
    trained_on: list[dict[str, Any]]

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Callable[[float], float],
        ema: float | None,
        baselines: dict[str, nn.Module],
    ) -> None:
        super().__init__()
        if ema is not None:
            check_range("task.ema", ema, 0, 1)
        self.net = net
        self.loss = loss
        self.ema = ema
        self.average = None if ema is None else AveragedModel(net, use_buffers=True)
        if self.average is not None:
            self.average.requires_grad_(False)
        self.baselines = nn.ModuleDict(baselines)
        self._optimizer = optimizer
        self._schedule = schedule
        self._results = {
            (split, name): {metric: self.metrics[metric]() for metric in measured}
            for split, measured in (("val", self.validated), ("test", tuple(self.metrics)))
            for name in ("net", *baselines)
        }
        self._rates: list[list[float]] = []  # initial learning rate of each optimizer's parameter groups
        self._unchecked: list[tuple[Tensor, torch.cuda.Event | None, Tensor]] = []  # see `on_before_optimizer_step`
        self._averaged = 0  # updates of the average so far
        self._settings: list[dict[str, Any]] = []  # of the optimizer's parameter groups, as configured
        self.last_loss = math.nan  # as read on the host
        self.agreed_time_share: float | None = None  # with several processes: see `StopTogether`
        self._rows: list[Tensor] = []
        self.per_image: dict[str, list[float]] = {}

    # -- training ------------------------------------------------------------------------------------

    # A step reads no tensor of the device that trains, which would make the host wait for it; what must be read is
    # copied to the host asynchronously.

    def configure_optimizers(self) -> Optimizer:
        """One optimizer; the schedule is applied by `on_train_batch_start`."""
        try:
            optimizer = self._optimizer(self.net.parameters())
        except ValueError as error:  # a negative learning rate, say; or a network without parameters
            raise UserError(f"optimizer: {error}.") from error
        # As configured: the rates of a checkpoint are scheduled ones, and an override on resume counts.
        self._rates = [[group["lr"] for group in optimizer.param_groups]]
        self._settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        return optimizer

    @property
    def progress(self) -> float:
        """Share of the run that is done: the largest of steps, epochs and time over their budgets; 1 at the end."""
        return self._progress(0.0)

    def time_share(self) -> float:
        """Return the share of a budget in time that is over by this process's clock; 0 without one."""
        timers = [callback for callback in self.trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
        times = [(timer.time_elapsed(), timer.time_remaining()) for timer in timers]
        return max((elapsed / (elapsed + left) for elapsed, left in times if left is not None), default=0.0)

    def _progress(self, ahead: float) -> float:
        trainer = self.trainer
        shares = [self.time_share() if self.agreed_time_share is None else self.agreed_time_share]
        if trainer.max_steps and trainer.max_steps > 0:
            shares.append((trainer.global_step + ahead) / trainer.max_steps)
        if trainer.max_epochs and trainer.max_epochs > 0:
            # Counted in optimizer steps: the same number in a run that was interrupted.
            steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
            shares.append((trainer.global_step + ahead) / (steps * trainer.max_epochs))
        return max(shares)

    def on_train_start(self) -> None:
        """Restore the configured settings of the optimizer, which a checkpoint replaced; read the average's count."""
        for group, settings in zip(self.trainer.optimizers[0].param_groups, self._settings, strict=True):
            group.update(settings)
        if self.average is not None:
            self._averaged = int(self.average.n_averaged)

    def on_train_batch_start(self, batch: Pair, batch_idx: int) -> None:
        """Set the learning rate of every parameter group: its initial rate times the schedule at mid-step.

        Raises:
            UserError: A metric is not defined at the size of the targets.
        """
        if batch_idx == 0:
            for metric in self.metrics.values():  # before training, not after hours of it
                metric.check(batch.target)
        factor = self._schedule(self._progress(0.5))
        for optimizer, rates in zip(self.trainer.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        loss: Tensor = self.loss(self._predict(self.net, batch).float(), batch.target)
        self._unchecked.append((*_copy_to_host(loss.detach()), batch.row))
        self.log("train/loss", loss)
        self.log("train/lr", torch.tensor(self.trainer.optimizers[0].param_groups[0]["lr"]))  # on the CPU
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Check the losses of the batches behind this step, which the backward pass leaves time for.

        Raises:
            UserError: A loss is not finite; names the step and the batch's files.
        """
        for loss, event, rows in self._unchecked:
            if event is not None:
                event.synchronize()  # the forward pass is done; the backward pass need not be
            self.last_loss = loss.item()
            if not math.isfinite(self.last_loss):
                names = [self.trainer.datamodule.name("train", row) for row in rows.tolist()]  # type: ignore[attr-defined]
                raise UserError(
                    f"{type(self.loss).__name__} loss is {self.last_loss} at step {self.global_step}, before its "
                    f"update; batch of {', '.join(names)}. Lower optimizer.lr, or train with trainer.precision=32."
                )
        self._unchecked.clear()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the weights, then their average."""
        super().optimizer_step(*args, **kwargs)
        self._update_average()

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the average towards the weights, without `AveragedModel`'s reading of its count from the device."""
        if self.average is None or self.ema is None:
            return
        count = self._averaged
        decay = min(self.ema, (1 + count) / (10 + count)) if count else 0.0
        means = [*self.average.module.parameters(), *self.average.module.buffers()]
        current = [*self.net.parameters(), *self.net.buffers()]
        floating = [(mean, new) for mean, new in zip(means, current, strict=True) if mean.is_floating_point()]
        if floating:
            get_ema_multi_avg_fn(decay)(*map(list, zip(*floating, strict=True)), count)
        for mean, new in zip(means, current, strict=True):
            if not mean.is_floating_point():  # the count of batches of BatchNorm
                mean.copy_(new)
        self.average.n_averaged += 1
        self._averaged += 1

    def on_train_batch_end(self, outputs: Any, batch: Pair, batch_idx: int) -> None:
        """End training when a budget is spent, which makes Lightning validate."""
        if self.progress >= 1:
            self.trainer.should_stop = True

    # -- evaluation ----------------------------------------------------------------------------------

    @property
    def judged(self) -> nn.Module:
        """The network with the weights that count: the averaged ones, where there are any."""
        return self.net if self.average is None else self.average.module

    def answers(self, batch: Pair) -> dict[str, Tensor]:
        """What the judged network (`net`) and each baseline make of a batch, clamped to [0, 1]."""
        nets = {"net": self.judged, **dict(self.baselines.items())}
        return {name: self._predict(net, batch).clamp(0, 1) for name, net in nets.items()}

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        """Measures a batch of the validation split."""
        self._measure("val", batch)

    def test_step(self, batch: Pair, batch_idx: int) -> None:
        """Measures a batch of the test split."""
        self._rows.append(batch.row)
        self._measure("test", batch)

    def on_validation_epoch_end(self) -> None:
        """Logs the validation metrics."""
        self._log("val")

    def on_test_epoch_end(self) -> None:
        """Logs the test metrics and keeps their values image by image."""
        rows = self._gathered(torch.cat(self._rows))
        order = rows.argsort()
        self.per_image = {"row": rows[order].tolist()}
        self._rows.clear()
        for name in ("net", *self.baselines):
            for metric, result in self._results["test", name].items():
                values = self._gathered(result.values)[order]
                self.per_image[metric if name == "net" else f"{name}_{metric}"] = values.tolist()
        self._log("test")

    def _gathered(self, values: Tensor) -> Tensor:
        """The values of every process, one after the other."""
        return torch.cat(gather_all_tensors(values)) if self.trainer.world_size > 1 else values

    # -- shared --------------------------------------------------------------------------------------

    def _predict(self, net: nn.Module, batch: Pair) -> Tensor:
        if getattr(net, "inputs", None) not in (None, batch.input.shape[1]):
            raise UserError(
                f"{type(net).__name__} takes {net.inputs} channel(s), the pair has {batch.input.shape[1]}: a colour "
                "network takes gray, a super-resolution network RGB; choose pair=... or net=... to match."
            )
        prediction = net(batch.input)
        if prediction.shape != batch.target.shape:
            raise UserError(
                f"{type(net).__name__} answered {tuple(prediction.shape)}, the target is "
                f"{tuple(batch.target.shape)}: `scale` must be the network's own, and the pair made for it."
            )
        return prediction

    def compared(self, answer: Tensor, batch: Pair) -> tuple[Tensor, Tensor]:
        """What of an answer is measured, against what."""
        return answer, batch.target

    def _measure(self, split: str, batch: Pair) -> None:
        # Evaluation is float32 whatever training is, the metrics' own convolutions too.
        with torch.autocast(self.device.type, enabled=False):
            for name, answer in self.answers(batch).items():
                update_all(self._results[split, name].values(), *self.compared(answer, batch))

    def _log(self, split: str) -> None:
        for name in ("net", *self.baselines):
            prefix = split if name == "net" else f"{split}_{name}"
            for metric, result in self._results[split, name].items():
                self.log(f"{prefix}/{metric}", result.compute())
                result.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what the network is built from, and trained on."""
        checkpoint["net_config"] = self.net_config
        checkpoint["trained_on"] = self.trained_on


def _copy_to_host(value: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Start to copy a tensor; return the copy and the event after which it may be read, None for a CPU."""
    copy = value.to("cpu", non_blocking=True)
    if not value.is_cuda:
        return copy, None
    event = torch.cuda.Event()
    event.record()
    return copy, event
