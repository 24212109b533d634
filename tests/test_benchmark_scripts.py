"""The scripts in benchmarks/, each run on tiny inputs; their output is complete and plausible."""

import contextlib
import importlib.util
import io
import json
import logging
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from skimage import data

from srcolor import bundled, runs
from srcolor.benchmark.lowres import imresize
from srcolor.errors import UserError
from srcolor.images import rgb_to_lab


@pytest.fixture
def script(monkeypatch):
    """Load a script, and call its main function with command-line arguments."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def run(module, *args):
        monkeypatch.setattr(sys, "argv", [module.__file__, *map(str, args)])
        monkeypatch.setattr(logging.root.manager, "disable", logging.INFO)  # another test may log to the output
        module.main()

    return load, run


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two sets of one image each, with names that have published results."""
    root = tmp_path_factory.mktemp("sets")
    for name, photo in (("Set5", data.astronaut()), ("BSD100", data.coffee())):
        high = photo[100:172, 200:280]
        for folder, pixels in (("HR", high), ("LR_x2", imresize(high, 2))):
            (root / "benchmark" / name / folder).mkdir(parents=True)
            Image.fromarray(pixels).save(root / "benchmark" / name / folder / "1.png")
    return root


def test_every_script_has_a_test():
    for path in (ROOT / "benchmarks").glob("*.py"):
        assert f"test_{path.stem}" in globals(), f"{path.name} has no test"


def test_data_scale(script, monkeypatch, capsys):
    load, run = script
    module = load("data_scale")

    def in_this_process(command, **_):
        with contextlib.redirect_stdout(io.StringIO()) as output:
            run(module, *command[2:])
        return SimpleNamespace(stdout=output.getvalue())

    monkeypatch.setattr(module.subprocess, "run", in_this_process)
    monkeypatch.setattr(module.os, "sync", lambda: None)
    run(module, "--counts", 12)
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "images"
    count, *costs = map(float, row.split())
    assert count == 12
    assert len(costs) == 4
    assert min(costs[0], costs[2], costs[3]) > 0


def test_training_speed(script, monkeypatch, capsys):
    load, run = script
    module = load("training_speed")
    monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(module, "WARMUP", 1)
    monkeypatch.setattr(module, "make_images", partial(module.make_images, count=30))
    run(module, "--steps", 2, "--rounds", 1)
    *rates, summary = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith(("{", *module.EXPERIMENTS))
    ]
    assert [set(re.findall(r"'(\w+)': \d", line)) for line in rates] == [{"article"}, *[{"ours", "bare"}] * 3]
    values = json.loads(summary)
    assert values["trainer_over_bare"].keys() == {"size_decoder", "residual", "unet"}
    assert min(values["speedup"], *values["trainer_over_bare"].values()) > 0
    assert 0 <= values["data_wait"] <= 1


def test_faults(script, monkeypatch, capsys):
    """One kill, as soon as a checkpoint exists."""
    load, run = script
    module = load("faults")
    start, killed = module.start, []

    def start_and_kill(overrides):
        process = start(overrides)
        wait = process.wait
        (folder,) = [Path(arg.split("=")[1]) for arg in overrides if arg.startswith(("hydra.run.dir=", "resume="))]

        def wait_for_a_checkpoint(timeout=None):
            if timeout is None or killed:
                return wait()
            while process.poll() is None and not (folder / "checkpoints" / "last.ckpt").exists():
                time.sleep(0.01)
            killed.append(folder)
            raise subprocess.TimeoutExpired(overrides, timeout)

        process.wait = wait_for_a_checkpoint
        return process

    monkeypatch.setattr(module, "start", start_and_kill)
    run(module, "--runs", 1, "--images", 12, "--epochs", 2)
    assert capsys.readouterr().out == "run 0: same weights as the uninterrupted one; 1 kills so far\n"


def test_prediction(script, bicubic, capsys):
    load, run = script
    run(load("prediction"), "--megapixels", 0.1, "--alone", 64, "--run", bicubic)
    small, large, alone = capsys.readouterr().out.splitlines()
    for line, megapixels in ((small, "0.06"), (large, "0.1")):
        assert re.fullmatch(
            rf"\w+: {megapixels} megapixels in [\d.]+ s, [\d.]+ per second, peak memory [1-9]\d+ MiB", line
        )
    assert re.fullmatch(r"TorchEngine alone, on a tile of 64: [\d.]+ s for as many pixels; ratio [\d.]+", alone)


