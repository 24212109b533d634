"""The base class of tasks: optimization, averaged weights, progress and schedule, measures."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from srcolor.errors import UserError, check_range, nearest
from srcolor.hardware import copy_to_host
from srcolor.images import Pair
from srcolor.metrics import MEASURES, Measure, Values, available, measure
from srcolor.tasks.average import Average
from srcolor.tasks.progress import share_of_batches, share_of_time

FITTED_ON = 2000  # maximum number of training images that baselines, encodings and statistics are fitted on


class Task(LightningModule):
    """Train a network on pairs, and evaluate it on whole images together with baselines.

    The network that is validated, saved as best, tested and loaded has the averaged weights, if there are any.

    A subclass may override `configure_optimizers` and `training_step` for any number of optimizers. Progress, schedule
    and budgets count batches; the average follows the steps of every optimizer with weights of `net`.

    Args:
        net: Maps a pair's input to its target.
        loss: Maps (prediction, target) to a scalar.
        optimizer: Builds the optimizer of the parameters.
        schedule: Maps the progress of the run, 0 to 1, to a factor on the learning rate.
        ema: Decay of the exponential moving average of the weights, in [0, 1], reached after a warm-up
            (1 + n) / (10 + n); if None, no average.
        baselines: Networks without trainable parameters, evaluated too; those with a method `fit` are fitted first.
        measures: Names of the test measures, keys of `srcolor.metrics.MEASURES`; if None, the available
            `default_measures`.
        validated: Names of the measures also computed in validation; if None, those in `default_validated`.

    Attributes:
        measures: The measures by name.
        net_config: Configuration of the network; saved in checkpoints, which rebuild the network by themselves.
        trained_on: Records of the training images of this run and of the networks it started from, as
            `datamodule.trained_on` returns them; saved in checkpoints.
        losses: The latest losses that the host has read, by name; see `log_loss`.
        rows: After a test: row of each test image in the test split.
        per_image: After a test: value of each test image, by network (`net` and the baselines) and measure.
        statistics: After a test: statistics of the test images, (N, K), by network and `SetMeasure`.
    """

    default_measures: ClassVar[tuple[str, ...]] = ("psnr", "ssim")
    default_validated: ClassVar[tuple[str, ...]] = ("psnr", "ssim")
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
        measures: Sequence[str] | None = None,
        validated: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if ema is not None:
            check_range("task.ema", ema, 0, 1)
        self.net = net
        self.loss = loss
        self.average = None if ema is None else Average(net, ema)
        self.baselines = nn.ModuleDict(baselines)
        names = available(self.default_measures) if measures is None else measures
        self.validated = [n for n in self.default_validated if n in names] if validated is None else list(validated)
        for key, chosen, allowed in (("measures", names, MEASURES), ("validated", self.validated, names)):
            for name in chosen:
                if name not in allowed:
                    raise UserError(f"task.{key}: unknown measure {name}. {nearest(name, allowed)}")
        built = {name: MEASURES[name].for_scale(getattr(net, "scale", 1)) for name in names}
        self.measures = nn.ModuleDict(built).requires_grad_(False)
        self.register_load_state_dict_post_hook(_expect_no_measures)  # type: ignore[no-untyped-call]
        self.losses: dict[str, float] = {}
        self.rows: list[int] = []
        self.per_image: dict[str, dict[str, list[float]]] = {}
        self.statistics: dict[str, dict[str, Tensor]] = {}
        self.agreed_time_share: float | None = None  # with multiple processes: see `StopTogether`
        self._optimizer = optimizer
        self._schedule = schedule
        self._settings: list[list[dict[str, Any]]] = []  # configuration of each optimizer's parameter groups
        self._max_steps = -1
        self._batch_rows = torch.zeros(0, dtype=torch.int64)
        self._unchecked: list[tuple[str, Tensor, torch.cuda.Event | None, Tensor]] = []  # see `log_loss`
        self._values: dict[str, Values] = {}

    def setup(self, stage: str) -> None:
        """Fit the baselines."""
        self.fit_baselines(self.trainer.datamodule)  # type: ignore[attr-defined]

    def fit_baselines(self, data: Any) -> None:
        """Fit the baselines that have a method `fit` on a datamodule's training split."""
        for baseline in self.baselines.values():
            if (fit := getattr(baseline, "fit", None)) is not None:
                fit(data.pairs("train", FITTED_ON))

    # -- training ------------------------------------------------------------------------------------

    # A training step never reads a tensor on the device, which would synchronize the host with it; see `log_loss`.

    def configure_optimizers(self) -> Any:
        """Return one or more optimizers; their learning rates are scheduled by `on_train_batch_start`."""
        try:
            return self._optimizer(self.net.parameters())
        except ValueError as error:  # a negative learning rate, for example, or a network without parameters
            raise UserError(f"optimizer: {error}.") from error

    def on_fit_start(self) -> None:
        """Set up the training budgets, the recorded optimizer settings, and the weight average."""
        self._max_steps = self.trainer.max_steps
        if not self.automatic_optimization:
            # Lightning would count the steps of all optimizers. `on_train_batch_end` counts batches.
            self.trainer.fit_loop.epoch_loop.max_steps = -1
        self._settings = [
            [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
            for optimizer in self.trainer.optimizers
        ]
        weights = set(self.net.parameters())
        for optimizer in self.trainer.optimizers:
            if not weights.isdisjoint(weight for group in optimizer.param_groups for weight in group["params"]):
                optimizer.register_step_post_hook(self._update_average)

    def on_train_start(self) -> None:
        """Prepare a resumed run; stop immediately if its budget is spent."""
        for group, settings in self._groups():
            group.update(settings)  # as configured, not as in the checkpoint
        if self.average is not None:
            self.average.read_count()
        if self.progress >= 1:
            self.trainer.should_stop = True

    def _groups(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield every parameter group of every optimizer with its configuration."""
        for optimizer, settings in zip(self.trainer.optimizers, self._settings, strict=True):
            yield from zip(optimizer.param_groups, settings, strict=True)

    @property
    def progress(self) -> float:
        """Finished fraction of the run: the largest of steps (in batches), epochs and time over their budgets."""
        return self._progress(self.trainer.fit_loop.total_batch_idx + 1)

    def time_share(self) -> float:
        """Return the elapsed fraction of a time budget on this process's clock; 0 without a time budget."""
        return share_of_time(self.trainer)

    def _progress(self, batches: float) -> float:
        time_share = self.time_share() if self.agreed_time_share is None else self.agreed_time_share
        return max(time_share, share_of_batches(self.trainer, batches, self._max_steps))

    def on_train_batch_start(self, batch: Pair, batch_idx: int) -> None:
        """Set the learning rates: initial rates times the schedule at mid-batch; check the size of the targets."""
        if batch_idx == 0:
            for name in self.measures:  # before training, not after hours of it
                MEASURES[name].check(batch.target)
        self._batch_rows = batch.row
        factor = self.rate_factor(self._progress(self.trainer.fit_loop.total_batch_idx + 0.5))
        for group, settings in self._groups():
            group["lr"] = settings["lr"] * factor

    def rate_factor(self, progress: float) -> float:
        """Return the factor on the learning rates at a share of the run."""
        return self._schedule(progress)

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor | None:
        """Return the loss of a batch; None with manual optimization."""
        loss: Tensor = self.loss(self.predict(self.net, batch).float(), batch.target)
        self.log_loss("loss", loss)
        self.log_rate(self.trainer.optimizers[0])
        return loss

    def log_rate(self, optimizer: Optimizer) -> None:
        """Log the learning rate of an optimizer."""
        self.log("train/lr", torch.tensor(optimizer.param_groups[0]["lr"]))  # on the CPU

    def log_loss(self, name: str, value: Tensor) -> None:
        """Log a loss as `train/<name>`, and check before the next optimizer step that it is finite."""
        self._unchecked.append((name, *copy_to_host(value.detach()), self._batch_rows))
        self.log(f"train/{name}", value)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Check the losses of the batches of this step; called while the backward pass may still run on the device.

        Raises:
            UserError: If a loss is not finite; the message names the step and the images of the batch.
        """
        for name, value, event, rows in self._unchecked:
            if event is not None:
                event.synchronize()  # the forward pass is done; the backward pass need not be
            self.losses[name] = value.item()
            if not math.isfinite(self.losses[name]):
                names = [self.trainer.datamodule.name("train", row) for row in rows.tolist()]  # type: ignore[attr-defined]
                raise UserError(
                    f"train/{name} is {self.losses[name]} at step {self.global_step} (no update was made). Images in "
                    f"the batch: {', '.join(names)}. Lower optimizer.lr, or train with trainer.precision=32."
                )
        self._unchecked.clear()

    def _update_average(self, *_: Any) -> None:
        if self.average is not None:
            self.average.update(self.net)

    def on_train_batch_end(self, outputs: Any, batch: Pair, batch_idx: int) -> None:
        """Stop training when a budget is spent, which makes Lightning validate."""
        if self.progress >= 1:
            self.trainer.should_stop = True

    # -- evaluation ----------------------------------------------------------------------------------

    @property
    def evaluated_net(self) -> nn.Module:
        """The network with the averaged weights, or the trained network if there is no average."""
        return self.net if self.average is None else self.average.module

    def evaluated_nets(self) -> dict[str, nn.Module]:
        """Return the evaluated network (`net`) and each baseline."""
        return {"net": self.evaluated_net, **dict(self.baselines.items())}

    def predictions(self, batch: Pair) -> dict[str, Tensor]:
        """Return the postprocessed predictions of every evaluated network."""
        return {name: self.postprocess(self.predict(net, batch)) for name, net in self.evaluated_nets().items()}

    def illustrations(self, batch: Pair) -> dict[str, Tensor]:
        """Return further images, by heading, that sample grids may show but no measure evaluates."""
        return {}

    def postprocess(self, prediction: Tensor) -> Tensor:
        """Return a prediction as it is evaluated and shown: clamped to [0, 1]."""
        return prediction.clamp(0, 1)

    def metric_inputs(self, prediction: Tensor, batch: Pair) -> tuple[Tensor, Tensor]:
        """Return the (prediction, target) that the measures compare."""
        return prediction, batch.target

    def on_validation_epoch_start(self) -> None:
        """Clear the collected values."""
        self._values = {name: Values() for name in self.evaluated_nets()}

    def on_test_epoch_start(self) -> None:
        """Clear the collected values."""
        self.on_validation_epoch_start()

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        """Evaluate a batch of the validation split."""
        self._evaluate(batch, self.validated)

    def test_step(self, batch: Pair, batch_idx: int) -> None:
        """Evaluate a batch of the test split."""
        self._evaluate(batch, self.measures)

    def on_validation_epoch_end(self) -> None:
        """Log the mean of each validation measure."""
        self._gather("val")

    def on_test_epoch_end(self) -> None:
        """Log the mean of each test measure, and keep the values of each image."""
        rows, columns = self._gather("test")
        self.rows = rows.tolist()
        for net, measured in columns.items():
            self.per_image[net] = {name: values.tolist() for name, values in measured.items() if values.ndim == 1}
            self.statistics[net] = {name: values for name, values in measured.items() if values.ndim == 2}

    def _evaluate(self, batch: Pair, names: Iterable[str]) -> dict[str, Tensor]:
        measures: dict[str, Measure] = {name: self.measures[name] for name in names}  # type: ignore[misc]
        # Evaluation is float32 regardless of the training precision, also for convolutions in the measures.
        with torch.autocast(self.device.type, enabled=False):
            predictions = self.predictions(batch)
            for name, prediction in predictions.items():
                values = measure(measures, *self.metric_inputs(prediction, batch))
                self._values[name].update({"row": batch.row, **values})
        return predictions

    def _gather(self, split: str) -> tuple[Tensor, dict[str, dict[str, Tensor]]]:
        """Log the value of every measure; return the rows and the columns of each network, sorted by row."""
        columns = {name: values.gather() for name, values in self._values.items()}
        rows, order = columns["net"]["row"].sort()
        for name, measured in columns.items():
            del measured["row"]
            for key, values in measured.items():
                measured[key] = values[order]
                value = MEASURES[key].summarize(measured[key])
                self.log(f"{split if name == 'net' else f'{split}_{name}'}/{key}", value)
        return rows, columns

    # -- shared --------------------------------------------------------------------------------------

    def predict(self, net: nn.Module, batch: Pair) -> Tensor:
        """Return a network's prediction for a batch, not postprocessed.

        Raises:
            UserError: If the network does not match the pair.
        """
        if getattr(net, "inputs", None) not in (None, batch.input.shape[1]):
            raise UserError(
                f"{type(net).__name__} takes {net.inputs} channel(s), the pair has {batch.input.shape[1]}: a color "
                "network takes gray, a super-resolution network RGB; choose pair=... or net=... to match."
            )
        prediction = net(batch.input)
        self.check(prediction, batch.target)
        return prediction

    def check(self, prediction: Tensor, target: Tensor) -> None:
        """Check that a prediction matches its target, by default that the shapes are equal.

        Raises:
            UserError: If the prediction does not match its target.
        """
        if prediction.shape != target.shape:
            raise UserError(
                f"the prediction is {tuple(prediction.shape)}, the target {tuple(target.shape)}: `scale` must "
                "match both the network and the pair."
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the network's configuration and the records of its training images."""
        checkpoint["net_config"] = self.net_config
        checkpoint["trained_on"] = self.trained_on


def _expect_no_measures(task: nn.Module, keys: Any) -> None:
    """Ignore missing weights of measures, which are fixed and not saved."""
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.startswith("measures.")]
