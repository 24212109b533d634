"""The arguments of the root scripts: checked, and completed with the choices of the run that they name.

Imports no torch unless a run is named, so that `--help` and `--cfg job` are fast.
"""

import itertools
import json
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from srcolor.analysis import studies
from srcolor.cli import hints, schema
from srcolor.cli.study_choice import COMPARED, choose_study
from srcolor.errors import UserError

NAMES_RUN = re.compile(rf"ckpt|resume|init_from|net(\.\w+)*\.run|{'|'.join(itertools.chain(*COMPARED.values()))}")
MULTIRUN = {"-m", "--multirun"}
LIST = re.compile(r"\[[^\[\]]*\]")  # a value that is a flat list


def is_first() -> bool:
    """Return whether this process is the one that writes, of all processes that train one network together."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # of torchrun, Lightning and SLURM
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def train_args(args: Sequence[str]) -> list[str]:
    """Check the arguments of `train.py`; `resume=` adds the choices and the folder of the run.

    Args:
        args: The arguments after the script's name.

    Returns:
        The arguments for Hydra.

    Raises:
        UserError: If Hydra's grammar rejects an argument, keys exclude each other, a run or its checkpoint is missing,
            or a run folder is already used.
    """
    hints.check_template_keys(args)
    if not is_first():
        silent = ["hydra.output_subdir=null", "hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
        args = [*args, *(arg for arg in silent if arg not in args)]
        if "LOCAL_RANK" in os.environ and "hydra.job.name=train_ddp_process_" in " ".join(args):
            return list(args)  # Lightning starts the other processes with the completed arguments of the first
    values = _values(_parse(args))
    if "fit" in values or "ckpt" in values:
        others = [arg for arg in args if not re.match(r"fit=|(-m|--multirun)$", arg)]
        raise UserError(
            f"train.py does not take fit= or ckpt=. To test a network, run: python eval.py "
            f"{shlex.join(others) or 'ckpt=<run>'}"
        )
    if values.get("data") == "benchmark":
        raise UserError(
            "data=benchmark is for testing only: python eval.py ckpt=<run> data=benchmark data.root=<folder>"
        )
    if values.get("resume") is not None and values.get("init_from") is not None:
        raise UserError(
            "resume= and init_from= are mutually exclusive. resume= resumes a run, init_from= starts a new run from "
            "saved weights."
        )
    if MULTIRUN & set(args) and "resume" in values:
        raise UserError("resume= cannot be combined with -m: it resumes a single run.")
    args = _resolve_names(_multirun_first(args))
    if values.get("resume") is None:
        _check_folder(values)
    else:
        args = _add_choices(args, "resume", str(values["resume"]))
    return _check_sweep(args)


def eval_args(args: Sequence[str]) -> list[str]:
    """Check the arguments of `eval.py`; `ckpt=` adds the choices of the network's run.

    Args:
        args: The arguments after the script's name.

    Returns:
        The arguments for Hydra.

    Raises:
        UserError: See `train_args`; also if no network is specified.
    """
    hints.check_template_keys(args)
    if {"--help", "--cfg", "-c", "--hydra-help", "--info", "-i"} & set(args):
        return list(args)
    values = _values(_parse(args))
    for key in ("fit", "resume", "init_from"):
        if key in values:
            raise UserError(f"{key}={values[key]}: eval.py only tests. To train, use python train.py")
    is_chain_of_runs = any(re.fullmatch(r"net(\.\w+)*\.run", key) for key in values)
    is_swept = any(o.key_or_group == "ckpt" and o.is_sweep_override() for o in _parse(args))
    if values.get("ckpt") is None and not is_swept and (not is_chain_of_runs or values.get("data") == "benchmark"):
        parts = "" if values.get("data") == "benchmark" else ", or its parts with net.first.run=<run> net.second.run="
        raise UserError(f"eval.py tests a network: specify it with ckpt=<run>{parts}.")
    args = _resolve_names(_multirun_first(args))
    _check_folder(values)
    if values.get("ckpt") is not None:
        args = _add_choices(args, "ckpt", str(values["ckpt"]))
    return _check_sweep(args)


def tune_args(args: Sequence[str]) -> list[str]:
    """Check the arguments of `tune.py`.

    Args:
        args: The arguments after the script's name.

    Returns:
        The arguments for Hydra.

    Raises:
        UserError: If Hydra's grammar rejects an argument, a key has multiple values, or an argument is not valid in a
            search.
    """
    if MULTIRUN & set(args):
        raise UserError("tune.py chooses the values itself: remove -m.")
    for override in _parse(_check_sweep(args)):
        if override.key_or_group in ("resume", "ckpt", "fit"):
            raise UserError(f"{override.input_line}: every trial is a new run; remove it.")
        if (override.key_or_group, override.value()) == ("trainer", "ddp"):
            raise UserError("trainer=ddp: tune.py trains in one process per trial; remove it.")
    return _resolve_names(args)


def compare_args(args: Sequence[str]) -> list[str]:
    """Check the arguments of `compare.py`, and add the data settings of its first run, e.g. the colorizer's.

    Args:
        args: The arguments after the script's name.

    Returns:
        The arguments for Hydra.

    Raises:
        UserError: If Hydra's grammar rejects an argument, the task has no study or does not have a key, a run is
            missing, or a folder is already used.
    """
    if MULTIRUN & set(args):
        raise UserError("compare.py runs one comparison at a time: remove -m.")
    args = _resolve_names(choose_study(args))
    values = _values(_parse(args))
    _check_folder(values)
    first = values.get(COMPARED[values.get("compare", studies.DEFAULT)][0])
    if first is None:
        return args
    from srcolor import runs  # imports torch

    recorded = []
    for key, value in runs.data_settings(str(first)).items():
        if key not in values and key.split(".")[0] not in values:
            recorded.append(f"{key}={_literal(value) if '.' in key else value}")  # the name of a choice needs no quotes
    return [*recorded, *args]


def _parse(args: Iterable[str]) -> list[Override]:
    return [parse(arg) for arg in args if arg.startswith("~") or ("=" in arg and not arg.startswith("-"))]


def _values(overrides: Iterable[Override]) -> dict[str, Any]:
    """Return the value of each key that has one value."""
    return {str(o.key_or_group): o.value() for o in overrides if not o.is_sweep_override() and not o.is_delete()}


def _multirun_first(args: Sequence[str]) -> list[str]:
    """Move `-m` to the front: argparse takes only overrides that are not separated by a flag."""
    flags = [arg for arg in args if arg in MULTIRUN]
    return [*flags[:1], *(arg for arg in args if arg not in MULTIRUN)]


def _resolve_names(args: Sequence[str]) -> list[str]:
    """Replace names of runs by paths: `latest` could be another run for the next job or process."""
    resolved = list(args)
    for position, arg in enumerate(args):
        key, separator, _ = arg.partition("=")
        if not separator or not NAMES_RUN.fullmatch(key):
            continue
        override = parse(arg)
        if not override.is_sweep_override() and isinstance(override.value(), str):
            from srcolor import runs  # imports torch

            resolved[position] = f"{key}={quote(runs.full_name(str(override.value())))}"
    return resolved


def _check_sweep(args: Sequence[str]) -> list[str]:
    """Check the arguments of a sweep, and name its folders by what differs between the jobs.

    Raises:
        UserError: If a key has multiple values without `-m`, DDP processes would relaunch the sweep, or the folder
            contains a different sweep.
    """
    overrides = _parse(args)
    if not MULTIRUN & set(args):
        for override in overrides:
            if override.is_sweep_override():
                line = str(override.input_line)
                raise UserError(
                    f"{line}: multiple values given. Add -m to run each of them, or quote the value:\n  {quoted(line)}"
                )
        return list(args)
    values = _values(overrides)
    launcher = str(values.get("hydra/launcher", "basic"))
    if values.get("trainer") == "ddp" and not launcher.startswith("submitit_slurm"):
        raise UserError(
            f"-m trainer=ddp with hydra/launcher={launcher}: each DDP process would relaunch the sweep. "
            "Use hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=<devices>, which starts the processes "
            "itself."
        )
    if "hydra.sweep.dir" in values:
        file = Path(str(values["hydra.sweep.dir"])) / "multirun.yaml"
        recorded_overrides = set(OmegaConf.load(file).hydra.overrides.task) if file.exists() else None
        if recorded_overrides not in (None, {str(o.input_line) for o in overrides if not o.is_hydra_override()}):
            raise UserError(
                f"{file.parent} already contains a different sweep: {' '.join(sorted(recorded_overrides))}. Choose "
                "another folder with hydra.sweep.dir=..."
            )
    if len(values) == len(overrides):
        return list(args)
    return [*args, f"hydra.job.config.override_dirname.exclude_keys=[{','.join(values)}]"]


def _check_folder(values: dict[str, Any]) -> None:
    """Check that a run's folder is free, and that multiple processes share one folder."""
    folder = values.get("hydra.run.dir")
    if folder is None:
        if int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:
            raise UserError("multi-process runs need an explicit folder: set hydra.run.dir=...")
        return
    run = Path(str(folder))
    used = is_used(run)
    if not used and is_first() and (run / ".hydra" / "lock").exists():
        try:
            FileLock(run / ".hydra" / "lock").acquire(timeout=1).lock.release()
        except Timeout:
            used = True
    if used:
        raise UserError(f"hydra.run.dir={folder} is already used by a run. Choose another folder.")


