import csv
import hashlib
import json
import os

import pytest
import safetensors.torch
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from srcolor import export, records, runs, weights
from srcolor.errors import UserError
from srcolor.nets.luma_sr import LumaSR
from srcolor.nets.sesr import SESR


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


# -- weights in a file of their own ------------------------------------------------------------------------------------


def test_a_network_taken_out_of_its_run_answers_the_same_and_knows_what_it_was_trained_on(tiny_run, tmp_path):
    file = tmp_path / "net.safetensors"
    export.main(["--run", str(tiny_run), "--format", "safetensors", "--output", str(file)])
    x = torch.rand(1, 3, 9, 7)
    assert torch.equal(runs.load_net(str(file))(x), runs.load_net(str(tiny_run))(x))
    (own,), (before,) = runs.trained_on(str(file)), runs.trained_on(str(tiny_run))
    assert runs.same_record(own, before)


def test_a_network_that_trains_in_another_form_is_taken_out_in_the_one_it_is_used_in(tmp_path):
    net = LumaSR(SESR(channels=4, layers=1, width=8))
    torch.nn.init.normal_(net.net.convs[-1].narrow)
    config = {"_target_": "srcolor.nets.luma_sr.LumaSR", "net": {"_target_": "srcolor.nets.sesr.SESR"}}
    config["net"] |= {"channels": 4, "layers": 1, "scale": 2, "width": 8}
    state = {f"net.{key}": value for key, value in net.state_dict().items()}
    torch.save({"net_config": config, "state_dict": state, "trained_on": []}, tmp_path / "net.ckpt")
    export.to_safetensors(str(tmp_path / "net.ckpt"), tmp_path / "net.safetensors")
    made = runs.load_net(str(tmp_path / "net.safetensors"))
    assert {name for name, _ in made.named_parameters()} == {
        f"net.convs.{i}.{k}" for i in range(3) for k in ("weight", "bias")
    }
    x = torch.rand(1, 3, 9, 7)
    torch.testing.assert_close(made(x), net.eval()(x), rtol=0, atol=1e-5)


def test_a_file_that_is_there_is_not_written_over(tiny_run, tmp_path, capsys):
    file = tmp_path / "net.safetensors"
    file.write_text("mine")
    with pytest.raises(SystemExit, match="1"):
        export.main(["--run", str(tiny_run), "--format", "safetensors", "--output", str(file)])
    assert "is there already" in capsys.readouterr().err
    assert file.read_text() == "mine"


@pytest.fixture
def reference(tiny_run, tmp_path, monkeypatch):
    """A folder of networks that come with srcolor, with one in it."""
    export.to_safetensors(str(tiny_run), tmp_path / "one.safetensors")
    digest = hashlib.sha256((tmp_path / "one.safetensors").read_bytes()).hexdigest()
    (tmp_path / "hashes.json").write_text(json.dumps({"one": digest}))
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr(weights, "HASHES", tmp_path / "hashes.json")
    return tmp_path / "one.safetensors"


def test_a_network_that_comes_with_srcolor_is_named(reference, tiny_run):
    x = torch.rand(1, 3, 9, 7)
    assert torch.equal(runs.load_net("srcolor/one")(x), runs.load_net(str(tiny_run))(x))


def test_a_network_that_comes_with_srcolor_is_as_it_was(reference):
    with pytest.raises(UserError, match=r"srcolor/two: no such network comes with srcolor\. Known: srcolor/one"):
        runs.load_net("srcolor/two")
    content = bytearray(reference.read_bytes())
    content[-1] ^= 1
    reference.write_bytes(content)
    with pytest.raises(UserError, match=r"one\.safetensors is damaged: its SHA-256 is not"):
        runs.load_net("srcolor/one")
    reference.unlink()
    with pytest.raises(UserError, match=r"srcolor/one: its file is missing: .*Install srcolor anew"):
        runs.load_net("srcolor/one")


def test_a_damaged_or_foreign_safetensors_file_is_an_error(reference, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(reference.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"copy\.safetensors: cannot be read as safetensors"):
        runs.load_net(str(copy))
    safetensors.torch.save_file({"x": torch.zeros(1)}, copy)
    with pytest.raises(UserError, match=r"copy\.safetensors: no network of srcolor"):
        runs.load_net(str(copy))


@pytest.mark.parametrize("name", weights.shipped())
def test_every_network_that_comes_with_srcolor_loads_and_is_small(name):
    file = weights.find(f"srcolor/{name}")
    assert file.stat().st_size <= 6e6
    net = runs.load_net(f"srcolor/{name}")
    answer = net(torch.rand(1, net.inputs or 3, 64, 64))
    assert answer.shape == (1, 3, 64 * net.scale, 64 * net.scale)
    assert answer.isfinite().all()
