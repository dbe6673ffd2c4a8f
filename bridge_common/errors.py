"""The exception for mistakes of the user, by which the command line tells them from defects of the program."""


class UserError(ValueError):
    """A request that cannot be fulfilled as it was made.

    The message is one line that names the problem and its remedy. The command line prints it and exits with code 2.
    """
