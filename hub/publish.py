"""From a trained model to a folder that loads anywhere, and from there to the Hub."""

import json
import os
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors.torch import load_file
from transformers import PreTrainedConfig

from ..configuration.errors import UserError, reason
from ..configuration.version import __version__
from ..data.progress import in_steps, say
from ..recipes.schema import load_recipe
from ..training.adapters import kind_of, read_adapter
from ..training.manifest import write_manifest
from ..training.run_folder import ModelFolder, best_model
from ..training.strangers import read_json
from ..training.watch import first_not_finite
from .bundle import auto_map, bundle_code, custom_pipelines, head_of
from .card import CardFields, fields_with_card, read_results, render_card
from .folders import (
    OF_A_RUN,
    classes_of,
    is_published,
    load_image_processor,
    load_model,
    load_tokenizer,
    model_folder,
    require_room,
    written_aside,
)
from .places import Places, plain_picture
from .space import require_page, space_fields, space_files
from .uses import Use, example_of_row, find_use

WITH_PLACES = (
    "config.json", "model_config.json", "generation_config.json", "tokenizer_config.json", "preprocessor_config.json",
)  # fmt: skip  # files that may name a place of this machine
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
    merge: bool = False,
) -> Path:
    """Writes a folder that `transformers` alone can load, and pushes it to the Hub if asked to. An adapter stays one,
    which PEFT loads on its base, unless it is merged.

    The folder appears complete or not at all. The same source gives the same bytes. `manifest.json` holds the checksum
    of each file, with which `check_published` compares.

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
        merge: Of an adapter: publish the whole model that it makes of its base.

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
    adapter = read_adapter(folder) if ModelFolder(folder).is_adapter else None
    if adapter is None and merge:
        raise UserError(f"{folder}: is a whole model, with no adapter to merge; leave out merge (--merge)")
    config_class, model_class = classes_of(folder)
    extras = {name: path for name in OF_A_RUN if (path := _find(name, source))}
    if metrics is None and "results.json" in extras:
        metrics, origin = read_json(extras["results.json"]), str(extras["results.json"])
    else:
        metrics, origin = metrics or [], "metrics"
    places, recipe = Places(source), None
    if "recipe.yaml" in extras:
        own = load_recipe(extras["recipe.yaml"])
        places = places.with_those_of(own)
        recipe = places.recipe(own)
    fields, kind = card or CardFields(), None
    if adapter is not None and fields.base_model is None and places.is_on_hub(adapter.base_model_name_or_path):
        fields = replace(fields, base_model=adapter.base_model_name_or_path)
    if adapter is not None and not merge:
        _require_adapter(folder, adapter, fields, dtype, space)
        kind = kind_of(adapter)
    results = read_results(places.text(metrics), origin)
    written: dict[str, bytes] = {}
    if recipe is not None:
        written["recipe.yaml"] = recipe.to_yaml().encode()
    if "results.json" in extras:
        written["results.json"] = _json(places.text(read_json(extras["results.json"])))
    if "curve.png" in extras:
        written["curve.png"] = plain_picture(extras["curve.png"].read_bytes(), extras["curve.png"])
    model_id = push_to_hub or target.name
    title = fields.title or model_id.rpartition("/")[2]
    tokenizer = load_tokenizer(folder)
    if space:
        require_page(folder, head_of(model_class), tokenizer)
    with in_steps(f"publishing {source}", 3) as begin:
        begin("reading the weights")
        model = load_model(model_class, folder, tokenizer)
        image_processor = load_image_processor(model, folder)
        use = find_use(head_of(model_class), model.config, fields.task, recipe)
        fields = fields_with_card(fields, source, use) if is_published(source) else fields
        fields, said = with_example(fields, use, ModelFolder(folder).read_example(), push_to_hub is not None)
        readme = render_card(
            model.config,
            head_of(model_class),
            model_id=model_id,
            version=__version__,
            fields=fields,
            results=results,
            recipe=recipe,
            has_tokenizer=tokenizer is not None,
            has_curve="curve.png" in extras,
            stored_as=dtype,
            num_parameters=sum(one.numel() for one in (model.parameters() if kind is None else _weights(folder))),
            mask_token=getattr(tokenizer, "mask_token", None),
            metadata=space_fields(title) if space else None,
            adapter=kind,
        )

        weights = None if dtype is None else rounded(model, STORED_AS[dtype])
        _require_finite(folder, model, weights, dtype)
        begin(f"writing {output_folder}")
        with written_aside(target) as new:
            if kind is None:
                model.save_pretrained(new, max_shard_size=max_shard_size, state_dict=weights)
                _point_at_code(new / "config.json", config_class)
                written |= bundle_code(config_class)
            else:
                _write_adapter(folder, new)
                written["adapter_config.json"] = _adapter_config(folder, fields.base_model)
            for reader in (tokenizer, image_processor):
                if reader is not None:
                    reader.save_pretrained(new)
            for name in WITH_PLACES:
                if (new / name).is_file() and (content := read_json(new / name)) != (cut := places.config(content)):
                    (new / name).write_bytes(_json(cut))
            written |= (space_files(new) if space else {}) | {"README.md": readme.encode()}
            for name, content in written.items():
                (new / name).write_bytes(content)
            write_manifest(new)

        if push_to_hub is not None:
            begin(f"pushing to {push_to_hub}")
            _push(target, push_to_hub, private)
            if space:
                _push(target, push_to_hub, private, repo_type="space")
    if said is not None:
        say(said)
    return target


def must_be_merged(source: str | os.PathLike) -> bool:
    """Whether it holds an adapter on a model that nobody else has, which is published merged, or with the Hub id of its base.

    Raises:
        UserError: It holds no model, or an adapter that cannot be read.
    """
    folder = model_folder(Path(source))
    if not ModelFolder(folder).is_adapter:
        return False
    return not Places(Path(source)).is_on_hub(read_adapter(folder).base_model_name_or_path)


def with_example(
    fields: CardFields, use: Use, row: Mapping[str, str], is_pushed: bool
) -> tuple[CardFields, str | None]:
    """The card's fields with a row of the data as the example where there is none, and what the user is to know of it. What
    nobody has looked at is not pushed.

    Args:
        row: What a model is asked, as the folder of its run has it.

    Raises:
        UserError: Of an example that needs two texts, one was given; or of another one, two.
    """
    if fields.example is not None or fields.question is not None:
        if (fields.question is None) == (use.example in ("context", "pair")) or fields.example is None:
            needed = {"context": "a context and a question", "pair": "two texts"}.get(use.example)
            raise UserError(
                f"this model is for {use.task} and is asked with {needed}: give example and question (--example, --question)"
                if needed
                else f"this model is for {use.task} and is asked with one text: give example (--example) alone"
            )
        return fields, None
    example = example_of_row(use, row)
    if example is None:
        return fields, None
    first, second = example
    if is_pushed:
        options = f"--example {shlex.quote(first)}" + (f" --question {shlex.quote(second)}" if second else "")
        return fields, f"the card shows none of your data, since it was pushed at once; to show a row: {options}"
    texts = " and ".join(f"“{text}”" for text in example if text)
    option = "--example TEXT --question TEXT" if second else "--example TEXT"
    shown = replace(fields, example=first, question=second)
    return shown, f"the card shows this row of your data, which was not trained on: {texts}; {option} shows another"


def _require_adapter(folder: Path, adapter: Any, fields: CardFields, dtype: str | None, space: bool) -> None:
    """Raises a UserError where an adapter cannot be published as one, as it is asked for."""
    if fields.base_model is None:
        raise UserError(
            f"{folder}: is an adapter on {adapter.base_model_name_or_path}, which nobody else has; publish the whole model "
            "with merge (--merge), or say base_model (--base-model), the Hub id of that one"
        )
    asked = {"dtype (--dtype)": dtype, "space (--space)": space}
    if option := next((option for option, value in asked.items() if value), None):
        raise UserError(f"{folder}: {option} is for whole models, and this is an adapter; add merge (--merge)")


def _write_adapter(folder: Path, new: Path) -> None:
    files, written = ModelFolder(folder), ModelFolder(new)
    shutil.copyfile(files.adapter_weights, written.adapter_weights)
    written.model_config.write_bytes(_json(read_json(files.model_config) | {"trefoil_version": __version__}))
    if (settings := folder / "generation_config.json").is_file():
        shutil.copyfile(settings, new / settings.name)


def _adapter_config(folder: Path, base: str | None) -> bytes:
    content = read_json(ModelFolder(folder).adapter)
    return _json(content | {"base_model_name_or_path": base, "inference_mode": True}, sort_keys=True)


def _weights(folder: Path) -> Iterable[torch.Tensor]:
    return load_file(ModelFolder(folder).adapter_weights).values()


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


def _require_finite(
    folder: Path, model: torch.nn.Module, weights: dict[str, torch.Tensor] | None, dtype: str | None
) -> None:
    if (name := first_not_finite(model.state_dict().items())) is not None:
        raise UserError(f"{folder}: {name} holds NaN or an infinity, so the model is not published; train it anew")
    if weights is not None and (name := first_not_finite(weights.items())) is not None:
        raise UserError(f"{folder}: {name} is beyond what {dtype} can hold; publish with --dtype bfloat16, or as it is")


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
