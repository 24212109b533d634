import csv
import importlib
import json
import os
import shutil
import sys
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from srcolor import runs
from srcolor.analysis import figures
from srcolor.errors import UserError
from srcolor.inference import export, predict
from srcolor.runs import listing, names, records, weights


class Payload:
    """The content of a hostile checkpoint: unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_hostile_checkpoint_executes_nothing(tmp_path):
    mark, file = tmp_path / "mark", tmp_path / "x.ckpt"
    torch.save({"net_config": {}, "state_dict": Payload(mark)}, file)
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        runs.load_net(str(file))
    assert not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists()  # the payload works


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "torch.load", "f": "x"},
        {"_target_": "os.system", "command": "touch mark"},
        {"_target_": "srcolor.nets.residual.images.to_uint8"},
        {"_target_": "srcolor.nets.residual.F.relu"},
        {"_target_": "srcolor.data.sources.folder.Folder", "root": "/"},
        {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1},
        {"_target_": "srcolor.nets.residual.Residual", "channels": {"_target_": "os.system", "command": "touch mark"}},
        {"_target_": "srcolor.nets"},
        {"_target_": 3},
        {},
    ],
)
def test_a_hostile_configuration_builds_nothing_but_networks(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"net_config": config, "state_dict": {}}, "x.ckpt")
    with pytest.raises(UserError, match=r"must name a network of srcolor\.nets"):
        runs.load_net("x.ckpt")
    assert not (tmp_path / "mark").exists()


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """The name of a class in a module that leaves a mark when it is imported, and the mark."""
    mark = tmp_path / "mark"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "trap.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Net: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    yield "trap.Net", mark
    sys.modules.pop("trap", None)


def hostile_run(source, run, config, which):
    shutil.copytree(source, run)
    file = run / "checkpoints" / f"{which}.ckpt"
    torch.save(runs.read(file) | {"net_config": config}, file)
    return run


COMMANDS = {
    "srcolor-export onnx": lambda file, s: export.main(["--run", str(file), "--output", str(s.tmp / "x.onnx")]),
    "srcolor-export safetensors": lambda file, s: export.main(
        ["--run", str(file), "--format", "safetensors", "--output", str(s.tmp / "x.safetensors")]
    ),
    "srcolor-predict": lambda file, s: predict.main([str(s.picture), "--run", str(file), "-o", str(s.tmp / "out")]),
    "eval.py": lambda file, s: s.call_eval(f"ckpt={file}", *s.overrides),
    "train.py init_from": lambda file, s: s.call(f"init_from={file}", *s.overrides),
    "train.py net.first.run": lambda file, s: s.call(
        "experiment=chain64to128", f"net.first.run={file}", f"net.second.run={file}", *s.overrides
    ),
    "train.py resume": lambda file, s: s.call(
        f"resume={hostile_run(s.chain, s.tmp / 'copy', s.config, 'last')}", "trainer.max_epochs=9"
    ),
    "compare.py": lambda file, s: s.call_compare(f"colorize={file}", f"sr={file}", f"hydra.run.dir={s.tmp / 'run'}"),
    "notebooks": lambda file, s: figures.sheet(hostile_run(s.tiny, s.tmp / "copy", s.config, "best"), [0]),
}


@pytest.mark.parametrize(
    ("command", "suffix"),
    [(name, "ckpt") for name in COMMANDS]
    + [(name, "safetensors") for name in COMMANDS if name not in ("train.py resume", "notebooks")],
)
def test_no_command_imports_what_a_checkpoint_names(
    command, suffix, trap, pictures, tiny_run, study_runs, call, call_eval, call_compare, tmp_path
):
    target, mark = trap
    hostile = {"_target_": "srcolor.nets.chain.Chain", "first": {"_target_": target}, "second": {"_target_": target}}
    file = tmp_path / f"hostile.{suffix}"
    if suffix == "ckpt":
        torch.save({"net_config": hostile, "state_dict": {}, "trained_on": []}, file)
    else:
        weights.write(file, hostile, {}, [])
    scene = SimpleNamespace(
        tmp=tmp_path,
        overrides=[
            "data=folder",
            f"data.root={pictures}",
            "size=32",
            "trainer=debug",
            f"hydra.run.dir={tmp_path / 'run'}",
        ],
        picture=next(pictures.rglob("*.png")),
        config=hostile,
        tiny=tiny_run,
        chain=study_runs["chain64to128"],
        call=call,
        call_eval=call_eval,
        call_compare=call_compare,
    )
    with suppress(UserError, SystemExit):
        COMMANDS[command](file, scene)
    assert not mark.exists()
    importlib.import_module("trap")
    assert mark.exists()  # the trap works


def test_a_configuration_that_does_not_fit_the_network_is_an_error(tmp_path):
    with pytest.raises(UserError, match="does not match srcolor"):
        runs.build_net({"_target_": "srcolor.nets.residual.Residual", "chanels": 3})


def finished(run, validation, test, experiment="sr64to128", data="photos", monitor="val/psnr"):
    """Create the folder of a finished run; of an interrupted one if `validation` is None."""
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.ckpt").touch()
    (run / ".hydra").mkdir()
    choices = {"experiment": experiment, "data": data}
    (run / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": {"runtime": {"choices": choices}}}))
    (run / ".hydra" / "overrides.yaml").write_text("[]")
    groups = {"data": {"_target_": "x", "batch_size": 8}, "pair": {"_target_": "y", "scale": "${scale}"}}
    config = {"monitor": monitor, "size": 128, "scale": 2, **groups}
    (run / ".hydra" / "config.yaml").write_text(json.dumps(config))
    if validation is not None:
        metric = monitor.removeprefix("val/")
        monitored = {"metric": metric, "value": validation, "higher_is_better": metric != "ab_rmse"}
        results = {"test": {metric: test}, "train": {"seconds": 1.0}, "validation": monitored}
        (run / "metrics.json").write_text(json.dumps(results))
    return run


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_best_is_chosen_by_validation_never_by_the_test(lower_is_better, tmp_path, monkeypatch):
    """The run with the best test metric has the worst validation metric."""
    monkeypatch.setattr(names, "ROOT", tmp_path)
    monitor = "val/ab_rmse" if lower_is_better else "val/psnr"
    for number, (name, validation, experiment) in enumerate(
        [("a", 30.0, "sr64to128"), ("b", 35.0, "sr64to128"), ("c", 40.0, "other"), ("d", None, "sr64to128")]
    ):
        run = finished(tmp_path / name, validation, validation and 100 - validation, experiment, monitor=monitor)
        os.utime(run / "checkpoints" / "best.ckpt", (number, number))
    assert runs.find("latest").name == "d"
    assert runs.find("best:sr64to128").name == ("a" if lower_is_better else "b")
    with pytest.raises(UserError, match=r"no trained run found under .* There are runs of other, sr64to128"):
        runs.find("best:nothing")


def test_best_refuses_runs_with_different_data(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "ROOT", tmp_path)
    for name, validation, data in (("a", 30.0, "photos"), ("b", 31.0, "photos"), ("c", 20.0, "lfw")):
        finished(tmp_path / name, validation, 0.0, data=data)
    with pytest.raises(UserError, match=r"best:sr64to128: .* cannot be ranked") as error:
        runs.find("best:sr64to128")
    assert f"data=photos: {tmp_path / 'b'}" in str(error.value)
    assert f"data=lfw: {tmp_path / 'c'}" in str(error.value)
    assert str(tmp_path / "a") not in str(error.value)


def test_debug_runs_are_not_compared_with_full_validations(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "ROOT", tmp_path)
    debug, _ = (finished(tmp_path / name, value, 0.0) for name, value in (("a", 39.0), ("b", 31.0)))
    file = debug / ".hydra" / "config.yaml"
    file.write_text(file.read_text().replace('"scale": 2', '"scale": 2, "trainer": {"limit_val_batches": 2}'))
    with pytest.raises(UserError, match=f"trainer.limit_val_batches=2: {debug}"):
        runs.find("best:sr64to128")


def test_training_only_settings_keep_runs_comparable(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "ROOT", tmp_path)
    one, other = (finished(tmp_path / name, value, 0.0) for name, value in (("a", 30.0), ("b", 31.0)))
    file = one / ".hydra" / "config.yaml"
    file.write_text(file.read_text().replace('"batch_size": 8', '"batch_size": 16'))
    assert runs.find("best:sr64to128") == other


def test_an_interrupted_run_is_not_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "ROOT", tmp_path)
    finished(tmp_path / "a", None, None)
    with pytest.raises(UserError, match=r"best:sr64to128: no run of this experiment has finished"):
        runs.find("best:sr64to128")


def test_rank_groups_runs_by_data_and_orders_them_by_validation(tmp_path, capsys):
    for name, validation, test, data in (
        ("a", 30.0, 9.0, "photos"),
        ("b", 31.0, 8.0, "photos"),
        ("c", 20.0, 7.0, "lfw"),
        ("d", None, None, "photos"),
    ):
        finished(tmp_path / name, validation, test, data=data)
    listing.main(["rank", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    order = [next((name for name in "abcd" if str(tmp_path / name) in line), line.strip()) for line in lines]
    assert [line for line in order if not line.startswith("ended")] == ["data=lfw", "c", "data=photos", "b", "a", "d"]
    assert "psnr 31.00" in lines[order.index("b")]
    assert "psnr 8.00" in lines[order.index("b")]


@pytest.mark.parametrize("order", ["list", "rank"])
def test_a_benchmark_test_is_listed_by_the_metric_it_has(order, tmp_path, capsys):
    run = finished(tmp_path / "a", 30.0, 31.0, data="benchmark")
    results = {"test": {"psnr_y": 37.456, "ssim_y": 0.9}, "train": {"seconds": None}, "validation": None}
    (run / "metrics.json").write_text(json.dumps(results))
    listing.main([order, str(tmp_path)])
    assert "psnr_y 37.46" in capsys.readouterr().out


def test_a_folder_that_is_not_a_run_is_a_one_line_error(tmp_path, capsys):
    run = finished(tmp_path / "a", 30.0, 31.0)
    (run / ".hydra" / "hydra.yaml").unlink()
    with pytest.raises(SystemExit, match="1"):
        listing.main(["list", str(tmp_path)])
    assert capsys.readouterr().err.startswith(f"error: {run} is not a srcolor run")


def test_damaged_old_checkpoint_is_listed_without_validation(tmp_path, capsys):
    run = finished(tmp_path / "a", 30.0, 31.0)  # its checkpoint is empty
    (run / "metrics.json").write_text(json.dumps({"test": {"psnr": 31.0}, "train": {"seconds": 1.0}}))
    listing.main(["rank", str(tmp_path)])
    line = capsys.readouterr().out.splitlines()[-1]
    assert "psnr 31.00" in line
    assert "psnr 30.00" not in line


def test_validation_of_an_old_run_is_read_from_its_checkpoint(tmp_path):
    run = finished(tmp_path / "a", 30.0, 31.0)
    (run / "metrics.json").write_text(json.dumps({"test": {"psnr": 31.0}, "train": {"seconds": 1.0}}))
    chosen = {"callbacks": {"best": {"monitor": "val/psnr", "current_score": torch.tensor(29.5)}}}
    torch.save({"net_config": {}, "state_dict": {}, **chosen}, run / "checkpoints" / "best.ckpt")
    assert runs.validated(run) == 29.5


def test_means_exclude_infinite_values_and_count_them():
    per_image = {"net": {"psnr": [30.0, float("inf"), 40.0]}, "bicubic": {"psnr": [float("inf")] * 3}}
    assert records.results(per_image) == {
        "test": {"psnr": 35.0},
        "sets": {},
        "baselines": {"bicubic": {"psnr": None}},
        "images": 3,
        "exact": 1,
    }


def test_a_record_is_valid_json_and_csv_for_any_file_name(tmp_path):
    names = ['a,"b".png@0,0', "写真.png@0,0"]
    per_image = {"net": {"psnr": [30.0, 31.5]}, "bicubic": {"psnr": [29.0, 28.5]}}
    records.record(tmp_path, records.results(per_image), names, per_image)
    assert json.loads((tmp_path / "metrics.json").read_text())["test"] == {"psnr": 30.75}
    with (tmp_path / "per_image.csv").open(newline="", encoding="utf-8") as file:
        rows = [["file", "psnr", "bicubic_psnr"], [names[0], "30.0", "29.0"], [names[1], "31.5", "28.5"]]
        assert list(csv.reader(file)) == rows


def test_tensorboard_has_scalars_images_a_page_and_a_row_to_sort_by(tiny_run):
    events = EventAccumulator(str(tiny_run), size_guidance={"tensors": 0, "images": 0}).Reload()
    tags = events.Tags()
    assert {"train/loss", "train/lr", "val/psnr", "val_bicubic/psnr", "test/psnr", "test/ssim"} <= set(tags["scalars"])
    assert {"samples/val", "samples/test"} <= set(tags["images"])
    (page,) = events.Tensors("run/text_summary")[0].tensor_proto.string_val
    assert "python train.py size=32 net.channels=8" in page.decode()
    assert "revision " in page.decode()
    assert "channels: 8" in page.decode()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    row = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert row["net"].string_value == "residual"
    assert row["net.channels"].number_value == 8
    assert row["seed"].number_value == 0
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    figures = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos
    recorded = json.loads((tiny_run / "metrics.json").read_text())["test"]
    assert {figure.name.tag for figure in figures} == {f"test/{name}" for name in recorded}
    assert events.Scalars("test/psnr")[-1].value == pytest.approx(recorded["psnr"], rel=1e-6)


def test_a_run_records_the_factor_by_which_it_reduces_images(study_runs):
    assert runs.shrink(str(study_runs["colorize64"])) == 2
    assert runs.shrink(str(study_runs["sr64to128"])) == 1
    assert runs.shrink("srcolor/colorize64") == 1  # a file records no configuration
    assert runs.target_side(str(study_runs["colorize64"])) == 32
