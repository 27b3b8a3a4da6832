"""The one exception that a user is meant to read, and what is told of all others."""

import errno

_OF_TRAINING = ("torch", "safetensors", "matplotlib")  # only the extra `train` installs them


class UserError(Exception):
    """Bad input or usage, told in one sentence.

    The sentence names the file or node, what was found, what is accepted and what to do next.
    The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, sentence: str) -> None:
        """Keep `sentence` on one line, whatever names from a file it quotes."""
        printable = "".join(letter if letter.isprintable() else " " for letter in sentence)
        super().__init__(" ".join(printable.split()))


def told(error: Exception) -> tuple[int, str]:
    """The exit status and the sentence for an error."""
    if isinstance(error, UserError):
        return 2, str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = error.filename or "standard output"
        return 2, f"the disk is full ({where}); free some space and run again"
    if isinstance(error, OSError) and error.filename is not None:
        return 2, f"{error.filename}: {error.strerror}; check the path and run again"
    missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    package = missing.partition(".")[0]
    if package in _OF_TRAINING:
        return 2, (
            f"this verb needs {package}, which is not installed; "
            "install it with: pip install 'bicompile[train]'"
        )
    first = (str(error).splitlines() or [""])[0]
    return 70, (
        f"internal error: {type(error).__name__}: {first}; "
        "please report it with the output of the same command and --debug"
    )
