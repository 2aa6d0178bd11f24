"""From a trained model to a folder that loads anywhere, and from there to the Hub."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError
from ..configuration.version import __version__
from ..modeling.auto import AUTO_CLASSES
from .bundle import auto_map, bundle_code, custom_pipelines, head_of
from .card import CardFields, read_results, render_card

# Every file that a published folder may hold: what is written here, and what a download from the Hub adds.
PUBLISHED_FILES = (
    "README.md", "LICENSE", ".gitattributes",
    "config.json", "generation_config.json",
    "model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "vocab.json", "vocab.txt", "merges.txt", "*.spm", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "configuration_*.py", "modeling_*.py", "pipeline_*.py",
    "recipe.yaml", "results.json", "curve.png",
)  # fmt: skip


LOCAL_PATH = re.compile(
    r"^( *(?:output_dir|path|init_from|encoder|decoder): )(?:[/~.]|[A-Za-z]:)\S*[/\\]([^/\\\s]+)/?$", re.MULTILINE
)


def publish(
    source: str | os.PathLike,
    output_folder: str | os.PathLike,
    *,
    metrics: Sequence[dict[str, Any]] | None = None,
    card: CardFields | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    push_to_hub: str | None = None,
    private: bool = False,
) -> Path:
    """Writes a folder that `transformers` alone can load, and pushes it to the Hub if asked to.

    The folder appears complete or not at all. The same source gives the same bytes.

    Args:
        source: What `save_pretrained` wrote, or a run's folder that holds such a folder as `best`. Beside the weights
            may lie a tokenizer, `generation_config.json`, `recipe.yaml`, `results.json` and `curve.png`.
        output_folder: The folder to write; absent or empty.
        metrics: Results for the card, as in `results.json`, and instead of it: dicts with `name`, `type`, `value`,
            `dataset` and perhaps `split` and `signature`.
        card: What the card says beyond what the files tell.
        max_shard_size: Weights beyond this size are split over several files: bytes, or a text like `5GB`.
        overwrite: Replace `output_folder` if it is a published folder.
        push_to_hub: A Hub id, `name/model`, to push to.
        private: Make the Hub repository private, where it is not there yet.

    Returns:
        The folder written.

    Raises:
        UserError: Something is missing or in the way, or the Hub cannot be reached; said before any work is done,
            except where the Hub itself refuses.
    """
    source, target = Path(source), Path(os.path.abspath(output_folder))
    if push_to_hub is not None:
        _require_hub(push_to_hub)
    _require_room(target, source, overwrite)
    folder = _model_folder(source)
    config_class, model_class = _classes_of(folder)
    extras = {name: path for name in ("recipe.yaml", "results.json", "curve.png") if (path := _find(name, source))}
    if metrics is None and "results.json" in extras:
        metrics, origin = _read_json(extras["results.json"]), str(extras["results.json"])
    else:
        metrics, origin = metrics or [], "metrics"
    results = read_results(metrics, origin)
    recipe = None
    if "recipe.yaml" in extras:
        recipe = without_local_folders(extras.pop("recipe.yaml").read_text(encoding="utf-8"))
    tokenizer = _load_tokenizer(folder)
    model = _load_model(model_class, folder, tokenizer)
    readme = render_card(
        model.config,
        head_of(model_class),
        model_id=push_to_hub or target.name,
        version=__version__,
        fields=card,
        results=results,
        recipe=recipe,
        has_tokenizer=tokenizer is not None,
        has_curve="curve.png" in extras,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        mask_token=getattr(tokenizer, "mask_token", None),
    )

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as aside:
        new = Path(aside, "new")
        new.mkdir()
        model.save_pretrained(new, max_shard_size=max_shard_size)
        _point_at_code(new / "config.json", config_class)
        for name, content in bundle_code(config_class).items():
            (new / name).write_bytes(content)
        if tokenizer is not None:
            tokenizer.save_pretrained(new)
        for name, path in extras.items():
            shutil.copyfile(path, new / name)
        if recipe is not None:
            (new / "recipe.yaml").write_text(recipe, encoding="utf-8")
        (new / "README.md").write_text(readme, encoding="utf-8")
        for path in new.iterdir():
            path.chmod(0o644)
        if target.exists():
            target.rename(Path(aside, "old"))
        new.rename(target)

    if push_to_hub is not None:
        _push(target, push_to_hub, private)
    return target


def without_local_folders(recipe: str) -> str:
    """A recipe's text in which local paths are cut down to their last part: where the author's files lay is nobody's
    business, and of no use elsewhere."""
    return LOCAL_PATH.sub(r"\1\2", recipe)


def is_published(folder: Path) -> bool:
    """Whether `publish` wrote this folder, and nothing else has been put into it."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    written = isinstance(config, dict) and {"auto_map", "trefoil_version"} <= config.keys()
    return written and not unexpected_files(folder)


