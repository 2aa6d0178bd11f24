"""A run, from a recipe to a measured model: prepare, train, average, evaluate."""

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import yaml
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import set_seed
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError
from ..configuration.presets import preset_config
from .checkpoints import average_weights, checkpoint_folders, latest_checkpoint, load_state, tidy, write_folder
from .data import load_split, split_file
from .loop import LOG_FILE, Position, TrainingLoop
from .plot import plot_run
from .progress import duration, say
from .recipe import Recipe, load_recipe
from .tasks import Task, get_task
from .tokenizer import load_tokenizer, train_tokenizer

# these may change when a run goes on: they say how long and how loud, not what
FREE_KEYS = {
    ("output_dir",), ("overwrite",), ("training", "max_steps"), ("training", "max_epochs"),
    ("training", "max_minutes"), ("training", "log_every"), ("training", "trackers"), ("batches", "workers"),
}  # fmt: skip

# what a run writes into its folder; nothing else there is ever deleted
RUN_FILES = (
    "recipe.yaml", "tokenizer", "checkpoints", "best", "averaged", LOG_FILE, "predictions.jsonl", "tracker",
)  # fmt: skip


def train(recipe: Recipe) -> dict[str, Any]:
    """Run a recipe, from where it was left if its output folder holds a part of it.

    Returns:
        The content of `results.json`: the model's step and its scores.

    Raises:
        UserError: Anything that the recipe or the data got wrong.
    """
    task_class = get_task(recipe.task)
    task = task_class(recipe)
    run_folder = Path(recipe.output_dir)
    accelerator = make_accelerator(recipe, run_folder)
    main = accelerator.is_main_process
    if main:
        _claim_folder(recipe, run_folder)
    accelerator.wait_for_everyone()
    set_seed(recipe.seed)

    splits = load_splits(recipe, task, accelerator)
    tokenizer = make_tokenizer(recipe, task, splits["train"], run_folder, accelerator)
    task = task_class(recipe, tokenizer)
    checkpoint = latest_checkpoint(run_folder / "checkpoints")
    model = make_model(recipe, task, checkpoint)
    started = time.perf_counter()
    with accelerator.main_process_first():
        train_examples = task.encode(splits["train"], _name(recipe, recipe.data.train_split))
        validation = task.encode(splits["validation"], _name(recipe, recipe.data.validation_split))
        if recipe.data.test_split is not None:
            task.encode(splits["test"], _name(recipe, recipe.data.test_split))  # only to know now that it can be
    if main:
        skipped = len(splits["train"]) - len(train_examples)
        _say_what(recipe, model, tokenizer, train_examples, validation, task, skipped, time.perf_counter() - started)
    accelerator.init_trackers("tracker", config=_flat(recipe.to_dict()))
    if checkpoint is not None and main:
        say(f"going on from step {load_state(checkpoint)['step']} ({checkpoint})")
    loop = TrainingLoop(
        recipe, task, accelerator, run_folder, model, train_examples, (validation, splits["validation"]), checkpoint
    )
    position = loop.run()
    if loop.stopping:
        accelerator.end_training()
        raise KeyboardInterrupt
    results = _finish(recipe, task, accelerator, run_folder, splits, position)
    accelerator.end_training()
    return results


def make_accelerator(recipe: Recipe, run_folder: Path | None = None) -> Accelerator:
    training = recipe.training
    trackers = training.trackers if run_folder is not None else []
    available = [str(tracker) for tracker in get_available_trackers()]
    for tracker in trackers:
        if tracker not in available:
            raise UserError(
                f"training.trackers: {tracker!r} is not installed or unknown; installed are {', '.join(available)}"
            )
    try:
        return Accelerator(
            mixed_precision=training.mixed_precision,
            log_with=trackers or None,
            project_dir=str(run_folder) if run_folder is not None else None,
        )
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"training.mixed_precision={training.mixed_precision!r}: {reason}") from None


def _claim_folder(recipe: Recipe, folder: Path) -> None:
    """Make the output folder this run's, or find that it is already.

    Raises:
        UserError: It holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; set another output_dir")
    tidy(folder)
    tidy(folder / "checkpoints")
    file = folder / "recipe.yaml"
    if file.exists():
        difference = _difference(file, recipe)
        trained = checkpoint_folders(folder / "checkpoints") or (folder / "best").exists()
        if (difference and not trained) or (recipe.overwrite and (difference or _is_finished(folder))):
            for name in RUN_FILES:
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        elif difference:
            raise UserError(
                f"{folder}: holds another run ({difference}); "
                "set another output_dir, or overwrite=true to delete that run"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty and holds no run of Trefoil; set another output_dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        recipe.save(file)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); set another output_dir") from None


def _difference(file: Path, recipe: Recipe) -> str | None:
    """In which key the run whose recipe lies there is another one than this."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict):
        return "its recipe.yaml cannot be read"
    there, here = _flat(content, keep_none=True), _flat(recipe.to_dict(), keep_none=True)
    free = {".".join(key) for key in FREE_KEYS}
    for key in sorted((set(there) | set(here)) - free):
        if there.get(key) != here.get(key):
            return f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
    return None


