"""The benchmark's protocol against slow references in float64, on images created by the tests."""

import csv
import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from skimage import data
from skimage.metrics import structural_similarity

from srcolor import metrics, runs
from srcolor.benchmark import published
from srcolor.benchmark.lowres import imresize
from srcolor.benchmark.sets import Benchmark
from srcolor.errors import UserError
from srcolor.inference import export


def cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def shrink_line(line, scale):
    """Shrink a line of numbers, output by output and tap by tap."""
    shrunk = []
    for position in range(len(line) // scale):
        center = (position + 0.5) * scale - 0.5
        total = weights = 0.0
        for tap in range(int(center) - 3 * scale, int(center) + 3 * scale + 1):
            weight = cubic((center - tap) / scale)
            total += weight * float(line[min(max(tap, 0), len(line) - 1)])
            weights += weight
        shrunk.append(int(min(max(total / weights, 0), 255) + 0.5))
    return shrunk


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_imresize_matches_a_tap_by_tap_reference(scale):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 36, 1), np.uint8)
    rows = np.array([shrink_line(column, scale) for column in pixels[..., 0].T]).T
    expected = np.array([shrink_line(row, scale) for row in rows])
    np.testing.assert_array_equal(imresize(pixels, scale)[..., 0], expected)


def literature_y(pixels):
    red, green, blue = np.moveaxis(pixels.astype(np.float64), -1, 0)
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


