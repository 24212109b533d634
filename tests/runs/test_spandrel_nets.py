"""External networks: files, the four kinds, the color network's size, and what is refused."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import spandrel
import torch
from conftest import COLOR
from safetensors.torch import save_file
from skimage import color as skimage_color
from torch import nn

from srcolor import images, runs
from srcolor.errors import UserError
from srcolor.nets import fused
from srcolor.nets.luma_sr import LumaSR
from srcolor.runs import spandrel_nets
from srcolor.runs.spandrel_nets import SpandrelClean, SpandrelColor, SpandrelSR

X = torch.rand(2, 3, 33, 47, generator=torch.Generator().manual_seed(0))


def path(name: str) -> Path:
    return Path(name.removeprefix("spandrel:"))


def describe(model, scale=1, channels=(3, 3), purpose="Restoration", tiling="SUPPORTED"):
    """Return what spandrel returns for a network."""
    return SimpleNamespace(
        model=model,
        scale=scale,
        input_channels=channels[0],
        output_channels=channels[1],
        purpose=purpose,
        architecture=SimpleNamespace(name="Arch"),
        size_requirements=SimpleNamespace(multiple_of=1),
        tiling=SimpleNamespace(name=tiling),
    )


class ConstantColor(nn.Module):
    """A DDColor that predicts one a* and b*, and records the sizes of its inputs."""

    num_output_channels = 2

    def __init__(self, a=0.0, b=0.0):
        super().__init__()
        self.ab = torch.tensor([float(a), float(b)]).reshape(1, 2, 1, 1)
        self.shapes = []

    def forward(self, x):
        assert x.dtype == torch.float32
        assert not torch.is_autocast_enabled("cpu")
        self.shapes.append(tuple(x.shape))
        return self.ab.expand(len(x), 2, *x.shape[2:])


# -- files ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def colors(ddcolor):
    """The output of the color network at a render size of 32, computed with the architecture's own module."""
    state = torch.load(path(ddcolor), weights_only=True)["params"]
    model = spandrel_nets._descriptor(path(ddcolor), ddcolor).architecture.load(dict(state)).model.eval()
    gray = images.luma(X[:1])[..., :32, :]
    with torch.inference_mode():
        small = nn.functional.interpolate(gray, (32, 32 * round(47 / 32)), mode="bilinear", antialias=True)
        return gray, model(small.expand(-1, 3, -1, -1)), state


@pytest.mark.parametrize("suffix", ["pth", "bin", "safetensors"])
def test_a_colorizer_is_read_from_each_kind_of_file(suffix, ddcolor, colors, tmp_path):
    gray, ab, state = colors
    file = path(ddcolor) if suffix == "pth" else tmp_path / f"net.{suffix}"
    if suffix == "bin":
        torch.save(state, file)
    elif suffix == "safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, file)
    net = runs.load_net(f"spandrel:{file}")
    if suffix == "safetensors":
        file.unlink()  # it is large
    assert isinstance(net, SpandrelColor)
    assert (net.inputs, net.outputs, net.scale, net.receptive_field, net.render_size) == (1, 3, 1, None, 512)
    with torch.inference_mode():
        result = net.render(gray, 32)
    ab = nn.functional.interpolate(ab, gray.shape[2:], mode="bilinear", antialias=True)
    torch.testing.assert_close(result, images.from_ab(gray, ab), rtol=0, atol=1e-4)
    torch.testing.assert_close(images.luma(result), gray, rtol=0, atol=1e-5)
    assert (result - gray).abs().mean() > 0.05  # there is color


