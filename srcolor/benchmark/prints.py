"""Perceptual hashes of images, which near copies share."""

import logging
import os
from contextlib import suppress
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from srcolor.data.index import on_threads
from srcolor.data.locks import locked
from srcolor.data.protocol import DecodedImages

log = logging.getLogger(__name__)

SIDE = 12  # a fingerprint has SIDE² bits
BYTES = SIDE**2 // 8


def fingerprint(image: Image.Image) -> NDArray[np.uint8]:
    """Return the perceptual hash (by discrete cosine transform) of an image as packed bits, (18,)."""
    return np.packbits(imagehash.phash(image, hash_size=SIDE).hash)


def fingerprints(images: DecodedImages) -> NDArray[np.uint8]:
    """Return the fingerprint of every image, (n, 18).

    They are stored as `prints.npy` in the images' folder. If multiple processes need them, one computes them and
    the others wait.
    """
    if images.folder is None:
        return _compute(images)
    file = images.folder / "prints.npy"
    table = _load(file, len(images.names))
    if table is None:
        try:
            with locked(images.folder):
                table = _load(file, len(images.names))  # another process may have stored them meanwhile
                if table is None:
                    table = _compute(images)
                    unfinished = file.with_name(f"prints-{os.getpid()}.npy")
                    np.save(unfinished, table)
                    unfinished.replace(file)
        except OSError as error:
            log.warning("Could not save %s (%s); every run will recompute the perceptual hashes.", file, error)
    return _compute(images) if table is None else table


def _load(file: Path, count: int) -> NDArray[np.uint8] | None:
    with suppress(OSError, ValueError, EOFError):  # missing or damaged
        table = np.load(file)
        if table.shape == (count, BYTES):
            return table
    return None


def _compute(images: DecodedImages) -> NDArray[np.uint8]:
    with on_threads() as map_ordered:
        results = map_ordered(
            lambda row: fingerprint(Image.fromarray(images.read(row)[..., :3])), range(len(images.names))
        )
        text = f"Hashing {len(images.names)} images for the leak check"
        return np.stack(list(track(results, text, len(images.names), transient=True)))
