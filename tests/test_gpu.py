"""On a CUDA device: two batches of every experiment, evaluation, prediction, and asynchronous training steps."""

import json
import math
import subprocess
import sys
from functools import partial

import pytest
import torch
from conftest import TINY
from PIL import Image

from srcolor import hardware
from srcolor.cli import schema
from srcolor.data import draws, pairs
from srcolor.data.degrade import PRESETS, alone, degraded
from srcolor.tasks.base import Task

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("experiment", schema.options("experiment"))
def test_every_experiment_trains_two_batches_on_cuda(experiment, needs, call, tmp_path):
    run = tmp_path / "run"
    overrides = [f"experiment={experiment}", "trainer=debug", "trainer.accelerator=cuda", "data.batch_size=4"]
    overrides += needs(experiment)
    assert call(*overrides, f"hydra.run.dir={run}") == 0
    test = json.loads((run / "metrics.json").read_text())["test"]
    assert all(value is None or math.isfinite(value) for value in test.values())


def test_evaluation_on_cuda_agrees_with_the_cpu(tiny_run, call_eval, tmp_path):
    run = tmp_path / "run"
    assert call_eval(f"ckpt={tiny_run}", "trainer.accelerator=cuda", f"hydra.run.dir={run}") == 0
    cuda, cpu = (json.loads((folder / "metrics.json").read_text())["test"] for folder in (run, tiny_run))
    assert cuda == pytest.approx(cpu, abs=1e-3)


def test_degradation_on_cuda_agrees_with_the_cpu():
    draw = torch.rand(8, draws.COLUMNS, generator=torch.Generator().manual_seed(0))
    photos, row = torch.rand(8, 3, 48, 48, generator=torch.Generator().manual_seed(1)), torch.arange(8)
    pair = partial(pairs.block_mean, scale=2)
    for name in (*PRESETS["old"].photo, *PRESETS["old"].file):
        steps = alone(PRESETS["old"], name)
        cpu = degraded(pair, photos, row, draw, steps).input
        cuda = degraded(pair, photos.cuda(), row.cuda(), draw, steps).input
        assert cuda.is_cuda
        torch.testing.assert_close(cuda.cpu(), cpu, rtol=0, atol=1e-4 if name != "jpeg" else 4 / 255)


def test_prediction_on_cuda(tmp_path, pictures):
    source = next(pictures.rglob("*.png"))
    command = [sys.executable, "-c", "from srcolor.cli.entry_points import predict; predict()", str(source)]
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


def test_a_training_step_never_synchronizes_with_the_device(pictures, call, tmp_path, monkeypatch):
    """From the start of a batch to the end of its step, `torch.cuda.set_sync_debug_mode` raises if the host waits."""
    start_batch, optimize, modes = Task.on_train_batch_start, Task.optimizer_step, []

    def start(self, batch, number):
        start_batch(self, batch, number)
        if number >= 2:  # caches and autotuning are filled
            torch.cuda.set_sync_debug_mode("error")

    def end(self, *args, **kwargs):
        optimize(self, *args, **kwargs)
        modes.append(torch.cuda.get_sync_debug_mode())
        torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Task, "on_train_batch_start", start)
    monkeypatch.setattr(Task, "optimizer_step", end)
    overrides = [*TINY, "data=folder", f"data.root={pictures}", "trainer.accelerator=cuda", "data.jitter=0.1"]
    assert call(*overrides, f"hydra.run.dir={tmp_path / 'run'}") == 0
    assert 2 in modes
