"""The task of compare.py, which Hydra's group of the same name must not take."""

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir

from srcolor.analysis import studies
from srcolor.cli import overrides, schema
from srcolor.errors import UserError


def composed(*args):
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("compare", overrides.compare_args(args), return_hydra_config=True)


def test_the_task_chooses_the_study_and_colorization_is_the_default():
    default, chosen = composed(), composed("task=colorization")
    assert default.hydra.runtime.choices.compare == chosen.hydra.runtime.choices.compare == studies.DEFAULT
    keys = {key.name for key in studies.load(studies.DEFAULT).keys} | set(schema.CompareConfig.__dataclass_fields__)
    for cfg in (default, chosen):
        assert set(cfg) - {"hydra"} == keys
        assert cfg.data.drop_gray


@pytest.mark.parametrize("arg", ["task=super_resolution", "task=color", "task=", "task=colorization,x", "compare=no"])
def test_a_task_without_a_study_is_refused_with_those_that_have_one(arg):
    listed = ", ".join(studies.STUDIES)
    task = arg.partition("=")[2]
    with pytest.raises(UserError, match=rf"^task={task}: no routes to compare\. Expected one of {listed}\.$"):
        overrides.compare_args([arg])


def test_the_help_lists_the_keys_of_every_task(call_compare, capfd):
    assert call_compare("--help") == 0
    lines = capfd.readouterr().out.splitlines()
    for task in studies.STUDIES:
        assert any(line.startswith(f"Keys of task={task}") for line in lines)
        for key in studies.load(task).keys:
            assert any(line.startswith(f"  {key.name} ") and line.endswith(key.help) for line in lines)
