"""The config group `logger`."""

import csv
import sys

import pytest
from conftest import TINY
from hydra import compose, initialize_config_dir
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srcolor.cli import schema
from srcolor.training import loggers


@pytest.mark.parametrize("logger", schema.options("logger"))
def test_every_logger_is_composed_beside_tensorboard(logger):
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        cfg = compose("train", [f"logger={logger}"])
    schema.check(cfg)
    assert list(cfg.logger) == ["tensorboard", *([] if logger == "default" else [logger])]


def test_csv_has_the_metrics_of_tensorboard_and_a_resumed_run_keeps_them(pictures, call, tmp_path):
    run = tmp_path / "run"
    args = [*TINY, "data=folder", f"data.root={pictures}", "trainer.max_epochs=1", "logger=csv"]
    assert call(*args, f"hydra.run.dir={run}") == 0
    first = (run / "csv" / "version_0" / "metrics.csv").read_bytes()
    assert call(f"resume={run}", "trainer.max_epochs=2") == 0
    assert (run / "csv" / "version_0" / "metrics.csv").read_bytes() == first
    rows = [row for part in (0, 1) for row in csv.DictReader((run / "csv" / f"version_{part}" / "metrics.csv").open())]
    logged = [float(row["val/psnr"]) for row in rows if row["val/psnr"]]
    events = EventAccumulator(str(run)).Reload().Scalars("val/psnr")
    assert logged == pytest.approx([event.value for event in events], rel=1e-6)
    assert len(logged) == 2


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package, pictures, call, tmp_path, monkeypatch, capfd
):
    monkeypatch.setitem(sys.modules, package, None)
    assert call(*TINY, "data=folder", f"data.root={pictures}", f"logger={package}", f"hydra.run.dir={tmp_path}") == 1
    error = capfd.readouterr().err
    assert f"pip install -U '{package}" in error
    assert f"full_key: logger.{package}" in error
    assert "Traceback" not in error


def test_parameters_are_settings_and_choices_without_paths(tmp_path):
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        cfg = compose("train", ["optimizer.lr=0.01", "~callbacks", "~logger"])
    logger = CSVLogger(tmp_path)
    settings = {}
    logger.log_hyperparams = settings.update
    loggers.log_start([logger], "python train.py", cfg, {"net": "residual", "callbacks": "default"})
    assert settings["optimizer.lr"] == 0.01
    assert settings["net"] == "residual"
    assert not [key for key in settings if key.startswith(("callbacks", "logger"))]
