"""Tables, plots and image sheets of data sets, runs, comparisons and sweeps, for the notebooks.

Requires the `notebooks` extra.
"""

import json
from collections.abc import Mapping, Sequence
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
from srcolor.analysis import studies, sweeps, tables
from srcolor.data.crops import SPLITS
from srcolor.data.datamodule import ImageDataModule
from srcolor.errors import UserError, check_range
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


# -- comparisons ----------------------------------------------------------------------------------------


def compared(name: str, task: str) -> dict[int, Path]:
    """Resolve the name of a comparison or a study to the directories of its comparisons, by seed.

    Args:
        name: The directory of a comparison, or of a study with a comparison per seed, or `latest`: the newest of the
            task below `runs/`.
        task: Task of the comparison.

    Raises:
        UserError: If there is none, or it compares routes of another task.
    """
    root = Path(name).expanduser()
    if name == "latest":
        files = [file for file in runs.ROOT.glob("**/comparison.json") if _task(comparison(file.parent)) == task]
        root = max(files, key=lambda file: file.stat().st_mtime, default=root / "comparison.json").parent
        if (root.parent.parent / "study.json").exists():  # all seeds of the study
            root = root.parent.parent
    files = [file for place in ("", "seed*/comparison/") for file in root.glob(f"{place}comparison.json")]
    if not files:
        raise UserError(f"no comparison of task={task} found for {name!r}. Create one: python study.py --task {task}")
    for file in files:
        _check_task(comparison(file.parent), task, str(file.parent))
    seeds = {int(runs.configuration(file.parent).seed): file.parent for file in files}
    return dict(sorted(seeds.items()))


def comparison(folder: Path) -> dict[str, Any]:
    """Read `comparison.json` of a comparison of routes."""
    return json.loads((folder / "comparison.json").read_text(encoding="utf-8"))


def _task(results: Mapping[str, Any]) -> str:
    return results.get("task", studies.DEFAULT)  # srcolor 0.1 compared no other task


def _check_task(results: Mapping[str, Any], task: str, place: str) -> None:
    """Refuse a comparison of another task."""
    if (other := _task(results)) != task:
        raise UserError(f"{place} is a comparison of task={other}: expected task={task}. Choose another comparison.")


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
        UserError: If the comparison is not of colorization, or has no mean squares because an older version wrote it.
    """
    _check_task(results, "colorization", "this")
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


def differences(results: Mapping[int, dict[str, Any]], metrics: Sequence[str]) -> Figure:
    """Plot the difference of each route to the reference of its group, with its 95% interval, without the floors.

    Args:
        results: Result of `comparison` by seed; the seeds have the same routes.
        metrics: Metrics, one plot each.
    """
    first = next(iter(results.values()))
    references = {name: row["against"] for name, row in first["routes"].items() if row["against"] != name}
    names = [name for name in routes(first).index if name in references]
    size = (2 + 3.5 * len(metrics), 1 + 0.4 * len(names))
    figure, (plots,) = pyplot.subplots(1, len(metrics), figsize=size, sharey=True, squeeze=False, layout="constrained")
    rows = np.arange(len(names))
    for axes, metric in zip(plots, metrics, strict=True):
        for number, (seed, result) in enumerate(results.items()):
            height = rows + 0.5 * ((number + 0.5) / len(results) - 0.5)  # the seeds share a row
            values = [result["routes"][name]["difference"][metric] for name in names]
            mean, low, high = np.array(values, dtype=float).T
            axes.plot(mean, height, "o", color=f"C{number}", label=f"seed {seed}")
            axes.hlines(height, low, high, color=f"C{number}")
        axes.axvline(0, color="gray", linewidth=0.8)
        axes.set_xlabel(f"difference in {tables.column(metric).heading}")
    plots[0].set_yticks(rows, [f"{name} - {references[name]}" for name in names])
    plots[0].invert_yaxis()
    if len(results) > 1:
        figure.legend(*plots[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def enlarged(picture: Image.Image, side: int, row: int) -> Image.Image:
    """Show a row of a sheet of images, below the headings of the sheet, at twice its size.

    Args:
        picture: Result of `samples.grid`.
        side: Height of its images.
        row: Row of the sheet, from 0.

    Raises:
        UserError: If there is no such row.
    """
    gap, header = 4, 18
    check_range("ROW", row, 0, (picture.height - header) // (side + gap))
    top = header + row * (side + gap)
    strip = picture.crop((0, 0, picture.width, header + side))
    strip.paste(picture.crop((0, top, picture.width, top + side)), (0, header))
    return strip.resize((strip.width * 2, strip.height * 2), Image.Resampling.NEAREST)


def memory(results: dict[str, Any]) -> pd.DataFrame:
    """Return the cost of a training step at each size; empty if the network is external.

    Args:
        results: Result of `comparison`.
    """
    columns = ["side", "batch", "images_per_second", "peak_memory_mb"]
    return pd.DataFrame(results["steps"], columns=columns).set_index("side")


# -- sweeps ---------------------------------------------------------------------------------------------


def swept(name: str) -> Path:
    """Resolve the name of a sweep to its directory.

    Args:
        name: The directory, or `latest`: the newest below `runs/`.

    Raises:
        UserError: If there is none.
    """
    candidates = runs.ROOT.glob("**/multirun.yaml") if name == "latest" else [Path(name).expanduser() / "multirun.yaml"]
    files = [path for path in candidates if path.exists()]
    if not files:
        raise UserError(f"no multirun.yaml found for {name!r}. Create one: python train.py -m seed=0,1")
    return max(files, key=lambda path: path.stat().st_mtime).parent


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