def unexpected_files(folder: Path) -> list[str]:
    """What lies in a published folder and should not: paths relative to it."""
    own = [entry for entry in folder.iterdir() if entry.name != ".cache"]
    return sorted(
        f"{entry.name}/" if entry.is_dir() else entry.name
        for entry in own
        if entry.is_dir() or not any(fnmatch(entry.name, pattern) for pattern in PUBLISHED_FILES)
    )


def _require_hub(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"cannot push to {repo_id!r}: {error}") from error
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise UserError(f"cannot push to {repo_id}: HF_HUB_OFFLINE is set; unset it, or publish without pushing")
    if huggingface_hub.get_token() is None:
        raise UserError(f"cannot push to {repo_id}: there is no Hub token; run `hf auth login` or set HF_TOKEN")


def _require_room(target: Path, source: Path, overwrite: bool) -> None:
    inside = source.resolve()
    if target.resolve() == inside or inside in target.resolve().parents or target.resolve() in inside.parents:
        raise UserError(f"{target}: the output folder and the source {source} overlap; choose a folder outside of it")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir():
        raise UserError(f"{target}: is a file; choose a folder that is not there yet")
    if not overwrite:
        raise UserError(f"{target}: is not empty; choose another folder, or replace it with overwrite (--overwrite)")
    if not is_published(target):
        raise UserError(f"{target}: is not a published folder, or holds other files too, and is not overwritten")


def _model_folder(source: Path) -> Path:
    for folder in (source, source / "best"):
        if (folder / "config.json").is_file():
            break
    else:
        raise UserError(f"{source}: holds no model: there is no config.json, neither in it nor in its folder `best`")
    if not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        raise UserError(f"{folder}: holds no safetensors weights; write model.safetensors with model.save_pretrained")
    return folder


def _find(name: str, source: Path) -> Path | None:
    return next((path for path in (source / name, source / "best" / name) if path.is_file()), None)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: is not JSON: {error}") from error


def _classes_of(folder: Path) -> tuple[type[PreTrainedConfig], type[PreTrainedModel]]:
    config = _read_json(folder / "config.json")
    families = {config_class.model_type: config_class for config_class in AUTO_CLASSES}
    if config.get("model_type") not in families:
        raise UserError(
            f"{folder / 'config.json'}: model_type {config.get('model_type')!r} is not one of {', '.join(families)}"
        )
    config_class = families[config["model_type"]]
    models = {model_class.__name__: model_class for model_class in AUTO_CLASSES[config_class].values()}
    architecture = (config.get("architectures") or [None])[0]
    if architecture not in models:
        raise UserError(f"{folder / 'config.json'}: architectures {architecture!r} is not one of {', '.join(models)}")
    return config_class, models[architecture]


def _load_model(
    model_class: type[PreTrainedModel], folder: Path, tokenizer: PreTrainedTokenizerBase | None
) -> PreTrainedModel:
    try:
        model, report = model_class.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: the model does not load: {str(error).strip().splitlines()[0]}") from error
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if keys := sorted(map(str, report[problem])):
            raise UserError(f"{folder}: weights and config.json disagree: {problem.replace('_', ' ')} {keys[:3]}")
    size = model.get_input_embeddings().weight.shape[0]
    if tokenizer is not None and len(tokenizer) > size:
        raise UserError(f"{folder}: the tokenizer has {len(tokenizer)} tokens, but the model's embedding only {size}")
    return model


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    if not (folder / "tokenizer_config.json").is_file() and not (folder / "tokenizer.json").is_file():
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: the tokenizer does not load: {str(error).strip().splitlines()[0]}") from error
    for how_it_was_loaded in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(how_it_was_loaded, None)
    return tokenizer


def _point_at_code(path: Path, config_class: type[PreTrainedConfig]) -> None:
    config = _read_json(path)
    config |= {"auto_map": auto_map(config_class), "trefoil_version": __version__}
    if pipelines := custom_pipelines(config_class):
        config["custom_pipelines"] = pipelines
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _push(folder: Path, repo_id: str, private: bool) -> None:
    api = huggingface_hub.HfApi()
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=f"Publish with trefoil-transformers {__version__}",
            delete_patterns=["*.py", "*.safetensors", "*.safetensors.index.json"],
        )
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{folder} is written, but pushing to {repo_id} failed: {reason}") from error
