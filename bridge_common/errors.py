"""Exceptions that say more than that something failed: a request that cannot be fulfilled, a job that was stopped."""


class UserError(ValueError):
    """A request that cannot be fulfilled as it was made.

    The message is one line that names the problem and its remedy. The command line prints it and exits with code 2.
    """


class StoppedError(Exception):
    """A job ended before its last step because that was asked of it, after it had written a checkpoint."""
