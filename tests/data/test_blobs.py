"""The drawn slides: reproducible, and not solved by a threshold."""

import numpy as np
import pytest
import torch
from conftest import COMMON

from srcolor.data.sources import blobs
from srcolor.data.sources.blobs import Blobs, draw
from srcolor.errors import UserError


@pytest.fixture(scope="module")
def slides():
    return [draw(number) for number in range(12)]


def test_a_slide_depends_on_its_number_alone(slides):
    assert np.array_equal(draw(3), slides[3])
    assert not np.array_equal(slides[3][..., :3], slides[4][..., :3])


def test_a_slide_is_rgb_with_cells_of_class_1_on_class_0(slides):
    for slide in slides:
        assert (slide.shape, slide.dtype) == ((256, 256, 4), np.uint8)
        assert set(np.unique(slide[..., 3])) == {0, 1}
    assert 0.1 < np.mean([slide[..., 3].mean() for slide in slides]) < 0.4


def test_cells_are_darker_and_bluer_than_tissue(slides):
    for slide in slides:
        cell, tissue = (slide[slide[..., 3] == number][:, :3].mean(0) for number in (1, 0))
        assert cell.sum() < tissue.sum()
        assert cell[2] - cell[0] > tissue[2] - tissue[0]


def test_no_threshold_of_the_luma_separates_the_cells(slides):
    """Even the best of each slide."""
    best = []
    for slide in slides:
        luma, mask = slide[..., :3] @ [0.299, 0.587, 0.114], slide[..., 3] == 1
        dice = [2 * (mask & (luma < t)).sum() / (mask.sum() + (luma < t).sum()) for t in range(40, 220, 4)]
        best.append(max(dice))
    assert 0.5 < np.mean(best) < 0.9


def test_splits_are_fixed(monkeypatch):
    monkeypatch.setattr(blobs, "SPLIT_COUNTS", {"train": 3, "val": 1, "test": 2})
    data = Blobs(**COMMON | {"size": 128})
    data.setup()
    assert list(data.digests("val").values()) == ["slide_003"]
    assert list(data.digests("test").values()) == ["slide_004", "slide_005"]
    assert len(data._splits["train"]) == 3 * 4
    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape == (5, 128, 128, 4)
    assert torch.equal(batch.images[..., 3].unique(), torch.tensor([0, 1], dtype=torch.uint8))


def test_crops_larger_than_a_slide_are_an_error():
    with pytest.raises(UserError, match="size=257: expected at least 11 and at most 256"):
        Blobs(**COMMON | {"size": 257})
