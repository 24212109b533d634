"""Export to ONNX, and networks of other projects."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from skimage import data
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
from test_nets import wake

from srcolor import hardware, runs
from srcolor.errors import UserError
from srcolor.inference import export, predict, tiles
from srcolor.inference.onnx_engine import OnnxEngine
from srcolor.inference.onnx_net import OnnxNet
from srcolor.nets.luma_sr import LumaSR
from srcolor.nets.residual import Residual
from srcolor.nets.sesr import SESR
from srcolor.nets.unet import UNet
from srcolor.nets.unet_codes import UNetCodes
from srcolor.runs import spandrel_nets

PHOTO = data.astronaut()[100:171, 200:293]
LUMA = {"_target_": "srcolor.nets.luma_sr.LumaSR"}
NETS = {
    "residual": (Residual(channels=4, blocks=1), {"channels": 4, "blocks": 1}),
    "unet": (UNet(channels=8, blocks=1, levels=4), {"channels": 8, "blocks": 1, "levels": 4}),
    "unet_codes": (UNetCodes(channels=8, levels=4), {"channels": 8, "levels": 4}),
    "luma_sr": (LumaSR(SESR(channels=4, layers=1, width=8)), {}),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Each network as a checkpoint and as ONNX."""
    folder = tmp_path_factory.mktemp("onnx")
    for name, (net, arguments) in NETS.items():
        config = {"_target_": f"srcolor.nets.{name}.{type(net).__name__}", **arguments}
        if name == "luma_sr":
            config["net"] = {"_target_": "srcolor.nets.sesr.SESR", "channels": 4, "layers": 1, "scale": 2, "width": 8}
        state = {f"net.{key}": value for key, value in wake(net).state_dict().items()}
        torch.save({"net_config": config, "state_dict": state, "trained_on": []}, folder / f"{name}.ckpt")
        export.main(["--run", str(folder / f"{name}.ckpt"), "--output", str(folder / f"{name}.onnx")])
    return folder


@pytest.mark.parametrize("name", NETS)
def test_onnx_matches_pytorch_at_any_size(name, exported):
    exported_net, net = OnnxNet(exported / f"{name}.onnx"), runs.load_net(str(exported / f"{name}.ckpt"))
    assert (exported_net.scale, exported_net.stride, exported_net.receptive_field) == (
        net.scale,
        net.stride,
        net.receptive_field,
    )
    for images, height, width in ((1, 50, 31), (3, 17, 64)):
        x = torch.rand(images, exported_net.inputs, height, width)
        with torch.inference_mode():
            torch.testing.assert_close(exported_net(x), net(x), rtol=0, atol=1e-4)
    metadata = json.loads(
        next(p.value for p in onnx.load(exported / f"{name}.onnx").metadata_props if p.key == "srcolor")
    )
    assert metadata["range"] == [0, 1]
    assert metadata["version"]
    assert metadata["run"].endswith(f"{name}.ckpt")


def test_predict_runs_an_onnx_model(exported, tmp_path, monkeypatch):
    # Run the checkpoint in float32 like ONNX; some CPUs would use bfloat16.
    monkeypatch.setattr(hardware, "choose", lambda: hardware.Hardware("cpu", "32-true", True))
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    for suffix in ("onnx", "ckpt"):
        run, output = f"{exported}/residual.{suffix}", str(tmp_path / suffix)
        assert predict.main([str(tmp_path / "a.png"), "--run", run, "-o", output]) == 0
    one, other = (np.asarray(Image.open(tmp_path / s / "a_upscale.png")).astype(int) for s in ("onnx", "ckpt"))
    assert one.shape == (142, 186, 3)
    assert np.abs(one - other).max() <= 1


def test_smaller_tiles_are_tried_if_onnx_runs_out_of_memory(exported):
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from srcolor.inference import tiles
from srcolor.inference.onnx_engine import OnnxEngine
net = OnnxEngine(Path(sys.argv[1]))
pixels = np.zeros((1200, 1200, 3), np.uint8)
tiles.enlarge(net, pixels[:64, :64])
widths, run = [], net.run
def watched(x):
    widths.append(x.shape[-1])
    return run(x)
