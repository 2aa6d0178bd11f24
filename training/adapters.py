"""Adapters in place of all weights: LoRA (Hu et al. 2022), DoRA (Liu et al. 2024) and IA3 (Liu et al. 2022), by PEFT.

PEFT puts them into the layers of the model itself, so that its class, its calls and whatever trains it stay what they
were. A model with adapters is saved as PEFT saves it, the adapter alone, with the place of its base; beside it lies
`model_config.json`, which says what the base does not know: the labels of a new head.
"""

import importlib.util
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ..configuration.errors import UserError, reason
from ..modeling.auto import AUTO_CLASSES
from ..recipes.schema import AdapterRecipe, nearest
from .checkpoints import has_adapters
from .quantization import leave_to_each_process, pack_layers
from .run_folder import ModelFolder

ALL_LINEAR = "all-linear"
NAME, PREFIX = "default", "base_model.model."  # PEFT's, of an adapter that is alone, and of what it saves
FEED_FORWARD = "down_proj"  # of IA3, which scales what these layers read, and what others write

# of a model that PEFT is to load: what its class is for
TASK_TYPES = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForQuestionAnswering": "QUESTION_ANS",
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
}
WITH_HEADS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")  # whose heads PEFT trains whole and saves, new or not

# what an adapter_config.json may say; other keys make PEFT import modules or read files that a stranger names
KNOWN_KEYS = {
    "LORA": ("r", "lora_alpha", "lora_dropout", "use_dora", "use_rslora", "rank_pattern", "alpha_pattern",
             "target_modules", "exclude_modules", "modules_to_save", "task_type", "base_model_name_or_path"),
    "IA3": ("feedforward_modules", "target_modules", "exclude_modules", "modules_to_save", "task_type",
            "base_model_name_or_path"),
}  # fmt: skip
IDLE_KEYS = ("peft_type", "peft_version", "auto_mapping", "inference_mode")

# what the files of a folder, or fields that do not fit together, make transformers and PEFT raise
LOADING_ERRORS = (
    StrictDataclassError, SafetensorError, OSError, ValueError, RuntimeError, LookupError, ImportError, TypeError, AttributeError,
)  # fmt: skip


