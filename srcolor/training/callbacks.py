"""What a run shows and measures beside its metrics: a progress bar, picture grids, speed and memory."""

import copy
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageDraw, ImageFont
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor
from torch.nn import functional as F

from srcolor import signals
from srcolor.errors import check_range
from srcolor.hardware import cpu_memory_mb
from srcolor.images import Pair, lab_to_rgb, rgb_to_lab, to_uint8
from srcolor.metrics import ciede2000
from srcolor.runs.records import write_picture
from srcolor.tasks.base import Task


class ProgressBar(Callback):
    """A bar for the whole run: epoch, loss, validation figure, time left.

    Args:
        monitor: The validation figure to show.
        title: What stands before it.
    """

    def __init__(self, monitor: str, title: str = "") -> None:
        self.monitor = monitor
        self.title = title
        self._bar: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar, in the first process."""
        if not trainer.is_global_zero:
            return
        text = "{task.description} epoch {task.fields[epoch]}  {task.percentage:3.0f} %"
        figures = "loss {task.fields[loss]}  {task.fields[figure]}  {task.fields[left]} left"
        self._bar = Progress(TextColumn(text), BarColumn(), TextColumn(figures))
        self._bar.add_task(self.title, total=1.0, epoch=trainer.current_epoch, loss="-", figure="", left="?")
        self._began = time.monotonic()
        self._first: float | None = None
        self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Task, *_: Any) -> None:
        """Moves the bar, ten times a second at most."""
        if self._bar is None:
            return
        task = self._bar.tasks[0]
        progress = min(1.0, pl_module.progress)
        if self._first is None:
            self._first = progress
        if progress < 1 and time.monotonic() - task.fields.get("drawn", 0.0) < 0.1:
            return
        done = progress - self._first
        left = (time.monotonic() - self._began) * (1 - progress) / done if done > 0 else None
        metrics = trainer.callback_metrics
        figure = f"{self.monitor} {metrics[self.monitor]:.2f}" if self.monitor in metrics else ""
        self._bar.update(
            task.id,
            completed=progress,
            epoch=trainer.current_epoch,
            loss=f"{metrics['train/loss']:.4f}",
            figure=figure,
            left="?" if left is None else f"{int(left) // 60}:{int(left) % 60:02d}",
            drawn=time.monotonic(),
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the bar, so that the message stands on a line of its own."""
        self.on_train_end(trainer, pl_module)


class StopTogether(Callback):
    """Makes all processes stop after the same training batch, by a time budget or by a signal to one of them.

    (Lightning's own signal handlers wait for the other processes where they may never come: within them.) A single
    process too handles SIGUSR1 under SLURM after the batch: Lightning saves `hpc_ckpt_<n>.ckpt`, and requeues the job.

    Several processes exchange two numbers a batch, through the hosts, so that no device has to finish its work first.
    """

    def __init__(self) -> None:
        self._effects = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._received = 0
        self._hosts: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: Task) -> None:
        """Defer signals to the end of the batch."""
        if trainer.world_size == 1:
            self._effects.clear()
        else:
            self._hosts = torch.distributed.new_group(backend="gloo")
        requeue = signal.getsignal(signal.SIGUSR1) if hasattr(signal, "SIGUSR1") else None
        if callable(requeue):  # Lightning's
            self._effects[signal.SIGUSR1] = requeue
        for number in self._effects:
            signal.signal(number, self._receive)
        self._agree(pl_module)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        stopping = (signal.SIGINT, signal.SIGTERM)
        if number in stopping and self._received in stopping:  # the batch does not end: another process may be gone
            signals.end_process(number)
        self._received = number

    def on_train_batch_end(self, trainer: Trainer, pl_module: Task, *_: Any) -> None:
        """Apply what one process received or measured in all of them."""
        received = self._agree(pl_module)
        effect = self._effects[signal.Signals(received)] if received else None
        if callable(effect):
            self._received = 0
            effect(received, None)

    def _agree(self, pl_module: Task) -> int:
        """Return the number of the signal that one process received, 0 for none; and agree on the time that is over."""
        if self._hosts is None:
            return self._received
        values = torch.tensor([float(self._received), pl_module.time_share()], dtype=torch.float64)
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX, self._hosts)
        received, pl_module.agreed_time_share = values.tolist()
        return int(received)


