"""DDP on two CPU processes (gloo): the same steps, metrics and files as with one process."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import COMMON, FILES, ROOT, TINY, call_script

import train
from srcolor import hardware, runs
from srcolor.cli import overrides
from srcolor.data import draws
from srcolor.data.sampler import EpochSampler
from srcolor.data.sources.folder import Folder
from srcolor.errors import UserError


@pytest.fixture(scope="module")
def both(tmp_path_factory, call):
    """Train with batches of 8 in one process, and of 4 in two; return both run folders."""
    folder = tmp_path_factory.mktemp("ddp")
    # Adam normalizes gradients: with the default eps, rounding decides the sign of a step whose gradient is near zero.
    overrides = [*TINY, "data=photos", "data.epoch_samples=30", "+optimizer.eps=1e-3"]
    assert call(*overrides, "data.batch_size=8", f"hydra.run.dir={folder / 'one'}") == 0
    command = [sys.executable, "train.py", *overrides, "data.batch_size=4", f"hydra.run.dir={folder / 'two'}"]
    command += ["trainer=ddp", "trainer.devices=2", "trainer.max_time=null", "trainer.max_epochs=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ), timeout=240)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return folder / "one", folder / "two"


def test_two_processes_follow_one_with_twice_the_batch(both):
    one, two = (runs.read(run / "checkpoints" / "last.ckpt") for run in both)
    assert one["global_step"] == two["global_step"] == 8
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][key], value, rtol=0, atol=1e-5)


def test_an_adversary_follows_one_process_with_twice_the_batch(call, tmp_path):
    """From the pixel loss alone through the critic's steps to both: weights of both, and the weight of the loss."""
    args = ["experiment=sr64to128_gan", *TINY, "size=64", "data=photos", "data.epoch_samples=30"]
    args = [arg.replace("net.", "net.net.") for arg in args]
    args += ["adversary.start=0.3", "adversary.critic_steps=2", "adversary.ramp_steps=2", "adversary.critic.width=4"]
    args += ["adversary.penalty_interval=2", "+optimizer.eps=1e-3", "+adversary.optimizer.eps=1e-3"]
    args += ["+adversary.critic_optimizer.eps=1e-3", "data.flips=none"]
    assert call(*args, "data.batch_size=8", f"hydra.run.dir={tmp_path / 'one'}") == 0
    command = [sys.executable, "train.py", *args, "data.batch_size=4", f"hydra.run.dir={tmp_path / 'two'}"]
    command += ["trainer=ddp", "trainer.devices=2", "trainer.max_time=null", "trainer.max_epochs=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ), timeout=240)
    assert done.returncode == 0, done.stderr
    one, two = (runs.read(tmp_path / run / "checkpoints" / "last.ckpt") for run in ("one", "two"))
    assert one["global_step"] == two["global_step"] == 8
    assert one["state_dict"]["adversary.saved_step"] == 6
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][key], value, rtol=1e-3, atol=1e-5)


