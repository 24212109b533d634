"""Runs on the disk: how they are named, found and loaded.

A run is one folder: `.hydra/` (what it was asked for), `checkpoints/best.ckpt` and `last.ckpt`,
`metrics.json`, `per_image.csv`, `split.csv`, `samples/*.png` and TensorBoard's events.
"""

import argparse
import importlib
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch import nn

from srcolor import __version__, foreign, records, weights
from srcolor.errors import UserError

ROOT = Path("runs")
PINNED = ".hydra/pinned.yaml"
STATES = ("done", "failed", "running", "unfinished")
# Settings of the data that do not change the images of the validation.
TRAINING_ONLY = "batch_size epoch_samples flips zoom jitter workers cache cache_dir cache_limit_gb".split()


# -- naming and loading ---------------------------------------------------------------------------------


def find(name: str) -> Path:
    """Finds a run's folder, or a checkpoint file, by the one way in which networks are named.

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
            chosen = _best(name, [run for run in runs if _experiment(run) == name.removeprefix("best:")])
        if chosen is None:
            known = sorted({_experiment(run) for run in runs})
            there = f"There are runs of {', '.join(known)}." if known else "Train one: python train.py"
            raise UserError(f"{name}: no such trained run under {ROOT.absolute()}. {there}")
        return chosen
    path = Path(name).expanduser()
    if not path.exists():
        raise UserError(f"{name}: no such run folder or checkpoint file. Runs lie under {ROOT.absolute()}.")
    return path


def full_name(name: str) -> str:
    """A name that says the same in any folder, and tomorrow: looked up, as an absolute path.

    Args:
        name: As for `find`.

    Raises:
        UserError: There is no such run or file.
    """
    if name.startswith(foreign.SPANDREL):
        return foreign.SPANDREL + str(Path(name.removeprefix(foreign.SPANDREL)).expanduser().absolute())
    return str(find(name).absolute())


def state(run: Path) -> str:
    """Says how far a run is.

    Returns:
        `done`: it has `metrics.json`. `failed`: its `error.txt` says why. `running`: a process is at work in it.
        `unfinished`: it was stopped, or killed.
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


def _best(name: str, runs: Sequence[Path]) -> Path | None:
    """Return the run that is best in validation; None if there is no run."""
    done = [run for run in runs if state(run) == "done"]
    if runs and not done:
        raise UserError(f"{name}: no run of it is done. Name one by its folder.")
    groups = _comparable(done)
    if len(groups) > 1:
        listed = "".join(f"\n  {label}: {group[0]}" for label, group in groups.items())
        raise UserError(
            f"{name}: the validation figures of runs on different images cannot be compared. Name one run by its "
            f"folder; the best of each kind:{listed}"
        )
    return next((group[0] for group in groups.values()), None)


def _comparable(runs: Sequence[Path]) -> dict[str, list[Path]]:
    """Group runs by what they were validated on, the best first; the label of a group says how it differs."""
    groups: dict[tuple[str, ...], list[Path]] = {}
    for run in runs:
        groups.setdefault(_validated_on(run), []).append(run)
    shared = set.intersection(*map(set, groups)) if groups else set()
    labels = {settings: " ".join(word for word in settings if word not in shared) for settings in groups}
    return {labels[settings]: sorted(groups[settings], key=_score, reverse=True) for settings in sorted(groups)}


def _validated_on(run: Path) -> tuple[str, ...]:
    """Return the settings that decide on which pairs, and by which metric, a run was validated."""
    config = configuration(run)
    settings = data_settings(str(run)) | {f"pair.{key}": value for key, value in config.pair.items_ex(resolve=False)}
    for key in ("scale", "monitor", "trainer.limit_val_batches"):
        settings[key] = OmegaConf.select(config, key)
    left_out = {f"data.{key}" for key in (*TRAINING_ONLY, "root")}
    words = [f"{key}={value}" for key, value in settings.items() if key not in left_out]
    root = [word for word in overrides(run) if word.startswith("data.root=")]
    return (*sorted(words), *root[-1:])