def test_engines(script, monkeypatch, capsys):
    load, run = script
    monkeypatch.setattr(torch, "compile", lambda net: net)  # takes seconds
    run(load("engines"), "--runs", 1, "--tiles", 16)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[2] for row in rows[:4]] == ["PyTorch", "PyTorch, bfloat16", "PyTorch, compiled", "onnxruntime"]
    assert {row[0] for row in rows} == {"`srcolor/sr_x2_small`", "`srcolor/sr_x2`", "product of matrices"}
    operations = 2 * 16**2 * sum(w.numel() for w in runs.load_net("srcolor/sr_x2_small").parameters() if w.dim() == 4)
    assert float(rows[3][3]) == pytest.approx(operations / float(rows[3][4]) / 1e6, rel=0.2)  # rounded


def test_bundle(script, tmp_path, monkeypatch, capsys):
    load, run = script
    source = bundled.find("srcolor/sr_x2_small")
    for name in ("sr_x2_small", "colorize64"):
        (tmp_path / f"{name}.safetensors").write_bytes(source.read_bytes())
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    monkeypatch.setattr(bundled, "HASHES", tmp_path / "hashes.json")
    run(load("bundle"))
    files = ["colorize64.safetensors", "sr_x2_small.onnx", "sr_x2_small.safetensors"]
    assert json.loads((tmp_path / "hashes.json").read_text()) == {f: bundled.sha256(tmp_path / f) for f in files}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["colorize64.safetensors", "hashes.json", *files[1:]]
    assert bundled.has_onnx("srcolor/sr_x2_small")
    assert not bundled.has_onnx("srcolor/colorize64")


def test_protocol(script, sets, capsys):
    load, run = script
    run(load("protocol"), sets / "benchmark")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "BSD100: at least 100.0000% of the stored low resolution of each of 1 images"
    assert lines[4].startswith("Set5: at least 100.0000%")
    for block in (lines[1:4], lines[5:8]):
        assert [line.split()[0] for line in block] == ["published", "classical", "srcolor"]
        psnr, ssim = np.array([line.split()[1].split("/") for line in block[1:]], float).T
        assert np.ptp(psnr) < 0.5
        assert np.ptp(ssim) < 0.01


def test_cost(script, tiny_run, tmp_path, capsys):
    load, run = script
    (tmp_path / "metrics.json").write_text(json.dumps({"sets": {"Set5": {"psnr_y": 33.21}}}))
    run(load("cost"), tiny_run, "--tests", tmp_path, "--plot", tmp_path / "cost.png", "--seconds", 0)
    (line,) = capsys.readouterr().out.splitlines()
    values = {key: float(value.replace(",", "")) for key, value in re.findall(r"(\w+) ([\d.,]+)(?:  |$)", line)}
    net = runs.load_net(str(tiny_run))
    assert values["parameters"] == sum(p.numel() for p in net.parameters())
    weights = sum(p.numel() for p in net.parameters() if p.dim() == 4)  # all at low resolution
    assert values["multiply_adds_g"] == pytest.approx(weights * 640 * 360 / 1e9, abs=0.005)
    assert min(values["ms_64"], values["ms_512"]) > 0
    assert values["set5"] == 33.21
    with Image.open(tmp_path / "cost.png") as picture:
        assert picture.size == (1000, 400)


def test_verify_weights(script, sets, monkeypatch, capsys):
    load, run = script
    module = load("verify_weights")
    one = ("--only", "sr_x2_small data=photos pair=block_mean")
    with pytest.raises(SystemExit) as end:
        run(module, sets, *one)
    assert end.value.code == 0
    (line,) = capsys.readouterr().out.splitlines()
    shown = re.fullmatch(r"ok    sr_x2_small  data=photos pair=block_mean  test\.psnr  (.+)  measured (.+)", line)
    assert float(shown[1]) == pytest.approx(float(shown[2]), abs=0.02)
    assert f"`test.psnr` | {shown[1]} |" in (ROOT / "docs" / "weights" / "sr_x2_small.md").read_text()
    monkeypatch.setattr(module, "measured", lambda *_: {"test": {"psnr": 33.84}})
    with pytest.raises(SystemExit, match=r"1 value\(s\) differ from the cards"):
        run(module, sets, *one)
    assert capsys.readouterr().out.startswith("WRONG")


