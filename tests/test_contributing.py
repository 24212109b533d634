"""The recipes of CONTRIBUTING.md, executed in a copy of the checkout."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap

import pytest
import test_nets
from conftest import ROOT, TINY

from srcolor import runs

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# A line that begins with the path of a file, followed by the code block with its content.
FILE = re.compile(r"^(?:\d\. )?`((?:srcolor|conf)/\S+)`.*?\n( *)```\w+\n(.*?)\n\2```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return a copy of the package, the configuration and train.py, with the files of the recipes."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("srcolor", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "reference"))
    shutil.copy(ROOT / "train.py", folder)
    for name, _, content in FILE.findall(TEXT):
        assert not (folder / name).exists()
        (folder / name).write_text(textwrap.dedent(content) + "\n", encoding="utf-8")
    return folder


def test_every_recipe_shows_its_files():
    shown = [name for name, _, _ in FILE.findall(TEXT)]
    assert shown == [
        "srcolor/nets/plain.py",
        "conf/net/plain.yaml",
        "srcolor/data/sources/brick.py",
        "conf/data/brick.yaml",
        "conf/experiment/sr_charbonnier.yaml",
    ]


def test_the_commands_of_the_recipes_train_the_additions(checkout):
    commands = re.findall(r"`python train\.py ([^`]+)`", TEXT)
    assert len(commands) == 3
    added = [override for command in commands for override in shlex.split(command)]
    short = [override for override in TINY if not override.startswith("net.")]
    overrides = [*added, *short, "trainer=debug", "hydra.run.dir=run"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(checkout / "cache")}
    done = subprocess.run(
        [sys.executable, "train.py", *overrides], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    config = runs.configuration(checkout / "run")
    assert config.net._target_ == "srcolor.nets.plain.Plain"
    assert config.data._target_ == "srcolor.data.sources.brick.Brick"
    assert config.loss._target_ == "srcolor.losses.Charbonnier"
    assert config.net.channels == 48
    assert json.loads((checkout / "run" / "metrics.json").read_text())["images"] > 0


def test_the_network_of_the_recipe_has_the_attributes_it_declares(checkout):
    spec = importlib.util.spec_from_file_location("plain", checkout / "srcolor" / "nets" / "plain.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = test_nets.wake(module.Plain(channels=8))
    for height, width in ((16, 16), (17, 5), (1, 33)):
        test_nets.test_any_size_is_enlarged_by_the_scale(net, height, width)
    test_nets.test_no_output_pixel_depends_on_pixels_beyond_the_receptive_field(net)