def require_peft(what: str) -> None:
    """Raises a UserError where PEFT is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise UserError(f"{what} needs peft: pip install 'trefoil-transformers[adapters]'")


# --- to train


def add_adapter(
    model: PreTrainedModel, recipe: AdapterRecipe, base: str, auto_class: type, new_weights: Iterable[str] = ()
) -> None:
    """Put a new adapter into a model, of which from here on only that is trained, and what has to be trained whole.

    Args:
        base: Where the weights of the model come from: a folder or Hub id.
        auto_class: The one that loads such a model.
        new_weights: The names of those that the base has not.

    Raises:
        UserError: The recipe names a layer that the model does not have, or a new weight cannot be trained apart from an
            old one.
    """
    from peft import IA3Config, LoraConfig

    task_type = TASK_TYPES.get(auto_class.__name__)
    whole = modules_trained_whole(model, new_weights, has_own_head=task_type in WITH_HEADS)
    targets, others = find_targets(model, recipe.targets, whole)
    if recipe.load_in is not None:
        pack_layers(model, linear_layers(model, whole), recipe.load_in)
    options: dict[str, Any] = {
        "task_type": task_type,
        "target_modules": targets,
        "exclude_modules": others or None,
        "modules_to_save": whole or None,
    }
    if recipe.kind == "ia3":
        read = [name for name in targets if name.endswith(FEED_FORWARD)]
        config = IA3Config(feedforward_modules=read, **options)
    else:
        is_dora = recipe.kind == "dora"
        config = LoraConfig(
            r=recipe.r, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, use_dora=is_dora, **options
        )
    try:
        with _quietly():
            model.add_adapter(config, NAME)
    except ValueError as error:
        raise UserError(f"adapter.kind={recipe.kind!r}: {reason(error)}") from None
    if recipe.load_in is not None:
        leave_to_each_process(model)
    config.base_model_name_or_path = str(Path(base).resolve()) if Path(base).is_dir() else base


def modules_trained_whole(model: PreTrainedModel, new_weights: Iterable[str], has_own_head: bool) -> list[str]:
    """The modules of new weights, and of a head that tells labels apart all.

    Raises:
        UserError: One of them holds a weight that is not new, or not its own.
    """
    wanted = set(new_weights)
    base = model.base_model
    if has_own_head and base is not model:
        of_base = {id(parameter) for parameter in base.parameters()}
        wanted |= {name for name, parameter in model.named_parameters() if id(parameter) not in of_base}
    modules = {name.rpartition(".")[0] for name in wanted}
    for module in sorted(modules):
        prefix = f"{module}." if module else ""
        for name, _ in model.get_submodule(module).named_parameters(remove_duplicate=False):
            if f"{prefix}{name}" not in wanted:
                new = min(name for name in wanted if name.rpartition(".")[0] == module)
                raise UserError(
                    f"adapter: {new} is new, and is trained with all of its module, in which {prefix}{name} is not new; "
                    "start from a model that has both, or train without an adapter"
                )
    return sorted(module for module in modules if not any(module.startswith(f"{other}.") for other in modules))


def find_targets(model: PreTrainedModel, wanted: str | list[str], whole: Iterable[str]) -> tuple[list[str], list[str]]:
    """The ends of the names of the linear layers to adapt, and the whole names of other modules that end so.

    Args:
        wanted: `all-linear`, or such ends.
        whole: Modules that are trained whole.

    Raises:
        UserError: No layer's name ends so.
    """
    linear = linear_layers(model, whole)
    ends = sorted({name.rpartition(".")[2] for name in linear})
    named = [wanted] if isinstance(wanted, str) else wanted
    targets = ends if wanted == ALL_LINEAR else sorted(set(named))
    for target in targets:
        if not any(_ends(name, [target]) for name in linear):
            raise UserError(
                f"adapter.targets: {target!r} names no linear layer of the model{nearest(target, [*ends, ALL_LINEAR])}"
            )
    if not targets:
        raise UserError(f"adapter.targets={wanted!r}: a {model.config.model_type} has no linear layers to adapt")
    return targets, [name for name, _ in model.named_modules() if _ends(name, targets) and name not in linear]


def linear_layers(model: PreTrainedModel, whole: Iterable[str]) -> list[str]:
    """All but heads and the output projection, and none of the modules that are trained whole."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    output = model.get_output_embeddings()
    return [
        name for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output and name.startswith(prefix)
        and not any(f"{name}.".startswith(f"{one}.") for one in whole)
    ]  # fmt: skip


def _ends(name: str, ends: Iterable[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """As `save_pretrained` does; with adapters, these alone, as PEFT does, which would ask the Hub for the base each time."""
    if not has_adapters(model):
        model.save_pretrained(folder)
        return
    from peft import get_peft_model_state_dict

    files, weights = ModelFolder(folder), get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {f"{PREFIX}{name}": tensor.contiguous() for name, tensor in weights.items()}
    save_file(tensors, files.adapter_weights, metadata={"format": "pt"})
    model.peft_config[NAME].save_pretrained(folder)
    model.config.architectures = [type(model).__name__]
    model.config.to_json_file(files.model_config)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


# --- to use


def load_merged(folder: Path | str, model_class: Any, **options: Any) -> PreTrainedModel:
    """The base of an adapter with the adapter added to its weights: a model as if all of them had been trained.

    Args:
        folder: Holds an adapter.
        model_class: An Auto class, or the class itself.
        options: Of `from_pretrained`.

    Raises:
        UserError: The adapter or its base does not load, or they do not fit together.
    """
    files, adapter = ModelFolder(folder), read_adapter(folder)
    from peft import PeftModel, get_peft_model_state_dict

    if not files.adapter_weights.is_file():  # PEFT would unpickle another
        raise UserError(f"{folder}: holds no {files.adapter_weights.name}; save the adapter as safetensors")
    config, base = read_model_config(folder), adapter.base_model_name_or_path
    try:
        with _quietly():
            model, report = model_class.from_pretrained(
                base, config=config, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True,
                trust_remote_code=False, **options,
            )  # fmt: skip
    except LOADING_ERRORS as error:
        raise UserError(f"{folder}: its base model {base} does not load: {reason(error)}") from None
    not_in_base = [*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])]
    misfit = f"{folder}: the adapter does not fit its base model {base}"
    try:
        with _quietly():
            adapted = PeftModel.from_pretrained(model, str(folder), config=adapter)
        needed = {f"{PREFIX}{name}" for name in not_in_base}
        needed |= get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()
        with safe_open(files.adapter_weights, framework="pt") as tensors:
            lacking = sorted(needed - set(tensors.keys()))
    except LOADING_ERRORS as error:
        raise UserError(f"{misfit}: {reason(error)}") from None
    if lacking:
        raise UserError(f"{misfit}: it lacks {lacking[0].removeprefix(PREFIX)}")
    merged = adapted.merge_and_unload()
    merged.config.name_or_path = str(folder)
    return merged