def test_color_codes_follow_one_process_with_twice_the_batch(call, tmp_path):
    """All weights but those of the prior, as each process has a dropout of its own; and what validation decides."""
    args = ["experiment=colorize64_codes", *TINY, "data=photos", "data.epoch_samples=30", "+optimizer.eps=1e-3"]
    assert call(*args, "data.batch_size=8", f"hydra.run.dir={tmp_path / 'one'}") == 0
    command = [sys.executable, "train.py", *args, "data.batch_size=4", f"hydra.run.dir={tmp_path / 'two'}"]
    command += ["trainer=ddp", "trainer.devices=2", "trainer.max_time=null", "trainer.max_epochs=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ), timeout=240)
    assert done.returncode == 0, done.stderr
    one, two = (runs.read(tmp_path / run / "checkpoints" / "last.ckpt") for run in ("one", "two"))
    assert one["global_step"] == two["global_step"] == 8
    for key, value in one["state_dict"].items():
        if "prior.layers" not in key:
            torch.testing.assert_close(two["state_dict"][key], value, rtol=1e-3, atol=1e-5, msg=key)


def test_the_test_counts_every_image_once(both, call_eval, tmp_path):
    again = tmp_path / "again"
    args = ["trainer=default", "trainer.accelerator=cpu", "trainer.precision=32", f"hydra.run.dir={again}"]
    assert call_eval(f"ckpt={both[1]}", *args) == 0
    one, two = (list(csv.reader((run / "per_image.csv").open())) for run in (again, both[1]))
    assert [row[0] for row in one] == [row[0] for row in two]  # different batches, so close but not equal
    first, second = ([float(value) for row in table[1:] for value in row[1:]] for table in (one, two))
    assert first == pytest.approx(second, abs=1e-4)


def test_only_the_first_process_writes(both):
    one, two = ({path.name.split(".")[0] for path in run.rglob("*")} for run in both)
    assert one == two
    log = (both[1] / "train.log").read_text()
    assert log.count("Testing the best network") == 1


def test_fewer_images_than_processes_is_an_error_before_training(pictures):
    class Trainer:
        global_rank, world_size = 0, 2

    data = Folder(**(COMMON | FILES | {"root": str(pictures)}))
    data.setup()
    data.trainer = Trainer()
    with pytest.raises(
        UserError, match=r"the test split has only 1 crop\(s\) for 2 processes: reduce trainer.devices="
    ):
        data.train_dataloader()


@pytest.mark.parametrize(
    ("rows", "length", "batch", "world"), [(10, 10, 2, 2), (10, 25, 4, 3), (7, 7, 4, 2), (5, 3, 2, 4)]
)
def test_processes_share_each_batch_of_a_single_process(rows, length, batch, world):
    parts = [list(EpochSampler(rows, batch, seed=3, length=length, rank=rank, world=world)) for rank in range(world)]
    whole, table = draws.epoch(3, 0, rows, length)
    assert len({len(part) for part in parts}) == 1
    assert all(len(part) == len(EpochSampler(rows, batch, seed=3, length=length, world=world)) for part in parts)
    drawn = []
    for step in zip(*parts, strict=True):
        assert len({len(index) for index, _ in step}) == 1  # equal counts, so the mean gradient matches the whole batch
        shares = [index.tolist() for index, _ in step]
        drawn += [row for place in zip(*shares, strict=True) for row in place]
    assert drawn[:length] == whole.tolist()
    assert drawn[length:] == whole.tolist()[: len(drawn) - length]
    assert torch.equal(parts[0][0][1], table[: batch * world : world][: len(parts[0][0][0])])


@pytest.mark.parametrize(("rows", "world"), [(10, 2), (11, 3), (4, 4)])
def test_in_evaluation_each_row_is_seen_once(rows, world):
    epochs = [EpochSampler(rows, 2, rank=rank, world=world) for rank in range(world)]
    seen = [row for epoch in epochs for index, _ in epoch for row in index.tolist()]
    assert sorted(seen) == list(range(rows))
    assert [len(list(epoch)) for epoch in epochs] == [len(epoch) for epoch in epochs]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-m", "trainer=ddp", "seed=0,1"], "each DDP process would relaunch the sweep"),
        (["-m", "trainer=ddp", "seed=0,1", "hydra/launcher=joblib"], "submitit_slurm"),
        (["trainer.devices=2"], "multiple devices also require trainer=ddp"),
        (["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cuda"], "finds no CUDA device"),
    ],
)
def test_unsupported_combinations_are_refused(args, message, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert call_script(train, "train", overrides.train_args, [*args, f"hydra.run.dir={tmp_path / 'run'}"]) == 1
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("devices", "several"),
    [
        *((devices, False) for devices in ("1", '"1"', "[1]", "[0]", '"1,"')),
        *((devices, True) for devices in ("2", "[0,1]", '"0,1"', "auto", "-1")),
    ],
)
def test_multiple_devices_require_ddp_in_every_notation(devices, several, tmp_path, capfd, monkeypatch):
    """With two simulated CUDA devices; commands that are not refused fail at the missing data folder."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(hardware, "choose", lambda *_, **__: hardware.Hardware("cuda", "32-true", True))
    args = [f"trainer.devices={devices}", "data=folder", f"data.root={tmp_path / 'missing'}"]
    assert call_script(train, "train", overrides.train_args, [*args, f"hydra.run.dir={tmp_path / 'run'}"]) == 1
    message = "multiple devices also require trainer=ddp" if several else "missing does not exist: expected a folder"
    assert message in capfd.readouterr().err


def test_processes_of_torchrun_require_a_common_folder(monkeypatch, capfd):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert call_script(train, "train", overrides.train_args, ["trainer=ddp"]) == 1
    assert "multi-process runs need an explicit folder: set hydra.run.dir=" in capfd.readouterr().err


def test_other_processes_write_no_configuration(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    line = overrides.train_args(["trainer=ddp", "hydra.run.dir=/nowhere"])
    assert {"hydra.output_subdir=null", "hydra/job_logging=disabled"} <= set(line)


def test_signal_stops_all_processes_after_the_same_batch(tmp_path):
    run = tmp_path / "run"
    last = run / "checkpoints" / "last.ckpt"
    command = [sys.executable, "train.py", *TINY, "data=photos", "data.epoch_samples=30", "data.batch_size=4"]
    command += ["trainer=ddp", "trainer.devices=2", "trainer.max_time=null"]
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, "trainer.max_epochs=1000", f"hydra.run.dir={run}"], **options)
    while not last.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 143, error
    assert "Traceback" not in error
    epoch = runs.read(last)["epoch"]
    assert error.strip().splitlines()[-1] == f"stopped; resume with: python train.py resume={run}"
    command = [sys.executable, "train.py", f"resume={run}", f"trainer.max_epochs={epoch + 3}"]
    assert subprocess.run(command, **options, timeout=240).returncode == 0
    assert runs.read(last)["epoch"] == epoch + 2


def test_batch_normalization_is_synchronized_on_cuda_only(tmp_path, monkeypatch):
    """`conf/trainer/ddp.yaml` sets it; torch has no such layer for CPUs."""
    seen = []

    def instantiate(node, **arguments):
        if "accelerator" in arguments:  # the Trainer
            seen.append(arguments["sync_batchnorm"])
            raise UserError("enough")

    monkeypatch.setattr("srcolor.cli.session.instantiate", instantiate)
    for accelerator in ("cuda", "cpu"):
        machine = hardware.Hardware(accelerator, "32-true", True)
        monkeypatch.setattr(hardware, "choose", lambda *_, machine=machine, **__: machine)
        args = ["trainer=ddp", f"hydra.run.dir={tmp_path / accelerator}"]
        assert call_script(train, "train", overrides.train_args, args) == 1
    assert seen == [True, False]
