"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Bad input or usage, told in one sentence.

    The sentence names the file or node, what was found, what is accepted and what to do next.
    The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, sentence: str) -> None:
        """Keep `sentence` on one line, whatever names from a file it quotes."""
        printable = "".join(letter if letter.isprintable() else " " for letter in sentence)
        super().__init__(" ".join(printable.split()))