def test_refactoring(script, tmp_path, capsys):
    load, run = script
    module, file = load("refactoring"), tmp_path / "record.json"
    run(module, file, "--experiments", "sr64to128")
    recorded = json.loads(file.read_text())
    assert {"sr64to128/samples/test.png", "sr64to128/metrics.json:/test/psnr"} <= recorded.keys()
    assert any(name.startswith("sr64to128/checkpoints/best.ckpt:net.") for name in recorded)
    file.write_text(json.dumps(recorded | {"sr64to128/per_image.csv:psnr": "other"}))
    with pytest.raises(SystemExit) as end:
        run(module, file, "--experiments", "sr64to128", "--check")
    assert end.value.code == 1
    assert f"{len(recorded)} digests: {len(recorded) - 1} equal, 1 not; 0 new" in capsys.readouterr().out


def test_perception_distortion(script, gan_run, pictures, tmp_path, capsys):
    load, run = script
    data_overrides = ["data=folder", f"data.root={pictures}", "size=64", "data.min_side=48"]
    run(load("perception_distortion"), gan_run, *data_overrides, "--output", tmp_path)
    rows = [line.split("|")[1:-1] for line in (tmp_path / "curve.md").read_text().splitlines()]
    table = {row[0].strip(): row[1].strip() for row in rows[2:]}
    assert {"sharpness 0", "sharpness 0.5", "sharpness 1", "unsharp 2", "bicubic, unsharp 0"} <= set(table)
    assert table["sharpness 0"] == table["unsharp 0"] != table["sharpness 1"]
    assert float(table["unsharp 2"]) < float(table["unsharp 0"])
    assert (tmp_path / "curve.md").read_text() in capsys.readouterr().out
    assert Image.open(tmp_path / "curve.png").size[0] > 300


def test_colors(script, codes, study_runs, pictures, capsys):
    load, run = script
    module = load("colors")
    regressor = str(study_runs["colorize64"])
    run(module, codes, regressor, "data=folder", f"data.root={pictures}", "size=64", "data.min_side=48")
    output = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in output.splitlines() if line.startswith("|")]
    values = {}
    for row in rows:
        values.setdefault(row[0], []).extend(row[1:])
    heading = values[""]
    error, best, ratio = (heading.index(name) for name in ("ab-RMSE (CIELAB)", "best of 8", "colorfulness ratio"))
    floors, several = ("gray", "mean_color", "mean_ab_given_luma"), ("samples", "another face's colors")
    assert {*floors, *several, "without a code", "stable", "true code", regressor} <= values.keys()
    assert {f"{name}, codes of neighbors" for name in ("without a code", regressor)} <= values.keys()
    for name in several:
        assert float(values[name][best]) < float(values[name][error])
    assert all(values[name][best] == "-" for name in (*floors, "stable", "true code"))
    assert float(values["gray"][ratio]) == 0
    assert float(values["true code"][error]) < float(values["without a code"][error])


@pytest.mark.parametrize("scale", [1, 2])
def test_restore(script, pictures, call, tmp_path, capsys, scale):
    load, run = script
    module, folder = load("restore"), tmp_path / "run"
    data_overrides = ["data=folder", f"data.root={pictures}", "size=32"]
    args = ["net.net.channels=4", "net.net.blocks=1", "trainer=debug", "data.batch_size=4", f"hydra.run.dir={folder}"]
    assert call(f"experiment={'restore128' if scale == 1 else 'restore64to128'}", *data_overrides, *args) == 0
    capsys.readouterr()
    run(module, folder, *data_overrides)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    names = ["clean", "blur", "grain", "scratches", "dust", "jpeg", "all"]
    assert [row[0] for row in rows] == names
    values = {row[0]: dict(zip(head[1:], map(float, row[1:]), strict=True)) for row in rows}
    baseline = "input" if scale == 1 else "bicubic"
    assert all(values[name][baseline] < values["clean"][baseline] for name in names[1:])
    if scale == 1:
        noisy = torch.randn(200, 200, generator=torch.Generator().manual_seed(0)) * 0.05 + torch.linspace(0, 1, 200)
        assert module.noise_of(noisy.numpy()) == pytest.approx(0.05, rel=0.05)
        assert values["clean"]["input"] == float("inf")
        assert [name.split()[0] for name in head[1:]] == ["input", "non", "total", str(folder)]
        denoised = [value for name, value in values["grain"].items() if name.startswith(("non", "total"))]
        assert min(denoised) > values["grain"]["input"]
    else:
        assert head[1:] == ["bicubic", "srcolor/sr64to128", str(folder)]
        assert values["clean"]["srcolor/sr64to128"] > values["clean"]["bicubic"] + 1
        assert values["grain"]["srcolor/sr64to128"] < values["grain"]["bicubic"]  # it sharpens noise


