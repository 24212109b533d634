"""Comparisons of tiny networks: routes, tables and errors."""

import csv
import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import COLOR, COMMON, FILES
from PIL import Image

from srcolor import images, runs
from srcolor.analysis import comparison, figures, routes
from srcolor.analysis.studies.color import ColorStudy
from srcolor.cli import overrides
from srcolor.data.sources.folder import Folder
from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.nets import Net
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.chain import Chain
from srcolor.nets.chroma_table import ChromaTable
from srcolor.runs.spandrel_nets import SpandrelColor

STUDY = ColorStudy()


def arguments(study_runs, folder, **others):
    nets = {"colorize": study_runs["colorize64"], "sr": study_runs["sr64to128"], **others}
    return [*(f"{key}={value}" for key, value in nets.items()), "bootstrap=200", f"hydra.run.dir={folder}"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory, study_runs, call_compare):
    """Compare every route; return the folder."""
    folder = tmp_path_factory.mktemp("compared") / "one"
    more = {"colorize128": study_runs["colorize128"], "chain": study_runs["chain64to128"]}
    assert call_compare(*arguments(study_runs, folder, **more)) == 0
    return folder


def test_the_super_resolution_network_may_be_external(study_runs, elsewhere, call_compare, tmp_path, capfd):
    assert call_compare(*arguments(study_runs, tmp_path / "one", sr=elsewhere)) == 0
    assert set(read(tmp_path / "one")["routes"]) == {"bicubic_color", "chain", "chain_luma", "direct", "keep_luma"}
    assert "the training images are unknown" in " ".join(capfd.readouterr().out.split())


def test_the_color_network_may_be_external(study_runs, ddcolor, call_compare, tmp_path, monkeypatch):
    monkeypatch.setattr(SpandrelColor, "render_size", 32)
    data = json.loads((study_runs["colorize64"] / "metrics.json").read_text())["images"]
    args = arguments(study_runs, tmp_path / "one", colorize=ddcolor)
    root = next(arg for arg in runs.overrides(study_runs["colorize64"]) if arg.startswith("data.root="))
    assert call_compare(*args, "size=64", "data=folder", root, "data.min_side=48") == 0
    results = read(tmp_path / "one")
    assert results["images"] == data
    assert set(results["routes"]) == {"bicubic_color", "chain", "chain_luma", "direct", "keep_luma"}
    assert all(row["ab_rmse"] > 0 and row["peak_memory_mb"] > 50 for row in results["routes"].values())
    assert results["steps"] == []  # it is not trained
    assert "training step" not in (tmp_path / "one" / "comparison.md").read_text()
    assert figures.memory(results).empty


def test_adversarial_networks_add_their_routes(study_runs, call_compare, tmp_path):
    gan = {"sr_gan": study_runs["sr64to128"], "colorize_gan": study_runs["colorize64"]}
    assert call_compare(*arguments(study_runs, tmp_path / "out", **gan)) == 0
    results = read(tmp_path / "out")
    for route in ("chain", "keep_luma"):
        assert results["routes"][f"{route}_gan"]["psnr"] == results["routes"][route]["psnr"]  # the same networks
    assert results["questions"]["keep_luma_gan - keep_luma"]["psnr"] == [0, 0, 0]


def read(folder):
    return json.loads((folder / "comparison.json").read_text())


SMALL = ["bicubic_color", "chain", "chain_luma", "chain_tuned"]
LARGE = ["direct", "keep_luma", "trained_at_128"]
FLOORS = ["gray", "mean_color", "mean_ab_given_luma"]


def test_every_route_is_reported_with_its_input_and_costs(compared):
    results = read(compared)
    assert {name: row["given"] for name, row in results["routes"].items()} == dict.fromkeys(SMALL, 32) | dict.fromkeys(
        LARGE, 64
    )
    assert {name: row["given"] for name, row in results["floors"].items()} == dict.fromkeys(FLOORS, 64) | {
        f"bicubic_{name}": 32 for name in FLOORS
    }
    for row in (*results["routes"].values(), *results["floors"].values()):
        assert row["psnr"] > 5
        assert row["ms_per_image"] > 0
        assert row["peak_memory_mb"] > 0
        parts = sum(row[f"{part}_square"] for part in ("tint", "patches", "detail"))
        assert row["ab_rmse_square"] == pytest.approx(parts, rel=1e-4)
    assert results["routes"]["chain"]["train_seconds"] == pytest.approx(
        sum(results["routes"][name]["train_seconds"] for name in ("direct",))
        + json.loads((runs.find(results["runs"]["sr"]).parent.parent / "metrics.json").read_text())["train"]["seconds"]
    )
    assert [step["side"] for step in results["steps"]] == [32, 64]
    assert results["steps"][1]["peak_memory_mb"] > 2 * results["steps"][0]["peak_memory_mb"]


