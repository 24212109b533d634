"""How a training run starts: from scratch, from another network's weights, or from its own checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from srcolor.errors import UserError
from srcolor.nets import Net
from srcolor.nets.blend import Blend
from srcolor.runs import spandrel_nets
from srcolor.runs.checkpoints import build_net, initialize, judged, load_weights, read, reference, same_record
from srcolor.runs.names import checkpoint_file


@dataclass(frozen=True)
class Start:
    """The start of a training run.

    Attributes:
        net_config: Configuration of the network, with the references to runs resolved.
        trained_on: Records of the training images of the networks that it starts from.
        checkpoint: The checkpoint to resume; if None, this is a new run.
        state: The content of the checkpoint.
        weights: The network whose weights the new run starts from, and its file; if None, new weights.
    """

    net_config: dict[str, Any]
    trained_on: list[dict[str, Any]]
    checkpoint: Path | None = None
    state: Mapping[str, Any] | None = None
    weights: tuple[nn.Module, Path] | None = None

    def records(self, own_record: dict[str, Any]) -> list[dict[str, Any]]:
        """Return `trained_on`; for a resumed run, without the record of its own images, which it may keep using."""
        return [r for r in self.trained_on if self.state is None or not same_record(r, own_record)]

    def prepare(self, net: nn.Module) -> nn.Module:
        """Load the weights of a new run's network; return the network in training mode.

        Raises:
            UserError: If the weights do not match the network.
        """
        if self.weights is not None:
            weights, file = self.weights
            initialize(net, weights, str(file))
        return net.train()


def start(net_config: Mapping[str, Any], resume: str | None, init_from: str | None) -> Start:
    """Find and read what a training run starts from.

    Args:
        net_config: Configuration of the network, a plain dictionary.
        resume: The run to resume; see `names.find`.
        init_from: The network whose weights a new run starts from.

    Raises:
        UserError: If a file is missing, damaged, or not a srcolor checkpoint.
    """
    if resume is not None:
        file = checkpoint_file(resume, "last")
        state = read(file)
        # The runs that a network was made of may be gone when it is resumed.
        return Start(resolve(net_config, state["net_config"]), list(state.get("trained_on", ())), file, state)
    records = [
        record for name in (init_from, *parts(net_config)) if name is not None for record in _training_records(name)
    ]
    weights = None if init_from is None else (load_net(init_from), checkpoint_file(init_from))
    return Start(resolve(net_config), records, weights=weights)


def _training_records(name: str) -> list[dict[str, Any]]:
    """Return `trained_on` of a network that a training run starts from."""
    records = trained_on(name)
    if records is None:
        raise UserError(f"{name}: external networks can be used and tested but not trained further.")
    return records


def load_net(run: str, sharpness: float | None = None) -> nn.Module:
    """Build a trained network from the best checkpoint of a run, or from a checkpoint file.

    Only networks of `srcolor.nets` are built from the configuration in the file; see `spandrel_nets.load` for
    `spandrel:<file>`.

    Args:
        run: Run or network name; see `find`.
        sharpness: For a run with an adversary: blend the outputs of its pixel-loss network (0) and of its adversarial
            network (1); if None, the adversarial network alone.

    Returns:
        The network in evaluation mode, with its averaged weights if it has any.

    Raises:
        UserError: If the file is missing, damaged, or not a srcolor checkpoint.
    """
    if run.startswith(spandrel_nets.PREFIX):
        if sharpness is not None:
            raise UserError(f"sharpness={sharpness:g}: {run} is an external network, which has no adversarial one.")
        return spandrel_nets.load(Path(run.removeprefix(spandrel_nets.PREFIX)).expanduser()).eval()
    file = checkpoint_file(run)
    checkpoint = read(file)
    net = build_net(checkpoint["net_config"])
    load_weights(net, judged(checkpoint["state_dict"]), str(file))
    if sharpness is not None:
        reference = load_reference(run)
        if reference is None:
            raise UserError(
                f"sharpness={sharpness:g}: {run} has no adversarial network. Use srcolor/sr64to128_gan, or a run of "
                "experiment=sr64to128_gan."
            )
        sharp = net.sharp if isinstance(net, Blend) else net
        net = Blend(cast(Net, reference), cast(Net, sharp), sharpness)
    return net.eval()


def load_reference(run: str) -> nn.Module | None:
    """Build the network that the pixel loss alone had trained before the adversary of a run started.

    Args:
        run: Run or network name; see `find`.

    Returns:
        The network in evaluation mode; None if the run had no adversary.

    Raises:
        UserError: If the file is missing or damaged.
    """
    if run.startswith(spandrel_nets.PREFIX):
        return None
    file = checkpoint_file(run)
    checkpoint = read(file)
    net = build_net(checkpoint["net_config"])
    if isinstance(net, Blend):
        load_weights(net, judged(checkpoint["state_dict"]), str(file))
        return net.faithful.eval()
    weights = reference(checkpoint["state_dict"])
    if weights is None:
        return None
    load_weights(net, weights, str(file))
    return net.eval()


def resolve(config: Mapping[str, Any], resolved: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Replace every reference to a run in a network's configuration by the configuration of that run's network.

    Args:
        config: Configuration of the network, a plain dictionary.
        resolved: The resolved configuration, if available; used instead of runs that may be missing.

    >>> resolve({"_target_": "srcolor.nets.bicubic.Bicubic", "scale": 2})
    {'_target_': 'srcolor.nets.bicubic.Bicubic', 'scale': 2}
    """
    if config.get("_target_") == "srcolor.runs.load_net":
        return read(checkpoint_file(config["run"]))["net_config"] if resolved is None else dict(resolved)
    return {
        key: resolve(value, None if resolved is None else resolved.get(key)) if isinstance(value, Mapping) else value
        for key, value in config.items()
    }


def parts(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the runs that a network's configuration refers to.

    >>> parts({"_target_": "srcolor.nets.chain.Chain", "first": {"_target_": "srcolor.runs.load_net", "run": "latest"}})
    ['latest']
    """
    if config.get("_target_") == "srcolor.runs.load_net":
        return [config["run"]]
    return [run for value in config.values() if isinstance(value, Mapping) for run in parts(value)]


def trained_on(name: str) -> list[dict[str, Any]] | None:
    """Return what a network and its predecessors were trained on; see `ImageDataModule.trained_on`.

    Returns:
        The records of the training images; None for an external network, whose training images are unknown.

    Raises:
        UserError: If its checkpoint has no such record.
    """
    if name.startswith(spandrel_nets.PREFIX):
        return None
    file = checkpoint_file(name)
    records = read(file).get("trained_on")
    if records is None:
        raise UserError(
            f"{file} was written by an older srcolor version that did not record training images. Retrain the network."
        )
    return records
