"""What enlarging a large picture takes: python benchmarks/prediction.py [--megapixels 12] [--run srcolor/sr_x2_small].

Makes a picture, enlarges it with srcolor-predict in a process of its own, and prints megapixels a second, the most
memory of that process, and the share of the speed that the network reaches on one large tile by itself; and how
long a small picture takes from the command to the result.
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

from srcolor import hardware
from srcolor.inference import predict, tiles

CHILD = (
    "import resource, sys, time; began = time.perf_counter(); from srcolor.inference import predict; "
    "code = predict.main(sys.argv[1:]); "
    "print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024); sys.exit(code)"
)


def picture(megapixels: float) -> Image.Image:
    """A photograph, repeated and turned, three by two."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    one = Image.fromarray(data.astronaut())
    whole = Image.new("RGB", (round(1.5 * height), height))
    for top in range(0, whole.height, one.height):
        for left in range(0, whole.width, one.width):
            whole.paste(one.rotate(90 * ((top + left) // one.height)), (left, top))
    return whole


def main() -> None:
    """Does what the module says."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--run", default="srcolor/sr_x2_small")
    parser.add_argument("--alone", type=int, default=1536, help="side of the one large tile")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, size in (("small", 0.06), ("large", asked.megapixels)):
            file = Path(folder, f"{name}.jpg")
            picture(size).save(file, quality=92)
            command = [sys.executable, "-c", CHILD, str(file), "--run", asked.run]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, memory = map(float, done.stdout.splitlines()[-1].split())
            speed = f"{seconds:.1f} s, {size / seconds:.3f} a second"
            print(f"{name}: {size:g} megapixels in {speed}, {memory:.0f} MiB at most")
    net = predict.load(asked.run, "upscale")
    hardware.setup()
    pixels = np.asarray(picture(asked.alone**2 / 1e6 * 1.5))[: asked.alone, : asked.alone]
    times = []
    for _ in range(3):
        began = time.perf_counter()
        tiles.enlarge(net, pixels, tile=10_000)
        times.append(time.perf_counter() - began)
    alone = pixels.shape[0] * pixels.shape[1] / 1e6 / min(times)
    share = size / seconds / alone
    print(
        f"the network alone, on one tile of {asked.alone}: {alone:.3f} a second; the command reaches {share:.2f} of it"
    )


if __name__ == "__main__":
    main()
