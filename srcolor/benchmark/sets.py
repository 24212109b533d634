"""The standard sets of the super-resolution literature: whole images, one at a time, for testing only."""

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

from srcolor.benchmark.lowres import imresize
from srcolor.data.crops import Pixels
from srcolor.data.protocol import DataModuleDefaults
from srcolor.data.sampler import EpochSampler, Rows
from srcolor.data.sources.files import to_rgb
from srcolor.data.sources.folder import SUFFIXES
from srcolor.errors import UserError, check_range
from srcolor.images import Pair

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Benchmark(DataModuleDefaults, LightningDataModule):
    """Pairs of whole images in batches of one, as used for the tables of the literature; see `DataModule`.

    The high-resolution image is read as RGB (a gray image has three equal channels), and cropped at the right and at
    the bottom to a multiple of `scale`. The low-resolution image is read if the set has one; otherwise it is computed
    by `lowres.imresize`.

    Args:
        root: A folder with one folder per set (such as `Set5`), or the folder of a single set. A set has its images in
            `HR`, optionally with low-resolution images of the same names in `LR_x2`; or directly in its folder.
        scale: Scale of the network.
    """

    root: str | None
    scale: int

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__init__()
        if self.root is None:
            raise UserError("data=benchmark requires data.root=<folder with Set5/, BSD100/, ...>.")
        check_range("scale", self.scale, 1)
        self.folder: Path = Path(self.root).expanduser().absolute()
        self.folders = (self.folder,)
        self.images: list[tuple[str, Path, Path | None]] = []

    def setup(self, stage: str | None = None) -> None:
        """List the images of every set.

        Raises:
            UserError: If there are no sets, or a set lacks images or some of its low-resolution images.
        """
        if self.images:
            return
        if not self.folder.is_dir():
            raise UserError(f"data.root={self.folder} does not exist. Expected a folder with Set5/, BSD100/, ...")
        if _image_files(self.folder) or (self.folder / "HR").is_dir():
            folders = [self.folder]
        else:
            folders = sorted(path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not folders:
            raise UserError(f"data.root={self.folder} contains no benchmark sets. Expected Set5/, BSD100/, ...")
        for folder in folders:
            high = folder / "HR" if (folder / "HR").is_dir() else folder
            low = folder / f"LR_x{self.scale}"
            images = _image_files(high)
            if not images:
                raise UserError(f"{high}: no images found. Put the set's images in this folder or in an HR subfolder.")
            if missing := [path.name for path in images if low.is_dir() and not (low / path.name).exists()]:
                raise UserError(
                    f"{low}: {len(missing)} low-resolution image(s) missing, e.g. {missing[0]}. Add them, or move "
                    f"{low.name} away to have all of them computed."
                )
            self.images += [
                (f"{folder.name}/{path.name}", path, low / path.name if low.is_dir() else None) for path in images
            ]
            how = "read" if low.is_dir() else "computed"
            log.info("%s: %d images, low resolution %s", folder.name, len(images), how)

    def test_dataloader(self) -> DataLoader[Pair]:
        """Return every image, in order; multiple processes share them, and each image is counted once.

        Raises:
            UserError: If there are fewer images than processes.
        """
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        if len(self.images) < world:
            raise UserError(f"only {len(self.images)} image(s) for {world} processes: reduce trainer.devices=.")
        sampler = EpochSampler(len(self.images), 1, rank=rank, world=world)
        return DataLoader(BenchmarkImages(self), sampler=sampler, batch_size=None)

    def train_dataloader(self) -> NoReturn:
        """Raise an error, as there is no training split.

        Raises:
            UserError: Always.
        """
        raise UserError("data=benchmark is for testing only. Train on another data set: data=...")

    def pair(self, row: int) -> Pair:
        """Read an image: input (1, 3, h, w), target (1, 3, scale * h, scale * w), multiples of 1/255.

        Raises:
            UserError: If the image cannot be read or is too small, or if its low-resolution counterpart has the wrong
                size.
        """
        name, path, low_path = self.images[row]
        high = _read(path)
        height, width = (side - side % self.scale for side in high.shape[:2])
        if min(height, width) < 11 + 2 * self.scale:  # SSIM's window, and the border that is cropped
            raise UserError(f"{name}: {width}x{height} is too small: expected sides of at least {11 + 2 * self.scale}.")
        high = high[:height, :width]
        low = imresize(high, self.scale) if low_path is None else _read(low_path)
        if low.shape[:2] != (height // self.scale, width // self.scale):
            raise UserError(
                f"{low_path} is {low.shape[1]}x{low.shape[0]}: expected {width // self.scale}x{height // self.scale}, "
                f"1/{self.scale} of {path.name}."
            )
        return Pair(_tensor(low), _tensor(high), torch.tensor([row]))

    def name(self, split: str, row: int) -> str:
        """Return the name of an image: its set and its file."""
        return self.images[row][0]

    def sets(self, rows: Iterable[int]) -> tuple[str, ...]:
        """See `DataModule`."""
        return tuple(self.images[row][0].split("/")[0] for row in rows)

    def overlap(self, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """See `DataModule`."""
        seen = {bytes(row) for record in records for row in record["files"].numpy()}
        return [name for name, path, _ in self.images if hashlib.sha256(path.read_bytes()).digest() in seen]

    def write_splits(self, path: Path) -> None:
        """Write one row per image."""
        rows = [(name, "test", "read" if low else "computed") for name, _, low in self.images]
        with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows([("file", "split", "low_resolution"), *rows])


class BenchmarkImages(Dataset[Pair]):
    """The pairs of a benchmark, by row."""

    def __init__(self, data: Benchmark) -> None:
        self.data = data

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.data.images)

    def __getitem__(self, rows: Rows) -> Pair:
        """Return the pair of a batch of one row; see `Benchmark.pair`."""
        return self.data.pair(int(rows[0]))


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES) and path.name[0] != ".")


def _read(path: Path) -> Pixels:
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as file:
            return np.asarray(to_rgb(file))
    except Exception as error:  # an arbitrary file can make a decoder raise anything
        raise UserError(f"{path}: cannot be read ({error}). Replace or remove it.") from error


def _tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
