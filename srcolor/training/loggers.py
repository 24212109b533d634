"""What the loggers record of a run next to its metrics and images: its command, configuration and test results."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from omegaconf import DictConfig, OmegaConf

from srcolor.runs import records

# Keys that set paths and output, not hyperparameters.
EXCLUDED = ("callbacks", "logger", "ckpt", "sharpness", "resume", "init_from", "monitor")


def log_start(loggers: Sequence[Logger], command: str, config: DictConfig, choices: Mapping[str, str]) -> None:
    """Log the command, revision and configuration: as a text page in TensorBoard, as hyperparameters elsewhere.

    Args:
        loggers: The loggers of the run.
        command: The command line.
        config: The configuration of the run.
        choices: The choice of each config group.
    """
    resolved = OmegaConf.to_yaml(config).replace("\n", "\n    ")
    page = f"    {command}\n\nrevision {records.git_revision() or 'unknown'}\n\n    {resolved}"
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("run", page)
        else:
            logger.log_hyperparams(_settings(config, choices))


def log_results(
    loggers: Sequence[Logger],
    config: DictConfig,
    choices: Mapping[str, str],
    metrics: Mapping[str, float | None],
    step: int,
) -> None:
    """Log the row of TensorBoard's HParams tab, whose columns are settings and test metrics; close all loggers.

    Args:
        loggers: The loggers of the run.
        config: The configuration of the run.
        choices: The choice of each config group.
        metrics: The test metrics.
        step: The training step.
    """
    values = {f"test/{name}": value for name, value in metrics.items() if value is not None}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(_settings(config, choices), values, step)
        logger.finalize("success")


def command_line(script: str, overrides: Sequence[str]) -> str:
    """Return a command as typed in a shell."""
    return f"python {script}.py {shlex.join(overrides)}"


def _settings(config: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    groups = {group: name for group, name in choices.items() if group in config and group not in EXCLUDED}
    tried = {key: config[key] for key in config if key not in EXCLUDED}
    return {**groups, **dict(_leaves(OmegaConf.to_container(OmegaConf.create(tried)), ""))}


def _leaves(node: Any, place: str) -> Iterator[tuple[str, bool | int | float | str]]:
    """Yield every plain value with its full name, interpolations excluded."""
    if isinstance(node, dict):
        for key, value in node.items():
            if not key.startswith("_"):
                yield from _leaves(value, f"{place}.{key}" if place else key)
    elif isinstance(node, bool | int | float | str) and "${" not in str(node):
        yield place, node