net.run = watched
used = 4096 * int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27,) * 2)
assert tiles.enlarge(net, pixels, tile=1200).shape == (2400, 2400, 3)
print(widths[0], min(widths))
"""
    command = [sys.executable, "-c", code, str(exported / "residual.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    first, least = map(int, done.stdout.split())
    assert first == 1200
    assert least < 700
    assert not done.stderr


@pytest.mark.parametrize("message", ["Failed to allocate memory for a buffer of size 9", "Message: std::bad_alloc"])
def test_onnx_without_memory_raises_a_memory_error(message, exported):
    def run(*_):
        raise RuntimeError(message)

    engine = OnnxEngine(exported / "residual.onnx")
    engine._session = SimpleNamespace(run=run, get_inputs=engine._session.get_inputs)
    with pytest.raises(MemoryError):
        engine.enlarge(np.zeros((8, 8, 3), np.uint8))


def test_onnx_that_differs_from_pytorch_is_not_saved(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(SystemExit, match="1"):
        export.main(["--run", str(exported / "residual.ckpt"), "--output", str(tmp_path / "x.onnx")])
    assert "the outputs of ONNX and PyTorch differ" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "x.txt"], "--output x.txt: expected a name that ends in .onnx"),
        (["--output", "no/x.onnx"], "--output no/x.onnx: the folder no does not exist"),
        (["--run", "nowhere"], "nowhere: no such run folder or checkpoint file"),
    ],
)
def test_bad_arguments(arguments, message, exported, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        export.main(["--run", str(exported / "residual.ckpt"), *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: None, r"x\.onnx: no such file"),
        (lambda file: file.write_text("text"), r"x\.onnx: cannot be read as ONNX"),
        (
            lambda file: onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])), file),
            r"x\.onnx: (not exported by srcolor|cannot be read as ONNX)",
        ),
    ],
)
def test_unusable_onnx_files_are_refused(make, message, tmp_path):
    make(tmp_path / "x.onnx")
    with pytest.raises(UserError, match=message):
        OnnxEngine(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("module", "call", "message"),
    [
        (
            "spandrel",
            lambda file: spandrel_nets.load(file),
            r"spandrel is not installed\. Run: pip install -e '\.\[foreign\]'",
        ),
        (
            "onnxscript",
            lambda file: export.to_onnx("x", file),
            r"onnxscript is not installed\. Run: pip install -e '\.\[export\]'",
        ),
    ],
)
def test_a_missing_extra_is_named(module, call, message, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=message):
        call(tmp_path / "x")


def test_spandrel_network_matches_its_original(elsewhere):
    net = SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2)
    net.load_state_dict(torch.load(elsewhere.removeprefix("spandrel:")))
    loaded = runs.load_net(elsewhere)
    assert (loaded.scale, loaded.inputs) == (2, 3)
    x = torch.rand(1, 3, 20, 30)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), net.eval()(x).clamp(0, 1), rtol=0, atol=1e-6)
    tiled, whole = (tiles.enlarge(loaded, PHOTO, tile=side).astype(int) for side in (32, 4096))
    assert np.abs(tiled - whole).max() <= 1


@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
@pytest.mark.parametrize("run", ["spandrel:x.pth", "spandrel:x.safetensors"])
def test_an_external_network_is_not_exported(run, suffix, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        export.main(["--run", run, "--format", suffix, "--output", str(tmp_path / f"x.{suffix}")])
    message = "external networks can be used and tested but not trained further or exported."
    assert capsys.readouterr().err == f"error: {run}: {message}\n"
    assert not list(tmp_path.iterdir())


def test_onnx_offers_the_default_coloring_only(exported, tmp_path, capsys):
    Image.fromarray(PHOTO).convert("L").save(tmp_path / "a.png")
    arguments = [str(tmp_path / "a.png"), "-m", "colorize", "--run", str(exported / "unet_codes.onnx"), "--pick", "1"]
    assert predict.main(arguments) == 2
    assert "OnnxNet offers a single coloring: --samples and --pick require" in capsys.readouterr().err


def test_a_file_unknown_to_spandrel_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: not supported by spandrel"):
        predict.load(f"spandrel:{tmp_path / 'x.pth'}", "upscale")
    with pytest.raises(UserError, match=r"y\.pth: no such file"):
        predict.load(f"spandrel:{tmp_path / 'y.pth'}", "upscale")
