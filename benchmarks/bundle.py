"""Write the ONNX files of the bundled networks, and hashes.json: python benchmarks/bundle.py.

Run it whenever a file `srcolor/runs/reference/*.safetensors` was added or changed. The networks that enlarge or restore
photographs get an ONNX file, which `srcolor-predict` runs with onnxruntime. The metadata of an ONNX file has the hash
of the weights it was made from, so the tests notice an outdated one.
"""

import json
import os

from srcolor import bundled, runs
from srcolor.inference import export

WITH_ONNX = {"restore", "sr64to128", "sr_x2", "sr_x2_small", "sr_x4"}


def main() -> None:
    """Write the files."""
    files = sorted(bundled.FOLDER.glob("*.safetensors"))
    for file in files:
        if file.stem in WITH_ONNX:
            onnx = file.with_suffix(".onnx")
            metadata = {"run": f"{bundled.PREFIX}{file.stem}", "weights": bundled.sha256(file)}
            difference = export.to_onnx(str(file), onnx, metadata=metadata)
            scale = runs.load_net(str(file)).scale
            print(f"{onnx.name}  x{scale}  {onnx.stat().st_size / 1000:.0f} KB  at most {difference:.1e} from PyTorch")
            files = [*files, onnx]
    hashes = {file.name: bundled.sha256(file) for file in sorted(files)}
    unfinished = bundled.HASHES.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, bundled.HASHES)


if __name__ == "__main__":
    main()