def is_used(run: Path) -> bool:
    """Return whether a folder contains a run; a run that ended before saving anything does not count."""
    return any((run / file).exists() for file in ("checkpoints/last.ckpt", "metrics.json", "comparison.json"))


def _add_choices(args: list[str], key: str, name: str) -> list[str]:
    """Put the choices of the named run before the arguments, so that Hydra knows the keys; see `replay.replay`."""
    from srcolor import runs  # imports torch

    full = runs.full_name(name)
    if key == "resume":
        if Path(full).is_file():
            raise UserError(f"resume={name}: expected a run folder, got a file. init_from= takes checkpoint files.")
        runs.checkpoint_file(full, "last")
        args = [*args, f"hydra.run.dir={quote(full)}"]
    run = runs.folder(full)
    values = _values(_parse(args))
    if values.get("data") == "benchmark":  # of the network's settings only the scale applies
        return [*args, f"scale={runs.load_net(full).scale}"] if "scale" not in values else args
    if run is None:  # a file has no settings
        return args
    choices = {str(group): choice for group, choice in runs.choices(run).items()}
    if values.get("experiment", choices.get("experiment")) != choices.get("experiment"):
        return args
    recorded = [
        f"{group}={choice}"
        for group, choice in choices.items()
        if group not in values and choice in schema.options(group)
    ]
    return [*(arg for arg in args if arg in MULTIRUN), *recorded, *(arg for arg in args if arg not in MULTIRUN)]


