"""Export a network to a single file: `srcolor-export --run runs/sr_x2/... --format onnx`."""

import argparse
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch

from srcolor import __version__, hardware, runs
from srcolor.errors import UserError, install_extra
from srcolor.inference import hub_folder
from srcolor.inference.onnx_net import OnnxNet
from srcolor.nets import Net, fused, widest
from srcolor.runs import spandrel_nets, weights

SIZES = (
    (1, 32, 32),
    (1, 64, 48),
    (1, 33, 47),
    (2, 40, 24),
)  # images, height, width of the inputs that ONNX is checked on
TOLERANCE = 1e-4


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of the inference form of a network, see `nets.fused`."""
    inner = {key: plain(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    return inner | getattr(runs.net_class(config), "fused_arguments", {}) if "_target_" in config else inner


def to_safetensors(run: str, file: Path, sharpness: float | None = None) -> None:
    """Write a network as safetensors: EMA weights in inference form, configuration, record of training images.

    Args:
        run: Run or network name; see `runs.find`.
        file: The file to write.
        sharpness: See `runs.load_net`; the file then has both networks.

    Raises:
        UserError: If the network does not exist.
    """
    config = plain(runs.read(runs.checkpoint_file(run))["net_config"])
    if sharpness is not None:
        parts = {"faithful": config, "sharp": config} if "sharp" not in config else config
        config = {**parts, "_target_": "srcolor.nets.blend.Blend", "sharpness": sharpness}
    weights.write(file, config, fused(runs.load_net(run, sharpness)).state_dict(), runs.trained_on(run) or [])


def to_onnx(
    run: str, file: Path, sharpness: float | None = None, metadata: Mapping[str, Any] = MappingProxyType({})
) -> float:
    """Write a network as one ONNX file, in float32, for any number of images of any size, and check it.

    Args:
        run: Run or network name; see `runs.find`.
        file: The file to write.
        sharpness: See `runs.load_net`.
        metadata: Added to the metadata of the file.

    Returns:
        Largest absolute difference from PyTorch's outputs over all input sizes in `SIZES`.

    Raises:
        UserError: If the network does not exist or is external, the outputs differ by more than 1e-4, or the extra is
            not installed.
    """
    if run.startswith(spandrel_nets.PREFIX):
        raise UserError(f"{run}: external networks can be used and tested but not trained further or exported.")
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch.onnx needs it
    except ImportError as error:
        raise UserError(f"{error.name} is not installed. Run: {install_extra('export')}") from None
    net = cast(Net, fused(runs.load_net(run, sharpness)).eval())
    channels = 3 if net.inputs is None else net.inputs
    auto = torch.export.Dim.AUTO
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # about deprecated parts of torch.onnx itself
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            net,
            (torch.rand(2, channels, 40, 24),),
            dynamo=True,
            external_data=False,
            input_names=["image"],
            output_names=["output"],
            dynamic_shapes=({0: auto, 2: auto, 3: auto},),
        )
        assert program is not None
        model = program.model_proto
    graph = model.graph
    for part in (*graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")  # stack traces with paths of this machine
        part.ClearField("doc_string")
    declared = {
        "inputs": channels,
        "outputs": net.outputs or channels,
        "logits": net.logits,
        "scale": net.scale,
        "stride": net.stride,
        "receptive_field": net.receptive_field,
        "widest": widest(net),
        "colors": "gray: BT.601 luma of sRGB" if channels == 1 else "RGB: sRGB",
        "range": [0, 1],
        "version": __version__,
        "run": run,
        **metadata,
    }
    onnx.helper.set_model_props(model, {"srcolor": json.dumps(declared)})
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        onnx.save(model, unfinished)
        exported = OnnxNet(unfinished)
        difference = 0.0
        for images, height, width in SIZES:
            x = torch.rand(images, channels, height, width, generator=torch.Generator().manual_seed(0))
            with torch.inference_mode():
                difference = max(difference, float((exported(x) - net(x)).abs().max()))
        if not difference <= TOLERANCE:
            raise UserError(
                f"{run}: the outputs of ONNX and PyTorch differ by {difference:.2g}, more than {TOLERANCE:g}. The file "
                "was not saved."
            )
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
    return difference


def to_hub(run: str, folder: Path, sharpness: float | None = None) -> None:
    """Write a network as a folder for the Hugging Face Hub; see `hub_folder.write`.

    Args:
        run: Run or network name; see `runs.find`.
        folder: The folder to write; its parent exists, and it does not.
        sharpness: See `to_safetensors`.

    Raises:
        UserError: If the network does not exist.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unfinished-") as unfinished:
        whole = Path(unfinished, "folder")
        whole.mkdir()
        to_safetensors(run, Path(unfinished, "net.safetensors"), sharpness)
        hub_folder.write(run, whole, Path(unfinished, "net.safetensors"))
        whole.rename(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="srcolor-export", description="Export a network to a single file.")
    parser.add_argument("--run", required=True, help="network: a run folder, a checkpoint, latest, srcolor/<name>")
    parser.add_argument(
        "--format", choices=("onnx", "safetensors", "hub"), default="onnx", help="(default: %(default)s)"
    )
    parser.add_argument("--sharpness", type=float, help="of a run with an adversary: export the blend of both networks")
    parser.add_argument(
        "--output", type=Path, help="file to write (default: <name of the run>.<format>); with hub, a folder"
    )
    args = parser.parse_args(arguments)
    hardware.setup()
    file = args.output or Path(f"{Path(args.run).name.replace(':', '-')}.{args.format}")
    try:
        if args.format == "hub" and args.output is None:
            raise UserError("--format hub requires --output, a folder to write")
        if args.format != "hub" and file.suffix != f".{args.format}":
            raise UserError(f"--output {file}: expected a name that ends in .{args.format}")
        if file.exists():
            raise UserError(f"{file} already exists. Choose another file with --output")
        if not file.parent.is_dir():
            raise UserError(f"--output {file}: the folder {file.parent} does not exist.")
        if args.format == "hub":
            to_hub(args.run, file, args.sharpness)
            print(f"{file}: upload it with: hf upload <owner>/<name> {file}")
        elif args.format == "onnx":
            print(f"{file}: differs from PyTorch by at most {to_onnx(args.run, file, args.sharpness):.1e}")
        else:
            to_safetensors(args.run, file, args.sharpness)
            print(file)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
