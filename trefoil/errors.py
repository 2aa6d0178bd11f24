"""The one error class that users see as a sentence instead of a traceback, under its public name."""

from .configuration.errors import UserError

__all__ = ["UserError"]
