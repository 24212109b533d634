"""When adversarial training stops, and which epoch is kept: the best one that is still faithful."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import Trainer
from torch import Tensor

from srcolor.errors import UserError, check_range, nearest
from srcolor.metrics import higher_is_better
from srcolor.tasks.adversarial import REFERENCE, AdversarialTask
from srcolor.training.checkpoints import RunCheckpoint

PATIENCE = 5  # epochs without improvement
KEPT_BAND, FAILED_BAND, BLURRED_BAND = 0.5, 1.0, -3.0  # dB of energy at high frequencies, prediction over target
CHECKERBOARD = 3.0  # dB, twice the energy of the target
WINNING_MARGIN = 5.0  # logits
DEAD_LOSS, DEAD_LOSS_RANGE, DEAD_PENALTY, DEAD_EPOCHS = math.log(2), 0.005, 0.01, 3
STRENGTH = 1 / 3  # of the adversarial weight after a failure

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Epoch:
    """Statistics of an epoch of the adversarial phase, on the validation split unless stated otherwise.

    Attributes:
        score: The monitored metric, negated if higher is better; the kept epoch has the lowest.
        cost: Loss of fidelity relative to the reference, the network trained with the pixel loss alone.
        margin: Mean logit of targets minus that of predictions.
        critic: Loss of the critic; log 2 if it cannot tell targets from predictions.
        penalty: R1 + R2, the latest in training.
        saturated: Whether the weight of the adversarial loss is at its maximum.
        band_energy: In dB; None if it is not computed during validation.
        checkerboard: In dB; None if it is not computed during validation.
        reference_checkerboard: `checkerboard` of the reference; a barely trained network has the pattern too.
    """

    score: float
    cost: float
    margin: float
    critic: float
    penalty: float
    saturated: bool
    band_energy: float | None = None
    checkerboard: float | None = None
    reference_checkerboard: float | None = None


class Verdict(NamedTuple):
    """What becomes of a run after an epoch.

    Attributes:
        admissible: Whether the last epoch may be kept.
        finished: Whether the score has not improved for `PATIENCE` epochs.
        failure: Why training has failed; None if it has not.
    """

    admissible: bool
    finished: bool
    failure: str | None


def judge(history: Sequence[Epoch], tolerance: float, limit: float) -> Verdict:
    """Judge adversarial training after an epoch.

    Args:
        history: The epochs since the adversarial phase started, at least one.
        tolerance: Maximum cost of an epoch that is kept.
        limit: Cost beyond which training has failed.
    """
    failure = _failure(history, limit)
    admissible = [e.cost <= tolerance and (e.band_energy is None or e.band_energy <= KEPT_BAND) for e in history]
    scores = [epoch.score if kept else math.inf for epoch, kept in zip(history, admissible, strict=True)]
    best = scores.index(min(scores)) if any(admissible) else -1
    return Verdict(admissible[-1] and failure is None, len(history) - 1 - best >= PATIENCE, failure)


def _failure(history: Sequence[Epoch], limit: float) -> str | None:
    epoch = history[-1]
    bands = [one.band_energy for one in history[-2:] if one.band_energy is not None]
    recent = history[-DEAD_EPOCHS:]
    if not all(math.isfinite(value) for value in astuple(epoch) if value is not None):
        return "a validation figure is not finite"
    if epoch.cost > limit:
        return f"fidelity fell by {epoch.cost:.3g}, more than {limit:g}"
    if len(bands) == 2 and min(bands) > FAILED_BAND:
        return f"noise or ringing: band energy {bands[1]:+.2f} dB, above {FAILED_BAND:+g} dB for two epochs"
    if epoch.checkerboard is not None and epoch.checkerboard > max(CHECKERBOARD, epoch.reference_checkerboard or 0.0):
        return f"checkerboard: {epoch.checkerboard:+.2f} dB at the highest frequency, above {CHECKERBOARD:+g} dB"
    blurred = epoch.band_energy is None or epoch.band_energy < BLURRED_BAND
    if epoch.margin > WINNING_MARGIN and epoch.saturated and blurred:
        return f"the critic wins: margin {epoch.margin:.2f} with the adversarial weight at its maximum"
    if len(recent) == DEAD_EPOCHS and all(
        abs(one.critic - DEAD_LOSS) <= DEAD_LOSS_RANGE and one.penalty < DEAD_PENALTY for one in recent
    ):
        return f"the critic is not learning: its loss is stuck at {epoch.critic:.3f} (log 2); lower adversary.gamma"
    return None


class StopRule(RunCheckpoint):
    """Stop adversarial training, and keep the epoch with the best monitored metric among those that are faithful.

    Before the adversary starts, this behaves like `RunCheckpoint`. From then on, an epoch is kept only if `judge`
    admits it, and training ends after `PATIENCE` epochs without improvement. If training fails, it restarts once from
    the reference with a third of the adversarial weight; the epoch kept so far stays unless a better one follows. If
    it fails again, the reference is kept.

    Args:
        dirpath: Folder of the checkpoint.
        filename: Name of the checkpoint, without suffix.
        monitor: Validation metric that selects the epoch.
        fidelity: Names of the validated measures that define fidelity: either one for which higher is better, or
            errors, which are added up.
        tolerance: Maximum loss of fidelity of a kept epoch, compared with the reference on the same images: the
            difference (in dB for `psnr`), or the relative increase of the errors.
        limit: Loss of fidelity beyond which training has failed.
    """

    def __init__(
        self,
        dirpath: str,
        filename: str,
        monitor: str,
        fidelity: Sequence[str] = ("psnr",),
        tolerance: float = 2.0,
        limit: float = 3.0,
    ) -> None:
        super().__init__(dirpath, filename, monitor)
        check_range("callbacks.best.limit", limit, tolerance)
        self.fidelity = list(fidelity)
        self.relative = not higher_is_better(f"val/{self.fidelity[0]}")
        self.tolerance = tolerance
        self.limit = limit
        self.history: list[Epoch] = []
        self.failures = 0
        self.finished = False
        self._admissible = True  # the last epoch

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the checkpoint and of the rule."""
        history = [asdict(epoch) for epoch in self.history]
        return {**super().state_dict(), "history": history, "failures": self.failures, "finished": self.finished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of the checkpoint and, if it has one, of the rule."""
        super().load_state_dict(state_dict)
        self.history = [Epoch(**epoch) for epoch in state_dict.get("history", ())]
        self.failures = state_dict.get("failures", 0)
        self.finished = state_dict.get("finished", False)

    def on_fit_start(self, trainer: Trainer, pl_module: AdversarialTask) -> None:
        """Check the measures of fidelity.

        Raises:
            UserError: If one of them is not computed during validation.
        """
        for name in self.fidelity:
            if name not in pl_module.validated:
                raise UserError(
                    f"callbacks.best.fidelity: {name} is not computed during validation. "
                    f"{nearest(name, pl_module.validated)} Add it to task.validated, or choose another measure."
                )

    def on_train_start(self, trainer: Trainer, pl_module: AdversarialTask) -> None:
        """Stop a resumed run immediately if the rule had already ended it."""
        super().on_train_start(trainer, pl_module)
        if self.finished:
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: AdversarialTask) -> None:
        """Judge the epoch."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if REFERENCE in pl_module.evaluated_nets():
            if not self.history and not self.failures:  # the epochs of the pixel loss alone do not compete
                self.best_model_path = self.kth_best_model_path = ""
                self.best_model_score = None
                self.kth_value = torch.tensor(math.inf if self.mode == "min" else -math.inf)
                self.best_k_models = {}
            self.history.append(self._epoch(trainer.callback_metrics, pl_module))
            verdict = judge(self.history, self.tolerance, self.limit)
            self._admissible = verdict.admissible
            if verdict.failure is not None:
                self._fail(trainer, pl_module, verdict.failure)
            elif verdict.finished:
                log.info("Stopping: %s has not improved for %d epochs", self.monitor, PATIENCE)
                self.finished = trainer.should_stop = True
        if self._admissible:
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: AdversarialTask) -> None:
        """Save the epoch if it may be kept and is the best so far."""
        if self._admissible:
            super().on_train_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: AdversarialTask) -> None:
        """Keep the reference if no epoch was kept."""
        super().on_train_end(trainer, pl_module)
        if not self.best_model_path and self._reference_monitor in trainer.callback_metrics:
            log.warning("No epoch was faithful enough; %s.ckpt is the pixel-loss network", self.filename)
            pl_module.restart(STRENGTH)
            self._keep_reference(trainer)

    def _epoch(self, metrics: Mapping[str, Tensor], task: AdversarialTask) -> Epoch:
        assert self.monitor is not None
        assert task.adversary is not None
        value = metrics[self.monitor].item()
        optional = {name: metrics.get(f"val/{name}") for name in ("band_energy", "checkerboard")}
        optional["reference_checkerboard"] = metrics.get(f"val_{REFERENCE}/checkerboard")
        return Epoch(
            score=-value if self.mode == "max" else value,
            cost=self._cost(metrics),
            margin=metrics["val/margin"].item(),
            critic=metrics["val/critic"].item(),
            penalty=task.adversary.penalty.item(),
            saturated=task.adversary.saturated,
            **{name: None if figure is None else figure.item() for name, figure in optional.items()},
        )

    def _cost(self, metrics: Mapping[str, Tensor]) -> float:
        value, before = (
            sum(metrics[f"{prefix}/{name}"].item() for name in self.fidelity) for prefix in ("val", f"val_{REFERENCE}")
        )
        return value / before - 1 if self.relative else before - value

    def _fail(self, trainer: Trainer, task: AdversarialTask, failure: str) -> None:
        self.failures += 1
        self.history.clear()
        task.restart(STRENGTH)
        if self.failures == 1:
            log.warning(
                "Adversarial training failed in epoch %d: %s. Starting it once more from the pixel-loss network with "
                "a third of the adversarial weight",
                *(trainer.current_epoch, failure),
            )
        else:
            log.warning("Adversarial training failed again: %s. Keeping the pixel-loss network", failure)
            self._keep_reference(trainer)
            self.finished = trainer.should_stop = True

    @property
    def _reference_monitor(self) -> str:
        return str(self.monitor).replace("val/", f"val_{REFERENCE}/", 1)

    def _keep_reference(self, trainer: Trainer) -> None:
        """Save the network, which has been reset to the reference, as the best so far."""
        path = str(Path(str(self.dirpath), f"{self.filename}.ckpt"))
        score = trainer.callback_metrics[self._reference_monitor]
        self.best_model_path = self.kth_best_model_path = path
        self.best_model_score = self.current_score = self.kth_value = score
        self.best_k_models = {path: score}
        trainer.save_checkpoint(path)
