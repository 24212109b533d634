"""Sweeps: a folder per job, their tables, failures, repetition, and refusals."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, TINY

from srcolor import runs
from srcolor.analysis import sweeps
from srcolor.runs import listing


def arguments(pictures, folder, *overrides):
    replaced = {override.split("=")[0] for override in (*overrides, "trainer.max_epochs=")}
    tiny = [override for override in TINY if override.split("=")[0] not in replaced] + ["trainer.max_epochs=1"]
    return ["-m", *overrides, *tiny, "data=folder", f"data.root={pictures}", f"hydra.sweep.dir={folder}"]


def rows(folder):
    return {row["job"]: row for row in csv.DictReader((folder / "sweep.csv").open())}


@pytest.fixture(scope="module")
def swept(tmp_path_factory, pictures, call):
    """A sweep of four jobs, two of which fail; tests must not change it."""
    folder = tmp_path_factory.mktemp("sweeps") / "one"
    assert call(*arguments(pictures, folder, "optimizer.lr=1e-3,-1", "seed=0,1")) == 1
    return folder


def test_a_failed_job_does_not_lose_the_others(swept):
    table = rows(swept)
    assert list(table) == [f"optimizer.lr={lr},seed={seed}" for lr in ("0.001", "-1") for seed in (0, 1)]
    for name, row in table.items():
        assert name == f"optimizer.lr={row['optimizer.lr']},seed={row['seed']}"
        metrics = swept / name / "metrics.json"
        if row["optimizer.lr"] == "-1":
            assert row["state"] == "failed"
            assert row["error"].startswith("optimizer: Invalid learning rate: -1")
            assert not metrics.exists()
        else:
            assert (row["state"], row["error"]) == ("done", "")
            assert float(row["psnr"]) == json.loads(metrics.read_text())["test"]["psnr"]
            assert float(row["seconds"]) > 0


def test_seeds_are_averaged_and_settings_ranked(swept):
    ranked = sweeps.settings(swept, sweeps.jobs(swept))
    assert ranked.index.tolist() == ["optimizer.lr=0.001", "optimizer.lr=-1"]
    assert ranked["optimizer.lr"].tolist() == ["0.001", "-1"]
    assert ranked[["done", "jobs"]].values.tolist() == [[2, 2], [0, 2]]
    first = ranked.iloc[0]
    values = [float(row["psnr"]) for row in rows(swept).values() if row["psnr"]]
    assert first["psnr mean"] == pytest.approx(sum(values) / 2)
    assert first["psnr std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    validated = [runs.validated(swept / name) for name in rows(swept) if "-1" not in name]
    assert first["validation mean"] == pytest.approx(sum(validated) / 2)
    text = (swept / "sweep.md").read_text()
    metrics = "test psnr | test ssim | test texture | test consistency | test band_energy"
    assert f"|  | optimizer.lr | done | val psnr | {metrics} | seconds |" in text
    psnr = [f"{first[f'{name} mean']:.2f} ± {first[f'{name} std']:.2f}" for name in ("validation", "psnr")]
    assert f"| 1 | 0.001 | 2/2 | {psnr[0]} | {psnr[1]} |" in text
    assert "| 2 | -1 | 0/2 | - | - | - | - | - | - | - |" in text
    assert "- `optimizer.lr=-1,seed=0`: optimizer: Invalid learning rate: -1" in text


def test_the_table_has_a_column_per_swept_key_and_metric(swept):
    head = (swept / "sweep.csv").read_text().splitlines()[0]
    assert head == "job,optimizer.lr,seed,state,validation,psnr,ssim,texture,consistency,band_energy,seconds,error"


def test_a_sweep_over_seeds_alone_is_one_setting(tmp_path):
    for seed, value in ((0, 1.0), (1, 3.0)):
        job(tmp_path, f"seed={seed}", value, True)
    (tmp_path / "multirun.yaml").write_text("hydra: {overrides: {task: ['seed=0,1']}}\n")
    (setting,) = sweeps.settings(tmp_path, sweeps.jobs(tmp_path)).itertuples()
    assert (setting.Index, setting.done, setting.jobs) == ("all", 2, 2)
    sweeps.write(tmp_path)
    assert "| 1 | 2/2 | 2.0000 ± 1.4142 | -2.0000 ± 1.4142 | 1 |" in (tmp_path / "sweep.md").read_text()


def job(folder, override, value, higher_is_better):
    """Write the files of a finished job by hand."""
    config = folder / override / ".hydra"
    config.mkdir(parents=True)
    (config / "overrides.yaml").write_text(f"- {override}\n")
    (config / "config.yaml").write_text("monitor: val/x\n")
    validation = {"metric": "x", "value": value, "higher_is_better": higher_is_better}
    results = {"test": {"x": -value}, "train": {"seconds": 1}, "validation": validation}
    (folder / override / "metrics.json").write_text(json.dumps(results))


def test_a_sweep_of_finished_jobs_loads_no_checkpoint(swept, monkeypatch):
    loaded, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda file, **options: loaded.append(file) or load(file, **options))
    sweeps.write(swept)
    sweeps.show(swept)
    listing.overview(swept)
    assert loaded == []
    for name, row in rows(swept).items():
        if row["state"] == "done":
            score = runs.best_score(runs.read(swept / name / "checkpoints" / "best.ckpt"), "val/psnr")
            assert float(row["validation"]) == score
    assert len(loaded) == 2  # the count works


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_the_best_validation_comes_first_in_either_direction(higher_is_better, tmp_path):
    for net, value in (("a", 1.0), ("b", 3.0), ("c", 2.0)):
        job(tmp_path, f"net={net}", value, higher_is_better)
    (tmp_path / "multirun.yaml").write_text("hydra: {overrides: {task: ['net=a,b,c']}}\n")
    order = sweeps.settings(tmp_path, sweeps.jobs(tmp_path))["net"].tolist()
    assert order == (["b", "c", "a"] if higher_is_better else ["a", "c", "b"])


def test_repeating_the_command_runs_missing_and_failed_jobs(pictures, call, tmp_path, capfd):
    folder = tmp_path / "sweep"
    args = arguments(pictures, folder, "net.channels=4,8", "seed=0,1")
    assert call(*args) == 0
    table = rows(folder)
    jobs = {name: folder / name for name in table}
    gone, killed, failed, whole = jobs.values()
    for file in sorted(gone.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    gone.rmdir()
    (killed / "metrics.json").unlink()  # as if killed in its test
    (failed / "metrics.json").unlink()
    (failed / "error.txt").write_text("a reason\n")
    for file in (failed / "checkpoints").iterdir():
        file.unlink()
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if ".hydra" not in path.parts}
    trained = (killed / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    sweeps.write(folder)
    assert [row["state"] for row in rows(folder).values()] == ["unfinished", "failed", "done"]
    assert call(*args, "hydra/launcher=basic") == 0
    again = rows(folder)
    assert again.keys() == table.keys()
    for name, row in again.items():
        assert (row["state"], row["error"], row["psnr"]) == ("done", "", table[name]["psnr"])
    assert (killed / "checkpoints" / "last.ckpt").stat().st_mtime_ns == trained
    assert {path: path.stat().st_mtime_ns for path in before} | {whole: 0} == before | {whole: 0}
    capfd.readouterr()
    assert call(*arguments(pictures, folder, "net.channels=4,8,12", "seed=0,1")) == 1
    assert f"{folder} already contains a different sweep: " in capfd.readouterr().err
    assert len(rows(folder)) == 4


def test_a_repeated_sweep_keeps_the_recorded_data_of_its_runs(pictures, call, call_eval, tmp_path, monkeypatch):
    folder = tmp_path / "sweep"
    monkeypatch.setenv("SRCOLOR_DATA", str(pictures))
    args = [arg for arg in arguments(pictures, folder, "seed=0,1") if not arg.startswith("data.root")]
    assert call(*args) == 0
    monkeypatch.setenv("SRCOLOR_DATA", str(tmp_path / "elsewhere"))
    assert call(*args) == 0
    assert runs.configuration(folder / "seed=0").data.root == str(pictures)
    assert call_eval(f'ckpt="{folder}/seed=0"', f"hydra.run.dir={tmp_path / 'test'}") == 0


def test_an_unknown_key_is_named_before_the_first_job_starts(pictures, call, tmp_path, capfd):
    assert call(*arguments(pictures, tmp_path / "sweep", "net.chanels=4,8")) == 1
    assert "Did you mean net.channels?" in capfd.readouterr().err
    assert not list(tmp_path.rglob("train.log"))


def test_parallel_jobs_share_the_cores(pictures, tmp_path):
    """In a separate process, as joblib's workers import what they run."""
    folder = tmp_path / "sweep"
    command = [sys.executable, "train.py", *arguments(pictures, folder, "seed=0,1,-1"), "hydra/launcher=joblib"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [*command, "hydra.launcher.n_jobs=2"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert {name: row["state"] for name, row in rows(folder).items()} == {
        "seed=-1": "failed",
        "seed=0": "done",
        "seed=1": "done",
    }
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert f"CPU, {share} threads" in (folder / "seed=0" / "train.log").read_text()
    assert "3 jobs: 2 done, 1 failed" in done.stdout


def test_a_sweep_without_pandas_names_the_extra(call, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert call("-m", "seed=0,1") == 1
    assert "a sweep requires pandas. Run: pip install -e '.[sweep]'" in capfd.readouterr().err


def test_launching_does_not_import_pandas():
    command = "import sys, srcolor.cli.launch; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0


def test_jobs_monitored_by_different_metrics_are_not_ranked_together(swept, tmp_path):
    folder = tmp_path / "sweep"
    shutil.copytree(swept, folder)
    jobs = sweeps.jobs(folder)
    other = jobs.table.loc[jobs.table["state"] == "done", "job"].iloc[-1]
    file = folder / other / ".hydra" / "config.yaml"
    file.write_text(file.read_text().replace("monitor: val/psnr", "monitor: val/ssim"))
    validation = sweeps.jobs(folder).table.set_index("job")["validation"]
    assert math.isnan(validation[other])
    assert validation.drop(other).notna().sum() == jobs.table["validation"].notna().sum() - 1


def test_a_missing_launcher_names_the_extra(call, capfd):
    assert call("-m", "seed=0,1", "hydra/launcher=ray") == 1
    assert "hydra/launcher=joblib requires pip install -e '.[sweep]'" in capfd.readouterr().err


def test_resume_is_not_a_sweep(tiny_run, call, capfd):
    assert call("-m", f"resume={tiny_run}") == 1
    assert "resume= cannot be combined with -m" in capfd.readouterr().err


# -- the list of runs ----------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_and_ranked_best_first(swept, capsys):
    listed = listing.overview(swept)
    assert [row["state"] for row in listed].count("done") == 2
    assert [row["ended"] for row in listed] == sorted((row["ended"] for row in listed), reverse=True)
    listing.main(["rank", str(swept)])
    lines = capsys.readouterr().out.splitlines()[1:]
    best = max((row for row in rows(swept).values() if row["psnr"]), key=lambda row: float(row["validation"]))
    assert f"psnr {float(best['validation']):.2f}" in lines[0]
    assert f"psnr {float(best['psnr']):.2f}" in lines[0]
    assert str(swept / best["job"]) in lines[0]
    assert [line.split()[3] for line in lines[3:]] == ["failed", "failed"]  # in a separate table


def test_a_folder_without_runs_says_how_to_get_one(tmp_path, capsys):
    with pytest.raises(SystemExit):
        listing.main(["list", str(tmp_path)])
    assert "Train one: python train.py" in capsys.readouterr().err
