"""From a YAML file and overrides of the command line to a mapping, whatever its keys mean."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import yaml

from .. import recipes
from ..configuration.errors import UserError


def read_mapping(path: str | Path, overrides: Sequence[str] = ()) -> tuple[dict, str]:
    """What a recipe's file says, overridden, and which file that is.

    Args:
        path: A YAML file, or the name of a recipe that comes with the package.
        overrides: `key.sub=value`, the value in YAML.

    Raises:
        UserError: An unreadable file or override.
    """
    path = Path(path)
    packaged = Path(str(resources.files(recipes))) / f"{path.name.removesuffix('.yaml')}.yaml"
    if not path.exists() and len(path.parts) == 1 and packaged.exists():
        path = packaged
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in packaged.parent.glob("*.yaml")))
        raise UserError(f"{path}: no such recipe; give a YAML file or one of {names}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, not a recipe; give a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the recipe as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise UserError(f"{path}:{line} not YAML: {getattr(error, 'problem', error)}") from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys to values, not a {type(content).__name__}")
    override_mapping(content, overrides)
    return content, str(path)


def override_mapping(content: dict, overrides: Sequence[str]) -> None:
    """Change a mapping by `key.sub=value`, the value in YAML.

    Raises:
        UserError: An unreadable override.
    """
    for override in overrides:
        _apply(override, content)


def _apply(override: str, content: dict) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"{override!r}: an override is key=value, for example training.max_steps=100")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{override!r}: {text!r} is not a YAML value") from None
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(content, dict):
            break
        if content.get(parent) is None:
            content[parent] = {}
        content = content[parent]
    if not isinstance(content, dict):
        raise UserError(f"{override!r}: {'.'.join(parents)} is a value, it has no keys")
    content[last] = value
