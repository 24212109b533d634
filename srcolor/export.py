"""Takes a network out of its run: `python -m srcolor.export --run runs/sr_x2/... --output sr_x2.safetensors`."""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from srcolor import runs, weights
from srcolor.errors import UserError
from srcolor.nets import fused


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a network's fused form, see `nets.fused`; of others their own."""
    inner = {key: plain(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    module, _, name = str(config.get("_target_", "")).rpartition(".")
    built = getattr(importlib.import_module(module), name) if module else None
    return inner | getattr(built, "fused_arguments", {})


def to_safetensors(run: str, file: Path) -> None:
    """Writes a network as safetensors: weights (the averaged ones, fused), configuration, what it was trained on.

    Args:
        run: As for `runs.find`.
        file: Where to.

    Raises:
        UserError: There is no such network, or the file is there already.
    """
    if file.exists():
        raise UserError(f"{file} is there already: name another with --output.")
    config = plain(runs.read(runs.checkpoint_file(run))["net_config"])
    weights.write(file, config, fused(runs.load_net(run)).state_dict(), runs.trained_on(run))


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m srcolor.export", description="Takes a network out of its run.")
    parser.add_argument("--run", required=True, help="a run folder, a checkpoint, latest or best:<experiment>")
    parser.add_argument("--output", required=True, type=Path, help="a file ending in .safetensors")
    asked = parser.parse_args(words)
    if asked.output.suffix != ".safetensors":
        parser.error(f"--output {asked.output}: expected a name that ends in .safetensors")
    try:
        to_safetensors(asked.run, asked.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
