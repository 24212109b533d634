"""The interface of a datamodule for training, evaluation and comparison, with default implementations.

Any `LightningDataModule` whose batches are `Pair`s can be trained by `train.py` once it inherits the defaults:

    class Mine(DataModuleDefaults, LightningDataModule): ...
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from numpy.typing import NDArray

from srcolor.data.crops import Pixels
from srcolor.images import Pair


class DecodedImages(NamedTuple):
    """The images of a datamodule, for checks of their content.

    Attributes:
        names: Image names.
        used: Rows of the images in training and validation.
        read: Returns the image of a row, height x width x 3 or more planes.
        folder: Folder in which results computed from them can be cached; if None, they are not cached.
    """

    names: list[str]
    used: NDArray[Any]
    read: Callable[[int], Pixels]
    folder: Path | None


class DataModule(Protocol):
    """The members of a datamodule beyond Lightning's; `DataModuleDefaults` implements all of them except `setup`.

    Attributes:
        folders: Absolute paths of the data, which a run records as its `data.root`; empty without any.
        handed_over: Time at which the last batch left the data loader (`time.monotonic`), the end of the wait for data.
    """

    folders: Sequence[Path]
    handed_over: float

    def setup(self, stage: str | None = None) -> None:
        """Prepare the splits; a second call does nothing."""

    def name(self, split: str, row: int) -> str:
        """Return the name of a sample; error messages and `per_image.csv` show it."""

    def sets(self, rows: Iterable[int]) -> tuple[str, ...]:
        """Return the set name of each of these test images, in order; empty if there is only one set."""

    def digests(self, split: str) -> dict[str, str]:
        """Return a dictionary from the SHA-256 of each file of a split, in hex, to the name of its image."""

    def trained_on(self) -> dict[str, Any]:
        """Return the record of the training images that goes into checkpoints.

        Returns:
            `files`: SHA-256 of the training images' files, (N, 32) uint8. `cut`: if an image has parts in both the
            training and the test split, the settings that determine the parts; else None.
        """

    def overlap(self, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """Return the list of names of the test images that are in these `trained_on` records."""

    def pairs(self, split: str, limit: int | None = None) -> Iterator[Pair]:
        """Yield pairs of a split on the CPU, without augmentation.

        Args:
            split: `train`, `val` or `test`.
            limit: Maximum number of samples; if None, all.
        """

    def decoded_images(self) -> DecodedImages | None:
        """Return the images themselves; None if they cannot be checked."""

    def write_splits(self, path: Path) -> None:
        """Write the split of each image, as CSV."""


class DataModuleDefaults:
    """Defaults of `DataModule` for samples without files: nothing is recorded."""

    folders: Sequence[Path] = ()
    handed_over = 0.0

    def name(self, split: str, row: int) -> str:
        """Return the split and the row."""
        return f"{split}/{row}"

    def sets(self, rows: Iterable[int]) -> tuple[str, ...]:
        """Return no sets."""
        return ()

    def digests(self, split: str) -> dict[str, str]:
        """Return no files."""
        return {}

    def trained_on(self) -> dict[str, Any]:
        """Return a record without files."""
        return {"files": torch.zeros(0, 32, dtype=torch.uint8), "cut": None}

    def overlap(self, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """Return no names."""
        return []

    def pairs(self, split: str, limit: int | None = None) -> Iterator[Pair]:
        """Yield the batches of the split's data loader."""
        count = 0
        for batch in getattr(self, f"{split}_dataloader")():
            part = Pair(*(tensor[: None if limit is None else limit - count] for tensor in batch))
            yield part
            count += len(part.row)
            if count == limit:
                return

    def decoded_images(self) -> DecodedImages | None:
        """Return None."""
        return None

    def write_splits(self, path: Path) -> None:
        """Write the header alone."""
        path.write_text("file,split\n", encoding="utf-8")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Record when the data loader returned the batch."""
        self.handed_over = time.monotonic()
        return batch
