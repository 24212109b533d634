"""Helpers shared by the tests of the data package."""

import numpy as np
import torch
from conftest import COMMON, FILES
from PIL import Image

from srcolor.data.sources.folder import Folder


def folder(root, stage=None, **changes):
    data = Folder(**(COMMON | FILES | {"root": root if isinstance(root, list) else str(root)} | changes))
    data.setup(stage)
    return data


def noise(root, paths, seed=0):
    """Write images of 32x32 under a root; their bytes are the same on any machine."""
    random = np.random.default_rng(seed)
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(root / path)


def batches(loader):
    return [tuple(part.clone() for part in batch) for batch in loader]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, two in zip(first, second, strict=True):
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a, b)


def names(data, split):
    return {data.name(split, row).split("@")[0] for row in range(len(data._splits[split]))}
