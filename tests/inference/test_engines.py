"""The engines of srcolor-predict: which one runs a network, that they agree, and that one does without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import ROOT
from PIL import Image
from skimage import data

from srcolor import bundled, runs
from srcolor.inference import tiles
from srcolor.inference.modes import MODES, base
from srcolor.inference.onnx_engine import OnnxEngine
from srcolor.inference.torch_engine import TorchEngine

WITH_ONNX = [name for name in bundled.names() if bundled.has_onnx(bundled.PREFIX + name)]
UPSCALE = MODES["upscale"].kind


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Pretend that the machine has an NVIDIA driver, or CPU flags."""

    def pretend(driver=False, flags=""):
        files = {"/proc/driver/nvidia/version": driver, "/proc/cpuinfo": True}
        for name, exists in files.items():
            (tmp_path / Path(name).name).unlink(missing_ok=True)
            if exists:
                (tmp_path / Path(name).name).write_text(flags)
        real = Path
        monkeypatch.setattr(base, "Path", lambda name: tmp_path / real(name).name if str(name) in files else real(name))

    return pretend


@pytest.mark.parametrize("name", WITH_ONNX)
def test_onnx_files_belong_to_the_bundled_weights(name):
    """If this fails after a change of weights, run benchmarks/bundle.py."""
    model = onnx.load(bundled.find(bundled.PREFIX + name, ".onnx"))
    (metadata,) = (json.loads(entry.value) for entry in model.metadata_props if entry.key == "srcolor")
    assert metadata["weights"] == bundled.sha256(bundled.find(bundled.PREFIX + name))
    assert metadata["run"] == bundled.PREFIX + name


@pytest.mark.parametrize("name", WITH_ONNX)
def test_onnx_files_contain_no_paths_of_the_machine_that_made_them(name):
    model = onnx.load(bundled.find(bundled.PREFIX + name, ".onnx"))
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # three bytes of a weight may spell anything
    assert b".py" not in model.SerializeToString()


@pytest.mark.parametrize("is_16bit", [False, True])
@pytest.mark.parametrize("name", WITH_ONNX)
def test_engines_agree_within_one_level(name, is_16bit):
    pixels = data.coffee()[100:190, 200:301]
    pixels = pixels.astype(np.uint16) * 257 if is_16bit else pixels
    onnx_engine = OnnxEngine(bundled.find(bundled.PREFIX + name, ".onnx"))
    torch_engine = TorchEngine(runs.load_net(bundled.PREFIX + name))
    whole, tiled = (tiles.enlarge(onnx_engine, pixels, tile=side).astype(int) for side in (512, 40))
    expected = tiles.enlarge(torch_engine, pixels, tile=512)
    assert (whole.shape, expected.dtype) == (expected.shape, pixels.dtype)
    limit = 257 if is_16bit else 1
    assert np.abs(whole - expected).max() <= limit
    assert np.abs(tiled - expected).max() <= limit


def test_onnxruntime_runs_bundled_networks_on_a_plain_cpu(machine):
    machine(flags="avx2 avx512f")
    assert isinstance(base.engine("srcolor/sr_x2", UPSCALE), OnnxEngine)
    machine(flags="avx512f amx_bf16")
    assert isinstance(base.engine("srcolor/sr_x2", UPSCALE), TorchEngine)  # many channels, in bfloat16
    assert isinstance(base.engine("srcolor/sr_x2_small", UPSCALE), OnnxEngine)
    machine(driver=True)
    assert isinstance(base.engine("srcolor/sr_x2_small", UPSCALE), TorchEngine)


def test_pytorch_runs_what_onnxruntime_cannot(machine, tmp_path):
    machine()
    own = tmp_path / "own.safetensors"
    own.write_bytes(bundled.find("srcolor/sr_x2_small").read_bytes())
    assert isinstance(base.engine(str(own), UPSCALE), TorchEngine)
    assert isinstance(base.engine("srcolor/sr64to128_gan", UPSCALE, 0.5), TorchEngine)


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="PyTorch runs it on a GPU")
def test_enlarging_with_the_default_network_does_not_import_torch(tmp_path):
    Image.fromarray(data.coffee()[:40, :50]).save(tmp_path / "a.png")
    code = (
        "import sys\n"
        "from srcolor.inference import predict\n"
        "assert predict.main(sys.argv[1:]) == 0\n"
        "print(sorted({'torch', 'scipy', 'skimage', 'matplotlib'} & sys.modules.keys()))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["1 written", "[]"]
    assert Image.open(tmp_path / "a_upscale.png").size == (100, 80)


def test_the_example_of_the_documentation_enlarges_without_srcolor(tmp_path):
    Image.fromarray(data.coffee()[:40, :50]).save(tmp_path / "a.png")
    model = bundled.find("srcolor/sr_x2_small", ".onnx")
    script = tmp_path / "upscale_onnx.py"
    script.write_text((ROOT / "docs" / "upscale_onnx.py").read_text())
    command = [sys.executable, "-I", str(script), str(model), str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert "srcolor import" not in script.read_text()
    subprocess.run(command, check=True)
    expected = tiles.enlarge(OnnxEngine(model), data.coffee()[:40, :50])
    assert np.abs(np.asarray(Image.open(tmp_path / "b.png")).astype(int) - expected).max() <= 1
