"""Image files of any size, with 8 or 16 bits per channel, transparency, color profile and EXIF."""

import logging
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from srcolor.errors import UserError

if TYPE_CHECKING:
    from srcolor.inference.condition import Condition

logging.getLogger("pyvips").setLevel(logging.WARNING)  # it logs every thread
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp")
REFUSED = (".heic", ".heif")  # their codec is patented
FORMATS = {"jpg": ".jpg", "png": ".png", "webp": ".webp", "avif": ".avif", "tiff": ".tif"}  # with their suffixes
LOSSY = (".jpg", ".jpeg", ".webp", ".avif")  # all have 8 bits per channel here
LARGEST_TIFF = 3_500_000_000  # maximum bytes of pixels in a plain TIFF, which is limited to 4 GiB
# Metadata that is copied, in addition to the description of a TIFF.
METADATA = ("exif-data", "xmp-data", "iptc-data", "icc-profile-data")
SAVING: dict[str, dict[str, Any]] = {
    ".jpg": {"Q": 95, "subsample_mode": "off"},
    ".jpeg": {"Q": 95, "subsample_mode": "off"},
    ".webp": {"Q": 95, "smart_subsample": True},
    ".tif": {"compression": "deflate", "predictor": "horizontal"},
    ".tiff": {"compression": "deflate", "predictor": "horizontal"},
    ".png": {},
    ".avif": {"Q": 80, "subsample_mode": "off"},
}


