"""Hyperparameter search with Optuna: search space, study on disk, pruning, and plots.

Requires the `sweep` extra.
"""

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import optuna
from lightning import Callback, Trainer
from matplotlib import pyplot
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, Trial, TrialState
from optuna.visualization import matplotlib as plots

from srcolor.errors import UserError, nearest
from srcolor.metrics import higher_is_better
from srcolor.tasks.base import Task

STUDY = "srcolor"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
LOST = "lost"  # study attribute: numbers of the stopped or killed trials, which are repeated

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # its plots


def space(cfg: DictConfig) -> dict[str, BaseDistribution]:
    """Read the search space.

    Args:
        cfg: The configuration of tune.py. For each key of train.py, `hparams` has `choices: [...]`, or `low:` and
            `high:`, both integers or not, with `log: true` for a logarithmic scale.

    Raises:
        UserError: If a key does not exist in train.py, or a range is invalid.
    """
    distributions: dict[str, BaseDistribution] = {}
    for key, options in cast(dict[str, Any], OmegaConf.to_container(cfg.hparams, resolve=True)).items():
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if not isinstance(node, DictConfig) or name not in node:
            keys = [f"{parent}.{other!s}" for other in node] if isinstance(node, DictConfig) else map(str, cfg)
            raise UserError(f"hparams: train.py has no key {key}. {nearest(key, keys)}")
        try:
            if set(options) == {"choices"}:
                distributions[key] = CategoricalDistribution(options["choices"])
            elif isinstance(options["low"], int) and isinstance(options["high"], int):
                distributions[key] = IntDistribution(**options)
            else:
                distributions[key] = FloatDistribution(**options)
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(
                f"hparams: {key}: {options}: expected choices: [...], or low: and high:, and log: true ({error})."
            ) from error
    return distributions


def open_study(
    folder: Path, distributions: Mapping[str, BaseDistribution], shared: list[str], monitor: str, seed: int
) -> optuna.Study:
    """Open or create the study of a directory; enqueue stopped and killed trials again.

    Args:
        folder: Directory of `study.db`.
        distributions: The search space.
        shared: Overrides for train.py that all trials share.
        monitor: The validation metric to optimize.
        seed: Seed of the sampler.

    Raises:
        UserError: If the existing study has a different search space or different overrides.
    """
    exists = optuna.study.get_all_study_names(storage(folder))
    before = len(optuna.load_study(study_name=STUDY, storage=storage(folder)).trials) if exists else 0
    study = optuna.create_study(
        study_name=STUDY,
        storage=storage(folder),
        direction="maximize" if higher_is_better(monitor) else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed + before),
        load_if_exists=True,
    )
    identity = {
        "space": {key: json.loads(optuna.distributions.distribution_to_json(d)) for key, d in distributions.items()},
        "overrides": sorted(shared),
    }
    for name, value in identity.items():
        recorded = study.user_attrs.get(name, value)
        if recorded != value:
            raise UserError(
                f"{folder / 'study.db'} was created with a different "
                f"{'search space' if name == 'space' else 'command'}:\n"
                f"  recorded {json.dumps(recorded)},\n  requested {json.dumps(value)}.\n"
                "Use a different folder with hydra.run.dir=..."
            )
        study.set_user_attr(name, value)
    lost = study.get_trials(states=(TrialState.RUNNING,))
    study.set_user_attr(LOST, [*study.user_attrs.get(LOST, []), *(trial.number for trial in lost)])
    for trial in lost:
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def storage(folder: Path) -> str:
    """Return the database URL of a directory's study."""
    return f"sqlite:///{folder.absolute() / 'study.db'}"


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the finished trials, excluding the repeated ones."""
    lost = study.user_attrs.get(LOST, [])
    return [trial for trial in study.get_trials(states=FINISHED) if trial.number not in lost]


def settle(study: optuna.Study, trial: Trial, code: int) -> TrialState:
    """Report the end of a trial to the study, from the values recorded by `Prune`.

    Args:
        study: The study that the trial belongs to.
        trial: The trial.
        code: Exit code of its run.

    Returns:
        The state of the trial: complete, pruned or failed.
    """
    recorded = study.user_attrs.get(f"trial {trial.number}", {})
    for tenth, value in recorded.get("validations", []):
        trial.report(value, tenth)
    if code or "best" not in recorded:
        return study.tell(trial, state=TrialState.FAIL).state
    if recorded["pruned"]:
        return study.tell(trial, state=TrialState.PRUNED).state
    return study.tell(trial, recorded["best"]).state


class Prune(Callback):
    """Stop a run that is worse than the median of the complete trials at the same tenth of their budget.

    The validations of the run, and the best of them, are recorded in an attribute of the study; see `settle`. The
    decision is made in a copy of the study, as in Optuna only the process that started a trial can report values of it.

    Args:
        folder: Directory of the study.
        trial: Trial number.
        monitor: The validation metric.
    """

    def __init__(self, folder: str, trial: int, monitor: str) -> None:
        self.study = optuna.load_study(study_name=STUDY, storage=storage(Path(folder)))
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
        copy = optuna.create_study(direction=self.study.direction, pruner=pruner)
        copy.add_trials(self.study.get_trials(states=(TrialState.COMPLETE,)))
        self.trial = copy.ask()
        self.number = trial
        self.monitor = monitor
        self.pick = max if higher_is_better(monitor) else min
        self.best: float | None = None
        self.pruned = False
        self.validations: dict[int, float] = {}  # the first validation in each tenth of the budget

    def on_validation_end(self, trainer: Trainer, pl_module: Task) -> None:
        """Record the validation, and stop the run if it should be pruned."""
        value = trainer.callback_metrics[self.monitor].item()
        self.best = value if self.best is None else self.pick(self.best, value)
        tenth = int(pl_module.progress * 10)
        if tenth not in self.validations:
            self.validations[tenth] = value
            self.trial.report(value, tenth)
            self.pruned |= tenth < 10 and bool(self.trial.should_prune())
        recorded = {"best": self.best, "pruned": self.pruned, "validations": list(self.validations.items())}
        self.study.set_user_attr(f"trial {self.number}", recorded)
        trainer.should_stop |= self.pruned


def plot(study: optuna.Study, folder: Path, monitor: str) -> None:
    """Write `history.png` and, from four complete trials on, `importances.png`."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    axes_by_name = {"history": plots.plot_optimization_history(study, target_name=monitor)}
    if len(complete) >= 4:
        evaluator = PedAnovaImportanceEvaluator()
        axes_by_name["importances"] = plots.plot_param_importances(study, evaluator, target_name=monitor)
    for name, axes in axes_by_name.items():
        figure = cast(Figure, axes.figure)
        figure.set_size_inches(8, 4.5)
        figure.tight_layout()
        figure.savefig(folder / f"{name}.unfinished", format="png", dpi=120)
        os.replace(folder / f"{name}.unfinished", folder / f"{name}.png")
        pyplot.close(figure)


def overrides(params: Mapping[str, Any]) -> list[str]:
    """Return the parameters of a trial as overrides for train.py.

    >>> overrides({"net.channels": 24, "optimizer.lr": 0.001, "task.ema": None})
    ['net.channels=24', 'optimizer.lr=0.001', 'task.ema=null']
    """
    return [f"{key}={json.dumps(value)}" for key, value in params.items()]
