"""One-line hints for keys and choices that do not exist.

Imports no torch.
"""

from collections.abc import Sequence

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from srcolor.cli import schema
from srcolor.errors import UserError, install_extra, nearest

# Keys of lightning-hydra-template, with a condition on the value if srcolor also has the key, and the replacement.
TEMPLATE_HINTS = {
    "model": "use net=... for the network and task=... for what it is trained to do",
    "ckpt_path": "python eval.py ckpt=<run> tests a network, python train.py resume=<run> resumes a run",
    "train": "python train.py trains and tests, python eval.py ckpt=<run> only tests",
    "test": "python train.py always tests the best network, python eval.py ckpt=<run> tests it again",
    "debug": "trainer=debug runs two batches of everything",
    "hparams_search": "python tune.py hparams=sr searches for settings",
    "trainer=gpu": "trainer.accelerator=cuda; the default, auto, already uses the GPU if there is one",
    "task_name": "use hydra.run.dir=runs/<name> to name a run",
    "tags": "use hydra.run.dir=runs/<name> to name a run; runs are distinguished by their recorded settings",
    "paths": "use data.root=... for the image folder and hydra.run.dir=... for the run folder",
}
LAUNCHERS = {
    "joblib": install_extra("sweep"),
    "submitit_local": install_extra("cluster"),
    "submitit_slurm": install_extra("cluster"),
}


def check_template_keys(args: Sequence[str]) -> None:
    """Check for keys of lightning-hydra-template.

    Raises:
        UserError: If there is one; the message names the srcolor key to use instead.
    """
    for arg in args:
        key = arg.lstrip("+~").partition("=")[0]
        hint = TEMPLATE_HINTS.get(arg) or TEMPLATE_HINTS.get(key.partition(".")[0])
        if "=" in arg and not arg.startswith("-") and hint is not None:
            raise UserError(f"{arg} is not a srcolor key. Instead: {hint}.")


def hint(args: Sequence[str], config_name: str) -> str:
    """Return a hint on arguments that Hydra could not compose: the nearest choice or key to the first unknown one.

    Args:
        args: The arguments for Hydra.
        config_name: Name of the main file in `conf/`.
    """
    parser = OverridesParser.create()
    overrides = [parser.parse_override(arg) for arg in args if "=" in arg and not arg.startswith("-")]
    groups = []
    for override in overrides:
        group, choice = str(override.key_or_group), override.value()
        if group == "hydra/launcher":
            return "; ".join(f"hydra/launcher={name} requires {command}" for name, command in LAUNCHERS.items())
        if choices := schema.options(group):
            if isinstance(choice, str) and choice not in choices:
                return nearest(choice, choices)
            groups.append(str(override.input_line))
    try:
        with hydra.initialize_config_dir(str(schema.CONF), version_base="1.3"):
            cfg = hydra.compose(config_name, groups)
    except HydraException:
        return f"See python {config_name}.py --cfg job for every key."
    for override in overrides:
        key = str(override.key_or_group)
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if override.is_hydra_override() or key in map(str.strip, groups) or schema.options(key):
            continue
        if isinstance(node, DictConfig) and last not in node and not override.is_add():
            prefix = f"{parent}." if parent else ""
            return nearest(key, [f"{prefix}{name!s}" for name in node if not str(name).startswith("_")])
    return f"See python {config_name}.py --help, and --cfg job for every key."
