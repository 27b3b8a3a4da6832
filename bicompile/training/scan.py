"""Reading every sound file of a corpus once: is it what training takes, and which bytes is it?"""

import io
import wave
from hashlib import sha256
from pathlib import Path

from rich.console import Console
from rich.progress import track

from bicompile.errors import UserError
from bicompile.features import RATE

NAMED = 3  # unreadable files that a message names


def scan(
    folder: Path, paths: list[Path], *, skip_unreadable: bool
) -> tuple[dict[Path, bytes], dict[Path, str]]:
    """Return the SHA-256 of every file, and what is wrong with those that cannot be read.

    Raises UserError when there are unreadable ones that are not to be skipped, and for a file that
    is not one channel of 16-bit samples at 16 kHz.
    """
    digests: dict[Path, bytes] = {}
    unreadable: dict[Path, str] = {}
    other: dict[Path, str] = {}
    console = Console(stderr=True)
    for path in track(
        paths, "reading clips", console=console, transient=True, disable=not console.is_terminal
    ):
        try:
            data = path.read_bytes()
            found = format_of(data)
        except OSError as error:
            unreadable[path] = error.strerror or type(error).__name__
        except ValueError as error:
            unreadable[path] = str(error)
        else:
            digests[path] = sha256(data).digest()
            if found != (1, 16, RATE):
                other[path] = "{} channels of {} bits at {} Hz".format(*found)
    if unreadable and not skip_unreadable:
        raise UserError(
            f"{len(unreadable)} of {len(paths)} sound files in {folder} cannot be read: "
            f"{describe(unreadable)}; replace them, or leave them out with: "
            "bicompile train --skip-unreadable"
        )
    if other:
        path, found_there = next(iter(other.items()))
        raise UserError(
            f"{path} has {found_there}, and {len(other) - 1} other files are not as needed; "
            f"convert them to 1 channel of 16 bits at {RATE} Hz"
        )
    return digests, unreadable


def describe(unreadable: dict[Path, str]) -> str:
    """Name the first few unreadable files with what is wrong, and count the rest."""
    first = [f"{path} ({why})" for path, why in list(unreadable.items())[:NAMED]]
    more = len(unreadable) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


def format_of(data: bytes) -> tuple[int, int, int]:
    """Channels, bits and rate of a WAV file; raises ValueError with what makes it unreadable."""
    if not data:
        raise ValueError("empty")
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels, width, rate, frames = file.getparams()[:4]
            held = len(file.readframes(frames))
    except EOFError:
        raise ValueError("cut short") from None
    except (wave.Error, RuntimeError) as error:  # the latter for chunks within other chunks
        raise ValueError(f"not a PCM WAV: {error or 'damaged header'}") from None
    if frames == 0:
        raise ValueError("no samples")
    if held < frames * channels * width:
        raise ValueError("cut short")
    return channels, 8 * width, rate
