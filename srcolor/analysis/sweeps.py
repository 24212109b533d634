"""Tables of a sweep: `sweep.csv` with one row per job, and `sweep.md` with the ranked settings.

Both are computed from the folders of the jobs, regardless of how the jobs were launched or ended. Requires the `sweep`
extra.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich.console import Console

from srcolor import runs
from srcolor.analysis import tables
from srcolor.errors import UserError
from srcolor.runs import records


class Jobs(NamedTuple):
    """The jobs of a sweep.

    Attributes:
        table: One row per job, sorted by name: `job`, its folder below the sweep's; the swept keys, as typed; `state`,
            see `runs.state`; `validation`, the monitored metric of its best checkpoint; the test metrics; `seconds`
            of training; `error`, the reason of a failure. Metrics are missing unless the job is done.
        keys: The swept keys.
        metrics: Names of the test metrics.
    """

    table: pd.DataFrame
    keys: list[str]
    metrics: list[str]


def command(folder: Path) -> list[str]:
    """Return the overrides that a sweep was started with.

    Raises:
        UserError: If the directory is not a sweep.
    """
    file = folder / "multirun.yaml"
    if not file.exists():
        raise UserError(f"{folder} is not a sweep ({file.name} not found). Sweeps are saved under {runs.ROOT}/sweep/.")
    return list(OmegaConf.load(file).hydra.overrides.task)


def jobs(folder: Path) -> Jobs:
    """Read the jobs of a sweep.

    Raises:
        UserError: If the directory is not a sweep.
    """
    overrides = [OverridesParser.create().parse_override(override) for override in command(folder)]
    swept = [str(override.key_or_group) for override in overrides if override.is_sweep_override()]
    rows: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    for file in folder.rglob(".hydra/overrides.yaml"):
        run = file.parent.parent
        row: dict[str, Any] = {"job": run.relative_to(folder).as_posix(), "state": runs.state(run)}
        row |= dict(override.lstrip("+").split("=", 1) for override in runs.overrides(run))
        if row["state"] == "done":
            results = json.loads((run / "metrics.json").read_text())
            row |= {"validation": runs.validated(run), "seconds": results["train"]["seconds"], **results["test"]}
            row["monitored by"] = runs.configuration(run).monitor
            metrics |= results["test"]
        if (run / "error.txt").exists():
            row["error"] = (run / "error.txt").read_text(encoding="utf-8").strip()
        rows.append(row)
    rows.sort(key=lambda row: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", row["job"])])
    monitors = [row["monitored by"] for row in rows if "monitored by" in row]
    for row in rows:
        if row.get("monitored by") not in monitors[:1]:  # validated by another metric than the first: not comparable
            row["validation"] = None
    keys = [key for key in swept if any(key in row for row in rows)]
    columns = ["job", *keys, "state", "validation", *metrics, "seconds", "error"]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(["validation", *metrics, "seconds"], float))
    return Jobs(table, keys, list(metrics))


def monitored(folder: Path, jobs: Jobs) -> tuple[str, bool]:
    """Return the monitored metric of a sweep's first finished job, and whether higher is better."""
    done = jobs.table[jobs.table["state"] == "done"]
    run = folder / (jobs.table if done.empty else done)["job"].iloc[0]
    return runs.configuration(run).monitor.removeprefix("val/"), runs.higher_is_better(run)