class Trap:
    """An object whose unpickling creates a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("suffix", ["pth", "bin", "ckpt", "pt"])
def test_no_code_in_a_file_runs(suffix, tmp_path):
    torch.save({"weight": torch.zeros(3), "trap": Trap(tmp_path / "ran")}, tmp_path / f"x.{suffix}")
    with pytest.raises(UserError, match=rf"x\.{suffix}: cannot be read as weights .* they can run code\.") as error:
        spandrel_nets.load(tmp_path / f"x.{suffix}")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"text", torch.zeros(3), [torch.zeros(3)], {"weight": torch.zeros(3)}])
def test_a_file_without_a_known_network_is_refused_in_one_line(content, tmp_path):
    if isinstance(content, bytes):
        (tmp_path / "x.pth").write_bytes(content)
    else:
        torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: (cannot be read as weights|not supported by spandrel)") as error:
        spandrel_nets.load(tmp_path / "x.pth")
    assert "\n" not in str(error.value)


def test_without_the_package_of_other_licenses_only_its_architectures_are_missing(
    ddcolor, elsewhere, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", None)
    assert isinstance(runs.load_net(elsewhere), SpandrelSR)
    with pytest.raises(UserError, match=r"DDColor and others need spandrel_extra_arches\. Run: pip install -e '\.\[f"):
        runs.load_net(ddcolor)


# -- kinds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "padding"), [("scunet", 64), ("nafnet", 32), ("compact", 32)])
def test_a_restoration_network_matches_its_original(name, padding, restorers):
    net = runs.load_net(restorers[name])
    assert isinstance(net, SpandrelClean)
    assert (net.inputs, net.outputs, net.scale, net.receptive_field) == (3, 3, 1, 2 * padding + 1)
    original = spandrel.ModelLoader().load_from_file(path(restorers[name]))
    with torch.inference_mode():
        torch.testing.assert_close(net(X), original(X), rtol=0, atol=1e-5)


def test_a_gray_network_is_applied_to_the_luma(restorers):
    net = runs.load_net(restorers["dncnn"])
    assert isinstance(net, LumaSR)
    assert (net.scale, net.receptive_field) == (1, 65)
    original = spandrel.ModelLoader().load_from_file(path(restorers["dncnn"]))
    with torch.inference_mode():
        luma = torch.cat([original(gray) for gray in images.luma(X).split(1)])  # it takes one image only
        restored = net(X)
    torch.testing.assert_close(restored, images.with_luma(X, luma), rtol=0, atol=1e-5)
    assert (luma - images.luma(X)).abs().max() > 0.01


@pytest.mark.parametrize(
    ("descriptor", "message"),
    [
        ({"purpose": "FaceSR"}, r"Arch restores cut-out faces of 512x512, not photographs\. Choose a network for"),
        ({"purpose": "Inpainting"}, r"Arch fills holes and needs a mask\. Choose a network for super-resolution"),
        ({"channels": (4, 3)}, r"Arch maps 4 to 3 channels at scale 1; expected RGB to RGB, gray to gray, or a DDC"),
        ({"channels": (1, 3)}, r"Arch maps 1 to 3 channels at scale 1; expected .* DDColor that predicts a\* and b\*"),
        ({"channels": (1, 3), "scale": 2}, r"Arch maps 1 to 3 channels at scale 2"),
    ],
)
def test_other_kinds_are_refused_with_the_reason(descriptor, message, monkeypatch):
    monkeypatch.setattr(spandrel_nets, "_descriptor", lambda file, name: describe(nn.Identity(), **descriptor))
    with pytest.raises(UserError, match=rf"^spandrel:x\.pth: {message}"):
        spandrel_nets.load(Path("x.pth"))


def test_fusing_does_not_enter_an_external_network():
    class Reparameterized(nn.Module):
        def fused(self):
            raise AssertionError

    for kind in (SpandrelSR, SpandrelClean, SpandrelColor):
        net = kind(describe(nn.Sequential(Reparameterized())))
        assert fused(net) is net
        assert isinstance(fused(nn.Sequential(net))[0].model[0], Reparameterized)


def test_external_networks_compute_in_float32_under_autocast(restorers):
    net = runs.load_net(restorers["nafnet"])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        fast = net(X)
        SpandrelColor(describe(ConstantColor()))(X[:, :1])  # asserts its precision
    with torch.inference_mode():
        assert torch.equal(fast, net(X))


def test_sharpness_is_refused(elsewhere):
    with pytest.raises(UserError, match=r"sharpness=0\.5: spandrel:.* is an external network"):
        runs.load_net(elsewhere, 0.5)


# -- color ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((64, 64), (512, 512)),
        ((128, 128), (512, 512)),
        ((100, 200), (512, 1024)),
        ((1030, 700), (768, 512)),  # 753 to a multiple of 32
        ((1, 1), (512, 512)),
        ((300, 150), (1024, 512)),
        ((1, 2000), (32, 2048)),  # at most 4 times 512
    ],
)
def test_the_color_network_sees_a_shorter_side_of_512_at_the_aspect_ratio_up_to_4_to_1(size, seen):
    net = SpandrelColor(describe(ConstantColor(20, -20)))
    gray = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    result = net(gray)
    assert net.model.shapes == [(1, 3, *seen)] * 2  # one image at a time
    assert result.shape == (2, 3, *size)
    torch.testing.assert_close(images.luma(result), gray, rtol=0, atol=1e-5)


def test_the_color_network_predicts_a_and_b_of_cielab():
    result = SpandrelColor(describe(ConstantColor(12, -18)))(torch.full((1, 1, 8, 8), 0.5))
    lab = skimage_color.rgb2lab(result[0].permute(1, 2, 0).numpy())
    np.testing.assert_allclose(lab[..., 1:].mean((0, 1)), (12, -18), atol=1)


def test_eval_measures_an_external_colorizer(ddcolor, pictures, call_eval, tmp_path, monkeypatch):
    monkeypatch.setattr(SpandrelColor, "render_size", 32)
    data = [arg for arg in COLOR if arg.startswith(("size", "data", "trainer.pre", "trainer.acc"))]
    args = ["experiment=colorize64", f"ckpt={ddcolor}", *data, "data=folder", f"data.root={pictures}"]
    assert call_eval(*args, "task.measures=[psnr,psnr_luma,ab_rmse]", f"hydra.run.dir={tmp_path / 'run'}") == 0
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert results["test"]["ab_rmse"] > results["baselines"]["gray"]["ab_rmse"] > 0  # its colors are random
    luma = results["test"]["psnr_luma"]
    assert luma is None or luma > 50  # None: every pixel is equal
