"""The tab of `srcolor-web` for photographs: settings, jobs, and their results."""

import html
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from srcolor.errors import UserError
from srcolor.inference import choices, colorings, web_jobs
from srcolor.inference.image_files import SUFFIXES
from srcolor.inference.web_server import PRIVATE
from srcolor.runs import cards

SAMPLES = 8
PICK = "Click a coloring to apply it to the photograph at full size."
HINT = "Photographs stay on this computer: nothing is sent to another one."
PROGRESS = gr.Progress()


def add(networks: dict[str, list[str]], folder: Path, max_megapixels: float) -> None:
    """Add the tab to the page.

    Args:
        networks: Names of the networks by task, see `web_jobs.networks`.
        folder: Folder of the results of running jobs, and of the examples.
        max_megapixels: See `srcolor-predict`.
    """
    canceled: set[str | None] = set()  # sessions whose job is to stop
    with gr.Row():
        with gr.Column():
            files = gr.File(label="Photographs", file_count="multiple", file_types=list(SUFFIXES), height=140)
            with gr.Row():
                for example in web_jobs.examples(folder):
                    button = gr.Button(f"Example: {example.stem}", size="sm")
                    button.click(partial(list, [str(example)]), None, files, **PRIVATE)
            labels = [(task.label, key) for key, task in web_jobs.TASKS.items()]
            task = gr.Radio(labels, value="enlarge", label="Task")
            network = gr.Dropdown(networks["enlarge"], label="Network")
            card = gr.Markdown(cards.purpose(networks["enlarge"][0]))
            scale = gr.Number(2, label="Factor", minimum=1.1, maximum=4)
            contrast = gr.Checkbox(False, label="Stretch the contrast if faded", visible=False)
            sharpness = gr.Slider(0, 1, 0.5, label="Sharpness: 0 is faithful, 1 invents detail", visible=False)
            with gr.Group(visible=False) as color:
                size = gr.Textbox(label="Render size in pixels", placeholder="the network's own", max_length=5)
                saturation = gr.Slider(0, 2, 1, label="Saturation")
                tint = gr.Radio([("As predicted", ""), *choices.TINTS], value="", label="Tint")
                temperature = gr.Slider(0, 3, choices.DEFAULT_TEMPERATURE, label="Variety of the eight colorings")
                show = gr.Button("Show eight colorings")
            with gr.Row():
                go = gr.Button("Go", variant="primary")
                cancel = gr.Button("Cancel", variant="stop", interactive=False)
        with gr.Column():
            slider = gr.ImageSlider(label="Before and after", type="pil", interactive=False, buttons=["fullscreen"])
            note = gr.Markdown(HINT)
            download = gr.DownloadButton("Download", interactive=False)
            gallery = gr.Gallery(
                label="Colorings: click one to apply it",
                columns=4,
                height="auto",
                allow_preview=False,
                visible=False,
                interactive=False,
            )
    inputs = {files, task, network, scale, contrast, sharpness, size, saturation, tint, temperature}

    def command(values: dict[Any, Any]) -> list[str]:
        """Return the arguments of srcolor-predict for the settings on the page."""
        mode, names = web_jobs.TASKS[values[task]].mode, networks[values[task]]
        run = values[network] if values[network] in names else names[0]  # the page may not have its choices yet
        arguments = ["--mode", mode, "--run", run, "--max-megapixels", f"{max_megapixels:g}"]
        if mode != "colorize":
            arguments += ["--scale", f"{values[scale]:g}"]
        arguments += ["--autocontrast"] if mode == "restore" and values[contrast] else []
        if values[task] == "sharpen":
            arguments += ["--sharpness", f"{values[sharpness]:g}"]
        if mode != "upscale":
            arguments += ["--saturation", f"{values[saturation]:g}"]
            arguments += [f"--render-size={values[size].strip()}"] if values[size].strip() else []
            arguments += ["--tint", values[tint]] if values[tint] else []
        return arguments

    def results(
        arguments: list[str], values: dict[Any, Any], request: gr.Request, progress: gr.Progress
    ) -> Iterator[web_jobs.Results]:
        """Yield the results of a command; they are deleted as soon as the page has them."""
        uploads = values[files] or []

        def advance(fraction: float, line: str) -> None:
            if request.session_hash in canceled:
                raise web_jobs.Canceled
            progress(fraction, desc=line)

        with tempfile.TemporaryDirectory(dir=folder) as output:
            try:
                if not uploads:
                    raise UserError("Choose a photograph first.")
                yield web_jobs.run([*command(values), *arguments, "-o", output, "--", *uploads], advance)
            except web_jobs.Canceled:
                raise gr.Error("Canceled.", title="", print_exception=False, duration=3) from None
            except (UserError, OSError) as error:
                words = str(error)
                for upload in uploads:
                    words = words.replace(str(Path(upload).parent) + os.sep, "")
                raise gr.Error(html.escape(words), title="", print_exception=False, duration=None) from None

    def predict(
        values: dict[Any, Any], request: gr.Request, progress: gr.Progress = PROGRESS, pick: Sequence[str] = ()
    ) -> Iterator[Any]:
        for done in results(list(pick), values, request, progress):
            file = gr.DownloadButton(f"Download {done.file().name}", value=str(done.file()), interactive=True)
            yield web_jobs.previews(*done.pairs[0]), file, done.summary()

    def sample(values: dict[Any, Any], request: gr.Request, progress: gr.Progress = PROGRESS) -> Iterator[Any]:
        values = {**values, files: (values[files] or [])[:1]}
        arguments = ["--samples", str(SAMPLES), "--temperature", f"{values[temperature]:g}"]
        for done in results(arguments, values, request, progress):
            with Image.open(done.pairs[0][1]) as sheet:
                cells = colorings.cells(sheet.convert("RGB"), SAMPLES)
            yield gr.Gallery(cells, visible=True), PICK

    def pick(
        values: dict[Any, Any], event: gr.SelectData, request: gr.Request, progress: gr.Progress = PROGRESS
    ) -> Iterator[Any]:
        arguments = ["--pick", str(event.index + 1), "--temperature", f"{values[temperature]:g}"]
        yield from predict(values, request, progress, arguments)

    def choose(task: str) -> list[Any]:
        """Return the network and the settings of a task."""
        colorizes = web_jobs.TASKS[task].mode != "upscale"
        return [
            gr.Dropdown(networks[task], value=networks[task][0]),
            gr.Number(visible=task != "colorize"),
            gr.Checkbox(visible=task == "restore"),
            gr.Slider(visible=task == "sharpen"),
            gr.Group(visible=colorizes),
            gr.Button(visible=task == "colorize"),
            gr.Gallery(visible=False),
            cards.purpose(networks[task][0]),
        ]

    def stop(request: gr.Request) -> None:
        canceled.add(request.session_hash)

    def end(request: gr.Request) -> gr.Button:
        canceled.discard(request.session_hash)
        return gr.Button(interactive=False)

    def ask(event: Any, function: Any, outputs: list[Any]) -> None:
        """Make an event start a job; one runs at a time, whoever asked."""
        event(lambda: gr.Button(interactive=True), None, cancel, queue=False, **PRIVATE)
        job = event(
            function,
            inputs,
            outputs,
            concurrency_id="job",
            concurrency_limit=1,
            show_progress_on=note,
            **PRIVATE,
        )
        job.then(end, None, cancel, queue=False, **PRIVATE)

    task.change(choose, task, [network, scale, contrast, sharpness, color, show, gallery, card], **PRIVATE)
    network.input(cards.purpose, network, card, **PRIVATE)
    ask(go.click, predict, [slider, download, note])
    ask(show.click, sample, [gallery, note])
    ask(gallery.select, pick, [slider, download, note])
    cancel.click(stop, None, None, queue=False, **PRIVATE)
