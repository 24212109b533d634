"""One job: its folder is locked while it runs, and its configuration and any failure are recorded."""

import errno
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from srcolor.cli import overrides
from srcolor.errors import UserError
from srcolor.signals import Stopped


def guarded(main: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Return a function that runs `main` as a job, with the folder locked; see `runs.state`.

    In a sweep, a job that fails does not end the others; a finished job is skipped, and an interrupted one is resumed.
    """

    def job(cfg: DictConfig) -> None:
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        if hydra.mode != RunMode.MULTIRUN:
            if error := _attempt(main, cfg, folder):
                print(f"error: {error}", file=sys.stderr)
                sys.exit(1)  # Hydra would print an exception in its own way
            return
        if (folder / "metrics.json").exists():
            return
        if "resume" in cfg and (folder / "checkpoints" / "last.ckpt").exists():
            cfg.resume = str(folder)
        try:
            if error := _attempt(main, cfg, folder):
                print(f"error: {error}", file=sys.stderr)
        except Exception:
            traceback.print_exc()
        finally:
            from srcolor.analysis import sweeps

            sweeps.write(Path(hydra.sweep.dir))

    job.__module__ = main.__module__
    return job


def _attempt(main: Callable[[DictConfig], None], cfg: DictConfig, folder: Path) -> UserError | None:
    """Call `main` in a run's folder; return an error that the user can fix, and raise any other."""
    if not overrides.is_first():  # the folder is the first process's
        try:
            main(_replay(cfg))
        except Exception as error:
            if problem := _user_error(error, folder):
                return problem
            raise
        return None
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".hydra" / "lock")
    try:
        lock.acquire(timeout=1)  # not 0, as `runs.state` holds it for an instant
    except Timeout:
        return UserError(f"{folder} is in use by another process. Choose another folder with hydra.run.dir=...")
    failed = folder / "error.txt"
    try:
        if cfg.get("resume") is None and overrides.is_used(folder):
            raise UserError(f"{folder} is already used by a run. Choose another folder with hydra.run.dir=...")
        failed.unlink(missing_ok=True)
        cfg = _replay(cfg)
        _record(folder, cfg)
        main(cfg)
    except Stopped as stop:
        stop.folder = folder
        raise
    except Exception as error:
        problem = _user_error(error, folder)
        with suppress(OSError):  # a full disk
            failed.write_text(f"{problem or repr(error)}\n", encoding="utf-8", errors="backslashreplace")
        if problem is None:
            raise
        return problem
    finally:
        lock.release()
    return None


def _replay(cfg: DictConfig) -> DictConfig:
    """Return the configuration to use, and copy its choices and overrides into Hydra's own configuration."""
    name = cfg.get("resume") or cfg.get("ckpt")
    if name is None:
        return cfg
    from srcolor import runs  # imports torch
    from srcolor.cli import replay

    run = runs.folder(name)
    if run is None:
        return cfg
    hydra = cast(DictConfig, HydraConfig.get())
    cfg, choices, args = replay.replay(cfg, run, list(hydra.overrides.task), dict(hydra.runtime.choices))
    with read_write(hydra), open_dict(hydra):
        hydra.runtime.choices.update(choices)
        hydra.overrides.task = args
    return cfg


def _record(folder: Path, cfg: DictConfig) -> None:
    """Write what Hydra records of a job, once the folder is locked.

    The overrides come last: a process that has read them finds the configuration that belongs to them.
    """
    from srcolor.runs import records

    hydra = OmegaConf.masked_copy(cast(DictConfig, HydraConfig.instance().cfg), "hydra")
    for name, content in (("config", cfg), ("hydra", hydra), ("overrides", hydra.hydra.overrides.task)):
        records.write(folder / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(content))


def _user_error(error: Exception, folder: Path) -> UserError | None:
    """Return the `UserError` behind an error; None if it is a bug."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):  # Hydra wraps what a constructor raises
        cause = cause.__cause__
    if cause is not None:
        return cause
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return UserError(
            f"{error.strerror}: {folder}. Free some space, or choose another location with hydra.run.dir=..."
        )
    if isinstance(error, InstantiationException) and not os.environ.get("HYDRA_FULL_ERROR"):
        return UserError(str(error))  # a constructor of another library refused its arguments
    return None
