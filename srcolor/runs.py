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


# -- naming and loading ---------------------------------------------------------------------------------


def find(name: str) -> Path:
    """Finds a run's folder, or a checkpoint file, by the one way in which networks are named.

    Args:
        name: A run's folder; a `.ckpt` or `.safetensors` file; `latest`, the newest run that has a checkpoint under
            `runs/`; `best:<experiment>`, the run of an experiment whose test is best by the figure it was chosen by;
            `srcolor/<name>`, a network that comes with srcolor; or `spandrel:<file>`, one from elsewhere (see
            `foreign.Spandrel`), which can be used and tested but not trained further.

    Raises:
        UserError: There is no such run or file.
    """
    if name.startswith(weights.PREFIX):
        return weights.find(name)
    if name.startswith(foreign.SPANDREL):
        return Path(name)
    if name == "latest" or name.startswith("best:"):
        runs = [path.parent.parent for path in ROOT.glob("**/checkpoints/best.ckpt")]
        if name == "latest":
            score = {run: (run / "checkpoints/best.ckpt").stat().st_mtime for run in runs}
        else:
            experiment = name.removeprefix("best:")
            score = {run: _score(run) for run in runs if _experiment(run) == experiment}
        if not score:
            known = sorted({_experiment(run) for run in runs})
            there = f"There are runs of {', '.join(known)}." if known else "Train one: python train.py"
            raise UserError(f"{name}: no such trained run under {ROOT.absolute()}. {there}")
        return max(score, key=lambda run: score[run])
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


def _score(run: Path) -> float:
    file = run / "metrics.json"
    if not file.exists():
        return -math.inf
    config = configuration(run)
    value = json.loads(file.read_text())["test"].get(config.monitor.removeprefix("val/"))
    return -math.inf if value is None else value if config.mode == "max" else -value


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
    """The validation figure that a run's best checkpoint was chosen by; None for a run that only tests."""
    file = run / "checkpoints" / "best.ckpt"
    states = read(file)["callbacks"].values() if file.exists() else ()
    monitor = configuration(run).monitor
    return next((float(state["current_score"]) for state in states if state.get("monitor") == monitor), None)


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


def build_net(config: Mapping[str, Any]) -> nn.Module:
    """Builds a network from a plain dictionary: `_target_`, and its arguments, which may be networks too.

    Raises:
        UserError: `_target_` is not the name of an `nn.Module` class, or the arguments do not fit it.
    """
    name = config.get("_target_")
    module, _, attribute = str(name).rpartition(".")
    found = None
    if module.startswith("srcolor.nets."):
        with suppress(ImportError):
            found = getattr(importlib.import_module(module), attribute, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{name}: the checkpoint's configuration must name a network of srcolor.nets.")
    arguments = {
        key: build_net(value) if isinstance(value, Mapping) and "_target_" in value else value
        for key, value in config.items()
        if key != "_target_"
    }
    try:
        return found(**arguments)
    except TypeError as error:
        raise UserError(
            f"{name}: the checkpoint's configuration does not fit the network of srcolor {__version__}: {error}. "
            "It may be of another version; train it anew."
        ) from error


# -- listing --------------------------------------------------------------------------------------------


def overview(folder: Path) -> list[dict[str, Any]]:
    """Describes every run below a folder, newest first.

    Returns:
        For each: `run`, its folder; `experiment`; `state`; `metric` and `value`, the test's figure of what its
        checkpoint was chosen by; `seconds` of training; `ended`, a time stamp. None for what is not known.
    """
    found = []
    for file in folder.glob("**/.hydra/config.yaml"):
        run = file.parent.parent
        config = configuration(run)
        if "monitor" not in config or "hparams" in config:  # a comparison, or a search
            continue
        result = run / "metrics.json"
        told = json.loads(result.read_text()) if result.exists() else None
        metric = config.monitor.removeprefix("val/")
        found.append(
            {
                "run": run,
                "experiment": _experiment(run),
                "state": state(run),
                "metric": metric,
                "value": None if told is None else told["test"][metric],
                "seconds": None if told is None else told["train"]["seconds"],
                "ended": (result if told else file).stat().st_mtime,
            }
        )
    return sorted(found, key=lambda row: row["ended"], reverse=True)


def main(words: Sequence[str] | None = None) -> None:
    """Prints what runs there are: `python -m srcolor.runs list [folder]`, or `rank <folder>`, the best first."""
    parser = argparse.ArgumentParser(prog="python -m srcolor.runs", description="Tells what runs there are.")
    parser.add_argument("order", choices=("list", "rank"), help="the newest first, or the best of each figure first")
    parser.add_argument("folder", nargs="?", default=ROOT, type=Path, help=f"where to look; {ROOT} if not given")
    asked = parser.parse_args(words)
    rows = overview(asked.folder)
    if not rows:
        parser.exit(1, f"no run under {asked.folder.absolute()}. Train one: python train.py\n")
    if asked.order == "rank":
        rows.sort(key=lambda row: (row["metric"], -_score(row["run"])))
    table = Table(box=None)
    for heading in ("ended", "experiment", "state", "figure", "trained"):
        table.add_column(heading, no_wrap=True)
    table.add_column("run", overflow="fold")
    for row in rows:
        figure = (
            "-" if row["value"] is None else f"{row['metric']} {row['value']:.{2 if row['metric'] == 'psnr' else 4}f}"
        )
        trained = "-" if row["seconds"] is None else f"{row['seconds']:.0f} s"
        ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["ended"]))
        table.add_row(ended, row["experiment"], row["state"], figure, trained, str(row["run"]))
    Console(width=None if sys.stdout.isatty() else 1000).print(table)


if __name__ == "__main__":
    main()
