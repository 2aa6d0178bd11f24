"""A model's folder from a stranger: what its files say is looked at before anything is loaded as they say it."""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..configuration.errors import UserError, reason
from ..recipes.schema import Recipe

CONFIG, GENERATION, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
TEMPLATES = "additional_chat_templates"  # the one folder within a model's folder that is read

# fields that say how many modules with weights of their own there are, and how wide they are
LAYERS = re.compile(r"(n|num|encoder|decoder)\w*_layers?")
WIDTHS = re.compile(
    r"(\w+_)?vocab_size|\w*(hidden|intermediate|embedding)_size|d_(model|ff|kv|inner)|n_(embd|inner|head)"
    r"|\w*(_heads|ffn_dim|head_dim|_experts)|num_labels|relative_attention_num_buckets"
)
POSITIONS = re.compile(r"max_(position_embeddings|\w+_positions)|n_(positions|ctx)")
FEW_POSITIONS = 2**17  # that need not lie in a table of the weights, and harm nobody where they are made
LAYER_BYTES = 16_384  # what a layer's modules take, whatever its width

LARGEST = 10**30  # that is spelled out
TOLD = 10**8  # bytes that are worth a word

# what a generation configuration may ask for
LONGEST_TEXT, MOST_BEAMS = 2**20, 64
LENGTHS = ("max_length", "min_length", "max_new_tokens", "min_new_tokens", "max_cache_len")
BEAMS = ("num_beams", "num_beam_groups", "num_return_sequences")
CACHES_OF_MACHINES = ("quantized", "offloaded", "offloaded_static")  # need a package, or a GPU


def require_own_files(folder: Path, names: Iterable[str] | None = None) -> None:
    """Checks that what lies in a folder is its own. A snapshot in the Hub's cache consists of links, into the same
    repository's `blobs`.

    Args:
        names: What is looked at. Default: all.

    Raises:
        UserError: A link leads out of the folder, or something is neither a file nor a folder.
    """
    home = os.path.realpath(folder)
    homes = [home]
    if Path(home).parent.name == "snapshots":
        homes.append(str(Path(home).parent.parent / "blobs"))
    entries = sorted(folder.iterdir()) if names is None else [folder / name for name in names]
    if (folder / TEMPLATES).is_dir():
        entries += sorted((folder / TEMPLATES).iterdir())
    for entry in entries:
        if not os.path.lexists(entry):
            continue
        target = os.path.realpath(entry)
        if not any(Path(target).is_relative_to(one) for one in homes):
            raise UserError(f"{entry}: is a link that leads out of the folder; put the file itself there, or remove it")
        if not (entry.is_file() or entry.is_dir()):
            raise UserError(f"{entry}: is neither a file nor a folder; remove it")


def data_of_folder(recipe: Recipe, folder: Path, overrides: Iterable[str], is_trusted: bool) -> Iterator[str]:
    """What a recipe that lies beside a model is about to read or fetch, a line each.

    Args:
        recipe: The folder's, with the overrides.
        overrides: `key.sub=value`: what the user names himself, he wants to be read.
        is_trusted: Whether what the recipe names may be read wherever it lies.

    Raises:
        UserError: It is not, and a place lies neither in the folder nor in the working directory.
    """
    named = [_dotted(override.partition("=")[0]) for override in overrides]
    homes = [folder.resolve(), Path.cwd().resolve()]
    for key, place, is_local in _places_of_data(recipe):
        is_named = any(f"{_dotted(key)}.".startswith(f"{name}.") for name in named)
        is_inside = is_local and any(Path(place).resolve().is_relative_to(home) for home in homes)
        if not (is_trusted or is_named or is_inside):
            where = "lies neither in that folder nor in this one" if is_local else "is a data set of the Hub"
            raise UserError(
                f"{folder / 'recipe.yaml'}: {key}={place!r} {where}; let the folder's recipe read it with --trust-recipe, or "
                f"name the data yourself: {key}=…"
            )
        yield f"{folder}: {'reads' if is_local else 'fetches the data set'} {place}, as {key} says"


def _dotted(key: str) -> str:
    """`data.sources[0].path` as `data.sources.0.path`, which overrides may also say."""
    return key.replace("[", ".").replace("]", "")


