"""Atomic and restartable downloads of data sets."""

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
    """Download a data set unless it exists.

    It is unpacked under a temporary name next to its folder, and renamed when complete. Leftovers of a killed download
    are removed. If multiple processes need the same data set, one downloads it and the others wait.

    Args:
        folder: Final folder of the data set.
        download: Downloads and unpacks it; must create a folder of the data set's name in the folder passed to it.

    Raises:
        UserError: If the download fails.
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
    except Exception as error:  # torchvision, gdown and the network raise errors of many types
        raise UserError(
            f"cannot download {folder.name}: {error}. The first use requires a network connection. "
            f"Alternatively, put the unpacked data set in {folder}."
        ) from error


def download_archive(url: str, sha256: str, folder: Path) -> None:
    """Download an archive with a progress bar, verify and unpack it, and remove it.

    Args:
        url: URL of the archive.
        sha256: Expected SHA-256 digest, in hex.
        folder: Folder to unpack it into.

    Raises:
        OSError: If the URL cannot be reached or the file cannot be written.
        RuntimeError: If the digest differs.
    """
    archive = folder / "archive.tgz"
    torch.hub.download_url_to_file(url, str(archive))
    with open(archive, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise RuntimeError(f"{url} has SHA-256 {digest}, expected {sha256}")
    extract_archive(str(archive), str(folder))
    archive.unlink()
