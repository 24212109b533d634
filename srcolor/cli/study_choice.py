"""The choice of a study by `task=` of `compare.py`.

Imports no torch.
"""

from collections.abc import Sequence

from srcolor.analysis import studies
from srcolor.errors import UserError

# The keys of compare.py that name runs, by task.
COMPARED = {task: [key.name for key in studies.load(task).keys] for task in studies.STUDIES}


def choose_study(args: Sequence[str]) -> list[str]:
    """Replace `task=` by the group of `compare.py` that has the studies, as Hydra's group `task` is that of `train.py`.

    Args:
        args: The arguments of `compare.py`.

    Raises:
        UserError: If the task has no study, or a key belongs to the study of another task.
    """
    tasks = [arg for arg in args if arg.startswith(("task=", "compare="))]
    task = tasks[-1].partition("=")[2] if tasks else studies.DEFAULT
    if task not in COMPARED:
        raise UserError(f"task={task}: no routes to compare. Expected one of {', '.join(COMPARED)}.")
    keys = {key for arg in args for key, equals, _ in [arg.partition("=")] if equals}
    for other, names in COMPARED.items():
        if foreign := keys & set(names) - set(COMPARED[task]):
            key = min(foreign)
            raise UserError(f"{key}= is a key of task={other}, not of task={task}. Add task={other}, or remove {key}=.")
    return [*(f"compare={task}" for _ in tasks[:1]), *(arg for arg in args if arg not in tasks)]
