"""Names of networks and runs: how they are resolved, and which of several runs is best."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from srcolor.errors import UserError
from srcolor.runs import foreign, weights
from srcolor.runs.checkpoints import best_score, read
from srcolor.runs.run_folder import ROOT, choices, configuration, higher_is_better, state

# Data settings that do not change the images of the validation.
TRAINING_ONLY = "batch_size epoch_samples flips zoom jitter workers cache cache_dir cache_limit_gb".split()


def find(name: str) -> Path:
    """Resolve a name to a run folder or a checkpoint file.

    Args:
        name: A run's folder; a `.ckpt` or `.safetensors` file; `latest`, the newest run that has a checkpoint under
            `runs/`; `best:<experiment>`, the finished run of an experiment with the best validation figure, where
            all of them were validated on the same images; `srcolor/<name>`, a network that comes with srcolor; or
            `spandrel:<file>`, one from elsewhere (see `foreign.Spandrel`), which can be used and tested but not
            trained further.

    Raises:
        UserError: There is no such run or file, or `best:` has runs on different images to choose from.
    """
    if name.startswith(weights.PREFIX):
        return weights.find(name)
    if name.startswith(foreign.SPANDREL):
        return Path(name)
    if name == "latest" or name.startswith("best:"):
        runs = [path.parent.parent for path in ROOT.glob("**/checkpoints/best.ckpt")]
        if name == "latest":
            chosen = max(runs, key=lambda run: (run / "checkpoints/best.ckpt").stat().st_mtime, default=None)
        else:
            chosen = _best(name, [run for run in runs if experiment(run) == name.removeprefix("best:")])
        if chosen is None:
            known = sorted({experiment(run) for run in runs})
            there = f"There are runs of {', '.join(known)}." if known else "Train one: python train.py"
            raise UserError(f"{name}: no such trained run under {ROOT.absolute()}. {there}")
        return chosen
    path = Path(name).expanduser()
    if not path.exists():
        raise UserError(f"{name}: no such run folder or checkpoint file. Runs lie under {ROOT.absolute()}.")
    return path


def full_name(name: str) -> str:
    """Resolve a name to an absolute path, which stays valid in another working directory and after newer runs.

    Args:
        name: As for `find`.

    Raises:
        UserError: There is no such run or file.
    """
    if name.startswith(foreign.SPANDREL):
        return foreign.SPANDREL + str(Path(name.removeprefix(foreign.SPANDREL)).expanduser().absolute())
    return str(find(name).absolute())


def checkpoint_file(name: str, which: str = "best") -> Path:
    """Return the checkpoint file of a network.

    Args:
        name: As for `find`.
        which: `best` or `last`; ignored if `name` is a file.

    Raises:
        UserError: There is none.
    """
    path = find(name)
    if path.is_file() or name.startswith(foreign.SPANDREL):
        return path
    file = path / "checkpoints" / f"{which}.ckpt"
    if which == "last" and (requeued := list(path.glob("hpc_ckpt_*.ckpt"))):  # what SLURM's signal had written
        file = max(filter(Path.exists, (file, *requeued)), key=lambda file: file.stat().st_mtime)
    if not file.exists():
        raise UserError(f"{path}: no {file.relative_to(path)}; the run ended before its first validation. Start anew.")
    return file


def folder(name: str) -> Path | None:
    """Return the folder of the run that a network belongs to; None for a file outside a run."""
    path = find(name)
    run = path.parent.parent if path.is_file() else path
    return run if (run / ".hydra").exists() else None


def target_side(name: str) -> int | None:
    """Return the side, in pixels, of the images a network was trained to output; None if unknown."""
    run = folder(name)
    if run is None:
        return None
    config = configuration(run)
    return int(config.size) // int(config.pair.get("shrink", 1))


def data_settings(name: str) -> dict[str, Any]:
    """Return the data settings of a run: `size`, `data`, and every key of `data` that is not an interpolation."""
    run = folder(name)
    if run is None:
        return {}
    config = configuration(run)
    own = cast(dict[str, Any], OmegaConf.to_container(config.data))
    own.pop("_target_")
    named = {f"data.{key}": v for key, v in own.items() if not OmegaConf.is_interpolation(config.data, key)}
    return {"size": config.size, "data": str(choices(run).data), **named}


def validated(run: Path) -> float | None:
    """Return the validation figure that chose a run's best checkpoint; None for a run that only tests.

    `metrics.json` has it. Before the test, and in runs of older versions, it is read from the checkpoint.
    """
    file = run / "metrics.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    if "validation" in results:
        return None if results["validation"] is None else results["validation"]["value"]
    best = run / "checkpoints" / "best.ckpt"
    return best_score(read(best), configuration(run).monitor) if best.exists() else None


def train_figures(name: str) -> dict[str, Any]:
    """Return the `train` section of a run's `metrics.json`; empty without one."""
    run = folder(name)
    file = None if run is None else run / "metrics.json"
    return json.loads(file.read_text())["train"] if file is not None and file.exists() else {}


def experiment(run: Path) -> str:
    """Return the name of a run's experiment."""
    return str(choices(run).experiment)


def comparable(runs: Sequence[Path]) -> dict[str, list[Path]]:
    """Group runs by what they were validated on, the best first; the label of a group says how it differs."""
    groups: dict[tuple[str, ...], list[Path]] = {}
    for run in runs:
        groups.setdefault(_validated_on(run), []).append(run)
    shared = set.intersection(*map(set, groups)) if groups else set()
    labels = {settings: " ".join(word for word in settings if word not in shared) for settings in groups}
    return {labels[settings]: sorted(groups[settings], key=_score, reverse=True) for settings in sorted(groups)}


def _best(name: str, runs: Sequence[Path]) -> Path | None:
    """Return the run that is best in validation; None if there is no run."""
    done = [run for run in runs if state(run) == "done"]
    if runs and not done:
        raise UserError(f"{name}: no run of it is done. Name one by its folder.")
    groups = comparable(done)
    if len(groups) > 1:
        listed = "".join(f"\n  {label}: {group[0]}" for label, group in groups.items())
        raise UserError(
            f"{name}: the validation figures of runs on different images cannot be compared. Name one run by its "
            f"folder; the best of each kind:{listed}"
        )
    return next((group[0] for group in groups.values()), None)


def _validated_on(run: Path) -> tuple[str, ...]:
    """Return the settings that decide on which pairs, and by which metric, a run was validated."""
    config = configuration(run)
    settings = data_settings(str(run)) | {f"pair.{key}": value for key, value in config.pair.items_ex(resolve=False)}
    for key in ("scale", "monitor", "trainer.limit_val_batches"):
        settings[key] = OmegaConf.select(config, key)
    left_out = {f"data.{key}" for key in TRAINING_ONLY}
    words = [f"{key}={value}" for key, value in settings.items() if key not in left_out]
    return tuple(sorted(words))


def _score(run: Path) -> float:
    """Return the validation figure of a run, negative if less is better: never the test's."""
    value = validated(run)
    return -math.inf if value is None else value if higher_is_better(run) else -value
