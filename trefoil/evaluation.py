"""`trefoil evaluate`: any model on any labelled file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
from transformers import GenerationConfig, PreTrainedConfig

from .configuration.errors import UserError
from .data.formats import FORM
from .data.tokenizer import load_tokenizer
from .new import chosen_columns, read_named
from .recipes.reading import override_mapping, read_mapping
from .recipes.schema import Recipe, build
from .tasks import TASKS, get_task
from .tasks.labelled import LabelledReader
from .tasks.reader import Reader, shortened
from .tasks.task import Task, usual_name
from .training.models import tasks_of
from .training.run import make_reader
from .training.run_folder import ModelFolder
from .training.scoring import read_config
from .visualization.asking import read_card

UNLIMITED = 10**9  # tokens, from which on a tokenizer's limit is none
LONGEST = 512  # tokens that are generated, where a model does not say


def recipe_of_file(folder: Path | str, file: str, overrides: Sequence[str] = ()) -> tuple[Recipe, list[str]]:
    """How a model is measured on the rows of a file: as the recipe beside it says or, where there is none, as its architecture
    does.

    Args:
        folder: A folder with a model and its tokenizer, or a Hub id.
        file: Of any format that is read, but no folder.
        overrides: `key.sub=value` for the recipe; `data.columns` names the file's columns.

    Returns:
        It, and lines on what was taken for what.

    Raises:
        UserError: No such file; no telling what the model does or which column is what; labels that the model does not have.
    """
    if not Path(file).is_file():
        raise UserError(f"{file}: {'is a folder; name a file in it' if Path(file).is_dir() else 'no such file'}")
    said: dict[str, Any] = {}
    override_mapping(said, overrides)
    config, notes = read_config(folder), list[str]()
    beside = ModelFolder(folder).recipe
    content = read_mapping(beside)[0] if beside.is_file() else {}
    task = get_task(_task_name(folder, config, said.get("task") or content.get("task")))
    if content.get("task") not in (None, task.name):
        content.pop("options", None)  # of another task
    before = (content.get("data") or {}).get("columns") or {}
    content |= {"task": task.name, "data": {"path": file}}
    if not beside.is_file():
        content |= _as_it_is(folder, task)
    override_mapping(content, [one for one in overrides if not one.startswith("task=")])
    reader = make_reader(build(Recipe, content, str(folder)))
    form = {key: content["data"][key] for key in FORM if key in content["data"]}
    rows = read_named(task, Path(file), "test", form, notes)
    known = _languages(reader) | before
    known = {role: name for role, name in known.items() if name in rows.column_names and _has_role(reader, role)}
    columns = known | (content["data"].get("columns") or {})
    content["data"] |= form
    content["data"]["columns"] = chosen_columns(replace(task, roles=reader.roles), rows, columns, notes, "--column ")
    reader = make_reader(build(Recipe, content, str(folder)))
    if isinstance(reader, LabelledReader) and (names := fitting_names(reader, rows, config, file)):
        content.setdefault("options", {})["names"] = names
        told = ", ".join(f"{number} {name}" for number, name in names.items())
        notes.append(f"numbers are the model's labels in its order: {shortened(told, 200)} (options.names)")
    return build(Recipe, content, str(folder)), notes


def _task_name(folder: Path | str, config: PreTrainedConfig, said: str | None) -> str:
    """
    Args:
        said: By the user or by the recipe beside the model.

    Raises:
        UserError: The architecture is for another task, or for several and nothing says which.
    """
    able = [task for task in tasks_of(config) if not (config.is_encoder_decoder and task.name == "masked-lm")]
    called = " or ".join(config.architectures or ["its config.json"])
    if config.architectures and not able:
        raise UserError(f"{folder}: {called} has no head for any task; there are {', '.join(TASKS)}")
    if said is not None:
        name = usual_name(said) or said
        if able and get_task(name) not in able:
            raise UserError(f"{folder}: {called} is for {' or '.join(task.name for task in able)}, not for {name}")
        return name
    if len(able) > 1:
        tag = read_card(str(folder)).get("pipeline_tag")
        able = [task for task in able if task.pipeline_tag == tag] or able
    if len(able) != 1:
        tasks = ", ".join(task.name for task in able) or ", ".join(TASKS)
        raise UserError(f"{folder}: {called} does not say what it was trained for; say it with --task: {tasks}")
    return able[0].name


def _as_it_is(folder: Path | str, task: Task) -> dict[str, Any]:
    """What a model without a recipe says of how it reads and generates."""
    limit = load_tokenizer(folder).model_max_length
    content: dict[str, Any] = {"batches": {"max_source_length": limit}} if limit < UNLIMITED else {}
    if "target" not in task.roles:
        return content
    try:
        generation = GenerationConfig.from_pretrained(folder)
    except OSError:
        generation = GenerationConfig()
    content["evaluation"] = {
        "num_beams": generation.num_beams or 1,
        "length_penalty": 1.0 if generation.length_penalty is None else generation.length_penalty,
        "max_new_tokens": generation.max_new_tokens or generation.max_length or min(limit, LONGEST),
    }
    return content


def _languages(reader: Reader) -> dict[str, str]:
    """The columns of a translation that are called as its languages."""
    languages = reader.recipe.language
    return dict(zip(("source", "target"), languages, strict=True)) if len(languages) == 2 else {}


def _has_role(reader: Reader, role: str) -> bool:
    return role in (*reader.roles, *reader.task.optional_roles)


def fitting_names(
    reader: LabelledReader, rows: datasets.Dataset, config: PreTrainedConfig, file: str
) -> dict[int, str] | None:
    """Names of the labels in a file that are numbers, where the model's labels are no numbers; None where there is nothing to
    name.

    Raises:
        UserError: Labels that the model does not have; names them.
    """
    if config.problem_type == "regression" or (reader.label_role == "label" and config.num_labels == 1):
        return None
    labels = [config.id2label[number] for number in sorted(config.id2label)]
    if reader.label_role == "tags" and not any(label.startswith("B-") for label in labels):
        raise UserError(
            f"{file}: the model marks no entities by BIO2 tags; its labels are {shortened(', '.join(labels), 200)}"
        )
    counts = reader.label_counts(reader.prepared(rows, file))
    misfits = [(label, count) for label, count in counts.most_common() if label.strip() and label not in labels]
    if not misfits:
        return None
    if not reader.names and all(label.isdecimal() and int(label) < len(labels) for label in counts if label.strip()):
        return dict(enumerate(labels))
    if reader.recipe.data.invalid_examples == "skip":
        return None
    told = shortened(", ".join(f"{label!r} ({count:,})" for label, count in misfits), 300)
    raise UserError(
        f"{file}: column {reader.column(reader.label_role)!r} has labels that the model has not: {told}; it has "
        f"{shortened(', '.join(labels), 200)}; options.names={{{misfits[0][0]}: {labels[0]}}} says which is which"
    )
