"""The words of a command line: checked, and completed with the settings of the runs that they name.

Imports no torch unless a run is named, so that `--help` and `--cfg job` answer at once.
"""

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf

from srcolor.cli import schema
from srcolor.errors import UserError

SWITCHES = ("ckpt", "resume", "init_from")
# Keys of lightning-hydra-template, with the condition on their value where srcolor has the key too, and what to use.
TEMPLATE_HINTS = {
    "model": "net=... is the network and task=... what it is trained for",
    "ckpt_path": "python eval.py ckpt=<run> tests a network, python train.py resume=<run> resumes a run",
    "train": "python train.py trains and tests, python eval.py ckpt=<run> only tests",
    "test": "python train.py always tests the best network, python eval.py ckpt=<run> tests it again",
    "debug": "trainer=debug runs two batches of everything",
    "hparams_search": "python tune.py hparams=sr searches for settings",
    "trainer=gpu": "trainer.accelerator=cuda; the default, auto, already uses the GPU if there is one",
    "task_name": "hydra.run.dir=runs/<name> names the folder of a run",
    "tags": "hydra.run.dir=runs/<name> names the folder of a run; the settings it records tell runs apart",
    "paths": "data.root=... is the folder of the images and hydra.run.dir=... that of the run",
}
RETIRED = ("mode",)  # keys that runs of srcolor 0.1 recorded: `mode` is the direction of `monitor`


