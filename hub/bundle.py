"""The code that a published folder carries: the package's own files, made flat.

transformers looks for custom code beside the entry file only, and finds what an entry file needs by searching its text
for `from .name import`. So the folders become prefixes (`modeling/attention.py` → `modeling_attention.py`), the lines
that import across them are rewritten to match, and every other byte stays as it is.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from importlib import resources

from transformers import PreTrainedConfig, PreTrainedModel

from ..modeling.auto import AUTO_CLASSES
from ..pipelines.registration import PIPELINES

PACKAGE = __package__.rpartition(".")[0]
PREFIXES = {"configuration": "configuration_", "modeling": "modeling_", "pipelines": "pipeline_"}

RELATIVE_IMPORT = re.compile(r"^from (?P<dots>\.+)(?P<path>[\w.]*) import\b", re.MULTILINE)
# What transformers takes for a relative import, wherever in the text it stands.
IMPORT_SEEN_BY_TRANSFORMERS = re.compile(r"^\s*(?:from\s+\.\S+\s+import|import\s+\.)", re.MULTILINE)


def flat_module(module: str, prefixes: Mapping[str, str] = PREFIXES) -> str:
    """`trefoil.modeling.encoder_decoder` → `modeling_encoder_decoder`."""
    folder, _, name = module.removeprefix(f"{PACKAGE}.").partition(".")
    return prefixes[folder] + name


def auto_map(config_class: type[PreTrainedConfig]) -> dict[str, str]:
    """Where transformers finds each class of a family in a published folder: Auto class name → `module.Class`."""
    entries = {"AutoConfig": config_class} | {
        auto_class.__name__: model_class for auto_class, model_class in AUTO_CLASSES[config_class].items()
    }
    return {name: f"{flat_module(entry.__module__)}.{entry.__name__}" for name, entry in entries.items()}


def custom_pipelines(config_class: type[PreTrainedConfig]) -> dict[str, dict]:
    """The pipelines that a family brings along, as `config.json` lists them: task → implementation and Auto class."""
    return {
        task: {
            "impl": f"{flat_module(pipeline_class.__module__)}.{pipeline_class.__name__}",
            "pt": [auto_class.__name__],
            "type": "text",
        }
        for task, (pipeline_class, auto_class) in PIPELINES.items()
        if auto_class in AUTO_CLASSES[config_class]
    }


def bundle_code(config_class: type[PreTrainedConfig]) -> dict[str, bytes]:
    """The files that a published model of this family needs: flat name → content.

    The files that hold the models also import the family's pipelines: transformers copies what an entry file imports,
    so the pipelines travel along when somebody fine-tunes the published model and saves it again.

    Raises:
        ValueError: A source file imports in a way that cannot be made flat.
    """
    pipeline_modules = {
        pipeline_class.__module__: pipeline_class.__name__
        for pipeline_class, auto_class in PIPELINES.values()
        if auto_class in AUTO_CLASSES[config_class]
    }
    model_modules = {model.__module__ for model in AUTO_CLASSES[config_class].values()}
    texts = flat_modules([config_class.__module__, *model_modules, *pipeline_modules])
    texts |= {module: _import_pipelines(texts[module], pipeline_modules) for module in model_modules}
    return {name: text.encode() for name, text in sorted((f"{flat_module(one)}.py", texts[one]) for one in texts)}


def flat_modules(
    modules: Iterable[str], prefixes: Mapping[str, str] = PREFIXES, are_beside: str = "."
) -> dict[str, str]:
    """The texts of modules and of all that they import, made flat.

    Args: as of `flatten`.

    Raises:
        ValueError: One imports in a way that cannot be made flat.
    """
    texts: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in texts:
            texts[module], needed = flatten(module, read_source(module).decode(), prefixes, are_beside)
            waiting += needed
    return texts


def flatten(
    module: str, source: str, prefixes: Mapping[str, str] = PREFIXES, are_beside: str = "."
) -> tuple[str, list[str]]:
    """A module's text with its relative imports made flat, and the modules that they name.

    Args:
        prefixes: The folders that may be imported: how the flat names of their files begin.
        are_beside: What stands before a flat name: a dot in a package, nothing where the files are scripts.

    Raises:
        ValueError: An import that transformers would not follow in a published folder, with its place and what to
            write instead.
    """
    needed = []

    def rewrite(match: re.Match) -> str:
        absolute = _resolve(module, len(match["dots"]), match["path"])
        needed.append(absolute)
        return f"from {are_beside}{flat_module(absolute, prefixes)} import"

    _refuse_what_cannot_be_flat(module, source, prefixes)
    return RELATIVE_IMPORT.sub(rewrite, source), needed


def _refuse_what_cannot_be_flat(module: str, source: str, prefixes: Mapping[str, str]) -> None:
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in imports:
        if isinstance(node, ast.ImportFrom) and node.level:
            absolute = _resolve(module, node.level, node.module or "")
            flat_name = rf"{PACKAGE}\.({'|'.join(prefixes)})\.\w+"
            ok = node.col_offset == 0 and re.fullmatch(flat_name, absolute) is not None
        else:
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            ok = not any((name or "").split(".")[0] == PACKAGE for name in names)
        if not ok:
            raise ValueError(
                f"{module}, line {node.lineno}: published code is one flat folder, so write such an import at the "
                f"start of a line, as `from .file import name` or `from ..folder.file import name` with a folder of "
                f"{', '.join(prefixes)}"
            )
    relative = sum(isinstance(node, ast.ImportFrom) and node.level > 0 for node in imports)
    if len(IMPORT_SEEN_BY_TRANSFORMERS.findall(source)) != relative:
        raise ValueError(
            f"{module}: a docstring or comment has a line that transformers would take for a relative import; "
            "word it so that no line begins with `from .name import`"
        )


def _resolve(module: str, level: int, path: str) -> str:
    return ".".join([*module.split(".")[:-level], *([path] if path else [])])


def read_source(module: str, ending: str = ".py") -> bytes:
    """A module's own file, or the one beside it that has its name and another ending."""
    package, _, name = module.rpartition(".")
    return resources.files(package).joinpath(f"{name}{ending}").read_bytes()


def _import_pipelines(text: str, pipeline_modules: dict[str, str]) -> str:
    lines = text.splitlines(keepends=True)
    top_level = ast.parse(text).body
    last = max(node.end_lineno or 0 for node in top_level if isinstance(node, ast.ImportFrom) and node.level)
    added = [
        f"from .{flat_module(module)} import {class_name}  # noqa: F401\n"
        for module, class_name in sorted(pipeline_modules.items())
    ]
    return "".join([*lines[:last], *added, *lines[last:]])


def head_of(model_class: type[PreTrainedModel]) -> str:
    """The name of the Auto class that loads a model class: `AutoModelForSeq2SeqLM`."""
    for auto_classes in AUTO_CLASSES.values():
        for auto_class, registered in auto_classes.items():
            if registered is model_class:
                return auto_class.__name__
    raise ValueError(f"{model_class.__name__} is not registered with any Auto class")
