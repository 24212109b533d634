"""The adversary of a network in training: the critic, the losses of both, and the state of the adversarial phase."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from srcolor import losses
from srcolor.errors import check_range
from srcolor.nets.critic import Critic

MIN_WEIGHT = 1e-4
WEIGHT_INTERVAL, WEIGHT_DECAY = 4, 0.99  # of the weight's moving average, in steps of the network


class Adversary(nn.Module):
    """Add an adversarial loss to the pixel loss from a given point in the run.

    At that point, a copy of the network is kept as the reference. The critic first trains alone; then the adversarial
    loss ramps up linearly to its full weight: `strength` times the ratio of the gradient norms of the pixel loss and
    the adversarial loss at the network's last layer, so that it does not depend on the scale of either loss (VQGAN,
    Esser et al. 2021). The adversarial loss is the relativistic paired loss with R1 and R2 penalties; see `losses`.

    Args:
        critic: Judges targets and predictions.
        optimizer: Builds the network's optimizer for the adversarial phase of the run.
        critic_optimizer: Builds the critic's optimizer.
        schedule: Maps the progress of the adversarial phase, 0 to 1, to a factor on both learning rates.
        start: Fraction of the run that trains with the pixel loss alone; ignored with `init_from`.
        init_from: Trained network that the run starts from, in which case the whole run is adversarial; None to start
            from an untrained network.
        gamma: Weight of the gradient penalties.
        penalty_interval: Number of steps between gradient penalties, each of which is multiplied by this number.
        critic_steps: Number of steps of the critic alone.
        ramp_steps: Number of steps over which the adversarial loss ramps up to its full weight.
        max_weight: Upper limit of the gradient ratio. The ratio grows as the critic loses.
        strength: Factor on the gradient ratio. At 1, the two gradients have equal norms; where they point in opposite
            directions, the network does not move until the ratio, a moving average, has grown.

    Attributes:
        reference: The network at the start of the adversarial phase, with its averaged weights; before that, the
            network as it was built.
        step: Number of steps of the adversarial phase so far; None before it starts.
    """

    weight: Tensor
    penalty: Tensor
    retry: Tensor
    saved_start: Tensor
    saved_step: Tensor
    reference: nn.Module

    def __init__(
        self,
        critic: Critic,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        critic_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Callable[[float], float],
        start: float = 0.5,
        init_from: str | None = None,
        gamma: float = 0.1,
        penalty_interval: int = 8,
        critic_steps: int = 150,
        ramp_steps: int = 300,
        max_weight: float = 0.3,
        strength: float = 1.0,
    ) -> None:
        super().__init__()
        check_range("adversary.start", start, 0, 0.99)
        check_range("adversary.gamma", gamma, 0)
        check_range("adversary.penalty_interval", penalty_interval, 1)
        check_range("adversary.critic_steps", critic_steps, 0)
        check_range("adversary.ramp_steps", ramp_steps, 1)
        check_range("adversary.max_weight", max_weight, MIN_WEIGHT)
        check_range("adversary.strength", strength, 0)
        self.critic = critic
        self.optimizer, self.critic_optimizer, self.schedule = optimizer, critic_optimizer, schedule
        self.gamma, self.penalty_interval, self.max_weight = gamma, penalty_interval, max_weight
        self.critic_steps, self.ramp_steps = critic_steps, ramp_steps
        # The state saved in checkpoints. The host keeps a copy of what it needs at every step.
        self.start = start if init_from is None else 0.0
        self.step: int | None = None
        self.register_buffer("weight", torch.tensor(0.0))  # the gradient ratio
        self.register_buffer("penalty", torch.tensor(0.0))  # the latest R1 + R2
        self.strength = strength
        self.register_buffer("retry", torch.tensor(1.0))  # factor on the strength after a failure
        self.register_buffer("saved_start", torch.tensor(self.start, dtype=torch.float64))
        self.register_buffer("saved_step", torch.tensor(-1))

    def restore(self) -> None:
        """Restore the host's copy of the state after a checkpoint has been loaded."""
        self.start, step = float(self.saved_start), int(self.saved_step)
        self.step = None if step < 0 else step

    def advance(self) -> None:
        """Count a step; the first call starts the adversarial phase."""
        self.step = 0 if self.step is None else self.step + 1
        self.saved_step += 1

    def rewind(self, factor: float) -> None:
        """Restart the adversarial phase with a new critic.

        Args:
            factor: Factor to multiply the weight of the adversarial loss by.
        """
        self.retry *= factor
        self.weight.zero_()
        self.penalty.zero_()
        self.saved_step.zero_()
        self.step = 0
        self.critic.reset(seed=1)

    @property
    def ramp(self) -> float:
        """Fraction of the full adversarial weight that applies in this step; 0 while the critic trains alone."""
        assert self.step is not None
        return max(0.0, min(1.0, (self.step - self.critic_steps + 1) / self.ramp_steps))

    @property
    def saturated(self) -> bool:
        """Whether the gradient ratio is at its maximum; reads it from the device."""
        return self.weight.item() > 0.95 * self.max_weight  # it is a moving average of clamped ratios

    def critic_loss(self, target: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return the critic's loss, the gradient penalty if it is due in this step, and the mean margin.

        Args:
            target: Encoded targets.
            prediction: Encoded predictions of the same inputs.

        Returns:
            The relativistic loss; R1 + R2, or None; mean logit of targets minus that of predictions. Add
            `penalty_weight` times the penalty to the loss.
        """
        real, fake = self.critic(target).float(), self.critic(prediction).float()
        penalty = None
        assert self.step is not None
        if self.gamma > 0 and self.step % self.penalty_interval == 0:
            penalty = losses.gradient_penalty(self.critic, target) + losses.gradient_penalty(self.critic, prediction)
        return losses.relativistic(real, fake), penalty, (real - fake).detach().mean()

    @property
    def penalty_weight(self) -> float:
        """Weight of the gradient penalty in the steps in which it is due."""
        return self.gamma / 2 * self.penalty_interval

    def generator_loss(self, target: Tensor, prediction: Tensor) -> Tensor:
        """Return the adversarial loss of a network, without its weight; see `critic_loss` for the arguments."""
        with torch.no_grad():
            real = self.critic(target)
        return losses.relativistic(self.critic(prediction), real)

    def update_weight(self, pixel_loss: Tensor, adversarial_loss: Tensor, net: nn.Module) -> None:
        """Move the weight towards the ratio of the gradient norms at the last layer, if an update is due in this step.

        The last layer is the last convolution kernel among the network's parameters. Gradients are averaged over all
        processes.
        """
        assert self.step is not None
        number = self.step - self.critic_steps
        if number % WEIGHT_INTERVAL:
            return
        kernel = [parameter for parameter in net.parameters() if parameter.ndim == 4][-1]
        gradients = [
            torch.autograd.grad(loss, kernel, retain_graph=True)[0].float().flatten()
            for loss in (pixel_loss, adversarial_loss)
        ]
        pixel, adversarial = mean_over_processes(torch.stack(gradients)).norm(dim=1)
        ratio = (pixel / (adversarial + 1e-12)).clamp(MIN_WEIGHT, self.max_weight)
        self.weight.lerp_(ratio, 1 if number == 0 else 1 - WEIGHT_DECAY)


@torch.no_grad()
def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean over all processes, or the values themselves if there is only one process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    values = values.detach().clone()
    torch.distributed.all_reduce(values)
    return values / torch.distributed.get_world_size()
