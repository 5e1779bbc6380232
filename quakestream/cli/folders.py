"""Folders that commands write into: made, or refused in one line."""

import tempfile
from pathlib import Path

from quakestream.errors import RequestError


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, where they are missing.

    Raises:
        RequestError: if it cannot be made or written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError as error:
        raise RequestError(
            f"{folder} is a file", expected="a folder", remedy="choose another place"
        ) from error
    except OSError as error:
        what = "write into" if folder.is_dir() else "make"
        raise RequestError(
            f"cannot {what} the folder {folder}",
            got=error.strerror or str(error),
            remedy="choose another place",
        ) from error


def check_folder(folder: Path) -> None:
    """Does nothing if a folder can be written into, or made. Makes none that stays.

    Raises:
        RequestError: if it cannot.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        make_folder(folder)
    finally:
        for one in missing:
            if one.is_dir():
                one.rmdir()
