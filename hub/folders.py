"""Model folders: what may lie in one, reading one, and writing one that is complete or not there at all."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoImageProcessor, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError, reason
from ..data.tokenizer import load_tokenizer as load_any_tokenizer
from ..data.whole_files import is_of_files, not_written, settle, whole_folder
from ..modeling.auto import AUTO_CLASSES
from ..modeling.vision_encoder_decoder import TrefoilVisionEncoderDecoderModel
from ..training.adapters import load_merged
from ..training.manifest import MANIFEST_FILE
from ..training.run_folder import ModelFolder, best_model
from ..training.strangers import INDEX, WEIGHTS, read_json, require_loadable, require_own_files

# Any of these makes a tokenizer
TOKENIZER_FILES = (
    "tokenizer_config.json", "tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model", "source.spm",
)  # fmt: skip

OF_A_RUN = ("recipe.yaml", "results.json", "curve.png")  # beside the model, or in the run's folder

# Every file that a published folder may hold: what is written here, and what a download from the Hub adds.
PUBLISHED_FILES = (
    "README.md", "LICENSE", ".gitattributes", MANIFEST_FILE,
    "config.json", "generation_config.json", "adapter_config.json", "adapter_model.safetensors", "model_config.json",
    "preprocessor_config.json",
    "model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "vocab.json", "target_vocab.json", "vocab.txt", "merges.txt", "*.spm", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "configuration_*.py", "modeling_*.py", "pipeline_*.py",
    *OF_A_RUN,
    "app.py", "visualization_*.py", "visualization_*.js", "visualization_*.css", "requirements.txt",
)  # fmt: skip


def is_published(folder: Path) -> bool:
    """Whether `publish` wrote this folder, and nothing else has been put into it."""
    file, keys = config_file(folder), {"trefoil_version"}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    if file.name == "config.json":
        keys |= {"auto_map"}
    written = isinstance(config, dict) and keys <= config.keys()
    return written and not unexpected_files(folder)


def config_file(folder: Path) -> Path:
    """Where the configuration of a model lies, or that of the model that an adapter makes of its base."""
    files = ModelFolder(folder)
    return files.model_config if files.is_adapter else files.config


def is_model_folder(folder: Path) -> bool:
    """Whether a model lies in this folder, and nothing else."""
    return (folder / "config.json").is_file() and not unexpected_files(folder)


def unexpected_files(folder: Path) -> list[str]:
    """What lies in a published folder and should not: paths relative to it."""
    own = [entry for entry in sorted(folder.iterdir()) if entry.name != ".cache"]
    unexpected = []
    for entry in own:
        if entry.name == "additional_chat_templates" and entry.is_dir():
            others = [path for path in sorted(entry.iterdir()) if path.is_dir() or path.suffix != ".jinja"]
            unexpected += [path.relative_to(folder).as_posix() for path in others]
        elif entry.is_dir():
            unexpected.append(f"{entry.name}/")
        elif not any(fnmatch(entry.name, pattern) for pattern in PUBLISHED_FILES):
            unexpected.append(entry.name)
    return unexpected


def require_room(target: Path, source: Path, overwrite: bool, may_go: Callable[[Path], bool], kind: str) -> None:
    """Checks that a folder can be written.

    Args:
        target: The folder.
        source: What it is made from.
        overwrite: Whether a folder there is replaced.
        may_go: Whether one is of the kind that is replaced.
        kind: What such a folder is called.

    Raises:
        UserError: There is something in the way.
    """
    inside = source.resolve()
    overlaps = target.resolve() == inside or inside in target.resolve().parents or target.resolve() in inside.parents
    if source.exists() and overlaps:
        raise UserError(f"{target}: the output folder and the source {source} overlap; choose a folder outside of it")
    try:
        settle(target)  # what was killed while it wrote
    except OSError as error:
        raise not_written(target, error, "choose another folder") from error
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir():
        raise UserError(f"{target}: is a file; choose a folder that is not there yet")
    if not overwrite:
        raise UserError(f"{target}: is not empty; choose another folder, or replace it with overwrite (--overwrite)")
    if not may_go(target):
        raise UserError(f"{target}: is not a {kind} folder, or holds other files too, and is not overwritten")


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` when the block ends without an error.

    Raises:
        UserError: It cannot be written.
    """
    try:
        with whole_folder(target) as new:
            yield new
    except Exception as error:
        if not is_of_files(error):
            raise
        raise not_written(target, error, "what was there before is kept; make room or choose another folder") from error


