"""Networks as safetensors, bundled ones among them, and the names of older runs."""

import hashlib
import json

import hydra.utils
import pytest
import safetensors.torch
import torch

from srcolor import bundled, runs
from srcolor.errors import UserError
from srcolor.inference import export
from srcolor.nets.luma_sr import LumaSR
from srcolor.nets.sesr import SESR
from srcolor.runs import records
from srcolor.runs.run_folder import current_class


def same_network(one, other):
    """Assert equal weights and, within a tolerance, equal outputs."""
    first, second = runs.load_net(one), runs.load_net(other)
    states = first.state_dict(), second.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    x = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(first(x), second(x), rtol=0, atol=1e-6)


def test_exported_network_keeps_weights_and_training_record(tiny_run, tmp_path):
    file = tmp_path / "net.safetensors"
    export.main(["--run", str(tiny_run), "--format", "safetensors", "--output", str(file)])
    same_network(str(file), str(tiny_run))
    (exported,), (original,) = runs.trained_on(str(file)), runs.trained_on(str(tiny_run))
    assert runs.same_record(exported, original)


def test_a_reparameterized_network_is_exported_in_its_inference_form(tmp_path):
    net = LumaSR(SESR(channels=4, layers=1, width=8))
    torch.nn.init.normal_(net.net.convs[-1].narrow)
    config = {"_target_": "srcolor.nets.luma_sr.LumaSR", "net": {"_target_": "srcolor.nets.sesr.SESR"}}
    config["net"] |= {"channels": 4, "layers": 1, "scale": 2, "width": 8}
    state = {f"net.{key}": value for key, value in net.state_dict().items()}
    torch.save({"net_config": config, "state_dict": state, "trained_on": []}, tmp_path / "net.ckpt")
    export.to_safetensors(str(tmp_path / "net.ckpt"), tmp_path / "net.safetensors")
    exported = runs.load_net(str(tmp_path / "net.safetensors"))
    assert {name for name, _ in exported.named_parameters()} == {
        f"net.convs.{i}.{k}" for i in range(3) for k in ("weight", "bias")
    }
    x = torch.rand(1, 3, 9, 7)
    torch.testing.assert_close(exported(x), net.eval()(x), rtol=0, atol=1e-5)


def test_an_existing_file_is_not_overwritten(tiny_run, tmp_path, capsys):
    file = tmp_path / "net.safetensors"
    file.write_text("mine")
    with pytest.raises(SystemExit, match="1"):
        export.main(["--run", str(tiny_run), "--format", "safetensors", "--output", str(file)])
    assert "already exists" in capsys.readouterr().err
    assert file.read_text() == "mine"


@pytest.fixture
def reference(tiny_run, tmp_path, monkeypatch):
    """Replace the bundled networks by a single one; return its file."""
    export.to_safetensors(str(tiny_run), tmp_path / "one.safetensors")
    digest = hashlib.sha256((tmp_path / "one.safetensors").read_bytes()).hexdigest()
    (tmp_path / "hashes.json").write_text(json.dumps({"one.safetensors": digest}))
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    monkeypatch.setattr(bundled, "HASHES", tmp_path / "hashes.json")
    return tmp_path / "one.safetensors"


def test_a_bundled_network_is_loaded_by_its_name(reference, tiny_run):
    same_network("srcolor/one", str(tiny_run))


def test_an_unknown_damaged_or_missing_bundled_network_is_an_error(reference):
    with pytest.raises(UserError, match=r"srcolor/two: no such bundled network\. Available: srcolor/one"):
        runs.load_net("srcolor/two")
    content = bytearray(reference.read_bytes())
    content[-1] ^= 1
    reference.write_bytes(content)
    with pytest.raises(UserError, match=r"one\.safetensors is damaged: its SHA-256 is not"):
        runs.load_net("srcolor/one")
    reference.unlink()
    with pytest.raises(UserError, match=r"srcolor/one: its file is missing: .*Reinstall srcolor"):
        runs.load_net("srcolor/one")


def test_damaged_or_external_safetensors_file_is_an_error(reference, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(reference.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"copy\.safetensors: cannot be read as safetensors"):
        runs.load_net(str(copy))
    safetensors.torch.save_file({"x": torch.zeros(1)}, copy)
    with pytest.raises(UserError, match=r"copy\.safetensors: not a srcolor network"):
        runs.load_net(str(copy))


@pytest.mark.parametrize("name", bundled.names())
def test_every_bundled_network_loads_and_is_small(name):
    file = bundled.find(f"srcolor/{name}")
    assert file.stat().st_size <= 6e6
    net = runs.load_net(f"srcolor/{name}")
    output = net(torch.rand(1, net.inputs or 3, 64, 64))
    assert output.shape == (1, 3, 64 * net.scale, 64 * net.scale)
    assert output.isfinite().all()


@pytest.mark.parametrize(
    "recorded",
    [
        "srcolor.callbacks.Pictures",
        "srcolor.callbacks.ColourPictures",
        "srcolor.callbacks.ProgressBar",
        "srcolor.training.callbacks.Pictures",
        "srcolor.checkpoint.AtomicCheckpointIO",
        "srcolor.schedules.warmup_cosine",
        "srcolor.tasks.benchmark.BenchmarkTask",
        "srcolor.data.benchmark.Benchmark",
        "srcolor.data.folder.Folder",
        "srcolor.data.photos.Photos",
    ],
)
def test_class_paths_of_older_runs_lead_to_a_class(recorded):
    assert callable(hydra.utils.get_object(current_class(recorded)))


@pytest.mark.parametrize("mode", ["upscale", None])
def test_next_commands_use_a_relative_run_path(mode, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    records.show_next(tmp_path / "runs" / "one", mode)
    commands = [line.removeprefix("next").strip() for line in capsys.readouterr().out.splitlines()]
    assert commands[:3] == [". .venv/bin/activate", "tensorboard --logdir runs", "python eval.py ckpt=runs/one"]
    assert commands[3:] == ([] if mode is None else ["srcolor-predict photo.jpg --mode upscale --run runs/one"])
