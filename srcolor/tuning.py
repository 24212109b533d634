"""A search over settings of train.py, by Optuna: the space, the study on the disk, pruning, and plots.

Needs the extra `sweep`.
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

from srcolor import config
from srcolor.errors import UserError
from srcolor.tasks.base import Task

STUDY = "srcolor"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
LOST = "lost"  # marks a trial that was stopped or killed, and is tried again

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # its plots


def space(cfg: DictConfig) -> dict[str, BaseDistribution]:
    """Reads what to search.

    Args:
        cfg: The configuration of tune.py. `hparams` has, for each key of train.py, `choices: [...]`, or `low:` and
            `high:`, whole numbers or not, with `log: true` for a logarithmic scale.

    Raises:
        UserError: A key that train.py does not have, or a range that makes no sense.
    """
    found: dict[str, BaseDistribution] = {}
    for key, spread in cast(dict[str, Any], OmegaConf.to_container(cfg.hparams, resolve=True)).items():
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if not isinstance(node, DictConfig) or name not in node:
            known = [f"{parent}.{other!s}" for other in node] if isinstance(node, DictConfig) else map(str, cfg)
            raise UserError(f"hparams: train.py has no key {key} here. {config.nearest(key, known)}")
        try:
            if set(spread) == {"choices"}:
                found[key] = CategoricalDistribution(spread["choices"])
            elif isinstance(spread["low"], int) and isinstance(spread["high"], int):
                found[key] = IntDistribution(**spread)
            else:
                found[key] = FloatDistribution(**spread)
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(
                f"hparams: {key}: {spread}: expected choices: [...], or low: and high:, and log: true ({error})."
            ) from error
    return found


def open_study(
    folder: Path, distributions: Mapping[str, BaseDistribution], words: list[str], mode: str, seed: int
) -> optuna.Study:
    """Opens the study of a folder, or begins it; a trial that was stopped or killed is put in the queue again.

    Args:
        folder: Where `study.db` is, or will be.
        distributions: What is searched.
        words: The words for train.py that all trials have in common.
        mode: `max` or `min`.
        seed: Decides the draws.

    Raises:
        UserError: The study there is of another space, or of other words.
    """
    known = optuna.study.get_all_study_names(storage(folder))
    before = len(optuna.load_study(study_name=STUDY, storage=storage(folder)).trials) if known else 0
    study = optuna.create_study(
        study_name=STUDY,
        storage=storage(folder),
        direction="maximize" if mode == "max" else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed + before),
        load_if_exists=True,
    )
    asked = {
        "space": {key: json.loads(optuna.distributions.distribution_to_json(d)) for key, d in distributions.items()},
        "words": sorted(words),
    }
    for name, value in asked.items():
        had = study.user_attrs.get(name, value)
        if had != value:
            raise UserError(
                f"{folder / 'study.db'} is a search with another {'space' if name == 'space' else 'command'}:\n  "
                f"{json.dumps(had)}\nnot\n  {json.dumps(value)}\nName another folder with hydra.run.dir=..."
            )
        study.set_user_attr(name, value)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study._storage.set_trial_user_attr(trial._trial_id, LOST, True)
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def storage(folder: Path) -> str:
    """The address of a folder's study."""
    return f"sqlite:///{folder.absolute() / 'study.db'}"


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that are behind us."""
    return [trial for trial in study.get_trials(states=FINISHED) if LOST not in trial.user_attrs]


class Prune(Callback):
    """Tells a trial's study of each validation, and ends a run that is hopeless: worse than the median of those before.

    Runs are compared at the same tenth of their budget. The trial's `best` is its best validation.

    Args:
        folder: Where the study is.
        trial: Its number in the study's storage.
        monitor: The validation figure.
        mode: `max` or `min`.
    """

    def __init__(self, folder: str, trial: int, monitor: str, mode: str) -> None:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
        self.study = optuna.load_study(study_name=STUDY, storage=storage(Path(folder)), pruner=pruner)
        self.trial = Trial(self.study, trial)
        self.monitor = monitor
        self.pick = max if mode == "max" else min
        self.best: float | None = None
        self.told: set[int] = set()

    def on_validation_end(self, trainer: Trainer, pl_module: Task) -> None:
        """See the class."""
        value = trainer.callback_metrics[self.monitor].item()
        self.best = value if self.best is None else self.pick(self.best, value)
        self.trial.set_user_attr("best", self.best)
        tenth = int(pl_module.progress * 10)
        if tenth in self.told:
            return
        self.told.add(tenth)
        self.trial.report(value, tenth)
        if tenth < 10 and self.trial.should_prune():
            self.trial.set_user_attr("pruned", tenth)
            trainer.should_stop = True


def plot(study: optuna.Study, folder: Path, monitor: str) -> None:
    """Writes `history.png` and, from four complete trials on, `importances.png`."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    drawn = {"history": plots.plot_optimization_history(study, target_name=monitor)}
    if len(complete) >= 4:
        evaluator = PedAnovaImportanceEvaluator()
        drawn["importances"] = plots.plot_param_importances(study, evaluator, target_name=monitor)
    for name, axes in drawn.items():
        figure = cast(Figure, axes.figure)
        figure.set_size_inches(8, 4.5)
        figure.tight_layout()
        figure.savefig(folder / f"{name}.unfinished", format="png", dpi=120)
        os.replace(folder / f"{name}.unfinished", folder / f"{name}.png")
        pyplot.close(figure)


def overrides(params: Mapping[str, Any]) -> list[str]:
    """A trial's parameters as words for train.py.

    >>> overrides({"net.channels": 24, "optimizer.lr": 0.001, "task.ema": None})
    ['net.channels=24', 'optimizer.lr=0.001', 'task.ema=null']
    """
    return [f"{key}={json.dumps(value)}" for key, value in params.items()]
