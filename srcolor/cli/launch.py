"""The shared parts of the root scripts: Hydra, signals, exit codes.

Imports no torch, so that `--help` and `--cfg job` are fast.
"""

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from srcolor.cli import hints, job, overrides, schema
from srcolor.errors import UserError, install_extra
from srcolor.signals import Stopped, listen


def run(main: Callable[[DictConfig], None], config_name: str, complete: Callable[[Sequence[str]], list[str]]) -> None:
    """Run a script's main function under Hydra.

    Ctrl-C and SIGTERM end it at any time with exit code 130 or 143 and one line that says how to resume.

    Args:
        main: Takes the composed configuration.
        config_name: Name of the main file in `conf/`.
        complete: Checks and completes the arguments.
    """
    listen()
    schema.register()
    Sweep.folder = None
    try:
        code = _run(main, config_name, complete)
    except Stopped as stop:
        code = 128 + stop.number
        if overrides.is_first():
            print(_how_to_resume(stop.folder), file=sys.stderr)
    if Sweep.folder is not None and (Sweep.folder / "multirun.yaml").exists() and overrides.is_first():
        from srcolor.analysis import sweeps

        sweeps.write(Sweep.folder)
        code = int(sweeps.show(Sweep.folder)) if code == 0 else code
    if code:
        sys.exit(code)


def _run(main: Callable[[DictConfig], None], config_name: str, complete: Callable[[Sequence[str]], list[str]]) -> int:
    """Return the exit code; print errors that the user can fix."""
    try:
        sys.argv[1:] = complete(overrides.quote_homes(sys.argv[1:]))
        if overrides.MULTIRUN & set(sys.argv) and find_spec("pandas") is None:
            raise UserError(f"a sweep requires pandas. Run: {install_extra('sweep')}")
        hydra.main(version_base="1.3", config_path=str(schema.CONF), config_name=config_name)(job.guarded(main))()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SystemExit as end:
        if isinstance(end.__context__, HydraException | OmegaConfBaseException):  # Hydra has printed it
            print(hints.hint(sys.argv[1:], config_name), file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _how_to_resume(folder: Path | None) -> str:
    if Sweep.folder is not None:
        return f"stopped; the same command with hydra.sweep.dir={_typed(Sweep.folder)} resumes the sweep"
    if folder is not None and (folder / "study.db").exists():
        return "stopped; the same command resumes the search"
    if folder is None or not (folder / "checkpoints" / "last.ckpt").exists():
        return "stopped before anything was saved"
    return f"stopped; resume with: python train.py resume={_typed(folder)}"


def _typed(folder: Path) -> str:
    """Return a folder as typed on the command line: relative where possible, and quoted where necessary."""
    name = str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)
    try:
        overrides.parse(f"resume={name}")
    except UserError:
        return overrides.quoted(f"resume={name}").replace("resume=", "", 1)
    return name


def fail(error: UserError) -> NoReturn:
    """Print an error that the user can fix, and exit with code 1."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)


def call(command: list[str]) -> int:
    """Run a root script in a child process; if this process is stopped, stop the child and wait for it.

    The child runs in this process's working directory, so that a relative path means the same in both.

    Args:
        command: Name of the script, and its arguments.

    Returns:
        Its exit code.

    Raises:
        Stopped: If stopped by Ctrl-C or SIGTERM.
    """
    script, *args = command
    process = subprocess.Popen([sys.executable, str(schema.CONF.parent / script), *args])
    try:
        code = process.wait()
    except Stopped as stop:
        process.send_signal(stop.number)
        process.wait()
        raise
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Stopped(code - 128)
    return code


class NewFolder(Callback):
    """Create the time-stamped folder of a run or a sweep before anything is written to it.

    Hydra instantiates it; see `conf/train.yaml`.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Replace `hydra.run.dir` by the name of the new folder."""
        HydraConfig.instance().set_config(config)  # for `${hydra:...}` in the name; Hydra itself does this only later
        OmegaConf.set_readonly(config.hydra, None)
        _claim(config.hydra.run)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Replace `hydra.sweep.dir` by the name of the new folder, also for the jobs, which are composed again."""
        if _claim(config.hydra.sweep):
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={overrides.quote(config.hydra.sweep.dir)}")


def _claim(node: DictConfig) -> bool:
    template = OmegaConf.to_container(node, resolve=False)["dir"]  # type: ignore[call-overload, index]
    if "${now:" not in template or not overrides.is_first():
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
    """Record the folder of a sweep, for the table at its end. Hydra builds it, as `conf/train.yaml` says."""

    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """See the class."""
        Sweep.folder = Path(config.hydra.sweep.dir).absolute()