def _score(run: Path) -> float:
    """Return the validation figure of a run, negative if less is better: never the test's."""
    value = validated(run)
    return -math.inf if value is None else value if higher_is_better(run) else -value


def _experiment(run: Path) -> str:
    return str(choices(run).experiment)


def choices(run: Path) -> DictConfig:
    """Return which choice was made in each group."""
    file = run / ".hydra" / "hydra.yaml"
    if not file.exists():
        raise UserError(f"{run}: no run of srcolor: {file.relative_to(run)} is missing. Name a folder under {ROOT}/.")
    return OmegaConf.load(file).hydra.runtime.choices


def overrides(run: Path) -> list[str]:
    """Return the overrides that a run was started with, the last one of each key, and those that `pin` recorded."""
    file = run / ".hydra" / "overrides.yaml"
    if not file.exists():
        raise UserError(f"{run}: no run of srcolor: {file.relative_to(run)} is missing. Name a folder under {ROOT}/.")
    return list({word.split("=", 1)[0]: word for word in (*map(str, OmegaConf.load(file)), *pinned(run))}.values())


def pinned(run: Path) -> list[str]:
    """Return the overrides that `pin` recorded."""
    file = run / PINNED
    return [str(word) for word in OmegaConf.load(file)] if file.exists() else []


def pin(run: Path, values: Mapping[str, str]) -> None:
    """Record what a run's command line left open (the data's root, the precision) apart from its overrides.

    Args:
        run: The run's folder.
        values: By the keys' full names; quoted as Hydra's grammar wants it.
    """
    records.write(
        run / PINNED, OmegaConf.to_yaml(OmegaConf.create([f"{key}={value}" for key, value in values.items()]))
    )


def checkpoint_file(name: str, which: str = "best") -> Path:
    """Finds the checkpoint of a named network.

    Args:
        name: As for `find`.
        which: `best` or `last`; of no account where a file is named.

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


def read(file: Path) -> dict[str, Any]:
    """Reads a checkpoint; nothing but tensors and plain values (`weights_only`).

    Raises:
        UserError: It is damaged, or none of srcolor's.
    """
    if file.suffix == ".safetensors":
        return weights.read(file)
    if str(file).startswith(foreign.SPANDREL):
        raise UserError(f"{file}: a network from elsewhere can be used and tested, not trained further or exported.")
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{file}: cannot be read as a checkpoint ({type(error).__name__}). Is it complete?") from error
    if not isinstance(checkpoint, dict) or not all(
        isinstance(checkpoint.get(key), dict) for key in ("net_config", "state_dict")
    ):
        raise UserError(f"{file}: no checkpoint of srcolor: it does not say which network it holds.")
    return checkpoint


def folder(name: str) -> Path | None:
    """The folder of the run that a network belongs to; None for a file that lies elsewhere."""
    path = find(name)
    run = path.parent.parent if path.is_file() else path
    return run if (run / ".hydra").exists() else None


def target_side(name: str) -> int | None:
    """Side of the images, in pixels, that a network was trained to answer; None where no run tells it."""
    run = folder(name)
    if run is None:
        return None
    config = configuration(run)
    return int(config.size) // int(config.pair.get("shrink", 1))


def configuration(run: Path) -> DictConfig:
    """What a run was asked for, composed."""
    return cast(DictConfig, OmegaConf.load(run / ".hydra" / "config.yaml"))


def data_settings(name: str) -> dict[str, Any]:
    """What a run's data was: `size`, `data`, and every key of the data that has a value of its own."""
    run = folder(name)
    if run is None:
        return {}
    config = configuration(run)
    own = cast(dict[str, Any], OmegaConf.to_container(config.data))
    own.pop("_target_")
    named = {f"data.{key}": v for key, v in own.items() if not OmegaConf.is_interpolation(config.data, key)}
    return {"size": config.size, "data": str(choices(run).data), **named}


def trained_on(name: str) -> list[dict[str, Any]] | None:
    """What a network, and those that it started from, were trained on; see `ImageDataModule.trained_on`.

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


def same_record(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records of `trained_on` say the same."""
    return one["cut"] == other["cut"] and torch.equal(one["files"], other["files"])


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


