"""Your own images with a mask each: folders `images` and `masks`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srcolor.data.crops import IMAGE, Pixels
from srcolor.data.index import Item
from srcolor.data.pairs_segment import IGNORED
from srcolor.data.sources.files import Files, file_stamp
from srcolor.data.sources.folder import SPLIT_FOLDERS, SUFFIXES
from srcolor.errors import UserError, check_range

EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height
BAD_MASK = "mask: "  # start of the reasons that are errors of the data set, not of a single file


@dataclass(kw_only=True, eq=False)
class Masks(Files):
    """Images with a mask each; see `Files` for the other arguments.

    `images/` has the images and `masks/` a PNG file of the same name for each, `images/a.jpg` and `masks/a.png`. Its
    pixels are class numbers: 1-bit, 8-bit gray, or indices into a palette. Split 80/10/10 by the content of the image.
    If the two folders are in `train`, `val` and `test`, those are the splits; without `val`, it is taken from `train`.

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
                    raise UserError(
                        f"{root}: {len(lacking)} {kind}(s) without {other}, first {file}: expected images/NAME.jpg and "
                        f"masks/NAME.png. Add the {other}, or move the {kind} away."
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
                f"data.root={root} has images/ and {next(iter(folders))}/images/: expected one of both. Move the other "
                "away."
            )
        if not whole and not folders:
            raise UserError(
                f"data.root={root}: expected the folders images/ and masks/, directly in it or in train/, val/ and "
                "test/. Correct the path, or move the files there."
            )
        return {"": None} if whole else folders

    def decode(self, item: Item) -> tuple[Pixels, str]:
        """Read an image and its mask, crop and resize both; the fourth plane has class numbers, 255 where ignored."""
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
            UserError: If it is not a mask of an image of this size with these classes.
        """
        try:
            with Image.open(path) as mask:
                mask.load()
        except OSError as error:
            raise UserError(f"{BAD_MASK}cannot be read ({error}). Replace the file") from None
        if mask.mode not in ("1", "L", "P"):
            raise UserError(
                f"{BAD_MASK}its mode is {mask.mode}, expected class numbers in 1-bit, 8-bit gray or palette PNG. "
                "Convert a black and white mask with Image.open(mask).convert('1').save(mask), and map colors to "
                "class numbers"
            )
        if mask.size != size:
            raise UserError(
                f"{BAD_MASK}it has {mask.width}x{mask.height} pixels, its image {size[0]}x{size[1]}. Save both at the "
                "same size"
            )
        numbers = np.asarray(mask).astype(np.uint8)
        result = numbers.copy()
        if self.classes == 2:
            result[numbers == 255] = 1
        if self.ignore_index is not None:
            result[numbers == self.ignore_index] = IGNORED
        unknown = (result >= self.classes) & (numbers != self.ignore_index)
        if unknown.any():
            raise UserError(
                f"{BAD_MASK}it has the class number {numbers[unknown].max()}, expected 0 to {self.classes - 1}. Set "
                "data.classes=, or data.ignore_index= for pixels that do not count"
            )
        return result

    def setup(self, stage: str | None = None) -> None:
        """See `ImageDataModule`.

        Raises:
            UserError: If a mask cannot be used, or no mask of the training split has a class other than 0.
        """
        super().setup(stage)
        bad = [(name, reason) for name, reason in self.index.skipped if reason.startswith(BAD_MASK)]
        if bad:
            name, reason = bad[0]
            raise UserError(
                f"{len(bad)} mask(s) cannot be used, first {self._masks[name]}: {reason.removeprefix(BAD_MASK)}."
            )
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
                f"{folder}: {files[path.stem].name} and {path.name} have the same mask or image, expected one file of "
                "each name. Rename or remove one."
            )
        files[path.stem] = path
    if not files:
        raise UserError(f"{folder}: expected files ending in {', '.join(suffixes)}, found none. Add them.")
    return files
