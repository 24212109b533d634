"""Grids of segmentations: colors of classes and errors at single pixels."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_segmentation_task import Bands, make_task
from tiny_data import fit

from srcolor import class_colors
from srcolor.images import Pair, luma
from srcolor.training import segmentation_samples as samples
from srcolor.training.segmentation_samples import SegmentationSampleGrid

RED, BLUE, YELLOW = samples.FALSE_POSITIVE, samples.FALSE_NEGATIVE, samples.OTHER_CLASS
IMAGE = torch.rand(1, 3, 1, 6, generator=torch.Generator().manual_seed(0))
#         right background and class, false positive, false negative, other class, ignored
PREDICTED, TRUE = [0, 1, 2, 0, 1, 1], [0, 1, 0, 2, 2, None]


def encode(numbers):
    return torch.tensor([[float(number == k) for number in numbers] for k in range(3)]).reshape(1, 3, 1, -1)


@pytest.fixture
def columns(tmp_path):
    batch = Pair(IMAGE, encode(TRUE), torch.tensor([0]))
    predictions = {"net": encode(PREDICTED) * 0.5 + 0.2, "otsu": encode(PREDICTED)}
    return SegmentationSampleGrid(str(tmp_path), images=1).columns(batch, predictions)


def mixed(under, color):
    return under + class_colors.OPACITY * (torch.as_tensor(color) - under)


def test_the_columns_are_image_prediction_truth_and_errors(columns):
    assert list(columns) == ["image", "prediction", "truth", "errors"]
    assert columns["image"] is IMAGE


def test_classes_are_colored_over_the_image_and_the_background_is_not(columns):
    first, second = (torch.tensor(color) / 255 for color in class_colors.COLORS[:2])
    for name, numbers in (("prediction", PREDICTED), ("truth", TRUE)):
        for pixel, number in enumerate(numbers):
            under, shown = IMAGE[0, :, 0, pixel], columns[name][0, :, 0, pixel]
            expected = {0: under, 1: mixed(under, first), 2: mixed(under, second), None: torch.zeros(3)}[number]
            torch.testing.assert_close(shown, expected)


def test_errors_have_the_color_of_their_kind_over_the_luma(columns):
    for pixel, color in enumerate([None, None, RED, BLUE, YELLOW]):
        under = luma(IMAGE)[0, :, 0, pixel].expand(3)
        expected = under if color is None else mixed(under, color)
        torch.testing.assert_close(columns["errors"][0, :, 0, pixel], expected)
    assert columns["errors"][0, :, 0, 5].tolist() == [0, 0, 0]  # ignored


def test_grids_are_written_in_training_and_test(tmp_path):
    task, grid = make_task(), SegmentationSampleGrid(str(tmp_path / "samples"), images=2)
    trainer = fit(task, Bands(batches=1), tmp_path, [grid], max_epochs=1)
    trainer.test(task, Bands(), verbose=False)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["test.png", "val_step0000001.png"]
    with Image.open(tmp_path / "samples" / "test.png") as picture:
        assert picture.size == (4 * 16 + 3 * 4, 18 + 2 * 16 + 4)
        assert np.asarray(picture).std() > 0
