"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Bad input or usage, told in one sentence.

    The sentence names the file or node, what was found, what is accepted and what to do next.
    The command line prints it without a traceback and exits with status 2.
    """