def test_psnr_and_ssim_of_y_match_a_slow_reference():
    generator = np.random.default_rng(0)
    truth = data.astronaut()[100:160, 200:270]
    noisy = (truth + generator.normal(0, 9, truth.shape)).clip(0, 255).round().astype(np.uint8)
    y = [literature_y(pixels) for pixels in (noisy, truth)]
    psnr = 10 * np.log10(255**2 / np.mean((y[0] - y[1]) ** 2))
    _, similarity = structural_similarity(
        *y, win_size=11, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True
    )
    images = [torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).double() / 255 for pixels in (noisy, truth)]
    ours = {name: metrics.MEASURES[name]()(*images).item() for name in ("psnr_y", "ssim_y", "psnr_luma")}
    assert ours["psnr_y"] == pytest.approx(psnr, abs=1e-5)
    assert ours["ssim_y"] == pytest.approx(similarity[5:-5, 5:-5].mean(), abs=1e-7)
    assert ours["psnr_y"] == pytest.approx(ours["psnr_luma"] + 20 * np.log10(255 / 219), abs=1e-5)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two sets: one with low-resolution images, wrong on purpose; one of odd sizes without."""
    root = tmp_path_factory.mktemp("benchmark")
    photo = data.astronaut()
    for name in ("HR", "LR_x2"):
        (root / "Loaded" / name).mkdir(parents=True)
    (root / "Resized").mkdir()
    for i in range(2):
        high = photo[60 * i : 60 * i + 40, 100:148]
        Image.fromarray(high).save(root / "Loaded" / "HR" / f"{i}.png")
        Image.fromarray(high[::2, ::2].copy()).save(root / "Loaded" / "LR_x2" / f"{i}.png")
    Image.fromarray(photo[200:241, 100:151]).save(root / "Resized" / "odd.png")
    Image.fromarray(photo[300:340, 100:148, 1]).save(root / "Resized" / "gray.png")
    return root


def test_pairs_are_cropped_read_and_computed(sets):
    benchmark = Benchmark(root=str(sets), scale=2)
    benchmark.setup()
    assert [benchmark.name("test", row) for row in range(4)] == [
        "Loaded/0.png",
        "Loaded/1.png",
        "Resized/gray.png",
        "Resized/odd.png",
    ]
    loaded, _, gray, odd = (benchmark.pair(row) for row in range(4))
    assert torch.equal(loaded.input, loaded.target[..., ::2, ::2])  # from the file, not computed
    assert odd.target.shape == (1, 3, 40, 50)
    pixels = (odd.target[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    np.testing.assert_array_equal(pixels, data.astronaut()[200:240, 100:150])
    computed = (odd.input[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    np.testing.assert_array_equal(computed, imresize(pixels, 2))
    # A gray image is read as RGB: its Y is 16 + 219 / 255 of its values, not the values.
    assert torch.equal(gray.target[:, 0], gray.target[:, 2])
    error = torch.zeros_like(gray.target) + 10 / 255
    y = metrics.PSNRY()((gray.target * 0.5 + error).double(), (gray.target * 0.5).double())
    assert y.item() == pytest.approx(10 * np.log10(255**2 / (10 * 219 / 255) ** 2), abs=1e-4)


def test_16_bit_images_are_scaled_to_8_bits(tmp_path):
    (tmp_path / "Set").mkdir()
    eight = data.camera()[:40, :40]
    Image.fromarray(eight.astype(np.uint16) * 257).save(tmp_path / "Set" / "deep.png")
    benchmark = Benchmark(root=str(tmp_path), scale=2)
    benchmark.setup()
    np.testing.assert_array_equal((benchmark.pair(0).target[0, 0] * 255).round().numpy(), eight)


def test_run_is_tested_next_to_the_published_rows(sets, tiny_run, call_eval, tmp_path, capfd):
    folder = tmp_path / "test"
    overrides = ["data=benchmark", f"data.root={sets}", "trainer.accelerator=cpu", f"hydra.run.dir={folder}"]
    assert call_eval(f"ckpt={tiny_run}", *overrides) == 0
    results = json.loads((folder / "metrics.json").read_text())
    net, benchmark = runs.load_net(str(tiny_run)), Benchmark(root=str(sets), scale=2)
    benchmark.setup()
    values = {}
    for row in range(4):
        pair = benchmark.pair(row)
        with torch.inference_mode():
            prediction = (net(pair.input)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()[2:-2, 2:-2]
        truth = (pair.target[0] * 255).round().permute(1, 2, 0).numpy()[2:-2, 2:-2]
        mse = np.mean((literature_y(prediction) - literature_y(truth)) ** 2)
        values.setdefault(benchmark.sets([row])[0], []).append(10 * np.log10(255**2 / mse))
    assert set(results["sets"]) == {"Loaded", "Resized"}
    for name, psnr in values.items():
        assert results["sets"][name]["images"] == 2
        assert results["sets"][name]["psnr_y"] == pytest.approx(np.mean(psnr), abs=2e-3)  # bytes may round differently
        assert set(results["baselines"]["bicubic"]["sets"][name]) == {"psnr_y", "ssim_y", "psnr_rgb", "images"}
    assert results["test"]["psnr_y"] == pytest.approx(np.mean([*values["Loaded"], *values["Resized"]]), abs=2e-3)
    with open(folder / "per_image.csv", newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)][:2] == ["Loaded/0.png", "Loaded/1.png"]
    assert re.search(rf"Loaded \(2\) +Residual +{results['parameters'] / 1000:.0f}K", capfd.readouterr().out)


def test_ensemble_is_tested_as_the_mean_over_flips_and_rotations(sets, tiny_run, call_eval, tmp_path):
    overrides = ["data=benchmark", f"data.root={sets}", "trainer.accelerator=cpu", "ensemble=true"]
    assert call_eval(f"ckpt={tiny_run}", *overrides, f"hydra.run.dir={tmp_path / 'test'}") == 0
    net, benchmark = runs.load_net(str(tiny_run)), Benchmark(root=str(sets), scale=2)
    benchmark.setup()
    values = []
    for row in range(4):
        pair = benchmark.pair(row)
        outputs = []
        for turns in range(4):
            for image in (pair.input, pair.input.flip(3)):
                with torch.inference_mode():
                    output = torch.rot90(net(torch.rot90(image, turns, (2, 3))), -turns, (2, 3))
                outputs.append(output if image is pair.input else output.flip(3))
        prediction = torch.stack(outputs).mean(0)[0].clamp(0, 1).permute(1, 2, 0).numpy()
        truth = (pair.target[0] * 255).round().permute(1, 2, 0).numpy()
        difference = literature_y((prediction * 255).round()) - literature_y(truth)
        values.append(10 * np.log10(255**2 / np.mean(difference[2:-2, 2:-2] ** 2)))
    results = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert results["test"]["psnr_y"] == pytest.approx(np.mean(values), abs=2e-3)  # bytes may round differently


def test_ensemble_of_a_colorizer_is_refused(call_eval, capfd, tmp_path):
    folder = tmp_path / "test"
    assert (
        call_eval(
            "ckpt=srcolor/colorize64",
            "experiment=colorize64",
            "data=photos",
            "ensemble=true",
            f"hydra.run.dir={folder}",
        )
        == 1
    )
    assert "ensemble=true: expected a super-resolution network" in capfd.readouterr().err


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_processes_share_the_images_without_overlap(world, sets):
    seen = []
    for rank in range(world):
        benchmark = Benchmark(root=str(sets), scale=2)
        benchmark.setup()
        benchmark.trainer = SimpleNamespace(global_rank=rank, world_size=world)
        loader = benchmark.test_dataloader()
        rows = [pair.row.item() for pair in loader]
        assert len(rows) == len(loader)
        seen += rows
    assert sorted(seen) == [0, 1, 2, 3]


def test_fewer_images_than_processes_is_an_error(sets):
    benchmark = Benchmark(root=str(sets), scale=2)
    benchmark.setup()
    benchmark.trainer = SimpleNamespace(global_rank=0, world_size=5)
    with pytest.raises(UserError, match=r"only 4 image\(s\) for 5 processes: reduce trainer.devices="):
        benchmark.test_dataloader()


def test_two_processes_report_the_same_as_one(sets, tiny_run, call_eval, tmp_path):
    overrides = [f"ckpt={tiny_run}", "data=benchmark", f"data.root={sets}", "trainer.accelerator=cpu"]
    assert call_eval(*overrides, f"hydra.run.dir={tmp_path / 'one'}") == 0
    command = [sys.executable, "eval.py", *overrides, f"hydra.run.dir={tmp_path / 'two'}"]
    command += ["trainer=ddp", "trainer.devices=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert [figures["images"] for figures in two["sets"].values()] == [2, 2]
    assert two["test"] == pytest.approx(one["test"], rel=1e-5)


def test_external_network_is_in_the_table(sets, elsewhere, call_eval, tmp_path, capfd):
    overrides = ["data=benchmark", f"data.root={sets}", "trainer.accelerator=cpu", f"hydra.run.dir={tmp_path / 'test'}"]
    assert call_eval(f"ckpt={elsewhere}", *overrides) == 0
    results = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert results["parameters"] == sum(p.numel() for p in runs.load_net(elsewhere).parameters())
    assert results["sets"]["Loaded"]["psnr_y"] < 30  # untrained
    assert re.search(r"Loaded \(2\) +SpandrelSR +\dK +unknown", capfd.readouterr().out)


def test_published_rows_are_grouped_by_set_and_comparable_ones_are_marked():
    figures = {"psnr_y": 33.0, "ssim_y": 0.9, "psnr_rgb": 31.0, "images": 5}
    results = {"parameters": 57_000, "sets": {"Set5": figures}, "baselines": {"bicubic": {"sets": {"Set5": figures}}}}
    table = published.table(results, "net", 291, scale=2)
    cells = list(zip(*(column.cells for column in table.columns), strict=True))
    assert cells[0] == ("Set5 (5)", "net", "57K", "291 images", "33.00", "0.9000", "31.00")
    networks = {row[1]: row for row in cells}
    assert {"bicubic *", "SRCNN", "FSRCNN *", "VDSR *", "DRRN *", "IDN *", "CARN", "IMDN", "EDSR-baseline"} < set(
        networks
    )
    assert networks["IDN *"][2:6] == ("553K", "T91+BSD200", "37.83", "0.9600")
    assert len(list(published.table(results, "net", 291, scale=3).columns[0].cells)) == 2
    unknown = published.table(results, "net", None, scale=2).columns[1].cells
    assert [name for name in unknown if name.endswith("*")] == ["bicubic *"]


@pytest.mark.parametrize("scale", [3, 4])
@pytest.mark.parametrize("net", ["residual", "sesr"])
def test_different_scale_takes_one_override(scale, net, sets, pictures, call, call_eval, tmp_path):
    small = ["size=48", "data.epoch_samples=4", "data.batch_size=4", "trainer.max_time=null", "trainer.max_steps=3"]
    small += ["schedule=constant"]  # so that three steps change the network
    experiment = (
        ["experiment=sr_x2", "net=residual", "pair=bicubic"] if net == "residual" else ["experiment=sr_x2_small"]
    )
    overrides = [*experiment, f"scale={scale}", *small, "trainer.accelerator=cpu", f"data.root={pictures}"]
    assert call(*overrides, f"hydra.run.dir={tmp_path / 'run'}") == 0
    assert runs.load_net(str(tmp_path / "run")).scale == scale
    test = ["data=benchmark", f"data.root={sets / 'Resized'}", f"hydra.run.dir={tmp_path / 'test'}"]
    assert call_eval(f"ckpt={tmp_path / 'run'}", *test) == 0
    exported = tmp_path / "exported.safetensors"
    export.main(["--run", str(tmp_path / "run"), "--format", "safetensors", "--output", str(exported)])
    assert call_eval(f"ckpt={exported}", *test[:2], f"hydra.run.dir={tmp_path / 'exported'}") == 0
    assert json.loads((tmp_path / "exported" / "metrics.json").read_text())["sets"]["Resized"]["images"] == 2
    results = json.loads((tmp_path / "test" / "metrics.json").read_text())
    expected = []
    for path in (sets / "Resized").iterdir():
        high = np.asarray(Image.open(path).convert("RGB"))
        high = high[: high.shape[0] // scale * scale, : high.shape[1] // scale * scale]
        low = Image.fromarray(imresize(high, scale))
        enlarged = np.asarray(low.resize((high.shape[1], high.shape[0]), Image.Resampling.BICUBIC))
        inner = (slice(scale, -scale),) * 2
        mse = np.mean((literature_y(enlarged) - literature_y(high))[inner] ** 2)
        expected.append(10 * np.log10(255**2 / mse))
    bicubic, net_psnr = (row["Resized"]["psnr_y"] for row in (results["baselines"]["bicubic"]["sets"], results["sets"]))
    assert bicubic == pytest.approx(np.mean(expected), abs=0.1)  # Pillow rounds between its two passes
    assert 1e-3 < abs(net_psnr - bicubic) < 3


# -- bad input -----------------------------------------------------------------------------------------------------


def spoil_size(root):
    Image.new("RGB", (20, 21)).save(root / "Loaded" / "LR_x2" / "0.png")


def spoil_low(root):
    (root / "Loaded" / "LR_x2" / "1.png").unlink()


def spoil_file(root):
    (root / "Resized" / "odd.png").write_bytes(b"not an image")


def spoil_empty(root):
    (root / "None").mkdir()


def spoil_small(root):
    Image.new("RGB", (40, 12)).save(root / "Resized" / "odd.png")


BAD = {
    "wrong low-res size": (spoil_size, [], r"LR_x2/0\.png is 20x21: expected 24x20, 1/2 of 0\.png"),
    "low resolution missing": (spoil_low, [], r"LR_x2: 1 low-resolution image\(s\) missing, e\.g\. 1\.png"),
    "not an image": (spoil_file, [], r"odd\.png: cannot be read"),
    "empty set": (spoil_empty, [], r"None: no images found\. Put the set's images"),
    "too small": (spoil_small, [], r"Resized/odd\.png: 40x12 is too small: expected sides of at least 15"),
    "no root": (None, ["data.root=null"], r"requires data\.root=<folder with Set5/"),
    "missing root": (None, ["data.root=/nowhere"], r"data\.root=/nowhere does not exist"),
    "mismatched scale": (None, ["scale=3"], r"the prediction is .* `scale` must match both the network"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, sets, tiny_run, call_eval, tmp_path, capfd):
    spoil, overrides, message = BAD[name]
    root = tmp_path / "sets"
    shutil.copytree(sets, root)
    if spoil:
        spoil(root)
    args = [f"ckpt={tiny_run}", "data=benchmark", f"hydra.run.dir={tmp_path / 'run'}", *overrides]
    assert call_eval(*args, *([] if "data.root" in str(overrides) else [f"data.root={root}"])) == 1
    error = capfd.readouterr().err
    assert "Traceback" not in error
    assert re.search(message, error), error


def test_a_color_network_is_refused(sets, study_runs, call_eval, tmp_path, capfd):
    overrides = ["data=benchmark", f"data.root={sets}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert call_eval(f"ckpt={study_runs['colorize64']}", *overrides) == 1
    assert "takes 1 channel(s), the pair has 3: a color network takes gray" in capfd.readouterr().err
