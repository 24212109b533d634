"""The segmentation study: its routes, their inputs, and the networks that it refuses."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from srcolor import images, metrics, runs
from srcolor.analysis import comparison, figures, routes
from srcolor.analysis.studies.segmentation import SegmentationStudy, overlay
from srcolor.cli import overrides
from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.metrics import Measure
from srcolor.nets import Net
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.unet import UNet

STUDY = SegmentationStudy()


class Bright(Net):
    """Class 1 where the image is brighter than a level."""

    inputs, outputs, logits, scale, stride, receptive_field = 3, 2, True, 1, 1, 1

    def __init__(self, level=0.5):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(level))

    def forward(self, x):
        margin = images.luma(x) - self.level
        return torch.cat([-margin, margin], 1)

    def fit(self, pairs):
        self.fitted = [pair.input.shape[-1] for pair in pairs]


class UpLogits(Net):
    """Stand-in: the logits of a network, enlarged."""

    inputs, outputs, logits, stride, receptive_field = 3, 2, True, 1, None

    def __init__(self, net, scale, shrink=False):
        super().__init__()
        self.net, self.factor, self.shrink = net, scale, shrink
        self.scale = 1 if shrink else scale

    def forward(self, x):
        return images.bicubic_up(self.net(images.block_mean(x, self.factor) if self.shrink else x), self.factor)


class GuidedSR(UpLogits):
    """Stand-in: the large image guides nothing."""

    def __init__(self, net, scale):
        super().__init__(net, scale, shrink=True)


class Dice(Measure):
    """Stand-in: 2 TP / (2 TP + FP + FN) of class 1."""

    name, heading, digits, higher_is_better = "dice", "Dice", 3, True

    def forward(self, prediction, target):
        one, other = prediction[:, 1].flatten(1), target[:, 1].flatten(1)
        return 2 * (one * other).sum(1) / (one.sum(1) + other.sum(1))


def one_hot(values):
    return F.one_hot(values.argmax(1), values.shape[1]).permute(0, 3, 1, 2).to(values.dtype)


def enlarging(classes, scale=1):
    return {"otsu": Bright() if scale == 1 else UpLogits(Bright(), scale)}


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    """Replace the networks and metrics of segmentation by transparent ones."""
    monkeypatch.setitem(sys.modules, "srcolor.nets.up_logits", SimpleNamespace(UpLogits=UpLogits))
    monkeypatch.setitem(sys.modules, "srcolor.nets.guided_sr", SimpleNamespace(GuidedSR=GuidedSR))
    monkeypatch.setitem(sys.modules, "srcolor.metrics.segmentation", SimpleNamespace(one_hot=one_hot))
    monkeypatch.setattr("srcolor.nets.class_floors", SimpleNamespace(floors=enlarging), raising=False)
    monkeypatch.setattr(UpLogits, "fit", lambda self, pairs: self.net.fit(pairs), raising=False)
    monkeypatch.setattr(SegmentationStudy, "metrics", ("dice",))
    monkeypatch.setitem(metrics.MEASURES, "dice", Dice)


@pytest.fixture
def pair():
    """Return two images with a bright square, and its mask, at 16x16."""
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, :, 4:12, 4:12] = 1
    mask[1, :, 3:9, 5:12] = 1
    return Pair(0.1 + 0.8 * mask.expand(-1, 3, -1, -1), torch.cat([1 - mask, mask], 1), torch.arange(2))


def nets(**others):
    net = Bright()
    return {"segment": net, "guided": GuidedSR(net, 2), "sr": Bicubic(2), **others}


def test_routes_that_lack_a_network_are_left_out():
    assert set(STUDY.routes({"segment": Bright()}, 2)) == {"up_small", "direct", "up", "oracle"}
    assert set(STUDY.routes(nets(), 2)) == {"up_small", "direct", "up", "oracle", "chain"}
    everything = STUDY.routes(nets(segment_zoom=Bright(), segment128=Bright()), 2)
    assert {name: route.given for name, route in everything.items()} == {
        **dict.fromkeys(("up_small", "sr_first", "sr_up"), "small"),
        **dict.fromkeys(("direct", "direct_zoom", "up", "chain", "trained_at_large"), "large"),
        "oracle": "target",
    }


def test_every_route_returns_a_large_mask(pair):
    inputs = STUDY.inputs(pair, 2)
    everything = STUDY.routes(nets(segment_zoom=Bright(), segment128=Bright()), 2)
    for name, route in everything.items():
        assert STUDY.prediction(route.net(inputs[route.given])).shape == pair.target.shape, name


def test_a_route_that_sees_the_edges_of_blocks_is_perfect_and_the_ceiling_of_the_others_is_the_oracle(pair):
    """The first square consists of whole 2x2 blocks, so nothing is lost; the second does not."""
    compared = STUDY.routes(nets(), 2)
    floors = STUDY.floors(nets(), lambda: [pair], 2)
    assert {name: route.given for name, route in floors.items()} == {"otsu": "large", "bicubic_otsu": "small"}
    assert floors["bicubic_otsu"].net.net.fitted == [8]
    assert routes.measure(STUDY, {**compared, **floors}, [pair], 2) == 2
    assert compared["direct"].values["dice"].tolist() == [1, 1]
    oracle = compared["oracle"].values["dice"]
    assert oracle[1] < 1
    np.testing.assert_allclose(compared["up"].values["dice"], compared["up_small"].values["dice"], atol=1e-6)


def test_an_output_that_is_not_finite_is_refused(pair):
    compared = {"direct": routes.Route("large", Bright(float("nan")))}
    with pytest.raises(UserError, match=r"direct: the network's output is not finite"):
        routes.measure(STUDY, compared, [pair], 2)


def test_the_report_has_a_group_for_the_oracle_and_no_table_of_its_differences(pair, tmp_path):
    compared = STUDY.routes(nets(), 2)
    routes.measure(STUDY, compared, [pair], 2)
    rows = routes.report(STUDY, compared, {"small": 8, "large": 16}, compared, 100, 0)
    for row in rows.values():
        row.update(peak_memory_mb=1.0, **routes.trained([]))
    assert [rows[name]["given"] for name in ("up_small", "up", "oracle")] == [8, 16, "target"]
    questions = {"chain - up": routes.difference(compared["chain"], compared["up"], 100, 0)}
    results = {"task": "segmentation", "routes": rows, "floors": {}, "questions": questions, "steps": []}
    comparison.write(tmp_path, results | {"images": 2, "size": 16, "scale": 2})
    text = (tmp_path / "comparison.md").read_text()
    assert text.startswith("# Routes to masks at 16x16\n")
    positions = [text.index(title) for title in ("Given RGB 8x8", "Given RGB 16x16", "Given the true mask at 8x8")]
    assert positions == sorted(positions)
    assert "Difference to up," in text
    assert "Difference to oracle," not in text
    read = json.loads((tmp_path / "comparison.json").read_text())
    assert list(figures.routes(read).index) == ["up_small", "direct", "up", "chain", "oracle"]
    assert "oracle" in comparison.over_seeds({0: read, 1: read})


def test_the_training_step_is_measured_at_three_sizes_for_a_factor_of_two(pair):
    assert [step.input.shape[-1] for step in STUDY.step_pairs(pair, 2)] == [8, 16, 32]
    assert [step.input.shape[-1] for step in STUDY.step_pairs(pair, 4)] == [4, 16]
    steps = [routes.step_cost(Bright(), STUDY.loss(), step, steps=1) for step in STUDY.step_pairs(pair, 2)]
    assert [step["side"] for step in steps] == [8, 16, 32]


def test_ignored_pixels_do_not_change_the_loss(pair):
    target = pair.target.clone()
    target[..., :8] = 0
    logits = torch.randn(pair.target.shape)
    changed = logits.clone()
    changed[..., :8] += torch.randn(2, 2, 16, 8)
    torch.testing.assert_close(STUDY.loss()(logits, target), STUDY.loss()(changed, target))


@pytest.mark.parametrize(
    ("key", "net", "kind"),
    [
        ("segment", UNet(8), "a segmentation network"),
        ("segment", GuidedSR(Bright(), 2), "a segmentation network"),
        ("segment_zoom", UNet(8), "a segmentation network with the 2 classes of segment"),
        ("segment128", GuidedSR(Bright(), 2), "a segmentation network with the 2 classes of segment"),
        ("guided", Bright(), "a guided network with the 2 classes of segment"),
        ("sr", Bright(), "a super-resolution network that enlarges by 2"),
        ("sr", UNet(8), "a super-resolution network that enlarges by 2"),
    ],
)
def test_a_network_of_another_kind_is_not_expected(key, net, kind):
    given = nets() | {key: net}
    assert STUDY.expected(key, net, given, 2) == kind
    other = {**nets(segment128=Bright()), "sr": SimpleNamespace(inputs=3, scale=2, logits=False)}
    assert all(STUDY.expected(name, right, other, 2) is None for name, right in other.items())


@pytest.mark.parametrize(
    ("side", "size", "message"),
    [
        (None, 128, r"segment=x: the size it was trained at is unknown\. Pass the folder of its run\."),
        (128, 128, r"segment=x was trained on 128x128 images: expected size=128 to be a larger multiple"),
        (96, 128, r"expected size=128 to be a larger multiple\. Choose another run or size=192\."),
    ],
)
def test_the_scale_needs_the_size_that_the_small_network_was_trained_at(side, size, message, monkeypatch):
    monkeypatch.setattr(runs, "target_side", lambda name: side)
    with pytest.raises(UserError, match=message):
        STUDY.scale(nets(), {"segment": "x"}, size)
    monkeypatch.setattr(runs, "target_side", lambda name: 64)
    assert STUDY.scale(nets(), {"segment": "x"}, 256) == 4


def test_the_stages_of_another_factor_train_at_the_small_size_of_that_factor(tmp_path):
    by_default, by_four = (STUDY.stages(tmp_path, scale, False) for scale in (2, 4))
    names = ["segment64", "segment64_zoom", "sr64to128", "segment_guided64to128", "segment128"]
    assert list(by_default) == list(by_four) == names
    assert [stage.budgets for stage in by_default.values()] == [1, 1, 1, 1, 2]
    guide = {"net.net.run": tmp_path / "segment64"}
    assert [stage.settings for stage in by_default.values()] == [{}, {}, {}, guide, {}]
    shrink = {"pair.shrink": 4}
    assert [stage.settings for stage in by_four.values()] == [
        shrink,
        shrink,
        {"scale": 4},
        {"net.scale": 4, **guide},
        {},
    ]


def test_an_overlay_colors_only_the_foreground():
    image = torch.full((1, 3, 1, 3), 0.5)
    classes = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).reshape(1, 2, 1, 3)  # background, foreground, unknown
    colored = overlay(image, classes)
    assert colored[0, :, 0, 0].tolist() == colored[0, :, 0, 2].tolist() == [0.5, 0.5, 0.5]
    assert colored[0, :, 0, 1].tolist() == [0.75, 0.25, 0.25]


def test_keys_of_another_task_are_refused_by_name():
    with pytest.raises(
        UserError, match=r"^segment= is a key of task=segmentation, not of task=colorization\. Add task="
    ):
        overrides.compare_args(["segment=x", "sr=y"])
    with pytest.raises(UserError, match=r"^colorize= is a key of task=colorization, not of task=segmentation\."):
        overrides.compare_args(["task=segmentation", "colorize=x", "sr=y"])


def test_segment_is_the_only_run_that_is_needed(call_compare, capfd, tmp_path):
    assert call_compare("task=segmentation", f"hydra.run.dir={tmp_path}") == 1
    assert "a run is needed: python compare.py task=segmentation segment=<run>; see --help." in capfd.readouterr().err


def test_a_colorizer_is_refused_by_name(study_runs, call_compare, capfd, tmp_path):
    run = study_runs["colorize64"]
    assert call_compare("task=segmentation", f"segment={run}", f"hydra.run.dir={tmp_path / 'out'}") == 1
    error = capfd.readouterr().err
    assert f"segment={run} contains UNet, which takes 1 channel(s)" in error
    assert error.endswith("expected a segmentation network.\n")