def is_first() -> bool:
    """Whether this process, of those that train one network together, is the one that writes; alone, it is."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # of torchrun, Lightning and SLURM
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def train_line(words: Sequence[str]) -> list[str]:
    """Completes the words of a command line: `ckpt=` and `resume=` begin with the run's own settings.

    Args:
        words: What was typed after the script's name.

    Returns:
        The words for Hydra.

    Raises:
        UserError: A word that Hydra's grammar refuses; switches that exclude each other; a run or its
            checkpoint that is missing; a run folder that is already used.
    """
    check_template_keys(words)
    if not is_first():
        # Lightning starts the others with the completed words of the first; torchrun and srun with what was typed.
        silent = ["hydra.output_subdir=null", "hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
        words = [*words, *(word for word in silent if word not in words)]
        if "LOCAL_RANK" in os.environ and "hydra.job.name=train_ddp_process_" in " ".join(words):
            return list(words)
    overrides = {word: parse(word) for word in words if "=" in word and not word.startswith("-")}
    if {"-m", "--multirun"} & set(words):
        if any(override.key_or_group == "resume" for override in overrides.values()):
            raise UserError("resume= goes on with one run; -m starts several. Give one of them.")
        values = {str(o.key_or_group): o.value() for o in overrides.values() if not o.is_sweep_override()}
        launcher = str(values.get("hydra/launcher", "basic"))
        if values.get("trainer") == "ddp" and not launcher.startswith("submitit_slurm"):
            raise UserError(
                f"-m trainer=ddp with hydra/launcher={launcher}: each process of a job would start the sweep again. "
                "hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=<devices> starts them itself."
            )
    else:
        _refuse_several(overrides)
    given = {o.key_or_group: o.value() for o in overrides.values() if not o.is_sweep_override()}
    switches = [key for key in SWITCHES if given.get(key) is not None]
    if len(switches) > 1:
        raise UserError(
            f"{' and '.join(f'{key}=' for key in switches)} at once: expected one of them. ckpt= tests a network "
            "(with fit=false), resume= goes on with a run, init_from= starts a new run from saved weights."
        )
    fit = given.get("fit", True)
    if given.get("data") == "benchmark":
        if fit or switches != ["ckpt"]:
            raise UserError("data=benchmark is for tests: name the network with fit=false ckpt=<run>.")
    if "ckpt" in switches and fit:
        raise UserError(
            "ckpt= tests a saved network: add fit=false. To train on, resume=<run> goes on with a run and "
            "init_from=<run> starts a new one from its weights."
        )
    built_of_runs = any(re.fullmatch(r"net(\.\w+)*\.run", key) for key in given)
    if not fit and switches != ["ckpt"] and not (built_of_runs and not switches):
        raise UserError(
            "fit=false only tests: name the network with ckpt=<run>, or what it is made of with net.first.run=<run> "
            "net.second.run=<run>."
        )
    several = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_STEP_NUM_TASKS", "1"))) > 1
    if several and "resume" not in switches and "hydra.run.dir" not in given:
        raise UserError("several processes: give them one folder with hydra.run.dir=...")
    if "resume" not in switches:
        _refuse_used(given.get("hydra.run.dir"))
    words, overrides = _look_up(words, overrides)
    if switches:
        named = [override.value() for override in overrides.values() if override.key_or_group == switches[0]]
        words = _replay(words, overrides, switches[0], str(named[-1]))
    if {"-m", "--multirun"} & set(words):
        words = [*words, *_name_jobs([parse(word) for word in words if "=" in word and not word.startswith("-")])]
    return list(words)


def eval_line(args: Sequence[str]) -> list[str]:
    """Complete the arguments of `eval.py`: the recorded settings of the run, then what was typed.

    Args:
        args: The arguments after the script's name.

    Returns:
        The overrides for Hydra.

    Raises:
        UserError: As for `train_line`; also `fit=` or `resume=`.
    """
    for arg in args:
        key, _, value = arg.partition("=")
        if key == "resume" or (key == "fit" and value.lower() != "false"):
            raise UserError(f"{arg}: eval.py only tests. To train, use python train.py {arg}")
    is_information = {"--help", "--cfg", "-c", "--hydra-help", "--info", "-i"} & set(args)
    if is_information or "fit=false" in args:
        return list(args) if is_information else train_line(args)
    return train_line(["fit=false", *args])


def check_template_keys(args: Sequence[str]) -> None:
    """Refuse the keys of lightning-hydra-template.

    Raises:
        UserError: The key of srcolor to use instead.
    """
    for arg in args:
        key = arg.lstrip("+~").partition("=")[0]
        hint = TEMPLATE_HINTS.get(arg) or TEMPLATE_HINTS.get(key.partition(".")[0])
        if "=" in arg and not arg.startswith("-") and hint is not None:
            raise UserError(f"{arg}: not a key of srcolor. Instead: {hint}.")


def _look_up(words: Sequence[str], overrides: dict[str, Override]) -> tuple[list[str], dict[str, Override]]:
    """Puts paths in place of names of runs that a network starts from: `latest` may be another one in the next job."""
    found = {}
    for word, override in overrides.items():
        key, names_run = str(override.key_or_group), r"init_from|net(\.\w+)*\.run"
        if re.fullmatch(names_run, key) and not override.is_sweep_override() and isinstance(override.value(), str):
            from srcolor import runs  # imports torch

            found[word] = f"{key}={quote(runs.full_name(str(override.value())))}"
    looked_up = [found.get(word, word) for word in words]
    return looked_up, {found.get(word, word): parse(found.get(word, word)) for word in overrides}


def tune_line(words: Sequence[str]) -> list[str]:
    """Checks the words of a command line of tune.py, which are Hydra's.

    Args:
        words: What was typed after the script's name.

    Raises:
        UserError: A word that Hydra's grammar refuses; several values; a switch of train.py that names one run.
    """
    if {"-m", "--multirun"} & set(words):
        raise UserError("tune.py chooses the values itself: leave out -m.")
    overrides = {word: parse(word) for word in words if "=" in word and not word.startswith("-")}
    _refuse_several(overrides)
    for override in overrides.values():
        if override.key_or_group in ("resume", "ckpt", "fit"):
            raise UserError(f"{override.input_line}: every trial is a new run; leave it out.")
        if (override.key_or_group, override.value()) == ("trainer", "ddp"):
            raise UserError("trainer=ddp: tune.py trains in one process a trial; leave it out.")
    return _look_up(words, overrides)[0]


def _refuse_several(overrides: Mapping[str, Override]) -> None:
    for word, override in overrides.items():
        if override.is_sweep_override():
            raise UserError(
                f"{word}: several values. To run each, add -m. If it is one value, quote it:\n  {quoted(word)}"
            )


def _name_jobs(overrides: list[Override]) -> list[str]:
    """The word that names the folders of a sweep's jobs by what they differ in; refuses another sweep's folder."""
    for override in overrides:
        if override.key_or_group == "hydra.sweep.dir":
            file = Path(str(override.value())) / "multirun.yaml"
            before = set(OmegaConf.load(file).hydra.overrides.task) if file.exists() else None
            asked = {str(o.input_line) for o in overrides if not o.is_hydra_override()}
            if before is not None and before != asked:
                raise UserError(
                    f"{file.parent} is the folder of another sweep: {' '.join(sorted(before))}. Name another with "
                    "hydra.sweep.dir=..."
                )
    same = [str(o.key_or_group) for o in overrides if not o.is_sweep_override()]
    return [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(same)}]"] if len(same) < len(overrides) else []


def is_used(run: Path) -> bool:
    """Return whether a folder holds a run; one that ended before it had saved anything does not count."""
    return any((run / file).exists() for file in ("checkpoints/last.ckpt", "metrics.json", "comparison.json"))


def _refuse_used(folder: Any) -> None:
    if folder is None:
        return
    run = Path(str(folder))
    used = is_used(run)
    if not used and is_first() and (run / ".hydra" / "lock").exists():
        try:
            FileLock(run / ".hydra" / "lock").acquire(timeout=1).lock.release()
        except Timeout:
            used = True
    if used:
        raise UserError(f"hydra.run.dir={folder} is already used by a run. Name another.")


def compare_line(words: Sequence[str]) -> list[str]:
    """Completes the words of a command line of compare.py: begins with the data settings of the colourizer's run.

    The runs are looked up here, once: what is `latest` may be another by the time that they are loaded.

    Args:
        words: What was typed after the script's name.

    Returns:
        The words for Hydra.

    Raises:
        UserError: A word that Hydra's grammar refuses; a run that is missing; a folder that is already used.
    """
    if {"-m", "--multirun"} & set(words):
        raise UserError("compare.py makes one comparison at a time: leave out -m.")
    overrides = {word: parse(word) for word in words if "=" in word and not word.startswith("-")}
    given = {o.key_or_group: o.value() for o in overrides.values() if not o.is_sweep_override()}
    _refuse_used(given.get("hydra.run.dir"))
    named = [key for key in schema.COMPARED if given.get(key) is not None]
    if not named:
        return list(words)
    from srcolor import runs  # imports torch

    typed = {override.key_or_group for override in overrides.values()}
    names = {key: runs.full_name(str(given[key])) for key in named}
    words = [word for word in words if word not in overrides or overrides[word].key_or_group not in named]
    words += [f"{key}={quote(name)}" for key, name in names.items()]
    run = runs.folder(names["colorize"]) if "colorize" in names else None
    if run is None:
        return words
    recorded = {}
    for key, value in runs.data_settings(str(run)).items():
        typed_value = quote(value) if isinstance(value, str) else json.dumps(value)
        recorded[key] = f"{key}={typed_value if '.' in key else value}"  # the name of a choice needs no quotes
    return [*(word for key, word in recorded.items() if not _replaced(key, typed)), *words]


def _replay(words: Sequence[str], overrides: dict[str, Override], switch: str, name: str) -> list[str]:
    from srcolor import runs  # imports torch

    # `latest` is looked up once: another run may end before this one begins.
    full = runs.full_name(name)
    path = Path(full)
    named = f"{switch}={quote(full)}"
    words = [*(word for word in words if word not in overrides or overrides[word].key_or_group != switch), named]
    overrides = {word: parse(word) for word in words if word in overrides or word == named}
    if any(
        o.key_or_group == "data" and not o.is_sweep_override() and o.value() == "benchmark" for o in overrides.values()
    ):
        run = runs.folder(full)  # of the run's settings only the scale applies
        return words if run is None else [f"scale={runs.configuration(run).scale}", *words]
    if switch == "init_from" or not path.exists():  # a network from elsewhere has no settings
        return words
    if switch == "resume":
        if path.is_file():
            raise UserError(f"resume={name}: expected a run folder, got a file. init_from= takes checkpoint files.")
        runs.checkpoint_file(str(path), "last")
    if path.is_file():
        # A checkpoint in its run's folder stands for the run; elsewhere it stands alone.
        if not (path.parent.parent / ".hydra").exists():
            return words
        path = path.parent.parent
    before = runs.overrides(path)
    # Naming the run's own experiment again changes nothing.
    typed = {override.key_or_group for word, override in overrides.items() if word not in before}
    recorded = [word for word in before if not _replaced(parse(word).key_or_group, typed)]
    flags = [word for word in words if word not in overrides]
    if switch == "resume":
        recorded.append(f"hydra.run.dir={quote(str(path))}")
    return [*flags, *recorded, *overrides]


def _replaced(key: str, typed: set[str]) -> bool:
    """Return whether a new override replaces a recorded one: of the same key, or of its group; or any."""
    first = key.split(".")[0]
    return key in typed or first in typed or key in (*SWITCHES, *RETIRED, "fit") or "experiment" in typed


def replay(cfg: DictConfig, overrides: Sequence[str], choices: Mapping[str, str]) -> DictConfig:
    """Return the configuration of the run that is resumed or tested, with what was typed in place of its own.

    The values are those that the run recorded, whatever the defaults in `conf/` are by now.

    Args:
        cfg: Today's configuration by the run's overrides and those typed, as `train_line` puts them together.
        overrides: Those overrides.
        choices: The choice of each group in `cfg`.

    Returns:
        `cfg` itself where no run is named, where its experiment is replaced, or for a benchmark.
    """
    name = cfg.ckpt if cfg.get("resume") is None else cfg.resume
    if name is None or choices.get("data") == "benchmark":
        return cfg
    from srcolor import runs  # imports torch

    run = runs.folder(name)
    if run is None:
        return cfg
    recorded_overrides, recorded_choices = runs.overrides(run), runs.choices(run)
    typed = [parse(word) for word in overrides if word not in recorded_overrides]
    if any(o.key_or_group == "experiment" and o.value() != recorded_choices.get("experiment") for o in typed):
        return cfg
    recorded = runs.configuration(run)
    now = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=False))
    if any(recorded.pop(key, None) is not None for key in RETIRED):
        recorded.callbacks.update({name: now["callbacks"][name] for name in ("best", "last")})
    for key in now:
        if key in (*SWITCHES, "fit") or key not in recorded:
            recorded[key] = now[key]
    for override in sorted(typed, key=lambda o: "." in o.key_or_group):  # groups first
        key = str(override.key_or_group)
        if key in recorded_choices and override.value() == recorded_choices[key]:
            continue
        parent, _, last = key.rpartition(".")
        value: Any = now
        for part in key.split("."):
            value = value.get(part, MISSING) if isinstance(value, Mapping) else MISSING
        if value == MISSING and parent:  # ~key
            if isinstance(node := OmegaConf.select(recorded, parent), DictConfig):
                node.pop(last, None)
        else:
            OmegaConf.update(recorded, key, value, merge=False, force_add=True)
    OmegaConf.set_struct(recorded, True)
    return recorded


def parse(word: str) -> Override:
    """Reads one override by Hydra's grammar.

    Raises:
        UserError: The grammar refuses it; shows the quoted form that works.
    """
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise UserError(f"{word}: Hydra's grammar needs quotes around such a value. Write\n  {quoted(word)}") from error


def quote(value: str) -> str:
    r"""Quotes a value for Hydra's grammar.

    >>> print(quote("~/it's [here]"))
    "~/it's [here]"
    """
    escaped = re.sub(r'\\*"', lambda m: "\\" * (2 * len(m[0]) - 1) + '"', value)
    trailing = escaped[len(escaped.rstrip("\\")) :]
    return f'"{escaped}{trailing}"'


def quoted(word: str) -> str:
    """The word with its value quoted for Hydra's grammar, and all of it for the shell."""
    key, _, value = word.partition("=")
    return shlex.quote(f"{key}={quote(value)}")
