"""The recipes of CONTRIBUTING.md, executed in a copy of the checkout."""

import doctest
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import test_nets
import torch
from conftest import ROOT, TINY

from srcolor import runs

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# A line that begins with the path of a file, followed by the code block with its content.
FILE = re.compile(r"^(?:\d\. )?`((?:srcolor|conf)/\S+)`.*?\n( *)```\w+\n(.*?)\n\2```", re.MULTILINE | re.DOTALL)
# The same for a change to a file: hunks, separated by @@.
CHANGE = re.compile(r"^\d\. [^`\n]*`(srcolor/\S+)`:\n\n( *)```diff\n(.*?)\n\2```", re.MULTILINE | re.DOTALL)

COMMANDS = re.findall(r"`python train\.py ([^`]+)`", TEXT)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return a copy of the package, the configuration and train.py, with the files and changes of the recipes."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("srcolor", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "reference"))
    shutil.copy(ROOT / "train.py", folder)
    for name, _, content in FILE.findall(TEXT):
        assert not (folder / name).exists()
        (folder / name).write_text(textwrap.dedent(content) + "\n", encoding="utf-8")
    for name, indent, diff in CHANGE.findall(TEXT):
        source = (folder / name).read_text(encoding="utf-8")
        for hunk in re.sub(f"^{indent}", "", diff, flags=re.MULTILINE).split("\n@@\n"):
            lines = hunk.split("\n")
            old = "".join(line[1:] + "\n" for line in lines if line[0] in " -")
            assert source.count(old) == 1, old
            source = source.replace(old, "".join(line[1:] + "\n" for line in lines if line[0] in " +"))
        (folder / name).write_text(source, encoding="utf-8")
    return folder


def train(checkout, commands, folder):
    """Run two batches of the tiny network with the arguments of multiple commands; return the finished process."""
    added = [override for command in commands for override in shlex.split(command)]
    short = [override for override in TINY if not override.startswith("net.")]
    overrides = [*added, *short, "trainer=debug", f"hydra.run.dir={folder}"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(checkout / "cache")}
    process = subprocess.run(
        [sys.executable, "train.py", *overrides], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return process


def load(checkout, path):
    """Import a file of the copy under its own name."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, checkout / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_recipe_shows_its_files():
    assert [name for name, _, _ in FILE.findall(TEXT)] == [
        "srcolor/nets/plain.py",
        "conf/net/plain.yaml",
        "srcolor/data/sources/brick.py",
        "conf/data/brick.yaml",
        "srcolor/metrics/error.py",
        "conf/experiment/sr_charbonnier.yaml",
        "srcolor/nets/patch_gan.py",
        "srcolor/tasks/srgan.py",
        "conf/task/srgan.yaml",
        "conf/experiment/srgan64to128.yaml",
    ]
    assert [name for name, _, _ in CHANGE.findall(TEXT)] == ["srcolor/metrics/__init__.py"]


def test_the_commands_of_the_recipes_train_the_additions(checkout):
    assert len(COMMANDS) == 5
    train(checkout, COMMANDS[:4], "run")
    config = runs.configuration(checkout / "run")
    assert config.net._target_ == "srcolor.nets.plain.Plain"
    assert config.data._target_ == "srcolor.data.sources.brick.Brick"
    assert config.loss._target_ == "srcolor.losses.Charbonnier"
    assert config.net.channels == 48
    record = json.loads((checkout / "run" / "metrics.json").read_text())
    assert record["images"] > 0
    assert 0 < record["test"]["mae"] < 1


def test_metric_recipe_selects_checkpoints_and_is_ranked(checkout):
    (monitored,) = re.findall(r"`(monitor=val/mae [^`]+)`", TEXT)
    process = train(checkout, [COMMANDS[1], COMMANDS[2], monitored], "monitored")
    assert re.search(r"MAE\W+0\.\d{4}\W", process.stdout)
    record = json.loads((checkout / "monitored" / "metrics.json").read_text())
    assert record["validation"]["metric"] == "mae"
    assert record["validation"]["higher_is_better"] is False


def test_the_task_of_the_recipe_trains_the_network_and_the_critic(checkout):
    train(checkout, [COMMANDS[1], COMMANDS[4], "net.channels=8"], "adversarial")
    config = runs.configuration(checkout / "adversarial")
    assert config.task._target_ == "srcolor.tasks.srgan.SRGANTask"
    state = torch.load(checkout / "adversarial" / "checkpoints" / "last.ckpt", weights_only=True)
    steps = [max(entry["step"] for entry in optimizer["state"].values()) for optimizer in state["optimizer_states"]]
    assert steps == [4, 4]  # both in every batch: two epochs of two batches
    assert any(key.startswith("critic.") for key in state["state_dict"])
    runs.load_net(str(checkout / "adversarial"))


def test_the_example_of_the_metric_is_correct(checkout):
    assert doctest.testmod(load(checkout, "srcolor/metrics/error.py")) == (0, 2)


def test_the_network_of_the_recipe_has_the_attributes_it_declares(checkout):
    net = test_nets.wake(load(checkout, "srcolor/nets/plain.py").Plain(channels=8))
    for height, width in ((16, 16), (17, 5), (1, 33)):
        test_nets.test_any_size_is_enlarged_by_the_scale(net, height, width)
    test_nets.test_no_output_pixel_depends_on_pixels_beyond_the_receptive_field(net)
