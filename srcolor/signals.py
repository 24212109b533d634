"""Ctrl-C and SIGTERM, which end a command with one line."""

import os
import signal
from pathlib import Path
from typing import Any


class Stopped(BaseException):
    """Ctrl-C or SIGTERM. Not an `Exception`, so that error handlers do not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.folder: Path | None = None  # folder of the stopped run


def listen() -> None:
    """Make the first Ctrl-C or SIGTERM raise `Stopped`, and the second end the process."""
    main_process = os.getpid()
    received: list[int] = []

    def stop(number: int, frame: Any) -> None:
        if os.getpid() != main_process:  # a data loader's worker, which ends by itself
            raise KeyboardInterrupt
        if received:  # Python discarded `Stopped`, or the cleanup hangs
            end_process(number)
        received.append(number)
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def end_process(number: int) -> None:
    """End this process by a signal's default action."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
