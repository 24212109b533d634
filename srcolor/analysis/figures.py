"""What the notebooks show: tables, plots and sheets of pictures of data sets, runs, comparisons and sweeps.

Needs the extra `notebooks`.
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
from srcolor.analysis import sweeps
from srcolor.data.crops import SPLITS
from srcolor.data.datamodule import ImageDataModule
from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.training.samples import SampleGrid, grid

UNITS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "ab_rmse": "ab-RMSE (CIELAB)", "loss": "loss"}


def tested(name: str) -> Path:
    """Finds a run that has been trained and tested.

    Args:
        name: As for `runs.find`.

    Raises:
        UserError: There is none, or it failed, or is still running.
    """
    run = runs.folder(name)
    if run is None:
        raise UserError(f"{name}: a checkpoint file alone; name its run's folder.")
    if (state := runs.state(run)) != "done":
        error = run / "error.txt"
        why = f": {error.read_text(encoding='utf-8').strip()}" if error.exists() else ""
        raise UserError(f"{run} is {state}{why}. Choose another: python -m srcolor.runs list")
    return run


# -- data -----------------------------------------------------------------------------------------------


def splits(data: ImageDataModule) -> pd.DataFrame:
    """Counts pictures and crops of each split, and the crops that are nearly gray or toned."""
    rows = [(split, len(data.digests(split)), len(data.gray(split)), int(data.gray(split).sum())) for split in SPLITS]
    return pd.DataFrame(rows, columns=["split", "pictures", "crops", "nearly gray"]).set_index("split")


def sizes(data: ImageDataModule) -> Figure:
    """Plots how large the pictures are."""
    figure, axes = pyplot.subplots(figsize=(5, 4))
    heights, widths, _ = data.index.shapes.T
    axes.scatter(widths, heights, s=12, alpha=0.5)
    axes.set(xlabel="width (pixels)", ylabel="height (pixels)", title=f"{len(heights)} pictures")
    axes.axhline(data.size, color="gray", linewidth=0.8)
    axes.axvline(data.size, color="gray", linewidth=0.8)
    return figure


def pairs(data: ImageDataModule, split: str, count: int) -> Image.Image:
    """Shows pairs of a split, spread evenly over it, without augmentation: input and target."""
    parts = list(zip(*data.pairs(split, count), strict=True))
    return grid({"input": torch.cat(parts[0]), "target": torch.cat(parts[1])})


def augmented(data: ImageDataModule, row: int, times: int) -> Image.Image:
    """Shows a training sample as it is drawn again and again."""
    target = data.augmented(row, times).target
    return grid({f"draw {number + 1}": target[number : number + 1] for number in range(times)})


# -- runs -----------------------------------------------------------------------------------------------


def curves(run: Path) -> Figure:
    """Plots loss and validation over the steps of a run, from its event files, with the baselines' validation."""
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
    right.set_ylabel(UNITS.get(metric, metric))
    figure.tight_layout()
    return figure


def _validated(events: EventAccumulator, metric: str) -> list[str]:
    return [tag for tag in events.Tags()["scalars"] if tag.startswith("val") and tag.endswith(f"/{metric}")]


def per_image(run: Path) -> pd.DataFrame:
    """Reads the test's figures, a row an image, with its row in the test split."""
    return pd.read_csv(run / "per_image.csv").set_index("file").assign(row=lambda table: np.arange(len(table)))


def sheet(run: Path, rows: Sequence[int]) -> Image.Image:
    """Shows test images of a run as its own sheet does: input, baselines, prediction, target, error map.

    Args:
        run: The run.
        rows: Rows of the test split.
    """
    cfg = runs.configuration(run)
    data = instantiate(cfg.data)
    data.setup()
    wanted = {row: place for place, row in enumerate(rows)}
    found = [
        (wanted[row], pair.input[i : i + 1], pair.target[i : i + 1])
        for pair in data.pairs("test")
        for i, row in enumerate(pair.row.tolist())
        if row in wanted
    ]
    found.sort(key=lambda item: item[0])
    batch = Pair(torch.cat([f[1] for f in found]), torch.cat([f[2] for f in found]), torch.tensor(list(rows)))
    task = instantiate(cfg.task, net=runs.load_net(str(run)))
    if hasattr(task, "fit_baselines"):
        task.fit_baselines(data)
    drawn = cast(SampleGrid, instantiate(cfg.callbacks.pictures, folder=str(run)))
    with torch.inference_mode():
        return grid(drawn.columns(batch, task.eval().predictions(batch)))