class Pictures(Callback):
    """Grids of the same few images, to `samples/*.png` and TensorBoard.

    A row an image; columns as `columns` says. Drawn at validations number 1, 2, 4, 8, ..., and at the test.

    Args:
        folder: Where the files go.
        images: How many rows.
    """

    def __init__(self, folder: str, images: int) -> None:
        check_range("callbacks.pictures.images", images, 1)
        self.folder = Path(folder)
        self.images = images
        self._validations = 0

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Task, outputs: Any, batch: Pair, batch_idx: int, *_: Any
    ) -> None:
        """Draws the first images of the validation split."""
        if batch_idx == 0 and trainer.state.fn == "fit":
            self._validations += 1
            if self._validations & (self._validations - 1) == 0:
                self._draw(trainer, pl_module, batch, "val", f"val_step{trainer.global_step:07d}")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Task, outputs: Any, batch: Pair, batch_idx: int, *_: Any
    ) -> None:
        """Draws the first images of the test split."""
        if batch_idx == 0:
            self._draw(trainer, pl_module, batch, "test", "test")

    def columns(self, batch: Pair, answers: dict[str, Tensor]) -> dict[str, Tensor]:
        """Input, each baseline, prediction, target, and the prediction's error, its mean over channels times ten.

        Args:
            batch: A few examples.
            answers: What the network (`net`) and each baseline make of them.

        Returns:
            Heading and images of each column.
        """
        prediction = answers.pop("net")
        error = (prediction - batch.target).abs().mean(1, keepdim=True) * 10
        named = {"prediction": prediction, "target": batch.target, "error x10": error}
        return {f"input {batch.input.shape[-1]}x{batch.input.shape[-2]}": batch.input, **answers, **named}

    def _draw(self, trainer: Trainer, task: Task, batch: Pair, split: str, name: str) -> None:
        if not trainer.is_global_zero:
            return
        few = Pair(*(part[: self.images] for part in batch))
        with torch.autocast(task.device.type, enabled=False):
            picture = grid(self.columns(few, task.predictions(few)))
        self.folder.mkdir(parents=True, exist_ok=True)
        write_picture(self.folder / f"{name}.png", picture)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
                shape = (picture.height, picture.width, 3)
                logger.experiment.add_image(
                    f"samples/{split}", pixels.reshape(shape), trainer.global_step, dataformats="HWC"
                )


