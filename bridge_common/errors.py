"""Exceptions for a request that cannot be fulfilled and a job that was stopped, and what errors of others say."""


class UserError(ValueError):
    """A request that cannot be fulfilled as it was made.

    The message is one line that names the problem and its remedy. The command line prints it and exits with code 2.
    """


class StoppedError(Exception):
    """A job ended before its last step because that was asked of it, after it had written a checkpoint."""


def reason_of(error: BaseException) -> str:
    """Return in one line what went wrong in code of others: the error's type, and the first line of what it says."""
    try:
        said = str(error).strip().splitlines()
    except Exception:  # its own method fails
        said = []
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
