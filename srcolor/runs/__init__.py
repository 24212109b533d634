"""Runs on the disk: how they are named, found and loaded.

A run is one folder: `.hydra/` (its configuration), `checkpoints/best.ckpt` and `last.ckpt`, `metrics.json`,
`per_image.csv`, `split.csv`, `samples/*.png` and TensorBoard's events.
"""

from srcolor.runs.checkpoints import (
    best_score,
    build_net,
    initialize,
    judged,
    load_weights,
    net_class,
    read,
    same_record,
)
from srcolor.runs.names import (
    checkpoint_file,
    data_settings,
    find,
    folder,
    full_name,
    shrink,
    target_side,
    train_figures,
    validated,
)
from srcolor.runs.run_folder import (
    ROOT,
    STATES,
    choices,
    configuration,
    higher_is_better,
    overrides,
    record_settings,
    state,
)
from srcolor.runs.starting import Start, load_net, load_reference, parts, resolve, start, trained_on

__all__ = [
    "ROOT",
    "STATES",
    "Start",
    "best_score",
    "build_net",
    "checkpoint_file",
    "choices",
    "configuration",
    "data_settings",
    "find",
    "folder",
    "full_name",
    "higher_is_better",
    "initialize",
    "judged",
    "load_net",
    "load_reference",
    "load_weights",
    "net_class",
    "overrides",
    "parts",
    "read",
    "record_settings",
    "resolve",
    "same_record",
    "shrink",
    "start",
    "state",
    "target_side",
    "train_figures",
    "trained_on",
    "validated",
]