class ColourPictures(Pictures):
    """Grids for colour; see `Pictures` for the arguments."""

    def columns(self, batch: Pair, answers: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gray, prediction, truth, the prediction's chroma at a lightness of 65, and CIEDE2000, white from 25 on."""
        prediction, truth = rgb_to_lab(answers["net"]), rgb_to_lab(batch.target)
        chroma = torch.cat([torch.full_like(prediction[:, :1], 65), prediction[:, 1:]], 1)
        return {
            "gray": batch.input,
            "prediction": answers["net"],
            "truth": batch.target,
            "its chroma": lab_to_rgb(chroma),
            "CIEDE2000": ciede2000(prediction, truth) / 25,
        }


def grid(columns: dict[str, Tensor], gap: int = 4) -> Image.Image:
    """Lays images out in columns with headings; smaller ones are enlarged without smoothing.

    Args:
        columns: Heading and images of each column, (N, 1 or 3, H, W) in [0, 1].
        gap: Pixels between images.

    Returns:
        An RGB picture.
    """
    height = max(images.shape[-2] for images in columns.values())
    width = max(images.shape[-1] for images in columns.values())
    rows = len(next(iter(columns.values())))
    header = 18
    sheet = Image.new("RGB", (len(columns) * (width + gap) - gap, header + rows * (height + gap) - gap), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for column, (heading, images) in enumerate(columns.items()):
        left = column * (width + gap)
        pen.text((left + width / 2, 2), heading, "black", font, anchor="ma")
        shown = F.interpolate(images.float(), size=(height, width), mode="nearest").expand(-1, 3, -1, -1)
        for row, pixels in enumerate(to_uint8(shown).permute(0, 2, 3, 1).cpu().numpy()):
            sheet.paste(Image.fromarray(pixels), (left, header + row * (height + gap)))
    return sheet


class Speed(Callback):
    """Measures training: `figures` is the `train` part of `metrics.json` once training has ended.

    `data_wait` is the time from the end of a step to the moment the next batch is handed over, as a share of
    training time. Transfer, augmentation and pairs, which are the device's work, count as training;
    validation and checkpoints do not count. `peak_memory_mb` is tensor memory (MiB) of
    one training step: weights, optimizer state, gradients, activations. CUDA counts it; on a CPU it is what
    PyTorch's profiler records for one step more, on a copy, after training.
    """

    def __init__(self) -> None:
        self.figures: dict[str, float | str | None] = {
            "seconds": None,
            "images_per_second": None,
            "data_wait": None,
            "peak_memory_mb": None,
            "precision": None,
        }
        self._seconds_before = 0.0
        self._images, self._stepping, self._waiting = 0, 0.0, 0.0
        self._cuda_peak = 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run counts on from."""
        seconds = self._seconds_before + time.monotonic() - self._began
        return {"seconds": seconds, "images": self._images, "stepping": self._stepping, "waiting": self._waiting}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self._seconds_before, self._images = state_dict["seconds"], state_dict["images"]
        self._stepping, self._waiting = state_dict["stepping"], state_dict["waiting"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clocks."""
        self.figures["precision"] = str(trainer.precision)
        self._began = time.monotonic()
        self._ended_step: float | None = None
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Pair, batch_idx: int) -> None:
        """Notes how long the batch was waited for."""
        self._began_step = trainer.datamodule.handed_over  # type: ignore[attr-defined]
        if self._ended_step is not None:
            self._waiting += self._began_step - self._ended_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Pair, batch_idx: int
    ) -> None:
        """Notes when the step ends."""
        self._batch = batch
        self._images += len(batch.row) * trainer.world_size
        self._ended_step = time.monotonic()
        self._stepping += self._ended_step - self._began_step
        rate = self._images / (self._stepping + self._waiting)
        pl_module.log("train/images_per_second", torch.tensor(rate))  # a float would be copied to the device at once

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows is no waiting for data, and no training step's memory."""
        self._ended_step = None
        if trainer.strategy.root_device.type == "cuda":
            self._cuda_peak = max(self._cuda_peak, torch.cuda.max_memory_allocated())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets what the validation took."""
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows is no waiting for data."""
        self._ended_step = None

    def on_train_end(self, trainer: Trainer, pl_module: Task) -> None:
        """Works out the figures."""
        self.figures["seconds"] = self._seconds_before + time.monotonic() - self._began
        if not self._images:
            return
        busy = self._stepping + self._waiting
        self.figures["images_per_second"] = self._images / busy
        self.figures["data_wait"] = self._waiting / busy
        if trainer.strategy.root_device.type == "cuda":
            self.figures["peak_memory_mb"] = max(self._cuda_peak, torch.cuda.max_memory_allocated()) / 2**20
        elif trainer.strategy.root_device.type == "cpu":
            net, batch = copy.deepcopy(pl_module.net), self._batch
            net.zero_grad(set_to_none=True)
            with trainer.precision_plugin.train_step_context():
                taken = cpu_memory_mb(lambda: pl_module.loss(net(batch.input).float(), batch.target).backward())
            states = trainer.optimizers[0].state.values()
            state = [value for values in states for value in values.values() if torch.is_tensor(value)]
            held = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), *state))
            self.figures["peak_memory_mb"] = taken + held / 2**20
