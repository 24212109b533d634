"""The closed configuration: the schema of the top level, and the check of everything below it.

A group's node names a class or function (`_target_`), whose signature is the node's schema.
"""

import importlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from srcolor.analysis import studies
from srcolor.errors import UserError, nearest

CONF = Path(__file__).parents[2] / "conf"


def _key(help: str, default: Any = MISSING) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class TrainConfig:
    """The keys of `train.py`'s configuration."""

    scale: int = _key("upscaling factor", 2)
    size: int = _key("side of the full-size images, in pixels", 128)
    seed: int = _key("seed of weights, order, crops and flips", 0)
    monitor: str = _key("validation metric that selects best.ckpt", "val/psnr")
    resume: str | None = _key("run to resume, in its own folder", None)
    init_from: str | None = _key("network whose weights a new run starts from", None)
    benchmark_root: str | None = _key(
        "folder with Set5/, BSD100/, ...: their images are excluded from training", "${oc.env:SRCOLOR_BENCHMARK,null}"
    )
    compile: bool = _key("compile the network with torch.compile", False)
    data: Any = _key("data set")
    pair: Any = _key("how the input is computed from the full-size image")
    net: Any = _key("network")
    loss: Any = _key("loss")
    optimizer: Any = _key("optimizer")
    schedule: Any = _key("learning rate schedule")
    task: Any = _key("training objective and metrics")
    trainer: Any = _key("budget and hardware: Lightning's Trainer")
    callbacks: Any = _key("checkpoints, progress bar, sample images")
    logger: Any = _key("loggers in addition to TensorBoard")
    adversary: Any = _key("adversarial loss in addition to the pixel loss", None)


@dataclass
class EvalConfig(TrainConfig):
    """The keys of `eval.py`'s configuration: the keys of `train.py`, and the network."""

    ckpt: str | None = _key("network to test: a run, a checkpoint file, or a name", None)
    sharpness: float | None = _key(
        "for a run with an adversary: blend of its pixel-loss (0) and adversarial (1) networks", None
    )
    ensemble: bool = _key("average over the flips and rotations of each image, 8 times slower", False)


@dataclass
class TuneConfig(TrainConfig):
    """The keys of `tune.py`'s configuration: the keys of `train.py`, and two more."""

    trials: int = _key("total number of trials, including earlier invocations", 40)
    hparams: Any = _key("search space: maps train.py keys to a range or a list of choices")


@dataclass
class CompareConfig:
    """The keys of `compare.py`'s configuration that every task has; its study adds the runs."""

    size: int = _key("side of the large images, in pixels", 128)
    seed: int = _key("seed of the bootstrap", 0)
    bootstrap: int = _key("number of bootstrap samples", 2000)
    pictures: int = _key("number of test images in comparison.png", 8)
    accelerator: str = _key("cpu, cuda, or auto", "auto")
    data: Any = _key("data set; by default the test split of the first run")


def _compared(task: str) -> type[Any]:
    """Return the schema of `compare.py` for a task."""
    keys = [
        (key.name, str if key.required else str | None, _key(key.help, MISSING if key.required else None))
        for key in studies.load(task).keys
    ]
    return make_dataclass(f"Compare_{task}", keys, bases=(CompareConfig,))


SCHEMAS: dict[str, type[Any]] = {
    "train": TrainConfig,
    "eval": EvalConfig,
    "tune": TuneConfig,
    "compare": CompareConfig,
    **{f"compare/{task}": _compared(task) for task in studies.STUDIES},
}


def register() -> None:
    """Register the schema and the help texts with Hydra.

    Raises:
        UserError: If there is no `conf/` because the package was installed without its checkout.
    """
    if not CONF.is_dir():
        raise UserError(
            f"{CONF} not found: this command must be run from a checkout of srcolor, not an installed package."
        )
    for name, config_class in SCHEMAS.items():
        node = OmegaConf.structured(config_class)
        for key in _inherited(config_class):
            node[key] = MISSING  # its default would replace the value of an experiment, which is merged before
        group, _, name = name.rpartition("/")
        ConfigStore.instance().store(name=f"{name}_schema", node=node, group=group or None, package="_global_")
    OmegaConf.register_new_resolver("options", lambda group: "\n".join(_describe(group)), replace=True)
    OmegaConf.register_new_resolver("keys", lambda schema: "\n".join(_describe_keys(schema)), replace=True)
    OmegaConf.register_new_resolver("studies", lambda: "\n".join(map(_describe_study, studies.STUDIES)), replace=True)


