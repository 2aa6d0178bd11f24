"""Tasks, positions and data formats of other packages, which name a module under the entry point `trefoil.extensions`."""

from importlib.metadata import entry_points

from .configuration.errors import UserError


def load_extensions() -> None:
    """Import what installed packages register.

    Raises:
        UserError: One does not import.
    """
    for entry in entry_points(group="trefoil.extensions"):
        try:
            entry.load()
        except Exception as error:  # whatever another package does
            raise UserError(f"the extension {entry.value} does not load: {type(error).__name__}: {error}") from None
