"""The task of segmentation on images in memory: measures, rows of classes, and what it refuses."""

from functools import partial

import pytest
import torch
from tiny_data import TinyData, fit
from torch.nn import functional as F
from torch.utils.data import DataLoader

from srcolor.data.pairs_segment import segment
from srcolor.errors import UserError
from srcolor.losses_segment import CrossEntropyDice
from srcolor.metrics import MEASURES, one_hot
from srcolor.nets.class_floors import floors
from srcolor.nets.guided_sr import GuidedSR
from srcolor.nets.unet import UNet
from srcolor.nets.unet_segment import UNetSegment
from srcolor.tasks.segmentation import SegmentationTask
from srcolor.training import schedules


class Bands(TinyData):
    """Images whose class follows from the brightness of a band."""

    def __init__(self, classes=2, batches=4):
        super().__init__(batches)
        self.classes = classes

    def batch(self, first, count):
        generator = torch.Generator().manual_seed(first)
        numbers = torch.randint(self.classes, (count, 1, 4, 4), generator=generator).float()
        numbers = F.interpolate(numbers, scale_factor=8)
        rgb = (numbers / self.classes + 0.2 * torch.rand(count, 3, 32, 32, generator=generator)).clamp(0, 1)
        return segment(torch.cat([rgb, numbers / 255], 1), torch.arange(first, first + count), 2, self.classes)

    def train_dataloader(self):
        return DataLoader([self.batch(4 * number, 4) for number in range(self.batches)], batch_size=None)

    def val_dataloader(self):
        return DataLoader([self.batch(100, 3), self.batch(103, 3)], batch_size=None)

    test_dataloader = val_dataloader


def make_task(classes=2, net=None, ema=None, lr=1e-2, baselines=None, weights=None, **settings):
    torch.manual_seed(0)
    net = UNetSegment(channels=8, classes=classes) if net is None else net
    optimizer = partial(torch.optim.Adam, lr=lr)
    baselines = floors(classes) if baselines is None else baselines
    loss = CrossEntropyDice(weights=weights)
    return SegmentationTask(net, loss, optimizer, schedules.constant, ema, baselines, **settings)


def run(task, data, folder, epochs):
    trainer = fit(task, data, folder, max_epochs=epochs)
    trainer.test(task, data, verbose=False)
    return task


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return run(make_task(2), Bands(2), tmp_path_factory.mktemp("two"), epochs=10)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return run(make_task(3), Bands(3), tmp_path_factory.mktemp("three"), epochs=2)


def mean(values):
    return sum(values) / len(values)


def test_it_learns_what_follows_from_the_image(two):
    assert mean(two.per_image["net"]["dice"]) > 0.95
    assert mean(two.per_image["otsu"]["dice"]) > 0.9  # fitted by the task
    assert mean(two.per_image["all_background"]["dice"]) == 0


def test_the_test_has_a_value_per_image_network_and_measure(two):
    assert set(two.per_image) == {"net", "all_background", "otsu"}
    assert two.rows == list(range(100, 106))
    for values in two.per_image.values():
        assert {name: len(column) for name, column in values.items()} == dict.fromkeys(two.default_measures, 6)


def test_the_values_are_those_of_the_most_probable_classes(three):
    data = Bands(3)
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad():
        classes = one_hot(three.net.eval()(batch.input))
    expected = MEASURES["iou"]()(classes, one_hot(batch.target))
    assert three.per_image["net"]["iou"][:3] == pytest.approx(expected.tolist(), abs=1e-6)


def test_more_than_two_classes_have_a_row_each_whose_mean_is_that_of_the_network(three):
    assert list(three.per_image) == ["net", "all_background", "class_1", "class_2"]
    for name in ("dice", "iou", "boundary_f1_1px"):
        rows = zip(three.per_image["class_1"][name], three.per_image["class_2"][name], strict=True)
        assert three.per_image["net"][name] == pytest.approx([mean(row) for row in rows], abs=1e-6)


def test_the_rows_of_the_classes_can_have_names(tmp_path):
    task = run(make_task(3, class_names=["cell", "vessel"]), Bands(3, batches=1), tmp_path, epochs=1)
    assert list(task.per_image) == ["net", "all_background", "cell", "vessel"]


def test_validation_has_dice_and_iou_and_no_rows(tmp_path):
    trainer = fit(make_task(3), Bands(3, batches=1), tmp_path, max_epochs=1)
    logged = set(trainer.callback_metrics)
    assert {"val/dice", "val/iou", "val_all_background/dice"} <= logged
    assert not any("class_1" in name or "hd95" in name for name in logged)


def test_predictions_are_probabilities():
    batch = Bands(3).batch(0, 2)
    for prediction in make_task(3).predictions(batch).values():
        torch.testing.assert_close(prediction.sum(1), torch.ones(2, 16, 16))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_training_changes_no_weight_of_a_frozen_network(tmp_path, decay):
    inner = UNetSegment(channels=8)
    torch.nn.init.normal_(inner.head.weight)
    before = {key: value.clone() for key, value in inner.state_dict().items()}
    task = make_task(net=GuidedSR(inner, scale=2, channels=8, blocks=1), ema=0.9)
    task._optimizer = partial(torch.optim.AdamW, lr=0.01, weight_decay=decay)
    fit(task, Bands(), tmp_path, max_epochs=1)
    for net in (task.net, task.evaluated_net):
        for key, value in before.items():
            torch.testing.assert_close(net.net.state_dict()[key], value, rtol=0, atol=1e-7)
        assert net.tail.weight.abs().max() > 0


# -- what it refuses -----------------------------------------------------------------------------------------------


def test_a_colorizer_is_refused():
    with pytest.raises(UserError, match="UNet returns an image, expected the logits of classes: choose net=unet_seg"):
        make_task(net=UNet(channels=8))


def test_a_network_and_data_of_different_numbers_of_classes_are_refused(tmp_path):
    message = r"the network has 2 classes, the data set 3: .*set data\.classes=2"
    with pytest.raises(UserError, match=message) as error:
        fit(make_task(2, baselines=floors(3)), Bands(3), tmp_path, max_epochs=1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "names",
    [
        *(["cell"], ["cell", "cell"], ["cell", "net"], ["cell", "all_background"]),
        *(["cell", "cell", "vessel"], ["net", "cell", "vessel"]),
    ],
)
def test_names_that_are_not_one_per_class_are_refused(names):
    with pytest.raises(UserError, match=r"task\.class_names=.*: expected 2 different name\(s\)"):
        make_task(3, class_names=names)


def test_names_of_two_classes_are_refused_as_there_is_no_row_to_name():
    with pytest.raises(UserError, match=r"task\.class_names=\['cell'\]: expected null for two classes.*Remove it"):
        make_task(2, class_names=["cell"])


@pytest.mark.parametrize("weights", [[1, 2], [1, 2, 3, 4]])
def test_a_wrong_number_of_weights_is_refused_when_built(weights):
    with pytest.raises(UserError, match=r"loss\.weights=.*: expected 3 numbers, one for each class"):
        make_task(3, weights=weights)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_output_that_is_not_finite_has_no_figures(tmp_path, value):
    task, data = make_task(3), Bands(3, batches=1)
    trainer = fit(task, data, tmp_path, max_epochs=1)
    torch.nn.init.constant_(task.net.head.bias, value)
    with pytest.raises(UserError, match="the network's output is not finite"):
        trainer.test(task, data, verbose=False)
