"""The error for what a user got wrong, and the one line of an error of others."""


class UserError(Exception):
    """A user's mistake: one line that names what was wrong, where, and what would be right; of several mistakes, a line each.

    The command line prints it without a stack trace and exits with code 2.
    """


def reason(error: BaseException) -> str:
    """The line of an error's text that says what is wrong: the first, or the last if that only leads to it."""
    if isinstance(error, KeyError):
        return f"there is no {error}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (lines[-1] if lines[0].endswith(":") else lines[0]).removeprefix("ValueError: ")
