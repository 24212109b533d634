"""Image files named on a command line, and the files their results are written to."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from srcolor.errors import UserError
from srcolor.inference.image_files import FORMATS, REFUSED, SUFFIXES
from srcolor.inference.modes import MODES


class Job(NamedTuple):
    """An image file, and the files of its results."""

    source: Path
    results: tuple[Path, ...]


def plan(
    inputs: Sequence[str],
    output: Path | None,
    endings: Sequence[str],
    suffix: str | None = None,
    *,
    overwrite: bool = False,
) -> Iterator[Job]:
    """Find the image files, and yield each with the files of its results, `<stem>_<ending>`.

    Results of earlier calls are not processed again, except with `overwrite`, when an input that would also be a result
    is an error.

    Args:
        inputs: Files, directories that are searched recursively, or patterns.
        output: Directory of the results; if None, the directory of each source.
        endings: See `modes.base.Mode.endings`; an ending may have a suffix of its own.
        suffix: Suffix of the results; if None, that of each source.
        overwrite: Whether existing results are overwritten.

    Raises:
        UserError: If a file does not exist, or a result would have the name of another result or of a source.
    """
    sources: dict[Path, Path] = {}  # with their paths below `output`
    files: list[Path] = []
    for name in inputs:
        path = Path(name)
        if not path.exists():
            path = Path(os.path.expanduser(name))  # for a name that the shell did not expand
        if path.is_dir():
            images = _without_results([file for file in sorted(path.rglob("*")) if _is_image(file)])
            if not images:
                raise UserError(f"{name}: no images found in this folder. Supported formats: {', '.join(SUFFIXES)}")
            sources |= {file: file.relative_to(path) for file in images}
        elif path.exists():
            files.append(path)
        else:
            matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
            images = _without_results([file for file in matches if file.is_file()])
            if not images:
                raise UserError(f"{name}: no such file or folder, and no file matches the pattern")
            sources |= {file: Path(file.name) for file in images}
    sources |= {file: Path(file.name) for file in (files if overwrite else _without_results(files))}
    by_path = {_real(source): source for source in sources}
    results: dict[Path, Path] = {}  # with their sources
    for source, below in sources.items():
        folder = source.parent if output is None else output / below.parent
        own = source.suffix if source.suffix.lower() in SUFFIXES else ".png"
        names = [f"{source.stem}_{ending}{'' if Path(ending).suffix else suffix or own}" for ending in endings]
        job = Job(source, tuple(folder / name for name in names))
        for result in job.results:
            key = _real(result)
            if key in results:
                raise UserError(f"{results[key]} and {source} would both be written to {result}: rename one of them")
            if key in by_path and by_path[key] != source:
                raise UserError(f"{by_path[key]} is an input and would also be the result of {source}: remove one")
            results[key] = source
        yield job


def _real(file: Path) -> Path:
    """Return the path of a file with the links of its directory resolved."""
    return file.parent.resolve() / file.name


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in (*SUFFIXES, *REFUSED) and not file.name.startswith(".") and file.is_file()


def _without_results(files: list[Path]) -> list[Path]:
    """Exclude files that have the name of another file's result, in any directory."""
    names = {file.name for file in files}
    stems = {file.stem for file in files}
    written = {Path(ending) for mode in MODES.values() for ending in mode.written()}

    def is_result(file: Path) -> bool:
        endings = [ending for ending in written if file.stem.endswith(f"_{ending.stem}")]
        sources = [(file.stem.removesuffix(f"_{ending.stem}"), ending.suffix) for ending in endings]
        return any(
            (stem in stems and file.suffix in ((suffix,) if suffix else FORMATS.values()))
            or stem + file.suffix in names
            for stem, suffix in sources
        )

    return [file for file in files if not is_result(file)]
