"""How data sets are fetched: complete under their final name, or not at all, and repeated cleanly."""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torchvision.datasets.utils import extract_archive

from srcolor.data.locks import locked
from srcolor.errors import UserError

log = logging.getLogger(__name__)


def fetch(folder: Path, download: Callable[[Path], None]) -> None:
    """Download a data set unless it is there.

    It comes to rest under another name beside its folder, and is renamed when complete. What a killed
    download left is thrown away. Processes that need the same data set at once wait for the one that downloads it.

    Args:
        folder: Where the data set belongs.
        download: Fetches it and unpacks it; must leave a folder of the data set's name in the folder it is
            given.

    Raises:
        UserError: The download failed.
    """
    if folder.is_dir():
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    try:
        with locked(folder):
            if folder.is_dir():  # another process has downloaded it meanwhile
                return
            shutil.rmtree(unfinished, ignore_errors=True)
            log.info("Downloading %s to %s", folder.name, folder)
            try:
                unfinished.mkdir()
                download(unfinished)
                os.replace(unfinished / folder.name, folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except Exception as error:  # torchvision, gdown and the network each raise their own
        raise UserError(
            f"cannot download {folder.name}: {error}. It needs the network, once; or put the unpacked data set at "
            f"{folder}."
        ) from error


def download_archive(url: str, sha256: str, folder: Path) -> None:
    """Downloads an archive with a progress bar, checks and unpacks it, and removes it.

    Args:
        url: Where it is; the last part of its path is its name, unless a server hides it.
        sha256: Its checksum.
        folder: Where it is unpacked.

    Raises:
        OSError: It cannot be reached or written.
        RuntimeError: The checksum is another.
    """
    archive = folder / "archive.tgz"
    torch.hub.download_url_to_file(url, str(archive))
    with open(archive, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise RuntimeError(f"{url} has SHA-256 {digest}, expected {sha256}")
    extract_archive(str(archive), str(folder))
    archive.unlink()
