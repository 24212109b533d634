"""Several root folders of one source: the check that they are separate, and the prefixes of their files' names."""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path, PurePath

from srcolor.errors import UserError


def check_separate(folders: Sequence[Path]) -> None:
    """Check that no folder is listed twice or inside another, also through symbolic links.

    Raises:
        UserError: If one is.
    """
    resolved = [(folder, folder.resolve()) for folder in folders]
    for (one, path), (other, other_path) in permutations(resolved, 2):
        if path.is_relative_to(other_path):
            relation = "is the same folder as" if path == other_path else "is inside"
            raise UserError(f"data.root: {one} {relation} {other}: expected separate folders. Remove one of them.")


def prefixes(folders: Sequence[Path]) -> list[str]:
    """Return what the names of the files in each folder start with: nothing for a single folder.

    For several, it is the name of the folder; if names are equal, with as many of the folders above as they need to
    differ.

    Args:
        folders: Absolute paths of separate folders.

    >>> prefixes([Path("/data/faces")])
    ['']
    >>> prefixes([Path("/data/faces"), Path("/data/faces_more")])
    ['faces/', 'faces_more/']
    >>> prefixes([Path("/one/faces"), Path("/two/faces")])
    ['one/faces/', 'two/faces/']
    """
    if len(folders) == 1:
        return [""]
    parts = [(folder.resolve() if ".." in folder.parts else folder).parts[1:] for folder in folders]
    ends: list[PurePath] = []
    for length in range(1, max(map(len, parts)) + 1):
        ends = [PurePath(*part[-length:]) for part in parts]
        if not any(end.is_relative_to(other) for end, other in permutations(ends, 2)):
            break
    return [f"{end.as_posix()}/" for end in ends]