@dataclass
class Picture:
    """An opened image file, decoded on indexing.

    `picture[top:bottom, left:right]` is a part of it, (h, w, 3), uint8 or uint16, RGB, upright.

    Attributes:
        image: Color channels.
        alpha: Transparency, if any.
        remarks: Messages about how it was read.
        gray: Whether the file has a single color channel.
        condition: Noise, JPEG blocks and contrast, if it was examined.
    """

    image: pyvips.Image
    alpha: pyvips.Image | None = None
    remarks: list[str] = field(default_factory=list)
    gray: bool = False
    condition: "Condition | None" = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.width, self.image.height

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, 3."""
        return self.image.height, self.image.width, 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or uint16."""
        return np.dtype(np.uint16 if self.image.format == "ushort" else np.uint8)

    def load(self) -> None:
        """Decode the whole image into memory.

        Raises:
            UserError: If it cannot be decoded.
        """
        try:
            self.image = self.image.copy_memory()
        except pyvips.Error as error:
            raise UserError(_reason(error)) from error

    def has_color(self) -> bool:
        """Return whether the image has color: red, green and blue differ by more than 8/255 on average.

        Toned prints count. About 64x64 pixels are sampled.

        Raises:
            UserError: If it cannot be decoded.
        """
        return bool(np.ptp(self._sample().astype(float), axis=2).mean() > 8 / 255 * np.iinfo(self.dtype).max)

    def is_toned(self) -> bool:
        """Return whether the image is toned, as sepia prints are: see `toned.is_toned`.

        Raises:
            UserError: If it cannot be decoded.
        """
        from srcolor import toned  # imports scikit-image, which upscaling does not need

        return toned.is_toned(self._sample().reshape(-1, 3))

    def _sample(self) -> NDArray[Any]:
        try:
            return self.image.subsample(max(1, self.image.width // 64), max(1, self.image.height // 64)).numpy()
        except pyvips.Error as error:
            raise UserError(_reason(error)) from error

    def reduced(self, factor: float) -> NDArray[Any]:
        """Return the image scaled by a factor, (h, w, 3); a factor over 1 does not enlarge it.

        Raises:
            UserError: If it cannot be decoded.
        """
        try:
            return self.image.resize(min(1.0, factor)).numpy()
        except pyvips.Error as error:
            raise UserError(_reason(error)) from error

    def __getitem__(self, part: tuple[slice, slice]) -> NDArray[Any]:
        """Decode a part, rows and columns."""
        rows, columns = part
        top, bottom, _ = rows.indices(self.image.height)
        left, right, _ = columns.indices(self.image.width)
        try:
            return self.image.crop(left, top, right - left, bottom - top).numpy()
        except pyvips.Error as error:
            raise UserError(_reason(error)) from error


def read(path: Path, max_megapixels: float) -> Picture:
    """Open an image file.

    Its EXIF orientation is applied. Gray, palette and CMYK images are converted to RGB. Of multiple frames or pages,
    only the first is read.

    Args:
        path: A JPEG, PNG, WebP, AVIF, TIFF or BMP file.
        max_megapixels: Larger images are rejected.

    Raises:
        UserError: If the file cannot be read, or the image is too large.
    """
    with open(path, "rb") as file:
        head = file.read(4096)
    if not head:
        raise UserError("empty file")
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypheim", b"ftypheis", b"ftypmif1") and b"avif" not in head[:64]:
        raise UserError("HEIC is not supported. Convert it to JPEG or PNG, e.g. with heif-convert of libheif")
    remarks: list[str] = []
    try:
        if head.startswith(b"BM"):
            image = _read_bmp(path, max_megapixels, remarks)
        else:
            image = pyvips.Image.new_from_file(str(path), access="random", fail_on="error", revalidate=True)
    except UnicodeEncodeError as error:
        raise UserError("its path is not valid UTF-8: rename the file or its folder") from error
    except pyvips.Error as error:
        raise UserError(_reason(error)) from error
    _check_size(image.width, image.height, max_megapixels)
    if image.format not in ("uchar", "ushort"):
        raise UserError(f"{image.format} pixels: expected 8 or 16 bits per channel. Convert the file first")
    if image.get_typeof("n-pages") and image.get("n-pages") > 1:
        remarks.append(f"first of {image.get('n-pages')} frames")
    elif head.startswith(b"\x89PNG") and b"acTL" in head:  # animation that libvips ignores
        remarks.append("first of multiple frames")
    try:
        image = image.autorot()
        alpha = None
        if image.hasalpha():
            alpha, image = image[image.bands - 1], image.extract_band(0, n=image.bands - 1)
        gray = image.bands == 1
        if image.interpretation == "cmyk":
            image = image.icc_transform(
                "srgb", embedded=True, input_profile="cmyk", depth=16 if image.format == "ushort" else 8
            )
        elif gray:
            image = image.colourspace("rgb16" if image.format == "ushort" else "srgb")
        if image.bands != 3:
            raise UserError(f"{image.bands} channels: expected gray or RGB, with or without transparency")
    except pyvips.Error as error:
        raise UserError(_reason(error)) from error
    return Picture(image, alpha, remarks, gray)


def to_image(pixels: NDArray[Any]) -> pyvips.Image:
    """Return the libvips image of pixels: RGB, (H, W, 3), uint8 or uint16; or gray, (H, W), uint8."""
    height, width, *bands = pixels.shape
    kind, space = ("ushort", "rgb16") if pixels.dtype == np.uint16 else ("uchar", "srgb" if bands else "b-w")
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, *(bands or [1]), kind)
    return image.copy(interpretation=space)


def resized(image: pyvips.Image, width: int, height: int) -> pyvips.Image:
    """Return the image resized (Lanczos), antialiased if it is reduced; computed when it is written."""
    if (image.width, image.height) == (width, height):
        return image
    result = image.resize(width / image.width, vscale=height / image.height, kernel="lanczos3")
    return result.crop(0, 0, width, height)


def losses(source: Picture, suffix: str) -> list[str]:
    """Return messages about what a file with this suffix cannot store of an image."""
    remarks = []
    if suffix.lower() in LOSSY and source.dtype == np.uint16:
        remarks.append(f"16 bits per channel become 8 in {suffix}")
    if suffix.lower() in (".jpg", ".jpeg") and source.alpha is not None:
        remarks.append(f"transparency dropped: {suffix} has none")
    return remarks


def write(path: Path, image: pyvips.Image, source: Picture, *, gray: bool = False, quality: int | None = None) -> None:
    """Atomically write an image with the metadata of its source.

    Args:
        path: The file; its suffix determines the format.
        image: RGB, 8 or 16 bits per channel; or gray, 8 bits.
        source: The source of the result. Its transparency is resized to the size of the result (Lanczos).
        gray: Whether to write the luma alone.
        quality: Quality of a lossy format, 1 to 100; if None, that of `SAVING`.

    Raises:
        UserError: If the file cannot be written.
    """
    suffix = path.suffix.lower()
    unfinished = path.with_name(f".srcolor-{os.getpid()}.unfinished{path.suffix}")
    keys = [key for key in METADATA if source.image.get_typeof(key)]
    if source.gray and not gray and "icc-profile-data" in keys:
        keys.remove("icc-profile-data")  # a profile of gray
    try:
        if gray:
            is_16bit = image.format == "ushort"
            image = image.recomb([[0.299, 0.587, 0.114]]).rint().cast(image.format)
            image = image.copy(interpretation="grey16" if is_16bit else "b-w")
        if suffix == ".bmp":
            dpi = (25.4 * source.image.xres, 25.4 * source.image.yres)
            Image.fromarray(image.numpy()).save(unfinished, dpi=dpi)
        else:
            if source.alpha is not None and suffix not in (".jpg", ".jpeg"):
                image = image.bandjoin(resized(source.alpha, image.width, image.height))
            image = image.copy(xres=source.image.xres, yres=source.image.yres)
            for key in keys:
                value = source.image.get(key)
                if key == "xmp-data":  # the result is upright
                    value = re.sub(rb"(tiff:Orientation(?:>|=['\"]))[2-8]", rb"\g<1>1", value)
                image.set_type(pyvips.GValue.blob_type, key, value)
            if source.image.get_typeof("image-description"):
                image.set_type(pyvips.GValue.gstr_type, "image-description", source.image.get("image-description"))
            image.set_type(pyvips.GValue.blob_type, "jpeg-thumbnail-data", b"")  # of the source
            image.set_type(pyvips.GValue.gint_type, "orientation", 1)
            options = SAVING[suffix] | ({} if quality is None or suffix not in LOSSY else {"Q": quality})
            if suffix in LOSSY and image.format == "ushort":
                image = (image / 257).rint().cast("uchar").copy(interpretation="b-w" if image.bands < 3 else "srgb")
            large = image.width * image.height * image.bands * (2 if image.format == "ushort" else 1) > LARGEST_TIFF
            if suffix in (".tif", ".tiff") and large:
                options["bigtiff"] = True
            image.write_to_file(str(unfinished), **options)
        os.replace(unfinished, path)
    except (pyvips.Error, OSError) as error:
        free = shutil.disk_usage(path.parent).free / 1e6
        reason = str(error) if isinstance(error, OSError) else _detail(error)
        raise UserError(
            f"cannot write {path} ({reason}); {free:,.0f} MB are free there. Free some space, or choose another "
            "folder with -o"
        ) from error
    finally:
        with suppress(OSError):
            os.truncate(unfinished, 0)  # frees its space even while libvips holds it open
        unfinished.unlink(missing_ok=True)


def _read_bmp(path: Path, max_megapixels: float, remarks: list[str]) -> pyvips.Image:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # the limit is `max_megapixels`
    try:
        with Image.open(path) as file:
            _check_size(*file.size, max_megapixels)
            if file.has_transparency_data:
                remarks.append("transparency dropped: programs disagree on it in BMP files")
            across, down = (float(dpi) / 25.4 for dpi in file.info.get("dpi", (25.4, 25.4)))
            picture = file.convert("L" if file.mode in ("1", "L") else "RGB")
    except UnidentifiedImageError:
        raise UserError("not a readable image") from None
    except OSError as error:
        raise UserError(str(error)) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    image = pyvips.Image.new_from_array(np.asarray(picture), interpretation="b-w" if picture.mode == "L" else "srgb")
    return image.copy(xres=across, yres=down)


def _check_size(width: int, height: int, max_megapixels: float) -> None:
    if width * height > max_megapixels * 1e6:
        raise UserError(
            f"{width}x{height} is {width * height / 1e6:.3g} megapixels: possible decompression bomb. Raise "
            f"--max-megapixels, now {max_megapixels:g}, to allow it"
        )


def _reason(error: pyvips.Error) -> str:
    """Return why an image cannot be read."""
    detail = _detail(error)
    if "not a known file format" in detail:
        return "not a readable image"
    return f"damaged or truncated ({detail})"


def _detail(error: pyvips.Error) -> str:
    # Threads share the buffer of the detail: another thread may have emptied it.
    return next(iter(error.detail.strip().splitlines()), error.message)
