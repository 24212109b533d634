"""What the root scripts share: from the words of a command line to Hydra, and errors for people.

Imports no torch, so that `--help` and `--cfg job` answer at once.
"""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import hydra
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
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
    Sweep.folder = None
    try:
        sys.argv[1:] = complete(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(config.CONF), config_name=config_name)(_for_people(main))()
    except UserError as error:
        fail(error)
    except Stopped as stop:
        if not is_first():  # the first one tells
            sys.exit(128 + stop.number)
        if Sweep.folder is not None:
            Sweep.report()
            again = f"hydra.sweep.dir={_shown(Sweep.folder)}"
            print(f"stopped; the same command with {again} does what is missing", file=sys.stderr)
        else:
            print(_how_to_go_on(stop.folder), file=sys.stderr)
        sys.exit(128 + stop.number)
    except Told:
        raise
    except SystemExit as end:
        if Sweep.folder is not None and (Sweep.folder / "multirun.yaml").exists():  # a launcher failed
            Sweep.report()
        if isinstance(end.__context__, HydraException | OmegaConfBaseException):
            print(_hint(str(end.__context__), config_name), file=sys.stderr)
        raise
    if Sweep.folder is not None and Sweep.report():
        sys.exit(1)


class Sweep(Callback):
    """Notes the folder of a sweep, for the report at its end. Hydra makes one, as `conf/train.yaml` says."""

    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """See the class."""
        Sweep.folder = Path(config.hydra.sweep.dir).absolute()

    @classmethod
    def report(cls) -> bool:
        """Writes and shows the sweep's table; answers whether a job is not done."""
        from srcolor import sweeps

        assert cls.folder is not None
        sweeps.write(cls.folder)
        return sweeps.show(cls.folder)


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


def is_first() -> bool:
    """Whether this process, of those that train one network together, is the one that writes; alone, it is."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # of torchrun, Lightning and SLURM
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def call(command: list[str]) -> int:
    """Runs a root script in a process of its own; when it is stopped, or this process, waits for it.

    Args:
        command: The script's name, and its words.

    Returns:
        Its exit code.

    Raises:
        Stopped: By Ctrl-C or SIGTERM.
    """
    process = subprocess.Popen([sys.executable, *command], cwd=config.CONF.parent)
    try:
        code = process.wait()
    except Stopped as stop:
        process.send_signal(stop.number)
        process.wait()
        raise
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Stopped(code - 128)
    return code


def _how_to_go_on(folder: Path | None) -> str:
    if folder is not None and (folder / "study.db").exists():
        return "stopped; the same command goes on with the search"
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
    """Makes the folder the run's own while it is at work, and keeps on record why it failed; see `runs.state`.

    A job of a sweep that fails does not end the others; one that was done before is not done again, and one that
    was interrupted goes on.
    """

    def wrapped(cfg: DictConfig) -> None:
        job = HydraConfig.get()
        folder = Path(job.runtime.output_dir)
        if job.mode != RunMode.MULTIRUN:
            if problem := _attempt(main, cfg, folder):
                fail(problem)
            return
        if (folder / "metrics.json").exists():
            return
        if (folder / "checkpoints" / "last.ckpt").exists():
            cfg.resume = str(folder)
        try:
            if problem := _attempt(main, cfg, folder):
                print(f"error: {problem}", file=sys.stderr)
        except Exception:
            traceback.print_exc()
        finally:
            from srcolor import sweeps

            sweeps.write(Path(job.sweep.dir))

    wrapped.__module__ = main.__module__
    return wrapped


def _attempt(main: Callable[[DictConfig], None], cfg: DictConfig, folder: Path) -> UserError | None:
    """Calls a script's main function in a run's folder; answers what the user can mend, and raises what they cannot."""
    if not is_first():  # the folder is the first process's
        try:
            main(cfg)
        except Exception as error:
            if problem := _for_a_person(error, folder):
                return problem
            raise
        return None
    lock = FileLock(folder / ".hydra" / "lock")
    try:
        lock.acquire(timeout=1)  # not at once, as `runs.state` holds it for an instant
    except Timeout:
        return UserError(f"{folder} is in use by another process. Name another folder with hydra.run.dir=...")
    failed = folder / "error.txt"
    try:
        failed.unlink(missing_ok=True)
        main(cfg)
    except Stopped as stop:
        stop.folder = folder
        raise
    except Exception as error:
        problem = _for_a_person(error, folder)
        with suppress(OSError):  # a full disk
            failed.write_text(f"{problem or repr(error)}\n", encoding="utf-8", errors="backslashreplace")
        if problem is None:
            raise
        return problem
    finally:
        lock.release()
    return None


def _for_a_person(error: Exception, folder: Path) -> UserError | None:
    """What of an error its user can mend; None if it is a defect."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):  # Hydra wraps what a constructor raises
        cause = cause.__cause__
    if cause is not None:
        return cause
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return UserError(f"{error.strerror}: {folder}. Make room, or name another place: hydra.run.dir=...")
    if isinstance(error, InstantiationException) and not os.environ.get("HYDRA_FULL_ERROR"):
        # A constructor that is not ours refused its arguments.
        key = re.search(r"full_key: (\S+)", str(error))
        return UserError(f"{key[1] if key else 'configuration'}: {error.__cause__ or error}")
    return None


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
        words = _benchmark(words, str(given["ckpt"]), set(given))
        overrides = {word: parse(word) for word in words if "=" in word and not word.startswith("-")}
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


def _benchmark(words: Sequence[str], name: str, typed: set[Any]) -> list[str]:
    """Puts the benchmark's experiment in place of the run's own: of its settings the scale alone counts."""
    from srcolor import runs  # imports torch

    run = runs.folder(name)
    scale = [] if run is None or "scale" in typed else [f"scale={runs.configuration(run).scale}"]
    return [*([] if "experiment" in typed else ["experiment=_benchmark"]), *scale, *words]


def _look_up(words: Sequence[str], overrides: dict[str, Override]) -> tuple[list[str], dict[str, Override]]:
    """Puts paths in place of names of runs that a network starts from: `latest` may be another one in the next job."""
    found = {}
    for word, override in overrides.items():
        key, names_run = str(override.key_or_group), r"init_from|net(\.\w+)*\.run"
        if re.fullmatch(names_run, key) and not override.is_sweep_override() and isinstance(override.value(), str):
            from srcolor import runs  # imports torch

            found[word] = f"{key}={quote(str(runs.find(str(override.value())).absolute()))}"
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
                f"{word}: several values. To run each, add -m. If it is one value, quote it:\n  {_quoted(word)}"
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


def _refuse_used(folder: Any) -> None:
    """Before Hydra writes its own files there. A folder in which a run ended before it had saved anything is free."""
    if folder is None:
        return
    run = Path(str(folder))
    used = any((run / file).exists() for file in ("checkpoints/last.ckpt", "metrics.json", "comparison.json"))
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
    if "'hydra/launcher/" in message:
        extras = "joblib comes with pip install -e '.[sweep]', submitit_local and submitit_slurm with '.[cluster]'"
        return f"Of hydra/launcher, {extras}."
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
