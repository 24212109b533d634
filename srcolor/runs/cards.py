"""Model cards of the bundled networks, `docs/weights/<name>.md` of a checkout."""

import re
from pathlib import Path

from srcolor import bundled

FOLDER = Path(__file__).parents[2] / "docs" / "weights"


def file(name: str) -> Path | None:
    """Return the card of a network; None if it is not bundled, or this is not a checkout."""
    card = FOLDER / f"{name.removeprefix(bundled.PREFIX)}.md"
    return card if name.startswith(bundled.PREFIX) and card.is_file() else None


def purpose(name: str) -> str:
    """Return the paragraph of a network's card on what it is for and not for, without links; empty if it has none."""
    card = file(name)
    text = "" if card is None else card.read_text(encoding="utf-8")
    paragraph = re.search(r"^\*\*For\*\* .*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)
    return (
        "" if paragraph is None else " ".join(re.sub(r"\[([^]]*)\]\([^)]*\)| \(below\)", r"\1", paragraph[0]).split())
    )