def parse(override: str) -> Override:
    """Parse an override by Hydra's grammar.

    Raises:
        UserError: If the grammar rejects it; the message shows the quoted form that works.
    """
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise UserError(
            f"{override}: Hydra's grammar requires quotes around this value. Write\n  {quoted(override)}"
        ) from error


def quote(value: str) -> str:
    r"""Quote a value for Hydra's grammar.

    >>> print(quote("~/it's [here]"))
    "~/it's [here]"
    """
    escaped = re.sub(r'\\*"', lambda m: "\\" * (2 * len(m[0]) - 1) + '"', value)
    trailing = escaped[len(escaped.rstrip("\\")) :]
    return f'"{escaped}{trailing}"'


def quoted(override: str) -> str:
    """Return an override with its value quoted for Hydra's grammar, and the whole quoted for the shell."""
    key, _, value = override.partition("=")
    is_list = LIST.fullmatch(value) is not None and not set("\"'") & set(value)
    return shlex.quote(f"{key}={_quote_elements(value) if is_list else quote(value)}")


def quote_homes(args: Sequence[str]) -> list[str]:
    """Quote values, and elements of lists, that start with `~`, as Hydra's grammar requires.

    A value with a comma is quoted only in a list: it could also be two values. Hydra does not expand `~` in its own
    folders, `hydra.run.dir`, so there it is expanded.

    >>> quote_homes(["~callbacks", "data.root=~/faces", "data.root=[~/faces,/data/faces]"])
    ['~callbacks', 'data.root="~/faces"', 'data.root=["~/faces",/data/faces]']
    """
    quoted_args = list(args)
    for position, arg in enumerate(args):
        key, _, value = arg.partition("=")
        if LIST.fullmatch(value) is not None:
            quoted_args[position] = f"{key}={_quote_elements(value, '~')}"
        elif value.startswith("~") and "," not in value:
            value = os.path.expanduser(value) if key.startswith("hydra.") else value
            quoted_args[position] = f"{key}={quote(value)}"
    return quoted_args


def _quote_elements(value: str, start: str = "") -> str:
    """Quote the elements of a list, as typed, that start with a text."""
    elements = value[1:-1].split(",")
    return f"[{','.join(quote(e.strip()) if e.strip().startswith(start) else e for e in elements)}]"


def _literal(value: Any) -> str:
    """Return a value in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(_literal, value))}]"
    return quote(value) if isinstance(value, str) else json.dumps(value)
