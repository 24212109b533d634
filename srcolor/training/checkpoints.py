"""Checkpoint callbacks: atomic files, selection by the monitored metric."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from srcolor.errors import UserError
from srcolor.metrics import higher_is_better


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint next to its target and rename it; Lightning's own class moves a file across file systems."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Save a checkpoint.

        Raises:
            UserError: If it cannot be written, e.g. because the disk is full. An existing file is kept.
        """
        unfinished = Path(f"{path}.unfinished")
        try:
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            torch.save(checkpoint, unfinished)
            os.replace(unfinished, path)
        except (OSError, RuntimeError) as error:  # torch.save raises a RuntimeError if the disk is full
            raise UserError(f"cannot write {path}: {error}. The previous checkpoint is unchanged.") from error
        finally:
            unfinished.unlink(missing_ok=True)


class RunCheckpoint(ModelCheckpoint):
    """Keep one checkpoint of a run: the one with the best monitored metric, or the last one.

    Unlike `ModelCheckpoint`, it takes the direction from the metric's measure, and restores its best score after the
    run folder was moved, copied or reached by another path.

    Args:
        dirpath: Folder of the checkpoint.
        filename: File name of the checkpoint, without suffix.
        monitor: Validation metric, `val/psnr`; if None, the last checkpoint, saved every epoch.

    Raises:
        UserError: If the metric does not exist, or has no direction.
    """

    def __init__(self, dirpath: str, filename: str, monitor: str | None = None) -> None:
        mode = "max" if monitor is not None and higher_is_better(monitor) else "min"
        at_epoch_end = True if monitor is None else None
        super().__init__(
            dirpath, filename, monitor, mode=mode, save_on_train_epoch_end=at_epoch_end, enable_version_counter=False
        )

    @property
    def state_key(self) -> str:
        """Key of the state in a checkpoint: the key of `ModelCheckpoint`, as in runs of srcolor 0.1."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, and the paths in the folder of this run."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        moved = {key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        kept = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": kept, "dirpath": self.dirpath})
