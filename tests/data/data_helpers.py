"""Helpers shared by the tests of the data package."""

import torch
from conftest import COMMON, FILES

from srcolor.data.sources.folder import Folder


def folder(root, **changes):
    data = Folder(**(COMMON | FILES | {"root": str(root)} | changes))
    data.setup()
    return data


def batches(loader):
    return [tuple(part.clone() for part in batch) for batch in loader]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, two in zip(first, second, strict=True):
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a, b)


def names(data, split):
    return {data.name(split, row).split("@")[0] for row in range(len(data._splits[split]))}
