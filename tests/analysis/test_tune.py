"""The search: resumed, pruned, refused for a different search space, and its result as a command."""

import os
import re
import subprocess
import sys

import optuna
import pytest
import torch
from conftest import ROOT, TINY, call_script
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tune as script
from srcolor import runs
from srcolor.analysis import tuning
from srcolor.cli import overrides, schema
from srcolor.errors import UserError

SPACE = {"net.channels": {"choices": [4, 8]}, "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}


def tune(tmp_path, pictures, *args):
    """Run tune.py in a subprocess, with a relative data root; return the completed process."""
    short = [override for override in TINY if not override.startswith("net.channels")]
    if not (tmp_path / "relative").exists():
        (tmp_path / "relative").symlink_to(pictures)
    command = [sys.executable, str(ROOT / "tune.py"), *short, "data=folder", "data.root=relative"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command += [f"hydra.run.dir={tmp_path / 'search'}", *args]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def search(tmp_path_factory, pictures):
    """Run a search of two trials, and resume it for a third; return the parent folder and both processes."""
    folder = tmp_path_factory.mktemp("tune")
    first = tune(folder, pictures, "trials=2")
    assert first.returncode == 0, first.stderr
    return folder, first, tune(folder, pictures, "trials=3")


def test_the_same_command_resumes_and_the_best_is_printed_as_a_command(search):
    folder, first, second = search
    assert second.returncode == 0, second.stderr
    assert "2 trials: 2 complete" in first.stdout
    assert "3 trials: 3 complete" in second.stdout
    study = optuna.load_study(study_name=tuning.STUDY, storage=tuning.storage(folder / "search"))
    assert len(study.trials) == 3
    for trial in study.trials:
        run = folder / "search" / f"trial{trial.number:03d}"
        assert runs.configuration(run).optimizer.lr == trial.params["optimizer.lr"]
        validated = [event.value for event in EventAccumulator(str(run)).Reload().Scalars("val/psnr")]
        assert trial.value == pytest.approx(max(validated), rel=1e-6)
        assert trial.intermediate_values[10] == pytest.approx(validated[-1], rel=1e-6)
    (command,) = re.findall(r"best  (python train\.py .*)", second.stdout)
    assert all(override in command for override in tuning.overrides(study.best_params))
    assert "hparams" not in command
    assert (folder / "search" / "history.png").exists()


def test_different_search_space_is_refused(search, pictures):
    done = tune(search[0], pictures, "trials=3", "hparams=color", "experiment=colorize64", "net.blocks=1")
    assert done.returncode == 1
    assert "was created with a different search space" in done.stderr
    assert "Use a different folder with hydra.run.dir=" in done.stderr


def open_one(tmp_path, shared=("size=32",)):
    distributions = {"x": optuna.distributions.FloatDistribution(0, 1)}
    return tuning.open_study(tmp_path, distributions, list(shared), "val/psnr", 0), distributions


def test_killed_trial_is_repeated(tmp_path):
    study, distributions = open_one(tmp_path)
    lost = study.ask(distributions)
    again, _ = open_one(tmp_path)
    assert tuning.finished(again) == []
    assert again.ask(distributions).params == lost.params
    with pytest.raises(UserError, match="was created with a different command"):
        open_one(tmp_path, ["size=64"])


def test_a_trial_below_the_median_is_pruned(tmp_path):
    """Below the median of five complete trials at the same tenth of the budget."""
    study, distributions = open_one(tmp_path)

    class Trainer:
        should_stop = False

    class Task:
        progress = 0.0

    def run(value):
        trial = study.ask(distributions)
        callback = tuning.Prune(str(tmp_path), trial.number, "val/psnr")
        trainer, task = Trainer(), Task()
        for tenth in range(1, 11):
            task.progress = tenth / 10
            trainer.callback_metrics = {"val/psnr": torch.tensor(value + tenth / 100)}
            callback.on_validation_end(trainer, task)
            if trainer.should_stop:
                break
        state = tuning.settle(study, trial, 0)
        assert list(study.trials[trial.number].intermediate_values) == list(range(1, tenth + 1))
        return tenth, state

    for value in (1.0, 2.0, 3.0, 4.0, 5.0):
        assert run(value) == (10, optuna.trial.TrialState.COMPLETE)
    tenth, state = run(0.0)
    assert tenth < 4
    assert state == optuna.trial.TrialState.PRUNED
    assert run(9.0) == (10, optuna.trial.TrialState.COMPLETE)
    assert study.best_value == pytest.approx(9.1)


def test_trial_with_a_failed_run_counts_as_failed(tmp_path):
    study, distributions = open_one(tmp_path)
    validated, silent = study.ask(distributions), study.ask(distributions)
    study.set_user_attr(f"trial {validated.number}", {"best": 1.0, "pruned": False, "validations": [[1, 1.0]]})
    assert tuning.settle(study, validated, 1) == optuna.trial.TrialState.FAIL
    assert tuning.settle(study, silent, 0) == optuna.trial.TrialState.FAIL


@pytest.mark.parametrize("hparams", schema.options("hparams"))
def test_every_space_fits_its_experiment(hparams):
    schema.register()
    experiment = {"sr": "sr64to128", "color": "colorize64"}[hparams]
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        cfg = compose("tune", [f"hparams={hparams}", f"experiment={experiment}"])
    assert len(tuning.space(cfg)) >= 3


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"net.chanels": {"choices": [1]}}, "no key net.chanels. Did you mean net.channels?"),
        ({"net.channels": {"low": 8}}, r"net.channels: .*expected choices: \[...\], or low: and high:"),
        ({"net.channels": {"low": 8, "high": 4}}, "net.channels"),
        ({"net.channels": [8, 4]}, "net.channels"),
    ],
)
def test_an_invalid_search_space_is_refused(hparams, message):
    cfg = OmegaConf.create({"net": {"channels": 8, "blocks": 1}, "hparams": hparams})
    with pytest.raises(UserError, match=message):
        tuning.space(cfg)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-m"], "remove -m"),
        (["seed=0,1"], "multiple values"),
        (["resume=latest"], "every trial is a new run"),
        (["trainer=ddp"], "tune.py trains in one process per trial"),
        (["trials=0"], "trials=0: expected at least 1"),
    ],
)
def test_invalid_arguments_are_refused(args, message, tmp_path, capfd):
    assert call_script(script, "tune", overrides.tune_args, [*args, f"hydra.run.dir={tmp_path}"]) == 1
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error
