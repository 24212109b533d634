"""Whole runs of segmentation: files, resume, evaluation, networks built from others, and errors of the commands."""

import csv
import json

import numpy as np
import pytest
import torch
from conftest import SEGMENT
from PIL import Image

from srcolor import runs
from srcolor.nets.guided_sr import GuidedSR
from srcolor.nets.unet_segment import UNetSegment

MEASURES = ["dice", "iou", "boundary_f1_1px", "boundary_f1_2px", "hd95", "hd95_infinite"]
FIXED = [arg for arg in SEGMENT if not arg.startswith("net.")]


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def rows_of(run):
    with open(run / "per_image.csv") as file:
        return list(csv.DictReader(file))


def test_a_run_has_the_measures_of_the_network_and_the_baselines(segment_run):
    metrics = metrics_of(segment_run)
    assert list(metrics["test"]) == MEASURES
    assert list(metrics["baselines"]) == ["all_background", "otsu"]
    assert metrics["validation"]["metric"] == "dice"
    rows = rows_of(segment_run)
    assert len(rows) == metrics["images"]
    expected = [f"{net}{name}" for net in ("", "all_background_", "otsu_") for name in MEASURES]
    assert list(rows[0]) == ["file", *expected]
    assert np.mean([float(row["dice"]) for row in rows]) == pytest.approx(metrics["test"]["dice"])
    infinite = [float(row["all_background_hd95"]) == float("inf") for row in rows]
    assert np.mean(infinite) == pytest.approx(metrics["baselines"]["all_background"]["hd95_infinite"])
    assert (segment_run / "samples" / "test.png").exists()


def test_a_run_is_loaded_and_evaluated_with_the_same_result(segment_run, call_eval, tmp_path):
    net = runs.load_net(str(segment_run))
    assert isinstance(net, UNetSegment)
    assert net.logits
    assert call_eval(f"ckpt={segment_run}", f"hydra.run.dir={tmp_path / 'eval'}") == 0
    assert metrics_of(tmp_path / "eval")["test"] == pytest.approx(metrics_of(segment_run)["test"])


def test_a_resumed_run_equals_an_uninterrupted_one(slides, call, tmp_path):
    args = ["experiment=segment64", *SEGMENT, "schedule=constant", "data=masks", f"data.root={slides}"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert call(*args, f"hydra.run.dir={whole}") == 0
    assert call(*args, "trainer.max_epochs=1", f"hydra.run.dir={parts}") == 0
    assert call(f"resume={parts}", "trainer.max_epochs=2") == 0
    states = [runs.read(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (whole, parts)]
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value)


def test_a_guided_run_keeps_the_network_it_started_from_and_is_resumed_without_it(
    segment_run, slides, call, call_eval, tmp_path
):
    run = tmp_path / "guided"
    args = ["experiment=segment_guided64to128", *FIXED, "net.channels=8", "net.blocks=1", "data=masks"]
    args += [f"data.root={slides}", "trainer.max_epochs=1"]
    copied = tmp_path / "first"
    (copied / "checkpoints").mkdir(parents=True)
    (copied / "checkpoints" / "best.ckpt").write_bytes((segment_run / "checkpoints" / "best.ckpt").read_bytes())
    assert call(*args, f"net.net.run={copied}", f"hydra.run.dir={run}") == 0
    (copied / "checkpoints" / "best.ckpt").unlink()
    assert call(f"resume={run}", "trainer.max_epochs=2") == 0
    net, inner = runs.load_net(str(run)), runs.load_net(str(segment_run))
    assert isinstance(net, GuidedSR)
    for key, value in inner.state_dict().items():
        torch.testing.assert_close(net.net.state_dict()[key], value, rtol=0, atol=1e-7)
    assert call_eval(f"ckpt={run}", f"hydra.run.dir={tmp_path / 'eval'}") == 0


def test_the_plain_enlargement_of_a_run_is_evaluated_at_the_large_size(segment_run, slides, call_eval, tmp_path):
    args = ["experiment=segment128", "net=up_logits", f"net.net.run={segment_run}", *FIXED, "data=masks"]
    assert call_eval(*args, f"data.root={slides}", f"hydra.run.dir={tmp_path / 'eval'}") == 0
    assert metrics_of(tmp_path / "eval")["images"] == metrics_of(segment_run)["images"]


def test_three_classes_and_ignored_pixels(slides, call, tmp_path):
    """Cells in the right half are class 2, and a band is ignored."""
    root = tmp_path / "three"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for path in sorted((slides / "images").iterdir()):
        (root / "images" / path.name).write_bytes(path.read_bytes())
        mask = np.asarray(Image.open(slides / "masks" / path.name)).astype(np.uint8)
        mask[:, 72:] *= 2
        mask[60:70] = 9
        Image.fromarray(mask).save(root / "masks" / path.name)
    run = tmp_path / "run"
    data = ["data=masks", f"data.root={root}", "data.classes=3", "data.ignore_index=9"]
    args = ["experiment=segment64", *SEGMENT, *data, "trainer=debug", f"hydra.run.dir={run}"]
    assert call(*args, "task.class_names=[left,right]", "loss.weights=[1,2,2]") == 0
    assert list(metrics_of(run)["baselines"]) == ["all_background", "left", "right"]
    assert "left_dice" in rows_of(run)[0]


def test_a_factor_of_four_works_by_overrides(segment_run, slides, call, tmp_path):
    common = [*FIXED[1:], "size=128", "data=masks", f"data.root={slides}", "trainer=debug"]
    small = ["experiment=segment64", "pair.shrink=4", "net.channels=8", f"hydra.run.dir={tmp_path / 'small'}"]
    assert call(*small, *common) == 0
    guided = ["experiment=segment_guided64to128", f"net.net.run={segment_run}", "net.scale=4", "net.blocks=1"]
    assert call(*guided, *common, f"hydra.run.dir={tmp_path / 'guided'}") == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["net=unet_rgb"], "UNetRGB returns an image, expected the logits of classes"),
        (["net.classes=3"], "the network has 3 classes, the data set 2"),
        (["data=photos"], "the data set has no masks: expected one for segmentation"),
    ],
)
def test_errors_of_the_command_have_one_line(args, message, slides, call, tmp_path, capfd):
    data = [] if args == ["data=photos"] else ["data=masks", f"data.root={slides}"]
    options = FIXED if args == ["net=unet_rgb"] else SEGMENT
    assert call("experiment=segment64", *options, *data, *args, f"hydra.run.dir={tmp_path / 'run'}") == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert message in line