def options(group: str) -> list[str]:
    """Return the choices of a group: the files in its folder whose names do not start with `_`."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("_"))


def _describe(group: str) -> Iterator[str]:
    for name in options(group):
        lines = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        text = next((line for line in lines if line.startswith("# ") and "@package" not in line), "#")
        yield f"  {name:20} {text[2:]}"


def _inherited(config_class: type[Any]) -> set[str]:
    """Return the keys that a schema shares with the schema it extends."""
    return {item.name for base in config_class.__bases__ if is_dataclass(base) for item in fields(base)}


def _describe_keys(schema: str) -> Iterator[str]:
    config_class = SCHEMAS[schema]
    inherited = _inherited(config_class)
    for item in fields(config_class):
        if item.name in inherited:
            continue
        choices = options(item.name) if (CONF / item.name).is_dir() else []
        listed = f" ({', '.join(choices)})" if choices else ""
        yield f"  {item.name:20} {item.metadata['help']}{listed}"


def usage(task: str) -> str:
    """Return the arguments that `compare.py` requires for a task."""
    needed = [f"{key}=<run>" for key in studies.load(task).required()]
    return " ".join(needed if task == studies.DEFAULT else [f"task={task}", *needed])


def _describe_study(task: str) -> str:
    default = " (the default)" if task == studies.DEFAULT else ""
    keys = "\n".join(_describe_keys(f"compare/{task}"))
    return f"Keys of task={task}{default}, python compare.py {usage(task)}:\n{keys}\n"


def check(cfg: DictConfig) -> None:
    """Check every node that names a class or function against its signature, before anything is built.

    Raises:
        UserError: If a key is not a parameter (the message names its path and the nearest parameter), a required
            parameter has no value, or a `_target_` does not exist.
    """
    _check(cfg, "")


def _check(node: DictConfig, path: str) -> None:
    # Interpolations are not followed: their targets are checked where they are defined.
    children = {str(key): value for key, value in node.items_ex(resolve=False)}
    if "_target_" in node:
        target = _locate(node._target_, path)
        parameters = inspect.signature(target).parameters
        types = _types(target)
        for key in children:
            if key.startswith("_"):
                continue
            if key not in parameters:
                raise UserError(f"unknown key {path}{key}. {nearest(key, parameters)}")
            if OmegaConf.is_missing(node, key):
                raise UserError(f"{path}{key} is required: pass {path}{key}=... on the command line.")
            if not OmegaConf.is_interpolation(node, key) and not _fits(children[key], types.get(key)):
                raise UserError(f"{path}{key}={children[key]}: expected {_described(types[key])}.")
    for key, child in children.items():
        if isinstance(child, DictConfig):
            _check(child, f"{path}{key}.")


def _types(target: Any) -> dict[str, Any]:
    try:
        return get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    except NameError:  # Lightning's WandbLogger names types of wandb, which may be missing
        return {}


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _fits(value: Any, annotation: Any) -> bool:
    """Return whether a value fits a parameter; only int, float, bool, str, None and lists of str are checked."""
    kinds = _alternatives(annotation)
    if not set(kinds) <= {int, float, bool, str, NoneType, Sequence[str]}:
        return True
    if isinstance(value, ListConfig):
        elements = cast(list[Any], OmegaConf.to_container(value, resolve=False))
        return Sequence[str] in kinds and all(isinstance(element, str) for element in elements)
    if float in kinds:
        kinds += (int,)
    return type(value) in kinds


def _described(annotation: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
    names[Sequence[str]] = "a list of texts"
    return " or ".join(names[kind] for kind in _alternatives(annotation))


def _locate(target: str, path: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{path}_target_={target}: no such class or function ({error}).") from error
