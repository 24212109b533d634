"""The LightningDataModule that turns pictures into batches of pairs; each source is a subclass."""

import csv
import json
import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from srcolor.data import augment, cache, draws
from srcolor.data import cells as c
from srcolor.data.cache import Item
from srcolor.data.cells import Pixels, Region
from srcolor.errors import UserError, check_range
from srcolor.images import Pair

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """A batch as the data loader gives it: bytes, and what is needed to make pairs of them.

    Attributes:
        images: (N, size, size, 3) uint8.
        draws: (N, draws.COLUMNS) in [0, 1).
        index: The samples' rows in their split, (N,) int64.
    """

    images: Tensor
    draws: Tensor
    index: Tensor  # type: ignore[assignment]  # in place of tuple.index


Rows = tuple[Tensor, Tensor]


class Crops(Dataset[Batch]):
    """The crops of one split; an element is a whole batch, asked for by its rows and draws."""

    def __init__(self, pictures: cache.Mapped | cache.Decoded, cells: NDArray[np.int32], size: int, move: bool) -> None:
        self.pictures = pictures
        self.cells = cells
        self.size = size
        self.move = move

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.cells)

    def __getitem__(self, rows: Rows) -> Batch:
        """Gathers a batch."""
        index, table = rows
        images = np.empty((len(index), self.size, self.size, 3), np.uint8)
        for image, row, (down, right) in zip(images, index.tolist(), table[:, draws.WINDOW].tolist(), strict=True):
            image[:] = self._crop(self.cells[row].tolist(), down, right)
        return Batch(torch.from_numpy(images), table, index)

    def _crop(self, cell: list[int], down: float, right: float) -> Pixels:
        if self.move:
            top = cell[c.FIRST_TOP] + int(down * (cell[c.LAST_TOP] - cell[c.FIRST_TOP] + 1))
            left = cell[c.FIRST_LEFT] + int(right * (cell[c.LAST_LEFT] - cell[c.FIRST_LEFT] + 1))
            window = self.pictures.crop(cell[c.IMAGE], top, left, self.size)
            if (top, left) == (cell[c.TOP], cell[c.LEFT]) or not c.is_flat(window):
                return window
        return self.pictures.crop(cell[c.IMAGE], cell[c.TOP], cell[c.LEFT], self.size)


