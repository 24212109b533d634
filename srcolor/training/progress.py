"""A progress bar for the whole run."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from srcolor.tasks.base import Task


class ProgressBar(Callback):
    """A bar for the whole run: epoch, progress, every loss, the validation metric, time left.

    Args:
        monitor: Name of the validation metric to show.
        title: Text before the bar.
    """

    def __init__(self, monitor: str, title: str = "") -> None:
        self.monitor = monitor
        self.title = title
        self._bar: Progress | None = None
        self._updated = 0.0
        self._validation: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: Task) -> None:
        """Show the bar, in the first process."""
        if not trainer.is_global_zero:
            return
        text = TextColumn("{task.description} epoch {task.fields[epoch]}")
        metrics = TextColumn("{task.fields[metrics]}")
        bar = BarColumn(bar_width=None)
        self._bar = Progress(text, TaskProgressColumn(), bar, metrics, TimeRemainingColumn(), expand=True)
        self._bar.add_task(self.title, total=1.0, completed=pl_module.progress, epoch=trainer.current_epoch, metrics="")  # type: ignore[arg-type]
        self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Task, *_: Any) -> None:
        """Update the bar, at most ten times a second, with values that are already on the host."""
        if self._bar is None:
            return
        progress = min(1.0, pl_module.progress)
        if progress < 1 and time.monotonic() - self._updated < 0.1:
            return
        self._updated = time.monotonic()
        shown = pl_module.losses | self._validation
        text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        self._bar.update(self._bar.tasks[0].id, completed=progress, epoch=trainer.current_epoch, metrics=text)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the validation metric."""
        if self.monitor in trainer.callback_metrics:
            self._validation = {self.monitor: trainer.callback_metrics[self.monitor].item()}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the error message starts on a new line."""
        self.on_train_end(trainer, pl_module)
