"""Tables, plots and image sheets of data sets, runs, comparisons and sweeps, for the notebooks.

Requires the `notebooks` extra.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srcolor import runs
from srcolor.analysis import sweeps, tables
from srcolor.data.crops import SPLITS
from srcolor.data.datamodule import ImageDataModule
from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.training.samples import SampleGrid, grid


def tested(name: str) -> Path:
    """Resolve the name of a run that has been trained and tested.

    Args:
        name: Run name; see `runs.find`.

    Raises:
        UserError: If there is no such run, it failed, or it is still running.
    """
    run = runs.folder(name)
    if run is None:
        raise UserError(f"{name}: this checkpoint is not in a run folder. Pass a run folder.")
    if (state := runs.state(run)) != "done":
        error = run / "error.txt"
        reason = f": {error.read_text(encoding='utf-8').strip()}" if error.exists() else ""
        raise UserError(f"{run} is {state}{reason}. Choose another: python -m srcolor.runs list")
    return run


# -- data -----------------------------------------------------------------------------------------------


def splits(data: ImageDataModule) -> pd.DataFrame:
    """Count the images, the crops, and the nearly gray or toned crops of each split."""
    rows = [(split, len(data.digests(split)), len(data.gray(split)), int(data.gray(split).sum())) for split in SPLITS]
    return pd.DataFrame(rows, columns=["split", "images", "crops", "nearly gray"]).set_index("split")


def sizes(data: ImageDataModule) -> Figure:
    """Plot widths and heights of the images, with lines at the crop size."""
    figure, axes = pyplot.subplots(figsize=(5, 4))
    heights, widths, _ = data.index.shapes.T
    axes.scatter(widths, heights, s=12, alpha=0.5)
    axes.set(xlabel="width (pixels)", ylabel="height (pixels)", title=f"{len(heights)} images")
    axes.axhline(data.size, color="gray", linewidth=0.8)
    axes.axvline(data.size, color="gray", linewidth=0.8)
    return figure


def pairs(data: ImageDataModule, split: str, count: int) -> Image.Image:
    """Show pairs of a split, spread evenly over it: input and target, without augmentation."""
    inputs, targets, _ = zip(*data.pairs(split, count), strict=True)
    return grid({"input": torch.cat(inputs), "target": torch.cat(targets)})


def augmented(data: ImageDataModule, row: int, times: int) -> Image.Image:
    """Show several random augmentations of a training sample."""
    target = data.augmented(row, times).target
    return grid({f"draw {number + 1}": target[number : number + 1] for number in range(times)})


# -- runs -----------------------------------------------------------------------------------------------


def curves(run: Path) -> Figure:
    """Plot the training loss and the monitored validation metric, baselines included, from a run's event files."""
    metric = runs.configuration(run).monitor.removeprefix("val/")
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.5))
    for axes, tags in ((left, ["train/loss"]), (right, _validated(events, metric))):
        for tag in tags:
            points = events.Scalars(tag)
            axes.plot(
                [p.step for p in points], [p.value for p in points], marker="." if axes is right else None, label=tag
            )
        axes.set_xlabel("step")
        axes.legend()
    left.set(ylabel="loss", yscale="log")
    right.set_ylabel(tables.column(metric).heading)
    figure.tight_layout()
    return figure


def _validated(events: EventAccumulator, metric: str) -> list[str]:
    return [tag for tag in events.Tags()["scalars"] if tag.startswith("val") and tag.endswith(f"/{metric}")]


def per_image(run: Path) -> pd.DataFrame:
    """Read the test metrics, one row per image, with its row in the test split."""
    return pd.read_csv(run / "per_image.csv").set_index("file").assign(row=lambda table: np.arange(len(table)))


def sheet(run: Path, rows: Sequence[int]) -> Image.Image:
    """Show test images like the sample sheet of a run: input, baselines, prediction, target, error map.

    Args:
        run: The directory of the run.
        rows: Rows of the test split, in the order to show.
    """
    cfg = runs.configuration(run)
    data = instantiate(cfg.data)
    data.setup()
    images = {
        row: (pair.input[i : i + 1], pair.target[i : i + 1])
        for pair in data.pairs("test")
        for i, row in enumerate(pair.row.tolist())
        if row in rows
    }
    inputs, targets = zip(*(images[row] for row in rows), strict=True)
    batch = Pair(torch.cat(inputs), torch.cat(targets), torch.tensor(list(rows)))
    task = instantiate(cfg.task, net=runs.load_net(str(run)))
    if hasattr(task, "fit_baselines"):
        task.fit_baselines(data)
    samples = cast(SampleGrid, instantiate(cfg.callbacks.pictures, folder=str(run)))
    with torch.inference_mode():
        task.eval()
        return grid(samples.columns(batch, {**task.predictions(batch), **task.illustrations(batch)}))


