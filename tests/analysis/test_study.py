"""The study in subprocesses: killed, resumed, and repeated."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

import study
from srcolor import metrics, runs
from srcolor.analysis import studies
from srcolor.analysis.studies.color import ColorStudy
from srcolor.errors import UserError

STAGES = ["colorize64", "sr64to128", "colorize128", "chain64to128"]


def test_the_name_of_a_studys_folder_has_no_colon(tmp_path, monkeypatch):
    folders = []
    monkeypatch.setattr(study, "HERE", tmp_path)
    monkeypatch.setattr(study, "run_stages", lambda args, folder, shared: folders.append(folder))
    overrides = ["trainer.max_time=00:00:01:00"]
    monkeypatch.setattr(sys, "argv", ["study.py", *overrides])
    study.study(study.parse_args())
    assert [folder.name for folder in folders] == ["photos,trainer.max_time=00_00_01_00"]


def test_studies_that_differ_have_different_folders(tmp_path, monkeypatch):
    folders = []
    monkeypatch.setattr(study, "HERE", tmp_path)
    monkeypatch.setattr(study, "run_stages", lambda args, folder, shared: folders.append(folder))
    for options in ([], ["--scale", "4"], ["--minutes", "5"], ["--adversarial"], ["--task", "segmentation"]):
        monkeypatch.setattr(sys, "argv", ["study.py", "--data", "photos", *options])
        study.study(study.parse_args())
    names = ["photos", "photos,x4", "photos,5min", "photos,adversarial", "photos,segmentation"]
    assert [folder.name for folder in folders] == names


@pytest.mark.parametrize("task", studies.STUDIES)
def test_the_data_set_is_by_default_that_of_the_task_and_a_folder_is_read_by_its_reader(task, tmp_path, monkeypatch):
    shared = []
    monkeypatch.setattr(study, "HERE", tmp_path)
    monkeypatch.setattr(study, "run_stages", lambda args, folder, overrides: shared.append(overrides))
    for options in ([], ["--data", str(tmp_path)]):
        monkeypatch.setattr(sys, "argv", ["study.py", "--task", task, *options])
        study.study(study.parse_args())
    declared = studies.load(task)
    assert shared[0][0] == f"data={declared.data}"
    assert shared[1] == [f"data={declared.folder_data}", f'data.root="{tmp_path}"']


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "1"], r"--scale=1: expected at least 2\."),
        (
            ["--task", "segmentation", "--adversarial"],
            r"--adversarial: task segmentation has no adversarial networks\. Remove it\.",
        ),
    ],
)
def test_options_without_a_meaning_are_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["study.py", *options])
    with pytest.raises(UserError, match=message):
        study.study(study.parse_args())
    assert not list(tmp_path.iterdir())


def test_the_stages_of_another_factor_reduce_and_enlarge_by_it(tmp_path):
    stages = study.stages(ColorStudy(), tmp_path, 40, scale=4, adversarial=False, args=[])
    assert stages["colorize64"] == ["trainer.max_time=00:00:40:00", "pair.shrink=4"]
    assert stages["sr64to128"] == ["trainer.max_time=00:00:40:00", "scale=4"]
    assert stages["colorize128"] == ["trainer.max_time=00:01:20:00"]
    assert stages["chain64to128"][1] == "scale=4"


@pytest.mark.parametrize("task", studies.STUDIES)
def test_settings_of_the_task_are_not_passed_to_super_resolution(task, tmp_path):
    of_the_task = ["loss.weights=[1,2,2]", "++task.class_names=[a,b]", "~net.blocks", "pair.x=1", "loss=mse"]
    of_all = ["optimizer.lr=1e-3", "network=x", "+data.net=1"]
    stages = study.stages(studies.load(task), tmp_path, 3, scale=2, adversarial=False, args=[*of_the_task, *of_all])
    for experiment, overrides in stages.items():
        assert set(of_all) <= set(overrides)
        assert set(of_the_task) & set(overrides) == (set() if experiment == "sr64to128" else set(of_the_task))


def start(root, folder):
    """Start the study in the parent of its folder, to which `root` may be relative."""
    settings = [
        "trainer.max_time=null",
        "trainer.max_epochs=2",
        "data.epoch_samples=32",
        "data.batch_size=8",
        "size=64",
    ]
    settings += ["data.min_side=48", "trainer.precision=32", "trainer.accelerator=cpu"]
    command = [sys.executable, str(ROOT / "study.py"), "--data", "folder", "--folder", folder.name]
    command += [f"data.root={root}", *settings]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return subprocess.Popen(command, cwd=folder.parent, **options)


def test_a_killed_study_resumes_and_a_second_call_trains_nothing(pictures, tmp_path):
    seed = tmp_path / "study" / "seed0"
    (tmp_path / "relative").symlink_to(pictures)
    process = start("relative", tmp_path / "study")
    deadline = time.monotonic() + 120
    while not (seed / "sr64to128" / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = (seed / "colorize64" / "metrics.json").read_bytes()

    output, _ = start("relative", tmp_path / "study").communicate(timeout=300)
    assert "Traceback" not in output
    assert (seed / "colorize64" / "metrics.json").read_bytes() == first
    for stage in STAGES:
        assert runs.read(seed / stage / "checkpoints" / "last.ckpt")["epoch"] == 1, stage
    results = json.loads((seed / "comparison" / "comparison.json").read_text())
    assert {"chain", "chain_tuned", "direct", "keep_luma", "trained_at_128"} <= set(results["routes"])

    other = start(pictures.parent, tmp_path / "study")
    output, _ = other.communicate(timeout=60)
    assert other.returncode == 1
    assert "belongs to a different study" in output

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = start("relative", tmp_path / "study")
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 0, output
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("lpips", [True, False])
def test_adversarial_networks_start_from_those_of_the_pixel_loss(lpips, tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "available", lambda names: list(names) if lpips else [])
    stages = study.stages(ColorStudy(), tmp_path, 3, scale=2, adversarial=True, args=[])
    assert list(stages) == [*STAGES, "sr64to128_gan", "colorize64_gan"]
    for name in ("sr64to128", "colorize64"):
        assert stages[f"{name}_gan"][:2] == ["trainer.max_time=00:00:15:00", f'init_from="{tmp_path / name}"']
    assert stages["colorize64_gan"][2:] == ([] if lpips else ["monitor=val/patches"])
