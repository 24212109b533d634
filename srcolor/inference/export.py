"""Takes a network out of its run: `srcolor-export --run runs/sr_x2/... --format onnx`."""

import argparse
import contextlib
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from srcolor import __version__, hardware, runs
from srcolor.errors import UserError, install_extra
from srcolor.nets import Net, fused
from srcolor.runs import foreign, weights

SIZES = ((1, 32, 32), (1, 64, 48), (1, 33, 47), (2, 40, 24))  # images, height, width: what ONNX is checked on
CLOSE = 1e-4


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a network's fused form, see `nets.fused`; of others their own."""
    inner = {key: plain(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    return inner | getattr(runs.net_class(config), "fused_arguments", {}) if "_target_" in config else inner


def to_safetensors(run: str, file: Path) -> None:
    """Writes a network as safetensors: weights (the averaged ones, fused), configuration, what it was trained on.

    Args:
        run: As for `runs.find`.
        file: Where to.

    Raises:
        UserError: There is no such network.
    """
    config = plain(runs.read(runs.checkpoint_file(run))["net_config"])
    weights.write(file, config, fused(runs.load_net(run)).state_dict(), runs.trained_on(run) or [])


def to_onnx(run: str, file: Path) -> float:
    """Writes a network as one ONNX file, of any number of images of any size, float32, and checks it.

    Args:
        run: As for `runs.find`.
        file: Where to.

    Returns:
        The largest difference to PyTorch's answers, at the sizes of `SIZES`.

    Raises:
        UserError: There is no such network; the answers differ by more than 1e-4; what this needs is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch.onnx needs it
    except ImportError as error:
        raise UserError(f"{error.name} is missing: {install_extra('export')}") from None
    net = cast(Net, fused(runs.load_net(run)).eval())
    channels = 3 if net.inputs is None else net.inputs
    free = torch.export.Dim.AUTO
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # torch.onnx's, of its own parts
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            net,
            (torch.rand(2, channels, 40, 24),),
            dynamo=True,
            external_data=False,
            input_names=["image"],
            output_names=["answer"],
            dynamic_shapes=({0: free, 2: free, 3: free},),
        )
        assert program is not None
        model = program.model_proto
    told = {
        "inputs": channels,
        "outputs": net.outputs or channels,
        "scale": net.scale,
        "stride": net.stride,
        "receptive_field": net.receptive_field,
        "colours": "gray: BT.601 luma of sRGB" if channels == 1 else "RGB: sRGB",
        "range": [0, 1],
        "version": __version__,
        "run": str(run),
    }
    onnx.helper.set_model_props(model, {"srcolor": json.dumps(told)})
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        onnx.save(model, unfinished)
        made = foreign.Onnx(unfinished)
        worst = 0.0
        for images, height, width in SIZES:
            x = torch.rand(images, channels, height, width, generator=torch.Generator().manual_seed(0))
            with torch.inference_mode():
                worst = max(worst, float((made(x) - net(x)).abs().max()))
        if not worst <= CLOSE:
            raise UserError(
                f"{run}: ONNX's answers differ from PyTorch's by {worst:.2g}, more than {CLOSE:g}: not kept."
            )
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
    return worst


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="srcolor-export", description="Takes a network out of its run.")
    parser.add_argument("--run", required=True, help="a run folder, a checkpoint, latest, srcolor/<name>")
    parser.add_argument("--format", choices=("onnx", "safetensors"), default="onnx", help="%(default)s if not given")
    parser.add_argument("--output", type=Path, help="the file; else <name of the run>.<format>, here")
    asked = parser.parse_args(words)
    hardware.setup()
    file = asked.output or Path(f"{Path(asked.run).name.replace(':', '-')}.{asked.format}")
    try:
        if file.suffix != f".{asked.format}":
            raise UserError(f"--output {file}: expected a name that ends in .{asked.format}")
        if file.exists():
            raise UserError(f"{file} is there already: name another with --output.")
        if not file.parent.is_dir():
            raise UserError(f"--output {file}: there is no folder {file.parent}.")
        if asked.format == "onnx":
            print(f"{file}: differs from PyTorch by {to_onnx(asked.run, file):.1e} at most")
        else:
            to_safetensors(asked.run, file)
            print(file)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