def _is_finished(folder: Path) -> bool:
    """Whether the run was measured after its last step."""
    checkpoints = checkpoint_folders(folder / "checkpoints")
    results = read_results(folder / "best")
    return bool(checkpoints) and results.get("steps") == load_state(checkpoints[-1])["step"]


def _flat(content: dict[str, Any], prefix: str = "", keep_none: bool = False) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.", keep_none)
        elif keep_none or isinstance(value, bool | int | float | str):
            flat[f"{prefix}{key}"] = value
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _name(recipe: Recipe, split: str) -> str:
    data = recipe.data
    if data.path is not None:
        return str(split_file(Path(data.path), split))
    return f"{'embedded data' if data.embedded else data.name} ({split})"


def load_splits(recipe: Recipe, task: Task, accelerator: Accelerator) -> dict[str, datasets.Dataset]:
    """The raw train, validation and, where the recipe names one, test split."""
    data = recipe.data
    names = {"train": data.train_split, "validation": data.validation_split}
    if data.test_split is not None:
        names["test"] = data.test_split
    if data.path is not None and Path(data.path).is_file():
        raise UserError(
            f"data.path={data.path!r} is one file, but training needs a file for each split; give a folder with "
            + " and ".join(f"{name}.*" for name in names.values())
        )
    with accelerator.main_process_first():
        splits = {
            kind: load_split(data, name, task.columns(), recipe.task, recipe.seed) for kind, name in names.items()
        }
    if data.max_train_examples is not None:
        splits["train"] = splits["train"].select(range(min(data.max_train_examples, len(splits["train"]))))
    for kind in splits.keys() - {"train"}:
        splits[kind] = task.scorable(splits[kind], _name(recipe, names[kind]))
    if recipe.evaluation.max_examples is not None:
        chosen = min(recipe.evaluation.max_examples, len(splits["validation"]))
        splits["validation"] = splits["validation"].select(range(chosen))
    return splits


def make_tokenizer(
    recipe: Recipe, task: Task, examples: datasets.Dataset, run_folder: Path, accelerator: Accelerator
) -> PreTrainedTokenizerBase:
    folder = run_folder / "tokenizer"
    given = recipe.tokenizer.path or recipe.model.init_from
    if given is None and not folder.exists() and accelerator.is_main_process:
        say(f"training a tokenizer with {recipe.tokenizer.vocab_size} tokens on {len(examples):,} examples")
        trained = train_tokenizer(task.texts(examples), recipe.tokenizer)
        write_folder(folder, lambda aside: trained.save_pretrained(aside))
    accelerator.wait_for_everyone()
    return load_tokenizer(folder if given is None else best_model(given))


def best_model(source: str) -> str:
    """A run's best model where a run's folder is given, else the folder or Hub id itself."""
    best = Path(source) / "best"
    return str(best) if best.is_dir() else source


def make_model(recipe: Recipe, task: Task, checkpoint: Path | None) -> PreTrainedModel:
    fields = dict(recipe.model.config)
    attention = _attention(recipe)
    if checkpoint is not None:
        model = task.auto_class.from_pretrained(checkpoint, **attention)
        task.prepare_config(model.config)
    elif recipe.model.init_from is not None:
        model = _pretrained(recipe, task, fields)
    else:
        try:
            config = preset_config(str(recipe.model.preset), **{"vocab_size": len(task.tokenizer), **fields})
        except (StrictDataclassClassValidationError, StrictDataclassFieldValidationError, ValueError) as error:
            raise UserError(f"model: {str(error).splitlines()[-1].strip().removeprefix('ValueError: ')}") from None
        _check_family(config, task, f"model.preset={recipe.model.preset!r}")
        task.prepare_config(config)
        model = task.auto_class.from_config(config, **attention)
    _check_token_ids(model.config, task)
    if model.can_generate():
        model.generation_config = task.generation_config(model.config)
    if recipe.training.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    if recipe.training.compile:
        model.compile(dynamic=True)
    return model