def higher_is_better(run: Path) -> bool:
    """Return whether more is better of the figure that chose a finished run's best checkpoint."""
    file = run / "metrics.json"
    validation = json.loads(file.read_text()).get("validation") if file.exists() else None
    if validation is None:  # of srcolor 0.1, which recorded `mode`
        return bool(configuration(run).get("mode", "max") == "max")
    return bool(validation["higher_is_better"])


def best_score(checkpoint: Mapping[str, Any], monitor: str) -> float | None:
    """Return the monitored figure of the network in `best.ckpt`; None if it is not finite.

    Args:
        checkpoint: As `read` returns it.
        monitor: Name of the validation figure.
    """
    scores = (float(s["current_score"]) for s in checkpoint["callbacks"].values() if s.get("monitor") == monitor)
    score = next(scores, math.nan)
    return score if math.isfinite(score) else None


def train_figures(name: str) -> dict[str, Any]:
    """What a network's `metrics.json` says of its training; empty where there is none."""
    run = folder(name)
    file = None if run is None else run / "metrics.json"
    return json.loads(file.read_text())["train"] if file is not None and file.exists() else {}


def spent_budget(checkpoint: Mapping[str, Any], trainer: Mapping[str, Any]) -> str | None:
    """Says which budget a run had spent when it wrote a checkpoint.

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


def load_net(run: str) -> nn.Module:
    """Builds a trained network from a run's best checkpoint, or from a checkpoint file.

    Nothing but networks is built from the configuration in the file.

    Args:
        run: As for `find`.

    Returns:
        The network in evaluation mode, with its averaged weights if it has any.

    Raises:
        UserError: There is no such file, it is none of srcolor's, or it is damaged.
    """
    if run.startswith(foreign.SPANDREL):
        return foreign.Spandrel(Path(run.removeprefix(foreign.SPANDREL)).expanduser()).eval()
    file = checkpoint_file(run)
    checkpoint = read(file)
    net = build_net(checkpoint["net_config"])
    load_weights(net, judged(checkpoint["state_dict"]), str(file))
    return net.eval()


def judged(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Picks a network's weights out of a task's state: the averaged ones, where there are any."""
    prefix = "average.module." if any(key.startswith("average.") for key in state) else "net."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load_weights(net: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Puts weights into a network.

    Raises:
        UserError: They belong to another network; names what differs.
    """
    own = net.state_dict()
    differences = [f"{key}: not in the file" for key in own if key not in state]
    differences += [f"{key}: not in the network" for key in state if key not in own]
    differences += [
        f"{key}: {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the network"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    if differences:
        listed = "".join(f"\n  {line}" for line in differences[:8])
        more = f"\n  and {len(differences) - 8} more" if len(differences) > 8 else ""
        raise UserError(
            f"{source}: weights of another network than {type(net).__name__} as configured:{listed}{more}\n"
            "Choose the network that the weights belong to with net=... and its settings."
        )
    net.load_state_dict(state)


def resolve(config: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Puts in a network's configuration, for every network that is loaded from a run, that network's own.

    Args:
        config: Of the network; a plain dictionary.
        known: The same, resolved before: stands in for runs that may be gone by now.

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
    """Names the runs that a network's configuration loads networks from.

    >>> parts({"_target_": "srcolor.nets.chain.Chain", "first": {"_target_": "srcolor.runs.load_net", "run": "latest"}})
    ['latest']
    """
    if config.get("_target_") == "srcolor.runs.load_net":
        return [config["run"]]
    return [run for value in config.values() if isinstance(value, Mapping) for run in parts(value)]


def net_class(config: Mapping[str, Any]) -> type[nn.Module]:
    """Return the class of a network's configuration: the only thing that is ever imported because a file names it.

    Raises:
        UserError: `_target_` is not the name of an `nn.Module` class of `srcolor.nets`.
    """
    name = config.get("_target_")
    module, _, attribute = str(name).rpartition(".")
    found = None
    if module.startswith("srcolor.nets."):
        with suppress(ImportError):
            found = getattr(importlib.import_module(module), attribute, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{name}: the checkpoint's configuration must name a network of srcolor.nets.")
    return found


def build_net(config: Mapping[str, Any]) -> nn.Module:
    """Builds a network from a plain dictionary: `_target_`, and its arguments, which may be networks too.

    Raises:
        UserError: `_target_` is not the name of an `nn.Module` class, or the arguments do not fit it.
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
            f"{config['_target_']}: the checkpoint's configuration does not fit the network of srcolor {__version__}: "
            f"{error}. It may be of another version; train it anew."
        ) from error


