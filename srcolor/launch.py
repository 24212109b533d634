"""What the root scripts share: from the words of a command line to Hydra, and errors for people.

Imports no torch, so that `--help` and `--cfg job` answer at once.
"""

import errno
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from srcolor import config
from srcolor.errors import UserError

SWITCHES = ("ckpt", "resume", "init_from")


class Stopped(BaseException):
    """Ctrl-C or SIGTERM. No `Exception`, so that nothing on the way takes it for an error of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.folder: Path | None = None  # of the run that was stopped


class Told(SystemExit):
    """The end, after an error that was printed."""


def run(main: Callable[[DictConfig], None], config_name: str, complete: Callable[[Sequence[str]], list[str]]) -> None:
    """Runs a script's main function under Hydra.

    Ctrl-C and SIGTERM end it at any moment with one line, which says how to go on, and exit code 130 or 143.

    Args:
        main: Takes the composed configuration.
        config_name: Name of the main file in `conf/`.
        complete: Completes the words of the command line.
    """
    listen()
    config.register()
    try:
        sys.argv[1:] = complete(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(config.CONF), config_name=config_name)(_for_people(main))()
    except UserError as error:
        fail(error)
    except Stopped as stop:
        print(_how_to_go_on(stop.folder), file=sys.stderr)
        sys.exit(128 + stop.number)
    except Told:
        raise
    except SystemExit as end:
        if isinstance(end.__context__, HydraException | OmegaConfBaseException):
            print(_hint(str(end.__context__), config_name), file=sys.stderr)
        raise


def listen() -> None:
    """Makes Ctrl-C and SIGTERM raise `Stopped`, once."""
    main_process = os.getpid()
    stopping: list[int] = []

    def stop(number: int, frame: Any) -> None:
        if os.getpid() != main_process:  # a data loader's worker, which ends by itself
            raise KeyboardInterrupt
        if not stopping:  # a second Ctrl-C does not disturb the first
            stopping.append(number)
            raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _how_to_go_on(folder: Path | None) -> str:
    last = None if folder is None else folder / "checkpoints" / "last.ckpt"
    if folder is None or last is None or not last.exists():
        return "stopped before anything was saved"
    from srcolor import runs  # imports torch, which has been at work by now

    try:
        checkpoint = runs.read(last)
    except UserError as error:
        return f"stopped; {error}"
    trainer = OmegaConf.load(folder / ".hydra" / "config.yaml").trainer
    what = "fit=false ckpt" if runs.spent_budget(checkpoint, trainer) else "resume"
    return f"stopped after epoch {checkpoint['epoch'] + 1}; go on with: python train.py {what}={_shown(folder)}"


def _shown(folder: Path) -> str:
    """A run's folder as one types it: from here, where it is below, and quoted, where that is needed."""
    name = str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)
    try:
        parse(f"resume={name}")
    except UserError:
        return _quoted(f"resume={name}").replace("resume=", "", 1)
    return name


def fail(error: UserError) -> NoReturn:
    """Prints an error that the user can mend, and ends with exit code 1."""
    print(f"error: {error}", file=sys.stderr)
    raise Told(1)


def _for_people(main: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    def wrapped(cfg: DictConfig) -> None:
        try:
            main(cfg)
        except Stopped as stop:
            stop.folder = Path(HydraConfig.get().runtime.output_dir)
            raise
        except Exception as error:
            # Hydra wraps what a constructor raises.
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, UserError):
                cause = cause.__cause__
            if (
                cause is None
                and isinstance(error, OSError)
                and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
            ):
                where = HydraConfig.get().runtime.output_dir
                cause = UserError(f"{error.strerror}: {where}. Make room, or name another place: hydra.run.dir=...")
            if cause is None and isinstance(error, InstantiationException) and not os.environ.get("HYDRA_FULL_ERROR"):
                # A constructor that is not ours refused its arguments.
                key = re.search(r"full_key: (\S+)", str(error))
                cause = UserError(f"{key[1] if key else 'configuration'}: {error.__cause__ or error}")
            if cause is None:
                raise
            fail(cause)

    wrapped.__module__ = main.__module__
    return wrapped


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
    overrides = {word: parse(word) for word in words if "=" in word and not word.startswith("-")}
    if not {"-m", "--multirun"} & set(words):
        for word, override in overrides.items():
            if override.is_sweep_override():
                raise UserError(
                    f"{word}: several values. To run each, add -m. If it is one value, quote it:\n  {_quoted(word)}"
                )
    given = {o.key_or_group: o.value() for o in overrides.values() if not o.is_sweep_override()}
    switches = [key for key in SWITCHES if given.get(key) is not None]
    if len(switches) > 1:
        raise UserError(
            f"{' and '.join(f'{key}=' for key in switches)} at once: expected one of them. ckpt= tests a network "
            "(with fit=false), resume= goes on with a run, init_from= starts a new run from saved weights."
        )
    fit = given.get("fit", True)
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
    if "resume" not in switches:
        _refuse_used(given.get("hydra.run.dir"))
    if not switches:
        return list(words)
    return _replay(words, overrides, switches[0], str(given[switches[0]]))