def read_adapter(folder: Path | str) -> Any:
    """The `PeftConfig` of an adapter.

    Raises:
        UserError: It cannot be read, or asks for what is not known here.
    """
    require_peft(str(folder))
    from peft import IA3Config, LoraConfig

    file = ModelFolder(folder).adapter
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        kind = content["peft_type"]
        base = content["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: cannot be read ({reason(error)}); save the adapter again") from None
    if kind not in KNOWN_KEYS:
        raise UserError(f"{file}: peft_type {kind!r} is none of {', '.join(KNOWN_KEYS)}")
    if not isinstance(base, str) or not base or (Path(base).is_absolute() and not Path(base).is_dir()):
        raise UserError(
            f"{file}: its base model {base!r} is not there; move it back, or write its place as base_model_name_or_path"
        )
    known = {key: content[key] for key in KNOWN_KEYS[kind] if key in content}
    kinds: dict[str, Any] = {"LORA": LoraConfig, "IA3": IA3Config}
    usual = json.loads(json.dumps(kinds[kind]().to_dict(), default=list))
    for key, value in content.items():
        if key not in known and key not in IDLE_KEYS and value != usual.get(key):
            raise UserError(
                f"{file}: {key}={value!r} is not known here; load the adapter with PEFT, and merge it there"
            )
    try:
        return kinds[kind](**known)
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: {reason(error)}") from None


def kind_of(adapter: Any) -> str:
    """What a `PeftConfig` is called in papers."""
    if adapter.peft_type.value == "IA3":
        return "IA3"
    return "DoRA" if adapter.use_dora else "LoRA"


def read_model_config(folder: Path | str) -> PreTrainedConfig:
    """The configuration of the model that an adapter makes of its base; of an adapter of others, the base's.

    Raises:
        UserError: It cannot be read.
    """
    file = ModelFolder(folder).model_config
    place = str(file) if file.is_file() else read_adapter(folder).base_model_name_or_path
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    except LOADING_ERRORS as error:
        raise UserError(f"{place}: cannot be read: {reason(error)}") from None
    config.name_or_path = str(folder)
    return config


@contextmanager
def whole_model(folder: Path | str) -> Iterator[Path | str]:
    """The folder itself, or, of an adapter, a temporary one that holds the model with the adapter merged into its base.

    Raises:
        UserError: That does not load.
    """
    files = ModelFolder(folder)
    if not files.is_adapter:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="trefoil-merged-") as place:
        load_merged(folder, _class_of(read_model_config(folder), folder)).save_pretrained(place)
        for file in files.path.iterdir():
            if file.is_file() and file not in (files.adapter, files.adapter_weights, files.model_config):
                shutil.copyfile(file, Path(place, file.name))
        yield Path(place)


def _class_of(config: PreTrainedConfig, folder: Path | str) -> type[PreTrainedModel]:
    classes = AUTO_CLASSES.get(type(config), {}).values()
    name = next(iter(config.architectures or ()), None)
    found = next((each for each in classes if each.__name__ == name), None)
    if found is None:
        raise UserError(f"{ModelFolder(folder).model_config}: architectures {name!r} is none of ours")
    return found


@contextmanager
def _quietly() -> Iterator[None]:
    """transformers tells of each weight that a base has not, of which the adapter brings all; PEFT calls it by names of
    old, and what it misses is an error here."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