# -- listing --------------------------------------------------------------------------------------------


def overview(folder: Path) -> list[dict[str, Any]]:
    """Describe every run below a folder, newest first.

    Returns:
        For each run: `run`, its folder; `experiment`; `state`; `metric`, the monitored one, and `validation`, its
        figure; `test`, the test figures by metric; `seconds` of training; `ended`, a time stamp. What a run that is
        not done lacks is None or empty.
    """
    found = []
    for file in folder.glob("**/.hydra/config.yaml"):
        run = file.parent.parent
        config = configuration(run)
        if "monitor" not in config or "hparams" in config:  # a comparison, or a search
            continue
        result = run / "metrics.json"
        told = json.loads(result.read_text()) if result.exists() else None
        validation = None
        if told is not None:
            with suppress(UserError):  # a damaged checkpoint of an older version
                validation = validated(run)
        found.append(
            {
                "run": run,
                "experiment": _experiment(run),
                "state": state(run),
                "metric": config.monitor.removeprefix("val/"),
                "validation": validation,
                "test": {} if told is None else told["test"],
                "seconds": None if told is None else told["train"]["seconds"],
                "ended": (result if told else file).stat().st_mtime,
            }
        )
    return sorted(found, key=lambda row: row["ended"], reverse=True)


def main(words: Sequence[str] | None = None) -> None:
    """Print the runs: `python -m srcolor.runs list [folder]`, or `rank <folder>`, best validation first."""
    parser = argparse.ArgumentParser(prog="python -m srcolor.runs", description="Tells what runs there are.")
    help = "newest first; or best validation first, runs with the same validation images together"
    parser.add_argument("order", choices=("list", "rank"), help=help)
    parser.add_argument("folder", nargs="?", default=ROOT, type=Path, help=f"where to look; {ROOT} if not given")
    asked = parser.parse_args(words)
    try:
        rows = overview(asked.folder)
        if not rows:
            parser.exit(1, f"no run under {asked.folder.absolute()}. Train one: python train.py\n")
        console = Console(width=None if sys.stdout.isatty() else 1000)
        if asked.order == "list":
            console.print(_table(rows))
            return
        by_run = {row["run"]: row for row in rows}
        groups = _comparable([run for run, row in by_run.items() if row["validation"] is not None])
        for label, runs in groups.items():
            console.print(_table([by_run.pop(run) for run in runs], label))
        if by_run:
            console.print(_table(list(by_run.values())))
    except UserError as error:
        parser.exit(1, f"error: {error}\n")


def _table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> Table:
    table = Table(box=None, title=title or None, title_justify="left", title_style="bold")
    for heading in ("ended", "experiment", "state", "validation", "test", "trained"):
        table.add_column(heading, no_wrap=True)
    table.add_column("run", overflow="fold")
    for row in rows:
        tested = row["metric"] if row["metric"] in row["test"] else next(iter(row["test"]), "")
        figures = [_figure(row["metric"], row["validation"]), _figure(tested, row["test"].get(tested))]
        trained = "-" if row["seconds"] is None else f"{row['seconds']:.0f} s"
        ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["ended"]))
        table.add_row(ended, row["experiment"], row["state"], *figures, trained, str(row["run"]))
    return table


def _figure(metric: str, value: float | None) -> str:
    return "-" if value is None else f"{metric} {value:.{2 if metric.startswith('psnr') else 4}f}"


if __name__ == "__main__":
    main()
