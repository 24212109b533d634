"""Runs of color codes from the command line: what they record, eval.py, init_from, resume, export and notebooks."""

import csv
import json
import shutil

import pytest
import torch
from conftest import COLOR
from PIL import Image

from srcolor import images, runs
from srcolor.inference import export, predict
from srcolor.nets.unet_codes import UNetCodes


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def state(run, which):
    return torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"]


def test_metrics_and_table_have_the_rows_of_the_true_code_and_of_samples(codes_run):
    rows = metrics_of(codes_run)["baselines"]
    assert list(rows)[-3:] == ["true_code", "sample", "best_of_8"]
    assert rows["sample"]["spread"] > 0
    assert rows["best_of_8"]["ab_rmse"] <= rows["sample"]["ab_rmse"]
    with (codes_run / "per_image.csv").open() as file:
        assert {"sample_spread", "true_code_ab_rmse", "best_of_8_ab_rmse"} <= set(next(csv.reader(file)))
    assert len(list((codes_run / "samples").iterdir())) == 3  # two validations and the test


def test_eval_gives_the_figures_of_the_test_of_the_run(codes_run, call_eval, tmp_path):
    again = tmp_path / "again"
    assert call_eval(f"ckpt={codes_run}", f"hydra.run.dir={again}") == 0
    one, two = metrics_of(again), metrics_of(codes_run)
    assert one["test"] == two["test"]
    assert one["baselines"] == two["baselines"]


def test_the_task_of_one_coloring_tests_the_stable_coloring(codes_run, pictures, call_eval, tmp_path):
    other = tmp_path / "other"
    args = ["data=folder", f"data.root={pictures}", *(arg for arg in COLOR if not arg.startswith("net."))]
    assert call_eval("experiment=colorize64", f"ckpt={codes_run}", *args, f"hydra.run.dir={other}") == 0
    assert set(metrics_of(other)["baselines"]) == {"gray", "mean_color", "mean_ab_given_luma"}
    one, two = (metrics_of(run)["test"] for run in (other, codes_run))
    assert one.pop("psnr_luma") == two.pop("psnr_luma")  # None: it is infinite
    assert one == pytest.approx(two, rel=1e-4)


def test_init_from_keeps_the_statistics_of_the_codes(codes_run, pictures, call, tmp_path, monkeypatch):
    monkeypatch.setattr(UNetCodes, "fit", None)
    run = tmp_path / "run"
    args = ["experiment=colorize64_codes", *COLOR, "data=folder", f"data.root={pictures / 'a'}"]
    args += [f"init_from={codes_run}", "trainer.max_epochs=1"]
    assert call(*args, f"hydra.run.dir={run}") == 0
    source, started = state(codes_run, "best"), state(run, "last")
    names = [f"net.code_{name}" for name in ("mean", "root", "inverse")]
    for name in names:
        assert torch.equal(started[name], source[name])
        assert torch.equal(started[name.replace("net.", "average.module.")], source[name])
    assert not torch.equal(started["net.head.weight"], source["net.head.weight"])


def test_a_resumed_run_continues_bit_by_bit(codes_run, call, pictures, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    shutil.copytree(codes_run, halves)
    args = ["experiment=colorize64_codes", *COLOR, "schedule=constant", "data=folder", f"data.root={pictures}"]
    assert call(*args, "trainer.max_epochs=3", f"hydra.run.dir={whole}") == 0
    assert call(f"resume={halves}", "trainer.max_epochs=3") == 0
    one, two = state(whole, "last"), state(halves, "last")
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert torch.equal(two[key], value), key
    name = "net.prior.layers.0.weight"
    assert not torch.equal(one[name], state(codes_run, "last")[name])
    assert metrics_of(whole)["baselines"] == metrics_of(halves)["baselines"]


def test_a_checkpoint_has_the_network_that_was_tested(codes_run):
    net = runs.load_net(str(codes_run))
    assert isinstance(net, UNetCodes)
    assert net.fitted
    average = {
        key.removeprefix("average.module."): value
        for key, value in state(codes_run, "best").items()
        if key.startswith("average.module.")
    }
    assert average.keys() == net.state_dict().keys()
    for key, value in net.state_dict().items():
        assert torch.equal(value, average[key]), key


def test_a_photo_is_colorized_and_the_network_exported(codes_run, pictures, tmp_path):
    photo = next(pictures.rglob("*.png"))
    assert predict.main([str(photo), "--mode", "colorize", "--run", str(codes_run), "-o", str(tmp_path)]) == 0
    assert Image.open(next(tmp_path.glob("*.png"))).size == (48, 48)
    export.main(["--run", str(codes_run), "--format", "safetensors", "--output", str(tmp_path / "x.safetensors")])
    one, other = (runs.load_net(name) for name in (str(codes_run), str(tmp_path / "x.safetensors")))
    gray = torch.rand(1, 1, 20, 30, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(one(gray), other(gray))
        torch.testing.assert_close(images.luma(one(gray)), gray, rtol=0, atol=1e-5)


def test_a_notebook_shows_the_samples_of_test_images(codes_run, monkeypatch):
    from srcolor.analysis import figures

    shown = {}
    monkeypatch.setattr(figures, "grid", lambda columns: shown.update(columns))
    figures.sheet(codes_run, [0])
    assert list(shown) == ["gray", "stable", *(f"sample {number}" for number in range(1, 7)), "truth"]
    net = runs.load_net(str(codes_run))
    with torch.no_grad():
        torch.testing.assert_close(shown["stable"], net(shown["gray"]), rtol=0, atol=1e-5)
        expected = net.samples(shown["gray"], 6, 1, [0])[:, 5]
    torch.testing.assert_close(shown["sample 6"], expected, rtol=0, atol=1e-5)
