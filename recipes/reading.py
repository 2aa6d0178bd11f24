"""From a YAML file and overrides of the command line to a mapping, whatever its keys mean."""

import copy
import re
import shlex
from collections.abc import Hashable, Mapping, Sequence
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from .. import recipes
from ..configuration.errors import UserError, reason

MOST_BYTES = 2**20  # of a recipe
OF_DATA = (".csv", ".tsv", ".jsonl", ".xlsx", ".parquet", ".tmx", ".conll", ".txt")  # suffixes
INT, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
# what PyYAML takes for other things than they look like: 012 for ten, 1:30 for ninety, a date for an object
MISTAKABLE = {INT, FLOAT, "tag:yaml.org,2002:timestamp"}


class NotForRecipesError(yaml.MarkedYAMLError):
    """YAML, but none that a recipe needs."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """YAML of a recipe: no tags, no aliases, which can stand for more than any memory holds, no key twice, and as numbers what
    every reader takes for the same one."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in MISTAKABLE]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise NotForRecipesError("aliases (*name) are not for recipes; write it out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise NotForRecipesError(f"tags ({event.tag}) are not for recipes; leave it out", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys:
                raise NotForRecipesError(f"{key.value!r:.200} is there twice; keep one", key.start_mark)
            keys.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(INT, re.compile(r"[-+]?(0|[1-9][0-9]{0,17})$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    FLOAT,
    re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


class _Dumper(yaml.SafeDumper):
    """PyYAML writes the line breaks that only Unicode knows as they are, and reads them as spaces; here they are escaped."""

    def represent_text(self, text: str) -> yaml.Node:
        return self.represent_scalar(
            "tag:yaml.org,2002:str", text, '"' if re.search("[\x85\u2028\u2029]", text) else None
        )


_Dumper.add_representer(str, _Dumper.represent_text)


def write_yaml(content: Any, **options: Any) -> str:
    """The text of which `parse_yaml` makes the same content.

    Args:
        options: Of `yaml.dump`.
    """
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **options)


def parse_yaml(text: str) -> Any:
    """What a recipe's text says.

    Raises:
        yaml.YAMLError: It is none that a recipe may be; `problem_mark` says where.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None


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
    if path.name.lower().removesuffix(".gz").endswith(OF_DATA) and path.is_file():
        raise UserError(
            f"{path}: is data, not a recipe; `trefoil new TASK --data {shlex.quote(str(path))}` writes one for it"
        )
    packaged = packaged_recipes()
    if not path.exists() and len(path.parts) == 1:
        path = packaged.get(path.name.removesuffix(".yaml"), path)
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise UserError(f"{path}: has {size:,} bytes, and a recipe at most {MOST_BYTES:,}")
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe; give a YAML file or one of {', '.join(packaged)}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, not a recipe; give a YAML file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the recipe as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        what = "" if isinstance(error, NotForRecipesError) else " not YAML:"
        raise UserError(f"{path}:{line}{what} {getattr(error, 'problem', None) or reason(error)}") from None
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
        raise UserError(f"{override!r:.200}: an override is key=value, for example training.max_steps=100")
    try:
        value = parse_yaml(text)
    except NotForRecipesError as error:
        raise UserError(f"{override!r:.200}: {error.problem}") from None
    except yaml.YAMLError:
        raise UserError(f"{override!r:.200}: {text!r:.200} is not a YAML value") from None
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
        raise UserError(f"{override!r:.200}: {'.'.join(parents)} is a value, it has no keys")


def _place_in(values: list, key: str, override: str) -> int:
    if not key.isdecimal() or int(key) >= len(values):
        raise UserError(f"{override!r:.200}: {key!r:.200} is no place in a list of {len(values)}; they count from 0")
    return int(key)
