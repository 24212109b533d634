"""The LightningDataModule that turns images into batches of pairs; each source is a subclass."""

import csv
import json
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import platformdirs
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from srcolor.data import augment, cache, degrade, draws
from srcolor.data import crops as c
from srcolor.data.crops import Pixels, Region
from srcolor.data.index import Item, by_reason
from srcolor.data.protocol import DataModuleDefaults, DecodedImages
from srcolor.data.sampler import EpochSampler, Rows
from srcolor.errors import UserError, check_range
from srcolor.images import Pair

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """A batch from the data loader, from which pairs are computed on the training device.

    Attributes:
        images: (N, size, size, planes) uint8.
        draws: (N, draws.COLUMNS) in [0, 1).
        row: The samples' rows in their split, (N,) int64.
    """

    images: Tensor
    draws: Tensor
    row: Tensor


class Crops(Dataset[Batch]):
    """The crops of one split; an element is a whole batch, selected by its rows and draws.

    Args:
        images: The images of the source.
        table: The split's crops, one per row; for the columns see `srcolor.data.crops`.
        size: Side of the crops.
        move: Whether to move each crop at random.
        flips: How each crop is flipped at random, see `augment.flip`.
    """

    def __init__(
        self,
        images: cache.Mapped | cache.OnTheFly,
        table: NDArray[np.int32],
        size: int,
        *,
        move: bool = False,
        flips: str = "none",
    ) -> None:
        self.images = images
        self.table = table
        self.size = size
        self.move = move
        self.flips = flips

    def __len__(self) -> int:
        """Return the number of crops."""
        return len(self.table)

    def __getitem__(self, rows: Rows) -> Batch:
        """Gather a batch."""
        row, table = rows
        samples = zip(row.tolist(), table[:, draws.WINDOW].tolist(), table[:, draws.FLIPS].tolist(), strict=True)
        crops = [
            augment.flip(self._crop(self.table[number].tolist(), *window), uniforms, self.flips)
            for number, window, uniforms in samples
        ]
        return Batch(torch.from_numpy(np.stack(crops)), table, row)

    def _crop(self, crop: list[int], down: float, right: float) -> Pixels:
        if self.move:
            top = crop[c.FIRST_TOP] + int(down * (crop[c.LAST_TOP] - crop[c.FIRST_TOP] + 1))
            left = crop[c.FIRST_LEFT] + int(right * (crop[c.LAST_LEFT] - crop[c.FIRST_LEFT] + 1))
            window = self.images.crop(crop[c.IMAGE], top, left, self.size)
            if (top, left) == (crop[c.TOP], crop[c.LEFT]) or not c.is_flat(window):
                return window
        return self.images.crop(crop[c.IMAGE], crop[c.TOP], crop[c.LEFT], self.size)


