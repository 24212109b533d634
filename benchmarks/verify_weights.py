"""Measures every figure of the model cards again: python benchmarks/verify_weights.py <folder with benchmark/, faces/>.

The cards are docs/weights/<name>.md. A row of their tables that begins with the words of a test, `data=photos` say,
names a figure of its metrics.json, and its value. Fails if one is off by more than 0.02 (dB, or a unit of a* and b*),
or 0.0005 of what lies between 0 and 1.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from srcolor.cli.schema import CONF
from srcolor.runs import weights

ROW = re.compile(r"^\| `(?P<words>[^`]+)` \| `(?P<figure>[\w.]+)` \| (?P<value>[-\d.]+) \|", re.MULTILINE)


def measured(name: str, words: str, data: Path) -> dict[str, object]:
    """The metrics.json of a test."""
    with tempfile.TemporaryDirectory() as folder:
        line = [word.replace("DATA", str(data)) for word in words.split()]
        command = [sys.executable, "eval.py", f"ckpt={weights.PREFIX}{name}", *line]
        subprocess.run(
            [*command, f"hydra.run.dir={folder}/run"], cwd=CONF.parent, check=True, stdout=subprocess.DEVNULL
        )
        return json.loads(Path(folder, "run", "metrics.json").read_text())


def main() -> None:
    """Does what the module says."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("data", type=Path, help="a folder with benchmark/ (Set5/, BSD100/) and faces/")
    parser.add_argument("--only", default="", help="part of a network's name and a row's words, one space between")
    arguments = parser.parse_args()
    data = arguments.data.expanduser().absolute()
    wrong = 0
    for name in weights.shipped():
        card = (CONF.parent / "docs" / "weights" / f"{name}.md").read_text(encoding="utf-8")
        rows = list(ROW.finditer(card))
        if not rows:
            sys.exit(f"docs/weights/{name}.md has no figure to check")
        for words in dict.fromkeys(row["words"] for row in rows if arguments.only in f"{name} {row['words']}"):
            told = measured(name, words, data)
            for row in rows:
                if row["words"] != words:
                    continue
                value = told
                for key in row["figure"].split("."):
                    value = value[key]
                bound = 0.0005 if 0 <= value <= 1 else 0.02
                off = abs(value - float(row["value"])) > bound
                wrong += off
                told_by_card = f"{row['figure']}  {row['value']}  measured {value:.4f}"
                print(f"{'WRONG' if off else 'ok   '} {name}  {words}  {told_by_card}")
    sys.exit(f"{wrong} figure(s) are not as the cards say" if wrong else 0)


if __name__ == "__main__":
    main()
