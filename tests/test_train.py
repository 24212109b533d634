import csv
import json
import math
import shutil
import statistics
from functools import partial

import pytest
import torch
from conftest import COLOR, COMMON, FILES, TINY
from lightning.pytorch.loops.fit_loop import _FitLoop
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srcolor import images, metrics, runs
from srcolor.cli import schema
from srcolor.data import draws, pairs
from srcolor.data.sources.folder import Folder
from srcolor.nets.chroma_table import ChromaTable
from srcolor.training.samples import ColorSampleGrid


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def state(run, which):
    return torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)


# -- what a run leaves ---------------------------------------------------------------------------------------


def test_run_folder_contains_what_the_readme_says(tiny_run):
    assert {path.name for path in (tiny_run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    for name in ("metrics.json", "per_image.csv", "split.csv", "train.log", "samples/test.png"):
        assert (tiny_run / name).stat().st_size > 0, name
    assert list(tiny_run.glob("events.out.tfevents.*"))
    assert not list(tiny_run.rglob("*.unfinished"))


def test_metrics_json_has_its_keys(tiny_run):
    whole = metrics_of(tiny_run)
    results = ["test", "sets", "baselines", "images", "exact", "validation", "parameters", "train"]
    assert list(whole) == [*results, "version", "git"]
    assert whole["validation"]["metric"] == "psnr"
    names = {"psnr", "ssim", "texture", "consistency", "band_energy"}
    assert set(whole["test"]) == set(whole["baselines"]["bicubic"]) == names
    assert set(whole["train"]) == {"seconds", "images_per_second", "data_wait", "peak_memory_mb", "precision"}
    assert whole["train"]["precision"] == "32-true"
    assert 0 <= whole["train"]["data_wait"] < 1
    assert whole["train"]["peak_memory_mb"] is None  # counted by CUDA alone


def test_metrics_are_means_of_the_per_image_table(tiny_run):
    rows = list(csv.DictReader((tiny_run / "per_image.csv").open()))
    whole = metrics_of(tiny_run)
    assert len(rows) == whole["images"]
    for column, value in (("psnr", whole["test"]["psnr"]), ("bicubic_ssim", whole["baselines"]["bicubic"]["ssim"])):
        assert statistics.fmean(float(row[column]) for row in rows) == pytest.approx(value, rel=1e-12)


def test_tensorboard_has_scalars_learning_rate_speed_and_images(tiny_run):
    events = EventAccumulator(str(tiny_run)).Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"train/loss", "train/lr", "train/images_per_second", "val/psnr", "val/ssim"} <= scalars
    for name in ("train/loss", "train/lr", "train/images_per_second"):  # trainer.log_every_n_steps=3, and the last of 8
        assert [scalar.step for scalar in events.Scalars(name)] == [2, 5, 7]
        assert len({scalar.value for scalar in events.Scalars(name)}) == 3  # no value is an earlier one
    assert {"val_bicubic/psnr", "test/psnr", "test_bicubic/ssim"} <= scalars
    assert {"samples/val", "samples/test"} <= set(events.Tags()["images"])


# -- the weights that count ------------------------------------------------------------------------------------


def test_ema_weights_are_tested_and_loaded(tiny_run):
    saved = state(tiny_run, "best")["state_dict"]
    net = runs.load_net(str(tiny_run)).state_dict()
    assert net
    for key, value in net.items():
        assert torch.equal(value, saved[f"average.module.{key}"])
    assert any(not torch.equal(value, saved[f"net.{key}"]) for key, value in net.items())


def test_retesting_reproduces_metrics_json(tiny_run, pictures, call_eval, tmp_path):
    """Through `eval.py`, to the last digit, and through `load_net` and a loop written here."""
    again = tmp_path / "again"
    assert call_eval(f"ckpt={tiny_run}", f"hydra.run.dir={again}") == 0
    first, second = metrics_of(tiny_run), metrics_of(again)
    for key in ("test", "baselines", "images", "exact", "parameters"):
        assert first[key] == second[key]
    assert (tiny_run / "per_image.csv").read_bytes() == (again / "per_image.csv").read_bytes()
    assert second["train"]["seconds"] is None

    data = Folder(root=str(pictures), **COMMON | FILES | {"batch_size": 8})
    data.setup()
    net, values = runs.load_net(str(tiny_run)), []
    for batch in data.test_dataloader():
        target = batch.images.permute(0, 3, 1, 2).double() / 255
        with torch.no_grad():
            error = net(images.block_mean(target.float(), 2)).clamp(0, 1).double() - target
        values += (-10 * error.square().mean((1, 2, 3)).log10()).tolist()
    assert statistics.fmean(values) == pytest.approx(first["test"]["psnr"], abs=1e-4)


def test_evaluation_is_float32_whatever_training_was(tiny_run, call_eval, tmp_path):
    bf16 = tmp_path / "bf16"
    assert call_eval(f"ckpt={tiny_run}", "trainer.precision=bf16-mixed", f"hydra.run.dir={bf16}") == 0
    assert metrics_of(bf16)["test"] == pytest.approx(metrics_of(tiny_run)["test"], abs=1e-6)
    assert metrics_of(bf16)["baselines"]["bicubic"] == pytest.approx(
        metrics_of(tiny_run)["baselines"]["bicubic"], abs=1e-6
    )


def test_a_checkpoint_stands_alone(tiny_run, tmp_path):
    file = tmp_path / "moved.ckpt"
    shutil.copy(tiny_run / "checkpoints" / "best.ckpt", file)
    moved, whole = runs.load_net(str(file)), runs.load_net(str(tiny_run))
    x = torch.rand(1, 3, 9, 7)
    assert torch.equal(moved(x), whole(x))
    assert not moved.training


# -- resume, initial weights, other test data ---------------------------------------------------------------


def test_resumed_run_matches_an_uninterrupted_one(tiny_run, pictures, call, tmp_path):
    """Weights, their average, optimizer and metrics, bit by bit, with schedule, augmentation and degradation."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    args = [*TINY, "data=folder", f"data.root={pictures}", "trainer.max_epochs=4"]
    args += ["data.flips=dihedral", "data.zoom=0.7", "data.jitter=0.05", "data.degrade=old"]
    assert call(*args, f"hydra.run.dir={whole}") == 0
    # The schedule must see the same budget, so the first half is stopped from outside, after its second epoch.
    with pytest.MonkeyPatch.context() as patch:
        done = _FitLoop.done
        patch.setattr(_FitLoop, "done", property(lambda loop: loop.trainer.current_epoch > 1 or done.fget(loop)))
        assert call(*args, f"hydra.run.dir={halves}") == 0
    assert state(halves, "last")["epoch"] == 1
    assert call(f"resume={halves}") == 0
    one, two = state(whole, "last"), state(halves, "last")
    assert one["epoch"] == two["epoch"] == 3
    assert one["global_step"] == two["global_step"]
    for key, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][key]), key
    for number, values in one["optimizer_states"][0]["state"].items():
        for key, value in values.items():
            assert torch.equal(value, two["optimizer_states"][0]["state"][number][key])
    assert metrics_of(whole)["test"] == metrics_of(halves)["test"]


def test_a_copied_run_keeps_its_best_score_and_checkpoint_on_resume(tiny_run, call, tmp_path):
    """Resumed at a rate that ruins it: the best checkpoint is still from the first epochs."""
    run, name = tmp_path / "run", tmp_path / "link"
    shutil.copytree(tiny_run, run)
    name.symlink_to(run)
    before = (run / "checkpoints" / "best.ckpt").read_bytes()
    assert call(f"resume={name}", "trainer.max_epochs=3", "optimizer.lr=1", "task.ema=0", "schedule=constant") == 0
    values = [event.value for event in EventAccumulator(str(run)).Reload().Scalars("val/psnr")]
    assert values[-1] < min(values[:-1]) - 1
    assert (run / "checkpoints" / "best.ckpt").read_bytes() == before
    assert state(run, "last")["epoch"] == 2
    (best,) = [kept for kept in state(run, "last")["callbacks"].values() if kept.get("monitor") == "val/psnr"]
    assert best["best_model_score"].item() == pytest.approx(max(values), rel=1e-6)
    assert best["best_model_path"] == str(run / "checkpoints" / "best.ckpt")


def test_init_from_starts_a_new_run_from_saved_weights(tiny_run, pictures, call, tmp_path):
    run = tmp_path / "run"
    args = [*TINY, "data=folder", f"data.root={pictures}", "trainer.max_epochs=1", "optimizer.lr=0", "task.ema=null"]
    assert call(*args, f"init_from={tiny_run}", f"hydra.run.dir={run}") == 0
    assert metrics_of(run)["test"] == metrics_of(tiny_run)["test"]


def test_init_from_a_different_network_names_the_keys_that_differ(tiny_run, pictures, call, tmp_path, capfd):
    args = [*TINY, "data=folder", f"data.root={pictures}", "net.channels=4", f"init_from={tiny_run}"]
    assert call(*args, f"hydra.run.dir={tmp_path / 'run'}") == 1
    assert "head.weight: (8, 3, 3, 3) in the file, (4, 3, 3, 3) in the network" in capfd.readouterr().err


def test_ckpt_with_different_data_changes_only_the_data(tiny_run, call_eval, tmp_path):
    run = tmp_path / "run"
    assert call_eval(f"ckpt={tiny_run}", "data=photos", f"hydra.run.dir={run}") == 0
    names = {row["file"].split("@")[0] for row in csv.DictReader((run / "per_image.csv").open())}
    assert names == {"astronaut"}
    assert metrics_of(run)["parameters"] == metrics_of(tiny_run)["parameters"]


def test_a_run_folder_is_not_written_into_twice(tiny_run, call, capfd):
    before = {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()}
    assert call(*TINY, f"hydra.run.dir={tiny_run}") == 1
    assert "is already used by a run" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()} == before


def test_the_data_root_from_the_environment_is_recorded(pictures, call, call_eval, tmp_path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setenv("SRCOLOR_DATA", str(pictures))
    assert call(*TINY, "data=folder", "trainer=debug", f"hydra.run.dir={run}") == 0
    monkeypatch.delenv("SRCOLOR_DATA")
    assert call_eval(f"ckpt={run}", f"hydra.run.dir={tmp_path / 'again'}") == 0
    assert metrics_of(run)["test"] == metrics_of(tmp_path / "again")["test"]


# -- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", schema.options("experiment"))
def test_every_experiment_runs_two_batches(experiment, needs, call, tmp_path):
    run = tmp_path / "run"
    args = [f"experiment={experiment}", "trainer=debug", "data.batch_size=4", f"hydra.run.dir={run}"]
    args += needs(experiment)
    assert call(*args) == 0
    assert state(run, "last")["global_step"] == 2
    results = metrics_of(run)["test"]
    if experiment.startswith("colorize") and "article" not in experiment:
        assert results.pop("psnr_luma") is None  # the luma of the input is kept
    if "colorize" in experiment:
        assert 0 < results["palette"] <= 1
        assert "palette" not in (run / "per_image.csv").read_text()
    if experiment.startswith("segment"):
        results.pop("hd95")  # None while no cell is found
    assert all(math.isfinite(value) for value in results.values())


def test_warns_about_test_images_seen_in_training(call, call_eval, tmp_path):
    """Also by way of a network that this one started from."""
    short = [*TINY, "data=photos", "data.epoch_samples=8", "trainer.max_epochs=1"]
    region, begun = tmp_path / "region", tmp_path / "begun"
    assert call(*short, "data.holdout=region", f"hydra.run.dir={region}") == 0
    message = "1 test image(s) were used to train this network or one of its predecessors, e.g. astronaut"
    assert "trained on" not in (region / "train.log").read_text()
    assert call(*short, f"init_from={region}", f"hydra.run.dir={begun}") == 0
    assert message in (begun / "train.log").read_text()
    assert call_eval(f"ckpt={begun}", f"hydra.run.dir={tmp_path / 'test'}") == 0
    assert message in (tmp_path / "test" / "eval.log").read_text()


def test_resumed_run_keeps_the_record_of_its_first_data(tiny_run, call, call_eval, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (first,) = state(run, "last")["trained_on"]
    assert call(f"resume={run}", "data=photos", "trainer.max_epochs=3") == 0
    own_record, inherited_record = state(run, "last")["trained_on"]
    assert torch.equal(inherited_record["files"], first["files"])
    assert len(own_record["files"]) == 7
    assert call(f"resume={run}", "data=photos", "trainer.max_epochs=4") == 0
    assert len(state(run, "last")["trained_on"]) == 2
    assert call_eval(f"ckpt={run}", f"hydra.run.dir={tmp_path / 'test'}") == 0  # no data.root is left over


def test_resume_tests_a_run_stopped_during_its_test(tiny_run, call, tmp_path, capfd):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "metrics.json").unlink()
    trained = (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert call(f"resume={run}") == 0
    assert metrics_of(run)["test"] == metrics_of(tiny_run)["test"]
    assert (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns == trained
    assert call(f"resume={run}") == 1
    assert "its budget is spent" in capfd.readouterr().err


def test_recorded_validation_matches_the_best_checkpoint(tiny_run):
    events = EventAccumulator(str(tiny_run)).Reload().Scalars("val/psnr")
    assert runs.validated(tiny_run) == pytest.approx(max(event.value for event in events), rel=1e-6)


def test_training_beats_bicubic(pictures, call, tmp_path):
    """On a tiny set the network passes bicubic within a bounded number of steps."""
    run = tmp_path / "run"
    args = [*TINY, "data=folder", f"data.root={pictures}", "trainer.max_epochs=-1", "trainer.max_steps=150"]
    assert call(*args, "optimizer.lr=4e-3", f"hydra.run.dir={run}") == 0
    whole = metrics_of(run)
    assert state(run, "last")["global_step"] == 150
    assert whole["test"]["psnr"] > whole["baselines"]["bicubic"]["psnr"] + 0.1


def test_budget_ending_mid_epoch_is_validated_and_saved(pictures, call, tmp_path):
    run = tmp_path / "run"
    args = [*TINY, "data=folder", f"data.root={pictures}", "trainer.max_epochs=-1", "trainer.max_steps=6"]
    assert call(*args, f"hydra.run.dir={run}") == 0  # an epoch has five steps
    assert state(run, "last")["global_step"] == 6
    steps = [event.step for event in EventAccumulator(str(run)).Reload().Scalars("val/psnr")]
    assert len(steps) == 2


def test_non_finite_loss_stops_before_the_update_and_names_the_files(pictures, call, tmp_path, capfd):
    run = tmp_path / "run"
    args = [*TINY, "data=folder", f"data.root={pictures}", "optimizer.lr=1e30", "schedule=constant"]
    assert call(*args, f"hydra.run.dir={run}") == 1
    error = capfd.readouterr().err
    assert error.startswith("error: train/loss is nan at step ")
    assert ".png@" in error
    assert "Lower optimizer.lr" in error


def test_a_compiled_network_trains_the_same_under_the_same_keys(tiny_run, pictures, call, tmp_path, monkeypatch):
    """Traced by torch.compile, without the C++ compiler that its default backend needs."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: compiled(net, backend=backend))
    args = [*TINY, "data=folder", f"data.root={pictures}"]
    assert call(*args, "compile=true", f"hydra.run.dir={tmp_path / 'run'}") == 0
    assert graphs
    one, other = (state(run, "last")["state_dict"] for run in (tmp_path / "run", tiny_run))
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=0, atol=1e-5)
    assert not torch.equal(one["net.tail.weight"], torch.zeros_like(one["net.tail.weight"]))


