"""The notebooks, each executed in a clean kernel on tiny runs."""

import json

import nbformat
import pytest
from conftest import ROOT, TINY
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def run(name, parameters):
    """Execute a notebook with other parameters in its first cell; return it with its outputs."""
    (path,) = [path for path in NOTEBOOKS if path.name.startswith(name)]
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    names = {line.split(" = ")[0] for line in notebook.cells[0].source.splitlines() if not line.startswith("#")}
    assert parameters.keys() <= names
    notebook.cells[0].source += "\n" + "".join(f"{key} = {value!r}\n" for key, value in parameters.items())
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    return notebook


def count_outputs(notebook, kind):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum(kind in output.get("data", {}) for output in outputs)


def count_tables(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum("dataframe" in output.get("data", {}).get("text/html", "") for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_the_data_notebook(pictures):
    overrides = ["data=folder", f"data.root={pictures}", "size=32"]
    notebook = run("01", {"OVERRIDES": overrides})
    assert count_outputs(notebook, "image/png") == 4
    assert count_tables(notebook) == 2


def test_the_notebook_of_a_run(tiny_run):
    notebook = run("02", {"RUN": str(tiny_run), "OTHER": str(tiny_run)})
    assert count_outputs(notebook, "image/png") == 5  # curves, against bicubic, best, worst, against the other


def test_the_notebook_of_a_color_run(study_runs):
    assert count_outputs(run("02", {"RUN": str(study_runs["colorize64"])}), "image/png") == 6  # three floors


def test_the_notebook_of_a_run_of_color_codes(codes_run):
    notebook = run("02", {"RUN": str(codes_run)})
    assert count_outputs(notebook, "image/png") == 9  # against three floors, the true code, and samples


def test_the_notebook_of_a_comparison(study_runs, call_compare, tmp_path):
    folder = tmp_path / "compared"
    overrides = [f"colorize={study_runs['colorize64']}", f"sr={study_runs['sr64to128']}", "bootstrap=100"]
    assert call_compare(*overrides, f"hydra.run.dir={folder}") == 0
    assert count_outputs(run("03", {"COMPARISON": str(folder)}), "image/png") == 3


def test_the_notebook_of_a_segmentation_study(segment_run, call_compare, tmp_path):
    for seed in (0, 1):
        overrides = [f"segment={segment_run}", "bootstrap=100", f"seed={seed}"]
        folder = tmp_path / f"seed{seed}" / "comparison"
        assert call_compare("task=segmentation", *overrides, f"hydra.run.dir={folder}") == 0
    seeds, one = run("05", {"STUDY": str(tmp_path)}), run("05", {"STUDY": str(folder)})
    for notebook in (seeds, one):
        assert count_outputs(notebook, "image/png") == 3  # differences, picture, a row of it
        assert count_tables(notebook) == 2
    assert "Means over seeds 0, 1" in str(seeds.cells)
    assert "Given the true mask at 32x32" in str(seeds.cells)
    assert "with the 95% interval" in str(one.cells)


def test_the_notebook_of_a_sweep(pictures, call, tmp_path):
    overrides = ["-m", *TINY, "seed=0,1", "trainer.max_epochs=1", "data=folder", f"data.root={pictures}"]
    assert call(*overrides, f"hydra.sweep.dir={tmp_path / 'sweep'}") == 0
    assert count_outputs(run("04", {"SWEEP": str(tmp_path / "sweep")}), "image/png") == 1


@pytest.mark.parametrize("state", ["failed", "running", "unfinished"])
def test_a_run_that_is_not_done_is_refused(state, tmp_path):
    from filelock import FileLock

    (tmp_path / ".hydra").mkdir()
    if state == "failed":
        (tmp_path / "error.txt").write_text("a reason\n")
    lock = FileLock(tmp_path / ".hydra" / "lock")
    if state == "running":
        lock.acquire()
    try:
        reason = ": a reason" if state == "failed" else ""
        with pytest.raises(CellExecutionError, match=f"{tmp_path} is {state}{reason}. Choose another"):
            run("02", {"RUN": str(tmp_path)})
    finally:
        lock.release()
