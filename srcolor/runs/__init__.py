"""Runs on the disk: how they are named, found and loaded.

A run is one folder: `.hydra/` (its configuration), `checkpoints/best.ckpt` and `last.ckpt`, `metrics.json`,
`per_image.csv`, `split.csv`, `samples/*.png` and TensorBoard's events.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import nn

from srcolor.errors import UserError
from srcolor.runs import foreign
from srcolor.runs.checkpoints import (
    best_score,
    build_net,
    initialize,
    judged,
    load_weights,
    net_class,
    read,
    reference,
    same_record,
)
from srcolor.runs.folder import (
    ROOT,
    STATES,
    choices,
    configuration,
    higher_is_better,
    overrides,
    record_settings,
    state,
)
from srcolor.runs.names import (
    checkpoint_file,
    data_settings,
    find,
    folder,
    full_name,
    target_side,
    train_figures,
    validated,
)

__all__ = [
    "ROOT",
    "STATES",
    "best_score",
    "build_net",
    "checkpoint_file",
    "choices",
    "configuration",
    "data_settings",
    "find",
    "folder",
    "full_name",
    "higher_is_better",
    "initialize",
    "judged",
    "load_net",
    "load_reference",
    "load_weights",
    "net_class",
    "overrides",
    "parts",
    "read",
    "record_settings",
    "resolve",
    "same_record",
    "spent_budget",
    "state",
    "target_side",
    "train_figures",
    "trained_on",
    "validated",
]


def load_net(run: str) -> nn.Module:
    """Build a trained network from the best checkpoint of a run, or from a checkpoint file.

    Only networks of `srcolor.nets` are built from the configuration in the file.

    Args:
        run: As for `find`.

    Returns:
        The network in evaluation mode, with its averaged weights if it has any.

    Raises:
        UserError: The file is missing, damaged, or not a checkpoint of srcolor.
    """
    if run.startswith(foreign.SPANDREL):
        return foreign.Spandrel(Path(run.removeprefix(foreign.SPANDREL)).expanduser()).eval()
    file = checkpoint_file(run)
    checkpoint = read(file)
    net = build_net(checkpoint["net_config"])
    load_weights(net, judged(checkpoint["state_dict"]), str(file))
    return net.eval()


def load_reference(run: str) -> nn.Module:
    """Build the network that the pixel loss alone had trained before the adversary of a run started.

    Args:
        run: As for `find`, a run with an adversary.

    Returns:
        The network in evaluation mode.

    Raises:
        UserError: The file is missing or damaged, or the run had no adversary.
    """
    if run.startswith(foreign.SPANDREL):
        raise UserError(f"{run}: expected a run of srcolor with an adversary, got a network from elsewhere.")
    file = checkpoint_file(run)
    checkpoint = read(file)
    net = build_net(checkpoint["net_config"])
    load_weights(net, reference(checkpoint["state_dict"], str(file)), str(file))
    return net.eval()


def resolve(config: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Replace every reference to a run in a network's configuration by the configuration of that run's network.

    Args:
        config: Configuration of the network, a plain dictionary.
        known: The resolved configuration, if known: used instead of runs that may be missing.

    >>> resolve({"_target_": "srcolor.nets.bicubic.Bicubic", "scale": 2})
    {'_target_': 'srcolor.nets.bicubic.Bicubic', 'scale': 2}
    """
    if config.get("_target_") == "srcolor.runs.load_net":
        return read(checkpoint_file(config["run"]))["net_config"] if known is None else dict(known)
    return {
        key: resolve(value, None if known is None else known.get(key)) if isinstance(value, Mapping) else value
        for key, value in config.items()
    }


def parts(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the runs that a network's configuration refers to.

    >>> parts({"_target_": "srcolor.nets.chain.Chain", "first": {"_target_": "srcolor.runs.load_net", "run": "latest"}})
    ['latest']
    """
    if config.get("_target_") == "srcolor.runs.load_net":
        return [config["run"]]
    return [run for value in config.values() if isinstance(value, Mapping) for run in parts(value)]


def trained_on(name: str) -> list[dict[str, Any]] | None:
    """Return what a network and its predecessors were trained on; see `ImageDataModule.trained_on`.

    Returns:
        None for a network from elsewhere: that is not known.

    Raises:
        UserError: Its checkpoint does not tell.
    """
    if name.startswith(foreign.SPANDREL):
        return None
    file = checkpoint_file(name)
    records = read(file).get("trained_on")
    if records is None:
        raise UserError(f"{file}: does not tell what it was trained on: it is of an older version. Train it anew.")
    return records


def spent_budget(checkpoint: Mapping[str, Any], trainer: Mapping[str, Any]) -> str | None:
    """Return the budget that a run had spent when it wrote a checkpoint.

    Args:
        checkpoint: What `read` gives.
        trainer: The configuration of the trainer.

    Returns:
        `max_steps`, `max_epochs` or `max_time`; None if there is something left.
    """
    if 0 < trainer["max_steps"] <= checkpoint["global_step"]:
        return "max_steps"
    if 0 < (trainer["max_epochs"] or -1) <= checkpoint["epoch"] + 1:
        return "max_epochs"
    if trainer["max_time"] is not None:
        days, hours, minutes, seconds = map(int, str(trainer["max_time"]).split(":"))
        budget = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
        elapsed = checkpoint["callbacks"].get("Timer", {"time_elapsed": {"train": 0.0}})["time_elapsed"]["train"]
        if elapsed >= budget:
            return "max_time"
    return None
