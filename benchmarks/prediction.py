"""Speed and memory of srcolor-predict: python benchmarks/prediction.py [--megapixels 12] [--run srcolor/sr_x2_small].

Enlarges a small and a large image, each in a separate process. Prints megapixels per second, the peak memory of the
process, and the ratio of that time to the time that the engine alone takes for as many pixels on one tile. The small
image shows the time to start.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from srcolor.inference import predict, tiles

CHILD = (
    "import resource, sys, time; start = time.perf_counter(); from srcolor.inference import predict; "
    "code = predict.main(sys.argv[1:]); "
    "print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024); sys.exit(code)"
)


def image(megapixels: float) -> Image.Image:
    """Return an image of aspect 3:2, a photograph repeated and rotated."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    photo = Image.fromarray(data.astronaut())
    whole = Image.new("RGB", (round(1.5 * height), height))
    for top in range(0, whole.height, photo.height):
        for left in range(0, whole.width, photo.width):
            whole.paste(photo.rotate(90 * ((top + left) // photo.height)), (left, top))
    return whole


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--run", default="srcolor/sr_x2_small")
    parser.add_argument("--alone", type=int, default=512, help="side of the tile (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, size in (("small", 0.06), ("large", args.megapixels)):
            file = Path(folder, f"{name}.jpg")
            image(size).save(file, quality=92)
            command = [sys.executable, "-c", CHILD, str(file), "--run", args.run]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, memory = map(float, done.stdout.splitlines()[-1].split())
            speed = f"{seconds:.1f} s, {size / seconds:.3f} per second"
            print(f"{name}: {size:g} megapixels in {speed}, peak memory {memory:.0f} MiB")
    engine = predict.load(args.run, "upscale")
    pixels = np.asarray(image(args.alone**2 / 1e6 * 1.5))[: args.alone, : args.alone]
    times = []
    for _ in range(6):
        start = time.perf_counter()
        tiles.enlarge(engine, pixels, tile=args.alone)
        times.append(time.perf_counter() - start)
    alone = min(times) * size * 1e6 / args.alone**2
    name = type(engine).__name__
    print(f"{name} alone, on a tile of {args.alone}: {alone:.1f} s for as many pixels; ratio {seconds / alone:.2f}")


if __name__ == "__main__":
    main()
