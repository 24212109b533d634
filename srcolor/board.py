"""What TensorBoard shows of a run beside its scalars and pictures: a text page, and a row in the HParams tab."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf

from srcolor import records

# What says where things lie or how they are shown, not what was tried.
LEFT_OUT = ("callbacks", "ckpt", "resume", "init_from", "fit", "monitor")


def write_page(logger: TensorBoardLogger, words: list[str], config: DictConfig) -> None:
    """Writes the page: command line, revision, configuration.

    Args:
        logger: The run's.
        words: The run's overrides.
        config: What they made.
    """
    resolved = OmegaConf.to_yaml(config).replace("\n", "\n    ")
    revision = records.git_revision() or "no git checkout"
    page = f"    python train.py {shlex.join(words)}\n\nrevision {revision}\n\n    {resolved}"
    logger.experiment.add_text("run", page)


def write_row(
    logger: TensorBoardLogger,
    choices: Mapping[str, str],
    config: DictConfig,
    metrics: Mapping[str, float | None],
    step: int,
) -> None:
    """Writes the row of the HParams tab, whose columns are settings and the test's metrics.

    Args:
        logger: The run's.
        choices: Which choice was made in each group.
        config: The run's.
        metrics: The test's.
        step: Of the test.
    """
    groups = {group: name for group, name in choices.items() if group in config and group not in LEFT_OUT}
    tried = {key: config[key] for key in config if key not in LEFT_OUT}
    settings = {**groups, **dict(_leaves(OmegaConf.to_container(OmegaConf.create(tried)), ""))}
    figures = {f"test/{name}": value for name, value in metrics.items() if value is not None}
    logger.log_hyperparams(settings, figures, step)
    logger.finalize("success")


def _leaves(node: Any, place: str) -> Iterator[tuple[str, bool | int | float | str]]:
    """Every plain value with its full name; what stands elsewhere (`${...}`) is left out."""
    if isinstance(node, dict):
        for key, value in node.items():
            if not key.startswith("_"):
                yield from _leaves(value, f"{place}.{key}" if place else key)
    elif isinstance(node, bool | int | float | str) and "${" not in str(node):
        yield place, node