class Epoch(Sampler[Rows]):
    """Batches of rows: in training in the epoch's own random order, else one after the other.

    Several processes share each batch of training, as one process would draw it at `world` times the batch size; the
    last is filled up with samples of the first, so that all have as many. In evaluation each has every `world`-th row,
    and none has one that another has.

    Args:
        rows: How many samples the split has.
        batch_size: Of this process.
        seed: Of the run, in training; else None.
        length: How many samples an epoch of training has; None for as many as there are.
        rank: Number of this process.
        world: How many processes there are.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        *,
        seed: int | None = None,
        length: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.length = length or rows
        self.rank = rank
        self.world = world
        self.number = 0

    def set_epoch(self, number: int) -> None:
        """Says which epoch comes next; Lightning calls this."""
        self.number = number

    def __len__(self) -> int:
        """Number of batches of this process."""
        if self.seed is None:
            return -(-len(range(self.rank, self.rows, self.world)) // self.batch_size)
        return -(-self.length // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[Rows]:
        """Yields rows and draws, a batch at a time."""
        if self.seed is None:
            for index in torch.arange(self.rank, self.rows, self.world).split(self.batch_size):
                yield index, torch.zeros(len(index), draws.COLUMNS)
            return
        order, table = draws.epoch(self.seed, self.number, self.rows, self.length)
        filled = torch.arange(self.length + -self.length % self.world) % self.length
        for places in filled.split(self.batch_size * self.world):
            mine = places[self.rank :: self.world]
            yield order[mine], table[mine]


@dataclass(kw_only=True, eq=False)
class ImageDataModule(LightningDataModule):
    """Pairs made on the fly of the pictures of a source.

    A subclass says what the pictures are: `items`, `decode`, `regions`, `settings` (see `cache.Source`)
    and `root`, which tells its cache from others. An image is decoded once, into a memory-mapped
    cache; a batch is then a gather of crops, and augmentation and pairs are made a batch at a time
    on the device that trains.

    Args:
        size: Side of the full-size crops, in pixels.
        seed: Decides order, windows, flips, zoom and jitter, with the epoch and the position in it.
        pair: Makes a `Pair` of images (N, 3, size, size) and rows (N,).
        batch_size: Samples a batch, in training and evaluation.
        epoch_samples: How many samples an epoch has: validation and checkpoints come at its end. The training
            set is gone through again and again, in a new order each time, across epochs. None: once an epoch.
        flips: `none`, `horizontal` or `dihedral`: see `augment.flip`.
        zoom: Least share of a crop's side that training keeps of it, see `augment.zoom`; 1 for all.
        jitter: Strength of the colour jitter, see `augment.jitter`; 0 for none.
        workers: Processes that gather batches. With the cache none is needed.
        cache: Whether to decode once into the cache, or each time a picture is used.
        cache_dir: Where caches lie; None for the user's cache folder.
        cache_limit_gb: How large all caches in `cache_dir` may become, in 10^9 bytes; the least recently used are
            removed.
        drop_gray: Whether crops without colours (`cells.is_gray`) are left out of every split.
    """

    size: int
    pair: Callable[[Tensor, Tensor], Pair]
    seed: int = 0
    batch_size: int = 8
    epoch_samples: int | None = 2000
    flips: str = "dihedral"
    zoom: float = 1.0
    jitter: float = 0.0
    workers: int = 0
    cache: bool = True
    cache_dir: str | None = None
    cache_limit_gb: float = 20
    drop_gray: bool = False

    random_crop = False

    def __post_init__(self) -> None:
        """Checks what can be checked before a picture is read."""
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
        self._splits: dict[str, Crops] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process needs to decode: not the trainer, and not what was set up."""
        return {key: value for key, value in self.__dict__.items() if key not in ("trainer", "_splits", "index")}

    @abstractmethod
    def items(self) -> list[Item]:
        """See `cache.Source`."""

    @abstractmethod
    def decode(self, item: Item) -> tuple[Pixels, str]:
        """See `cache.Source`."""

    def regions(self, height: int, width: int) -> list[Region]:
        """See `cache.Source`; the whole picture unless a subclass says otherwise."""
        return [Region(0, height, 0, width)]

    def settings(self) -> dict[str, Any]:
        """See `cache.Source`."""
        return {"size": self.size}

    @abstractmethod
    def identity(self) -> str:
        """What tells this source's cache from others: a folder's path, say."""

    def setup(self, stage: str | None = None) -> None:
        """Lists the pictures and opens the cache, building it if need be; a second call does nothing."""
        if self._splits:
            return
        items = self.items()
        pictures: cache.Mapped | cache.Decoded
        folder = Path(self.cache_dir or platformdirs.user_cache_dir("srcolor", appauthor=False)).expanduser()
        if self.cache:
            self.index, pictures = cache.open_cache(self, self.identity(), folder, items, self.cache_limit_gb)
        else:
            self.index, pictures = cache.open_index(self, self.identity(), folder, items)
        cells = self.index.cells
        gray = int(cells[:, c.GRAY].sum())
        if self.drop_gray:
            log.info("data.drop_gray: %d of %d crops, nearly gray or toned, are left out", gray, len(cells))
            cells = cells[cells[:, c.GRAY] == 0]
        split_of = np.where(cells[:, c.SPLIT] < 0, self.index.splits[cells[:, c.IMAGE]], cells[:, c.SPLIT])
        for number, split in enumerate(c.SPLITS):
            move = self.random_crop and split == "train"
            self._splits[split] = Crops(pictures, cells[split_of == number], self.size, move)
            if not len(self._splits[split]):
                if self.drop_gray and gray:
                    raise UserError(
                        f"no crop with colours for {split}: {gray} of {len(self.index.cells)} crops are nearly gray or "
                        "toned. Add colour pictures, or take gray ones too with data.drop_gray=false."
                    )
                raise UserError(f"no crop of {self.size}x{self.size} for {split}. Lower size=..., or add pictures.")
        self._report()

    def _report(self) -> None:
        index = self.index
        crops = ", ".join(f"{len(crops)} {split}" for split, crops in self._splits.items())
        flat = f"; {index.flat} crops without content left out" if index.flat else ""
        log.info("%d pictures, crops of %dx%d: %s%s", len(index.names), self.size, self.size, crops, flat)
        if index.skipped:
            log.warning(
                "%d file(s) skipped, listed in split.csv:\n%s", len(index.skipped), cache.by_reason(index.skipped)
            )

    def name(self, split: str, row: int) -> str:
        """Names a sample: its picture, and where in it the crop lies (`name@top,left`)."""
        cell = self._splits[split].cells[row]
        return f"{self.index.names[cell[c.IMAGE]]}@{cell[c.TOP]},{cell[c.LEFT]}"

    def sets(self, rows: Iterable[int]) -> tuple[str, ...]:
        """Names the set of each test image, where there are several; there are none here."""
        return ()

    def digests(self, split: str) -> dict[str, str]:
        """Names of the pictures of a split, by the SHA-256 of their files."""
        pictures = np.unique(self._splits[split].cells[:, c.IMAGE])
        return {self.index.hashes[i].tobytes().hex(): self.index.names[i] for i in pictures}

    def prints(self) -> tuple[list[str], NDArray[np.uint8]]:
        """Names and fingerprints, (n, 18), of the pictures that training and validation see; see `leaks.check`."""
        seen = np.concatenate([self._splits[split].cells[:, c.IMAGE] for split in ("train", "val")])
        pictures = np.unique(seen)
        return [self.index.names[i] for i in pictures], self.index.prints[pictures]

    def trained_on(self) -> dict[str, Any]:
        """What a network that is trained on this must not be tested on; see `overlap`.

        Returns:
            `files`: SHA-256 of the training pictures' files, (N, 32) uint8. `cut`: where a picture has parts in the
            training and the test split, what decides them; else None.
        """
        train = self.digests("train")
        cut = json.dumps(self.settings()) if train.keys() & self.digests("test").keys() else None
        rows = [torch.frombuffer(bytearray.fromhex(digest), dtype=torch.uint8) for digest in sorted(train)]
        return {"files": torch.stack(rows), "cut": cut}

    def overlap(self, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """Names the test pictures that networks were trained on.

        Args:
            records: As of `trained_on`. One whose pictures are cut as they are here is passed over: its training
                parts are training parts here.
        """
        tested, cut = self.digests("test"), self.trained_on()["cut"]
        seen = {
            tested[digest]
            for record in records
            if cut is None or record["cut"] != cut
            for digest in tested.keys() & {bytes(row).hex() for row in record["files"].numpy()}
        }
        return sorted(seen)

    def pairs(self, split: str, most: int | None = None) -> Iterator[Pair]:
        """Goes through a split in order, without augmentation, on the CPU.

        Args:
            split: `train`, `val` or `test`.
            most: Not more than so many samples, spread evenly over the split; None for all.
        """
        crops = self._splits[split]
        count = len(crops) if most is None else min(most, len(crops))
        rows = torch.arange(count) * len(crops) // count
        still = Crops(crops.pictures, crops.cells, self.size, move=False)
        for index in rows.split(self.batch_size):
            batch = still[index, torch.zeros(len(index), draws.COLUMNS)]
            yield self.pair(batch.images.permute(0, 3, 1, 2).float().div_(255), index)

    def augmented(self, row: int, times: int) -> Pair:
        """A training sample as it might be drawn, several times over, on the CPU."""
        table = torch.rand(times, draws.COLUMNS, generator=torch.Generator().manual_seed(self.seed))
        return self._pair(self._splits["train"][torch.full((times,), row), table], training=True)

    def gray(self, split: str) -> NDArray[np.bool_]:
        """Which samples of a split are nearly gray or toned."""
        return self._splits[split].cells[:, c.GRAY] == 1

    def write_splits(self, path: Path) -> None:
        """Writes which picture went where: a row a picture and split, then the skipped files."""
        rows: list[tuple[str, str, int, str, str]] = []
        digests = [digest.tobytes().hex() for digest in self.index.hashes]
        for split, crops in self._splits.items():
            images, counts = np.unique(crops.cells[:, c.IMAGE], return_counts=True)
            rows += [(self.index.names[i], split, int(n), digests[i], "") for i, n in zip(images, counts, strict=True)]
        rows += [(name, "skipped", 0, "", reason) for name, reason in self.index.skipped]
        with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows([("file", "split", "crops", "sha256", "reason"), *rows])

    def _loader(self, split: str) -> DataLoader[Batch]:
        crops = self._splits[split]
        training = {"seed": self.seed, "length": self.epoch_samples} if split == "train" else {}
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        for name, others in self._splits.items():  # all, as the test comes hours after the first batch
            if len(others) < world:
                raise UserError(
                    f"{len(others)} crop(s) for {name}, for {world} processes: give fewer trainer.devices=."
                )
        return DataLoader(
            crops,
            sampler=Epoch(len(crops), self.batch_size, rank=rank, world=world, **training),
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the training split, in an order of each epoch's own."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of the validation split, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test split, in order."""
        return self._loader("test")

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Notes when the loader handed the batch over: up to here the device waited for data."""
        self.handed_over = time.monotonic()
        return batch

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the images and rows; the draws stay on the host, where `augment` reads them."""
        images, index = (part.to(device, non_blocking=True) for part in (batch.images, batch.index))
        return Batch(images, batch.draws, index)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Pair:
        """Makes pairs on the device: to float, augmented in training, input from target."""
        return self._pair(batch, training=self.trainer is not None and self.trainer.training)

    def _pair(self, batch: Batch, *, training: bool) -> Pair:
        pixels = batch.images.permute(0, 3, 1, 2)
        if training:
            pixels = augment.flip(pixels, batch.draws, self.flips)  # as bytes: a quarter of the memory to move
        images = pixels.float().div_(255)
        if training:
            images = augment.zoom(images, batch.draws, self.zoom)
            images = augment.jitter(images, batch.draws, self.jitter)
        return self.pair(images, batch.index)