def _refuse_used(folder: Any) -> None:
    """Before Hydra writes its own files there."""
    if folder is not None and (Path(str(folder)) / ".hydra").exists():
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
    overrides = {word: parse(word) for word in words if "=" in word and not word.startswith("-")}
    given = {o.key_or_group: o.value() for o in overrides.values() if not o.is_sweep_override()}
    _refuse_used(given.get("hydra.run.dir"))
    named = [key for key in config.COMPARED if given.get(key) is not None]
    if not named:
        return list(words)
    from srcolor import runs  # imports torch

    typed = {override.key_or_group for override in overrides.values()}
    paths = {key: runs.find(str(given[key])).absolute() for key in named}
    words = [word for word in words if word not in overrides or overrides[word].key_or_group not in named]
    words += [f"{key}={quote(str(path))}" for key, path in paths.items()]
    run = runs.folder(str(paths["colorize"])) if "colorize" in paths else None
    if run is None:
        return words
    recorded = {}
    for key, value in runs.data_settings(str(run)).items():
        typed_value = quote(value) if isinstance(value, str) else json.dumps(value)
        recorded[key] = f"{key}={typed_value if '.' in key else value}"  # the name of a choice needs no quotes
    for word in runs.overrides(run):
        if word.startswith("data.root="):  # what stood for the root is on record in words
            recorded["data.root"] = word
    return [*(word for key, word in recorded.items() if not _replaced(key, typed)), *words]


def _replay(words: Sequence[str], overrides: dict[str, Override], switch: str, name: str) -> list[str]:
    from srcolor import runs  # imports torch

    path = runs.find(name).absolute()
    # `latest` is looked up once: another run may end before this one begins.
    named = f"{switch}={quote(str(path))}"
    words = [*(word for word in words if word not in overrides or overrides[word].key_or_group != switch), named]
    overrides = {word: parse(word) for word in words if word in overrides or word == named}
    if switch == "init_from":
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
    """Whether a recorded override gives way: to the same key, to another choice of its group, or always."""
    first = key.split(".")[0]
    return key in typed or first in typed or key in (*SWITCHES, "fit") or "experiment" in typed


def parse(word: str) -> Override:
    """Reads one override by Hydra's grammar.

    Raises:
        UserError: The grammar refuses it; shows the quoted form that works.
    """
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise UserError(
            f"{word}: Hydra's grammar needs quotes around such a value. Write\n  {_quoted(word)}"
        ) from error


def quote(value: str) -> str:
    r"""Quotes a value for Hydra's grammar.

    >>> print(quote("~/it's [here]"))
    "~/it's [here]"
    """
    escaped = re.sub(r'\\*"', lambda m: "\\" * (2 * len(m[0]) - 1) + '"', value)
    trailing = escaped[len(escaped.rstrip("\\")) :]
    return f'"{escaped}{trailing}"'


def _quoted(word: str) -> str:
    """The word with its value quoted for Hydra's grammar, and all of it for the shell."""
    key, _, value = word.partition("=")
    return shlex.quote(f"{key}={quote(value)}")


def _hint(message: str, config_name: str) -> str:
    """One line after Hydra's own error: the keys nearest to the one that it refused."""
    refused = re.search(r"Could not (?:override|append to config|delete from config)[^']*'([^']+)'", message)
    choice = re.search(r"Could not (?:find|load) '([^/']+)/([^']+)'", message)
    if choice:
        return config.nearest(choice[2], config.options(choice[1]))
    if not refused:
        return f"See python {config_name}.py --help, and --cfg job for every key."
    key = refused[1]
    groups = [word for word in sys.argv[1:] if re.fullmatch(r"[a-z_/@]+=\w+", word)]
    try:
        with hydra.initialize_config_dir(str(config.CONF), version_base="1.3"):
            cfg = hydra.compose(config_name, [word for word in groups if not word.startswith(f"{key}=")])
    except HydraException:
        return f"See python {config_name}.py --cfg job for every key."
    parent, _, _ = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if not isinstance(node, DictConfig):
        return config.nearest(key, [str(k) for k in cfg])
    return config.nearest(key, [f"{parent}.{k!s}" if parent else str(k) for k in node if not str(k).startswith("_")])
