"""Tables of runs: `python -m srcolor.runs list [folder]` and `python -m srcolor.runs rank [folder]`."""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from srcolor.errors import UserError
from srcolor.runs.names import comparable, experiment, validated
from srcolor.runs.run_folder import ROOT, configuration, state


def overview(folder: Path) -> list[dict[str, Any]]:
    """Describe every run below a folder, newest first.

    Returns:
        For each run: `run`, its folder; `experiment`; `state`; `metric`, the monitored metric, and `validation`, its
        value; `test`, the test metrics by name; `seconds` of training; `ended`, a time stamp. Values that a run
        does not have yet are None or empty.
    """
    rows = []
    for file in folder.glob("**/.hydra/config.yaml"):
        run = file.parent.parent
        config = configuration(run)
        if "monitor" not in config or "hparams" in config:  # a comparison or a search
            continue
        result = run / "metrics.json"
        results = json.loads(result.read_text()) if result.exists() else None
        validation = None
        if results is not None:
            with suppress(UserError):  # a damaged checkpoint of an older version
                validation = validated(run)
        rows.append(
            {
                "run": run,
                "experiment": experiment(run),
                "state": state(run),
                "metric": config.monitor.removeprefix("val/"),
                "validation": validation,
                "test": {} if results is None else results["test"],
                "seconds": None if results is None else results["train"]["seconds"],
                "ended": (result if results else file).stat().st_mtime,
            }
        )
    return sorted(rows, key=lambda row: row["ended"], reverse=True)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m srcolor.runs", description="List or rank runs.")
    help = "list: newest first; rank: best validation first, grouped by validation images"
    parser.add_argument("order", choices=("list", "rank"), help=help)
    parser.add_argument(
        "folder", nargs="?", default=ROOT, type=Path, help=f"folder to search for runs (default: {ROOT})"
    )
    options = parser.parse_args(args)
    try:
        rows = overview(options.folder)
        if not rows:
            parser.exit(1, f"no runs found under {options.folder.absolute()}. Train one: python train.py\n")
        console = Console(width=None if sys.stdout.isatty() else 1000)
        if options.order == "list":
            console.print(_table(rows))
            return
        by_run = {row["run"]: row for row in rows}
        groups = comparable([run for run, row in by_run.items() if row["validation"] is not None])
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
        values = [_format(row["metric"], row["validation"]), _format(tested, row["test"].get(tested))]
        trained = "-" if row["seconds"] is None else f"{row['seconds']:.0f} s"
        ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["ended"]))
        table.add_row(ended, row["experiment"], row["state"], *values, trained, str(row["run"]))
    return table


def _format(metric: str, value: float | None) -> str:
    return "-" if value is None else f"{metric} {value:.{2 if metric.startswith('psnr') else 4}f}"
