"""Studies: for each task, the routes that `compare.py` compares and the runs that `study.py` trains.

Imports no torch, so that `--help` and `--cfg job` are fast.
"""

import importlib

from srcolor.analysis.studies.base import Study

# The class of each task's study; a task has the name of its file in conf/task/.
STUDIES = {
    "colorization": "srcolor.analysis.studies.color.ColorStudy",
    "segmentation": "srcolor.analysis.studies.segmentation.SegmentationStudy",
}
DEFAULT = "colorization"


def load(task: str) -> Study:
    """Build the study of a task."""
    module, _, name = STUDIES[task].rpartition(".")
    study: Study = getattr(importlib.import_module(module), name)()
    return study
