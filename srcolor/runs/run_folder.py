"""The folder of a run: its status, and its recorded configuration and overrides."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout
from omegaconf import DictConfig, ListConfig, OmegaConf

from srcolor.errors import UserError
from srcolor.runs import records

ROOT = Path("runs")
STATES = ("done", "failed", "running", "unfinished")

# Prefixes of class paths in older runs, and their current values. The longest matching prefix applies.
MOVED = {
    **{
        f"srcolor.{room}callbacks.{old}": f"srcolor.training.{new}"
        for room in ("", "training.")
        for old, new in (
            ("Pictures", "samples.SampleGrid"),
            ("ColourPictures", "samples.ColorSampleGrid"),
            ("ProgressBar", "progress.ProgressBar"),
        )
    },
    "srcolor.checkpoint.": "srcolor.training.checkpoints.",
    "srcolor.schedules.": "srcolor.training.schedules.",
    "srcolor.tasks.benchmark.": "srcolor.benchmark.task.",
    "srcolor.data.benchmark.": "srcolor.benchmark.sets.",
    **{
        f"srcolor.data.{name}.": f"srcolor.data.sources.{name}."
        for name in ("celeba", "files", "flowers102", "folder", "lfw", "oxford_pets", "photos")
    },
}


def state(run: Path) -> str:
    """Return the status of a run.

    Returns:
        `done`: it has `metrics.json`. `failed`: its `error.txt` has the reason. `running`: a process is using it.
        `unfinished`: it was stopped or killed.
    """
    if (run / "metrics.json").exists():
        return "done"
    lock = run / ".hydra" / "lock"
    if lock.exists():
        try:
            FileLock(lock).acquire(timeout=0).lock.release()
        except Timeout:
            return "running"
    return "failed" if (run / "error.txt").exists() else "unfinished"


def choices(run: Path) -> DictConfig:
    """Return the choice of each config group."""
    file = run / ".hydra" / "hydra.yaml"
    if not file.exists():
        raise UserError(f"{run} is not a srcolor run ({file.relative_to(run)} not found). Pass a folder under {ROOT}/.")
    return OmegaConf.load(file).hydra.runtime.choices


def overrides(run: Path) -> list[str]:
    """Return the overrides that a run was started with, the last one of each key."""
    file = run / ".hydra" / "overrides.yaml"
    if not file.exists():
        raise UserError(f"{run} is not a srcolor run ({file.relative_to(run)} not found). Pass a folder under {ROOT}/.")
    return list({override.split("=", 1)[0]: override for override in map(str, OmegaConf.load(file))}.values())


def record_settings(run: Path, values: Mapping[str, Any]) -> None:
    """Replace settings such as `auto` in a run's recorded configuration with their resolved values.

    Args:
        run: Folder of the run.
        values: The values by full key.
    """
    config = configuration(run)
    for key, value in values.items():
        OmegaConf.update(config, key, value)
    records.write(run / ".hydra" / "config.yaml", OmegaConf.to_yaml(config))


def configuration(run: Path) -> DictConfig:
    """Return the recorded configuration of a run."""
    config = cast(DictConfig, OmegaConf.load(run / ".hydra" / "config.yaml"))
    pinned = run / ".hydra" / "pinned.yaml"
    for override in OmegaConf.load(pinned) if pinned.exists() else ():  # srcolor 0.1 recorded data.root there
        key, _, value = str(override).partition("=")
        OmegaConf.update(config, key, value.strip('"'), force_add=True)
    _move_classes(config)
    return config


def higher_is_better(run: Path) -> bool:
    """Return whether a higher value of a finished run's monitored metric is better."""
    file = run / "metrics.json"
    validation = json.loads(file.read_text()).get("validation") if file.exists() else None
    if validation is None:  # srcolor 0.1 recorded `mode` instead
        return bool(configuration(run).get("mode", "max") == "max")
    return bool(validation["higher_is_better"])


def current_class(path: str) -> str:
    """Return the current path of a class that a run may have recorded under an older one.

    >>> current_class("srcolor.schedules.WarmupCosine")
    'srcolor.training.schedules.WarmupCosine'
    """
    prefix = max((old for old in MOVED if path.startswith(old)), key=len, default=None)
    return path if prefix is None else MOVED[prefix] + path.removeprefix(prefix)


def _move_classes(node: Any) -> None:
    """Replace older class paths below a node of a configuration, in place."""
    if isinstance(node, DictConfig):
        for key, value in node.items_ex(resolve=False):
            if key == "_target_":
                node[key] = current_class(str(value))
            else:
                _move_classes(value)
    elif isinstance(node, ListConfig):
        for position in range(len(node)):
            if not OmegaConf.is_interpolation(node, position):
                _move_classes(node[position])
