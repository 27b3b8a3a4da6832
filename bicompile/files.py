"""Writing so that nobody ever sees half a file: write beside the destination, then rename."""

import atexit
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bicompile.errors import UserError


def _refuse(error: OSError, destination: Path) -> UserError:
    if error.errno == errno.ENOSPC:
        return UserError(
            f"the disk is full: {destination} was not written; free some space and run again"
        )
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
    why = "a file is where a folder is needed" if in_the_way else error.strerror
    return UserError(f"{destination} cannot be written ({why}); choose another output path")


@contextmanager
def atomic_file(destination: Path) -> Iterator[Path]:
    """Yield a path to write; it takes the name `destination` when the block ends without an error.

    Raises UserError when the place cannot be written or the disk is full; nothing is left behind.
    """
    place = destination.resolve()  # a link goes on leading to what is written
    temporary: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(place)
    except OSError as error:
        raise _refuse(error, destination) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(destination: Path, *, replaces: str) -> Iterator[Path]:
    """Yield a folder to fill; it takes the name `destination` when the block ends without an error.

    An existing `destination` is replaced only when it is empty or holds the file named `replaces`,
    the mark of what this program wrote there before. Raises UserError otherwise, and when the place
    cannot be written or the disk is full; what was there before is still there then.
    """
    if destination.exists() and not destination.is_dir():
        raise UserError(f"{destination} is a file; choose a folder for the output")
    if (
        destination.is_dir()
        and any(destination.iterdir())
        and not (destination / replaces).exists()
    ):
        raise UserError(
            f"{destination} already holds something else (no {replaces} in it); "
            "choose an empty or new folder"
        )
    place = destination.resolve()  # a link goes on leading to what is written
    if place == Path.cwd():
        raise UserError(f"{destination} is the working folder; choose a folder inside it")
    temporary: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(place)
        yield temporary
        temporary.chmod(0o755)
        if place.exists():
            old = _beside(place)
            place.replace(old / "old")
            temporary.replace(place)
            shutil.rmtree(old)
        else:
            temporary.replace(place)
    except OSError as error:
        raise _refuse(error, destination) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _beside(place: Path) -> Path:
    """A new hidden folder in the same file system."""
    return Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))


def folder_of_this_process() -> Path:
    """A new temporary folder that is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="bicompile-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
