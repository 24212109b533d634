"""How checkpoints reach the disk: complete under their final name, or not at all."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from srcolor.errors import UserError


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
