"""Figures of comparisons: which folders they read, what they plot, and the comparisons that they refuse."""

import json
import os

import pytest
import torch
from PIL import Image

from srcolor import runs
from srcolor.analysis import figures
from srcolor.errors import UserError
from srcolor.training import samples


def row(given, against, difference):
    return {"given": given, "against": against, "dice": 0.5, "difference": {"dice": difference, "hd95": [None] * 3}}


def results(shift=0.0):
    return {
        "task": "segmentation",
        "routes": {
            "up": row(128, "up", [0, 0, 0]),
            "chain": row(128, "up", [0.25 + shift, 0.125, 0.5]),
            "sr_first": row(64, "up_small", [-0.25, -0.5, -0.125]),
            "oracle": row("target", "oracle", [0, 0, 0]),
        },
        "floors": {"all_background": row(128, "up", [-0.5, -0.5, -0.5])},
    }


def write(folder, task="segmentation", seed=0, time=1):
    """Write a comparison as compare.py does, with its time of change; version 0.1 wrote no task."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(f"seed: {seed}\n")
    (folder / "comparison.json").write_text(json.dumps({} if task is None else {"task": task}))
    os.utime(folder / "comparison.json", (time, time))
    return folder


def test_differences_are_plotted_with_their_intervals_and_references():
    axes, other = figures.differences({0: results()}, ["dice", "hd95"]).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["sr_first - up_small", "chain - up"]  # neither references nor floors
    assert axes.lines[0].get_xdata().tolist() == [-0.25, 0.25]
    ends = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()]
    assert ends == [[-0.5, -0.125], [0.125, 0.5]]
    assert [plot.get_xlabel() for plot in (axes, other)] == ["difference in Dice", "difference in HD95 (px)"]


def test_every_seed_has_its_own_points_and_legend():
    figure = figures.differences({3: results(), 5: results(shift=0.125)}, ["dice"])
    first, second = figure.axes[0].lines[:2]
    assert (first.get_xdata()[1], second.get_xdata()[1]) == (0.25, 0.375)
    assert all(first.get_ydata() < second.get_ydata())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["seed 3", "seed 5"]


def test_a_study_has_its_comparisons_in_the_order_of_the_seeds(tmp_path):
    folders = {seed: write(tmp_path / f"seed{seed}" / "comparison", seed=seed) for seed in (10, 2)}
    assert list(figures.compared(str(tmp_path), "segmentation").items()) == [(2, folders[2]), (10, folders[10])]
    assert figures.compared(str(folders[10]), "segmentation") == {10: folders[10]}


def test_latest_is_the_newest_of_the_task(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    write(tmp_path / "old", time=1)
    new = write(tmp_path / "new", time=2)
    color = write(tmp_path / "color", task=None, time=3)
    assert figures.compared("latest", "segmentation") == {0: new}
    assert figures.compared("latest", "colorization") == {0: color}


def test_latest_has_all_seeds_of_a_study(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    for seed in (0, 1):
        write(tmp_path / "blobs" / f"seed{seed}" / "comparison", seed=seed)
    (tmp_path / "blobs" / "study.json").write_text("[]")
    assert list(figures.compared("latest", "segmentation")) == [0, 1]


@pytest.mark.parametrize("name", ["latest", "missing"])
def test_a_missing_comparison_is_refused_with_the_command_to_create_one(name, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "color", task="colorization")
    with pytest.raises(UserError, match=f"no comparison of task=segmentation found for '{name}'.*study.py --task segm"):
        figures.compared(name, "segmentation")


def test_a_comparison_of_another_task_is_refused(tmp_path):
    folder = write(tmp_path / "one")
    message = r"is a comparison of task=segmentation: expected task=colorization\. Choose another comparison\."
    with pytest.raises(UserError, match=f"^{folder} {message}"):
        figures.compared(str(folder), "colorization")
    with pytest.raises(UserError, match=f"^this {message}"):
        figures.error_split(results())


def test_the_enlarged_row_is_the_row_of_the_sheet_below_its_headings():
    shades = torch.tensor([0.2, 0.4, 0.6]).reshape(3, 1, 1, 1).expand(-1, 3, 8, 8)
    sheet = samples.grid({"I": shades, " ": shades})
    for number, shade in enumerate((51, 102, 153)):
        strip = figures.enlarged(sheet, 8, number)
        assert strip.size == (40, 2 * (18 + 8))
        assert strip.crop((0, 36, 16, 52)).getextrema() == ((shade, shade),) * 3
        headings = sheet.crop((0, 0, 20, 18)).resize((40, 36), Image.Resampling.NEAREST)
        assert strip.crop((0, 0, 40, 36)).tobytes() == headings.tobytes()


@pytest.mark.parametrize("number", [-1, 3])
def test_a_row_that_the_sheet_lacks_is_refused(number):
    sheet = samples.grid({"": torch.zeros(3, 3, 8, 8)})
    with pytest.raises(UserError, match=f"ROW={number}: expected at least 0 and at most 2"):
        figures.enlarged(sheet, 8, number)


def test_a_missing_sweep_is_refused_with_the_command_to_create_one(tmp_path):
    with pytest.raises(UserError, match=r"no multirun\.yaml found for .*python train\.py -m seed=0,1"):
        figures.swept(str(tmp_path))
