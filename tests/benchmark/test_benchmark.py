"""The benchmark's protocol against slow references in float64, on images that the tests make; and the leak check."""

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
from conftest import ROOT, TINY
from PIL import Image
from skimage import data
from skimage.metrics import structural_similarity

from srcolor import metrics, runs
from srcolor.benchmark import leaks, published
from srcolor.benchmark.lowres import bicubic_down
from srcolor.benchmark.sets import Benchmark
from srcolor.data.prints import fingerprint
from srcolor.errors import UserError


def cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def shrink_line(line, scale):
    """A line of numbers, output by output and tap by tap."""
    shrunk = []
    for place in range(len(line) // scale):
        centre = (place + 0.5) * scale - 0.5
        total = weights = 0.0
        for tap in range(int(centre) - 3 * scale, int(centre) + 3 * scale + 1):
            weight = cubic((centre - tap) / scale)
            total += weight * float(line[min(max(tap, 0), len(line) - 1)])
            weights += weight
        shrunk.append(int(min(max(total / weights, 0), 255) + 0.5))
    return shrunk


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_low_resolution_generator_is_the_one_written_down_tap_by_tap(scale):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 36, 1), np.uint8)
    rows = np.array([shrink_line(column, scale) for column in pixels[..., 0].T]).T
    expected = np.array([shrink_line(row, scale) for row in rows])
    np.testing.assert_array_equal(bicubic_down(pixels, scale)[..., 0], expected)


def literature_y(pixels):
    red, green, blue = np.moveaxis(pixels.astype(np.float64), -1, 0)
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


def test_psnr_and_ssim_of_y_equal_a_slow_reference():
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
    """Two sets: one whose low resolution is given and wrong on purpose, one of odd sizes without."""
    root = tmp_path_factory.mktemp("benchmark")
    photo = data.astronaut()
    for name in ("HR", "LR_x2"):
        (root / "Given" / name).mkdir(parents=True)
    (root / "Made").mkdir()
    for i in range(2):
        high = photo[60 * i : 60 * i + 40, 100:148]
        Image.fromarray(high).save(root / "Given" / "HR" / f"{i}.png")
        Image.fromarray(high[::2, ::2].copy()).save(root / "Given" / "LR_x2" / f"{i}.png")
    Image.fromarray(photo[200:241, 100:151]).save(root / "Made" / "odd.png")
    Image.fromarray(photo[300:340, 100:148, 1]).save(root / "Made" / "gray.png")
    return root


