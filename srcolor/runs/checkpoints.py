"""Read checkpoints, and build networks from them."""

import importlib
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srcolor import __version__
from srcolor.errors import UserError
from srcolor.nets.blend import Blend
from srcolor.nets.projected import Projected
from srcolor.runs import spandrel_nets, weights


def read(file: Path) -> dict[str, Any]:
    """Read a checkpoint of tensors and plain values (`weights_only`).

    Raises:
        UserError: If it is damaged, or not a srcolor checkpoint.
    """
    if str(file).startswith(spandrel_nets.PREFIX):
        raise UserError(f"{file}: external networks can be used and tested but not trained further or exported.")
    if file.suffix == ".safetensors":
        return weights.read(file)
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{file}: cannot be read as a checkpoint ({type(error).__name__}). Is it complete?") from error
    if not isinstance(checkpoint, dict) or not all(
        isinstance(checkpoint.get(key), dict) for key in ("net_config", "state_dict")
    ):
        raise UserError(f"{file}: not a srcolor checkpoint (`net_config` is missing).")
    return checkpoint


def best_score(checkpoint: Mapping[str, Any], monitor: str) -> float | None:
    """Return the value of the monitored metric of `best.ckpt`; None if it is not finite.

    Args:
        checkpoint: The checkpoint, see `read`.
        monitor: Name of the monitored metric, `val/psnr`.
    """
    scores = (float(s["current_score"]) for s in checkpoint["callbacks"].values() if s.get("monitor") == monitor)
    score = next(scores, math.nan)
    return score if math.isfinite(score) else None


def same_record(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two records of `trained_on` are equal."""
    return one["cut"] == other["cut"] and torch.equal(one["files"], other["files"])


def judged(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the EMA weights from a task's state dict, or the raw ones if there is no EMA."""
    prefix = "average.module." if any(key.startswith("average.") for key in state) else "net."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def reference(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """Return the weights of the pixel-loss network from an adversarial task's state dict; None for other tasks."""
    step = state.get("adversary.saved_step")
    if step is None:
        return None
    if step < 0:  # the adversary had not started
        return judged(state)
    prefix = "adversary.reference."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load_weights(net: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Load weights into a network.

    Raises:
        UserError: If the weights do not match the network; the message lists the differences.
    """
    current = net.state_dict()
    differences = [f"{key}: not in the file" for key in current if key not in state]
    differences += [f"{key}: not in the network" for key in state if key not in current]
    differences += [
        f"{key}: {tuple(state[key].shape)} in the file, {tuple(current[key].shape)} in the network"
        for key in current
        if key in state and current[key].shape != state[key].shape
    ]
    if differences:
        listed = "".join(f"\n  {line}" for line in differences[:8])
        more = f"\n  and {len(differences) - 8} more" if len(differences) > 8 else ""
        raise UserError(
            f"{source}: the weights do not match {type(net).__name__} as configured:{listed}{more}\n"
            "Set net=... and its options to the network that the weights belong to."
        )
    net.load_state_dict(state)


def initialize(net: nn.Module, start: nn.Module, source: str) -> None:
    """Start a network from the weights of a trained one: of the same kind, or of the one that it projects.

    Args:
        net: The network to start.
        start: The trained network.
        source: Where that one comes from, for the message.

    Raises:
        UserError: They are different networks; names what differs.
    """
    if isinstance(start, Blend):
        raise UserError(f"init_from={source}: a blend of two networks. A run starts from one network.")
    if isinstance(net, Projected) and not isinstance(start, Projected):
        net = net.net
    load_weights(net, start.state_dict(), source)


def net_class(config: Mapping[str, Any]) -> type[nn.Module]:
    """Return the class that a network's configuration names; nothing else is ever imported because of a file.

    Raises:
        UserError: If `_target_` does not name an `nn.Module` class of `srcolor.nets`.
    """
    name = config.get("_target_")
    module, _, attribute = str(name).rpartition(".")
    result = None
    if module.startswith("srcolor.nets."):
        with suppress(ImportError):
            result = getattr(importlib.import_module(module), attribute, None)
    if not (isinstance(result, type) and issubclass(result, nn.Module)):
        raise UserError(f"{name}: the checkpoint's configuration must name a network of srcolor.nets.")
    return result


def build_net(config: Mapping[str, Any]) -> nn.Module:
    """Build a network from a plain dictionary: `_target_` and its arguments, which may be networks themselves.

    Raises:
        UserError: If `_target_` does not name a network of `srcolor.nets`, or the arguments do not match it.
    """
    net = net_class(config)
    arguments = {
        key: build_net(value) if isinstance(value, Mapping) and "_target_" in value else value
        for key, value in config.items()
        if key != "_target_"
    }
    try:
        return net(**arguments)
    except TypeError as error:
        raise UserError(
            f"{config['_target_']}: the checkpoint's configuration does not match srcolor {__version__}: "
            f"{error}. It may have been written by a different version. Retrain the network."
        ) from error