def test_route_psnr_matches_its_networks(compared, study_runs, pictures):
    results = read(compared)
    color, sr = (runs.load_net(str(study_runs[name])) for name in ("colorize64", "sr64to128"))
    rows = json.loads((study_runs["sr64to128"] / "metrics.json").read_text())
    assert results["images"] == rows["images"]
    data = Folder(**(COMMON | FILES | {"root": str(pictures), "size": 64, "min_side": 48, "drop_gray": True}))
    data.setup()
    target = torch.cat([pair.target for pair in data.pairs("test")])
    with torch.no_grad():
        chain = sr(color(images.luma(images.block_mean(target, 2))).clamp(0, 1)).clamp(0, 1)
    psnr = -10 * (chain - target).square().mean((1, 2, 3)).double().log10()
    assert results["routes"]["chain"]["psnr"] == pytest.approx(psnr.mean().item(), rel=1e-5)
    with torch.no_grad():
        direct = color(images.luma(target)).clamp(0, 1)
    psnr = -10 * (direct - target).square().mean((1, 2, 3)).double().log10()
    assert results["routes"]["direct"]["psnr"] == pytest.approx(psnr.mean().item(), rel=1e-5)


BOOTSTRAP = routes.Bootstrap(np.arange(2), 100, 0)


@pytest.fixture
def measured():
    """Measure two routes on two images whose color errors differ much."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 32, 32, generator=generator)
    target[1] = images.luma(target[1:]) + 0.1 * (target[1] - images.luma(target[1:]))
    pairs = [Pair(images.luma(target), target, torch.arange(2))]
    floors = STUDY.floors({}, lambda: pairs, 2)
    measured = {"chain": floors["bicubic_mean_color"], "direct": floors["gray"]}
    assert routes.measure(STUDY, measured, pairs, 2) == 2
    return measured


def test_squared_parts_add_up_to_the_squared_ab_error(measured):
    for route in measured.values():
        parts = sum(route.values[part] ** 2 for part in ("tint", "patches", "detail"))
        np.testing.assert_allclose(parts, route.values["ab_rmse"] ** 2, rtol=1e-4)


def test_error_split_bars_add_up_to_the_mean_square(measured):
    results = {"routes": routes.report(STUDY, measured, {"small": 16, "large": 32}, measured, BOOTSTRAP), "floors": {}}
    (axes,) = figures.error_split(results).axes
    for name, route in measured.items():
        row = [label.get_text() for label in axes.get_yticklabels()].index(name)
        whole = sum(bars[row].get_width() for bars in axes.containers)
        assert whole == pytest.approx((route.values["ab_rmse"] ** 2).mean(), rel=1e-4)


def test_a_comparison_without_mean_squares_is_refused(measured):
    results = {"routes": routes.report(STUDY, measured, {"small": 16, "large": 32}, measured, BOOTSTRAP), "floors": {}}
    for row in results["routes"].values():
        del row["tint_square"]
    with pytest.raises(UserError, match=r"comparison\.json has no mean squares; it was written by an older version"):
        figures.error_split(results)


def test_differences_across_the_groups_are_reported(compared):
    results = read(compared)
    assert list(results["questions"]) == ["chain - direct", "keep_luma - chain", "keep_luma - trained_at_128"]
    mean, low, high = results["questions"]["keep_luma - chain"]["psnr"]
    assert mean == pytest.approx(results["routes"]["keep_luma"]["psnr"] - results["routes"]["chain"]["psnr"])
    assert low <= mean <= high


def test_seeds_are_averaged_and_consistent_differences_are_marked(compared):
    results = {0: read(compared), 1: read(compared)}
    for metric, ends in (("psnr", [1.0, 0.5, 1.5]), ("ssim", [0.01, -0.01, 0.03]), ("tint", [1.0, 0.5, 1.5])):
        results[0]["routes"]["keep_luma"]["difference"][metric] = ends
        results[1]["routes"]["keep_luma"]["difference"][metric] = (
            [-x for x in reversed(ends)] if metric == "tint" else ends
        )
    results[1]["routes"]["keep_luma"]["psnr"] = results[0]["routes"]["keep_luma"]["psnr"] + 2
    (line,) = [line for line in comparison.over_seeds(results).splitlines() if line.startswith("| keep_luma |")]
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert (
        cells[0] == f"{results[0]['routes']['keep_luma']['psnr'] + 1:.2f} ± 1.41*"
    )  # the interval excludes zero in both
    assert not cells[1].endswith("*")  # in neither
    assert not cells[7].endswith("*")  # with opposite signs


def test_csv_and_markdown_agree_with_json(compared):
    results = read(compared)
    rows = {row["route"]: row for row in csv.DictReader((compared / "comparison.csv").open())}
    assert list(rows) == [*results["routes"], *results["floors"]]
    assert float(rows["keep_luma"]["psnr"]) == results["routes"]["keep_luma"]["psnr"]
    assert float(rows["keep_luma"]["psnr_low"]) == results["routes"]["keep_luma"]["difference"]["psnr"][1]
    text = (compared / "comparison.md").read_text()
    assert "| colorfulness ratio |" in text
    assert f"| keep_luma | {results['routes']['keep_luma']['psnr']:.2f} |" in text
    small, large = text.index("Given gray 32x32"), text.index("Given gray 64x64")
    assert small < text.index("| chain_tuned |") < large < text.index("| keep_luma |")  # never in one table
    with Image.open(compared / "comparison.png") as picture:
        assert picture.width == 9 * (64 + 4) - 4  # gray, seven routes, truth


def test_a_repeated_comparison_is_equal_except_for_times(compared, study_runs, call_compare, tmp_path):
    more = {"colorize128": study_runs["colorize128"], "chain": study_runs["chain64to128"]}
    assert call_compare(*arguments(study_runs, tmp_path / "two", **more)) == 0

    def timeless(results):
        for row in (*results["routes"].values(), *results["floors"].values(), *results["steps"]):
            row.pop("ms_per_image", None), row.pop("images_per_second", None)
        return results

    assert timeless(read(tmp_path / "two")) == timeless(read(compared))
    one, two = (folder / "comparison.png" for folder in (compared, tmp_path / "two"))
    assert one.read_bytes() == two.read_bytes()


def test_a_chain_loads_without_the_runs_of_its_networks(study_runs, tmp_path, call):
    checkpoint = tmp_path / "chain.ckpt"
    shutil.copy(study_runs["chain64to128"] / "checkpoints" / "best.ckpt", checkpoint)
    config = runs.read(checkpoint)["net_config"]
    assert config["first"]["_target_"] == "srcolor.nets.unet.UNet"
    assert config["second"]["_target_"] == "srcolor.nets.residual.Residual"
    assert "runs" not in json.dumps(config)
    assert str(study_runs["colorize64"]) not in json.dumps(config)
    net = runs.load_net(str(checkpoint))
    assert net(torch.rand(1, 1, 16, 16)).shape == (1, 3, 32, 32)


def test_a_chain_with_running_statistics_resumes_bit_for_bit(study_runs, pictures, tmp_path, call):
    """A loaded network is in evaluation mode; its BatchNorm must leave it for training."""
    article = [override for override in COLOR if not override.startswith("net.")] + [
        "data=folder",
        f"data.root={pictures}",
    ]
    color = tmp_path / "color"
    first = ["experiment=colorize64_article", *article, "data.batch_size=8", "trainer.max_epochs=1"]
    assert call(*first, f"hydra.run.dir={color}") == 0
    chain = [
        "experiment=chain64to128",
        *article,
        "schedule=constant",
        f"net.first.run={color}",
        f"net.second.run={study_runs['sr64to128']}",
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert call(*chain, f"hydra.run.dir={whole}") == 0
    assert call(*chain, "trainer.max_epochs=1", f"hydra.run.dir={parts}") == 0
    shutil.rmtree(color)
    assert call(f"resume={parts}", "trainer.max_epochs=2") == 0
    states = [runs.read(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (whole, parts)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    best = runs.read(parts / "checkpoints" / "best.ckpt")
    counts = [value for key, value in best["state_dict"].items() if key.endswith("num_batches_tracked")]
    assert counts
    assert all(count > 4 for count in counts)  # more than the four steps of the first run


def test_eval_tests_a_chain_of_two_runs(study_runs, pictures, tmp_path, call_eval, compared):
    run = tmp_path / "run"
    overrides = ["experiment=chain64to128", "size=64", "data=folder", "data.min_side=48", f"data.root={pictures}"]
    parts = [f"net.first.run={study_runs['colorize64']}", f"net.second.run={study_runs['sr64to128']}"]
    assert call_eval(*overrides, *parts, "trainer.accelerator=cpu", f"hydra.run.dir={run}") == 0
    results = json.loads((run / "metrics.json").read_text())
    assert results["test"]["psnr"] == pytest.approx(read(compared)["routes"]["chain"]["psnr"], abs=1e-4)
    assert not (run / "checkpoints").exists()


def test_the_bootstrap_of_a_normal_variable():
    """The mean of n draws of a normal variable deviates by sigma / sqrt(n), the interval by 1.96 times that."""
    values = np.random.default_rng(1).normal(3, 2, (400, 1))
    columns = np.hstack([values, np.full_like(values, 5), np.full_like(values, np.inf)])
    mean, low, high = routes.Bootstrap(np.arange(400), 4000, 0).intervals(columns)
    half = 1.96 * values.std() / math.sqrt(400)
    assert mean[0] == pytest.approx(values.mean())
    assert [low[0], high[0]] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.03)
    assert (mean[1], low[1], high[1]) == (5, 5, 5)
    assert np.isnan([mean[2], low[2], high[2]]).all()


def test_crops_of_a_picture_are_drawn_together():
    """With k equal crops of each picture, the interval is that of the pictures, not narrower by sqrt(k)."""
    values = np.random.default_rng(1).normal(3, 2, (100, 1))
    _, low, high = routes.Bootstrap(np.repeat(np.arange(100), 9), 4000, 0).intervals(np.repeat(values, 9, 0))
    half = 1.96 * values.std() / math.sqrt(100)
    assert [low[0], high[0]] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.05)


def test_bootstrap_ignores_infinite_values():
    values = np.array([[1.0], [np.inf], [3.0], [-np.inf]])
    mean, low, high = routes.Bootstrap(np.arange(4), 500, 0).intervals(values)
    assert mean[0] == 2
    assert 1 <= low[0] <= high[0] <= 3


def test_floors_are_fitted_to_their_pairs_and_enlarge_in_the_small_group():
    target = torch.rand(4, 3, 16, 16)
    pairs = [Pair(images.luma(target), target, torch.arange(4))]
    floors = STUDY.floors({}, lambda: pairs, 2)
    table = ChromaTable(256)
    table.fit(pairs)
    gray = images.luma(torch.rand(1, 3, 16, 16))
    assert torch.equal(floors["mean_ab_given_luma"].net(gray), table(gray))
    assert floors["bicubic_mean_ab_given_luma"].net(images.block_mean(gray, 2)).shape == (1, 3, 16, 16)
    assert {name: route.given for name, route in floors.items()} == {name: "large" for name in FLOORS} | {
        f"bicubic_{name}": "small" for name in FLOORS
    }


class Constant(Net):
    """A network with the same chroma at every pixel."""

    inputs, outputs, scale, stride, receptive_field = 1, 3, 1, 1, 1
    chroma = torch.tensor([0.05, 0.0, -0.0255]).reshape(1, 3, 1, 1)  # its luma is 0

    def forward(self, gray):
        return gray + self.chroma


def test_constant_chroma_survives_every_route():
    gray, color = 0.4 + 0.2 * torch.rand(1, 1, 32, 32), Constant()
    assert images.luma(color.chroma - images.luma(color.chroma)).abs().max() < 1e-7
    expected = color.chroma - images.luma(color.chroma)
    nets = {"colorize": color, "sr": Bicubic(2), "colorize128": color, "chain": Chain(color, Bicubic(2))}
    for name, route in STUDY.routes(nets, 2).items():
        out = route.net(images.block_mean(gray, 2) if route.given == "small" else gray)
        chroma = out - images.luma(out)
        torch.testing.assert_close(chroma, expected.expand_as(chroma), rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        (
            {"sr": "colorize64"},
            r"sr=\S+colorize64 contains UNet, which takes 1 channel.*expected a super-resolution network",
        ),
        (
            {"colorize": "sr64to128"},
            r"colorize=\S+sr64to128 contains Residual, which takes 3.*expected a color network",
        ),
        ({"chain": "colorize64"}, r"chain=\S+ contains UNet.*expected a chain from gray that enlarges by 2"),
        (
            {"colorize128": "colorize64"},
            r"colorize128=\S+ was trained on 32x32 images, but size=64 and .* require 64x64",
        ),
        ({"sr": "tiny_run"}, r"sr=\S+ was trained on 32x32 images, but size=64 and .* require 64x64"),
        (
            {"sr": "times4", "chain": "chain64to128"},
            r"chain=\S+ contains Chain, which takes 1.*enlarges by 2: expected a chain from gray that enlarges by 4",
        ),
        ({"colorize": "colorize128"}, r"colorize=\S+ was trained on 64x64 images, but size=64 and .* require 32x32"),
    ],
)
def test_unsuitable_runs_are_refused(replaced, message, study_runs, tiny_run, call_compare, tmp_path, capfd):
    times4 = tmp_path / "times4.ckpt"
    config = {"_target_": "srcolor.nets.residual.Residual", "channels": 8, "blocks": 1, "scale": 4}
    state = {f"net.{key}": value for key, value in runs.build_net(config).state_dict().items()}
    torch.save({"net_config": config, "state_dict": state}, times4)
    available = study_runs | {"tiny_run": tiny_run, "times4": times4}
    others = {key: available[name] for key, name in replaced.items()}
    assert call_compare(*arguments(study_runs, tmp_path / "out", **others)) == 1
    error = capfd.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "comparison.json").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "two runs are needed: python compare.py colorize=<run> sr=<run>"),
        (["colorize=/no", "sr=/no"], "/no: no such run folder or checkpoint file"),
        (["colorise=/no"], "Did you mean colorize?"),
        (["colorize=~/x"], "~/x: no such run folder or checkpoint file"),
        (["colorize=/x (1)"], """'colorize="/x (1)"'"""),
    ],
)
def test_missing_and_misspelled_arguments_are_named(overrides, message, call_compare, tmp_path, capfd):
    assert call_compare(*overrides, f"hydra.run.dir={tmp_path}") == 1
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_run_without_a_checkpoint_is_refused(study_runs, call_compare, tmp_path, capfd):
    copy = tmp_path / "copy"
    shutil.copytree(study_runs["sr64to128"], copy, ignore=shutil.ignore_patterns("checkpoints"))
    assert call_compare(*arguments(study_runs, tmp_path / "out", sr=copy)) == 1
    assert f"{copy}: checkpoints/best.ckpt not found" in capfd.readouterr().err


def test_a_run_of_an_older_version_is_refused(study_runs, call_compare, tmp_path, capfd):
    copy = tmp_path / "copy"
    shutil.copytree(study_runs["sr64to128"], copy)
    file = copy / "checkpoints" / "best.ckpt"
    checkpoint = runs.read(file)
    checkpoint["net_config"]["width"] = 3
    torch.save(checkpoint, file)
    assert call_compare(*arguments(study_runs, tmp_path / "out", sr=copy)) == 1
    assert "does not match srcolor" in capfd.readouterr().err


def test_run_without_training_record_is_refused(study_runs, call_compare, tmp_path, capfd):
    copy = tmp_path / "copy"
    shutil.copytree(study_runs["sr64to128"], copy)
    file = copy / "checkpoints" / "best.ckpt"
    checkpoint = runs.read(file)
    del checkpoint["trained_on"]
    torch.save(checkpoint, file)
    assert call_compare(*arguments(study_runs, tmp_path / "out", sr=copy)) == 1
    assert (
        f"{file} was written by an older srcolor version that did not record training images" in capfd.readouterr().err
    )


@pytest.mark.parametrize("record", [0, 1])
def test_test_image_seen_in_training_is_refused_by_name(record, study_runs, call_compare, tmp_path, capfd):
    rows = list(csv.DictReader((study_runs["sr64to128"] / "split.csv").open()))
    tested = {row["sha256"]: row["file"] for row in rows if row["split"] == "test"}
    copy = tmp_path / "lone.ckpt"
    checkpoint = runs.read(study_runs["chain64to128"] / "checkpoints" / "best.ckpt")
    assert len(checkpoint["trained_on"]) == 3  # its own and those of its two networks
    some = torch.tensor([list(bytes.fromhex(digest)) for digest in tested], dtype=torch.uint8)
    checkpoint["trained_on"][record]["files"] = some
    torch.save(checkpoint, copy)
    assert call_compare(*arguments(study_runs, tmp_path / "out", chain=copy)) == 1
    assert (
        f"was trained on {len(tested)} of the {len(tested)} test images, e.g. {min(tested.values())}"
        in capfd.readouterr().err
    )


def test_regions_of_photos_and_whole_photos_cannot_be_mixed(call, call_compare, tmp_path, capfd):
    """A region of the astronaut that one network was trained on is part of what the other is tested on."""
    short = [override for override in COLOR if "min_side" not in override] + ["data=photos", "data.epoch_samples=8"]
    folders = {}
    for name, experiment, holdout in (
        ("color", "colorize64", "region"),
        ("sr", "sr64to128", "region"),
        ("whole", "colorize64", "photo"),
    ):
        folders[name] = tmp_path / name
        overrides = [f"experiment={experiment}", *short, f"data.holdout={holdout}", "trainer.max_epochs=1"]
        assert call(*overrides, f"hydra.run.dir={folders[name]}") == 0
    capfd.readouterr()
    both = [f"sr={folders['sr']}", "bootstrap=100"]
    assert call_compare(f"colorize={folders['whole']}", *both, f"hydra.run.dir={tmp_path / 'mixed'}") == 1
    assert re.search(r"sr=\S+ was trained on 1 of the 1 test images, e\.g\. astronaut", capfd.readouterr().err)
    assert call_compare(f"colorize={folders['color']}", *both, f"hydra.run.dir={tmp_path / 'same'}") == 0


def test_a_used_folder_keeps_its_configuration(study_runs, call_compare, compared, capfd):
    before = (compared / ".hydra" / "config.yaml").read_bytes()
    assert call_compare(*arguments(study_runs, compared)) == 1
    assert f"hydra.run.dir={compared} is already used by a run. Choose another folder." in capfd.readouterr().err
    assert (compared / ".hydra" / "config.yaml").read_bytes() == before


def test_gray_crops_of_different_images_are_excluded(study_runs, call_compare, pictures, tmp_path, capfd):
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    for path in root.glob("*/*.png"):
        Image.open(path).convert("L").save(path)
    other = ["data=folder", f"data.root={root}", "data.min_side=48"]
    assert call_compare(*arguments(study_runs, tmp_path / "out"), *other) == 1
    assert "the train split has no color crops: 24 of 24 crops are nearly gray" in capfd.readouterr().err


def test_floors_are_fitted_on_the_training_split_alone(study_runs, call_compare, tmp_path, monkeypatch):
    splits = []
    pairs = Folder.pairs
    monkeypatch.setattr(
        Folder, "pairs", lambda self, split, limit=None: splits.append(split) or pairs(self, split, limit)
    )
    fit = ChromaTable.fit

    def fitted(table, batches):
        fit(table, batches)
        assert set(splits) == {"train"}

    monkeypatch.setattr(ChromaTable, "fit", fitted)
    assert call_compare(*arguments(study_runs, tmp_path / "out")) == 0


def test_compare_uses_the_data_settings_of_the_colorizer(study_runs):
    line = overrides.compare_args([f"colorize={study_runs['colorize64']}", "data.batch_size=3"])
    assert line[:2] == ["size=64", "data=folder"]
    assert any(arg.startswith("data.root=") for arg in line)
    assert "data.drop_gray=true" in line
    assert [arg for arg in line if arg.startswith("data.batch_size")] == ["data.batch_size=3"]
