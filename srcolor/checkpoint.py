"""Checkpoints: written complete or not at all, and chosen by the monitored metric."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from srcolor.errors import UserError
from srcolor.metrics import higher_is_better


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames; Lightning's own moves a file from elsewhere."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Saves a checkpoint.

        Raises:
            UserError: It cannot be written: a full disk, say. What stood under the name stays.
        """
        unfinished = Path(f"{path}.unfinished")
        try:
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            torch.save(checkpoint, unfinished)
            os.replace(unfinished, path)
        except (OSError, RuntimeError) as error:  # torch.save answers a full disk with a RuntimeError
            raise UserError(f"cannot write {path}: {error}. What was saved before is still there.") from error
        finally:
            unfinished.unlink(missing_ok=True)


class RunCheckpoint(ModelCheckpoint):
    """Keeps one checkpoint of a run: the one whose monitored metric is best, or the last one.

    Unlike `ModelCheckpoint` it takes the direction from the metric itself, and knows its best score again when the
    run folder was moved, copied or reached by another path.

    Args:
        dirpath: Folder of the checkpoint.
        filename: Its name, without suffix.
        monitor: Validation metric, `val/psnr`; None for the last checkpoint of every epoch.

    Raises:
        UserError: There is no such metric, or it has no direction.
    """

    def __init__(self, dirpath: str, filename: str, monitor: str | None = None) -> None:
        mode = "max" if monitor is not None and higher_is_better(monitor) else "min"
        at_epoch_end = True if monitor is None else None
        super().__init__(
            dirpath, filename, monitor, mode=mode, save_on_train_epoch_end=at_epoch_end, enable_version_counter=False
        )

    @property
    def state_key(self) -> str:
        """Name of the state in a checkpoint: `ModelCheckpoint`'s, as in runs of srcolor 0.1."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and the paths, which are in this run's folder now."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        moved = {key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        kept = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": kept, "dirpath": self.dirpath})
