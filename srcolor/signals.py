"""Ctrl-C and SIGTERM, which end a command with one line."""

import os
import signal
from pathlib import Path
from typing import Any


class Stopped(BaseException):
    """Ctrl-C or SIGTERM. No `Exception`, so that nothing on the way takes it for an error of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.folder: Path | None = None  # of the run that was stopped


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
