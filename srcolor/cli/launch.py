"""What the root scripts share: Hydra, signals, and errors for people.

Imports no torch, so that `--help` and `--cfg job` answer at once.
"""

import errno
import itertools
import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NoReturn, cast

import hydra
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from srcolor.cli import overrides, schema
from srcolor.errors import UserError, install_extra, nearest
from srcolor.signals import Stopped, listen


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
    schema.register()
    Sweep.folder = None
    try:
        sys.argv[1:] = complete(sys.argv[1:])
        if {"-m", "--multirun"} & set(sys.argv) and find_spec("pandas") is None:
            raise UserError(f"a sweep needs pandas: {install_extra('sweep')}")
        hydra.main(version_base="1.3", config_path=str(schema.CONF), config_name=config_name)(_for_people(main))()
    except UserError as error:
        fail(error)
    except Stopped as stop:
        if not overrides.is_first():  # the first one tells
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


class NewFolder(Callback):
    """Gives a run or a sweep whose folder is named after the time one of its own, before anything is written there.

    Hydra makes one, as `conf/train.yaml` says.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Replace `hydra.run.dir` by the name of the new folder."""
        _claim(config.hydra.run)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Replace `hydra.sweep.dir` by the name of the new folder, also for the jobs, which are composed again."""
        if _claim(config.hydra.sweep):
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={overrides.quote(config.hydra.sweep.dir)}")


def _claim(node: DictConfig) -> bool:
    if "${now:" not in OmegaConf.to_container(node, resolve=False)["dir"] or not overrides.is_first():  # type: ignore[call-overload, index]
        return False
    folder = Path(node.dir)
    for number in itertools.count(2):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # of another process, in the same second
            folder = Path(f"{node.dir}-{number}")
        else:
            break
    node.dir = str(folder)
    return True


class Sweep(Callback):
    """Notes the folder of a sweep, for the report at its end. Hydra makes one, as `conf/train.yaml` says."""

    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """See the class."""
        Sweep.folder = Path(config.hydra.sweep.dir).absolute()

    @classmethod
    def report(cls) -> bool:
        """Writes and shows the sweep's table; answers whether a job is not done."""
        from srcolor.analysis import sweeps

        assert cls.folder is not None
        sweeps.write(cls.folder)
        return sweeps.show(cls.folder)


def call(command: list[str]) -> int:
    """Runs a root script in a process of its own; when it is stopped, or this process, waits for it.

    It runs in this process's working directory, so that a relative path means the same in both.

    Args:
        command: The script's name, and its words.

    Returns:
        Its exit code.

    Raises:
        Stopped: By Ctrl-C or SIGTERM.
    """
    script, *words = command
    process = subprocess.Popen([sys.executable, str(schema.CONF.parent / script), *words])
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
    if folder is None or not (folder / "checkpoints" / "last.ckpt").exists():
        return "stopped before anything was saved"
    return f"stopped; resume with: python train.py resume={_shown(folder)}"


def _shown(folder: Path) -> str:
    """A run's folder as one types it: from here, where it is below, and quoted, where that is needed."""
    name = str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)
    try:
        overrides.parse(f"resume={name}")
    except UserError:
        return overrides.quoted(f"resume={name}").replace("resume=", "", 1)
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
            from srcolor.analysis import sweeps

            sweeps.write(Path(job.sweep.dir))

    wrapped.__module__ = main.__module__
    return wrapped


def _attempt(main: Callable[[DictConfig], None], cfg: DictConfig, folder: Path) -> UserError | None:
    """Calls a script's main function in a run's folder; answers what the user can mend, and raises what they cannot."""
    if not overrides.is_first():  # the folder is the first process's
        try:
            main(_replay(cfg))
        except Exception as error:
            if problem := _for_a_person(error, folder):
                return problem
            raise
        return None
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".hydra" / "lock")
    try:
        lock.acquire(timeout=1)  # not at once, as `runs.state` holds it for an instant
    except Timeout:
        return UserError(f"{folder} is in use by another process. Name another folder with hydra.run.dir=...")
    failed = folder / "error.txt"
    try:
        if ("resume" not in cfg or cfg.resume is None) and overrides.is_used(folder):
            raise UserError(f"{folder} is already used by a run. Name another with hydra.run.dir=...")
        failed.unlink(missing_ok=True)
        cfg = _replay(cfg)
        _record(folder, cfg)
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


def _replay(cfg: DictConfig) -> DictConfig:
    """Return the configuration to use, and put the choices that belong to it into Hydra's own."""
    if "resume" not in cfg:
        return cfg
    job = HydraConfig.get()
    typed = [] if job.mode == RunMode.MULTIRUN else overrides.typed
    cfg, choices = overrides.replay(cfg, typed, dict(job.runtime.choices))
    node = cast(DictConfig, job)
    with read_write(node), open_dict(node):
        node.runtime.choices.update(choices)
    return cfg


def _record(folder: Path, cfg: DictConfig) -> None:
    """Write what Hydra records of a job, in the folder that is this run's own by now.

    The overrides come last: a process that has read them finds the configuration that belongs to them.
    """
    from srcolor.runs import records

    job = OmegaConf.masked_copy(cast(DictConfig, HydraConfig.instance().cfg), "hydra")
    for name, content in (("config", cfg), ("hydra", job), ("overrides", job.hydra.overrides.task)):
        records.write(folder / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(content))


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


def _hint(message: str, config_name: str) -> str:
    """One line after Hydra's own error: the keys nearest to the one that it refused."""
    refused = re.search(r"Could not (?:override|append to config|delete from config)[^']*'([^']+)'", message)
    choice = re.search(r"Could not (?:find|load) '([^/']+)/([^']+)'", message)
    if "'hydra/launcher/" in message:
        return (
            f"Of hydra/launcher, joblib comes with {install_extra('sweep')}, submitit_local and submitit_slurm with "
            f"{install_extra('cluster')}."
        )
    if choice:
        return nearest(choice[2], schema.options(choice[1]))
    if not refused:
        return f"See python {config_name}.py --help, and --cfg job for every key."
    key = refused[1]
    groups = [word for word in sys.argv[1:] if re.fullmatch(r"[a-z_/@]+=\w+", word)]
    try:
        with hydra.initialize_config_dir(str(schema.CONF), version_base="1.3"):
            cfg = hydra.compose(config_name, [word for word in groups if not word.startswith(f"{key}=")])
    except HydraException:
        return f"See python {config_name}.py --cfg job for every key."
    parent, _, _ = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if not isinstance(node, DictConfig):
        return nearest(key, [str(k) for k in cfg])
    return nearest(key, [f"{parent}.{k!s}" if parent else str(k) for k in node if not str(k).startswith("_")])