def test_each_epoch_draws_new_samples(pictures, call, tmp_path, monkeypatch):
    seen, original = [], draws.epoch

    def epoch(seed, number, rows, length):
        seen.append(number)
        return original(seed, number, rows, length)

    monkeypatch.setattr(draws, "epoch", epoch)
    args = [*TINY, "data=folder", f"data.root={pictures}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert call(*args) == 0
    assert seen == [0, 1]


def test_a_sweep_over_experiments_gives_each_job_a_folder(pictures, call, tmp_path):
    names = "sr64to128,sr64to128_article"
    args = ["trainer=debug", "size=32", "data=folder", f"data.root={pictures}", "data.batch_size=4"]
    assert call("-m", f"experiment={names}", *args, f"hydra.sweep.dir={tmp_path}") == 0
    assert len(list(tmp_path.rglob("metrics.json"))) == 2


# -- color --------------------------------------------------------------------------------------------------------


def test_floors_are_fitted_on_the_training_split_alone(study_runs, pictures):
    pair = partial(pairs.gray, shrink=2)
    args = {"root": str(pictures), "size": 64, "min_side": 48, "drop_gray": True, "pair": pair}
    data = Folder(**(COMMON | FILES | args))
    data.setup()
    table, values = ChromaTable(256), metrics.Values()
    table.fit(data.pairs("train"))
    for batch in data.pairs("test"):
        values.update(metrics.measure({"ab_rmse": metrics.ABRMSE()}, table(batch.input), batch.target))
    results = metrics_of(study_runs["colorize64"])["baselines"]["mean_ab_given_luma"]["ab_rmse"]
    assert results == pytest.approx(metrics.mean(values.gather()["ab_rmse"]).item(), rel=1e-5)


def test_resumed_color_run_matches_an_uninterrupted_one(pictures, call, tmp_path):
    args = ["experiment=colorize64", *COLOR, "data=folder", f"data.root={pictures}", "data.flips=dihedral"]
    short = [*args, "trainer.max_epochs=1", "schedule=constant", f"hydra.run.dir={tmp_path / 'one'}"]
    long = [*args, "trainer.max_epochs=3", "schedule=constant", f"hydra.run.dir={tmp_path / 'three'}"]
    assert call(*short) == call(*long) == 0
    assert call(f"resume={tmp_path / 'one'}", "trainer.max_epochs=3") == 0
    one, three = (state(tmp_path / name, "last")["state_dict"] for name in ("one", "three"))
    assert one.keys() == three.keys()
    for key, value in one.items():
        assert torch.equal(value, three[key]), key
    assert metrics_of(tmp_path / "one")["test"] == metrics_of(tmp_path / "three")["test"]


def test_a_chain_is_resumed_and_tested_after_its_source_runs_are_gone(study_runs, call, call_eval, tmp_path):
    for name in ("colorize64", "sr64to128"):
        shutil.copytree(study_runs[name], tmp_path / name)
    run = tmp_path / "chain"
    shutil.copytree(study_runs["chain64to128"], run)
    recorded = run / ".hydra" / "overrides.yaml"
    recorded.write_text(recorded.read_text().replace(str(study_runs["colorize64"].parent), str(tmp_path / "gone")))
    before = metrics_of(run)["test"]
    assert call_eval(f"ckpt={run}", f"hydra.run.dir={tmp_path / 'test'}") == 0
    assert metrics_of(tmp_path / "test")["test"] == before
    assert call(f"resume={run}", "trainer.max_epochs=3") == 0
    assert state(run, "last")["epoch"] == 2
    assert list(state(run, "last")["net_config"]) == ["_target_", "first", "second"]


def test_color_checkpoint_is_selected_by_ab_rmse(study_runs):
    best = state(study_runs["colorize64"], "best")
    scores = [event.value for event in EventAccumulator(str(study_runs["colorize64"])).Reload().Scalars("val/ab_rmse")]
    steps = [event.step for event in EventAccumulator(str(study_runs["colorize64"])).Reload().Scalars("val/ab_rmse")]
    assert len(scores) == 2
    assert best["global_step"] == steps[scores.index(min(scores))] + 1


def test_monitor_determines_the_best_checkpoint(pictures, call, tmp_path):
    short = ["data=folder", f"data.root={pictures}", "trainer.max_epochs=3", "schedule=constant"]
    run = tmp_path / "run"
    assert call("experiment=colorize64", *COLOR, *short, "monitor=val/psnr", f"hydra.run.dir={run}") == 0
    events = EventAccumulator(str(run)).Reload().Scalars("val/psnr")
    values = [event.value for event in events]
    assert len(set(values)) == 3
    assert state(run, "best")["global_step"] == events[values.index(max(values))].step + 1


def test_color_sample_grid_has_its_columns():
    batch = images.Pair(torch.rand(2, 1, 16, 16), torch.rand(2, 3, 16, 16), torch.arange(2))
    prediction = 0.4 + 0.2 * torch.rand(2, 3, 16, 16)
    columns = ColorSampleGrid("samples", 2).columns(batch, {"net": prediction})
    assert list(columns) == ["gray", "prediction", "truth", "its chroma", "CIEDE2000"]
    lab = images.rgb_to_lab(columns["its chroma"])
    torch.testing.assert_close(lab[:, 0], torch.full_like(lab[:, 0], 65), rtol=0, atol=0.1)
    torch.testing.assert_close(lab[:, 1:], images.rgb_to_lab(prediction)[:, 1:], rtol=0, atol=0.1)
    expected = metrics.CIEDE2000()(images.rgb_to_lab(prediction), images.rgb_to_lab(batch.target))
    torch.testing.assert_close(25 * columns["CIEDE2000"].mean((1, 2, 3)), expected)
