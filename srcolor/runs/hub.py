"""Networks of the Hugging Face Hub, named `hf:<owner>/<name>[@revision]`; see `weights` for their files."""

import re
import sys
from functools import cache
from pathlib import Path

from srcolor.errors import UserError, install_extra

PREFIX = "hf:"
FILE = "model.safetensors"
NAME = re.compile(r"hf:([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")


@cache
def find(name: str) -> Path:
    """Return the file of a network on the Hub, downloaded if it is not in Hugging Face's cache.

    Only its safetensors file is read, and only networks of `srcolor.nets` are built from it. The commit is printed to
    standard error: append it to the name, after `@`, to get the same network again.

    Args:
        name: `hf:<owner>/<name>`, with `@` and a branch, tag or commit unless the default branch is meant.

    Raises:
        UserError: If the name is invalid, the repository, revision or file does not exist, the Hub cannot be reached,
            or the extra is not installed.
    """
    parts = NAME.fullmatch(name)
    if parts is None:
        raise UserError(f"{name}: expected hf:<owner>/<name>, or hf:<owner>/<name>@<revision>.")
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise UserError(f"{error.name} is not installed. Run: {install_extra('hub')}") from None
    repository, revision = parts[1], parts[2]
    try:
        file = Path(hf_hub_download(repository, FILE, revision=revision))
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{name}: no such repository on the Hub, or it is private. Log in with: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{name}: the repository has no branch, tag or commit {revision}.") from None
    except errors.RemoteEntryNotFoundError:
        raise UserError(f"{name}: the repository has no {FILE}, so it is not a network of srcolor.") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError):
        raise UserError(
            f"{name}: the Hub cannot be reached, and the network is not in the cache. Are you online?"
        ) from None
    print(f"{name}: commit {file.parent.name}", file=sys.stderr)
    return file
