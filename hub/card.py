"""The model card: `hub_card.md`, filled with what is known. What is not known is left out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedConfig

from ..configuration.errors import UserError
from ..recipes.schema import Recipe
from .uses import Use, example_calls, find_use, labels_of, pipeline_tag, widget_of

# In a checkout the template lies beside the folder `hub`, in an installed package beside `trefoil/hub`.
TEMPLATE = Path(__file__).parent.parent / "hub_card.md"


@dataclass(frozen=True)
class CardFields:
    """What a card says that no file of the model can tell. Every field is optional.

    Args:
        title: Heading and name in `model-index`. Default: the last part of the model's id.
        description: A paragraph: what the model does and for whom.
        language: ISO 639 codes: `["ko", "en"]`.
        license: A licence id of the Hub: `apache-2.0`.
        datasets: Hub ids of the training data.
        base_model: Hub id of the model that it was fine-tuned from.
        tags: Tags beside `trefoil`.
        limitations: What it does badly, a sentence each.
        task: The Hub's name of the task. Default: the recipe's task where the model's head does it, or what the head
            usually does.
        example: An input for the code samples; for question answering the context, for captions the name of a picture's file.
            Default: a row that the run kept beside the model, which was not trained on; where there is none, or the model is
            pushed at once, one in the first language where that is Korean, else in English.
        question: For question answering, a question about `example`; for pairs of texts the second one.
    """

    title: str | None = None
    description: str | None = None
    language: Sequence[str] = ()
    license: str | None = None
    datasets: Sequence[str] = ()
    base_model: str | None = None
    tags: Sequence[str] = ()
    limitations: Sequence[str] = ()
    task: str | None = None
    example: str | None = None
    question: str | None = None


def fields_with_recipe(fields: CardFields, recipe: Recipe | None) -> CardFields:
    """What the recipe knows where the fields say nothing: the languages, and the data where it came from the Hub."""
    if recipe is None:
        return fields
    places = [(one.name, one.path) for one in recipe.data.sources]
    names = [name for name, path in [(recipe.data.name, recipe.data.path), *places] if name and not path]
    return replace(fields, language=fields.language or recipe.language, datasets=fields.datasets or names)


def fields_with_card(fields: CardFields, folder: Path, use: Use) -> CardFields:
    """The example of the card that a published folder has, which is published anew, where the fields have none."""
    if fields.example is not None or fields.question is not None:
        return fields
    try:
        widget = ModelCard((folder / "README.md").read_text(encoding="utf-8")).data.get("widget")
    except (OSError, ValueError, yaml.YAMLError):
        return fields
    example = next((one for one in widget if isinstance(one, Mapping)), {}) if isinstance(widget, list) else {}
    names = {"context": ("context", "text"), "pair": ("text", "text_pair")}.get(use.example, ("text",))
    texts = [text for name in names if isinstance(text := example.get(name), str)]
    if len(texts) < len(names):
        return fields
    return replace(fields, example=texts[0], question=texts[1] if len(texts) > 1 else None)


@dataclass(frozen=True)
class Result:
    """One measured figure, with everything that is needed to measure it again."""

    name: str
    type: str
    value: float
    dataset_name: str
    dataset_type: str
    dataset_config: str | None = None
    split: str | None = None
    signature: str | None = None

    @property
    def rounded(self) -> str:
        return f"{self.value:.4g}"


def render_card(
    config: PreTrainedConfig,
    auto_class: str,
    *,
    model_id: str,
    version: str,
    fields: CardFields | None = None,
    results: Sequence[Result] = (),
    recipe: Recipe | None = None,
    has_tokenizer: bool = True,
    has_curve: bool = False,
    num_parameters: int | None = None,
    stored_as: str | None = None,
    mask_token: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    adapter: str | None = None,
) -> str:
    """The text of `README.md`, with the metadata that the Hub reads.

    Args:
        config: The model's configuration, for the table of its sizes.
        auto_class: The Auto class that loads it, e.g. `AutoModelForSeq2SeqLM`.
        model_id: What stands in the code samples as the model: a Hub id or a folder.
        version: The version of trefoil-transformers that publishes it.
        recipe: What made it, as it is to be shown; tells task, languages and data where the fields do not.
        num_parameters: Counted once where weights are tied.
        stored_as: The precision that the weights were rounded to after they were measured.
        mask_token: The tokenizer's, for masked language models.
        metadata: What else the head says, as of a Space.
        adapter: Its kind, where it is one on `fields.base_model`, and not a whole model.

    Raises:
        UserError: The recipe's task is unknown.
    """
    fields = fields_with_recipe(fields or CardFields(), recipe)
    use = find_use(auto_class, config, fields.task, recipe)
    task = pipeline_tag(fields.task) if fields.task else use.task
    title = fields.title or model_id.rpartition("/")[2]
    labels = labels_of(auto_class, config)
    language = next(iter(fields.language), None)
    calls, model_call = example_calls(use, labels, language, fields.example, fields.question, mask_token)
    more = {"library_name": "transformers" if adapter is None else "peft", **(metadata or {})}
    if adapter is not None:
        fields = replace(fields, tags=[adapter.lower(), *fields.tags])
    if task == use.task:
        fields = replace(fields, tags=[*use.tags, *fields.tags])
        if has_tokenizer:
            more |= widget_of(use, language, fields.example, fields.question, mask_token)
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"plain": _plain, "code": _code}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    text = template.render(
        metadata=_metadata(task, title, fields, results, more).to_yaml(),
        title=" ".join(title.split()),
        fields=fields,
        family=_FAMILIES.get(config.model_type, config.model_type.removeprefix("trefoil_")),
        parameters=_spoken(num_parameters) if num_parameters else None,
        architecture=_architecture(config),
        task=task,
        model_id=model_id,
        auto_class=auto_class,
        has_tokenizer=has_tokenizer,
        reads_pictures=use.reader == "image_processor",
        labels=labels,
        adapter=adapter,
        base_options=_base_options(config, auto_class, labels),
        calls=calls if has_tokenizer and task == use.task else [],
        model_call=model_call,
        recipe=recipe and _fenced(recipe.to_yaml().rstrip(), "yaml"),
        has_curve=has_curve,
        results=results,
        stored_as=stored_as,
        limits=[*fields.limitations, *_limits_of(config)],
        version=version,
    )
    return ModelCard(text.rstrip() + "\n").content


def _plain(text: Any) -> str:
    """Markdown that shows a text as it is, in one line: no links, pictures, HTML or cells of a table."""
    return re.sub(r"([\\`\[\]<|])", r"\\\1", " ".join(str(text).split()))


def _code(text: Any) -> str:
    """The same, as code."""
    line = " ".join(str(text).split())
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if len(ticks) > 1 else ""
    return f"{ticks}{space}{line}{space}{ticks}"


def _fenced(text: str, language: str) -> str:
    """A block of code that no line of it can end."""
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks}{language}\n{text}\n{ticks}"


def read_results(entries: Any, origin: str) -> list[Result]:
    """The entries of `results.json`, checked: a list, or an object whose `metrics` is that list.

    Each is a dict with `name`, `type` (the Hub's id of the metric), `value` and `dataset` (a name, or a dict with
    `name`, `type` and perhaps `config`), and perhaps `split` and `signature`.

    Raises:
        UserError: An entry lacks something, or its value is no number; the message names entry and key.
    """
    if isinstance(entries, Mapping):
        entries = entries.get("metrics")
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise UserError(f"{origin}: the results must be a list, or an object with a list `metrics`")
    results = []
    for number, entry in enumerate(entries, start=1):
        place = f"{origin}, entry {number}"
        if not isinstance(entry, Mapping):
            raise UserError(f"{place}: must be an object with name, type, value and dataset, not {entry!r}")
        missing = [key for key in ("name", "type", "value", "dataset") if entry.get(key) is None]
        if missing:
            raise UserError(f"{place}: has no {', '.join(missing)}; a result has name, type, value and dataset")
        if not isinstance(entry["value"], int | float) or isinstance(entry["value"], bool):
            raise UserError(f"{place}: value must be a number, not {entry['value']!r}")
        dataset = entry["dataset"]
        if not isinstance(dataset, Mapping):
            dataset = {"name": str(dataset)}
        for key, one in (("name", entry), ("type", entry), ("split", entry), ("signature", entry), ("name", dataset),
                         ("type", dataset), ("config", dataset)):  # fmt: skip
            if not isinstance(one.get(key), str | None):
                raise UserError(f"{place}: {key} must be a text, not {one[key]!r:.100}")
        if not dataset.get("name"):
            raise UserError(f"{place}: dataset has no name; give a name, or an object with name and type")
        results.append(
            Result(
                name=entry["name"],
                type=entry["type"],
                value=entry["value"],
                dataset_name=dataset["name"],
                dataset_type=dataset.get("type") or dataset["name"].replace(" ", "-"),
                dataset_config=dataset.get("config"),
                split=entry.get("split"),
                signature=entry.get("signature"),
            )
        )
    return results


def _metadata(
    task: str, title: str, fields: CardFields, results: Sequence[Result], more: Mapping[str, Any]
) -> ModelCardData:
    return ModelCardData(
        **more,
        language=list(fields.language) or None,
        license=fields.license,
        pipeline_tag=task,
        tags=["trefoil", *fields.tags],
        base_model=fields.base_model,
        datasets=list(fields.datasets) or None,
        metrics=sorted({result.type for result in results}) or None,
        model_name=title if results else None,
        eval_results=[
            EvalResult(
                task_type=task,
                dataset_type=result.dataset_type,
                dataset_name=result.dataset_name,
                dataset_config=result.dataset_config,
                dataset_split=result.split,
                metric_type=result.type,
                metric_value=result.value,
                metric_name=result.name,
                metric_args={"signature": result.signature} if result.signature else None,
            )
            for result in results
        ]
        or None,
    )


def _base_options(config: PreTrainedConfig, auto_class: str, labels: Sequence[str]) -> str:
    """What a base must be told for it to have the head that an adapter brings the weights of."""
    if auto_class not in ("AutoModelForSequenceClassification", "AutoModelForTokenClassification"):
        return ""
    head = f"id2label={dict(enumerate(labels))!r}" if labels else f"num_labels={config.num_labels}"
    problem = "" if config.problem_type is None else f", problem_type={config.problem_type!r}"
    return f", {head}{problem}, ignore_mismatched_sizes=True"


_FAMILIES = {
    "trefoil_encoder_decoder": "encoder-decoder",
    "trefoil_recurrent": "recurrent encoder-decoder",
    "trefoil_vision_encoder_decoder": "vision encoder-decoder",
}

_SIZES = {
    "layers": "num_hidden_layers",
    "cell": "cell_type",
    "bidirectional": "bidirectional",
    "attention scores": "attention_type",
    "width": "hidden_size",
    "attention heads": "num_attention_heads",
    "key/value heads": "num_key_value_heads",
    "feed-forward width": "intermediate_size",
    "positions": "position_embedding_type",
    "longest sequence": "max_position_embeddings",
    "norm": "norm_type",
    "norm position": "norm_position",
    "vocabulary": "vocab_size",
}


def _halves(config: PreTrainedConfig) -> dict[str, PreTrainedConfig]:
    halves = {name: getattr(config, name) for name in config.sub_configs}
    return halves or {config.model_type.removeprefix("trefoil_"): config}


def _architecture(config: PreTrainedConfig) -> dict[str, Any] | None:
    halves = _halves(config)
    rows = {}
    for label, name in _SIZES.items():
        values = [getattr(half, name, None) for half in halves.values()]
        if None not in values:
            rows[label] = [str(value).replace("_", " ") for value in values]
    return {"columns": list(halves), "rows": rows} if rows else None


def _limits_of(config: PreTrainedConfig) -> list[str]:
    lengths = {name: getattr(half, "max_position_embeddings", None) for name, half in _halves(config).items()}
    return [f"The {name} is made for sequences of up to {length} tokens." for name, length in lengths.items() if length]


def _spoken(count: int) -> str:
    for size, unit in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
