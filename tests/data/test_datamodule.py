"""Batches and pairs for any cache setting, number of workers and batch size."""

import inspect
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data_helpers import assert_same, batches, folder
from hydra import compose, initialize_config_dir
from hydra.utils import get_class

from srcolor.cli import schema
from srcolor.data import draws, pairs


@pytest.mark.parametrize("name", schema.options("data"))
def test_the_configuration_lists_every_argument_with_its_default(name):
    """Hydra sets only keys that are listed, without a `+`."""
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        node = compose("train", [f"data={name}"]).data
    parameters = inspect.signature(get_class(node._target_)).parameters
    assert set(node) - {"_target_"} == set(parameters)
    defaults = {key: value.default for key, value in parameters.items() if value.default is not value.empty}
    assert set(parameters) - set(defaults) <= {"root", "size", "pair", "scale"}
    other = {key for key, value in defaults.items() if node[key] != value and (node[key], value) != ([], ())}
    assert other == ({"crop", "flips"} if name == "photographs" else set())


@pytest.mark.parametrize("crop", ["center", "random"])
def test_batches_are_equal_with_and_without_cache_and_workers(pictures, crop):
    options = {"crop": crop, "flips": "dihedral"}
    expected = batches(folder(pictures, **options).train_dataloader())
    assert_same(batches(folder(pictures, **options, workers=2).train_dataloader()), expected)
    assert_same(batches(folder(pictures, **options, cache=False).train_dataloader()), expected)
    assert_same(batches(folder(pictures, **options, cache=False, workers=2).train_dataloader()), expected)


def test_draws_depend_on_the_position_in_the_epoch_not_on_the_batch(pictures):
    whole = batches(folder(pictures, crop="random", batch_size=100).train_dataloader())[0]
    parts = batches(folder(pictures, crop="random", batch_size=3).train_dataloader())
    for number in range(3):
        assert torch.equal(torch.cat([part[number] for part in parts]), whole[number])


def test_epochs_differ_and_can_be_repeated(pictures):
    loader = folder(pictures, crop="random").train_dataloader()
    first = batches(loader)
    loader.sampler.set_epoch(1)
    second = batches(loader)
    assert not torch.equal(first[0][0], second[0][0])
    loader.sampler.set_epoch(0)
    assert_same(batches(loader), first)


def test_epochs_visit_every_row_equally_often():
    order, table = draws.epoch(seed=0, number=3, rows=7, length=21)
    assert order.bincount().tolist() == [3] * 7
    parts = [draws.epoch(seed=0, number=n, rows=7, length=4)[0] for n in range(7)]
    assert torch.cat(parts).bincount().tolist() == [4] * 7
    assert sorted(torch.cat(parts)[:7].tolist()) == list(range(7))
    assert table.shape == (21, draws.COLUMNS)
    other, _ = draws.epoch(seed=1, number=3, rows=7, length=21)
    assert order.tolist() != other.tolist()


def test_pairs_are_in_order_and_not_augmented(pictures):
    data = folder(pictures, flips="dihedral", pair=lambda images, index: pairs.gray(images, index, shrink=1))
    whole = torch.cat([batch.images for batch in data.test_dataloader()]).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(torch.cat([pair.target for pair in data.pairs("test")]), whole, rtol=0, atol=1e-6)
    limited = torch.cat([pair.row for pair in data.pairs("train", limit=4)])
    count = len(data._splits["train"])
    assert limited.tolist() == [0, count // 4, count // 2, 3 * count // 4]


def test_a_datamodule_is_pickled_without_its_trainer(pictures):
    data = folder(pictures, cache=False, pair=pairs.block_mean)
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, hook=lambda: None)  # cannot be pickled
    crops = pickle.loads(pickle.dumps(data.train_dataloader().dataset))
    assert np.array_equal(crops.images.crop(0, 0, 0, 32), data._splits["train"].images.crop(0, 0, 0, 32))
