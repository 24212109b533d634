"""Shared fixtures: a folder of images, tiny trained runs, and the root scripts called in this process."""

import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # the networks are tiny, and pytest -n runs a test a core

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from meeting import Meeting
from PIL import Image
from skimage import data

from srcolor.cli import launch, overrides
from srcolor.data import pairs
from srcolor.data.sources import blobs
from srcolor.nets.unet_codes import UNetCodes
from srcolor.nets.unet_rgb import UNetRGB

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for the root scripts

import compare  # noqa: E402
import eval as evaluate  # noqa: E402
import train  # noqa: E402

# A network and a budget that train in seconds, in float32, with the same results every time.
TINY = [
    "size=32",
    "net.channels=8",
    "net.blocks=1",
    "data.batch_size=8",
    "data.epoch_samples=32",
    "trainer.max_time=null",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=3",
    "trainer.precision=32",
    "trainer.accelerator=cpu",
]

# The same for color: the smallest default network, on 32x32 images of 64x64 ones.
COLOR = [
    "size=64",
    "net.channels=8",
    "data.batch_size=8",
    "data.epoch_samples=32",
    "data.min_side=48",
    "trainer.max_time=null",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=3",
    "trainer.precision=32",
    "trainer.accelerator=cpu",
]

# The same for segmentation: the smallest network, on 32x32 images of 64x64 ones.
SEGMENT = [arg for arg in COLOR if not arg.startswith("data.min_side=")]

# Arguments that the datamodules of the tests share, and arguments for image files.
COMMON = {
    "size": 32,
    "pair": lambda images, index: pairs.block_mean(images, index, scale=2),
    "batch_size": 5,
    "epoch_samples": None,
    "flips": "none",
}
FILES = {"crop": "center"}


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Keep the tests out of the user's caches; without the weights of LPIPS, runs have the same columns anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.delenv("SRCOLOR_DATA", raising=False)
        patch.delenv("TORCH_HOME", raising=False)
        yield folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Write 24 PNG files of 48x48, cut from one photograph, in two folders."""
    folder = tmp_path_factory.mktemp("pictures")
    photo = Image.fromarray(data.coffee())
    for i in range(24):
        top, left = 60 * (i // 6), 90 * (i % 6)
        path = folder / ("ab"[i % 2]) / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        photo.crop((left, top, left + 48, top + 48)).save(path)
    return folder


@pytest.fixture(scope="session")
def call():
    """Return a function that calls train.py with arguments and returns its exit code."""
    return lambda *args: call_script(train, "train", overrides.train_args, args)


@pytest.fixture(scope="session")
def call_eval():
    """Return a function that calls eval.py with arguments and returns its exit code."""
    return lambda *args: call_script(evaluate, "eval", overrides.eval_args, args)


@pytest.fixture(scope="session")
def call_compare():
    """Return a function that calls compare.py with arguments and returns its exit code."""
    return lambda *args: call_script(compare, "compare", overrides.compare_args, args)


def call_script(script, name, complete, args) -> int:
    GlobalHydra.instance().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *args])
        try:
            launch.run(script.main, name, complete)
        except SystemExit as end:
            return end.code
    return 0


@pytest.fixture
def meeting(tmp_path_factory):
    return Meeting(tmp_path_factory.mktemp("meeting"))


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, pictures, call) -> Path:
    """Train a run of two epochs for every test that needs one; tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert call(*TINY, "data=folder", f"data.root={pictures}", f"hydra.run.dir={folder}") == 0
    return folder


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory) -> str:
    """Save an external network of scale 2, and return its name."""
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact  # not installed on every GPU machine

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("elsewhere") / "compact.pth"
    torch.save(SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2).state_dict(), file)
    return f"spandrel:{file}"


