"""Measures of segmentation, against naive loops, scikit-image and SciPy, and on empty masks."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.metrics import hausdorff_distance
from skimage.segmentation import find_boundaries

from srcolor import metrics
from srcolor.metrics import MEASURES, one_hot
from srcolor.metrics.segmentation import _hd95

NAMES = ("dice", "iou", "boundary_f1_1px", "boundary_f1_2px", "hd95", "hd95_infinite")


def numbers(seed, classes=3, ignored=False):
    """Class numbers of smooth areas, (24, 30); -1 where ignored."""
    random = np.random.default_rng(seed)
    fields = [gaussian_filter(random.normal(size=(24, 30)), 2.5) for _ in range(classes)]
    result = np.argmax(fields, 0)
    if ignored:
        result[random.random((24, 30)) < 0.1] = -1
    return result


def encode(*images, classes=3):
    return torch.stack(
        [torch.stack([torch.tensor(image == number) for number in range(classes)]) for image in images]
    ).float()


def value(name, prediction, target):
    return MEASURES[name]()(prediction, target).tolist()


PAIRS = [(numbers(seed), numbers(seed + 100, ignored=seed % 2 == 1)) for seed in range(6)]
PREDICTIONS, TARGETS = (encode(*images) for images in zip(*PAIRS, strict=True))


def overlap(first, second):
    """Count pixel by pixel: common, first, second, either."""
    both = one = other = either = 0
    for a, b in zip(first.flatten(), second.flatten(), strict=True):
        both += a and b
        one += a
        other += b
        either += a or b
    return both, one, other, either


def of_classes(reference):
    """Return the mean over classes 1 and 2 of a reference of two masks and the counted pixels, for each pair."""
    results = []
    for prediction, target in PAIRS:
        counted = target >= 0
        results.append(np.mean([reference((prediction == k) & counted, target == k, counted) for k in (1, 2)]))
    return results


def test_dice_and_iou_match_a_count_of_pixels():
    def dice(a, b, _):
        both, one, other, _ = overlap(a, b)
        return 2 * both / (one + other)

    def iou(a, b, _):
        both, _, _, either = overlap(a, b)
        return both / either

    assert value("dice", PREDICTIONS, TARGETS) == pytest.approx(of_classes(dice), abs=1e-6)
    assert value("iou", PREDICTIONS, TARGETS) == pytest.approx(of_classes(iou), abs=1e-6)


@pytest.mark.parametrize("radius", [1, 2])
def test_boundary_f1_matches_skimage_boundaries_and_scipy_distances(radius):
    """Without ignored pixels, whose borders scikit-image does not know."""

    def f1(a, b):
        edges = [find_boundaries(mask, connectivity=1, mode="inner") for mask in (a, b)]
        near = [distance_transform_edt(~edge) <= radius for edge in edges]
        precision, recall = near[1][edges[0]].mean(), near[0][edges[1]].mean()
        return 2 * precision * recall / (precision + recall)

    expected = [np.mean([f1(p == k, t == k) for k in (1, 2)]) for p, t in PAIRS[::2]]
    assert value(f"boundary_f1_{radius}px", PREDICTIONS[::2], TARGETS[::2]) == pytest.approx(expected, abs=1e-6)
    assert 0.2 < min(expected) < max(expected) < 0.9


def boundary(mask, counted):
    """The same by loops: pixels with a counted pixel of the outside to the left, right, above or below."""
    rows, columns = mask.shape
    return [
        (y, x)
        for y, x in np.argwhere(mask)
        if any(
            0 <= y + dy < rows and 0 <= x + dx < columns and counted[y + dy, x + dx] and not mask[y + dy, x + dx]
            for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))
        )
    ]


def test_the_border_of_ignored_pixels_is_not_a_boundary():
    def f1(a, b, counted):
        first, second = (np.array(boundary(mask, counted)) for mask in (a, b))
        distances = np.hypot(*(first[:, None] - second[None]).transpose(2, 0, 1))
        precision, recall = (distances.min(1) <= 1).mean(), (distances.min(0) <= 1).mean()
        return 2 * precision * recall / (precision + recall)

    assert value("boundary_f1_1px", PREDICTIONS, TARGETS) == pytest.approx(of_classes(f1), abs=1e-6)


def surface(mask):
    """Pixels of a mask beside its outside or the border of the image, by loops."""
    padded = np.pad(mask, 1)
    return np.array(
        [
            (y, x)
            for y, x in np.argwhere(mask)
            if not (padded[y, x + 1] and padded[y + 2, x + 1] and padded[y + 1, x] and padded[y + 1, x + 2])
        ]
    )


def test_hd95_matches_all_pairs_of_boundary_pixels():
    def hd95(a, b, _):
        first, second = surface(a), surface(b)
        distances = np.hypot(*(first[:, None] - second[None]).transpose(2, 0, 1))
        return max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))

    assert value("hd95", PREDICTIONS, TARGETS) == pytest.approx(of_classes(hd95), abs=1e-5)


def test_hd95_is_at_most_the_hausdorff_distance_and_equals_it_for_single_pixels():
    for prediction, target in PAIRS:
        assert _hd95(prediction == 1, target == 1) <= hausdorff_distance(prediction == 1, target == 1) + 1e-9
    points = np.zeros((2, 9, 9), int)
    points[0, 1, 1] = points[1, 4, 5] = 1
    assert value("hd95", encode(points[0], classes=2), encode(points[1], classes=2)) == [5.0]


# -- empty masks ---------------------------------------------------------------------------------------------------

EMPTY, FULL, PART = np.zeros((16, 16), int), np.ones((16, 16), int), np.eye(16, dtype=int)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (EMPTY, EMPTY, [1, 1, 1, 1, 0, 0]),
        (EMPTY, PART, [0, 0, 0, 0, math.inf, 1]),
        (PART, EMPTY, [0, 0, 0, 0, math.inf, 1]),
        (FULL, FULL, [1, 1, 1, 1, 0, 0]),
        (FULL, EMPTY, [0, 0, 0, 0, math.inf, 1]),  # neither has a boundary
    ],
)
def test_empty_and_full_masks(first, second, expected):
    pair = [encode(image, classes=2) for image in (first, second)]
    assert [value(name, *pair)[0] for name in NAMES] == expected


def test_an_image_without_any_counted_pixel_is_empty_in_both():
    ignored = torch.zeros(1, 2, 8, 8)
    assert [value(name, encode(FULL[:8, :8], classes=2), ignored)[0] for name in NAMES] == [1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_occurs_in_neither_does_not_count(name):
    images = numbers(1, 2), numbers(2, 2)
    alone, among_five = (value(name, *(encode(image, classes=n) for image in images)) for n in (2, 5))
    assert among_five == pytest.approx(alone, abs=1e-6)


def test_predicting_nothing_has_the_worst_values_whatever_the_number_of_classes():
    for classes in (2, 3, 8):
        pair = [encode(image, classes=classes) for image in (EMPTY, PART)]
        assert [value(name, *pair)[0] for name in NAMES] == [0, 0, 0, 0, math.inf, 1]


def test_a_class_that_occurs_only_in_the_prediction_counts():
    """Class 1 is exact, class 2 a false alarm."""
    truth = np.zeros((16, 16), int)
    truth[2:6, 2:6] = 1
    prediction = truth.copy()
    prediction[10:14, 10:14] = 2
    pair = encode(prediction), encode(truth)
    assert [value(name, *pair)[0] for name in NAMES] == [0.5, 0.5, 0.5, 0.5, math.inf, 1]


def test_without_any_foreground_several_classes_are_perfect():
    assert [value(name, encode(EMPTY), encode(EMPTY))[0] for name in NAMES] == [1, 1, 1, 1, 0, 0]


def test_images_with_an_infinite_distance_are_left_out_of_the_mean_and_counted():
    pairs = encode(EMPTY, PART, PART, classes=2), encode(PART, PART, FULL, classes=2)
    hd95, infinite = (MEASURES[name].summarize(MEASURES[name]()(*pairs)) for name in ("hd95", "hd95_infinite"))
    assert hd95.isfinite()
    assert infinite.item() == pytest.approx(1 / 3)


def test_perfect_predictions_have_perfect_values():
    assert [value(name, TARGETS, TARGETS)[1] for name in NAMES] == [1, 1, 1, 1, 0, 0]


# -- one-hot -------------------------------------------------------------------------------------------------------


def test_one_hot_takes_the_largest_and_the_first_of_equal_ones():
    areas = torch.tensor([[0.2, 0.5, 0.3, 0.0], [0.3, 0.5, 0.3, 0.0], [0.5, 0.0, 0.4, 0.0]]).reshape(1, 3, 1, 4)
    assert one_hot(areas)[0, :, 0].T.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]]
    logits = torch.tensor([-3.0, -1.0]).reshape(1, 2, 1, 1)
    assert one_hot(logits).flatten().tolist() == [0, 1]


def test_every_measure_is_ranked_in_a_monitor():
    assert [metrics.higher_is_better(f"val/{name}") for name in NAMES] == [True, True, True, True, False, False]
