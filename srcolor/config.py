"""The closed configuration: the schema of the top level, and the check of everything below it.

A group's node names a class or function (`_target_`), whose signature is the node's schema.
"""

import difflib
import importlib
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from srcolor.errors import UserError

CONF = Path(__file__).parent.parent / "conf"


def _key(help: str, default: Any = MISSING) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class TrainConfig:
    """The keys of `train.py`'s configuration."""

    scale: int = _key("how many pixels a side are made of one", 2)
    size: int = _key("side of the full-size images, in pixels", 128)
    seed: int = _key("decides weights, order, crops and flips", 0)
    monitor: str = _key("the validation figure that chooses best.ckpt", "val/psnr")
    fit: bool = _key("false: only test, the network named by ckpt", True)
    ckpt: str | None = _key("with fit=false: the network to test; starts from its run's own settings", None)
    resume: str | None = _key("a run to go on with, in its own folder", None)
    init_from: str | None = _key("a network whose weights a new run starts from", None)
    benchmark_root: str | None = _key(
        "a folder with Set5/, BSD100/, ...: pictures of these are not trained on", "${oc.env:SRCOLOR_BENCHMARK,null}"
    )
    compile: bool = _key("compile the network with torch.compile", False)
    data: Any = _key("where the pictures come from")
    pair: Any = _key("how the input is made of the full-size image")
    net: Any = _key("the network")
    loss: Any = _key("what training minimizes")
    optimizer: Any = _key("how it does that")
    schedule: Any = _key("the learning rate over the run")
    task: Any = _key("what is trained and measured")
    trainer: Any = _key("budget and hardware: Lightning's Trainer")
    callbacks: Any = _key("checkpoints, progress, pictures")


@dataclass
class TuneConfig(TrainConfig):
    """The keys of `tune.py`'s configuration: those of `train.py`, and two more."""

    trials: int = _key("how many settings to try, those of earlier calls included", 40)
    hparams: Any = _key("what to search: a key of train.py and its range or choices")


COMPARED = ("colorize", "sr", "colorize128", "chain")  # the keys of compare.py that name runs


@dataclass
class CompareConfig:
    """The keys of `compare.py`'s configuration."""

    colorize: str = _key("the colourizer trained at the small size: a run")
    sr: str = _key("the super-resolution network: a run")
    colorize128: str | None = _key("a colourizer trained at the large size: a run", None)
    chain: str | None = _key("a chain trained end to end: a run", None)
    size: int = _key("side of the large images, in pixels", 128)
    seed: int = _key("decides the bootstrap's draws", 0)
    bootstrap: int = _key("how often the bootstrap draws the test images anew", 2000)
    pictures: int = _key("how many test images comparison.png shows", 8)
    accelerator: str = _key("cpu, cuda, or auto", "auto")
    data: Any = _key("where the pictures come from: the colourizer's own test split, unless you name another")


def register() -> None:
    """Registers the schema and the help texts with Hydra.

    Raises:
        UserError: There is no `conf/`: the package was installed without its checkout.
    """
    if not CONF.is_dir():
        raise UserError(f"{CONF}: no configuration there: this needs a checkout of srcolor, not only its package.")
    ConfigStore.instance().store(name="train_schema", node=TrainConfig)
    ConfigStore.instance().store(name="tune_schema", node=TuneConfig)
    ConfigStore.instance().store(name="compare_schema", node=CompareConfig)
    OmegaConf.register_new_resolver("options", lambda group: "\n".join(_describe(group)), replace=True)
    OmegaConf.register_new_resolver("keys", lambda schema: "\n".join(_describe_keys(schema)), replace=True)


def options(group: str) -> list[str]:
    """Names the choices of a group: the files in its folder, those that start with `_` left out."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("_"))


def _describe(group: str) -> Iterator[str]:
    for name in options(group):
        lines = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        text = next((line for line in lines if line.startswith("# ") and "@package" not in line), "#")
        yield f"  {name:20} {text[2:]}"


def _describe_keys(schema: str) -> Iterator[str]:
    known = {"train": TrainConfig, "tune": TuneConfig, "compare": CompareConfig}[schema]
    inherited = {item.name for base in known.__bases__ if is_dataclass(base) for item in fields(base)}
    for item in fields(known):
        if item.name in inherited:
            continue
        choices = options(item.name) if (CONF / item.name).is_dir() else []
        listed = f" ({', '.join(choices)})" if choices else ""
        yield f"  {item.name:20} {item.metadata['help']}{listed}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Says which of the known names is meant: ` Did you mean x?`, or lists them all."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(known)}."


def check(cfg: DictConfig) -> None:
    """Checks every node that names a class or function against its signature, before anything is built.

    Raises:
        UserError: A key that is no parameter, with its place and the nearest parameter; a parameter without
            a value; a `_target_` that does not exist.
    """
    _check(cfg, "")


def _check(node: DictConfig, place: str) -> None:
    # Interpolations are not followed: what they point to is checked where it stands.
    children = {str(key): value for key, value in node.items_ex(resolve=False)}
    if "_target_" in node:
        target = _locate(node._target_, place)
        parameters = inspect.signature(target).parameters
        types = get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
        for key in children:
            if key.startswith("_"):
                continue
            if key not in parameters:
                raise UserError(f"unknown key {place}{key}. {nearest(key, parameters)}")
            if OmegaConf.is_missing(node, key):
                raise UserError(f"{place}{key} has no value: give {place}{key}=... on the command line.")
            if not OmegaConf.is_interpolation(node, key) and not _fits(children[key], types.get(key)):
                raise UserError(f"{place}{key}={children[key]}: expected {_described(types[key])}.")
    for key, child in children.items():
        if isinstance(child, DictConfig):
            _check(child, f"{place}{key}.")


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value can be meant for a parameter; only numbers, words and nothing are told apart."""
    kinds = _alternatives(annotation)
    if not set(kinds) <= {int, float, bool, str, NoneType}:
        return True
    if float in kinds:
        kinds += (int,)
    return type(value) in kinds


def _described(annotation: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
    return " or ".join(names[kind] for kind in _alternatives(annotation))


def _locate(target: str, place: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{place}_target_={target}: there is no such class or function ({error}).") from error
