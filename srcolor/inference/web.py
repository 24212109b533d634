"""A page in the browser, on this computer, to enlarge and colorize photographs: `srcolor-web`."""

import argparse
import os
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import gradio as gr

from srcolor import __version__, hardware, signals
from srcolor.errors import UserError
from srcolor.inference import web_jobs, web_photos, web_runs, web_server


def page(networks: dict[str, list[str]], folder: Path, max_megapixels: float) -> gr.Blocks:
    """Return the page; see `web_photos.add` for the arguments."""
    with web_server.blocks() as blocks:
        gr.Markdown("# srcolor")
        with gr.Tab("Your photographs"):
            web_photos.add(networks, folder, max_megapixels)
        with gr.Tab("Compare two runs") as tab:
            web_runs.add(tab)
    return blocks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command until Ctrl-C.

    Returns:
        The exit code: 0; 2 if the command is invalid.
    """
    parser = argparse.ArgumentParser(prog="srcolor-web", description="Open a page that enlarges and colorizes images.")
    add = parser.add_argument
    add("--run", action="append", default=[], help="network to offer too, named as in srcolor-predict; repeatable")
    add("--port", type=int, help="(default: the first free one from 7860)")
    add(
        "--host", default=web_server.LOOPBACK[0], help="address to listen on (default: %(default)s, this computer only)"
    )
    add("--max-megapixels", type=float, default=250, help="refuse larger images (default: %(default)s)")
    add("--no-browser", action="store_true", help="print the address, and do not open it")
    add("--version", action="version", version=__version__)
    args = parser.parse_args(arguments)
    hardware.setup()
    if args.host not in web_server.LOOPBACK:
        print(f"warning: everybody who reaches {args.host} can use this page; there is no password", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="srcolor-web-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder, "uploads"))
        try:
            blocks = page(web_jobs.networks(args.run), Path(folder), args.max_megapixels)
            address = web_server.launch(blocks, args.host, args.port)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except OSError:
            print(f"error: {args.host}: no free port there. Choose another with --port", file=sys.stderr)
            return 2
        print(f"{address} (Ctrl-C ends it)", flush=True)
        if not args.no_browser:
            webbrowser.open(address)
        with suppress(signals.Stopped, KeyboardInterrupt):
            threading.Event().wait()  # closing the server would wait for open pages; its threads end with the process
    return 0
