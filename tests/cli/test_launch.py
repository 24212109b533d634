"""The folder of a run, and what is recorded there."""

import importlib
import multiprocessing
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import TINY, call_script
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from srcolor import runs
from srcolor.cli import launch, overrides, schema


def runs_at_the_same_time(process, barrier, folder):
    """Start ten runs, each with a setting of its own, in one process of two, in folders named after the year."""

    def main(cfg):
        Path(HydraConfig.get().runtime.output_dir, "seed").write_text(str(cfg.seed))

    for number in range(10):
        GlobalHydra.instance().clear()
        sys.argv = ["train.py", f"seed={100 * process + number}", f"hydra.sweep.dir={folder}/never"]
        sys.argv.append(f"hydra.run.dir={folder}/{number}/${{hydra:runtime.choices.experiment}}_${{now:%Y}}")
        barrier.wait()
        launch.run(main, "train", overrides.train_args)


def test_runs_started_in_the_same_second_get_separate_folders(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    processes = [context.Process(target=runs_at_the_same_time, args=(i, barrier, tmp_path)) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    for number in range(10):
        folders = sorted((tmp_path / str(number)).iterdir())
        assert folders[1].name == f"{folders[0].name}-2"
        assert len(folders) == 2
        seeds = [int((folder / "seed").read_text()) for folder in folders]
        assert sorted(seeds) == [number, 100 + number]
        for folder, seed in zip(folders, seeds, strict=True):
            assert yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())["seed"] == seed
            assert f"seed={seed}" in yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text())
            assert yaml.safe_load((folder / ".hydra" / "hydra.yaml").read_text())["hydra"]["job"]["name"] == "train"


def test_folder_in_use_by_another_process_is_left_untouched(tmp_path, capfd):
    """So is one whose run ended while this process waited for the lock."""
    from filelock import FileLock

    (tmp_path / ".hydra").mkdir()
    with FileLock(tmp_path / ".hydra" / "lock"):
        assert call_script(Nothing, "train", lambda args: list(args), [f"hydra.run.dir={tmp_path}"]) == 1
    assert "is in use by another process" in capfd.readouterr().err
    (tmp_path / "metrics.json").touch()
    assert call_script(Nothing, "train", lambda args: list(args), [f"hydra.run.dir={tmp_path}"]) == 1
    assert "is already used by a run" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / ".hydra").iterdir()] == ["lock"]


def test_a_default_folder_of_the_same_second_is_numbered(tmp_path, monkeypatch):
    """In a process that has not run Hydra before, whose configuration the folder's name needs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    clock = SimpleNamespace(now=lambda: SimpleNamespace(strftime=lambda pattern: "now"))
    monkeypatch.setattr("hydra.core.utils.datetime", clock)
    (tmp_path / "runs" / "sr64to128" / "now").mkdir(parents=True)
    folders = []

    def main(cfg):
        folders.append(Path(HydraConfig.get().runtime.output_dir).relative_to(tmp_path).as_posix())

    call_script(SimpleNamespace(main=main), "train", lambda args: list(args), [])
    assert folders == ["runs/sr64to128/now-2"]


class Nothing:
    """A script that does nothing."""

    @staticmethod
    def main(cfg):
        """Do nothing."""


# -- recorded settings -------------------------------------------------------------------------------------------


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of `conf/`, which the commands use, with defaults that changed since the tests' run was recorded."""
    copy = tmp_path / "conf"
    shutil.copytree(schema.CONF, copy)
    monkeypatch.setattr(schema, "CONF", copy)

    def change(file, old, new):
        text = (copy / file).read_text()
        assert text.count(old) == 1
        (copy / file).write_text(text.replace(old, new))

    return change


def change_defaults(conf):
    conf("optimizer/adam.yaml", "lr: 3e-3", "lr: 1e-4")
    conf("task/super_resolution.yaml", "ema: 0.999", "ema: 0.5")
    conf("train.yaml", "- loss: l1", "- loss: charbonnier")
    conf("data/_files.yaml", "flips: horizontal", "flips: none")


