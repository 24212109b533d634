"""How `srcolor-web` serves its page: to this computer only, without uploads, telemetry or history."""

from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

LOOPBACK = ("127.0.0.1", "localhost")
UPLOAD = "300mb"  # maximum size of a file
PRIVATE: dict[str, Any] = {"api_visibility": "private"}  # of an event: not a public endpoint
ANY = ("0.0.0.0", "::")


def blocks() -> gr.Blocks:
    """Return an empty page; files on it are deleted after an hour."""
    return gr.Blocks(title="srcolor", analytics_enabled=False, delete_cache=(600, 3600))


def launch(page: gr.Blocks, host: str, port: int | None) -> str:
    """Serve a page in a thread, and return its address.

    Gradio's defaults are overridden here, so that environment variables have no effect.

    Args:
        page: The page.
        host: Address to listen on; other names in a request's `Host` are refused, unless this is any address.
        port: The port; if None, the first free one from 7860.

    Raises:
        OSError: If the port is not free.
    """
    hosts = ["*"] if host in ANY else [host, *LOOPBACK]  # against names that are rebound to this computer
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # Gradio's are on the web
    dark = "*primary_700"  # white on Gradio's orange has a contrast of 2.8
    theme.set(color_accent=dark, button_primary_background_fill=dark, button_primary_background_fill_dark=dark)
    _, address, _ = page.queue(max_size=8, api_open=False).launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        max_file_size=UPLOAD,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=hosts)]},
    )
    return address
