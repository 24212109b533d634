"""Speed and memory of training."""

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.data import extract_batch_size


class Speed(Callback):
    """Measure training: `figures` is the `train` section of `metrics.json` after training.

    `data_wait` is the time from the end of a step until the next batch leaves the data loader, as a fraction of the
    training time. Transfer, augmentation and pairs, which are work of the training device, count as training;
    validation and checkpoints do not count. With a datamodule that does not record `handed_over`, transfer and
    augmentation count as waiting. `peak_memory_mb` is the tensor memory of a training step as CUDA counts it, in MiB:
    weights, optimizer state, gradients, activations; None on a CPU.
    """

    def __init__(self) -> None:
        self.figures: dict[str, float | str | None] = dict.fromkeys(
            ("seconds", "images_per_second", "data_wait", "peak_memory_mb", "precision")
        )
        self._seconds = self._stepping = self._waiting = 0.0  # before and since the start
        self._images = 0
        self._peak = 0
        self._start: float | None = None
        self._step_start = 0.0
        self._step_end: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the totals that a resumed run continues."""
        totals = {"images": self._images, "stepping": self._stepping, "waiting": self._waiting}
        return {"seconds": self._elapsed(), **totals}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self._seconds, self._images = state_dict["seconds"], state_dict["images"]
        self._stepping, self._waiting = state_dict["stepping"], state_dict["waiting"]

    def _elapsed(self) -> float:
        return self._seconds + (0.0 if self._start is None else time.monotonic() - self._start)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        self.figures["precision"] = str(trainer.precision)
        self._start = time.monotonic()
        self._step_end = None
        if _on_cuda(trainer):
            torch.cuda.reset_peak_memory_stats()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record how long the device waited for the batch."""
        handed_over = getattr(getattr(trainer, "datamodule", None), "handed_over", 0.0)
        self._step_start = handed_over if handed_over > 0 else time.monotonic()
        if self._step_end is not None:
            self._waiting += self._step_start - self._step_end

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the time of the step, and log the speed so far."""
        self._images += extract_batch_size(batch) * trainer.world_size
        self._step_end = time.monotonic()
        self._stepping += self._step_end - self._step_start
        rate = self._images / (self._stepping + self._waiting)
        pl_module.log("train/images_per_second", torch.tensor(rate))  # a float would be copied to the device

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the validation from waiting and from memory."""
        self._step_end = None
        if _on_cuda(trainer):
            self._peak = max(self._peak, torch.cuda.max_memory_allocated())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the memory of the validation."""
        if _on_cuda(trainer):
            torch.cuda.reset_peak_memory_stats()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the time between epochs from waiting."""
        self._step_end = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the statistics."""
        self.figures["seconds"] = self._elapsed()
        if self._images == 0:
            return
        busy = self._stepping + self._waiting
        self.figures["images_per_second"] = self._images / busy
        self.figures["data_wait"] = self._waiting / busy
        if _on_cuda(trainer):
            self.figures["peak_memory_mb"] = max(self._peak, torch.cuda.max_memory_allocated()) / 2**20


def figures(trainer: Trainer) -> dict[str, float | str | None]:
    """Return the statistics of a trainer's `Speed` callback; each is None if there is no such callback."""
    callbacks = [callback for callback in trainer.callbacks if isinstance(callback, Speed)]  # type: ignore[attr-defined]
    return (callbacks or [Speed()])[0].figures


def _on_cuda(trainer: Trainer) -> bool:
    return trainer.strategy.root_device.type == "cuda"