def state(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def test_resume_uses_the_recorded_settings_not_the_defaults(pictures, call, conf, tmp_path):
    args = [*TINY, "data=folder", f"data.root={pictures}", "schedule=constant"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert call(*args, "trainer.max_epochs=3", f"hydra.run.dir={whole}") == 0
    assert call(*args, "trainer.max_epochs=1", f"hydra.run.dir={parts}") == 0
    change_defaults(conf)
    assert call(f"resume={parts}", "trainer.max_epochs=3") == 0
    one, other = (OmegaConf.load(run / ".hydra" / "config.yaml") for run in (whole, parts))
    assert other.optimizer.lr == one.optimizer.lr == 3e-3
    for group in ("data", "task", "loss", "optimizer", "net", "trainer"):
        assert one[group].keys() == other[group].keys()
    assert {key for key in one if one[key] != other[key]} == {"resume"}
    for key, value in state(whole)["state_dict"].items():
        assert torch.equal(value, state(parts)["state_dict"][key]), key


def test_override_on_resume_applies_even_if_equal_to_the_default(pictures, call, conf, tmp_path):
    run = tmp_path / "run"
    assert call(*TINY, "data=folder", f"data.root={pictures}", "trainer=debug", f"hydra.run.dir={run}") == 0
    change_defaults(conf)
    args = ["optimizer.lr=1e-4", "loss=charbonnier", "trainer=debug", "trainer.max_epochs=3", "seed=5"]
    assert call(f"resume={run}", *args, "~callbacks.pictures") == 0
    recorded = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert (recorded.optimizer.lr, recorded.seed, recorded.trainer.max_epochs) == (1e-4, 5, 3)
    assert recorded.loss._target_.endswith("Charbonnier")
    assert recorded.task.ema == 0.999
    assert recorded.data.flips == "horizontal"
    assert "pictures" not in recorded.callbacks
    assert call(f"resume={run}", "trainer.max_epochs=4") == 0
    again = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert (again.optimizer.lr, again.seed, again.trainer.max_epochs) == (1e-4, 5, 4)
    assert again.loss._target_.endswith("Charbonnier")


def test_recorded_choices_are_kept_on_resume(pictures, call, conf, tmp_path):
    run = tmp_path / "run"
    assert call(*TINY, "data=folder", f"data.root={pictures}", "trainer=debug", f"hydra.run.dir={run}") == 0
    change_defaults(conf)
    assert call(f"resume={run}", "experiment=sr64to128", "trainer.max_epochs=3") == 0
    choices = OmegaConf.load(run / ".hydra" / "hydra.yaml").hydra.runtime.choices
    assert (choices.loss, choices.data) == ("l1", "folder")
    assert call(f"resume={run}", "loss=charbonnier", "trainer.max_epochs=4") == 0
    assert OmegaConf.load(run / ".hydra" / "config.yaml").loss._target_.endswith("Charbonnier")
    assert OmegaConf.load(run / ".hydra" / "hydra.yaml").hydra.runtime.choices.loss == "charbonnier"


def test_optimizer_overrides_on_resume_are_applied(tiny_run, call, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    args = ["optimizer.weight_decay=0.5", "optimizer.betas=[0.5,0.5]", "trainer.max_epochs=3"]
    assert call(f"resume={run}", *args) == 0
    (group,) = state(run)["optimizer_states"][0]["param_groups"]
    assert (group["weight_decay"], list(group["betas"])) == (0.5, [0.5, 0.5])


def test_a_relative_path_on_resume_is_relative_to_the_current_folder(pictures, call, tmp_path, monkeypatch):
    for name in ("before", "after"):
        shutil.copytree(pictures, tmp_path / name / "pictures")
    run = tmp_path / "run"
    monkeypatch.chdir(tmp_path / "before")
    assert call(*TINY, "data=folder", "data.root=pictures", "trainer=debug", f"hydra.run.dir={run}") == 0
    shutil.rmtree(tmp_path / "before" / "pictures")
    monkeypatch.chdir(tmp_path / "after")
    assert call(f"resume={run}", "data.root=pictures", "trainer.max_epochs=3") == 0
    assert OmegaConf.load(run / ".hydra" / "config.yaml").data.root == str(tmp_path / "after" / "pictures")


def sweep_at_the_same_time(process, barrier, folder):
    """Start a sweep of two jobs in a folder named after the year, in one process of two."""

    def main(cfg):
        Path(HydraConfig.get().runtime.output_dir, "monitor").write_text(cfg.monitor)

    sweeps = SimpleNamespace(write=lambda _: None, show=lambda _: False)
    sys.modules["srcolor.analysis.sweeps"] = sweeps
    importlib.import_module("srcolor.analysis").sweeps = sweeps
    sys.argv = ["train.py", "-m", "seed=0,1", f"monitor=val/{process}", f"hydra.sweep.dir={folder}/${{now:%Y}}"]
    barrier.wait()
    launch.run(main, "train", overrides.train_args)


def test_sweeps_started_in_the_same_second_get_separate_folders(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    processes = [context.Process(target=sweep_at_the_same_time, args=(i, barrier, tmp_path)) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    seen = [{file.read_text() for file in folder.glob("*/monitor")} for folder in tmp_path.iterdir()]
    assert sorted(map(sorted, seen)) == [["val/0"], ["val/1"]]
    assert len(list(tmp_path.glob("*/*/monitor"))) == 4


def test_a_test_uses_the_recorded_settings(tiny_run, call_eval, conf, tmp_path):
    conf("data/_base.yaml", "zoom: 1.0", "zoom: 0.5")
    conf("data/_files.yaml", "crop: center", "crop: random")
    run = tmp_path / "test"
    assert call_eval(f"ckpt={tiny_run}", f"hydra.run.dir={run}") == 0
    assert (run / "per_image.csv").read_bytes() == (tiny_run / "per_image.csv").read_bytes()
    assert OmegaConf.load(run / ".hydra" / "config.yaml").data.crop == "center"


def test_a_repeated_sweep_leaves_the_records_of_finished_jobs(pictures, call, conf, tmp_path):
    args = ["-m", "seed=0,1", *TINY, "data=folder", f"data.root={pictures}", "trainer=debug"]
    assert call(*args, f"hydra.sweep.dir={tmp_path / 'sweep'}") == 0
    before = {file: file.read_bytes() for file in (tmp_path / "sweep").glob("*/.hydra/*.yaml")}
    assert len(before) == 6  # two jobs, three files each
    change_defaults(conf)
    assert call(*args, f"hydra.sweep.dir={tmp_path / 'sweep'}") == 0
    assert {file: file.read_bytes() for file in before} == before


def test_a_run_of_version_0_1_which_recorded_mode_is_resumed(tiny_run, call, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    old = OmegaConf.load(run / ".hydra" / "config.yaml")
    old.mode = "max"
    best = old.callbacks.best
    best._target_, best.mode = "lightning.pytorch.callbacks.ModelCheckpoint", "${mode}"
    OmegaConf.save(old, run / ".hydra" / "config.yaml")
    args = yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text())
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*args, "mode=max"]))
    assert call(f"resume={run}", "trainer.max_epochs=3") == 0
    assert state(run)["epoch"] == 2


def test_the_measured_precision_is_recorded_and_kept(pictures, call, tmp_path, monkeypatch):
    run = tmp_path / "run"
    args = [arg for arg in TINY if "precision" not in arg]
    assert call(*args, "data=folder", f"data.root={pictures}", "trainer.max_epochs=1", f"hydra.run.dir={run}") == 0
    other = {"32-true": "bf16-mixed", "bf16-mixed": "32-true"}
    measured = OmegaConf.load(run / ".hydra" / "config.yaml").trainer.precision
    monkeypatch.setattr("srcolor.hardware._multiplies_bfloat16", lambda *_: other[measured] == "bf16-mixed")
    assert call(f"resume={run}", "trainer.max_epochs=2") == 0
    assert runs.train_figures(str(run))["precision"] == measured