@pytest.fixture(scope="session")
def ddcolor(tmp_path_factory) -> str:
    """Save a DDColor of random weights, the smallest that spandrel recognizes, in half a megabyte; return its name."""
    from spandrel_extra_arches.architectures.DDColor import DDColor

    torch.manual_seed(0)
    net = DDColor(
        encoder_name="convnext-t",
        num_output_channels=2,
        last_norm="Spectral",
        num_queries=4,
        num_scales=3,
        dec_layers=1,
    )
    state = {key: shared(value) for key, value in net.state_dict().items()}
    net.load_state_dict(state)
    with torch.no_grad():
        for _ in range(5):  # the power iterations of its spectral norms
            net.train()(torch.rand(2, 3, 64, 64))
        net.refine_net[0][0].bias.copy_(torch.tensor([30.0, -20.0]))
    file = tmp_path_factory.mktemp("ddcolor") / "ddcolor.pth"
    torch.save({"params": {key: shared(value) for key, value in net.state_dict().items()}}, file)
    return f"spandrel:{file}"


def shared(weight: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the same shape whose elements share the memory of a few."""
    strides = (1, 3, 1, 1)[: weight.ndim]
    size = 1 + sum((side - 1) * stride for side, stride in zip(weight.shape, strides, strict=True))
    return weight.flatten()[:size].clone().as_strided(weight.shape, strides) if size < weight.numel() else weight


@pytest.fixture(scope="session")
def restorers(tmp_path_factory) -> dict[str, str]:
    """Save small restoration networks of random weights, three for RGB and one for gray; return their names."""
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
    from spandrel.architectures.DnCNN import DnCNN
    from spandrel.architectures.NAFNet import NAFNet
    from spandrel.architectures.SCUNet import SCUNet

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("restorers")
    nets = {
        "scunet": SCUNet(in_nc=3, config=[1] * 7, dim=64),
        "nafnet": NAFNet(img_channel=3, width=4, middle_blk_num=1, enc_blk_nums=[1], dec_blk_nums=[1]),
        "compact": SRVGGNetCompact(num_feat=8, num_conv=2, upscale=1),
        "dncnn": DnCNN(in_nc=2, out_nc=1, nc=8, nb=8, act_mode="R", mode="FDnCNN"),
    }
    for name, net in nets.items():
        torch.save(net.state_dict(), folder / f"{name}.pth")
    return {name: f"spandrel:{folder / name}.pth" for name in nets}


@pytest.fixture(scope="session")
def study_runs(tmp_path_factory, pictures, call) -> dict[str, Path]:
    """Train a tiny run of every network of a comparison; tests must not change them."""
    folder = tmp_path_factory.mktemp("study")
    runs = {}
    for name, options in {
        "colorize64": COLOR,
        "sr64to128": [*COLOR, "net.blocks=1"],
        "colorize128": COLOR,
        "chain64to128": [arg for arg in COLOR if not arg.startswith("net.")],
    }.items():
        runs[name] = folder / name
        args = [f"experiment={name}", *options, "data=folder", f"data.root={pictures}", f"hydra.run.dir={runs[name]}"]
        if name == "chain64to128":
            args += [f"net.first.run={runs['colorize64']}", f"net.second.run={runs['sr64to128']}"]
        assert call(*args) == 0
    return runs


@pytest.fixture(scope="session")
def slides(tmp_path_factory) -> Path:
    """Write 20 slides of 144x128 with masks, in the folders of `data=masks`."""
    folder = tmp_path_factory.mktemp("slides")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(20):
        pixels = blobs.draw(number)[:128, :144]
        Image.fromarray(pixels[..., :3]).save(folder / "images" / f"{number:02d}.png")
        Image.fromarray(pixels[..., 3] * 255).convert("1").save(folder / "masks" / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="session")
def segment_run(tmp_path_factory, slides, call) -> Path:
    """Train a tiny run of segmentation; tests must not change it."""
    run = tmp_path_factory.mktemp("segment") / "run"
    args = ["experiment=segment64", *SEGMENT, "schedule=constant", "data=masks", f"data.root={slides}"]
    assert call(*args, "task.ema=0.5", f"hydra.run.dir={run}") == 0
    return run


@pytest.fixture(scope="session")
def needs(study_runs, segment_run, slides, pictures):
    """Return a function that returns the settings without which an experiment cannot start."""

    def settings(experiment: str) -> list[str]:
        if experiment.startswith("chain"):
            return [f"net.first.run={study_runs['colorize64']}", f"net.second.run={study_runs['sr64to128']}"]
        if experiment.startswith("segment"):
            guided = [f"net.net.run={segment_run}"] if "guided" in experiment else []
            return ["data=masks", f"data.root={slides}", *guided]
        if experiment.startswith("sr_x"):
            return [f"data.root={pictures}", "size=48"]
        if experiment == "colorize64_gan":
            return ["monitor=val/patches"]  # the weights that LPIPS needs may be missing
        return []

    return settings


@pytest.fixture(scope="session")
def codes_run(tmp_path_factory, pictures, call) -> Path:
    """Train a tiny run of color codes; tests must not change it."""
    run = tmp_path_factory.mktemp("codes") / "run"
    args = ["experiment=colorize64_codes", *COLOR, "schedule=constant", "data=folder", f"data.root={pictures}"]
    assert call(*args, f"hydra.run.dir={run}") == 0
    return run


@pytest.fixture(scope="session")
def gan_run(tmp_path_factory, pictures, call):
    """Train an adversarial network for a few steps, and move it away from its reference."""
    run = tmp_path_factory.mktemp("gan") / "run"
    args = ["experiment=sr64to128_gan", *(arg.replace("net.", "net.net.") for arg in TINY), "data=folder", "size=64"]
    args += [f"data.root={pictures}", "data.min_side=48", "adversary.start=0.4", "adversary.critic.width=4"]
    args += ["adversary.critic_steps=1", "adversary.ramp_steps=1", "monitor=val/psnr", f"hydra.run.dir={run}"]
    assert call(*args) == 0
    file = run / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    weight = checkpoint["state_dict"]["average.module.net.tail.weight"]
    weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    torch.save(checkpoint, file)
    return run


@pytest.fixture(scope="session")
def bicubic(tmp_path_factory) -> str:
    """Save a checkpoint of bicubic interpolation."""
    file = tmp_path_factory.mktemp("nets") / "bicubic.ckpt"
    config = {"_target_": "srcolor.nets.bicubic.Bicubic", "scale": 2}
    torch.save({"net_config": config, "state_dict": {}, "trained_on": []}, file)
    return str(file)


@pytest.fixture(scope="session")
def color(tmp_path_factory) -> str:
    """Save a checkpoint of an untrained color network."""
    from test_nets import wake  # here, so that pytest has it first

    file = tmp_path_factory.mktemp("nets") / "color.ckpt"
    state = {f"net.{key}": value for key, value in wake(UNetRGB()).state_dict().items()}
    torch.save(
        {"net_config": {"_target_": "srcolor.nets.unet_rgb.UNetRGB"}, "state_dict": state, "trained_on": []}, file
    )
    return str(file)


@pytest.fixture(scope="session")
def codes(tmp_path_factory) -> str:
    """Save a checkpoint of an untrained network of color codes, which colors vividly."""
    from test_nets import wake

    net = wake(UNetCodes(8, 0, 2))
    net.code_mean.copy_(torch.tensor([10.0, 13.0, 2.0, 5.0, 2.0]))
    net.code_root.copy_(torch.diag(torch.tensor([6.0, 8.0, 0.3, 5.0, 0.4])))
    net.code_inverse.copy_(net.code_root.inverse())
    file = tmp_path_factory.mktemp("nets") / "codes.ckpt"
    config = {"_target_": "srcolor.nets.unet_codes.UNetCodes", "channels": 8, "blocks": 0, "levels": 2}
    state = {f"net.{key}": value for key, value in net.state_dict().items()}
    torch.save({"net_config": config, "state_dict": state, "trained_on": []}, file)
    return str(file)
