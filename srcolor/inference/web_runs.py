"""The tab of `srcolor-web` that compares two runs on the same test images."""

import html
from pathlib import Path
from typing import Any

import gradio as gr

from srcolor.errors import UserError
from srcolor.inference.web_server import PRIVATE
from srcolor.metrics import MEASURES
from srcolor.runs import ROOT, side_by_side


def add(tab: gr.Tab) -> None:
    """Add the content of the tab to the page; runs are listed when the tab is opened.

    Args:
        tab: The tab.
    """
    with gr.Row():
        first, second = gr.Dropdown([], label="First run"), gr.Dropdown([], label="Second run")
    with gr.Row():
        measure = gr.Dropdown([], label="Metric")
        order = gr.Radio(list(side_by_side.ORDERS), value=next(iter(side_by_side.ORDERS)), label="Sort by")
    table = gr.Dataframe(headers=["test image", "first", "second", "difference"], interactive=False, max_height=300)
    gallery = gr.Gallery(
        label="Test images: first run above second",
        columns=1,
        height="auto",
        object_fit="contain",
        interactive=False,
        buttons=["fullscreen"],
    )

    def compare(one: str | None, other: str | None, name: str | None, by: str) -> list[Any]:
        """Return the metric, the table and the gallery of two runs."""
        names = [] if one is None or other is None else side_by_side.measures(Path(one), Path(other))
        name = name if name in names else next(iter(names), None)
        metric = gr.Dropdown([(MEASURES[key].heading, key) for key in names], value=name)
        if one is None or other is None or name is None:
            return [metric, [], []]
        try:
            rows = side_by_side.rows(Path(one), Path(other), name, by)
        except UserError as error:
            raise gr.Error(html.escape(str(error)), title="", print_exception=False) from None
        digits = MEASURES[name].digits
        lines = [[r.file, *(f"{value:.{digits}f}" for value in r[1:3]), f"{r.difference:+.{digits}f}"] for r in rows]
        pictures = [(r.picture, " · ".join(line)) for r, line in zip(rows, lines, strict=True) if r.picture is not None]
        return [metric, lines, pictures]

    def start(by: str) -> list[Any]:
        """Return the runs, and the comparison of the first two."""
        names = [str(run) for run in side_by_side.tested(ROOT)]
        one, other, *_ = [*names, None, None]
        return [gr.Dropdown(names, value=one), gr.Dropdown(names, value=other), *compare(one, other, None, by)]

    results = [measure, table, gallery]
    tab.select(start, order, [first, second, *results], **PRIVATE)  # on loading, a closed tab is not there yet
    changes = [first.input, second.input, measure.input, order.input]
    gr.on(changes, compare, [first, second, measure, order], results, **PRIVATE)
