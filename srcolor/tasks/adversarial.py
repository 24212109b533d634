"""Training with a pixel loss and, if there is an adversary, an adversarial loss."""

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.metrics import Values, available, mean
from srcolor.tasks.adversary import Adversary, mean_over_processes
from srcolor.tasks.base import FITTED_ON, Task

REFERENCE = "pixel_loss"  # name of the reference among the evaluated networks


class AdversarialTask(Task):
    """Train a network against a critic; without an adversary, behave like `Task`.

    Optimization is manual, with three optimizers: one for the network in the pixel-loss phase, one for the network in
    the adversarial phase, and one for the critic. Lightning counts one step per batch. Validation also computes the
    critic's loss and margin, and evaluates the reference as `pixel_loss`.

    Args:
        net: See `Task`.
        loss: The pixel loss.
        optimizer: Builds the optimizer for the pixel-loss phase.
        schedule: Maps the progress of the pixel-loss phase, 0 to 1, to a factor on the learning rate.
        ema: See `Task`.
        baselines: See `Task`.
        measures: See `Task`. With an adversary, None also includes `adversarial_measures`.
        validated: See `Task`. With an adversary, None also includes `adversarial_measures`.
        adversary: The critic and the settings of the adversarial loss.
    """

    adversarial_measures: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Callable[[float], float],
        ema: float | None,
        baselines: dict[str, nn.Module],
        measures: Sequence[str] | None = None,
        validated: Sequence[str] | None = None,
        adversary: Adversary | None = None,
    ) -> None:
        if adversary is not None:
            if measures is None:
                measures = available(dict.fromkeys((*self.default_measures, *self.adversarial_measures)))
            if validated is None:
                wanted = dict.fromkeys((*self.default_validated, *self.adversarial_measures))
                validated = [name for name in wanted if name in measures]
        super().__init__(net, loss, optimizer, schedule, ema, baselines, measures, validated)
        self.adversary = adversary
        if adversary is not None:
            self.automatic_optimization = False
            adversary.reference = copy.deepcopy(net).requires_grad_(False)
        self._game = Values()

    # -- before and between the steps ------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Fit the baselines and, with an adversary, the critic's encoding."""
        super().setup(stage)
        if self.adversary is not None and stage == "fit":
            self.adversary.critic.fit(self.trainer.datamodule.pairs("train", FITTED_ON))  # type: ignore[attr-defined]

    def configure_optimizers(self) -> Any:
        """Return the three optimizers; without an adversary that of `Task`."""
        optimizer = super().configure_optimizers()
        if self.adversary is None:
            return optimizer
        return [
            optimizer,
            self.adversary.optimizer(self.net.parameters()),
            self.adversary.critic_optimizer(self.adversary.critic.parameters()),
        ]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint has an adversary if, and only if, this run has one.

        Raises:
            UserError: If it does not.
        """
        saved = any(key.startswith("adversary.") for key in checkpoint["state_dict"])
        if saved != (self.adversary is not None):
            has, lacks = ("the checkpoint", "this run") if saved else ("this run", "the checkpoint")
            raise UserError(
                f"{has} has an adversary, but {lacks} has none: resume without changing adversary=, or start a new run "
                "from its network with init_from=<run>."
            )

    def on_train_start(self) -> None:
        """See `Task`; restore the state of the game."""
        super().on_train_start()
        if self.adversary is not None:
            self.adversary.restore()

    def on_train_batch_start(self, batch: Pair, batch_idx: int) -> None:
        """See `Task`; start the adversarial phase when it is time."""
        if self.adversary is not None and batch_idx == 0:
            self.adversary.critic.encode(batch.target[:1])  # before training, not after half of it
        middle = self._progress(self.trainer.fit_loop.total_batch_idx + 0.5)
        if self.adversary is not None and self.adversary.step is None and middle >= self.adversary.start:
            self.adversary.reference.load_state_dict(self.evaluated_net.state_dict())
            self._return_to_reference()
            self.adversary.advance()
        super().on_train_batch_start(batch, batch_idx)

    def rate_factor(self, progress: float) -> float:
        """Return the factor on the learning rates; each part of the run has its own schedule."""
        if self.adversary is None:
            return super().rate_factor(progress)
        start = self.adversary.start
        if self.adversary.step is None:
            return super().rate_factor(progress / start)
        return self.adversary.schedule(max(0.0, progress - start) / (1 - start))

    def restart(self, factor: float) -> None:
        """Restart the adversarial phase from the reference with a new critic; call this between epochs.

        Args:
            factor: Factor to multiply the weight of the adversarial loss by.
        """
        assert self.adversary is not None
        self._return_to_reference()
        self.adversary.rewind(factor)
        for optimizer in self.trainer.optimizers[1:]:
            optimizer.state.clear()

    def _return_to_reference(self) -> None:
        assert self.adversary is not None
        state = self.adversary.reference.state_dict()
        self.net.load_state_dict(state)
        if self.average is not None:
            self.average.restart(state)

    # -- a step ----------------------------------------------------------------------------------------

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor | None:
        """Train on a batch: the network with the pixel loss alone, the critic alone, or both networks."""
        if self.adversary is None:
            return super().training_step(batch, batch_idx)
        pixel_optimizer, optimizer, critic_optimizer = cast("list[LightningOptimizer]", self.optimizers())
        if self.adversary.step is None:
            self._update(pixel_optimizer, super().training_step(batch, batch_idx), self.net)  # type: ignore[arg-type]
            return None
        trains_net = self.adversary.ramp > 0
        with torch.set_grad_enabled(trains_net):
            prediction = self.predict(self.net, batch).float()
            encoded = self.adversary.critic.encode(prediction)
        target = self.adversary.critic.encode(batch.target)
        critic_loss = self._critic_loss(target, encoded.detach())
        self._update(critic_optimizer, critic_loss, self.adversary.critic, counted=not trains_net)
        if trains_net:
            self._update(optimizer, self._generator_loss(prediction, batch.target, encoded, target), self.net)
        self.log_rate(optimizer.optimizer)
        self.adversary.advance()
        return None

    def _critic_loss(self, target: Tensor, prediction: Tensor) -> Tensor:
        assert self.adversary is not None
        loss, penalty, margin = self.adversary.critic_loss(target, prediction)
        self.log_loss("critic", loss)
        self.log("train/margin", margin)
        if penalty is None:
            return loss
        self.adversary.penalty.copy_(mean_over_processes(penalty))
        self.log("train/penalty", self.adversary.penalty.clone())
        return loss + self.adversary.penalty_weight * penalty

    def _generator_loss(self, prediction: Tensor, target: Tensor, encoded: Tensor, encoded_target: Tensor) -> Tensor:
        assert self.adversary is not None
        pixel_loss: Tensor = self.loss(prediction, target)
        adversarial_loss = self.adversary.generator_loss(encoded_target, encoded)
        self.adversary.update_weight(pixel_loss, adversarial_loss, self.net)
        self.log_loss("loss", pixel_loss)
        self.log_loss("adversarial", adversarial_loss)
        self.log("train/weight", self.adversary.weight.clone())
        weight = self.adversary.ramp * self.adversary.strength * self.adversary.retry * self.adversary.weight
        return pixel_loss + weight * adversarial_loss

    def _update(self, optimizer: LightningOptimizer, loss: Tensor, module: nn.Module, counted: bool = True) -> None:
        """Step the optimizer of a module's parameters; Lightning counts the step if `counted`, once per batch."""
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizer.zero_grad()
        strategy = self.trainer.strategy
        # DDP expects gradients of all parameters in each backward pass, so the gradients are averaged here.
        with strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext():
            self.manual_backward(loss, inputs=parameters)
        if self.trainer.world_size > 1:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            flat = mean_over_processes(torch.cat([gradient.flatten() for gradient in gradients]))
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        if counted:
            optimizer.step()
        else:
            self.on_before_optimizer_step(optimizer.optimizer)  # Lightning calls it for the counted step
            optimizer.optimizer.step()

    # -- evaluation ------------------------------------------------------------------------------------

    def evaluated_nets(self) -> dict[str, nn.Module]:
        """Return the evaluated network (`net`), each baseline and, in the adversarial phase, the reference."""
        nets = super().evaluated_nets()
        if self.adversary is not None and self.adversary.step is not None:
            nets[REFERENCE] = self.adversary.reference
        return nets

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        """Evaluate a batch of the validation split, by the critic too."""
        predictions = self._evaluate(batch, self.validated)
        if REFERENCE not in predictions or self.adversary is None:
            return
        with torch.autocast(self.device.type, enabled=False):
            critic = self.adversary.critic
            real, fake = (critic(critic.encode(images)) for images in (batch.target, predictions["net"]))
        margin = real - fake
        self._game.update({"margin": margin.mean((1, 2, 3)), "critic": F.softplus(-margin).mean((1, 2, 3))})

    def on_validation_epoch_end(self) -> None:
        """Log the means of the validation."""
        super().on_validation_epoch_end()
        if REFERENCE in self.evaluated_nets():
            for name, values in self._game.gather().items():
                self.log(f"val/{name}", mean(values))
