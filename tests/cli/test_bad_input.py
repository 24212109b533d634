"""Mistakes of users: one line that names the key or file and says how to fix it, never a traceback of ours.

An error ends with exit code 1. A file that cannot be used is skipped and named, and the run continues.
"""

import shutil

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image


def debug(root, *args):
    return [*TINY, "trainer=debug", "data=folder", f"data.root={root}", *args]


class Scene:
    """A copy of the images to spoil, and the paths that a row may need."""

    def __init__(self, tmp_path, pictures, tiny_run, study_runs):
        self.tmp = tmp_path
        self.root = tmp_path / "pictures"
        shutil.copytree(pictures, self.root)
        self.one = sorted(self.root.rglob("*.png"))[0]
        self.run = tiny_run
        self.color = study_runs["colorize64"]

    def empty(self):
        (self.tmp / "empty").mkdir()
        return self.tmp / "empty"

    def with_file(self, name, content=b""):
        (self.root / name).write_bytes(content)
        return debug(self.root)

    def with_image(self, image, name, **options):
        image.save(self.root / name, **options)
        return debug(self.root)

    def spoiled_run(self, spoil):
        copy = self.tmp / "spoiled"
        shutil.copytree(self.run, copy)
        spoil(copy)
        return copy


@pytest.fixture
def scene(tmp_path, pictures, tiny_run, study_runs):
    return Scene(tmp_path, pictures, tiny_run, study_runs)


def noise(mode="RGB", size=(48, 48)):
    return Image.effect_noise(size, 60).convert("RGB").convert(mode)


