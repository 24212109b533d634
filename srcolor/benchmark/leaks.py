"""Whether pictures to train on are among the benchmark's: by perceptual hashes, which copies share.

`prints.csv` has those of Set5 and B100. Make it with `python -m srcolor.benchmark.leaks <folder with both>`.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srcolor.benchmark.sets import Benchmark
from srcolor.data.prints import fingerprint
from srcolor.data.sources.files import to_rgb
from srcolor.errors import UserError

# In bits. Of 491 photographs of BSDS500 and T91 none is within 44 bits of one of the 105 of Set5 and B100, but for the
# one that Set5 was given from BSDS500 (8 bits). Copies of these 105 in JPEG of quality 30, or 0.5 or 1.5 times as
# large, are within 4, cut by 2 % at every side within 24, and by 4 % within 40, 95 of 100 within 36.
NEAR = 36
FILE = Path(__file__).with_name("prints.csv")


def check(names: Sequence[str], prints: NDArray[np.uint8], benchmark: str | None) -> None:
    """Checks that none of the pictures is a benchmark's, or a near copy of one.

    Args:
        names: Of the pictures.
        prints: Their fingerprints, (n, 18).
        benchmark: A folder with standard sets, as of `Benchmark`, beside those that the package knows.

    Raises:
        UserError: Some are; names them.
    """
    known = _listed() + ([] if benchmark is None else list(_of_sets(benchmark)))
    table = np.stack([print_ for _, print_ in known])
    found = []
    for name, own in zip(names, prints, strict=True):
        distances = np.bitwise_count(table ^ own).sum(1)
        if distances.min() <= NEAR:
            found.append(f"{name} ({known[int(distances.argmin())][0]})")
    if found:
        listed = "".join(f"\n  {line}" for line in found[:20])
        more = f"\n  and {len(found) - 20} more" if len(found) > 20 else ""
        raise UserError(
            f"{len(found)} picture(s) are, or look like, pictures of the benchmark, whose figures would mean nothing "
            f"after training on them:{listed}{more}\nMove them away, or leave them out with data.exclude=[...]."
        )


def _of_sets(folder: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Names and fingerprints of a folder's sets: of the whole picture, and of its middle square."""
    data = Benchmark(root=folder, scale=1)
    data.setup()
    for name, path, _ in data.images:
        with Image.open(path) as file:
            picture = to_rgb(file)
        yield name, fingerprint(picture)
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        yield name, fingerprint(picture.crop((left, top, left + side, top + side)))


def _listed() -> list[tuple[str, NDArray[np.uint8]]]:
    with open(FILE, newline="", encoding="utf-8") as file:
        return [(row["picture"], np.frombuffer(bytes.fromhex(row["print"]), np.uint8)) for row in csv.DictReader(file)]


if __name__ == "__main__":
    with open(FILE, "w", newline="", encoding="utf-8") as out:
        csv.writer(out, lineterminator="\n").writerows(
            [("picture", "print"), *((name, own.tobytes().hex()) for name, own in _of_sets(sys.argv[1]))]
        )
