"""TensorBoard content of a run in addition to scalars and images: a text page, and a row in the HParams tab."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf

from srcolor.runs import records

# Top-level keys that are not hyperparameters: paths, output and selection.
EXCLUDED = ("callbacks", "ckpt", "resume", "init_from", "fit", "monitor")


def write_page(logger: TensorBoardLogger, overrides: list[str], config: DictConfig) -> None:
    """Write the text page: command line, Git revision, configuration.

    Args:
        logger: Logger of the run.
        overrides: Overrides of the run.
        config: Composed configuration of the run.
    """
    resolved = OmegaConf.to_yaml(config).replace("\n", "\n    ")
    revision = records.git_revision() or "unknown (no Git checkout)"
    page = f"    python train.py {shlex.join(overrides)}\n\nrevision {revision}\n\n    {resolved}"
    logger.experiment.add_text("run", page)


def write_row(
    logger: TensorBoardLogger,
    choices: Mapping[str, str],
    config: DictConfig,
    metrics: Mapping[str, float | None],
    step: int,
) -> None:
    """Write the row of the HParams tab: the settings of the run and its test metrics.

    Args:
        logger: Logger of the run.
        choices: The choice of each config group.
        config: Configuration of the run.
        metrics: Test metrics; None values are excluded.
        step: Global step of the test.
    """
    groups = {group: name for group, name in choices.items() if group in config and group not in EXCLUDED}
    included = {key: config[key] for key in config if key not in EXCLUDED}
    settings = {**groups, **dict(_leaves(OmegaConf.to_container(OmegaConf.create(included)), ""))}
    values = {f"test/{name}": value for name, value in metrics.items() if value is not None}
    logger.log_hyperparams(settings, values, step)
    logger.finalize("success")


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, bool | int | float | str]]:
    """Yield every plain value with its full key; interpolations (`${...}`) are excluded."""
    if isinstance(node, dict):
        for key, value in node.items():
            if not key.startswith("_"):
                yield from _leaves(value, f"{prefix}.{key}" if prefix else key)
    elif isinstance(node, bool | int | float | str) and "${" not in str(node):
        yield prefix, node
