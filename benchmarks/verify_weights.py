"""Reproduce every value on the model cards: python benchmarks/verify_weights.py <folder with benchmark/, faces/>.

The cards are docs/weights/<name>.md. Each row of their tables has the overrides of a test (`data=photos`), a key of its
metrics.json, and the value. The script fails if a value differs by more than 0.02 (dB or CIELAB units), or by more than
0.0005 if it is between 0 and 1.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from srcolor import bundled
from srcolor.cli.schema import CONF
from srcolor.metrics import MEASURES

ROW = re.compile(r"^\| `(?P<overrides>[^`]+)` \| `(?P<metric>[\w.]+)` \| (?P<value>[-\d.]+) \|", re.MULTILINE)


def measured(name: str, overrides: str, data: Path) -> dict[str, object]:
    """Run a test; return its metrics.json."""
    with tempfile.TemporaryDirectory() as folder:
        line = [override.replace("DATA", str(data)) for override in overrides.split()]
        command = [sys.executable, "eval.py", f"ckpt={bundled.PREFIX}{name}", *line]
        subprocess.run(
            [*command, f"hydra.run.dir={folder}/run"], cwd=CONF.parent, check=True, stdout=subprocess.DEVNULL
        )
        return json.loads(Path(folder, "run", "metrics.json").read_text())


def main() -> None:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("data", type=Path, help="folder with benchmark/ (Set5/, BSD100/) and faces/")
    parser.add_argument("--only", default="", help="measure only rows whose network and overrides contain this text")
    arguments = parser.parse_args()
    data = arguments.data.expanduser().absolute()
    wrong = 0
    for name in bundled.names():
        card = (CONF.parent / "docs" / "weights" / f"{name}.md").read_text(encoding="utf-8")
        rows = list(ROW.finditer(card))
        if not rows:
            sys.exit(f"docs/weights/{name}.md has no value to check")
        tests = (row["overrides"] for row in rows)
        for overrides in dict.fromkeys(test for test in tests if arguments.only in f"{name} {test}"):
            results = measured(name, overrides, data)
            for row in rows:
                if row["overrides"] != overrides:
                    continue
                measure = MEASURES.get(row["metric"].rpartition(".")[2])
                if measure is not None and (missing := measure.missing()) is not None:
                    print(f"skip  {name}  {overrides}  {row['metric']}: {missing}")
                    continue
                value = results
                for key in row["metric"].split("."):
                    value = value[key]
                tolerance = 0.0005 if 0 <= value <= 1 else 0.02
                differs = abs(value - float(row["value"])) > tolerance
                wrong += differs
                comparison = f"{row['metric']}  {row['value']}  measured {value:.4f}"
                print(f"{'WRONG' if differs else 'ok   '} {name}  {overrides}  {comparison}")
    sys.exit(f"{wrong} value(s) differ from the cards" if wrong else 0)


if __name__ == "__main__":
    main()
