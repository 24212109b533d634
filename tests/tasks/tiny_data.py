"""A datamodule of random pairs in memory, for real runs of the Trainer that take a second."""

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

from srcolor import images
from srcolor.data.protocol import DataModuleDefaults
from srcolor.images import Pair


class Pairs(Dataset):
    def __init__(self, batches, side):
        self.batches, self.side = batches, side

    def __len__(self):
        return self.batches

    def __getitem__(self, number):
        target = torch.rand(2, 3, self.side, self.side, generator=torch.Generator().manual_seed(number))
        return Pair(images.block_mean(target, 2), target, torch.arange(2) + 2 * number)


class TinyData(DataModuleDefaults, LightningDataModule):
    """`batches` batches of two pairs for training, one for validation."""

    def __init__(self, batches=4, side=16):
        super().__init__()
        self.batches, self.side = batches, side

    def train_dataloader(self):
        return DataLoader(Pairs(self.batches, self.side), batch_size=None)

    def val_dataloader(self):
        return DataLoader(Pairs(1, self.side), batch_size=None)

    test_dataloader = val_dataloader


def fit(task, data, folder, callbacks=(), ckpt_path=None, **settings):
    """Train a task with a quiet trainer on the CPU; return the trainer."""
    task.net_config, task.trained_on = {}, []
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger"), False)
    saves = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    settings = {"max_epochs": -1, "num_sanity_val_steps": 0, "enable_checkpointing": saves, **quiet, **settings}
    settings |= {"accelerator": "cpu", "log_every_n_steps": 1, "default_root_dir": folder}
    trainer = Trainer(callbacks=list(callbacks), **settings)
    trainer.fit(task, data, ckpt_path=ckpt_path, weights_only=None if ckpt_path is None else True)
    return trainer
