"""What a task declares for `compare.py` and `study.py`.

Imports no torch, so that `--help` is fast; the methods of a study import what they use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

    from srcolor.analysis.routes import Route
    from srcolor.images import Pair
    from srcolor.nets import Net


@dataclass(frozen=True)
class Key:
    """A key of `compare.py` that names a run.

    Attributes:
        name: The key.
        experiment: The stage of `study.py` that trains the run.
        size: Size of the images that the network is trained to output: `small` or `large`.
        help: Description of the run.
        required: Whether a comparison needs the run.
    """

    name: str
    experiment: str
    size: str
    help: str
    required: bool = False


@dataclass(frozen=True)
class Stage:
    """A run of `study.py`.

    Attributes:
        settings: Overrides for `train.py`; paths are quoted.
        budgets: Training time, in multiples of `--minutes`.
        other_task: Whether it trains a network of another task, which does not have the settings of the study's task.
    """

    settings: Mapping[str, Path | str | int] = field(default_factory=dict)
    budgets: int = 1
    other_task: bool = False


class Recipe(NamedTuple):
    """How a route is built from the networks of runs.

    Attributes:
        group: Group of the route.
        keys: Keys of the runs; their training cost counts for the route.
        build: Takes the networks of these runs, and returns the network of the route.
    """

    group: str
    keys: tuple[str, ...]
    build: Callable[..., Net]


class Study(ABC):
    """The routes of a task from small and large inputs to large outputs.

    Attributes:
        title: Title of the report.
        network: Name of the network of the first key, whose training step is measured.
        keys: The keys of `compare.py` that name runs; the first names the run whose data settings are used.
        groups: Title of each group of routes, by name, in order. The groups are never ranked together. `small` and
            `large` in a title are the sides of the images.
        reference: The route that the others of its group are compared with, by group.
        questions: Pairs of routes that are compared across the groups, although the inputs of the two may differ.
        small_floor: Name of a floor in the group `small`, given its name in the group `large`.
        squares: Measures whose mean square is also reported.
        data: Default data set of `study.py`.
        folder_data: Data set that reads a folder given to `study.py`.
        adversarial: Whether the study has adversarial networks.
    """

    title: ClassVar[str]
    network: ClassVar[str]
    keys: ClassVar[tuple[Key, ...]]
    groups: ClassVar[Mapping[str, str]]
    reference: ClassVar[Mapping[str, str]]
    questions: ClassVar[tuple[tuple[str, str], ...]]
    small_floor: ClassVar[str] = "{}_small"
    squares: ClassVar[tuple[str, ...]] = ()
    data: ClassVar[str]
    folder_data: ClassVar[str]
    adversarial: ClassVar[bool] = False

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Return the measures that are compared: those with a value per image, on every machine."""

    @abstractmethod
    def scale(self, nets: Mapping[str, Net], names: Mapping[str, str], size: int) -> int:
        """Return the factor between the small and the large size.

        Args:
            nets: The networks by key.
            names: Names of their runs by key.
            size: Side of the large images.

        Raises:
            UserError: If the networks allow none.
        """

    @abstractmethod
    def expected(self, key: str, net: Net, nets: Mapping[str, Net], scale: int) -> str | None:
        """Return the kind of network that a key expects; None if the network is of this kind."""

    @abstractmethod
    def recipes(self, scale: int) -> dict[str, Recipe]:
        """Return the recipes of all routes by name, for a factor between the small and the large size."""

    def routes(self, nets: Mapping[str, Net], scale: int) -> dict[str, Route]:
        """Return the routes that a set of networks allows, by name.

        Args:
            nets: The networks by key; those of the optional keys may be missing.
            scale: Factor between the small and the large size.
        """
        from srcolor.analysis.routes import Route

        return {
            name: Route(group, build(*(nets[key] for key in keys)), keys)
            for name, (group, keys, build) in self.recipes(scale).items()
            if nets.keys() >= set(keys)
        }

    @abstractmethod
    def baselines(self, nets: Mapping[str, Net], scale: int) -> Mapping[str, Any]:
        """Return networks without training by name, some with a `fit` for pairs, that enlarge by a factor."""

    def floors(self, nets: Mapping[str, Net], pairs: Callable[[], Iterable[Pair]], scale: int) -> dict[str, Route]:
        """Return the floors, which are routes without a trained network, for the groups `small` and `large`.

        Args:
            nets: See `routes`.
            pairs: Returns an iterator over training pairs of the large size; called once per floor.
            scale: See `routes`.
        """
        from srcolor import images
        from srcolor.analysis.routes import Route
        from srcolor.images import Pair

        routes = {}
        for group, name_of, factor in (("large", "{}", 1), ("small", self.small_floor, scale)):
            for name, net in self.baselines(nets, factor).items():
                if hasattr(net, "fit"):
                    net.fit(Pair(images.block_mean(pair.input, factor), pair.target, pair.row) for pair in pairs())
                routes[name_of.format(name)] = Route(group, net)
        return routes

    @abstractmethod
    def inputs(self, pair: Pair, scale: int) -> dict[str, Tensor]:
        """Return the input of each group of routes, for a pair of the large size."""

    @abstractmethod
    def prediction(self, output: Tensor) -> Tensor:
        """Return the prediction that is measured, given the output of a route."""

    @abstractmethod
    def loss(self) -> nn.Module:
        """Return the loss of the training step whose cost is measured."""

    @abstractmethod
    def step_pairs(self, pair: Pair, scale: int) -> list[Pair]:
        """Return the batches, one of each size, for which the cost of a training step is measured."""

    @abstractmethod
    def columns(self, pair: Pair, predictions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the columns of the picture, (N, 1 or 3, H, W) in [0, 1], by heading.

        Args:
            pair: A few pairs of the large size.
            predictions: Predictions of the routes by name.
        """

    @abstractmethod
    def stages(self, folder: Path, scale: int, adversarial: bool) -> dict[str, Stage]:
        """Return the experiments of one seed in order.

        Args:
            folder: Folder of the runs.
            scale: Factor between the small and the large size.
            adversarial: Whether to train the adversarial networks too, if the study has them.
        """

    def required(self) -> Sequence[str]:
        """Return the keys of `compare.py` without which there is no comparison."""
        return [key.name for key in self.keys if key.required]