def _attention(recipe: Recipe) -> dict[str, str]:
    chosen = recipe.model.attn_implementation
    return {} if chosen is None else {"attn_implementation": chosen}


def _pretrained(recipe: Recipe, task: Task, fields: dict[str, Any]) -> PreTrainedModel:
    source = best_model(str(recipe.model.init_from))
    try:
        config = AutoConfig.from_pretrained(source)
        _check_family(config, task, f"model.init_from={source!r}")
        _change_fields(config, fields)
        task.prepare_config(config)
        model, report = task.auto_class.from_pretrained(
            source, config=config, output_loading_info=True, **_attention(recipe)
        )
    except (StrictDataclassClassValidationError, StrictDataclassFieldValidationError) as error:
        raise UserError(f"model.init_from={source!r}: {str(error).splitlines()[-1].strip()}") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"model.init_from={source!r}: {str(error).strip().splitlines()[0]}") from None
    if report["missing_keys"]:
        say(f"new weights, not in {source}: {', '.join(sorted(report['missing_keys']))}")
    return model


def _change_fields(config: PreTrainedConfig, fields: dict[str, Any]) -> None:
    """As with presets: fields of a stack go to both halves of an encoder-decoder."""
    halves = {name: getattr(config, name) for name in config.sub_configs}
    for key, value in fields.items():
        if key in halves:
            _change_fields(halves[key], value)
            continue
        parts = [part for part in (config, *halves.values()) if key in part.__dataclass_fields__]
        if not parts:
            raise ValueError(f"unknown field {key!r} of {type(config).__name__}")
        for part in parts:
            setattr(part, key, value)


def _check_family(config: PreTrainedConfig, task: Task, where: str) -> None:
    if config.model_type not in task.family:
        raise UserError(f"{where} is a {config.model_type}; the task {task.name} needs {' or '.join(task.family)}")


def _check_token_ids(config: PreTrainedConfig, task: Task) -> None:
    largest = max(task.tokenizer.get_vocab().values())
    size = min(part.vocab_size for part in (config, *(getattr(config, name) for name in config.sub_configs)))
    if largest >= size:
        raise UserError(
            f"token id {largest} ({task.tokenizer.convert_ids_to_tokens(largest)!r}) is out of range: "
            f"the model's vocab_size is {size}; it must be at least {largest + 1}"
        )


def _say_what(recipe, model, tokenizer, train_examples, validation, task, skipped, seconds) -> None:
    tokens = int(task.lengths(train_examples).sum())
    say(
        f"{recipe.task}: {model.num_parameters():,} parameters, {len(tokenizer):,} token types, "
        f"{len(train_examples):,} training examples with {tokens:,} tokens, {len(validation):,} for validation "
        f"(encoded in {duration(seconds)})"
    )
    if skipped:
        say(f"skipped {skipped:,} invalid training examples (data.invalid_examples=skip)")


