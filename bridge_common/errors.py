"""The one exception for mistakes in what was asked, so that the command line can tell them from defects."""


class UserError(ValueError):
    """Something that was asked for cannot be done.

    The message is one line that names the problem and its remedy. The command line prints it and exits with 2.
    """
