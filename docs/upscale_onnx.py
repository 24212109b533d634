"""Enlarge a photograph with an exported network: python upscale_onnx.py sr_x2_small.onnx photo.jpg large.png."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, photo, output = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
declared = json.loads(session.get_modelmeta().custom_metadata_map["srcolor"])
if declared["inputs"] != 3 or declared["scale"] < 2:
    sys.exit(f"{model}: expected a network that enlarges RGB images")

pixels = np.asarray(Image.open(photo).convert("RGB"), np.float32) / 255
image = pixels.transpose(2, 0, 1)[None]  # NCHW
(enlarged,) = session.run(["output"], {"image": image})
pixels = np.rint(255 * enlarged[0].clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)
Image.fromarray(pixels).save(output)
