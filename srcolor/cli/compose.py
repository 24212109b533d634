"""Composition of the configuration outside the scripts, for notebooks."""

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from srcolor.cli import schema
from srcolor.data.datamodule import ImageDataModule


def datamodule(overrides: Sequence[str]) -> ImageDataModule:
    """Build and set up the datamodule that `train.py` would use.

    Args:
        overrides: Overrides for `train.py`, e.g. `data=folder`.
    """
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        data: ImageDataModule = instantiate(compose("train", list(overrides)).data)
    data.setup()
    return data