def test_pairs_are_cut_read_and_made(sets):
    benchmark = Benchmark(root=str(sets), scale=2)
    benchmark.setup()
    assert [benchmark.name("test", row) for row in range(4)] == [
        "Given/0.png",
        "Given/1.png",
        "Made/gray.png",
        "Made/odd.png",
    ]
    given, _, gray, odd = (benchmark.pair(row) for row in range(4))
    assert torch.equal(given.input, given.target[..., ::2, ::2])  # as the file says, whatever we would make
    assert odd.target.shape == (1, 3, 40, 50)
    pixels = (odd.target[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    np.testing.assert_array_equal(pixels, data.astronaut()[200:240, 100:150])
    made = (odd.input[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    np.testing.assert_array_equal(made, bicubic_down(pixels, 2))
    # A gray image is read as RGB: its Y is 16 + 219 / 255 of its values, not the values.
    assert torch.equal(gray.target[:, 0], gray.target[:, 2])
    error = torch.zeros_like(gray.target) + 10 / 255
    y = metrics.PSNRY()((gray.target * 0.5 + error).double(), (gray.target * 0.5).double())
    assert y.item() == pytest.approx(10 * np.log10(255**2 / (10 * 219 / 255) ** 2), abs=1e-4)


def test_16_bit_images_are_brought_to_8(tmp_path):
    (tmp_path / "Set").mkdir()
    eight = data.camera()[:40, :40]
    Image.fromarray(eight.astype(np.uint16) * 257).save(tmp_path / "Set" / "deep.png")
    benchmark = Benchmark(root=str(tmp_path), scale=2)
    benchmark.setup()
    np.testing.assert_array_equal((benchmark.pair(0).target[0, 0] * 255).round().numpy(), eight)


def test_a_run_is_tested_by_the_protocol_and_the_table_has_the_published_rows(sets, tiny_run, call, tmp_path, capfd):
    folder = tmp_path / "test"
    words = ["data=benchmark", f"data.root={sets}", "trainer.accelerator=cpu", f"hydra.run.dir={folder}"]
    assert call("fit=false", f"ckpt={tiny_run}", *words) == 0
    told = json.loads((folder / "metrics.json").read_text())
    net, benchmark = runs.load_net(str(tiny_run)), Benchmark(root=str(sets), scale=2)
    benchmark.setup()
    values = {}
    for row in range(4):
        pair = benchmark.pair(row)
        with torch.inference_mode():
            answer = (net(pair.input)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()[2:-2, 2:-2]
        truth = (pair.target[0] * 255).round().permute(1, 2, 0).numpy()[2:-2, 2:-2]
        mse = np.mean((literature_y(answer) - literature_y(truth)) ** 2)
        values.setdefault(benchmark.sets([row])[0], []).append(10 * np.log10(255**2 / mse))
    assert set(told["sets"]) == {"Given", "Made"}
    for name, own in values.items():
        assert told["sets"][name]["images"] == 2
        assert told["sets"][name]["psnr_y"] == pytest.approx(np.mean(own), abs=2e-3)  # a byte may be rounded otherwise
        assert set(told["baselines"]["bicubic"]["sets"][name]) == {"psnr_y", "ssim_y", "psnr_rgb", "images"}
    assert told["test"]["psnr_y"] == pytest.approx(np.mean([*values["Given"], *values["Made"]]), abs=2e-3)
    with open(folder / "per_image.csv", newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)][:2] == ["Given/0.png", "Given/1.png"]
    assert re.search(rf"Given \(2\) +Residual +{told['parameters'] / 1000:.0f}K", capfd.readouterr().out)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_processes_share_the_images_and_none_has_one_of_another(world, sets):
    seen = []
    for rank in range(world):
        benchmark = Benchmark(root=str(sets), scale=2)
        benchmark.setup()
        benchmark.trainer = SimpleNamespace(global_rank=rank, world_size=world)
        loader = benchmark.test_dataloader()
        rows = [pair.index.item() for pair in loader]
        assert len(rows) == len(loader)
        seen += rows
    assert sorted(seen) == [0, 1, 2, 3]


def test_fewer_images_than_processes_is_an_error(sets):
    benchmark = Benchmark(root=str(sets), scale=2)
    benchmark.setup()
    benchmark.trainer = SimpleNamespace(global_rank=0, world_size=5)
    with pytest.raises(UserError, match=r"4 image\(s\), for 5 processes: give fewer trainer.devices="):
        benchmark.test_dataloader()


def test_two_processes_report_what_one_reports(sets, tiny_run, call, tmp_path):
    words = ["fit=false", f"ckpt={tiny_run}", "data=benchmark", f"data.root={sets}", "trainer.accelerator=cpu"]
    assert call(*words, f"hydra.run.dir={tmp_path / 'one'}") == 0
    command = [sys.executable, "train.py", *words, f"hydra.run.dir={tmp_path / 'two'}"]
    command += ["trainer=ddp", "trainer.devices=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert [figures["images"] for figures in two["sets"].values()] == [2, 2]
    assert two["test"] == pytest.approx(one["test"], rel=1e-5)


def test_a_network_from_elsewhere_is_in_the_table(sets, elsewhere, call, tmp_path, capfd):
    words = ["data=benchmark", f"data.root={sets}", "trainer.accelerator=cpu", f"hydra.run.dir={tmp_path / 'test'}"]
    assert call("fit=false", f"ckpt={elsewhere}", *words) == 0
    told = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert told["parameters"] == sum(p.numel() for p in runs.load_net(elsewhere).parameters())
    assert told["sets"]["Given"]["psnr_y"] < 30  # it was not trained
    assert re.search(r"Given \(2\) +Spandrel +\dK +not told", capfd.readouterr().out)


def test_published_rows_stand_beside_the_sets_they_are_of_and_the_like_is_marked():
    figures = {"psnr_y": 33.0, "ssim_y": 0.9, "psnr_rgb": 31.0, "images": 5}
    told = {"parameters": 57_000, "sets": {"Set5": figures}, "baselines": {"bicubic": {"sets": {"Set5": figures}}}}
    table = published.table(told, "net", 291, scale=2)
    cells = list(zip(*(column.cells for column in table.columns), strict=True))
    assert cells[0] == ("Set5 (5)", "net", "57K", "291 pictures", "33.00", "0.9000", "31.00")
    networks = {row[1]: row for row in cells}
    assert {"bicubic *", "SRCNN", "FSRCNN *", "VDSR *", "DRRN *", "IDN *", "CARN", "IMDN", "EDSR-baseline"} < set(
        networks
    )
    assert networks["IDN *"][2:6] == ("553K", "T91+BSD200", "37.83", "0.9600")
    assert len(list(published.table(told, "net", 291, scale=3).columns[0].cells)) == 2
    unknown = published.table(told, "net", None, scale=2).columns[1].cells
    assert [name for name in unknown if name.endswith("*")] == ["bicubic *"]


@pytest.mark.parametrize("scale", [3, 4])
@pytest.mark.parametrize("net", ["residual", "sesr"])
def test_another_scale_takes_one_word(scale, net, sets, pictures, call, tmp_path):
    small = ["size=48", "data.epoch_samples=4", "data.batch_size=4", "trainer.max_time=null", "trainer.max_steps=3"]
    small += ["schedule=constant"]  # so that three steps change the network
    experiment = ["experiment=sr_x2", "net=residual"] if net == "residual" else ["experiment=sr_x2_small"]
    words = [*experiment, f"scale={scale}", *small, "trainer.accelerator=cpu", f"data.root={pictures}"]
    assert call(*words, f"hydra.run.dir={tmp_path / 'run'}") == 0
    assert runs.load_net(str(tmp_path / "run")).scale == scale
    test = ["data=benchmark", f"data.root={sets / 'Made'}", f"hydra.run.dir={tmp_path / 'test'}"]
    assert call("fit=false", f"ckpt={tmp_path / 'run'}", *test) == 0
    told = json.loads((tmp_path / "test" / "metrics.json").read_text())
    expected = []
    for path in (sets / "Made").iterdir():
        high = np.asarray(Image.open(path).convert("RGB"))
        high = high[: high.shape[0] // scale * scale, : high.shape[1] // scale * scale]
        low = Image.fromarray(bicubic_down(high, scale))
        enlarged = np.asarray(low.resize((high.shape[1], high.shape[0]), Image.Resampling.BICUBIC))
        inner = (slice(scale, -scale),) * 2
        mse = np.mean((literature_y(enlarged) - literature_y(high))[inner] ** 2)
        expected.append(10 * np.log10(255**2 / mse))
    bicubic, own = (row["Made"]["psnr_y"] for row in (told["baselines"]["bicubic"]["sets"], told["sets"]))
    assert bicubic == pytest.approx(np.mean(expected), abs=0.1)  # Pillow rounds between its two passes
    assert 1e-3 < abs(own - bicubic) < 3


# -- leaks ---------------------------------------------------------------------------------------------------------


def changed(picture, how):
    if how == "recompressed":
        return picture, {"format": "JPEG", "quality": 40}
    if how == "resized":
        return picture.resize((picture.width * 2 // 3, picture.height * 2 // 3)), {"format": "PNG"}
    if how == "cropped":
        return picture.crop((6, 4, picture.width - 5, picture.height - 7)), {"format": "PNG"}
    return picture, {"format": "PNG"}


@pytest.mark.parametrize("crop", ["random", "center"])
@pytest.mark.parametrize("how", ["copied", "recompressed", "resized", "cropped"])
def test_a_benchmark_picture_among_the_training_pictures_stops_the_run(how, crop, tmp_path, call, capfd):
    root, held = tmp_path / "pictures" / "train", tmp_path / "benchmark" / "Held"
    for folder in (root, root.parent / "val", root.parent / "test", held):
        folder.mkdir(parents=True)
    for i, name in enumerate(("astronaut", "coffee", "chelsea", "rocket", "retina")):
        picture = Image.fromarray(getattr(data, name)()).resize((300, 200))
        if name == "coffee":
            picture.save(held / "held.png")
            picture, options = changed(picture, how)
            picture.save(root / "sly.png", **options)
        else:
            picture.save((root, root.parent / "val", root.parent / "test")[min(i, 2)] / f"{name}.png")
    words = [*TINY, "data=folder", f"data.crop={crop}", f"data.root={root.parent}", "trainer.max_epochs=1"]
    words = [word for word in words if word != "trainer.max_epochs=2"]
    told = [f"benchmark_root={held.parent}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert call(*words, *told) == 1
    error = capfd.readouterr().err
    assert "error: 1 picture(s) are, or look like, pictures of the benchmark" in error
    assert "train/sly.png (Held/held.png)" in error
    assert "data.exclude" in error
    assert call(*words, *told, "data.exclude=[train/s*.png]") == 0


def test_pictures_that_only_resemble_are_no_leak():
    names = ("astronaut", "coffee", "chelsea", "rocket", "retina", "camera", "moon", "coins", "page", "text")
    prints = np.stack([fingerprint(Image.fromarray(getattr(data, name)())) for name in names])
    leaks.check(names, prints, None)
    distances = np.bitwise_count(prints[:, None] ^ prints[None]).sum(2) + 144 * np.eye(len(names), dtype=int)
    assert distances.min() > leaks.NEAR


def test_what_the_package_knows_of_set5_and_b100_is_found():
    with open(leaks.FILE, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["picture"] for row in rows}) == 105
    known = np.frombuffer(bytes.fromhex(rows[-1]["print"]), np.uint8)
    with pytest.raises(UserError, match=rf"mine\.png \({rows[-1]['picture']}\)"):
        leaks.check(["mine.png"], known[None], None)


# -- bad input -----------------------------------------------------------------------------------------------------


def spoil_size(root):
    Image.new("RGB", (20, 21)).save(root / "Given" / "LR_x2" / "0.png")


def spoil_low(root):
    (root / "Given" / "LR_x2" / "1.png").unlink()


def spoil_file(root):
    (root / "Made" / "odd.png").write_bytes(b"no picture")


def spoil_empty(root):
    (root / "None").mkdir()


def spoil_small(root):
    Image.new("RGB", (40, 12)).save(root / "Made" / "odd.png")


BAD = {
    "low resolution of another size": (spoil_size, [], r"LR_x2/0\.png: 20x21; expected 24x20, 1/2 of 0\.png"),
    "low resolution missing": (spoil_low, [], r"LR_x2: no low-resolution image 1\.png \(1 missing\)"),
    "not a picture": (spoil_file, [], r"odd\.png: cannot be read"),
    "empty set": (spoil_empty, [], r"None: no image\. A set's images are expected there"),
    "too small": (spoil_small, [], r"Made/odd\.png: 40x12 is too small: a side of 15"),
    "no root": (None, ["data.root=null"], r"give data\.root=<folder with Set5/"),
    "missing root": (None, ["data.root=/nowhere"], r"data\.root=/nowhere: no such folder"),
    "training": (None, ["fit=true"], r"data=benchmark is for tests: name the network with fit=false"),
    "another scale": (None, ["scale=3"], r"the prediction is .* `scale` must be that of the network"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, sets, tiny_run, call, tmp_path, capfd):
    spoil, words, message = BAD[name]
    root = tmp_path / "sets"
    shutil.copytree(sets, root)
    if spoil:
        spoil(root)
    first = [word for word in ("fit=false", f"data.root={root}") if word.split("=")[0] not in str(words)]
    assert call(*first, f"ckpt={tiny_run}", "data=benchmark", f"hydra.run.dir={tmp_path / 'run'}", *words) == 1
    error = capfd.readouterr().err
    assert "Traceback" not in error
    assert re.search(message, error), error


def test_a_colour_network_is_refused(sets, study_runs, call, tmp_path, capfd):
    words = ["data=benchmark", f"data.root={sets}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert call("fit=false", f"ckpt={study_runs['colorize64']}", *words) == 1
    assert "takes 1 channel(s), the pair has 3: a colour network takes gray" in capfd.readouterr().err
