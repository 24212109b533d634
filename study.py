"""The chain study, from nothing to its tables: `python study.py [--data photos|lfw|/full/path] [--seeds 0,1,2]`.

Trains what is missing, one train.py after the other, and compares the routes. Stopped or killed, the same command goes
on where it was; a second call trains nothing again.
"""

import argparse
import hashlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from srcolor import command_line, config, launch, signals
from srcolor.errors import UserError

HERE = Path(__file__).parent


def stages(folder: Path, minutes: int) -> dict[str, list[str]]:
    """The runs of one seed, each with its words for train.py; one that starts from others comes after them.

    Args:
        folder: Where they lie.
        minutes: Of training.
    """

    def budget(minutes: int) -> str:
        return f"trainer.max_time=00:{minutes // 60:02}:{minutes % 60:02}:00"

    return {
        "colorize64": [budget(minutes)],
        "sr64to128": [budget(minutes)],
        "colorize128": [budget(2 * minutes)],  # as much time as both networks of the chain had
        "chain64to128": [
            budget(minutes),
            f"net.first.run={command_line.quote(str(folder / 'colorize64'))}",
            f"net.second.run={command_line.quote(str(folder / 'sr64to128'))}",
        ],
    }


def data_words(name: str) -> tuple[str, list[str]]:
    """What `--data` means: a name for the study, and words for train.py; a data set, or a folder of pictures."""
    if name == "photos":  # a photograph cannot be coloured by what eight others show
        return name, ["data=photos", "data.holdout=region"]
    if name in config.options("data"):
        return name, [f"data={name}"]
    root = Path(name).expanduser().absolute()
    other = hashlib.sha256(str(root).encode()).hexdigest()[:8]  # folders of one name are not one study
    return f"{root.name}-{other}", ["data=folder", f"data.root={command_line.quote(str(root))}"]


def numbers(text: str) -> list[int]:
    """Reads `0,1,2`."""
    return [int(part) for part in text.split(",")]


def run(command: list[str]) -> None:
    """Runs a script, and ends with it if it fails."""
    if code := launch.call(command):
        sys.exit(code)


def aside(folder: Path) -> None:
    """Makes room for a run where an earlier one ended before it had saved anything."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.stopped-{time.time_ns()}"))


def train(folder: Path, experiment: str, words: list[str], title: str) -> None:
    """Trains a run, goes on with it, or leaves it as it is, if it has been tested."""
    if (folder / "metrics.json").exists():
        return
    shown = f"callbacks.progress.title={command_line.quote(title)}"
    if (folder / "checkpoints" / "last.ckpt").exists():
        run(["train.py", f"resume={command_line.quote(str(folder))}", shown])
        return
    aside(folder)
    run(["train.py", f"experiment={experiment}", *words, shown, f"hydra.run.dir={command_line.quote(str(folder))}"])


def compare(folder: Path, seed: int) -> dict[str, Any]:
    """Compares the routes of a seed's runs, if that has not been done."""
    result = folder / "comparison" / "comparison.json"
    if not result.exists():
        aside(result.parent)
        named = {"colorize": "colorize64", "sr": "sr64to128", "colorize128": "colorize128", "chain": "chain64to128"}
        words = [f"{key}={command_line.quote(str(folder / run))}" for key, run in named.items()]
        run(["compare.py", *words, f"seed={seed}", f"hydra.run.dir={command_line.quote(str(result.parent))}"])
    return json.loads(result.read_text(encoding="utf-8"))


def main() -> None:
    """Goes through the stages; ends on Ctrl-C and SIGTERM with one line and exit code 130 or 143."""
    signals.listen()
    try:
        study(arguments())
    except signals.Stopped as stop:
        print("The study goes on with the same command.", file=sys.stderr)
        sys.exit(128 + stop.number)


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Trains and compares the routes from gray 64x64 to colour 128x128.")
    parser.add_argument("--data", default="photos", help="a data set of train.py, or a folder of pictures")
    parser.add_argument("--seeds", default="0", type=numbers, help="every run is trained once with each: 0,1,2")
    parser.add_argument("--folder", type=Path, help="where the runs go; runs/study/<data> if not given")
    parser.add_argument("--minutes", default=3, type=int, help="of training each network; 3 if not given")
    parser.add_argument("words", nargs="*", help="for every train.py: data.jitter=0.1, say")
    return parser.parse_args()


def study(asked: argparse.Namespace) -> None:
    """Trains and compares."""
    data, words_of_data = data_words(asked.data)
    minutes = [] if asked.minutes == 3 else [f"{asked.minutes}min"]
    name = ",".join([data, *minutes, *asked.words])
    place = (asked.folder or HERE / "runs" / "study" / re.sub(r"[^\w=.,-]", "_", name)).absolute()
    place.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place / "lock", timeout=0):
            _study(asked, place, words_of_data)
    except Timeout:
        launch.fail(UserError(f"{place}: this study is going on in another process."))


def _study(asked: argparse.Namespace, place: Path, words_of_data: list[str]) -> None:
    mine, mark = [*words_of_data, f"{asked.minutes} minutes", *asked.words], place / "study.json"
    if mark.exists() and (before := json.loads(mark.read_text(encoding="utf-8"))) != mine:
        launch.fail(UserError(f"{place} belongs to another study ({' '.join(before)}). Name another with --folder."))
    if not mark.exists():
        mark.write_text(json.dumps(mine), encoding="utf-8")
    told: dict[int, dict[str, Any]] = {}
    for seed in asked.seeds:
        folder = place / f"seed{seed}"
        all_stages = stages(folder, asked.minutes)
        for number, (experiment, own) in enumerate(all_stages.items(), len(told) * len(all_stages) + 1):
            title = f"study {number}/{len(asked.seeds) * len(all_stages)} {experiment}, seed {seed}:"
            words = [*words_of_data, f"seed={seed}", *own, *asked.words]
            train(folder / experiment, experiment, words, title)
        told[seed] = compare(folder, seed)
    if len(told) > 1:
        from srcolor import comparison, records

        text = comparison.over_seeds(told)
        records.write(place / "study.md", text)
        print(text)
    print(f"study {place}")


if __name__ == "__main__":
    main()
