"""From a trained model to a folder that loads anywhere, and from there to the Hub."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import PreTrainedConfig

from ..configuration.errors import UserError, reason
from ..configuration.version import __version__
from ..recipes.schema import load_recipe
from ..training.run_folder import best_model
from .bundle import auto_map, bundle_code, custom_pipelines, head_of
from .card import CardFields, read_results, render_card
from .folders import (
    classes_of,
    is_published,
    load_image_processor,
    load_model,
    load_tokenizer,
    model_folder,
    read_json,
    require_room,
    written_aside,
)
from .places import Places, plain_picture
from .space import require_page, space_fields, space_files

STORED_AS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def publish(
    source: str | os.PathLike,
    output_folder: str | os.PathLike,
    *,
    metrics: Sequence[dict[str, Any]] | None = None,
    card: CardFields | None = None,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    push_to_hub: str | None = None,
    private: bool = False,
    space: bool = False,
) -> Path:
    """Writes a folder that `transformers` alone can load, and pushes it to the Hub if asked to.

    The folder appears complete or not at all. The same source gives the same bytes.

    Args:
        source: What `save_pretrained` wrote, or a run's folder that holds such a folder as `best`. Beside the weights
            may lie a tokenizer, an image processor, `generation_config.json`, `recipe.yaml`, `results.json` and `curve.png`.
        output_folder: The folder to write; absent or empty.
        metrics: Results for the card, as in `results.json`, and instead of it: dicts with `name`, `type`, `value`,
            `dataset` and perhaps `split` and `signature`.
        card: What the card says beyond what the files tell.
        dtype: Store the weights rounded to this one of `STORED_AS`; the model is loaded in its own as before. Default: as
            they are.
        max_shard_size: Weights beyond this size are split over several files: bytes, or a text like `5GB`.
        overwrite: Replace `output_folder` if it is a published folder.
        push_to_hub: A Hub id, `name/model`, to push to.
        private: Make the Hub repository private, where it is not there yet.
        space: Add a page to try the model on, so that the folder also runs as a Space, and push it as a Space of the
            same name too.

    Returns:
        The folder written.

    Raises:
        UserError: Something is missing or in the way, or the Hub cannot be reached; said before any work is done,
            except where the Hub itself refuses.
    """
    source, target = Path(source), Path(os.path.abspath(output_folder))
    if push_to_hub is not None:
        _require_hub(push_to_hub)
    require_room(target, source, overwrite, is_published, "published")
    folder = model_folder(source)
    config_class, model_class = classes_of(folder)
    extras = {name: path for name in ("recipe.yaml", "results.json", "curve.png") if (path := _find(name, source))}
    if metrics is None and "results.json" in extras:
        metrics, origin = read_json(extras["results.json"]), str(extras["results.json"])
    else:
        metrics, origin = metrics or [], "metrics"
    places, recipe = Places(source), None
    if "recipe.yaml" in extras:
        own = load_recipe(extras["recipe.yaml"])
        places = places.with_those_of(own)
        recipe = places.recipe(own)
    results = read_results(places.text(metrics), origin)
    written: dict[str, bytes] = {}
    if recipe is not None:
        written["recipe.yaml"] = recipe.to_yaml().encode()
    if "results.json" in extras:
        written["results.json"] = _json(places.text(read_json(extras["results.json"])))
    if "curve.png" in extras:
        written["curve.png"] = plain_picture(extras["curve.png"].read_bytes(), extras["curve.png"])
    model_id = push_to_hub or target.name
    title = (card and card.title) or model_id.rpartition("/")[2]
    tokenizer = load_tokenizer(folder)
    if space:
        require_page(folder, head_of(model_class), tokenizer)
    model = load_model(model_class, folder, tokenizer)
    image_processor = load_image_processor(model, folder)
    readme = render_card(
        model.config,
        head_of(model_class),
        model_id=model_id,
        version=__version__,
        fields=card,
        results=results,
        recipe=recipe,
        has_tokenizer=tokenizer is not None,
        has_curve="curve.png" in extras,
        stored_as=dtype,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        mask_token=getattr(tokenizer, "mask_token", None),
        metadata=space_fields(title) if space else None,
    )

    with written_aside(target) as new:
        weights = None if dtype is None else rounded(model, STORED_AS[dtype])
        model.save_pretrained(new, max_shard_size=max_shard_size, state_dict=weights)
        _point_at_code(new / "config.json", config_class)
        if tokenizer is not None:
            tokenizer.save_pretrained(new)
        if image_processor is not None:
            image_processor.save_pretrained(new)
        for name in ("config.json", "generation_config.json", "tokenizer_config.json", "preprocessor_config.json"):
            if (new / name).is_file() and (content := read_json(new / name)) != (cut := places.config(content)):
                (new / name).write_bytes(_json(cut))
        written |= bundle_code(config_class) | (space_files(new) if space else {}) | {"README.md": readme.encode()}
        for name, content in written.items():
            (new / name).write_bytes(content)

    if push_to_hub is not None:
        _push(target, push_to_hub, private)
        if space:
            _push(target, push_to_hub, private, repo_type="space")
    return target


def rounded(model: torch.nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The weights of a model, by name, in another precision; those that are one tensor still are."""
    made: dict[tuple, torch.Tensor] = {}
    weights = {}
    for name, weight in model.state_dict().items():
        place = (weight.data_ptr(), weight.shape)
        if place not in made:
            made[place] = weight.to(dtype) if weight.is_floating_point() else weight
        weights[name] = made[place]
    return weights


def _require_hub(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"cannot push to {repo_id!r}: {error}") from error
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise UserError(f"cannot push to {repo_id}: HF_HUB_OFFLINE is set; unset it, or publish without pushing")
    if huggingface_hub.get_token() is None:
        raise UserError(f"cannot push to {repo_id}: there is no Hub token; run `hf auth login` or set HF_TOKEN")


def _find(name: str, source: Path) -> Path | None:
    return next((path for path in (source / name, Path(best_model(source), name)) if path.is_file()), None)


def _point_at_code(path: Path, config_class: type[PreTrainedConfig]) -> None:
    config = read_json(path)
    config |= {"auto_map": auto_map(config_class), "trefoil_version": __version__}
    if pipelines := custom_pipelines(config_class):
        config["custom_pipelines"] = pipelines
    path.write_bytes(_json(config, sort_keys=True))


def _json(content: Any, sort_keys: bool = False) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=sort_keys, ensure_ascii=False) + "\n").encode()


def _push(folder: Path, repo_id: str, private: bool, repo_type: str = "model") -> None:
    api = huggingface_hub.HfApi()
    space_sdk = "gradio" if repo_type == "space" else None
    try:
        repo = api.create_repo(repo_id, repo_type=repo_type, space_sdk=space_sdk, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo.repo_id,
            repo_type=repo_type,
            folder_path=folder,
            commit_message=f"Publish with trefoil-transformers {__version__}",
            delete_patterns=["*.py", "*.js", "*.css", "*.safetensors", "*.safetensors.index.json"],
        )
    except (HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{folder} is written, but pushing to the {repo_type} {repo_id} failed: {reason(error)}"
        ) from error
