"""Your own images with a mask each: folders `images` and `masks`."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srcolor.data.crops import IMAGE, Pixels
from srcolor.data.index import Item, SourceError
from srcolor.data.pairs_segment import IGNORED
from srcolor.data.sources.files import Files, file_stamp
from srcolor.data.sources.folder import SPLIT_FOLDERS, SUFFIXES
from srcolor.errors import UserError, check_range

EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height
DEPTH = 24  # position of the bit depth in a PNG file


@dataclass(kw_only=True, eq=False)
class Masks(Files):
    """Images with a mask each; see `Files` for the other arguments.

    `images/` has the images and `masks/` a PNG file of the same name for each, `images/a.jpg` and `masks/a.png`. Its
    pixels are class numbers: gray of up to 8 bits, or indices into a palette. Split 80/10/10 by the image's content. If
    the two folders are in `train`, `val` and `test`, those are the splits; without `val`, it is taken from `train`.

    Args:
        root: The folder; `~` is expanded.
        classes: Number of classes. Class 0 is the background. With two, 255 also means class 1.
        ignore_index: Class number of pixels that neither training nor evaluation counts; if None, all count.
        crop: See `Files`.
        flips: See `ImageDataModule`.
    """

    classes: int = 2
    ignore_index: int | None = None
    crop: str = "random"
    flips: str = "dihedral"

    planes = 4

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.root is None:
            raise UserError("data=masks requires data.root=/full/path, a folder with images/ and masks/.")
        super().__post_init__()
        self._masks: dict[str, Path] = {}  # by the name of the image
        check_range("data.classes", self.classes, 2, IGNORED)
        if self.ignore_index is not None:
            check_range("data.ignore_index", self.ignore_index, 0, 255)

    def items(self) -> list[Item]:
        """Return the images, sorted by name; the stamp of an image includes that of its mask.

        Raises:
            UserError: If there are no images, two have the same name, or an image or a mask has no counterpart.
        """
        root = self.folder
        folders = self._folders()
        splits = folders if len(set(folders.values())) > 1 else dict.fromkeys(folders)
        items: list[Item] = []
        for prefix, split in splits.items():
            images = _by_stem(root / prefix / "images", SUFFIXES)
            masks = _by_stem(root / prefix / "masks", (".png",))
            for kind, other, lacking in (
                ("image", "mask", images.keys() - masks.keys()),
                ("mask", "image", masks.keys() - images.keys()),
            ):
                if lacking:
                    file = (images if kind == "image" else masks)[min(lacking)].relative_to(root)
                    article = "an" if other == "image" else "a"
                    raise UserError(
                        f"{root}: {len(lacking)} {kind}(s) without {article} {other}, first {file}: expected "
                        f"images/NAME.jpg and masks/NAME.png. Add the {other}, or remove the {kind}."
                    )
            for stem, path in images.items():
                name, stamp = path.relative_to(root).as_posix(), f"{file_stamp(path)} {file_stamp(masks[stem])}"
                items.append(Item(name, stamp, split))
                self._masks[name] = masks[stem]
        return sorted(items, key=lambda item: item.name)

    def _folders(self) -> dict[str, str | None]:
        """Return the folders with images and masks, relative to the root, with the split of each."""
        root = self.folder
        folders: dict[str, str | None] = {
            path.name: SPLIT_FOLDERS[path.name.lower()]
            for path in (sorted(root.iterdir()) if root.is_dir() else ())
            if path.name.lower() in SPLIT_FOLDERS and (path / "images").is_dir()
        }
        whole = (root / "images").is_dir()
        if whole and folders:
            raise UserError(
                f"data.root={root} has images/ and {next(iter(folders))}/images/: expected only one. Remove the other."
            )
        if not whole and not folders:
            raise UserError(
                f"data.root={root}: expected the folders images/ and masks/, directly in it or in train/, val/ and "
                "test/. Correct the path, or move the files there."
            )
        return {"": None} if whole else folders

    def decode(self, item: Item) -> tuple[Pixels, str]:
        """Read an image and its mask, crop and resize both; the fourth plane has class numbers, 255 where ignored.

        Raises:
            SourceError: If the mask is unusable.
            UserError: See `Files`.
            OSError: See `Files`.
        """
        rgb, digest = super().decode(item)
        with Image.open(self.path(item.name)) as image:
            size = image.size
            if image.getexif().get(EXIF_ORIENTATION) in SIDEWAYS:
                size = size[::-1]
        numbers = self._class_numbers(self._masks[item.name], size)
        return np.dstack([rgb, self.fit(Image.fromarray(numbers), Image.Resampling.NEAREST)]), digest

    def _class_numbers(self, path: Path, size: tuple[int, int]) -> Pixels:
        """Read a mask, (H, W).

        Raises:
            SourceError: If it is not a mask of an image of this size with these classes.
        """
        try:
            numbers, mode = _read_unscaled(path)
        except OSError as error:
            raise SourceError(f"{path}: the mask cannot be read ({error}). Replace the file.") from None
        if mode not in ("1", "L", "P"):
            raise SourceError(
                f"{path}: the mask's mode is {mode}, expected class numbers in gray of up to 8 bits or in a palette. "
                "Convert a black and white mask with Image.open(mask).convert('1').save(mask), and map colors to "
                "class numbers."
            )
        height, width = numbers.shape
        if (width, height) != size:
            raise SourceError(
                f"{path}: the mask has {width}x{height} pixels, but its image has {size[0]}x{size[1]}. Save both at "
                "the same size."
            )
        result = numbers.copy()
        if self.classes == 2:
            result[numbers == 255] = 1
        if self.ignore_index is not None:
            result[numbers == self.ignore_index] = IGNORED
        unknown = (result >= self.classes) & (numbers != self.ignore_index)
        if unknown.any():
            raise SourceError(
                f"{path}: the mask has the class number {numbers[unknown].max()}, expected 0 to {self.classes - 1}. "
                "Set data.classes=, or data.ignore_index= for pixels that do not count."
            )
        return result

    def setup(self, stage: str | None = None) -> None:
        """See `ImageDataModule`.

        Raises:
            UserError: If a mask is unusable, or no mask of the training split has a class other than 0.
        """
        super().setup(stage)
        if stage == "fit" and not any(self._has_foreground()):
            raise UserError(
                f"data.root={self.folder}: all masks of the training split are empty, expected some pixels of the "
                "classes from 1 on. Check that the masks contain class numbers, or 0 and 255 for two classes."
            )

    def _has_foreground(self) -> Iterator[bool]:
        """Yield for each training image whether its mask has a class other than the background."""
        crops = self._splits["train"]
        for row in np.unique(crops.table[:, IMAGE]):
            mask = crops.images.image(row)[..., 3]
            yield bool(((mask > 0) & (mask != IGNORED)).any())

    def settings(self) -> dict[str, Any]:
        """See `Source`."""
        return super().settings() | {"classes": self.classes, "ignore_index": self.ignore_index}


def _read_unscaled(path: Path) -> tuple[Pixels, str]:
    """Return the numbers of a mask as stored, (H, W), and its mode; in a mode of several channels, (H, W, C).

    Pillow scales gray of 2 and 4 bits to 0..255, which is undone.

    Raises:
        OSError: If Pillow cannot read it.
    """
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as mask:
        numbers = np.asarray(mask).astype(np.uint8)
        if mask.format == "PNG" and mask.mode == "L":
            numbers //= 255 // (2 ** content[DEPTH] - 1)
        return numbers, mask.mode


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Return the files of a folder with these suffixes, by name without suffix, sorted.

    Raises:
        UserError: If it is not a folder, has no such file, or two files have the same stem.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in files:
            raise UserError(
                f"{folder}: {files[path.stem].name} and {path.name} share a name; names must be unique. Rename or "
                "remove one."
            )
        files[path.stem] = path
    if not files:
        raise UserError(f"{folder}: expected files ending in {', '.join(suffixes)}, found none. Add them.")
    return files
