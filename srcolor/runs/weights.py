"""Networks as safetensors files: weights, network configuration, and records of the training images."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from srcolor import __version__
from srcolor.errors import UserError


def write(
    file: Path,
    net_config: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
    trained_on: Sequence[Mapping[str, Any]],
) -> None:
    """Atomically write a network.

    Args:
        file: The file; its name ends in `.safetensors`.
        net_config: Configuration of the network, a plain dictionary.
        state: Weights of the network.
        trained_on: Records of the training images; see `ImageDataModule.trained_on`.
    """
    tensors = {f"net.{key}": value.contiguous() for key, value in state.items()}
    tensors |= {f"trained_on.{number}": record["files"] for number, record in enumerate(trained_on)}
    cuts = [record["cut"] for record in trained_on]
    unfinished = file.with_name(file.name + ".unfinished")
    metadata = {"net_config": json.dumps(net_config), "trained_on": json.dumps(cuts), "version": __version__}
    unfinished.write_bytes(save(tensors, metadata))
    os.replace(unfinished, file)


def read(file: Path) -> dict[str, Any]:
    """Read a file written by `write` as a checkpoint: `net_config`, `state_dict` and `trained_on`.

    Raises:
        UserError: If it is damaged, or was not written by srcolor.
    """
    try:
        with safe_open(file, "pt") as content:
            metadata = content.metadata() or {}
            tensors = {key: content.get_tensor(key) for key in content.keys()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: cannot be read as safetensors ({error}). Is it complete?") from error
    if not {"net_config", "trained_on"} <= metadata.keys():
        raise UserError(f"{file}: not a srcolor network: its metadata lacks `net_config` or `trained_on`.")
    records = [
        {"files": tensors[f"trained_on.{number}"], "cut": cut}
        for number, cut in enumerate(json.loads(metadata["trained_on"]))
    ]
    state = {key: value for key, value in tensors.items() if key.startswith("net.")}
    return {"net_config": json.loads(metadata["net_config"]), "state_dict": state, "trained_on": records}
