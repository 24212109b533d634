"""A sweep, many runs of one command, in one table: `sweep.csv`, a row a job, and `sweep.md`, ranked.

Both are made from what lies in the folders of the jobs, whatever started them and however they ended.
"""

import csv
import io
import json
import re
import shlex
import statistics
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from srcolor import runs
from srcolor.errors import UserError
from srcolor.runs import records


class Job(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: Its folder, from the sweep's.
        overrides: What it differs in from the others: key, and value as typed.
        state: See `runs.state`.
        validation: What its checkpoint was chosen by; None unless it is done.
        metrics: Of its test; empty unless it is done.
        seconds: Of training.
        error: Why it failed.
    """

    name: str
    overrides: dict[str, str]
    state: str
    validation: float | None
    metrics: dict[str, float | None]
    seconds: float | None
    error: str | None


class Setting(NamedTuple):
    """The jobs that differ in their seed alone.

    Attributes:
        overrides: What they have in common.
        done: How many of them are done.
        jobs: How many there are.
        validation: Mean and standard deviation over those that are done; the latter None for a single job.
        metrics: The same of the test's.
        seconds: Mean time of training.
    """

    overrides: dict[str, str]
    done: int
    jobs: int
    validation: tuple[float, float | None] | None
    metrics: dict[str, tuple[float, float | None]]
    seconds: float | None


def command(folder: Path) -> list[str]:
    """The words that a sweep was started with.

    Raises:
        UserError: The folder is none of a sweep.
    """
    file = folder / "multirun.yaml"
    if not file.exists():
        raise UserError(f"{folder}: no sweep: {file.name} is missing. Sweeps lie under {runs.ROOT}/sweep/.")
    return list(OmegaConf.load(file).hydra.overrides.task)


def jobs(folder: Path) -> list[Job]:
    """Reads the jobs of a sweep, in the order of their names.

    Raises:
        UserError: The folder is none of a sweep.
    """
    words = [OverridesParser.create().parse_override(word) for word in command(folder)]
    swept = [str(word.key_or_group) for word in words if word.is_sweep_override()]
    found = []
    for file in folder.rglob(".hydra/overrides.yaml"):
        run = file.parent.parent
        typed = dict(word.lstrip("+").split("=", 1) for word in runs.overrides(run))
        told = json.loads((run / "metrics.json").read_text()) if (run / "metrics.json").exists() else None
        error = run / "error.txt"
        found.append(
            Job(
                run.relative_to(folder).as_posix(),
                {key: typed[key] for key in swept if key in typed},
                runs.state(run),
                None if told is None else runs.validated(run),
                {} if told is None else told["test"],
                None if told is None else told["train"]["seconds"],
                error.read_text(encoding="utf-8").strip() if error.exists() else None,
            )
        )
    return sorted(
        found, key=lambda job: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", job.name)]
    )


def monitored(folder: Path, found: list[Job]) -> tuple[str, bool]:
    """Return the monitored metric of a sweep, that of its first job, and whether more of it is better."""
    done = next((job for job in found if job.state == "done"), found[0])
    run = folder / done.name
    return runs.configuration(run).monitor.removeprefix("val/"), runs.higher_is_better(run)


def settings(folder: Path, found: list[Job]) -> list[Setting]:
    """Folds jobs over their seeds, and ranks by the validation; settings with none come last.

    Never by the test, whose images would then have chosen the settings.
    """
    _, more = monitored(folder, found)
    folded: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in found:
        folded.setdefault(tuple((k, v) for k, v in job.overrides.items() if k != "seed"), []).append(job)
    ranked = []
    for overrides, same in folded.items():
        done = [job for job in same if job.state == "done"]
        metrics = {}
        for name in done[0].metrics if done else ():
            if folds := _fold([job.metrics.get(name) for job in done]):
                metrics[name] = folds
        validation = _fold([job.validation for job in done])
        seconds = _fold([job.seconds for job in done])
        mean = None if seconds is None else seconds[0]
        ranked.append(Setting(dict(overrides), len(done), len(same), validation, metrics, mean))

    def place(setting: Setting) -> tuple[bool, float]:
        value = 0.0 if setting.validation is None else setting.validation[0]
        return setting.validation is None, -value if more else value

    return sorted(ranked, key=place)


def _fold(values: list[float | None]) -> tuple[float, float | None] | None:
    known = [value for value in values if value is not None]
    return (statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None) if known else None


def write(folder: Path) -> None:
    """Writes `sweep.csv` and `sweep.md`, each complete or not at all; several processes may."""
    with FileLock(folder / "sweep.lock"):
        found = jobs(folder)
        if found:
            records.write(folder / "sweep.csv", _csv(found))
            records.write(folder / "sweep.md", _markdown(folder, found))


def _csv(found: list[Job]) -> str:
    keys = list(dict.fromkeys(key for job in found for key in job.overrides))
    metrics = list(dict.fromkeys(name for job in found for name in job.metrics))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["job", *keys, "state", "validation", *metrics, "seconds", "error"])
    for job in found:
        overrides = [job.overrides.get(key) for key in keys]
        values = [job.metrics.get(name) for name in metrics]
        writer.writerow([job.name, *overrides, job.state, job.validation, *values, job.seconds, job.error])
    return table.getvalue()


def _markdown(folder: Path, found: list[Job]) -> str:
    head, *rest = lines(folder, found)
    rule = ["---", *["---:"] * (len(head) - 1)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *rest))
    failed = "".join(f"- `{job.name}`: {job.error}\n" for job in found if job.state == "failed")
    parts = [
        f"# Sweep {folder.name}\n",
        f"`python train.py -m {shlex.join(command(folder))}`\n",
        f"{summary(found)}\n",
        table,
    ]
    return "\n".join([*parts, f"Failed:\n\n{failed}"] if failed else parts)


def summary(found: list[Job]) -> str:
    """Counts the jobs by their state."""
    counts = [f"{sum(job.state == state for job in found)} {state}" for state in runs.STATES]
    return f"{len(found)} jobs: {', '.join(count for count in counts if not count.startswith('0 '))}"


def lines(folder: Path, found: list[Job], only: str | None = None) -> list[list[str]]:
    """The ranked table: a heading, and a line a setting with mean ± standard deviation over its seeds.

    Args:
        folder: The sweep's.
        found: Its jobs.
        only: The metric to show; None for all.
    """
    ranked = settings(folder, found)
    keys = list(dict.fromkeys(key for setting in ranked for key in setting.overrides))
    metrics = list(dict.fromkeys(name for setting in ranked for name in setting.metrics if only in (None, name)))
    metric = monitored(folder, found)[0]
    table = [["", *keys, "done", f"val {metric}", *(f"test {name}" for name in metrics), "seconds"]]
    for place, setting in enumerate(ranked, 1):
        figures = [(metric, setting.validation), *((name, setting.metrics.get(name)) for name in metrics)]
        values = [_mean(figure, 2 if name.startswith("psnr") else 4) for name, figure in figures]
        seconds = "-" if setting.seconds is None else f"{setting.seconds:.0f}"
        overrides = [setting.overrides.get(key, "") for key in keys]
        table.append([str(place), *overrides, f"{setting.done}/{setting.jobs}", *values, seconds])
    return table


def _mean(value: tuple[float, float | None] | None, digits: int) -> str:
    if value is None:
        return "-"
    mean, deviation = value
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def show(folder: Path) -> bool:
    """Prints a sweep's table and what failed; answers whether a job is not done."""
    found = jobs(folder)
    console = Console()
    if not found:
        console.print(f"no job in {folder}", soft_wrap=True)
        return True
    head, *rest = lines(folder, found, monitored(folder, found)[0])
    table = Table(*head, title=summary(found), title_justify="left")
    for line in rest:
        table.add_row(*line)
    console.print(table)
    failed = [job for job in found if job.state == "failed"]
    for job in failed:
        console.print(f"{job.name}: {job.error}", style="red", highlight=False, soft_wrap=True, markup=False)
    console.print(f"tables {folder / 'sweep.md'}, {folder / 'sweep.csv'}", highlight=False, soft_wrap=True)
    return any(job.state != "done" for job in found)
