"""On a CUDA device: two batches of every experiment, an evaluation, a prediction, and no waiting in a training step."""

import json
import math
import subprocess
import sys

import pytest
import torch
from conftest import TINY
from PIL import Image

from srcolor import config, hardware
from srcolor.tasks.base import Task

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("experiment", config.options("experiment"))
def test_every_experiment_trains_two_batches_on_cuda(experiment, study_runs, pictures, call, tmp_path):
    run = tmp_path / "run"
    words = [f"experiment={experiment}", "trainer=debug", "trainer.accelerator=cuda", "data.batch_size=4"]
    if experiment.startswith("chain"):
        words += [f"net.first.run={study_runs['colorize64']}", f"net.second.run={study_runs['sr64to128']}"]
    if experiment.startswith("sr_x2"):
        words += [f"data.root={pictures}", "size=48"]
    assert call(*words, f"hydra.run.dir={run}") == 0
    test = json.loads((run / "metrics.json").read_text())["test"]
    assert all(value is None or math.isfinite(value) for value in test.values())


def test_an_evaluation_on_cuda_agrees_with_one_on_the_cpu(tiny_run, call, tmp_path):
    run = tmp_path / "run"
    assert call("fit=false", f"ckpt={tiny_run}", "trainer.accelerator=cuda", f"hydra.run.dir={run}") == 0
    cuda, cpu = (json.loads((folder / "metrics.json").read_text())["test"] for folder in (run, tiny_run))
    assert cuda == pytest.approx(cpu, abs=1e-3)


def test_a_prediction_on_cuda(tmp_path, pictures):
    source = next(pictures.rglob("*.png"))
    command = [sys.executable, "-c", "from srcolor.commands import predict; predict()", str(source)]
    subprocess.run([*command, "--run", "srcolor/sr_x2", "-o", str(tmp_path)], check=True, timeout=120)
    (result,) = tmp_path.iterdir()
    assert Image.open(result).size == (96, 96)


def test_float32_convolutions_do_not_use_tf32_after_setup():
    hardware.setup()
    torch.manual_seed(0)
    image, weight = torch.rand(4, 64, 64, 64), torch.rand(64, 64, 3, 3)
    exact = torch.nn.functional.conv2d(image.double(), weight.double())
    cuda = torch.nn.functional.conv2d(image.cuda(), weight.cuda()).cpu().double()
    assert ((cuda - exact) / exact).abs().max() < 1e-5  # TF32: 1e-3


def test_no_step_makes_the_host_wait_for_the_device(pictures, call, tmp_path, monkeypatch):
    """From the start of a batch to its end, `torch.cuda.set_sync_debug_mode` raises where the host waits."""
    step, optimize, checked = Task.on_train_batch_start, Task.optimizer_step, []

    def begin(self, batch, number):
        step(self, batch, number)
        if number >= 2:  # caches and autotuning are filled
            torch.cuda.set_sync_debug_mode("error")

    def end(self, *args, **kwargs):
        optimize(self, *args, **kwargs)
        checked.append(torch.cuda.get_sync_debug_mode())
        torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Task, "on_train_batch_start", begin)
    monkeypatch.setattr(Task, "optimizer_step", end)
    words = [*TINY, "data=folder", f"data.root={pictures}", "trainer.accelerator=cuda", "data.jitter=0.1"]
    assert call(*words, f"hydra.run.dir={tmp_path / 'run'}") == 0
    assert 2 in checked
