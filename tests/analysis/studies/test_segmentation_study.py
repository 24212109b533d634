"""The segmentation study: its routes, their inputs, and the networks that it refuses."""

import csv
import json

import numpy as np
import pytest
import torch
from conftest import SEGMENT
from PIL import Image

from srcolor import images, runs
from srcolor.analysis import comparison, figures, routes
from srcolor.analysis.studies.segmentation import SegmentationStudy
from srcolor.cli import overrides
from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.nets import Net
from srcolor.nets.guided_sr import GuidedSR
from srcolor.nets.residual import Residual
from srcolor.nets.unet import UNet
from srcolor.nets.unet_segment import UNetSegment
from srcolor.nets.up_logits import UpLogits

STUDY = SegmentationStudy()
BOOTSTRAP = routes.Bootstrap(np.arange(2), 100, 0)


class Bright(Net):
    """Class 1 where the image is brighter than a level."""

    inputs, outputs, logits, scale, stride, receptive_field = 3, 2, True, 1, 1, 1

    def __init__(self, level=0.5):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(level))

    def forward(self, x):
        margin = images.luma(x) - self.level
        return torch.cat([-margin, margin], 1)


@pytest.fixture
def pair():
    """Return two images with a bright square, and its mask, at 16x16."""
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, :, 4:12, 4:12] = 1
    mask[1, :, 3:9, 5:12] = 1
    return Pair(0.1 + 0.8 * mask.expand(-1, 3, -1, -1), torch.cat([1 - mask, mask], 1), torch.arange(2))


def nets(**others):
    net = Bright()
    return {"segment": net, "guided": GuidedSR(net, 2), "sr": Residual(8, 1), **others}


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


def test_routes_and_floors_are_measured_on_the_input_of_their_group(pair):
    """The squares differ from the background in brightness; the second does not consist of whole 2x2 blocks."""
    compared = STUDY.routes(nets(), 2)
    floors = STUDY.floors(nets(), lambda: [pair], 2)
    assert {name: route.given for name, route in floors.items()} == {
        **dict.fromkeys(("all_background", "otsu"), "large"),
        **dict.fromkeys(("all_background_small", "otsu_small"), "small"),
    }
    assert routes.measure(STUDY, {**compared, **floors}, [pair], 2) == 2
    assert compared["direct"].values["dice"].tolist() == [1, 1]
    assert floors["otsu"].values["dice"].tolist() == [1, 1]
    assert floors["all_background"].values["dice"].tolist() == [0, 0]
    assert compared["oracle"].values["dice"][1] < 1
    np.testing.assert_allclose(compared["up"].values["dice"], compared["up_small"].values["dice"], atol=1e-6)


def test_an_output_that_is_not_finite_is_refused(pair):
    compared = {"direct": routes.Route("large", Bright(float("nan")))}
    with pytest.raises(UserError, match=r"direct: the network's output is not finite"):
        routes.measure(STUDY, compared, [pair], 2)


def test_the_report_has_a_group_for_the_oracle_and_no_table_of_its_differences(pair, tmp_path):
    compared = STUDY.routes(nets(), 2)
    routes.measure(STUDY, compared, [pair], 2)
    rows = routes.report(STUDY, compared, {"small": 8, "large": 16}, compared, BOOTSTRAP)
    for row in rows.values():
        row.update(peak_memory_mb=1.0, **routes.trained([]))
    assert [rows[name]["given"] for name in ("up_small", "up", "oracle")] == [8, 16, "target"]
    questions = {"chain - up": routes.difference(compared["chain"], compared["up"], BOOTSTRAP)}
    results = {"task": "segmentation", "routes": rows, "floors": {}, "questions": questions, "steps": []}
    comparison.write(tmp_path, results | {"images": 2, "size": 16, "scale": 2})
    text = (tmp_path / "comparison.md").read_text()
    assert text.startswith("# Routes to masks at 16x16\n\n2 test images.\n")
    positions = [text.index(title) for title in ("Given RGB 8x8", "Given RGB 16x16", "Given the true mask at 8x8")]
    assert positions == sorted(positions)
    assert "Difference to up," in text
    assert "Difference to oracle," not in text
    read = json.loads((tmp_path / "comparison.json").read_text())
    assert list(figures.routes(read).index) == ["up_small", "direct", "up", "chain", "oracle"]
    assert "oracle" in comparison.over_seeds({0: read, 1: read})


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"images": 8}, "8 test images"),  # a comparison by srcolor 0.1
        ({"images": 8, "pictures": 8}, "8 test images"),
        ({"images": 117, "pictures": 13}, "117 test crops of 13 pictures"),
        ({"images": 9, "pictures": 1}, "9 test crops of 1 picture"),
    ],
)
def test_the_report_tells_crops_from_pictures(counts, text):
    empty = {"task": "segmentation", "size": 16, "scale": 2, "routes": {}, "floors": {}, "questions": {}, "steps": []}
    assert f"{text}.\n" in comparison.markdown(empty | counts)
    assert f", {text}. `*`:" in comparison.over_seeds(dict.fromkeys((0, 1), empty | counts))