def settings(folder: Path, jobs: Jobs) -> pd.DataFrame:
    """Average the jobs that differ only in their seed, and rank the settings by validation.

    Settings without a validation metric, or with a different one than the first job, come last.
    The test set is never used for ranking, as its metrics would no
    longer be an independent estimate.

    Returns:
        One row per setting, labeled by its overrides, or `all`: the swept keys except the seed; `done` and `jobs`, the
        number of finished and of all jobs; `<name> mean` and `<name> std` of `validation`, the test metrics and
        `seconds`.
    """
    keys = [key for key in jobs.keys if key != "seed"]
    label = [
        ", ".join(f"{key}={value}" for key, value in zip(keys, values, strict=True) if pd.notna(value)) or "all"
        for values in jobs.table[keys].to_numpy()
    ]
    table = jobs.table.assign(setting=label, done=jobs.table["state"] == "done")
    groups = table.groupby("setting", sort=False)
    statistics = groups[["validation", *jobs.metrics, "seconds"]].agg(["mean", "std"])
    statistics.columns = statistics.columns.map(" ".join)
    counts = groups["done"].agg(done="sum", jobs="size")
    ranked = table.drop_duplicates("setting").set_index("setting")[keys].join([counts, statistics])
    higher_is_better = monitored(folder, jobs)[1]
    return ranked.sort_values("validation mean", ascending=not higher_is_better, kind="stable")


def write(folder: Path) -> None:
    """Atomically write `sweep.csv` and `sweep.md`; safe to call from multiple processes."""
    with FileLock(folder / "sweep.lock"):
        read = jobs(folder)
        if not read.table.empty:
            records.write(folder / "sweep.csv", read.table.to_csv(index=False, lineterminator="\n"))
            records.write(folder / "sweep.md", _markdown(folder, read))


def _markdown(folder: Path, jobs: Jobs) -> str:
    parts = [
        f"# Sweep {folder.name}\n",
        f"`python train.py -m {shlex.join(command(folder))}`\n",
        f"{summary(jobs)}\n",
        tables.markdown(lines(folder, jobs)),
    ]
    failed = "".join(f"- `{job}`: {error}\n" for job, error in _failed(jobs))
    return "\n".join([*parts, f"Failed:\n\n{failed}"] if failed else parts)


def _failed(jobs: Jobs) -> list[tuple[str, str]]:
    failed = jobs.table[jobs.table["state"] == "failed"]
    return list(zip(failed["job"], failed["error"], strict=True))


def summary(jobs: Jobs) -> str:
    """Count the jobs by their state."""
    counts = jobs.table["state"].value_counts()
    return (
        f"{len(jobs.table)} jobs: {', '.join(f'{counts[state]} {state}' for state in runs.STATES if state in counts)}"
    )


def lines(folder: Path, jobs: Jobs, only: str | None = None) -> list[list[str]]:
    """Return the ranked table, with mean ± standard deviation over the seeds.

    Args:
        folder: The directory of the sweep.
        jobs: The jobs of the sweep.
        only: The test metric to show; if None, all.

    Returns:
        The headings, and one line per setting.
    """
    ranked = settings(folder, jobs)
    keys = list(ranked.columns[: ranked.columns.get_loc("done")])
    metric = monitored(folder, jobs)[0]
    shown = [name for name in jobs.metrics if only in (None, name) and ranked[f"{name} mean"].notna().any()]
    digits = {"validation": tables.column(metric).digits} | {name: tables.column(name).digits for name in shown}
    result = [["", *keys, "done", f"val {metric}", *(f"test {name}" for name in shown), "seconds"]]
    for rank, row in enumerate(ranked.to_dict("records"), 1):
        overrides = ["" if pd.isna(row[key]) else row[key] for key in keys]
        values = [tables.spread(row[f"{name} mean"], row[f"{name} std"], digits[name]) for name in digits]
        seconds = tables.number(row["seconds mean"], 0)
        result.append([str(rank), *overrides, f"{row['done']}/{row['jobs']}", *values, seconds])
    return result


def show(folder: Path) -> bool:
    """Print the table of a sweep and its failures; return whether a job is not done."""
    read = jobs(folder)
    console = Console()
    if read.table.empty:
        console.print(f"no jobs found in {folder}", soft_wrap=True)
        return True
    console.print(tables.rich(lines(folder, read, monitored(folder, read)[0]), summary(read)))
    for job, error in _failed(read):
        console.print(f"{job}: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
    console.print(f"tables {folder / 'sweep.md'}, {folder / 'sweep.csv'}", highlight=False, soft_wrap=True)
    return not (read.table["state"] == "done").all()
