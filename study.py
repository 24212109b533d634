"""Run the study of a task, from training to tables: `python study.py [--data photos|lfw|/full/path] [--seeds 0,1,2]`.

Train what is missing, one train.py after the other, and compare the routes. The same command resumes a study that was
stopped or killed; it trains nothing twice.
"""

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from srcolor import signals
from srcolor.analysis import studies
from srcolor.analysis.studies.base import Study
from srcolor.cli import launch, overrides, schema
from srcolor.errors import UserError, check_range

HERE = Path(__file__).parent
OF_THE_TASK = {"loss", "net", "pair", "task"}  # settings that a stage of another task does not have


def stages(
    study: Study, folder: Path, minutes: int, scale: int, adversarial: bool, args: Sequence[str]
) -> dict[str, list[str]]:
    """Return the experiments of one seed in order, each with its overrides for train.py; see `Study.stages`.

    Args:
        study: The study.
        folder: Folder of the runs.
        minutes: Training time of a stage with a single budget.
        scale: Factor between the small and the large size.
        adversarial: Whether to train the adversarial networks too.
        args: Overrides of the user; those of `OF_THE_TASK` are not passed to stages of another task.
    """
    general = [arg for arg in args if re.split(r"[.=@]", arg.lstrip("+~"))[0] not in OF_THE_TASK]
    return {
        experiment: [
            f"trainer.max_time=00:{minutes * stage.budgets // 60:02}:{minutes * stage.budgets % 60:02}:00",
            *(f"{k}={overrides.quote(str(v)) if isinstance(v, Path) else v}" for k, v in stage.settings.items()),
            *(general if stage.other_task else args),
        ]
        for experiment, stage in study.stages(folder, scale, adversarial).items()
    }


def data_overrides(name: str, folder_data: str) -> tuple[str, list[str]]:
    """Return a name for the study, and the overrides for train.py, of a data set or a folder of images.

    Args:
        name: Name of a data set, or a folder.
        folder_data: Data set that reads a folder.
    """
    if name == "photos":  # eight photographs do not teach the colors of a ninth
        return name, ["data=photos", "data.holdout=region"]
    if name in schema.options("data"):
        return name, [f"data={name}"]
    root = Path(name).expanduser().absolute()
    suffix = hashlib.sha256(str(root).encode()).hexdigest()[:8]  # folders of one name are not one study
    return f"{root.name}-{suffix}", [f"data={folder_data}", f"data.root={overrides.quote(str(root))}"]


def parse_int_list(text: str) -> list[int]:
    """Parse `0,1,2`."""
    return [int(part) for part in text.split(",")]


def run(command: list[str]) -> None:
    """Run a script; exit if it fails."""
    if code := launch.call(command):
        sys.exit(code)


def move_aside(folder: Path) -> None:
    """Rename the folder of an earlier run that ended before it had saved anything."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.stopped-{time.time_ns()}"))


def train(folder: Path, experiment: str, args: list[str], title: str) -> None:
    """Train or resume a run, unless it is done."""
    if (folder / "metrics.json").exists():
        return
    title_override = f"callbacks.progress.title={overrides.quote(title)}"
    if (folder / "checkpoints" / "last.ckpt").exists():
        run(["train.py", f"resume={overrides.quote(str(folder))}", title_override])
        return
    move_aside(folder)
    run(
        ["train.py", f"experiment={experiment}", *args, title_override, f"hydra.run.dir={overrides.quote(str(folder))}"]
    )


def compare(folder: Path, task: str, seed: int) -> dict[str, Any]:
    """Compare the routes of a seed's runs, unless that is done, and return the results."""
    file = folder / "comparison" / "comparison.json"
    if not file.exists():
        move_aside(file.parent)
        trained = {key.name: folder / key.experiment for key in studies.load(task).keys}
        args = [f"{key}={overrides.quote(str(path))}" for key, path in trained.items() if path.exists()]
        run(["compare.py", f"task={task}", *args, f"seed={seed}", f"hydra.run.dir={overrides.quote(str(file.parent))}"])
    return json.loads(file.read_text(encoding="utf-8"))


