"""The standard sets of the super-resolution literature: whole images, one at a time, for tests only."""

import csv
import hashlib
import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from lightning import LightningDataModule
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from srcolor.data.cells import Pixels
from srcolor.data.datamodule import Epoch, Rows
from srcolor.data.files import to_rgb
from srcolor.data.folder import SUFFIXES
from srcolor.data.matlab import bicubic_down
from srcolor.errors import UserError, check_range
from srcolor.images import Pair

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Benchmark(LightningDataModule):
    """Pairs of whole images, batches of one, as the tables of the literature are made of.

    The high-resolution image is read as RGB (a gray one too: its three channels are the same), and cut at the right
    and at the bottom to a multiple of `scale`. The low-resolution image is read where the set has one, else made by
    `matlab.bicubic_down`.

    Args:
        root: A folder with a folder for each set, `Set5` say, or that of one set. A set has its images in `HR`, and
            may have low-resolution ones of the same names in `LR_x2`; or it has its images directly in it.
        scale: Of the network.
    """

    root: str | None
    scale: int

    def __post_init__(self) -> None:
        """Checks the arguments."""
        super().__init__()
        if self.root is None:
            raise UserError("data=benchmark needs the sets: give data.root=<folder with Set5/, BSD100/, ...>.")
        check_range("scale", self.scale, 1)
        self.folder = Path(self.root).expanduser().absolute()
        self.images: list[tuple[str, Path, Path | None]] = []

    def setup(self, stage: str | None = None) -> None:
        """Finds the images of every set.

        Raises:
            UserError: There is no set, one without images, or one whose low-resolution images are not all there.
        """
        if self.images:
            return
        if not self.folder.is_dir():
            raise UserError(f"data.root={self.folder}: no such folder. Expected one with Set5/, BSD100/, ...")
        if _pictures(self.folder) or (self.folder / "HR").is_dir():
            sets = [self.folder]
        else:
            sets = sorted(path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not sets:
            raise UserError(f"data.root={self.folder} holds no set: expected folders with images, Set5/, BSD100/, ...")
        for folder in sets:
            high = folder / "HR" if (folder / "HR").is_dir() else folder
            low = folder / f"LR_x{self.scale}"
            images = _pictures(high)
            if not images:
                raise UserError(f"{high}: no image. A set's images are expected there, or in a folder HR of it.")
            if missing := [path.name for path in images if low.is_dir() and not (low / path.name).exists()]:
                raise UserError(
                    f"{low}: no low-resolution image {missing[0]} ({len(missing)} missing). Add what is missing, or "
                    f"move {low.name} away: then they are made."
                )
            self.images += [
                (f"{folder.name}/{path.name}", path, low / path.name if low.is_dir() else None) for path in images
            ]
            how = "read" if low.is_dir() else "made"
            log.info("%s: %d images, low resolution %s", folder.name, len(images), how)

    def test_dataloader(self) -> DataLoader[Pair]:
        """Return every image, in order; several processes share them, so that each is counted once.

        Raises:
            UserError: There are fewer images than processes.
        """
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        if len(self.images) < world:
            raise UserError(f"{len(self.images)} image(s), for {world} processes: give fewer trainer.devices=.")
        return DataLoader(Whole(self), sampler=Epoch(len(self.images), 1, rank=rank, world=world), batch_size=None)

    def train_dataloader(self) -> NoReturn:
        """There is none.

        Raises:
            UserError: Always.
        """
        raise UserError("data=benchmark is for tests: give fit=false ckpt=<run>. Train on pictures of your own.")

    def pair(self, row: int) -> Pair:
        """Reads an image: input (1, 3, h, w), target (1, 3, scale * h, scale * w), multiples of 1/255.

        Raises:
            UserError: It cannot be read, is too small, or its low-resolution image is not of its size.
        """
        name, path, given = self.images[row]
        high = _read(path)
        height, width = (side - side % self.scale for side in high.shape[:2])
        if min(height, width) < 11 + 2 * self.scale:  # the window of SSIM, and the border that is cut off
            raise UserError(f"{name}: {width}x{height} is too small: a side of {11 + 2 * self.scale} is the least.")
        high = high[:height, :width]
        low = bicubic_down(high, self.scale) if given is None else _read(given)
        if low.shape[:2] != (height // self.scale, width // self.scale):
            raise UserError(
                f"{given}: {low.shape[1]}x{low.shape[0]}; expected {width // self.scale}x{height // self.scale}, "
                f"1/{self.scale} of {path.name}."
            )
        return Pair(_tensor(low), _tensor(high), torch.tensor([row]))

    def name(self, split: str, row: int) -> str:
        """Names an image: its set and its file."""
        return self.images[row][0]

    def sets(self, rows: Iterable[int]) -> tuple[str, ...]:
        """Names the set of each image."""
        return tuple(self.images[row][0].split("/")[0] for row in rows)

    def overlap(self, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """Names the images, by their files, that networks were trained on; see `ImageDataModule.overlap`."""
        seen = {bytes(row) for record in records for row in record["files"].numpy()}
        return [name for name, path, _ in self.images if hashlib.sha256(path.read_bytes()).digest() in seen]

    def write_splits(self, path: Path) -> None:
        """Writes which images are tested: a row an image."""
        rows = [(name, "test", "read" if low else "made") for name, _, low in self.images]
        with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows([("file", "split", "low_resolution"), *rows])


class Whole(Dataset[Pair]):
    """The pairs of a benchmark."""

    def __init__(self, data: Benchmark) -> None:
        self.data = data

    def __len__(self) -> int:
        """Number of images."""
        return len(self.data.images)

    def __getitem__(self, rows: Rows) -> Pair:
        """Return the pair of a batch of one row; see `Benchmark.pair`."""
        index, _ = rows
        return self.data.pair(int(index))


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES) and path.name[0] != ".")


def _read(path: Path) -> Pixels:
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as file:
            return np.asarray(to_rgb(file))
    except Exception as error:  # a foreign file can make a decoder raise anything
        raise UserError(f"{path}: cannot be read ({error}). Replace it, or move it away.") from error


def _tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