def test_restore_takes_runs_of_one_scale(script, bicubic, tmp_path):
    load, run = script
    config = {"_target_": "srcolor.nets.bicubic.Bicubic", "scale": 1}
    torch.save({"net_config": config, "state_dict": {}, "trained_on": []}, tmp_path / "x1.ckpt")
    with pytest.raises(UserError, match=r"the runs have the scales \[1, 2\]: expected runs of one scale"):
        run(load("restore"), bicubic, tmp_path / "x1.ckpt")


def test_equal_colors(script, study_runs, pictures, capsys):
    load, run = script
    module = load("equal_colors")
    generator = torch.Generator().manual_seed(0)
    target, prediction = (0.3 + 0.4 * torch.rand(2, 3, 16, 16, generator=generator) for _ in range(2))
    mapped = module.with_colors_of(prediction, target)
    colors = [rgb_to_lab(images)[:, 1:].flatten(2) for images in (mapped, target)]
    torch.testing.assert_close(colors[0].mean(2), colors[1].mean(2), rtol=0, atol=0.5)  # the luma moves a*, b* a little
    covariances = [torch.stack([torch.cov(one) for one in color]) for color in colors]
    torch.testing.assert_close(covariances[0], covariances[1], rtol=0.05, atol=1)
    torch.testing.assert_close(module.with_colors_of(target, target), target, rtol=0, atol=1e-3)

    run(module, study_runs["colorize64"], "data=folder", f"data.root={pictures}", "size=64", "data.min_side=48")
    rows = capsys.readouterr().out.strip().splitlines()[-2:]
    values = [float(row.split("|")[5]) for row in rows]  # ab-RMSE
    assert values[1] < values[0]


def test_card_picture(script, tmp_path, capsys):
    load, run = script
    module = load("card_picture")
    run(module, "srcolor/sr_x2_small", tmp_path / "card.png")
    psnr = {tuple(line.split("  ")[:2]): float(line.split()[-2]) for line in capsys.readouterr().out.splitlines()}
    assert psnr["astronaut", "after JPEG"] < psnr["astronaut", "bicubic"] < psnr["astronaut", "network"]
    with Image.open(tmp_path / "card.png") as picture:
        assert picture.size == (5 * 288, 2 * 288)
        assert np.array_equal(np.asarray(picture)[:288, 4 * 288 :], data.astronaut()[40:328, 160:448])


def test_web(script, monkeypatch, capsys):
    load, run = script
    module = load("web")
    monkeypatch.setattr(module, "clicks", lambda address, photo: {"Enlarge": 1.25})  # needs a browser
    run(module, "--megapixels", 0.01)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"extra web: \d\d packages, \d+ MB", lines[0])
    assert re.fullmatch(r"page: [\d.]+ s after the command", lines[1])
    assert lines[2] == "Enlarge: 1.2 s from the click to the result, 0.01 megapixels"
    assert float(re.search(r"([\d.]+) MiB", lines[3])[1]) > 100


def test_time_to_quality(script, pictures, monkeypatch, capsys):
    load, run = script
    module = load("time_to_quality")
    monkeypatch.setattr(module, "GAINS", (-50.0, 50.0))
    short = ["size=48", "net.blocks=1", "callbacks.leaks=null"]
    run(module, f"data.root={pictures}", *short, "--minutes", 0.05)
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines() if "|" in line
    ]
    assert rows[0] == ["recipe", "+-50.0 dB", "+50.0 dB", "at the end"]
    assert [row[0] for row in rows[2:]] == ["default", "EDSR"]
    for _, soon, never, _ in rows[2:]:
        assert (float(soon) >= 0, never) == (True, "-")
