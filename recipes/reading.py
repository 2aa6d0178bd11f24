"""From a YAML file and overrides of the command line to a mapping, whatever its keys mean."""

import copy
from collections.abc import Mapping, Sequence
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from .. import recipes
from ..configuration.errors import UserError


def packaged_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(resources.files(recipes)))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def read_mapping(path: str | PathLike | Mapping, overrides: Sequence[str] = ()) -> tuple[dict, str]:
    """What a recipe's file says, overridden, and which file that is.

    Args:
        path: A YAML file, the name of a recipe that comes with the package, or what such a file would say.
        overrides: `key.sub=value`, the value in YAML; in a list `key[0].sub=value`.

    Raises:
        UserError: An unreadable file or override.
    """
    if isinstance(path, Mapping):
        content = copy.deepcopy(dict(path))
        override_mapping(content, overrides)
        return content, "the recipe"
    path = Path(path)
    packaged = packaged_recipes()
    if not path.exists() and len(path.parts) == 1:
        path = packaged.get(path.name.removesuffix(".yaml"), path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe; give a YAML file or one of {', '.join(packaged)}") from None
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
    *parents, last = key.replace("[", ".").replace("]", "").split(".")
    within: Any = content
    for parent in parents:
        if isinstance(within, dict):
            if within.get(parent) is None:
                within[parent] = {}
            within = within[parent]
        elif isinstance(within, list):
            within = within[_place_in(within, parent, override)]
    if isinstance(within, list):
        within[_place_in(within, last, override)] = value
    elif isinstance(within, dict):
        within[last] = value
    else:
        raise UserError(f"{override!r}: {'.'.join(parents)} is a value, it has no keys")


def _place_in(values: list, key: str, override: str) -> int:
    if not key.isdecimal() or int(key) >= len(values):
        raise UserError(f"{override!r}: {key!r} is no place in a list of {len(values)}; they count from 0")
    return int(key)