def main() -> None:
    """Run the study; exit on Ctrl-C and SIGTERM with one line and code 130 or 143."""
    signals.listen()
    try:
        study(parse_args())
    except UserError as error:
        launch.fail(error)
    except signals.Stopped as stop:
        print("The same command resumes the study.", file=sys.stderr)
        sys.exit(128 + stop.number)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Train networks at 64x64 and 128x128, and compare the routes to 128x128."
    )
    parser.add_argument("--task", default=studies.DEFAULT, choices=studies.STUDIES, help="task of the networks")
    parser.add_argument("--data", help="name of a train.py data set (data=...), or a folder of images")
    parser.add_argument(
        "--seeds", default="0", type=parse_int_list, help="comma-separated seeds; each one trains every network"
    )
    parser.add_argument("--folder", type=Path, help="folder of the runs; default: runs/study/<data>,<options>")
    parser.add_argument("--minutes", default=3, type=int, help="training time of each network; default: 3")
    parser.add_argument("--scale", default=2, type=int, help="factor between the two sizes; the larger is size=")
    parser.add_argument("--adversarial", action="store_true", help="also train and compare the adversarial networks")
    parser.add_argument(
        "overrides",
        nargs="*",
        help="overrides for every train.py run, e.g. data.jitter=0.1; those of loss, net, pair and task are not passed "
        "to super-resolution",
    )
    return parser.parse_args()


def study(args: argparse.Namespace) -> None:
    """Train and compare while holding the lock of the study's folder."""
    declared = studies.load(args.task)
    check_range("--scale", args.scale, 2)
    if args.adversarial and not declared.adversarial:
        raise UserError(f"--adversarial: task {args.task} has no adversarial networks. Remove it.")
    data, shared = data_overrides(args.data or declared.data, declared.folder_data)
    minutes = [] if args.minutes == 3 else [f"{args.minutes}min"]
    name = ",".join([data, *minutes, *options(args), *args.overrides])
    folder = (args.folder or HERE / "runs" / "study" / re.sub(r"[^\w=.,-]", "_", name)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            run_stages(args, folder, shared)
    except Timeout:
        raise UserError(f"{folder}: this study is running in another process.") from None


def options(args: argparse.Namespace) -> list[str]:
    """Return the options that differ from their defaults, which identify a study."""
    return [
        *([] if args.task == studies.DEFAULT else [args.task]),
        *([] if args.scale == 2 else [f"x{args.scale}"]),
        *(["adversarial"] if args.adversarial else []),
    ]


def run_stages(args: argparse.Namespace, folder: Path, shared: list[str]) -> None:
    """Train and compare for each seed.

    Args:
        args: The command line.
        folder: Folder of the study.
        shared: Overrides of the data, for every train.py.
    """
    settings, file = [*shared, f"{args.minutes} minutes", *options(args), *args.overrides], folder / "study.json"
    if file.exists() and (recorded := json.loads(file.read_text(encoding="utf-8"))) != settings:
        raise UserError(f"{folder} belongs to a different study ({' '.join(recorded)}). Choose another --folder.")
    if not file.exists():
        file.write_text(json.dumps(settings), encoding="utf-8")
    results: dict[int, dict[str, Any]] = {}
    for seed in args.seeds:
        runs = folder / f"seed{seed}"
        experiments = stages(studies.load(args.task), runs, args.minutes, args.scale, args.adversarial, args.overrides)
        for number, (experiment, stage) in enumerate(experiments.items(), len(results) * len(experiments) + 1):
            title = f"study {number}/{len(args.seeds) * len(experiments)} {experiment}, seed {seed}:"
            train(runs / experiment, experiment, [*shared, f"seed={seed}", *stage], title)
        results[seed] = compare(runs, args.task, seed)
    if len(results) > 1:
        from srcolor.analysis import comparison
        from srcolor.runs import records

        text = comparison.over_seeds(results)
        records.write(folder / "study.md", text)
        print(text)
    print(f"study {folder}")


if __name__ == "__main__":
    main()
