"""The error for what a user got wrong."""


class UserError(Exception):
    """A user's mistake: one line that names what was wrong, where, and what would be right.

    The command line prints it without a stack trace and exits with code 2.
    """
