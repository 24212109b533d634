"""The networks bundled with srcolor: names, files and their hashes. Imports no torch."""

import hashlib
import json
from pathlib import Path

from srcolor.errors import UserError

FOLDER = Path(__file__).parent / "runs" / "reference"
HASHES = FOLDER / "hashes.json"  # SHA-256 of each file
PREFIX = "srcolor/"


def names() -> list[str]:
    """Return the names of the bundled networks, without the prefix."""
    return sorted({Path(file).stem for file in _hashes()})


def find(name: str, suffix: str = ".safetensors") -> Path:
    """Return a file of a bundled network.

    Args:
        name: Name of the network, with the prefix `srcolor/`.
        suffix: `.safetensors`, or `.onnx` for networks that have it, see `has_onnx`.

    Raises:
        UserError: If there is no network of this name, or its file is missing or damaged.
    """
    short = name.removeprefix(PREFIX)
    if short not in names():
        raise UserError(f"{name}: no such bundled network. Available: {', '.join(PREFIX + n for n in names())}.")
    file = FOLDER / f"{short}{suffix}"
    if not file.exists():
        raise UserError(f"{name}: its file is missing: {file}. Reinstall srcolor.")
    expected = _hashes()[file.name]
    if sha256(file) != expected:
        raise UserError(f"{name}: {file} is damaged: its SHA-256 is not {expected}. Reinstall srcolor.")
    return file


def has_onnx(name: str) -> bool:
    """Return whether a name is that of a bundled network with an ONNX file."""
    return name.startswith(PREFIX) and f"{name.removeprefix(PREFIX)}.onnx" in _hashes()


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _hashes() -> dict[str, str]:
    hashes: dict[str, str] = json.loads(HASHES.read_text(encoding="utf-8"))
    return hashes
