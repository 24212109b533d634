"""The recorded configuration of a run that is resumed or tested."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from srcolor import runs
from srcolor.cli import overrides

# Keys that belong to the command, and those that runs of srcolor 0.1 recorded.
COMMAND = ("ckpt", "resume", "init_from", "sharpness", "ensemble")
RETIRED = ("fit", "mode")
ADDED = ("leaks", "speed", "stop_together", "timer")  # callbacks that older runs had outside their configuration


def replay(
    cfg: DictConfig, run: Path, args: Sequence[str], choices: Mapping[str, str]
) -> tuple[DictConfig, dict[str, str], list[str]]:
    """Return the recorded configuration of a run with the given overrides applied.

    The values are the recorded ones, regardless of the current defaults in `conf/`.

    Args:
        cfg: The current configuration, composed from the recorded choices and the given overrides.
        run: The run's folder.
        args: The overrides that `cfg` was composed from.
        choices: The choice of each group in `cfg`.

    Returns:
        The configuration, and its choices and overrides. For a different experiment or a benchmark, `cfg`, `choices`
        and `args` are returned unchanged.
    """
    recorded_choices = cast(dict[str, str], OmegaConf.to_container(runs.choices(run)))
    if choices.get("data") == "benchmark" or choices.get("experiment") != recorded_choices.get("experiment"):
        return cfg, dict(choices), list(args)
    recorded = runs.configuration(run)
    current = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=False))
    if recorded.pop("mode", None) is not None:
        recorded.callbacks.update({name: current["callbacks"][name] for name in ("best", "last")})
    for name in ADDED:
        if name in current["callbacks"] and name not in recorded.callbacks:
            recorded.callbacks[name] = current["callbacks"][name]
    for key in COMMAND:
        recorded.pop(key, None)
    recorded.pop("fit", None)
    for key in current:
        if key not in recorded:
            recorded[key] = current[key]

    changes = [override for override in map(overrides.parse, args) if override.key_or_group not in (*COMMAND, *RETIRED)]
    changes = [o for o in changes if recorded_choices.get(str(o.key_or_group), MISSING) != o.value()]
    for override in sorted(changes, key=lambda o: "." in o.key_or_group):  # groups first
        key = str(override.key_or_group)
        if key in recorded_choices:
            recorded_choices[key] = str(override.value())
        parent, _, last = key.rpartition(".")
        value: Any = current
        for part in key.split("."):
            value = value.get(part, MISSING) if isinstance(value, Mapping) else MISSING
        if value == MISSING and parent:  # ~key
            if isinstance(node := OmegaConf.select(recorded, parent), DictConfig):
                node.pop(last, None)
        else:
            OmegaConf.update(recorded, key, value, merge=False, force_add=True)
    OmegaConf.set_struct(recorded, True)
    changed = {override.key_or_group for override in changes}
    kept = [
        arg for arg in runs.overrides(run) if arg.partition("=")[0].lstrip("+~") not in {*changed, *COMMAND, *RETIRED}
    ]
    return recorded, recorded_choices, [*kept, *(str(override.input_line) for override in changes)]