def test_ignored_pixels_are_black_in_the_truth_of_the_picture(pair):
    ignored = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    ignored[..., :4] = True
    target = pair.target.masked_fill(ignored, 0)
    columns = STUDY.columns(pair._replace(target=target), {"up": pair.target})
    assert list(columns) == ["image", "truth", "up"]
    assert (columns["truth"] == 0).all(1, keepdim=True).equal(ignored)
    assert columns["up"].min() > 0


def test_the_training_step_is_measured_at_three_sizes_for_a_factor_of_two(pair):
    assert [step.input.shape[-1] for step in STUDY.step_pairs(pair, 2)] == [8, 16, 32]
    assert [step.input.shape[-1] for step in STUDY.step_pairs(pair, 4)] == [4, 16]
    steps = [routes.step_cost(Bright(), STUDY.loss(), step, steps=1) for step in STUDY.step_pairs(pair, 2)]
    assert [step["side"] for step in steps] == [8, 16, 32]


@pytest.mark.parametrize(
    ("key", "net", "kind"),
    [
        ("segment", UNet(8), "a segmentation network"),
        ("segment", GuidedSR(Bright(), 2), "a segmentation network, not a guided one"),
        ("segment", UpLogits(Bright(), 2, shrink=True), "a segmentation network, not an enlarged one"),
        ("segment_zoom", UNet(8), "a segmentation network with the 2 classes of segment"),
        ("segment128", GuidedSR(Bright(), 2), "a segmentation network with the 2 classes of segment, not a guided one"),
        (
            "segment128",
            UpLogits(Bright(), 2, shrink=True),
            "a segmentation network with the 2 classes of segment, not an enlarged one",
        ),
        ("segment128", UNetSegment(8, 0, 3), "a segmentation network with the 2 classes of segment"),
        ("guided", Bright(), "a guided network with the 2 classes of segment"),
        ("guided", GuidedSR(Bright(), 4), "a guided network with net.scale=2, not 4"),
        (
            "guided",
            GuidedSR(Bright(0.6), 2),
            "a guided network trained with the run of segment as net.net.run, not with another run",
        ),
        (
            "guided",
            GuidedSR(UNetSegment(8, 0), 2),
            "a guided network trained with the run of segment as net.net.run, not with another run",
        ),
        ("sr", Bright(), "a super-resolution network that enlarges by 2"),
        ("sr", UNet(8), "a super-resolution network that enlarges by 2"),
    ],
)
def test_a_network_of_another_kind_is_not_expected(key, net, kind):
    assert STUDY.expected(key, net, nets() | {key: net}, 2) == kind
    suitable = nets(segment128=Bright())
    assert all(STUDY.expected(name, right, suitable, 2) is None for name, right in suitable.items())


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


@pytest.fixture(scope="module")
def compared(tmp_path_factory, segment_run, slides, call, call_compare):
    """Train the other networks of the study, compare every route, and return the folder and the runs."""
    folder = tmp_path_factory.mktemp("study")
    names = {"segment_zoom": "segment64_zoom", "guided": "segment_guided64to128", "segment128": "segment128"}
    names["sr"] = "sr64to128"
    trained = {"segment": segment_run}
    for key, experiment in names.items():
        options = [arg for arg in SEGMENT if key != "guided" or not arg.startswith("net.")]
        options += ["net.channels=8", "net.blocks=1", f"net.net.run={segment_run}"] if key == "guided" else []
        data = ["data=masks", f"data.root={slides}", "trainer.max_epochs=1"]
        trained[key] = folder / experiment
        assert call(f"experiment={experiment}", *options, *data, f"hydra.run.dir={trained[key]}") == 0
    args = [f"{key}={run}" for key, run in trained.items()]
    out = folder / "comparison"
    assert call_compare("task=segmentation", *args, "bootstrap=100", f"hydra.run.dir={out}") == 0
    return out, trained


def test_every_route_of_trained_networks_is_reported(compared):
    folder, _ = compared
    results = json.loads((folder / "comparison.json").read_text())
    assert (results["task"], results["scale"], results["size"]) == ("segmentation", 2, 64)
    with (folder / "split.csv").open(newline="") as file:
        crops = [int(row["crops"]) for row in csv.DictReader(file) if row["split"] == "test"]
    assert (results["images"], results["pictures"]) == (sum(crops), len(crops))
    assert set(results["routes"]) == set(STUDY.recipes(2))
    assert list(results["questions"]) == [f"{one} - {other}" for one, other in STUDY.questions]
    assert [step["side"] for step in results["steps"]] == [32, 64, 128]
    rows = results["routes"]
    assert all(0 <= row["dice"] <= 1 for row in rows.values())
    assert rows["oracle"]["dice"] > 0.9
    seconds = json.loads((compared[1]["guided"] / "metrics.json").read_text())["train"]["seconds"]
    assert rows["chain"]["train_seconds"] == pytest.approx(rows["direct"]["train_seconds"] + seconds)
    with Image.open(folder / "comparison.png") as picture:
        assert picture.width == (2 + len(rows)) * (64 + 4) - 4  # image, truth, the routes


def test_the_dice_of_a_route_is_that_of_the_test_of_its_run(compared):
    folder, trained = compared
    rows = json.loads((folder / "comparison.json").read_text())["routes"]
    for route, key in (("trained_at_large", "segment128"), ("chain", "guided")):
        tested = json.loads((trained[key] / "metrics.json").read_text())["test"]["dice"]
        assert rows[route]["dice"] == pytest.approx(tested, abs=1e-4)
