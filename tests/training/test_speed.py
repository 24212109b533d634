import time

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from srcolor.training.speed import Speed, figures


class Plain(LightningModule):
    """A module without a `Task`: its batches are dictionaries, and there is no datamodule."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch, batch_idx):
        time.sleep(0.02)
        return self.layer(batch["values"]).mean()


def train(callbacks, batches=3):
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger", "enable_checkpointing"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=2, callbacks=callbacks, **quiet)
    trainer.fit(Plain(), DataLoader([{"values": torch.ones(4)}] * 5 * batches, batch_size=5))
    return trainer


def test_any_module_with_any_data_is_measured():
    speed = Speed()
    trainer = train([speed])
    assert speed.state_dict()["images"] == 2 * 3 * 5
    assert figures(trainer) is speed.figures
    assert speed.figures["seconds"] >= 6 * 0.02
    assert 0 < speed.figures["images_per_second"] < 30 / (6 * 0.02)
    assert 0 <= speed.figures["data_wait"] < 1
    assert speed.figures["peak_memory_mb"] is None
    assert trainer.callback_metrics["train/images_per_second"] > 0


def test_the_figures_of_a_trainer_without_speed_are_none():
    assert set(figures(train([])).values()) == {None}


def test_a_resumed_run_continues_the_totals():
    first, second = Speed(), Speed()
    train([first])
    second.load_state_dict(first.state_dict())
    train([second])
    assert second.state_dict()["images"] == 2 * first.state_dict()["images"]
    assert second.figures["seconds"] > first.figures["seconds"]


def test_the_wait_for_data_ends_when_the_batch_is_handed_over(monkeypatch):
    """Of the second batch: 3 s between the end of a step and the loader's, 1 s of transfer, 2 s of the step."""
    clock = iter([0.0, 10.0, 16.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))

    class Stub:
        world_size = 1
        datamodule = type("Data", (), {"handed_over": 8.0})
        strategy = type("Strategy", (), {"root_device": torch.device("cpu")})
        precision = "32-true"

    module = type("Module", (), {"log": lambda *_: None})()
    speed, batch = Speed(), torch.zeros(4, 3)
    speed.on_train_start(Stub, module)
    speed.on_train_batch_start(Stub, module, batch, 0)
    speed.on_train_batch_end(Stub, module, None, batch, 0)
    Stub.datamodule.handed_over = 13.0
    speed.on_train_batch_start(Stub, module, batch, 1)
    speed.on_train_batch_end(Stub, module, None, batch, 1)
    clock = iter([16.0])
    state = speed.state_dict()
    assert state == {"seconds": 16.0, "images": 8, "stepping": 2.0 + 3.0, "waiting": pytest.approx(3.0)}