def against(run: Path, other: Path, metric: str) -> Figure:
    """Plots a metric of two runs against each other, a point a test image that both have."""
    both = per_image(run).join(per_image(other), lsuffix="_run", rsuffix="_other", how="inner")
    if both.empty:
        raise UserError(f"{run} and {other} have no test image in common.")
    return _scatter(both[f"{metric}_other"], both[f"{metric}_run"], metric, other.name, run.name)


def against_baseline(run: Path, metric: str, baseline: str) -> Figure:
    """Plots a metric of a run against a baseline's, a point a test image."""
    table = per_image(run)
    return _scatter(table[f"{baseline}_{metric}"], table[metric], metric, baseline, run.name)


def _scatter(across: pd.Series, up: pd.Series, metric: str, one: str, other: str) -> Figure:
    figure, axes = pyplot.subplots(figsize=(4.5, 4.5))
    axes.scatter(across, up, s=12, alpha=0.6)
    ends = [min(across.min(), up.min()), max(across.max(), up.max())]
    axes.plot(ends, ends, color="gray", linewidth=0.8)
    unit = UNITS.get(metric, metric)
    axes.set(xlabel=f"{unit}, {one}", ylabel=f"{unit}, {other}", title=f"{len(up)} images")
    return figure


def newest(name: str, file: str) -> Path:
    """Finds the folder of a comparison or a sweep.

    Args:
        name: The folder, or `latest`: the newest below `runs/`.
        file: What lies in it: `comparison.json`, or `multirun.yaml`.

    Raises:
        UserError: There is none.
    """
    found = runs.ROOT.glob(f"**/{file}") if name == "latest" else [Path(name).expanduser() / file]
    there = [path for path in found if path.exists()]
    if not there:
        how = {"comparison.json": "python compare.py, or make study", "multirun.yaml": "python train.py -m seed=0,1"}
        raise UserError(f"{name}: no {file} there. Make one: {how[file]}")
    return max(there, key=lambda path: path.stat().st_mtime).parent


# -- comparisons ----------------------------------------------------------------------------------------


def comparison(folder: Path) -> dict[str, Any]:
    """Reads a comparison of routes."""
    return json.loads((folder / "comparison.json").read_text(encoding="utf-8"))


def routes(told: dict[str, Any]) -> pd.DataFrame:
    """The figures of routes and floors, a row a route, those that are given the same together."""
    rows = {**told["routes"], **told["floors"]}
    table = pd.DataFrame({name: {k: v for k, v in row.items() if k != "difference"} for name, row in rows.items()}).T
    return table.sort_values("given", kind="stable")


def error_split(told: dict[str, Any]) -> Figure:
    """Plots the mean squares of the three parts of each route's a*, b* error, which add up to its own.

    Raises:
        UserError: An older version made the comparison, without mean squares.
    """
    table = routes(told)
    if not {"tint_square", "patches_square", "detail_square"} <= set(table):
        raise UserError("no mean squares in comparison.json: an older version wrote it. Run compare.py again.")
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    left = np.zeros(len(table))
    for part in ("tint", "patches", "detail"):
        squares = table[f"{part}_square"].astype(float).to_numpy()
        axes.barh(table.index, squares, left=left, label=part)
        left += squares
    axes.set(xlabel="mean square of the a*, b* error (CIELAB²)")
    axes.invert_yaxis()
    axes.legend()
    figure.tight_layout()
    return figure


def memory(told: dict[str, Any]) -> pd.DataFrame:
    """What a training step of the colour network takes at the small and the large size."""
    return pd.DataFrame(told["steps"]).set_index("side")


# -- sweeps ---------------------------------------------------------------------------------------------


def sweep(folder: Path) -> pd.DataFrame:
    """The jobs of a sweep, a row each."""
    sweeps.write(folder)
    return pd.read_csv(folder / "sweep.csv").set_index("job")


def sweep_plot(folder: Path) -> Figure:
    """Plots a sweep's settings, ranked, by the figure that its runs were chosen by: mean and deviation over seeds."""
    found = sweeps.jobs(folder)
    metric, _ = sweeps.monitored(folder, found)
    ranked = [setting for setting in sweeps.settings(folder, found) if setting.validation is not None]
    if not ranked:
        raise UserError(f"{folder}: no job is done; see sweep.csv there.")
    names = [", ".join(f"{key}={value}" for key, value in setting.overrides.items()) or "all" for setting in ranked]
    means, deviations = zip(*(setting.validation for setting in ranked if setting.validation), strict=True)
    figure, axes = pyplot.subplots(figsize=(7, 1 + 0.4 * len(names)))
    axes.errorbar(means, names, xerr=[deviation or 0.0 for deviation in deviations], fmt="o", capsize=3)
    axes.set_xlabel(f"{UNITS.get(metric, metric)}, validation")
    axes.invert_yaxis()
    figure.tight_layout()
    return figure