def model_folder(source: Path) -> Path:
    """The folder itself, or the best model of a run's folder.

    Raises:
        UserError: There is no model, or no safetensors weights, or what lies there is not the folder's own.
    """
    folder = Path(best_model(source))
    if not ModelFolder(folder).holds_model:
        raise UserError(f"{source}: holds no model: there is no config.json, neither in it nor in its folder `best`")
    if not ModelFolder(folder).is_adapter and not any((folder / name).is_file() for name in (WEIGHTS, INDEX)):
        raise UserError(f"{folder}: holds no safetensors weights; write model.safetensors with model.save_pretrained")
    require_own_files(source, (folder.name, *OF_A_RUN) if folder != source else OF_A_RUN)
    require_own_files(folder)
    require_loadable(folder)
    return folder


def classes_of(folder: Path) -> tuple[type[PreTrainedConfig], type[PreTrainedModel]]:
    """The Trefoil classes of a model folder's configuration and model.

    Raises:
        UserError: It is of another kind.
    """
    file = config_file(folder)
    if not file.is_file():
        raise UserError(f"{folder}: is an adapter without model_config.json, which a run's has; merge it with PEFT")
    config = read_json(file)
    decoder = config.get("decoder") or {}
    if (config.get("model_type"), decoder.get("model_type")) == ("vision-encoder-decoder", "trefoil_decoder"):
        # as captioning runs were saved before they had a type of their own
        return TrefoilVisionEncoderDecoderModel.config_class, TrefoilVisionEncoderDecoderModel
    families = {config_class.model_type: config_class for config_class in AUTO_CLASSES}
    if config.get("model_type") not in families:
        raise UserError(f"{file}: model_type {config.get('model_type')!r} is not one of {', '.join(families)}")
    config_class = families[config["model_type"]]
    models = {model_class.__name__: model_class for model_class in AUTO_CLASSES[config_class].values()}
    architecture = (config.get("architectures") or [None])[0]
    if architecture not in models:
        raise UserError(f"{file}: architectures {architecture!r} is not one of {', '.join(models)}")
    return config_class, models[architecture]


def load_model(
    model_class: type[PreTrainedModel], folder: Path, tokenizer: PreTrainedTokenizerBase | None
) -> PreTrainedModel:
    """The model of a folder, checked against its tokenizer; an adapter is merged into its base.

    Raises:
        UserError: It does not load, or weights, configuration and tokenizer do not fit together.
    """
    if ModelFolder(folder).is_adapter:
        model = load_merged(folder, model_class)
        check_vocabulary(tokenizer, model, str(folder))
        return model
    try:
        model, report = model_class.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, trust_remote_code=False
        )
    except (
        OSError,
        ValueError,
        RuntimeError,
        SafetensorError,
        ImportError,
        TypeError,
        LookupError,
        AttributeError,
    ) as error:
        raise UserError(f"{folder}: the model does not load: {reason(error)}") from error
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if keys := sorted(map(str, report[problem])):
            raise UserError(f"{folder}: weights and config.json disagree: {problem.replace('_', ' ')} {keys[:3]}")
    check_vocabulary(tokenizer, model, str(folder))
    return model


def check_vocabulary(tokenizer: PreTrainedTokenizerBase | None, model: PreTrainedModel, origin: str) -> None:
    """Raises a UserError where a tokenizer has tokens that the model has no embedding for."""
    size = model.get_input_embeddings().weight.shape[0]
    if tokenizer is not None and len(tokenizer) > size:
        raise UserError(f"{origin}: the tokenizer has {len(tokenizer)} tokens, but the model's embedding only {size}")


def load_image_processor(model: PreTrainedModel, folder: Path) -> Any:
    """What makes pictures ready for a model; None for one that reads none.

    Raises:
        UserError: It does not load.
    """
    if model.main_input_name != "pixel_values":
        return None
    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}: no image processor to load, from preprocessor_config.json: {reason(error)}"
        ) from error


def load_tokenizer(folder: str | os.PathLike) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a folder, if it has one, or of a Hub id.

    Raises:
        UserError: It does not load.
    """
    if Path(folder).is_dir() and not any(Path(folder, name).is_file() for name in TOKENIZER_FILES):
        return None
    tokenizer = load_any_tokenizer(folder)
    for how_it_was_loaded in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(how_it_was_loaded, None)
    if (
        tokenizer.is_fast
    ):  # how some call cut and filled up texts is kept in tokenizer.json, where other programs obey it
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        for how_it_was_called in ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of"):
            tokenizer.init_kwargs.pop(how_it_was_called, None)
    return tokenizer
