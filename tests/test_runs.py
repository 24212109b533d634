import csv
import json
import os

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from srcolor import records, runs
from srcolor.errors import UserError


class Payload:
    """What a hostile checkpoint carries: unpickled, it writes a file."""

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
    assert mark.exists()  # so the payload was alive


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "torch.load", "f": "x"},
        {"_target_": "os.system", "command": "touch mark"},
        {"_target_": "srcolor.nets.residual.images.to_uint8"},
        {"_target_": "srcolor.nets.residual.F.relu"},
        {"_target_": "srcolor.data.folder.Folder", "root": "/"},
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


def test_a_configuration_that_does_not_fit_the_network_is_an_error(tmp_path):
    with pytest.raises(UserError, match="does not fit the network"):
        runs.build_net({"_target_": "srcolor.nets.residual.Residual", "chanels": 3})


@pytest.mark.parametrize("least", [False, True])
def test_latest_and_best_are_found_by_what_they_did(least, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    for number, (name, value, experiment) in enumerate(
        [("a", 30.0, "sr64to128"), ("b", 35.0, "sr64to128"), ("c", 40.0, "other"), ("d", None, "sr64to128")]
    ):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "best.ckpt").touch()
        os.utime(tmp_path / name / "checkpoints" / "best.ckpt", (number, number))
        (tmp_path / name / ".hydra").mkdir()
        hydra = {"hydra": {"runtime": {"choices": {"experiment": experiment}}}}
        (tmp_path / name / ".hydra" / "hydra.yaml").write_text(json.dumps(hydra))
        asked = {"monitor": "val/ab_rmse", "mode": "min"} if least else {"monitor": "val/psnr", "mode": "max"}
        (tmp_path / name / ".hydra" / "config.yaml").write_text(json.dumps(asked))
        if value is not None:
            told = {"test": {asked["monitor"].removeprefix("val/"): value}}
            (tmp_path / name / "metrics.json").write_text(json.dumps(told))
    assert runs.find("latest").name == "d"
    assert runs.find("best:sr64to128").name == ("a" if least else "b")
    with pytest.raises(UserError, match=r"no such trained run under .* There are runs of other, sr64to128"):
        runs.find("best:nothing")


def test_means_leave_out_what_is_not_finite_and_count_it():
    table = {"row": [0, 1, 2], "psnr": [30.0, float("inf"), 40.0], "bicubic_psnr": [float("inf")] * 3}
    assert records.results(table, ["bicubic"]) == {
        "test": {"psnr": 35.0},
        "sets": {},
        "baselines": {"bicubic": {"psnr": None}},
        "images": 3,
        "exact": 1,
    }


def test_a_record_is_json_and_csv_whatever_the_files_are_called(tmp_path):
    names = ['a,"b".png@0,0', "写真.png@0,0"]
    table = {"row": [0, 1], "psnr": [30.0, 31.5]}
    records.record(tmp_path, records.results(table, []), names, table)
    assert json.loads((tmp_path / "metrics.json").read_text())["test"] == {"psnr": 30.75}
    with (tmp_path / "per_image.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["file", "psnr"], [names[0], "30.0"], [names[1], "31.5"]]


def test_tensorboard_has_scalars_pictures_a_page_and_a_row_to_sort_by(tiny_run):
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
    assert {figure.name.tag for figure in figures} == {"test/psnr", "test/ssim"}
    told = json.loads((tiny_run / "metrics.json").read_text())["test"]
    assert events.Scalars("test/psnr")[-1].value == pytest.approx(told["psnr"], rel=1e-6)