@dataclass(kw_only=True, eq=False)
class ImageDataModule(DataModuleDefaults, LightningDataModule):
    """Pairs computed on the fly from the images of a source; see `DataModule` and `Source` for its interfaces.

    A subclass defines the images with `items`, `decode` and `identity`, and optionally `planes`, `regions` and
    `settings`. An image is decoded once, into a memory-mapped cache; a batch is then a gather of crops, and
    augmentation and pairs are computed per batch on the training device.

    Args:
        size: Side of the full-size crops, in pixels.
        seed: Determines order, windows, flips, zoom, jitter and degradation, together with the epoch and the position
            in it. In evaluation, the degradation of a sample is determined by its row.
        pair: Computes a `Pair` from images (N, planes, size, size) and rows (N,).
        batch_size: Samples per batch, in training and evaluation.
        epoch_samples: Number of samples in an epoch, which ends with validation and checkpoints. The training set is
            repeated in a new order each time, across epochs. If None, one pass per epoch.
        flips: `none`, `horizontal` or `dihedral`: see `augment.flip`.
        zoom: Minimum fraction of a crop's side that training keeps, see `augment.zoom`; 1 for no zoom.
        jitter: Strength of the color jitter, see `augment.jitter`; 0 for none.
        degrade: Degradations of the input, in training and evaluation, see `degrade.PRESETS`: `none`, `mild` or `old`.
        workers: Number of processes that gather batches; 0 is enough with the cache.
        cache: Whether to decode once into the cache, instead of at each access.
        cache_dir: Folder of all caches; if None, the user's cache folder.
        cache_limit_gb: Maximum size of all caches in `cache_dir`, in 10^9 bytes; the least recently used are removed.
        drop_gray: Whether to exclude crops without colors (`crops.is_gray`) from every split.
    """

    size: int
    pair: Callable[[Tensor, Tensor], Pair]
    seed: int = 0
    batch_size: int = 8
    epoch_samples: int | None = 2000
    flips: str = "dihedral"
    zoom: float = 1.0
    jitter: float = 0.0
    degrade: str = "none"
    workers: int = 0
    cache: bool = True
    cache_dir: str | None = None
    cache_limit_gb: float = 20
    drop_gray: bool = False

    planes: ClassVar[int] = 3
    random_crop = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__init__()
        if self.flips not in augment.FLIPS:
            raise UserError(f"unknown data.flips={self.flips}: expected one of {', '.join(augment.FLIPS)}.")
        check_range("size", self.size, 11)  # SSIM's window
        check_range("data.batch_size", self.batch_size, 1)
        if self.epoch_samples is not None:
            check_range("data.epoch_samples", self.epoch_samples, 1)
        check_range("data.zoom", self.zoom, 0.1, 1)
        check_range("data.jitter", self.jitter, 0, 0.5)
        check_range("data.workers", self.workers, 0)
        check_range("data.cache_limit_gb", self.cache_limit_gb, 0)
        self.degradation = degrade.preset(self.degrade)
        self._splits: dict[str, Crops] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the trainer and the splits, which a worker process does not need."""
        return {key: value for key, value in self.__dict__.items() if key not in ("trainer", "_splits", "index")}

    @abstractmethod
    def items(self) -> list[Item]:
        """See `Source`."""

    @abstractmethod
    def decode(self, item: Item) -> tuple[Pixels, str]:
        """See `Source`."""

    def regions(self, height: int, width: int) -> list[Region]:
        """See `Source`; the whole image by default."""
        return [Region(0, height, 0, width)]

    def settings(self) -> dict[str, Any]:
        """See `Source`."""
        return {"size": self.size}

    @abstractmethod
    def identity(self) -> str:
        """See `Source`."""

    def setup(self, stage: str | None = None) -> None:
        """List the images and open the cache, building it if necessary; a second call does nothing."""
        if self._splits:
            return
        items = self.items()
        images: cache.Mapped | cache.OnTheFly
        cache_dir = Path(self.cache_dir or platformdirs.user_cache_dir("srcolor", appauthor=False)).expanduser()
        if self.cache:
            self.index, images = cache.open_cache(self, items, cache_dir, self.cache_limit_gb)
        else:
            self.index, images = cache.open_index(self, items, cache_dir)
        table = self.index.crops
        gray = int(table[:, c.GRAY].sum())
        if self.drop_gray:
            log.info("data.drop_gray: excluded %d of %d crops, which are nearly gray or toned", gray, len(table))
            table = table[table[:, c.GRAY] == 0]
        split_of = np.where(table[:, c.SPLIT] < 0, self.index.splits[table[:, c.IMAGE]], table[:, c.SPLIT])
        for number, split in enumerate(c.SPLITS):
            move, flips = (self.random_crop, self.flips) if split == "train" else (False, "none")
            self._splits[split] = Crops(images, table[split_of == number], self.size, move=move, flips=flips)
            if not len(self._splits[split]):
                if self.drop_gray and gray:
                    raise UserError(
                        f"the {split} split has no color crops: {gray} of {len(self.index.crops)} crops are nearly "
                        "gray or toned. Add color images, or include gray ones with data.drop_gray=false."
                    )
                raise UserError(
                    f"the {split} split has no {self.size}x{self.size} crops. Reduce size=... or add images."
                )
        self._report()

    def _report(self) -> None:
        index = self.index
        crops = ", ".join(f"{len(crops)} {split}" for split, crops in self._splits.items())
        flat = f"; {index.flat} blank crops skipped" if index.flat else ""
        log.info("%d images, %dx%d crops: %s%s", len(index.names), self.size, self.size, crops, flat)
        if index.skipped:
            log.warning("%d file(s) skipped, listed in split.csv:\n%s", len(index.skipped), by_reason(index.skipped))

    def name(self, split: str, row: int) -> str:
        """Return the name of a sample: its image, and the corner of the crop (`name@top,left`)."""
        crop = self._splits[split].table[row]
        return f"{self.index.names[crop[c.IMAGE]]}@{crop[c.TOP]},{crop[c.LEFT]}"

    def digests(self, split: str) -> dict[str, str]:
        """See `DataModule`."""
        rows = np.unique(self._splits[split].table[:, c.IMAGE])
        return {self.index.hashes[row].tobytes().hex(): self.index.names[row] for row in rows}

    def decoded_images(self) -> DecodedImages:
        """See `DataModule`."""
        images = self._splits["train"].images
        used = np.unique(np.concatenate([self._splits[split].table[:, c.IMAGE] for split in ("train", "val")]))
        return DecodedImages(self.index.names, used, images.image, images.folder)

    def trained_on(self) -> dict[str, Any]:
        """See `DataModule`."""
        train = self.digests("train")
        cut = json.dumps(self.settings()) if train.keys() & self.digests("test").keys() else None
        rows = [torch.frombuffer(bytearray.fromhex(digest), dtype=torch.uint8) for digest in sorted(train)]
        return {"files": torch.stack(rows), "cut": cut}

    def overlap(self, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """See `DataModule`; a record with the same `cut` is skipped: its training parts are training parts here."""
        tested, cut = self.digests("test"), self.trained_on()["cut"]
        seen = {
            tested[digest]
            for record in records
            if cut is None or record["cut"] != cut
            for digest in tested.keys() & {bytes(row).hex() for row in record["files"].numpy()}
        }
        return sorted(seen)

    def pairs(self, split: str, limit: int | None = None) -> Iterator[Pair]:
        """See `DataModule`; samples are in order, and a limited number of them evenly spaced over the split."""
        crops = self._splits[split]
        count = len(crops) if limit is None else min(limit, len(crops))
        unchanged = Crops(crops.images, crops.table, self.size)
        for rows in (torch.arange(count) * len(crops) // count).split(self.batch_size):
            yield self._pair(unchanged[rows, draws.evaluation(rows)], training=False)

    def augmented(self, row: int, times: int) -> Pair:
        """Return several random augmentations of a training sample, on the CPU."""
        table = torch.rand(times, draws.COLUMNS, generator=torch.Generator().manual_seed(self.seed))
        return self._pair(self._splits["train"][torch.full((times,), row), table], training=True)

    def gray(self, split: str) -> NDArray[np.bool_]:
        """Return which samples of a split are nearly gray or toned."""
        return self._splits[split].table[:, c.GRAY] == 1

    def write_splits(self, path: Path) -> None:
        """Write one row per image and split, then the skipped files."""
        rows: list[tuple[str, str, int, str, str]] = []
        digests = [digest.tobytes().hex() for digest in self.index.hashes]
        for split, crops in self._splits.items():
            images, counts = np.unique(crops.table[:, c.IMAGE], return_counts=True)
            rows += [(self.index.names[i], split, int(n), digests[i], "") for i, n in zip(images, counts, strict=True)]
        rows += [(name, "skipped", 0, "", reason) for name, reason in self.index.skipped]
        with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows([("file", "split", "crops", "sha256", "reason"), *rows])

    def _loader(self, split: str) -> DataLoader[Batch]:
        crops = self._splits[split]
        training = {"seed": self.seed, "length": self.epoch_samples} if split == "train" else {}
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        for name, other in self._splits.items():  # also of later stages, to fail before training
            if len(other) < world:
                raise UserError(
                    f"the {name} split has only {len(other)} crop(s) for {world} processes: reduce trainer.devices=."
                )
        return DataLoader(
            crops,
            sampler=EpochSampler(len(crops), self.batch_size, rank=rank, world=world, **training),
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return batches of the training split, in random order."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return batches of the validation split, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return batches of the test split, in order."""
        return self._loader("test")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the images and rows; the draws stay on the host, where `augment` reads them."""
        images, row = (part.to(device, non_blocking=True) for part in (batch.images, batch.row))
        return Batch(images, batch.draws, row)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Pair:
        """Make pairs on the device: convert to float, zoom and jitter in training, compute and degrade the input."""
        return self._pair(batch, training=self.trainer is not None and self.trainer.training)

    def _pair(self, batch: Batch, *, training: bool) -> Pair:
        images = batch.images.permute(0, 3, 1, 2).float().div_(255)
        if training:
            images = augment.zoom(images, batch.draws, self.zoom)
            images = augment.jitter(images, batch.draws, self.jitter)
        return degrade.degraded(self.pair, images, batch.row, batch.draws, self.degradation)
