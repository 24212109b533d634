"""Networks in one file each, as safetensors: weights, what they are built from, and what they were trained on.

`reference/` has those that come with srcolor, named `srcolor/<name>`; `reference/hashes.json` has their SHA-256.
"""

import hashlib
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

FOLDER = Path(__file__).parent / "reference"
HASHES = FOLDER / "hashes.json"
PREFIX = "srcolor/"


def shipped() -> list[str]:
    """Names the networks that come with srcolor."""
    return sorted(json.loads(HASHES.read_text(encoding="utf-8")))


def find(name: str) -> Path:
    """Finds the file of a network that comes with srcolor.

    Args:
        name: With its `srcolor/`.

    Raises:
        UserError: There is none of this name, or its file is missing or not as it was.
    """
    known = json.loads(HASHES.read_text(encoding="utf-8"))
    short = name.removeprefix(PREFIX)
    if short not in known:
        raise UserError(f"{name}: no such network comes with srcolor. Known: {', '.join(PREFIX + n for n in known)}.")
    file = FOLDER / f"{short}.safetensors"
    if not file.exists():
        raise UserError(f"{name}: its file is missing: {file}. Install srcolor anew.")
    if hashlib.sha256(file.read_bytes()).hexdigest() != known[short]:
        raise UserError(f"{name}: {file} is damaged: its SHA-256 is not {known[short]}. Install srcolor anew.")
    return file


def write(
    file: Path,
    net_config: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
    trained_on: Sequence[Mapping[str, Any]],
) -> None:
    """Writes a network, complete or not at all.

    Args:
        file: Its name ends in `.safetensors`.
        net_config: What the network is built from; a plain dictionary.
        state: Its weights.
        trained_on: See `ImageDataModule.trained_on`.
    """
    tensors = {f"net.{key}": value.contiguous() for key, value in state.items()}
    tensors |= {f"trained_on.{number}": record["files"] for number, record in enumerate(trained_on)}
    cuts = [record["cut"] for record in trained_on]
    unfinished = file.with_name(file.name + ".unfinished")
    told = {"net_config": json.dumps(net_config), "trained_on": json.dumps(cuts), "version": __version__}
    unfinished.write_bytes(save(tensors, told))
    os.replace(unfinished, file)


def read(file: Path) -> dict[str, Any]:
    """Reads what `write` wrote, as a checkpoint: `net_config`, `state_dict` and `trained_on`.

    Raises:
        UserError: It is damaged, or none of srcolor's.
    """
    try:
        with safe_open(file, "pt") as content:
            told = content.metadata() or {}
            tensors = {key: content.get_tensor(key) for key in content.keys()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: cannot be read as safetensors ({error}). Is it complete?") from error
    if not {"net_config", "trained_on"} <= told.keys():
        raise UserError(f"{file}: no network of srcolor: it does not say what it holds.")
    records = [
        {"files": tensors[f"trained_on.{number}"], "cut": cut}
        for number, cut in enumerate(json.loads(told["trained_on"]))
    ]
    state = {key: value for key, value in tensors.items() if key.startswith("net.")}
    return {"net_config": json.loads(told["net_config"]), "state_dict": state, "trained_on": records}
