"""Write a network as a folder for the Hugging Face Hub: weights, configuration, model card and picture."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from srcolor import __version__, runs
from srcolor.metrics import MEASURES
from srcolor.nets import Net
from srcolor.runs import cards, hub, weights

CARD = """# {name}

{title}

```python
from srcolor import runs

net = runs.load_net("hf:<owner>/<name>")
```

## Training

```
python train.py {overrides}
```

![Test images: the network's input, outputs and targets](test.png)
"""


def write(run: str, folder: Path, safetensors: Path) -> None:
    """Write the files beside the weights.

    Args:
        run: Run or network name; see `runs.find`.
        folder: An existing folder, which gets all files.
        safetensors: The network, a file written by `export.to_safetensors`; it is moved into the folder.

    Raises:
        UserError: If the file is damaged.
    """
    net_config = weights.read(safetensors)["net_config"]
    config = {"library_name": "srcolor", "version": __version__, "net_config": net_config}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    card = cards.file(run)
    text = _generated(run, folder) if card is None else _bundled(card, folder)
    (folder / "README.md").write_text(text, encoding="utf-8")
    safetensors.rename(folder / hub.FILE)


def _bundled(card: Path, folder: Path) -> str:
    """Return the card of a bundled network; copy its pictures, and drop links to other pages."""
    text = card.read_text(encoding="utf-8")
    for picture in re.findall(r"!\[[^]]*\]\(([^)]*)\)", text):
        shutil.copy(card.parent / picture, folder)
        text = text.replace(f"({picture})", f"({Path(picture).name})")
    return re.sub(r"(?<!!)\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", text)


def _generated(run: str, folder: Path) -> str:
    """Return a card of a run's network with its test figures; copy the grid of test images, if there is one."""
    net = cast(Net, runs.load_net(run))
    kind = "super-resolution" if net.scale > 1 else "image-segmentation" if net.logits else "image-colorization"
    if not net.logits and net.scale == 1 and net.inputs != 1:
        kind = "image-restoration"
    pipeline = "image-segmentation" if net.logits else "image-to-image"
    head: dict[str, Any] = {"library_name": "srcolor", "pipeline_tag": pipeline, "tags": [kind, "pytorch"]}
    trained = runs.folder(run)
    name = runs.find(run).stem if trained is None else str(runs.choices(trained).experiment)
    text = CARD.format(
        name=name,
        title=f"A network of srcolor for {kind}, of scale {net.scale}.",
        overrides="" if trained is None else " ".join(_public(runs.overrides(trained))),
    )
    results = None if trained is None else trained / "metrics.json"
    if trained is not None and results is not None and results.is_file():
        test = json.loads(results.read_text(encoding="utf-8"))["test"]
        data = str(runs.choices(trained).data)
        metrics = [
            {"type": key, "name": MEASURES[key].heading, "value": round(value, MEASURES[key].digits)}
            for key, value in test.items()
            if key in MEASURES and value is not None
        ]
        dataset = {"name": data, "type": data}
        result = {"task": {"type": pipeline}, "dataset": dataset, "metrics": metrics}
        head["model-index"] = [{"name": name, "results": [result]}]
    picture = None if trained is None else trained / "samples" / "test.png"
    if picture is not None and picture.is_file():
        shutil.copy(picture, folder)
    else:
        text = text.partition("\n![")[0]
    if trained is None:
        text = text.partition("\n## Training")[0]
    return f"---\n{OmegaConf.to_yaml(head)}---\n\n{text}"


def _public(overrides: list[str]) -> list[str]:
    """Return the overrides of a run without the paths of the computer and the title of the progress bar.

    >>> _public(["experiment=sr_x2", "data.root=/home/me/photos", "callbacks.progress.title=a"])
    ['experiment=sr_x2', 'data.root=<folder>']
    """
    shown = [override for override in overrides if not override.startswith("callbacks.progress.")]
    return [re.sub(r"^((?:\w+\.)*(?:root|cache_dir|dir))=.*", r"\1=<folder>", override) for override in shown]