def bomb(scene, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    return scene.with_image(noise(size=(200, 200)), "bomb.png")


def first_images(scene, count):
    folder = scene.empty()
    for number, path in enumerate(sorted(scene.root.rglob("*.png"))[:count]):
        shutil.copy(path, folder / f"{number}.png")
    return folder


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def experiment(scene, text):
    (scene.tmp / "experiment").mkdir()
    (scene.tmp / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    return ["--config-dir", str(scene.tmp), "experiment=mine"]


COLORIZE = ["experiment=colorize64", "size=64", "data.min_side=48"]
GRAY_16BIT = np.random.default_rng(0).integers(0, 2**16, (48, 48))


def gray_copy(scene):
    for path in scene.root.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    return scene.root


def chain(scene):
    args = [arg for arg in debug(scene.root) if not arg.startswith("net.")]
    return [*args, "experiment=chain64to128", "size=64", "data.min_side=48"]


# Name: (function of a scene and pytest's monkeypatch that returns the arguments; message; exit code)
ROWS = {
    # -- folders
    "missing folder": (lambda s, m: debug(s.tmp / "no"), "no does not exist: expected a folder", 1),
    "empty folder": (lambda s, m: debug(s.empty()), "contains no images: expected files ending in .jpg", 1),
    "no images": (lambda s, m: (s.empty() / "a.txt").touch() or debug(s.tmp / "empty"), "contains no images", 1),
    "a file": (lambda s, m: debug(s.one), "is a file: expected a folder", 1),
    "no root": (
        lambda s, m: [*TINY, "data=folder"],
        "requires data.root=/full/path, the folder of your images; or set SRCOLOR_DATA",
        1,
    ),
    "two images": (lambda s, m: debug(first_images(s, 2)), "2 distinct usable image(s): expected at least three", 1),
    "three copies": (
        lambda s, m: (
            [shutil.copy(s.one, s.tmp / "empty" / f"{i}.png") for i in range(3) if i or s.empty()]
            and debug(s.tmp / "empty")
        ),
        "1 distinct usable image(s): expected at least three",
        1,
    ),
    "names in any script": (
        lambda s, m: shutil.copy(s.one, s.root / "写真 🙂 é.png") and debug(s.root),
        "25 images",
        0,
    ),
    "equal but for case": (
        lambda s, m: shutil.copy(s.one, s.root / "x.png") and s.with_image(noise(), "X.PNG"),
        "26 images",
        0,
    ),
    "grammar": (lambda s, m: debug("/a [b]"), """'data.root="/a [b]"'""", 1),
    "home": (lambda s, m: m.setenv("HOME", str(s.tmp)) or debug("~/faces"), "faces does not exist: expected a", 1),
    "comma": (lambda s, m: debug("/a,b"), """'data.root="/a,b"'""", 1),
    # -- files: skipped and named
    "zero bytes": (lambda s, m: s.with_file("zero.jpg"), "empty file: zero.jpg", 0),
    "text": (lambda s, m: s.with_file("text.jpg", b"not an image"), "not a readable image: text.jpg", 0),
    "corrupt": (lambda s, m: s.with_file("bad.png", s.one.read_bytes()[:8] + bytes(900)), ": bad.png", 0),
    "truncated": (lambda s, m: cut(s.one) or debug(s.root), "truncated: a/00.png", 0),
    "nowhere": (lambda s, m: (s.root / "link.png").symlink_to("gone") or debug(s.root), ": link.png", 0),
    "bomb": (bomb, "decompression bomb DOS attack.: bomb.png", 0),
    "too small": (
        lambda s, m: s.with_image(noise(size=(20, 48)), "s.png"),
        "shorter side is below data.min_side=32: s.png",
        0,
    ),
    "float": (
        lambda s, m: s.with_image(Image.fromarray(np.random.rand(48, 48).astype("f")), "f.tif"),
        "Convert the file first.: f.tif",
        0,
    ),
    "flat": (lambda s, m: s.with_image(Image.new("RGB", (48, 48), "red"), "f.png"), "all crops are blank: f.png", 0),
    "all bad": (
        lambda s, m: (s.empty() / "a.jpg").write_text("x") and debug(s.tmp / "empty"),
        "none of the 1 images is usable: not a readable image: a.jpg",
        1,
    ),
    # -- images of every kind
    "gray": (lambda s, m: s.with_image(noise("L"), "x.png"), "25 images", 0),
    "palette": (lambda s, m: s.with_image(noise("P"), "x.png"), "25 images", 0),
    "cmyk": (lambda s, m: s.with_image(noise("CMYK"), "x.jpg"), "25 images", 0),
    "rgba": (lambda s, m: s.with_image(noise("RGBA"), "x.webp"), "25 images", 0),
    "16 bits": (
        lambda s, m: s.with_image(Image.fromarray(np.random.randint(0, 65536, (48, 48)).astype(np.uint16)), "x.png"),
        "25 images",
        0,
    ),
    "exif": (lambda s, m: s.with_image(noise(), "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"), "25 images", 0),
    "animated": (
        lambda s, m: s.with_image(noise(), "x.webp", save_all=True, append_images=[noise()]),
        "25 images",
        0,
    ),
    # -- settings
    "size": (lambda s, m: debug(s.root, "size=33"), "cannot shrink 33x33 images by 2", 1),
    "tiny size": (lambda s, m: debug(s.root, "size=8"), "size=8: expected at least 11", 1),
    "mismatched scale": (
        lambda s, m: ["data=folder", f"data.root={s.root}", "size=32", "net=size_decoder", "scale=4", "trainer=debug"],
        "the prediction is (8, 3, 16, 16), the target (8, 3, 32, 32): `scale` must match",
        1,
    ),
    "override": (lambda s, m: debug(s.root, "net.chanels=24"), "Did you mean net.channels?", 1),
    "group": (lambda s, m: debug(s.root, "loss=l11"), "Did you mean l1?", 1),
    "experiment file": (lambda s, m: experiment(s, "net: {chanels: 2}"), "unknown key net.chanels. Did you mean", 1),
    "key of an experiment": (lambda s, m: experiment(s, "sede: 2"), "Key 'sede' not in 'TrainConfig'", 1),
    "word for a number": (lambda s, m: debug(s.root, "data.batch_size=many"), "many: expected a whole number", 1),
    "negative seed": (lambda s, m: debug(s.root, "seed=-1"), "seed=-1: expected at least 0", 1),
    "no budget": (
        lambda s, m: [*debug(s.root), "trainer.max_epochs=-1"],
        "no training budget: set trainer.max_time=",
        1,
    ),
    "devices": (
        lambda s, m: debug(s.root, "trainer.devices=2"),
        "trainer.devices=2: multiple devices also require trainer=ddp",
        1,
    ),
    "precision": (lambda s, m: debug(s.root, "trainer.precision=bf16-true"), "expected one of auto, 32", 1),
    "regions too small": (lambda s, m: ["data.holdout=region", "size=700", "trainer=debug"], "Reduce size=", 1),
    "word for the seed": (lambda s, m: debug(s.root, "seed=abc"), "could not be converted to Integer", 1),
    "number for a switch": (lambda s, m: debug(s.root, "data.cache=3"), "data.cache=3: expected true or false", 1),
    "negative batch": (lambda s, m: debug(s.root, "data.batch_size=-1"), "data.batch_size=-1: expected at least 1", 1),
    "no channels": (lambda s, m: debug(s.root, "net.channels=0"), "net.channels=0: expected at least 1", 1),
    "no zoom": (lambda s, m: debug(s.root, "data.zoom=0"), "data.zoom=0", 1),
    "negative jitter": (lambda s, m: debug(s.root, "data.jitter=-0.1"), "data.jitter=-0.1: expected at least 0", 1),
    "negative rate": (lambda s, m: debug(s.root, "optimizer.lr=-1"), "optimizer: Invalid learning rate: -1", 1),
    "flips": (lambda s, m: debug(s.root, "data.flips=vertical"), "expected one of none, horizontal, dihedral", 1),
    "crop": (lambda s, m: debug(s.root, "data.crop=top"), "expected center or random", 1),
    "holdout": (lambda s, m: [*TINY, "data.holdout=x"], "expected photo or region", 1),
    "monitor": (
        lambda s, m: debug(s.root, "monitor=val/psn"),
        "monitor=val/psn: no such metric. Expected one of val/psnr,",
        1,
    ),
    "monitor without a direction": (
        lambda s, m: [*debug(s.root), *COLORIZE, "monitor=val/colorfulness_ratio"],
        "monitor=val/colorfulness_ratio: a higher value is neither better nor worse, or it measures a whole set.",
        1,
    ),
    "a metric that is not validated": (
        lambda s, m: [*debug(s.root), *COLORIZE, "monitor=val/tint"],
        "monitor=val/tint is not computed during validation. Did you mean",
        1,
    ),
    "fast_dev_run": (
        lambda s, m: debug(s.root, "+trainer.fast_dev_run=true"),
        "trainer.fast_dev_run bypasses srcolor's checkpoints or sampler. Use trainer=debug",
        1,
    ),
    "overfit_batches": (
        lambda s, m: debug(s.root, "+trainer.overfit_batches=2"),
        "Use trainer.limit_train_batches=2",
        1,
    ),
    "duration": (
        lambda s, m: debug(s.root, "trainer.max_time=00:03:00"),
        "trainer.max_time=00:03:00: expected DD:HH:MM:SS",
        1,
    ),
    "epochs": (lambda s, m: debug(s.root, "trainer.max_epochs=ten"), "ten: expected a whole number or null", 1),
    "nothing to train": (
        lambda s, m: ["data=folder", f"data.root={s.root}", "size=32", "net=bicubic", "trainer=debug"],
        "optimizer got an empty parameter list",
        1,
    ),
    "no such device": (
        lambda s, m: m.setattr(torch.cuda, "is_available", lambda: False) or debug(s.root, "trainer.accelerator=cuda"),
        "PyTorch finds no CUDA device. Use auto or cpu",
        1,
    ),
    # -- the cache
    "cache too large": (
        lambda s, m: debug(s.root, "data.cache_limit_gb=1e-5"),
        "exceeds data.cache_limit_gb=1e-05",
        1,
    ),
    "cache folder": (
        lambda s, m: debug(s.root, f"data.cache_dir={s.one}/x"),
        "Choose another location with data.cache_dir=..., or decode on the fly",
        1,
    ),
    # -- runs and checkpoints
    "two runs to start from": (
        lambda s, m: [f"init_from={s.run}", f"resume={s.run}"],
        "resume= and init_from= are mutually exclusive",
        1,
    ),
    "ckpt in train.py": (
        lambda s, m: [f"ckpt={s.run}"],
        "train.py does not take fit= or ckpt=. To test a network, run: python eval.py ckpt=",
        1,
    ),
    "no such run": (lambda s, m: ["eval.py", "ckpt=runs/nothing"], "no such run folder or checkpoint file", 1),
    "a different network": (
        lambda s, m: debug(s.root, "net.blocks=2", f"init_from={s.run}"),
        "body.1.conv1.weight: not in the file",
        1,
    ),
    "no checkpoint": (
        lambda s, m: ["eval.py", f"ckpt={s.spoiled_run(lambda run: shutil.rmtree(run / 'checkpoints'))}"],
        "checkpoints/best.ckpt not found",
        1,
    ),
    "checkpoint cut short": (
        lambda s, m: ["eval.py", f"ckpt={s.spoiled_run(lambda run: cut(run / 'checkpoints/best.ckpt'))}"],
        "best.ckpt: cannot be read as a checkpoint",
        1,
    ),
    "last cut short": (
        lambda s, m: [
            f"resume={s.spoiled_run(lambda run: cut(run / 'checkpoints/last.ckpt'))}",
            "trainer.max_epochs=9",
        ],
        "last.ckpt: cannot be read as a checkpoint",
        1,
    ),
    "a checkpoint of another project": (
        lambda s, m: (
            torch.save({"weight": torch.zeros(1)}, s.tmp / "x.ckpt")
            or ["eval.py", f"ckpt={s.tmp / 'x.ckpt'}", *debug(s.root)]
        ),
        "x.ckpt: not a srcolor checkpoint",
        1,
    ),
    "resume of a different network": (
        lambda s, m: [f"resume={s.spoiled_run(lambda run: None)}", "net.channels=4", "trainer.max_epochs=9"],
        "net.head.weight: (8, 3, 3, 3) in the file, (4, 3, 3, 3) in the network",
        1,
    ),
    "budget spent": (
        lambda s, m: [f"resume={s.spoiled_run(lambda run: None)}"],
        "its budget is spent. Increase trainer.max_time=..., trainer.max_steps=... or trainer.max_epochs=...",
        1,
    ),
    "data moved": (
        lambda s, m: ["eval.py", f"ckpt={s.run}", f"data.root={s.tmp / 'moved'}"],
        "moved does not exist: expected a folder of images. If it was moved, set its new path with data.root",
        1,
    ),
    # -- color
    "only gray images": (
        lambda s, m: [*debug(gray_copy(s)), *COLORIZE],
        "the train split has no color crops: 24 of 24 crops are nearly gray or toned. Add color images, or include "
        "gray ones with data.drop_gray=false",
        1,
    ),
    "a 16-bit gray image among color images": (
        lambda s, m: [*s.with_image(Image.fromarray(GRAY_16BIT.astype(np.uint16)), "x.png"), *COLORIZE],
        "of 25 crops, which are nearly gray or toned",
        0,
    ),
    "a size without a grid": (lambda s, m: [*debug(s.root), *COLORIZE, "size=40"], "20x20 images: the color error", 1),
    "a size without SSIM": (
        lambda s, m: [*debug(s.root), "experiment=colorize64", "size=16", "data.min_side=16"],
        "SSIM of 8x8 images is not defined: its window is 11x11",
        1,
    ),
    "a chain of nothing": (
        lambda s, m: [*chain(s)],
        "net.first.run is required: pass net.first.run=",
        1,
    ),
    "a chain of a missing run": (
        lambda s, m: [*chain(s), "net.first.run=/no", "net.second.run=/no"],
        "/no: no such run folder or checkpoint file",
        1,
    ),
    "a chain in the wrong order": (
        lambda s, m: [*chain(s), f"net.first.run={s.run}", f"net.second.run={s.color}"],
        "UNet expects 1: they cannot be chained in this order. A color network",
        1,
    ),
    "a chain without a color network": (
        lambda s, m: [*chain(s), f"net.first.run={s.run}", f"net.second.run={s.run}"],
        "Chain takes 3 channel(s), the pair has 1",
        1,
    ),
    "run folder used": (lambda s, m: debug(s.root, f"hydra.run.dir={s.run}"), "is already used by a run", 1),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input_names_the_cause_and_the_fix(name, scene, call, call_eval, capfd, monkeypatch):
    make, message, code = ROWS[name]
    args = make(scene, monkeypatch)
    if not any(arg.startswith(("hydra.run.dir=", "resume=")) for arg in args):
        args = [*args, f"hydra.run.dir={scene.tmp / 'run'}"]
    assert (call_eval(*args[1:]) if args[0] == "eval.py" else call(*args)) == code
    printed = capfd.readouterr()
    text = " ".join((printed.out + printed.err).split())  # the width of the terminal breaks lines
    assert " ".join(message.split()) in text
    assert "Traceback" not in text
