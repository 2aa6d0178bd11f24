"""Dataclasses of settings: what a field may hold stands beside it, and a mistake in one names what would be right."""

import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import validated_field
from huggingface_hub.errors import StrictDataclassFieldValidationError

from ..configuration.errors import UserError

LONGEST_SHOWN = 200  # characters of a wrong value


class Settings:
    """What `build` makes of a mapping; the classes are strict dataclasses."""

    given = frozenset[str]()  # the keys that somebody wrote; the others have their defaults
    other_names: ClassVar[dict[str, str]] = {}  # what others call keys that lie in it, at any depth


# --- fields, whose value is checked unless it is None


def that(holds: Callable[[Any], bool], right: str, default: Any = None, **metadata: Any) -> Any:
    """A field whose value must hold; `right` says what would, after `key=value`."""
    return _checked(lambda value: None if holds(value) else right, default, metadata)


def positive(default: float | None = None, **metadata: Any) -> Any:
    return that(lambda value: 0 < value < math.inf, "must be positive", default, **metadata)


def not_negative(default: float | None = None, **metadata: Any) -> Any:
    return that(lambda value: 0 <= value < math.inf, "must not be negative", default, **metadata)


def share(default: float | None = None, **metadata: Any) -> Any:
    return that(lambda value: 0 <= value < 1, "must lie in [0, 1)", default, **metadata)


def name_of_a(what: str, names: Callable[[], Sequence[str]], default: str | None = None, **metadata: Any) -> Any:
    """A field that names one of what there is."""

    def problem(value: Any) -> str | None:
        return None if value in names() else f"is no {what}{nearest(value, names())}"

    return _checked(problem, default, metadata)


def _checked(problem: Callable[[Any], str | None], default: Any, metadata: dict[str, Any]) -> Any:
    def validator(value: Any) -> None:
        if value is not None and (found := problem(value)):
            raise ValueError(found)

    return validated_field(validator, default=default, metadata=metadata)


# --- from mappings


def build(kind: Any, content: Any, where: str, prefix: str = "") -> Any:
    """A dataclass from nested mappings, every key and value checked.

    Raises:
        UserError: Names the file and, of each mistake in a line, the key and what would be right.
    """
    mistakes: list[str] = []
    built = _built(kind, content, prefix, kind, mistakes)
    if mistakes:
        raise UserError("\n".join(f"{where}: {mistake}" for mistake in mistakes))
    return built


def _built(kind: Any, content: Any, prefix: str, whole: Any, mistakes: list[str]) -> Any:
    if not isinstance(content, dict):
        mistakes.append(f"{prefix.rstrip('.') or 'the recipe'} must be a mapping, not {_shown(content)}")
        return None
    hints = typing.get_type_hints(kind)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    places = {field.name for field in dataclasses.fields(kind) if "place" in field.metadata}
    values = {}
    for key, value in content.items():
        if key not in fields:
            mistakes.append(f"unknown key {prefix}{key!s:.200}{_meant_key(str(key), list(fields), whole)}")
            continue
        hint, before = fields[key], len(mistakes)
        (of_list,) = typing.get_args(hint) if typing.get_origin(hint) is list else (None,)
        if dataclasses.is_dataclass(hint):
            made = _built(hint, value, f"{prefix}{key}.", whole, mistakes)
        elif dataclasses.is_dataclass(of_list) and isinstance(value, list):
            made = [_built(of_list, one, f"{prefix}{key}[{at}].", whole, mistakes) for at, one in enumerate(value)]
        else:
            made = _at_home(value) if key in places else _meant(value, hint)
        if len(mistakes) > before:
            continue
        try:
            kind(**{key: made})
        except StrictDataclassFieldValidationError as error:
            cause = error.__cause__
            right = cause if isinstance(cause, ValueError) else f"is not {_describe(hint)}"
            mistakes.append(f"{prefix}{key}={_shown(made)} {right}")
            continue
        if isinstance(made, float) and not math.isfinite(made):
            mistakes.append(f"{prefix}{key}={made} must be a finite number")
            continue
        values[key] = made
    built = kind(**values)
    built.given = frozenset(values)
    return built


def _meant_key(key: str, here: list[str], whole: Any) -> str:
    """The end of a message about an unknown key: where a key of that name lies, or the nearest."""
    elsewhere = {name.rpartition(".")[2]: name for name in reversed(_keys(whole))}
    elsewhere |= getattr(whole, "other_names", {})
    if key not in elsewhere and not difflib.get_close_matches(key, here, n=1, cutoff=0.75):
        key = next(iter(difflib.get_close_matches(key, elsewhere, n=1, cutoff=0.75)), key)
    return f"; did you mean {elsewhere[key]}?" if key in elsewhere else nearest(key, here)


def _keys(kind: Any, prefix: str = "") -> list[str]:
    """All that a mapping may hold, as `section.key`."""
    hints = typing.get_type_hints(kind)
    keys: list[str] = []
    for field in dataclasses.fields(kind):
        inner, name = hints[field.name], f"{prefix}{field.name}"
        keys += _keys(inner, f"{name}.") if dataclasses.is_dataclass(inner) else [name]
    return keys


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _words(hint: Any) -> tuple[Any, ...]:
    """The values that a type lists."""
    return next((typing.get_args(kind) for kind in _kinds(hint) if typing.get_origin(kind) is Literal), ())


def _meant(value: Any, hint: Any) -> Any:
    """YAML reads 1e-4 as a string, 1 as an integer and no as false; what is wanted says what they are."""
    if value is False and "no" in _words(hint):
        return "no"
    if float in _kinds(hint) and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _at_home(place: Any) -> Any:
    """`~/data` is a folder of the user's, as in a shell, and none that is called `~`."""
    if isinstance(place, dict):
        return {key: _at_home(one) for key, one in place.items()}
    return os.path.expanduser(place) if isinstance(place, str) else place


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} …"


def _describe(hint: Any) -> str:
    if words := _words(hint):
        return "one of " + ", ".join(map(repr, words))
    return f"of type {hint.__name__}" if isinstance(hint, type) else str(hint)


def nearest(key: str, names: Sequence[str]) -> str:
    """The end of a message about an unknown name: the one that was meant, or all that there are."""
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"
