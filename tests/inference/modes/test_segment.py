"""srcolor-predict --mode segment: classes, overlay, scale of the network, and refused networks and options."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import nn

from srcolor import class_colors, images, runs
from srcolor.errors import UserError
from srcolor.inference import export, image_files, predict, tiles
from srcolor.inference.modes import base, segment
from srcolor.nets import Net
from srcolor.nets.up_logits import UpLogits
from srcolor.training.segmentation_samples import overlay

PHOTO = data.astronaut()[:90, 200:301]
HEIGHT, WIDTH = PHOTO.shape[:2]


class Reds(Net):
    """Class 1 where the 3x3 mean of red is high, class 2 where that of green is low, else class 0."""

    inputs = 3
    outputs = 3
    logits = True
    scale = 1
    stride = 1
    receptive_field = 3

    def __init__(self):
        super().__init__()
        self.mean = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def forward(self, x):
        red, green, _ = self.mean(x).split(1, 1)
        return torch.cat([torch.full_like(red, 0.5), red, 0.6 - green], 1)


def expected(pixels):
    """Return the classes of Reds by NumPy, and where no other logit is close to the largest."""
    x = np.pad(pixels / np.iinfo(pixels.dtype).max, ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))
    red, green, _ = np.moveaxis(np.nanmean(windows, axis=(3, 4)), 2, 0)
    logits = np.stack([np.full_like(red, 0.5), red, 0.6 - green])
    second, first = np.sort(logits, axis=0)[1:]
    return logits.argmax(0), first - second > 1e-4


@pytest.fixture
def nets(monkeypatch):
    """Networks by the names that `--run` and `--clean-run` accept in these tests."""
    nets = {"reds": Reds()}
    load = runs.load_net
    monkeypatch.setattr(runs, "load_net", lambda run, sharpness=None: nets[run] if run in nets else load(run))
    monkeypatch.setattr(runs, "shrink", lambda run: 1)
    return nets


def run(file, *arguments):
    return predict.main([str(file), "--mode", "segment", "--run", "reds", *arguments])


def results(file):
    """Return the classes and the overlay that were written for an image."""
    classes, overlay = (Image.open(file.with_name(f"{file.stem}_segment{end}.png")) for end in ("", "_overlay"))
    assert classes.mode == "L"
    return np.asarray(classes), np.asarray(overlay)


# -- results ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_the_classes_of_an_image_of_any_format_are_a_gray_png(suffix, nets, tmp_path):
    file = tmp_path / f"a{suffix}"
    Image.fromarray(PHOTO).save(file)
    pixels = np.asarray(Image.open(file))
    assert run(file, "--tile", "32") == 0
    classes, _ = results(file)
    assert classes.shape == (HEIGHT, WIDTH)
    truth, clear = expected(pixels)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(classes[clear], truth[clear])
    assert set(np.unique(classes)) == {0, 1, 2}


def test_an_image_with_16_bits_gets_the_classes_of_its_8_bit_version(nets, tmp_path):
    for name, pixels in (("a", PHOTO), ("b", PHOTO.astype(np.uint16) * 257)):
        image_files.to_image(pixels).write_to_file(str(tmp_path / f"{name}.png"))
        assert run(tmp_path / f"{name}.png") == 0
    eight, sixteen = (results(tmp_path / f"{name}.png")[0] for name in "ab")
    assert (eight == sixteen).mean() > 0.999
    overlay = image_files.read(tmp_path / "b_segment_overlay.png", 1)
    assert overlay.dtype == np.uint16
    np.testing.assert_array_equal(overlay[:, :][sixteen == 0], (PHOTO.astype(np.uint16) * 257)[sixteen == 0])


def test_a_gray_image_is_segmented_and_its_overlay_has_color(nets, tmp_path):
    gray = Image.fromarray(PHOTO).convert("L")
    gray.save(tmp_path / "a.png")
    assert run(tmp_path / "a.png") == 0
    classes, overlay = results(tmp_path / "a.png")
    truth, clear = expected(np.asarray(gray.convert("RGB")))
    np.testing.assert_array_equal(classes[clear], truth[clear])
    assert (np.ptp(overlay.astype(int), axis=2) > 0).mean() == pytest.approx((classes > 0).mean(), abs=0.01)


def test_the_overlay_is_the_mean_of_image_and_class_color_and_leaves_class_0(nets, tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png") == 0
    classes, overlay = results(tmp_path / "a.png")
    np.testing.assert_array_equal(overlay[classes == 0], PHOTO[classes == 0])
    for number in (1, 2):
        mixed = (PHOTO[classes == number].astype(float) + class_colors.COLORS[number - 1]) / 2
        np.testing.assert_allclose(overlay[classes == number], mixed, atol=0.5)


def test_classes_beyond_the_list_of_colors_have_a_color():
    image = image_files.to_image(np.zeros((1, 256, 3), np.uint8))
    classes = image_files.to_image(np.arange(256, dtype=np.uint8)[None])
    overlay = segment.overlay(image, classes).numpy()[0]
    assert (overlay.max(1) > 0).tolist() == [False] + [True] * 255
    np.testing.assert_array_equal(overlay[1], overlay[1 + len(class_colors.COLORS)])


def test_the_overlay_equals_that_of_the_sample_grids():
    numbers = np.arange(9, dtype=np.uint8).repeat(4).reshape(1, 36)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 36, 3), np.uint8)
    written = segment.overlay(image_files.to_image(pixels), image_files.to_image(numbers)).numpy()
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    one_hot = nn.functional.one_hot(torch.from_numpy(numbers.astype(np.int64)), 9).permute(0, 2, 1)[:, :, None].float()
    shown = images.to_uint8(overlay(image, one_hot))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(written.astype(int), shown.astype(int), atol=1)


def test_transparency_and_profile_stay_in_the_overlay_and_not_in_the_classes(nets, tmp_path):
    picture = Image.fromarray(PHOTO)
    picture.putalpha(200)
    picture.save(tmp_path / "a.png", icc_profile=b"a profile")
    assert run(tmp_path / "a.png") == 0
    classes, overlay = (Image.open(tmp_path / f"a_segment{end}.png") for end in ("", "_overlay"))
    assert (classes.mode, "icc_profile" in classes.info) == ("L", False)
    assert overlay.mode == "RGBA"
    assert set(np.unique(np.asarray(overlay)[..., 3])) == {200}


def test_large_results_are_kept_in_a_file(nets, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "LARGE", 1)
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "--tile", "32") == 0
    whole = tiles.segment(Reds(), PHOTO, tile=4096)
    assert (results(tmp_path / "a.png")[0] == whole).mean() > 0.999
    mode = segment.Segment(predict.parse([str(tmp_path / "a.png"), "-m", "segment", "--run", "reds"]))
    assert isinstance(mode.predict(image_files.read(tmp_path / "a.png", 1), lambda fraction: None), np.memmap)


def test_the_image_is_cleaned_first(nets, tmp_path):
    class Negative(Net):
        inputs = outputs = 3
        scale = stride = receptive_field = 1

        def forward(self, x):
            return 1 - x

    nets["negative"] = Negative()
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "--clean-run", "negative") == 0
    truth, clear = expected(255 - PHOTO)
    classes, overlay = results(tmp_path / "a.png")
    np.testing.assert_array_equal(classes[clear], truth[clear])
    np.testing.assert_array_equal(overlay[classes == 0], PHOTO[classes == 0])


# -- files ------------------------------------------------------------------------------------------------------


def test_existing_results_are_skipped_and_overwritten_both(nets, tmp_path, capsys):
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg")
    files = [tmp_path / "a_segment.png", tmp_path / "a_segment_overlay.png"]
    assert run(tmp_path) == 0
    assert run(tmp_path) == 0  # the results are not inputs
    assert capsys.readouterr().out == "1 written\n0 written, 1 skipped (--overwrite replaces existing results)\n"
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a.jpg", *files])
    for file in files:
        file.write_text("kept")
    files[1].unlink()
    assert run(tmp_path) == 0
    assert files[0].read_text() == "kept"
    assert Image.open(files[1]).size == (WIDTH, HEIGHT)
    assert run(tmp_path / "a.jpg", "--overwrite") == 0
    assert all(Image.open(file).size == (WIDTH, HEIGHT) for file in files)


def test_two_sources_of_one_stem_are_refused(nets, tmp_path, capsys):
    for suffix in (".jpg", ".png"):
        Image.fromarray(PHOTO).save(tmp_path / f"a{suffix}")
    with pytest.raises(SystemExit):
        run(tmp_path)
    assert "would both be written to" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["segment", "segment_overlay"])
def test_a_result_never_replaces_the_image_that_it_links_to(ending, nets, tmp_path, capsys):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    (tmp_path / f"a_{ending}.png").symlink_to("a.png")
    assert run(tmp_path / "a.png", "--overwrite") == 1
    assert "a.png: the result would replace the image itself" in capsys.readouterr().out
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), PHOTO)


# -- scale ------------------------------------------------------------------------------------------------------


@pytest.fixture
def inputs(nets):
    """Return the sizes of the inputs that the network gets."""
    sizes = []
    nets["reds"].register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape[-2:])))
    return sizes


def test_the_image_is_reduced_as_in_training(nets, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "shrink", lambda run: 2)
    photo = data.astronaut()[:96, 200:296]
    Image.fromarray(photo).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png") == 0
    assert inputs == [(48, 48)]
    small = photo.reshape(48, 2, 48, 2, 3).mean((1, 3)).astype(np.uint8)
    nearest = expected(small)[0].repeat(2, 0).repeat(2, 1)
    assert (results(tmp_path / "a.png")[0] == nearest).mean() > 0.9  # only boundaries move


def test_a_run_is_applied_at_the_scale_of_its_training(segment_run, tmp_path):
    """The run was trained on images reduced by 2."""
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    assert predict.main([str(tmp_path / "a.png"), "--mode", "segment", "--run", str(segment_run)]) == 0
    net = UpLogits(runs.load_net(str(segment_run)), 2, shrink=True)
    with torch.inference_mode():
        first, second = net(torch.from_numpy(PHOTO / np.float32(255)).permute(2, 0, 1)[None])[0].numpy()
    clear = np.abs(first - second) > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(results(tmp_path / "a.png")[0][clear], (second > first)[clear])


@pytest.mark.parametrize(("option", "sizes"), [("1", [(90, 101)]), ("3", [(30, 34)])])
def test_the_option_shrink_replaces_the_factor_of_training(option, sizes, nets, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "shrink", lambda run: 2)
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "--shrink", option) == 0
    assert inputs == sizes
    assert results(tmp_path / "a.png")[0].shape == (HEIGHT, WIDTH)


def test_an_image_that_is_too_small_to_be_reduced_is_refused(nets, inputs, tmp_path, capsys):
    nets["reds"].stride = 8
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "--shrink", "1000") == 1
    error = "--shrink 1000 reduces the image from 101x90 to 1x1: expected at least 8x8. Pass --shrink 11."
    assert error in capsys.readouterr().out
    assert not inputs
    assert run(tmp_path / "a.png", "--shrink", "11") == 0
    Image.fromarray(PHOTO[:5, :5]).save(tmp_path / "b.png")
    assert run(tmp_path / "b.png", "--shrink", "1") == 0  # smaller than the stride, but not reduced


# -- errors -----------------------------------------------------------------------------------------------------

BAD = {
    "no network": (["-m", "segment"], "--mode segment requires --run: .*Train one: python train.py experiment=segment"),
    "tint": (["-m", "segment", "--run", "reds", "--tint", "warm"], "--tint requires --mode colorize or restore"),
    "saturation": (["-m", "segment", "--run", "reds", "--saturation", "2"], "--saturation requires --mode colorize or"),
    "sr-run": (["-m", "segment", "--run", "reds", "--sr-run", "x"], "--sr-run requires --mode restore"),
    "compare": (["-m", "segment", "--run", "reds", "--compare"], "--compare requires --mode upscale, colorize or rest"),
    "sharpness": (["-m", "segment", "--run", "reds", "--sharpness", "1"], "--sharpness requires --mode upscale, color"),
    "sheet": (["-m", "segment", "--run", "reds", "--sheet"], "--sheet requires --mode colorize"),
    "samples": (["-m", "segment", "--run", "reds", "--samples", "2"], "--samples requires --mode colorize"),
    "shrink of another mode": (["--shrink", "2"], "--shrink requires --mode segment"),
    "no shrink": (["-m", "segment", "--run", "reds", "--shrink", "0"], "--shrink 0: expected at least 1"),
    "a colorizer": (
        ["-m", "segment", "--run", "srcolor/colorize64"],
        "--run srcolor/colorize64: UNetCodes does not match this mode: expected a segmentation network for RGB",
    ),
    "an enlarging network": (["-m", "segment", "--run", "srcolor/sr_x2_small"], "expected a segmentation network"),
    **{
        f"a segmentation network in the mode {mode}": (
            ["-m", mode, "--run", "reds"],
            "--run reds: Reds does not match this mode: expected .*It returns the logits of classes, not an image: use",
        )
        for mode in ("upscale", "colorize", "restore")
    },
    "a segmentation network that should clean": (
        ["--clean-run", "reds"],
        "--clean-run reds: Reds does not match this option: expected a restoration .*It returns the logits of classes",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_options_and_networks_are_refused_in_one_line(name, nets, tmp_path, monkeypatch, capsys):
    arguments, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PHOTO).save("a.png")
    try:
        returned = predict.main(["a.png", *arguments])
    except SystemExit as exit:
        returned = exit.code
    assert returned == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.count("error: ") == 1
    with pytest.raises(UserError, match=message):
        raise UserError(line)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_more_classes_than_a_byte_holds_are_refused():
    net = Reds()
    net.outputs = 257
    with pytest.raises(UserError, match=r"Reds has 257 classes: expected at most 256"):
        tiles.segment(net, PHOTO)


def test_an_exported_network_still_segments(nets, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export.to_onnx("reds", tmp_path / "reds.onnx")
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "--run", str(tmp_path / "reds.onnx")) == 0
    whole = tiles.segment(Reds(), PHOTO)
    assert (results(tmp_path / "a.png")[0] == whole).mean() > 0.999
    with pytest.raises(UserError, match=r"It returns the logits of classes"):
        predict.load(str(tmp_path / "reds.onnx"), "clean")