def _places_of_data(recipe: Recipe) -> Iterator[tuple[str, str, bool]]:
    """The keys that say where rows come from that are not generated, what they say, and whether that is a local place."""
    data = recipe.data
    parts: list[tuple[str, Any]] = []
    if data.is_joined:
        parts = [(f"data.sources[{number}]", one) for number, one in enumerate(data.sources)]
    elif data.path is not None or not data.embedded:
        parts = [("data", data)]
    for key, one in parts:
        if one.path is not None:
            yield f"{key}.path", one.path, True
        elif one.name is not None:
            yield f"{key}.name", one.name, False


def read_json(path: Path) -> Any:
    """What a JSON file says.

    Raises:
        UserError: It is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON: {reason(error)}") from error


def require_loadable(folder: Path) -> None:
    """Checks that loading the model of a folder reads no other folder's weights, and takes no more memory than these do.

    Raises:
        UserError: Sizes that its weights do not have, or that no machine has; names file, field and value.
    """
    file = folder / CONFIG
    if not file.is_file():
        return
    config = _fields(file)
    _require_names(config, file)
    shapes = _shapes(folder)
    if shapes:
        _require_sizes(config, shapes, file)
    else:
        require_memory(config, str(file))
    for path, content in ((folder / GENERATION, None), (file, config)):
        if content is not None or path.is_file():
            _require_generation(path, _fields(path) if content is None else content, config)


def _require_names(config: Mapping[str, Any], file: Path) -> None:
    kind, heads = config.get("model_type"), config.get("architectures")
    if not (kind is None or isinstance(kind, str)):
        raise UserError(f"{file}: model_type must be a name, not {_cut(kind)}")
    if not (
        heads is None
        or isinstance(heads, str)
        or (isinstance(heads, list) and all(isinstance(one, str) for one in heads))
    ):
        raise UserError(f"{file}: architectures must be a list of names, not {_cut(heads)}")


def _cut(value: Any) -> str:
    return f"{value!r:.100}"


def _require_sizes(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], file: Path) -> None:
    widest = max((size for shape in shapes.values() for size in shape), default=1)
    for name, value, within in _sizes(config):
        most, has = math.inf, f"no tensor wider than {widest:,}"
        if LAYERS.fullmatch(name):
            most, has = len(shapes), f"{len(shapes):,} tensors"
        elif WIDTHS.fullmatch(name):
            most = max(widest, len(shapes))
        elif POSITIONS.fullmatch(name) and _have_table(within):
            most = max(widest, FEW_POSITIONS)
        if value > most:
            needed = least_bytes(within)
            takes = f"; such a model would take {spoken(needed)} of memory at least" if needed >= TOLD else ""
            raise UserError(f"{file}: {name} is {_spelled(value)}, but the weights have {has}{takes}")


def _have_table(config: Mapping[str, Any]) -> bool:
    """Whether a model's positions may be rows of a table."""
    turns = any(value for name, value in config.items() if name.startswith(("rope", "rotary")))
    return not turns and config.get("position_embedding_type", "learned") in ("learned", "absolute")


def _fields(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict):
        raise UserError(f"{file}: is a JSON {type(content).__name__}; it must be an object")
    return content


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, as the heads of the weights' files say; none where there are no such files."""
    names = {WEIGHTS} if (folder / WEIGHTS).is_file() else set[str]()
    if (folder / INDEX).is_file():
        listed = _fields(folder / INDEX).get("weight_map")
        if not isinstance(listed, dict):
            raise UserError(f"{folder / INDEX}: has no weight_map; write the weights again with model.save_pretrained")
        for name in listed.values():
            if not isinstance(name, str) or Path(name).name != name or not name.strip(".") or "\\" in name:
                raise UserError(f"{folder / INDEX}: names {_cut(name)}, which is no file beside it")
        names = names or set(listed.values())
    shapes: dict[str, tuple[int, ...]] = {}
    for name in sorted(names):
        try:
            with safe_open(folder / name, framework="pt") as weights:
                shapes |= {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder / name}: cannot be read: {reason(error)}") from None
    return shapes


def _sizes(config: Mapping[str, Any]) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Every whole number of a configuration and of those that it is made of: its name, itself, and what it stands in."""
    for name, value in config.items():
        if _is_whole(value):
            yield name, int(value), config
        elif isinstance(value, Mapping) and name.endswith(("config", "encoder", "decoder")):
            yield from _sizes(value)


def _is_whole(value: Any) -> bool:
    """JSON also writes whole numbers as 1e12."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1


