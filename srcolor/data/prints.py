"""Fingerprints of pictures that near copies share."""

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 12  # a fingerprint has SIDE² bits


def fingerprint(picture: Image.Image) -> NDArray[np.uint8]:
    """The perceptual hash (of a discrete cosine transform) of a picture, packed bits, (18,)."""
    return np.packbits(imagehash.phash(picture, hash_size=SIDE).hash)
