"""Resolve the names of networks and runs, and rank runs."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from srcolor import bundled
from srcolor.errors import UserError
from srcolor.runs import hub, spandrel_nets
from srcolor.runs.checkpoints import best_score, read
from srcolor.runs.run_folder import ROOT, choices, configuration, higher_is_better, state

# Data settings that do not affect validation.
TRAINING_ONLY = "batch_size epoch_samples flips zoom jitter workers cache cache_dir cache_limit_gb".split()


def find(name: str) -> Path:
    """Resolve a name to a run folder or a checkpoint file.

    Args:
        name: A run folder; a `.ckpt` or `.safetensors` file; `latest`, the newest run under `runs/` that has a
            checkpoint; `best:<experiment>`, the finished run of an experiment with the best validation, provided that
            all of them were validated on the same images; `srcolor/<name>`, a bundled network;
            `hf:<owner>/<name>[@revision]`, a network on the Hugging Face Hub; or `spandrel:<file>`, an external network
            (see `spandrel_nets.load`), which can be used and tested but not trained further.

    Raises:
        UserError: If there is no such run or file, or the runs of `best:` were validated on different images.
    """
    if name.startswith(bundled.PREFIX):
        return bundled.find(name)
    if name.startswith(hub.PREFIX):
        return hub.find(name)
    if name.startswith(spandrel_nets.PREFIX):
        return Path(name)
    if name == "latest" or name.startswith("best:"):
        runs = [path.parent.parent for path in ROOT.glob("**/checkpoints/best.ckpt")]
        if name == "latest":
            chosen = max(runs, key=lambda run: (run / "checkpoints/best.ckpt").stat().st_mtime, default=None)
        else:
            chosen = _best(name, [run for run in runs if experiment(run) == name.removeprefix("best:")])
        if chosen is None:
            experiments = sorted({experiment(run) for run in runs})
            hint = f"There are runs of {', '.join(experiments)}." if experiments else "Train one: python train.py"
            raise UserError(f"{name}: no trained run found under {ROOT.absolute()}. {hint}")
        return chosen
    path = Path(name).expanduser()
    if not path.exists():
        raise UserError(f"{name}: no such run folder or checkpoint file. Runs are saved under {ROOT.absolute()}.")
    return path


def full_name(name: str) -> str:
    """Resolve a name to an absolute path, which stays valid in another working directory and after newer runs.

    Args:
        name: Run or network name; see `find`.

    Raises:
        UserError: If there is no such run or file.
    """
    if name.startswith(spandrel_nets.PREFIX):
        return spandrel_nets.PREFIX + str(Path(name.removeprefix(spandrel_nets.PREFIX)).expanduser().absolute())
    return str(find(name).absolute())


def checkpoint_file(name: str, which: str = "best") -> Path:
    """Return the checkpoint file of a network.

    Args:
        name: Run or network name; see `find`.
        which: `best` or `last`; ignored if `name` is a file.

    Raises:
        UserError: If there is none.
    """
    path = find(name)
    if path.is_file() or name.startswith(spandrel_nets.PREFIX):
        return path
    file = path / "checkpoints" / f"{which}.ckpt"
    if which == "last" and (requeued := list(path.glob("hpc_ckpt_*.ckpt"))):  # saved at SLURM's signal
        file = max(filter(Path.exists, (file, *requeued)), key=lambda file: file.stat().st_mtime)
    if not file.exists():
        raise UserError(
            f"{path}: {file.relative_to(path)} not found; the run ended before its first validation. Train again."
        )
    return file


def folder(name: str) -> Path | None:
    """Return the folder of the run that a network belongs to; None for a file outside a run."""
    path = find(name)
    run = path.parent.parent if path.is_file() else path
    return run if (run / ".hydra").exists() else None


def shrink(name: str) -> int:
    """Return the factor by which images were reduced to train a network at their reduced size; 1 if unknown."""
    run = folder(name)
    return 1 if run is None else int(OmegaConf.select(configuration(run), "pair.shrink", default=1))


def target_side(name: str) -> int | None:
    """Return the side, in pixels, of the images a network was trained to output; None if unknown."""
    run = folder(name)
    if run is None:
        return None
    return int(configuration(run).size) // shrink(name)


def data_settings(name: str) -> dict[str, Any]:
    """Return the data settings of a run: `size`, `data`, and every key of `data` that is not an interpolation."""
    run = folder(name)
    if run is None:
        return {}
    config = configuration(run)
    data = cast(dict[str, Any], OmegaConf.to_container(config.data))
    data.pop("_target_")
    named = {f"data.{key}": v for key, v in data.items() if not OmegaConf.is_interpolation(config.data, key)}
    return {"size": config.size, "data": str(choices(run).data), **named}


def validated(run: Path) -> float | None:
    """Return the monitored metric of a run's best checkpoint; None for a run that only tests.

    It is read from `metrics.json`, or from the checkpoint if the run has not been tested or was written by an
    older version.
    """
    file = run / "metrics.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    if "validation" in results:
        return None if results["validation"] is None else results["validation"]["value"]
    best = run / "checkpoints" / "best.ckpt"
    return best_score(read(best), configuration(run).monitor) if best.exists() else None


def train_figures(name: str) -> dict[str, Any]:
    """Return the `train` section of a run's `metrics.json`; empty if there is none."""
    run = folder(name)
    file = None if run is None else run / "metrics.json"
    return json.loads(file.read_text())["train"] if file is not None and file.exists() else {}


def experiment(run: Path) -> str:
    """Return the name of a run's experiment."""
    return str(choices(run).experiment)


def comparable(runs: Sequence[Path]) -> dict[str, list[Path]]:
    """Group runs by validation settings, the best run of a group first; labels name the settings that differ."""
    groups: dict[tuple[str, ...], list[Path]] = {}
    for run in runs:
        groups.setdefault(_validated_on(run), []).append(run)
    shared = set.intersection(*map(set, groups)) if groups else set()
    labels = {settings: " ".join(setting for setting in settings if setting not in shared) for settings in groups}
    return {labels[settings]: sorted(groups[settings], key=_score, reverse=True) for settings in sorted(groups)}


def _best(name: str, runs: Sequence[Path]) -> Path | None:
    """Return the run with the best validation; None if there is no run."""
    done = [run for run in runs if state(run) == "done"]
    if runs and not done:
        raise UserError(f"{name}: no run of this experiment has finished. Pass a run folder.")
    groups = comparable(done)
    if len(groups) > 1:
        listed = "".join(f"\n  {label}: {group[0]}" for label, group in groups.items())
        raise UserError(
            f"{name}: runs validated on different images or by different metrics cannot be ranked. Pass a run folder; "
            f"the best of each group:{listed}"
        )
    return next((group[0] for group in groups.values()), None)


def _validated_on(run: Path) -> tuple[str, ...]:
    """Return the settings that determine the pairs and the metric of a run's validation, each as `key=value`."""
    config = configuration(run)
    settings = {"data.group": None, **data_settings(str(run))}  # older runs did not record data.group
    settings |= {f"pair.{key}": value for key, value in config.pair.items_ex(resolve=False)}
    for key in ("scale", "monitor", "trainer.limit_val_batches"):
        settings[key] = OmegaConf.select(config, key)
    excluded = {f"data.{key}" for key in TRAINING_ONLY}
    return tuple(sorted(f"{key}={value}" for key, value in settings.items() if key not in excluded))


def _score(run: Path) -> float:
    """Return the validation metric of a run, negated if lower is better; never a test metric."""
    value = validated(run)
    return -math.inf if value is None else value if higher_is_better(run) else -value
