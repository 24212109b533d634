"""How the commands for photographs begin and end: signals are listened to before PyTorch's slow import."""

import importlib.util
import os
import sys
from typing import NoReturn

from srcolor import signals
from srcolor.errors import install_extra


def predict() -> NoReturn:
    """The command `srcolor-predict`."""
    _run("srcolor.inference.predict")


def export() -> NoReturn:
    """The command `srcolor-export`."""
    _run("srcolor.inference.export")


def web() -> NoReturn:
    """The command `srcolor-web`."""
    if importlib.util.find_spec("gradio") is None:
        print(f"error: gradio is not installed. Run: {install_extra('web')}", file=sys.stderr)
        sys.exit(1)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
    _run("srcolor.inference.web")


def _run(module: str) -> NoReturn:
    signals.listen()
    try:
        code = importlib.import_module(module).main()
        sys.stdout.flush()
    except signals.Stopped as stop:
        print("stopped; completed results are kept, and the same command resumes with the rest", file=sys.stderr)
        code = 128 + stop.number
    except OSError as error:  # from standard output: it is full, or its reader is gone
        if not isinstance(error, BrokenPipeError):
            print(f"error: {error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