def _finish(
    recipe: Recipe, task: Task, accelerator: Accelerator, run_folder: Path, splits: dict, position: Position
) -> dict[str, Any]:
    """Choose between the best and the averaged checkpoint on the validation split, then score the choice on the test
    split, both as the published model will be used."""
    metric = recipe.evaluation.metric
    best = run_folder / "best"
    # where the run was finished before, `best` may be a mean
    candidates = {best: read_results(best).get("weights", f"step {position.best_step}")}
    averaged = checkpoint_folders(run_folder / "checkpoints")[-recipe.training.average_checkpoints :]
    if len(averaged) > 1:
        steps = [load_state(folder)["step"] for folder in averaged]
        if accelerator.is_main_process:
            weights = average_weights(averaged)

            def fill(folder: Path) -> None:
                model = task.auto_class.from_pretrained(averaged[-1])
                # what is tied is stored once
                model.load_state_dict(weights, strict=False)
                model.save_pretrained(folder)
                task.tokenizer.save_pretrained(folder)

            write_folder(run_folder / "averaged", fill)
        accelerator.wait_for_everyone()
        candidates[run_folder / "averaged"] = f"mean of steps {', '.join(map(str, steps))}"
    scored = {}
    for folder, what in candidates.items():
        scores = evaluate_folder(folder, task, splits["validation"], accelerator)
        scored[folder] = scores
        if accelerator.is_main_process:
            say(f"validation, {what}: {_shown(scores)}")
    chosen = max(scored, key=lambda folder: scored[folder][metric])
    results = {"weights": candidates[chosen], "validation": _scores(scored[chosen])}
    if "test" in splits:
        scores = evaluate_folder(chosen, task, splits["test"], accelerator)
        results["test"] = _scores(scores)
        if accelerator.is_main_process:
            say(f"test, {candidates[chosen]}: {_shown(scores)}")
            write_predictions(run_folder / "predictions.jsonl", splits["test"], task, scores["predictions"])
    results |= {"steps": position.step, "training_seconds": round(position.seconds, 1)}
    results["metrics"] = _metrics(results, recipe)

    def fill_best(folder: Path) -> None:
        """The weights, and beside them what a reader wants to know of them."""
        shutil.copytree(chosen, folder, dirs_exist_ok=True)
        (folder / "results.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        shutil.copyfile(run_folder / "recipe.yaml", folder / "recipe.yaml")
        plot_run(run_folder / LOG_FILE, metric, folder / "curve.png")

    if accelerator.is_main_process:
        write_folder(best, fill_best)
        shutil.rmtree(run_folder / "averaged", ignore_errors=True)
        say(f"the model, its results and its curve are in {best}")
    accelerator.wait_for_everyone()
    return results


def evaluate(
    folder: Path | str, overrides: Sequence[str] = (), split: str | None = None, predictions: str | None = None
) -> dict[str, Any]:
    """Scores of a trained or published model on a split of the data that its recipe names.

    Args:
        folder: A folder with a model, its tokenizer and `recipe.yaml`.
        overrides: `key.sub=value` for the recipe.
        split: Default: the recipe's test split.
        predictions: A file to write the model's outputs to.

    Raises:
        UserError: No recipe or no such split.
    """
    if not (Path(folder) / "recipe.yaml").is_file():
        raise UserError(f"{folder}: has no recipe.yaml, which says what to measure; give a folder that has one")
    recipe = load_recipe(Path(folder) / "recipe.yaml", overrides)
    name = split or recipe.data.test_split
    if name is None:
        raise UserError(f"{folder}: the recipe has no data.test_split; give --split")
    if predictions is not None and not Path(os.path.abspath(predictions)).parent.is_dir():
        raise UserError(f"{predictions}: its folder does not exist")
    accelerator = make_accelerator(recipe)
    task = get_task(recipe.task)(recipe, load_tokenizer(folder))
    with accelerator.main_process_first():
        examples = load_split(recipe.data, name, task.columns(), recipe.task, recipe.seed)
        examples = task.scorable(examples, _name(recipe, name))
    scores = evaluate_folder(Path(folder), task, examples, accelerator)
    if predictions is not None and accelerator.is_main_process:
        write_predictions(Path(predictions), examples, task, scores["predictions"])
    return _scores(scores)


def evaluate_folder(folder: Path, task: Task, examples: datasets.Dataset, accelerator: Accelerator) -> dict[str, Any]:
    """Scores of a saved model on raw examples, in the precision and with the settings of the published model."""
    model = task.auto_class.from_pretrained(folder).to(accelerator.device).eval()
    task.prepare_config(model.config)
    return task.evaluate(model, examples, accelerator, final=True)


def _scores(scores: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in scores.items() if key != "predictions"}


def _shown(scores: dict[str, Any]) -> str:
    return "  ".join(f"{key} {value:.2f}" for key, value in scores.items() if isinstance(value, float))


def write_predictions(file: Path, examples: datasets.Dataset, task: Task, predictions: list[str]) -> None:
    """One JSON object a line: the task's columns and the prediction."""
    with file.open("w", encoding="utf-8") as lines:
        for row, prediction in zip(examples.select_columns(task.columns()), predictions, strict=True):
            lines.write(json.dumps({**row, "prediction": prediction}, ensure_ascii=False) + "\n")


def read_results(folder: Path) -> dict[str, Any]:
    """What `results.json` says of the model in a folder; nothing where there is none."""
    file = folder / "results.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _metrics(results: dict[str, Any], recipe: Recipe) -> list[dict[str, Any]]:
    """The scores, each with all that is needed to measure it again."""
    metrics = []
    for split in ("validation", "test"):
        scores = results.get(split, {})
        metrics += [
            {
                "name": name,
                "type": name,
                "value": value,
                "split": getattr(recipe.data, f"{split}_split"),
                "dataset": _dataset_name(recipe),
                "signature": scores.get(f"{name}_signature"),
            }
            for name, value in scores.items()
            if isinstance(value, float)
        ]
    return metrics


def _dataset_name(recipe: Recipe) -> str:
    data = recipe.data
    if data.embedded:
        return "Trefoil embedded data"
    return str(data.name) if data.path is None else Path(data.path).resolve().name