def against(run: Path, other: Path, metric: str) -> Figure:
    """Plot a metric of two runs against each other, one point per test image that they share."""
    both = per_image(run).join(per_image(other), lsuffix="_run", rsuffix="_other", how="inner")
    if both.empty:
        raise UserError(f"{run} and {other} share no test images.")
    return _scatter(both[f"{metric}_other"], both[f"{metric}_run"], metric, other.name, run.name)


def against_baseline(run: Path, metric: str, baseline: str) -> Figure:
    """Plot a metric of a run against the same metric of a baseline, one point per test image."""
    table = per_image(run)
    return _scatter(table[f"{baseline}_{metric}"], table[metric], metric, baseline, run.name)


def _scatter(x: pd.Series, y: pd.Series, metric: str, x_name: str, y_name: str) -> Figure:
    figure, axes = pyplot.subplots(figsize=(4.5, 4.5))
    axes.scatter(x, y, s=12, alpha=0.6)
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    axes.plot(ends, ends, color="gray", linewidth=0.8)
    heading = tables.column(metric).heading
    axes.set(xlabel=f"{heading}, {x_name}", ylabel=f"{heading}, {y_name}", title=f"{len(y)} images")
    return figure


def newest(name: str, file: str) -> Path:
    """Resolve the name of a comparison or a sweep to its directory.

    Args:
        name: The directory, or `latest`: the newest below `runs/`.
        file: The file that marks it: `comparison.json` or `multirun.yaml`.

    Raises:
        UserError: If there is none.
    """
    candidates = runs.ROOT.glob(f"**/{file}") if name == "latest" else [Path(name).expanduser() / file]
    files = [path for path in candidates if path.exists()]
    if not files:
        commands = {
            "comparison.json": "python compare.py, or make study",
            "multirun.yaml": "python train.py -m seed=0,1",
        }
        raise UserError(f"no {file} found for {name!r}. Create one: {commands[file]}")
    return max(files, key=lambda path: path.stat().st_mtime).parent


# -- comparisons ----------------------------------------------------------------------------------------


def comparison(folder: Path) -> dict[str, Any]:
    """Read `comparison.json` of a comparison of routes."""
    return json.loads((folder / "comparison.json").read_text(encoding="utf-8"))


def routes(results: dict[str, Any]) -> pd.DataFrame:
    """Return the metrics and costs of routes and floors, one row per route, grouped by input size.

    Args:
        results: Result of `comparison`.
    """
    rows = {**results["routes"], **results["floors"]}
    table = pd.DataFrame.from_dict(rows, orient="index").drop(columns="difference")
    return table.sort_values("given", key=lambda given: pd.to_numeric(given, errors="coerce"), kind="stable")


def error_split(results: dict[str, Any]) -> Figure:
    """Plot the mean squares of the three parts of each route's a*, b* error, which add up to the total.

    Args:
        results: Result of `comparison`.

    Raises:
        UserError: If the comparison has no mean squares because an older version wrote it.
    """
    table = routes(results)
    if not {"tint_square", "patches_square", "detail_square"} <= set(table):
        raise UserError(
            "comparison.json has no mean squares; it was written by an older version. Run compare.py again."
        )
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    left = np.zeros(len(table))
    for part in ("tint", "patches", "detail"):
        squares = table[f"{part}_square"].to_numpy()
        axes.barh(table.index, squares, left=left, label=part)
        left += squares
    axes.set(xlabel="mean square of the a*, b* error (CIELAB²)")
    axes.invert_yaxis()
    axes.legend()
    figure.tight_layout()
    return figure


def memory(results: dict[str, Any]) -> pd.DataFrame:
    """Return the cost of a training step at each size; empty if the network is external.

    Args:
        results: Result of `comparison`.
    """
    columns = ["side", "batch", "images_per_second", "peak_memory_mb"]
    return pd.DataFrame(results["steps"], columns=columns).set_index("side")


# -- sweeps ---------------------------------------------------------------------------------------------


def sweep(folder: Path) -> pd.DataFrame:
    """Return the jobs of a sweep, one row per job, and update its tables."""
    sweeps.write(folder)
    return sweeps.jobs(folder).table.set_index("job")


def sweep_plot(folder: Path) -> Figure:
    """Plot the monitored metric of the settings of a sweep, ranked: mean and standard deviation over the seeds."""
    jobs = sweeps.jobs(folder)
    ranked = sweeps.settings(folder, jobs).dropna(subset=["validation mean"])
    if ranked.empty:
        raise UserError(f"{folder}: no job has finished; see its sweep.csv.")
    metric, _ = sweeps.monitored(folder, jobs)
    figure, axes = pyplot.subplots(figsize=(7, 1 + 0.4 * len(ranked)))
    deviations = ranked["validation std"].fillna(0.0)
    axes.errorbar(ranked["validation mean"], ranked.index, xerr=deviations, fmt="o", capsize=3)
    axes.set_xlabel(f"{tables.column(metric).heading}, validation")
    axes.invert_yaxis()
    figure.tight_layout()
    return figure
