"""Segmentation: from an image to the class of each pixel."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.metrics import Values, measure, one_hot
from srcolor.nets.up_logits import check_segments
from srcolor.tasks.base import Task


class SegmentationTask(Task):
    """Train and evaluate a network that returns the logits of classes; see `data.pairs_segment` for its pairs.

    The measures compare the most probable class of each pixel with the class of the largest area. With more than two
    classes the test adds a row for each class except the background: its measures against all others.

    Args:
        net: The network.
        loss: Maps (logits, areas of the classes) to a scalar; its method `check_classes`, if any, checks the number of
            classes.
        optimizer: See `Task`.
        schedule: See `Task`.
        ema: See `Task`.
        baselines: See `Task`.
        measures: See `Task`.
        validated: See `Task`.
        class_names: With more than two classes, names of those except the background; if None, `class_1`, `class_2`,
            ...

    Raises:
        UserError: If the network returns no logits, or the names or the loss do not match its classes.
    """

    default_measures: ClassVar[tuple[str, ...]] = (
        *("dice", "iou", "boundary_f1_1px", "boundary_f1_2px", "hd95", "hd95_infinite"),
    )
    default_validated: ClassVar[tuple[str, ...]] = ("dice", "iou")

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
        class_names: Sequence[str] | None = None,
    ) -> None:
        check_segments(net)
        super().__init__(net, loss, optimizer, schedule, ema, baselines, measures, validated)
        classes = int(net.outputs)  # type: ignore[arg-type]  # `Net` declares it
        if (check_classes := getattr(loss, "check_classes", None)) is not None:
            check_classes(classes)
        names = [f"class_{number}" for number in range(1, classes)] if class_names is None else list(class_names)
        if class_names is not None and classes == 2:
            raise UserError(
                f"task.class_names={names}: expected null for two classes, as the row net is that of the only class "
                "except the background. Remove it."
            )
        if not len(names) == len(set(names) - {"net", *baselines}) == classes - 1:
            raise UserError(
                f"task.class_names={names}: expected {classes - 1} different name(s), one for each class except the "
                f"background, other than net, {', '.join(baselines)}."
            )
        self.class_names = names

    def check(self, prediction: Tensor, target: Tensor) -> None:
        """See `Task`; the number of classes must also match."""
        classes, expected = prediction.shape[1], target.shape[1]
        if classes != expected:
            raise UserError(
                f"the network has {classes} classes, the data set {expected}: train a network for this data set, or "
                f"set data.classes={classes} if its masks have that many."
            )
        super().check(prediction, target)

    def postprocess(self, prediction: Tensor) -> Tensor:
        """Return the probabilities of the classes."""
        return prediction.softmax(1)

    def metric_inputs(self, prediction: Tensor, batch: Pair) -> tuple[Tensor, Tensor]:
        """Return the classes of the prediction and of the target, one-hot.

        Raises:
            UserError: If the prediction is not finite, which one-hot classes would hide.
        """
        if not prediction.isfinite().all():
            raise UserError(
                "the network's output is not finite on some images: expected finite logits. Choose another checkpoint, "
                "or train with a lower optimizer.lr."
            )
        return one_hot(prediction), one_hot(batch.target)

    def on_test_epoch_start(self) -> None:
        """See `Task`."""
        super().on_test_epoch_start()
        if len(self.class_names) > 1:
            self._values.update({name: Values() for name in self.class_names})

    def test_step(self, batch: Pair, batch_idx: int) -> None:
        """See `Task`; with more than two classes also evaluate each class against all others."""
        predictions = self._evaluate(batch, self.measures)
        if len(self.class_names) == 1:
            return
        measures: dict[str, Any] = dict(self.measures.items())
        prediction, target = self.metric_inputs(predictions["net"], batch)
        for number, name in enumerate(self.class_names, 1):
            values = measure(measures, _one_class(prediction, number), _one_class(target, number))
            self._values[name].update({"row": batch.row, **values})


def _one_class(one_hot: Tensor, number: int) -> Tensor:
    """Return the other classes and a class, (N, 2, H, W)."""
    one = one_hot[:, number : number + 1]
    return torch.cat([one_hot.sum(1, keepdim=True) - one, one], 1)
