"""Grids of sample images during training, as files and in loggers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from srcolor.errors import check_range
from srcolor.images import Pair, lab_to_rgb, rgb_to_lab, to_uint8
from srcolor.metrics import ciede2000
from srcolor.runs.records import write_picture
from srcolor.tasks.adversarial import REFERENCE
from srcolor.tasks.base import Task


class SampleGrid(Callback):
    """Grids of the same few images, written to `samples/*.png` and to every logger that supports images.

    One row per image; for the columns see `columns`. Drawn at validations 1, 2, 4, 8, ..., and in the test.

    Args:
        folder: Folder of the files.
        images: Number of rows.
    """

    def __init__(self, folder: str, images: int) -> None:
        check_range("callbacks.pictures.images", images, 1)
        self.folder = Path(folder)
        self.images = images
        self._validations = 0

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Task, outputs: Any, batch: Pair, batch_idx: int, *_: Any
    ) -> None:
        """Draw the first images of the validation split."""
        if batch_idx == 0 and trainer.state.fn == "fit":
            self._validations += 1
            if self.is_drawn(self._validations):
                self._draw(trainer, pl_module, batch, "val", f"val_step{trainer.global_step:07d}")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Task, outputs: Any, batch: Pair, batch_idx: int, *_: Any
    ) -> None:
        """Draw the first images of the test split."""
        if batch_idx == 0:
            self._draw(trainer, pl_module, batch, "test", "test")

    def is_drawn(self, validation: int) -> bool:
        """Return whether a validation is drawn; they count from 1. By default those whose number is a power of two."""
        return validation & (validation - 1) == 0

    def columns(self, batch: Pair, predictions: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the heading and the images of each column.

        By default input, each baseline, prediction, target, and the prediction's absolute error, averaged over
        channels, times ten.

        Args:
            batch: A few examples.
            predictions: Predictions of the network (`net`) and of each baseline, and the task's `illustrations`.
        """
        prediction = predictions["net"]
        error = (prediction - batch.target).abs().mean(1, keepdim=True) * 10
        return {
            f"input {batch.input.shape[-1]}x{batch.input.shape[-2]}": batch.input,
            **{name: images for name, images in predictions.items() if name != "net"},
            **{"prediction": prediction, "target": batch.target, "error x10": error},
        }

    def _draw(self, trainer: Trainer, task: Task, batch: Pair, split: str, name: str) -> None:
        if not trainer.is_global_zero:
            return
        batch = Pair(*(part[: self.images] for part in batch))
        with torch.autocast(task.device.type, enabled=False):
            picture = grid(self.columns(batch, {**task.predictions(batch), **task.illustrations(batch)}))
        self.folder.mkdir(parents=True, exist_ok=True)
        write_picture(self.folder / f"{name}.png", picture)
        for logger in trainer.loggers:
            log_image(logger, f"samples/{split}", picture, trainer.global_step)


class ColorSampleGrid(SampleGrid):
    """Grids of colorized images; see `SampleGrid` for the arguments."""

    def columns(self, batch: Pair, predictions: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `SampleGrid`.

        Gray, prediction, target, the prediction's chroma at a lightness of 65, and CIEDE2000, white from 25.
        """
        prediction, target = rgb_to_lab(predictions["net"]), rgb_to_lab(batch.target)
        chroma = torch.cat([torch.full_like(prediction[:, :1], 65), prediction[:, 1:]], 1)
        return {
            "gray": batch.input,
            "prediction": predictions["net"],
            "truth": batch.target,
            "its chroma": lab_to_rgb(chroma),
            "CIEDE2000": ciede2000(prediction, target) / 25,
        }


class CodesSampleGrid(SampleGrid):
    """Grids of several colorings of each image, drawn at every validation; see `SampleGrid` for the arguments."""

    def is_drawn(self, validation: int) -> bool:
        """See `SampleGrid`."""
        return True

    def columns(self, batch: Pair, predictions: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `SampleGrid`: gray, the stable coloring, samples, truth."""
        samples = {name: images for name, images in predictions.items() if name.startswith("sample ")}
        return {"gray": batch.input, "stable": predictions["net"], **samples, "truth": batch.target}


class AdversarialSampleGrid(SampleGrid):
    """Grids of adversarial training, drawn at every validation; see `SampleGrid` for the arguments."""

    def is_drawn(self, validation: int) -> bool:
        """See `SampleGrid`."""
        return True

    def columns(self, batch: Pair, predictions: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `SampleGrid`.

        Input, the network trained with the pixel loss alone, the network, target. Before the adversarial phase, the
        network is the pixel loss's.
        """
        input = {f"input {batch.input.shape[-1]}x{batch.input.shape[-2]}": batch.input}
        if REFERENCE not in predictions:
            return {**input, "pixel loss": predictions["net"], "target": batch.target}
        nets = {"pixel loss": predictions[REFERENCE], "adversarial": predictions["net"]}
        return {**input, **nets, "target": batch.target}


def log_image(logger: Logger, key: str, image: Image.Image, step: int) -> None:
    """Log an image to TensorBoard, Weights & Biases or MLflow; other loggers do not support images."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(key, np.asarray(image), step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(key, [image], step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, image, key=key, step=step)


def grid(columns: dict[str, Tensor], gap: int = 4) -> Image.Image:
    """Lay out images in columns with headings; smaller images are enlarged without smoothing.

    Args:
        columns: Heading and images of each column, (N, 1 or 3, H, W) in [0, 1].
        gap: Distance between images in pixels.

    Returns:
        An RGB image.
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