def _size(fields: Mapping[str, Any], *names: str) -> int:
    return max((int(fields[name]) for name in names if _is_whole(fields.get(name))), default=1)


def least_bytes(fields: Mapping[str, Any]) -> int:
    """What a model with these fields takes in float32 at least: its embeddings, and of each layer one matrix. Fields of a part
    stand before those of the whole.

    Args:
        fields: Of a configuration, as `config.json` or a recipe names them; what is not there counts as one.
    """
    parts = [value for name, value in fields.items() if name in ("encoder", "decoder") and isinstance(value, Mapping)]
    if parts:
        whole = {name: value for name, value in fields.items() if not isinstance(value, Mapping)}
        return sum(least_bytes(whole | dict(part)) for part in parts)
    width = _size(fields, "hidden_size", "d_model", "n_embd")
    inner = max(
        width,
        _size(fields, "intermediate_size", "d_ff", "n_inner", "encoder_ffn_dim", "decoder_ffn_dim"),
        _size(fields, "num_attention_heads") * _size(fields, "head_dim"),
    )
    layers = sum(_size({name: value}, name) for name, value in fields.items() if LAYERS.fullmatch(name))
    columns = min(width, _size(fields, "embedding_size")) if fields.get("embedding_size") else width
    rows = _size(fields, "vocab_size") + _size(fields, "type_vocab_size")
    if _have_table(fields):
        rows += max((_size(fields, name) for name in fields if POSITIONS.fullmatch(name)), default=0)
    return 4 * columns * rows + layers * (4 * width * inner + LAYER_BYTES)


def require_memory(fields: Mapping[str, Any], where: str) -> None:
    """
    Raises:
        UserError: A model with these fields has no room on this machine.
    """
    needed, there = least_bytes(fields), machine_memory()
    if there is not None and needed > there:
        sizes = [
            f"{name}={_spelled(value)}"
            for name, value, _ in _sizes(fields)
            if LAYERS.fullmatch(name) or WIDTHS.fullmatch(name)
        ]
        raise UserError(
            f"{where}: a model with {', '.join(sizes)} takes {spoken(needed)} of memory at least, and this machine has "
            f"{spoken(there)}"
        )


def machine_memory() -> int | None:
    """Bytes; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def spoken(count: float) -> str:
    return f"{min(count, LARGEST) / 1e9:,.1f} GB"


def _spelled(value: float) -> str:
    return f"{int(value):,}" if value < LARGEST else f"above {LARGEST:.0e}"


def _require_generation(file: Path, settings: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        most = LONGEST_TEXT if name in LENGTHS else MOST_BEAMS if name in BEAMS else None
        if most is not None and isinstance(value, int | float) and value > most:
            unit = "tokens" if name in LENGTHS else "beams"
            raise UserError(
                f"{file}: {name} is {_spelled(value)}, and more than {most:,} {unit} are not asked for; the cache alone would take "
                f"{spoken(_cache_bytes(config) * value)}"
            )
        if name == "task_specific_params" and isinstance(value, Mapping):
            for params in value.values():
                if isinstance(params, Mapping):
                    _require_generation(file, params, config)
    _require_cache(file, settings, config)


def _require_cache(file: Path, settings: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    kind = settings.get("cache_implementation")
    if kind in CACHES_OF_MACHINES:
        raise UserError(f"{file}: cache_implementation={kind} is no matter of a model but of a machine; leave it out")
    if kind in (None, "dynamic"):
        return
    needed = _cache_bytes(config) * _size(settings, *LENGTHS) * _size(settings, *BEAMS)
    if (there := machine_memory()) is not None and needed > there:
        raise UserError(
            f"{file}: cache_implementation={kind} takes {spoken(needed)} of memory before a token is written, and this machine "
            f"has {spoken(there)}; leave it out"
        )


def _cache_bytes(config: Mapping[str, Any]) -> int:
    """Keys and values of one token in all layers, in float32."""
    decoder = config.get("decoder")
    fields = decoder if isinstance(decoder, Mapping) else config
    width = _size(fields, "hidden_size", "d_model", "n_embd")
    if {"num_key_value_heads", "head_dim"} <= fields.keys():
        width = _size(fields, "num_key_value_heads") * _size(fields, "head_dim")
    return 8 * width * _size(fields, *(name for name in fields if LAYERS.fullmatch(name)))
