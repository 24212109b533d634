"""Leak check: whether training images are copies of benchmark images, by perceptual hashes.

`prints.csv` has the hashes of Set5 and B100, made with `python -m srcolor.benchmark.leaks <folder with both>`.
"""

import csv
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image

from srcolor.benchmark.prints import fingerprint, fingerprints
from srcolor.benchmark.sets import Benchmark
from srcolor.data.sources.files import to_rgb
from srcolor.errors import UserError

log = logging.getLogger(__name__)

# In bits. Of 491 photographs of BSDS500 and T91, none is within 44 bits of any of the 105 images of Set5 and B100,
# except the one that Set5 took from BSDS500 (8 bits). Copies of these 105 as JPEG of quality 30, or resized by 0.5 or
# 1.5, are within 4 bits; with 2% cropped on every side within 24; with 4% within 40, 95 of 100 of them within 36.
MAX_DISTANCE = 36
FILE = Path(__file__).with_name("prints.csv")


class LeakCheck(Callback):
    """Stop a run before training if it would train or validate on a benchmark image.

    Args:
        benchmark_root: Folder of benchmark sets to check in addition to Set5 and B100; see `Benchmark`.
    """

    def __init__(self, benchmark_root: str | None = None) -> None:
        self.benchmark_root = benchmark_root

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the datamodule's training and validation images.

        Raises:
            UserError: If any image is a copy or near copy of a benchmark image. The message lists the offending images.
        """
        images = trainer.datamodule.decoded_images()  # type: ignore[attr-defined]
        if images is None:
            log.info("Skipping the leak check: this datamodule does not expose its images.")
            return
        check([images.names[row] for row in images.used], fingerprints(images)[images.used], self.benchmark_root)


def check(names: Sequence[str], prints: NDArray[np.uint8], benchmark_root: str | None) -> None:
    """Check that no image is a benchmark image or a near copy of one.

    Args:
        names: Image names.
        prints: Their fingerprints, (n, 18).
        benchmark_root: See `LeakCheck`.

    Raises:
        UserError: If any image is a copy or near copy of a benchmark image. The message lists the offending images.
    """
    benchmark = _bundled() + ([] if benchmark_root is None else list(_of_sets(benchmark_root)))
    table = np.stack([print_ for _, print_ in benchmark])
    leaks = []
    for name, print_ in zip(names, prints, strict=True):
        distances = np.bitwise_count(table ^ print_).sum(1)
        if distances.min() <= MAX_DISTANCE:
            leaks.append(f"{name} ({benchmark[int(distances.argmin())][0]})")
    if leaks:
        listed = "".join(f"\n  {leak}" for leak in leaks[:20])
        more = f"\n  and {len(leaks) - 20} more" if len(leaks) > 20 else ""
        raise UserError(
            f"{len(leaks)} image(s) are copies or near copies of benchmark images, which invalidates test results:"
            f"{listed}{more}\nRemove them, or exclude them with data.exclude=[...]."
        )


def _of_sets(root: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield names and fingerprints of a folder's sets: of each whole image, and of its center square."""
    data = Benchmark(root=root, scale=1)
    data.setup()
    for name, path, _ in data.images:
        with Image.open(path) as file:
            image = to_rgb(file)
        yield name, fingerprint(image)
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        yield name, fingerprint(image.crop((left, top, left + side, top + side)))


def _bundled() -> list[tuple[str, NDArray[np.uint8]]]:
    with open(FILE, newline="", encoding="utf-8") as file:
        return [(row["picture"], np.frombuffer(bytes.fromhex(row["print"]), np.uint8)) for row in csv.DictReader(file)]


if __name__ == "__main__":
    with open(FILE, "w", newline="", encoding="utf-8") as out:
        csv.writer(out, lineterminator="\n").writerows(
            [("picture", "print"), *((name, print_.tobytes().hex()) for name, print_ in _of_sets(sys.argv[1]))]
        )
