"""A custom LightningDataModule that inherits the defaults can be trained, tested and reported."""

import json
import sys
import types

import torch
from conftest import TINY
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from srcolor.data.protocol import DataModule, DataModuleDefaults
from srcolor.images import Pair, block_mean


class RandomPairs(DataModuleDefaults, LightningDataModule):
    """Batches of random images and their block means."""

    def __init__(self, batches: int = 3) -> None:
        super().__init__()
        self.batches = batches

    def setup(self, stage: str | None = None) -> None:
        images = torch.rand(self.batches, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        rows = torch.arange(2 * self.batches).split(2)
        self.data = [Pair(block_mean(batch, 2), batch, row) for batch, row in zip(images, rows, strict=True)]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.data, batch_size=None)

    val_dataloader = test_dataloader = train_dataloader


def test_train_py_trains_tests_and_reports_it(call, tmp_path, monkeypatch):
    module = types.ModuleType("random_pairs")
    module.RandomPairs = RandomPairs
    monkeypatch.setitem(sys.modules, "random_pairs", module)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "random.yaml").write_text("_target_: random_pairs.RandomPairs\n")
    tiny = [override for override in TINY if not override.startswith(("data.", "trainer.max_epochs"))]
    overrides = [*tiny, f"hydra.searchpath=[file://{tmp_path}]", "data=random", "trainer.max_epochs=1"]
    run = tmp_path / "run"
    assert call(*overrides, "trainer.limit_train_batches=2", f"hydra.run.dir={run}") == 0
    results = json.loads((run / "metrics.json").read_text())
    assert results["images"] == 6
    assert results["train"]["images_per_second"] > 0
    assert 0 <= results["train"]["data_wait"] <= 1
    assert (run / "per_image.csv").read_text().splitlines()[1].startswith("test/0,")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2
    assert [len(record["files"]) for record in checkpoint["trained_on"]] == [0]


def test_default_pairs_come_from_the_loader_up_to_the_limit():
    data: DataModule = RandomPairs()
    data.setup()
    assert torch.cat([pair.row for pair in data.pairs("train")]).tolist() == list(range(6))
    pairs = list(data.pairs("train", 3))
    assert [len(pair.row) for pair in pairs] == [2, 1]
    assert torch.equal(pairs[1].target, data.data[1].target[:1])


def test_by_default_nothing_overlaps():
    data = RandomPairs()
    record = data.trained_on()
    assert record["files"].shape == (0, 32)
    assert data.overlap([record]) == []
    assert data.digests("test") == {}
