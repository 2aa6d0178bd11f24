"""A run, from a recipe to a measured model: prepare, train, average, evaluate."""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import broadcast_object_list, set_seed
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError, reason
from ..data.batching import Share
from ..data.encoded import compute_once
from ..data.loading import first_rows, load_rows, row_place, sources_without, split_name
from ..data.mixture import sample
from ..data.progress import duration, say, say_once
from ..data.streaming import Source, open_sources
from ..data.tokenizer import load_tokenizer, padding_id, train_tokenizer
from ..data.whole_files import not_written, remove
from ..recipes.schema import Recipe, load_recipe, source_names
from ..tasks import get_task
from ..tasks.evaluator import Evaluator
from ..tasks.preprocessor import Preprocessor, Split
from ..tasks.reader import Reader
from .activations import recompute_within
from .adapters import load_merged, require_peft, save_model
from .checkpoints import (
    average_weights,
    checkpoint_folders,
    latest_checkpoint,
    require_whole,
    step_of,
    to_average,
)
from .engine import Engine, require_known_engine
from .example import find_example
from .log import end_training, start_trackers
from .loop import Position, TrainingLoop
from .measured import Measured, measured_of, require_own_file, scores_in, write_predictions
from .models import (
    LOADING_ERRORS,
    Told,
    config_of_preset,
    make_model,
    model_of,
    pretrained_tokenizer,
    require_sources,
    set_generation,
)
from .nodes import in_turns, on_first, require_shared, write_once, writes_token_ids
from .plot import plot_run
from .precision import accelerates, mixed_precision, recipe_handlers
from .quantization import require_torchao
from .run_folder import KEPT, ModelFolder, RunFolder, find_data, flat, is_own_model
from .stopping import heard
from .strangers import data_of_folder
from .training_data import SplitData, StreamData, TrainingData
from .watch import first_not_finite
from .zero import deepspeed_plugin, make_engine

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
STREAM_START = 1000  # rows that are encoded to tell what a stream is like


def train(recipe: Recipe) -> dict[str, Any]:
    """Run a recipe, from where it was left if its output folder holds a part of it.

    Returns:
        The content of `results.json`: the model's step and its scores.

    Raises:
        UserError: Anything that the recipe or the data got wrong.
    """
    reader = make_checked_reader(recipe)
    run_folder = RunFolder(recipe.output_dir)
    accelerator = make_accelerator(recipe, run_folder)
    engine = make_engine(accelerator)
    engine.require(recipe)
    with on_main_process(accelerator, run_folder.claimed(recipe)):
        try:
            require_shared(accelerator, run_folder.path)
            return _train(reader, engine, run_folder)
        except OSError as error:
            place = run_folder.path if error.filename is None else Path(str(error.filename))
            is_in_it = error.filename is not None and place.absolute().is_relative_to(run_folder.path.absolute())
            if not is_in_it and error.errno not in DISK_IS_FULL:
                raise
            raise not_written(place, error, KEPT) from None


@contextmanager
def on_main_process(accelerator: Accelerator, context: AbstractContextManager) -> Iterator[None]:
    """Enter a context on the main process alone; where that is refused, it is to all processes."""
    with ExitStack() as entered:
        refusal: list[str | None] = [None]
        if accelerator.is_main_process:
            try:
                entered.enter_context(context)
            except UserError as error:
                refusal = [str(error)]
        broadcast_object_list(refusal)
        if refusal[0] is not None:
            raise UserError(refusal[0])
        yield


def make_reader(recipe: Recipe) -> Reader:
    task = get_task(recipe.task)
    return task.reader(task, recipe)


def make_checked_reader(recipe: Recipe) -> Reader:
    """The same, for a run that has not begun.

    Raises:
        UserError: What the recipe says does not suit the task, or a preset cannot be what it asks for; a line for each.
    """
    task, mistakes = get_task(recipe.task), list[str]()
    checks: list[Callable[[], object]] = [lambda: make_reader(recipe), lambda: require_sources(recipe)]
    if recipe.adapter.kind is not None:
        checks.append(lambda: require_peft(f"adapter.kind={recipe.adapter.kind!r}"))
    if (load_in := recipe.adapter.load_in) is not None:
        checks.append(lambda: require_torchao(load_in))
    if recipe.model.preset is not None:
        checks.append(lambda: config_of_preset(recipe, task, recipe.tokenizer.vocab_size))
    for check in checks:
        try:
            check()
        except UserError as error:
            mistakes.append(str(error))
    if mistakes:
        raise UserError("\n".join(mistakes))
    return make_reader(recipe)


def require_valid(reader: Reader, raw: dict[str, datasets.Dataset]) -> None:
    """
    Raises:
        UserError: Rows are invalid whatever the tokenizer and the model; names the first of each kind, in a line each.
    """
    data, lines = reader.recipe.data, list[str]()
    for kind, rows in raw.items():
        where = split_name(data, getattr(data, f"{kind}_split"))
        prepared = reader.prepared(rows, where)
        find = partial(_mistakes, reader, prepared, row_place(data, prepared, where))
        lines += compute_once(
            prepared, ["valid", where, reader.task.name, data.columns, reader.recipe.options], find
        ).tolist()
    if lines:
        mend = "mend it" if len(lines) == 1 else "mend them"
        raise UserError("\n".join(lines) + f"; {mend} or set data.invalid_examples=skip")


def _mistakes(reader: Reader, rows: datasets.Dataset, place: Callable[[int], str]) -> np.ndarray:
    found = reader.mistakes(rows, place).values()
    return np.array(
        [first + (f" (and {count - 1:,} more like it)" if count > 1 else "") for first, count in found], dtype=str
    )


@dataclass
class Prepared:
    """All that is there before the first step: what a run trains, and on what."""

    told: Told
    checkpoint: Path | None
    model: PreTrainedModel
    preprocessor: Preprocessor
    splits: dict[str, Split]  # where there is a stream, `train` is its start
    sources: list[Source]  # of the stream
    evaluators: dict[str, Evaluator]  # of the splits but `train`


def prepare(reader: Reader, engine: Engine, run_folder: RunFolder) -> Prepared:
    """From a row to a batch, one floor at a time: rows, what they tell, a tokenizer, a model, token ids."""
    task, accelerator = reader.task, engine.accelerator
    sources: list[Source] = []
    if reader.recipe.data.streaming:
        sources = in_turns(accelerator, True, lambda: open_sources(reader.recipe.data, reader.column_names()))
    raw = load_splits(reader, accelerator, sources)
    learned = reader.learn(raw["train"])
    if reader.recipe.data.invalid_examples == "error":
        known = {kind: rows for kind, rows in raw.items() if kind != "train" or not sources}
        on_first(accelerator, lambda: require_valid(reader, known))
    tokenizer = make_tokenizer(reader, raw["train"], run_folder, accelerator)
    told = Told(reader, tokenizer, learned)
    checkpoint = on_first(accelerator, lambda: latest_checkpoint(run_folder.checkpoints, say))
    model = make_model(told, checkpoint)
    engine.require_model(model)
    preprocessor = task.preprocessor(reader, tokenizer, model.config)
    started = time.perf_counter()
    splits = encode_splits(preprocessor, raw, accelerator)
    if accelerator.is_main_process:
        _say_what(model, preprocessor, splits, sources, time.perf_counter() - started)
    set_generation(model, preprocessor, splits["train"])
    evaluators = {
        kind: task.evaluator(preprocessor, split, accelerator) for kind, split in splits.items() if kind != "train"
    }
    return Prepared(told, checkpoint, model, preprocessor, splits, sources, evaluators)


def _train(reader: Reader, engine: Engine, run_folder: RunFolder) -> dict[str, Any]:
    recipe, accelerator = reader.recipe, engine.accelerator
    set_seed(recipe.seed)
    prepared = prepare(reader, engine, run_folder)
    start_trackers(accelerator, run_folder.tracker.name, flat(recipe.to_dict()))
    if prepared.checkpoint is not None and accelerator.is_main_process:
        say(f"going on from step {step_of(prepared.checkpoint)} ({prepared.checkpoint})")
    loop = make_loop(prepared, engine, run_folder)
    with heard(loop.request_stop):
        position = loop.run()
    stopping = loop.stopping or loop.is_asked_to_stop()  # while it wrote the last checkpoint
    # DDP must not be the last to hold the processes' group: it would end gloo's thread while that waits for this one
    del loop
    engine.release()
    if stopping:
        end_training(accelerator)
        raise KeyboardInterrupt
    results = _finish(prepared, accelerator, run_folder, position)
    end_training(accelerator)
    return results


def make_loop(prepared: Prepared, engine: Engine, run_folder: RunFolder) -> TrainingLoop:
    preprocessor, sources, examples = prepared.preprocessor, prepared.sources, prepared.splits["train"].examples

    def make_data(share: Share) -> TrainingData:
        if sources:
            return StreamData(preprocessor, sources, share, engine.accelerator.is_main_process)
        return SplitData(preprocessor, examples, share)

    loop = TrainingLoop(
        preprocessor.recipe,
        engine,
        run_folder,
        prepared.model,
        preprocessor,
        make_data,
        prepared.evaluators["validation"],
        prepared.checkpoint,
    )
    budget = preprocessor.recipe.training.gradient_checkpointing
    if not isinstance(budget, bool):
        recompute_within(budget, engine, preprocessor, examples, loop.share)
    return loop


def encode_splits(
    preprocessor: Preprocessor, raw: dict[str, datasets.Dataset], accelerator: Accelerator
) -> dict[str, Split]:
    """Every split as token ids; one process makes them, the others find them. Of a stream, its start is encoded."""
    data = preprocessor.recipe.data
    names = {kind: split_name(data, getattr(data, f"{kind}_split")) for kind in raw}
    if data.streaming:
        start = raw["train"].select(range(min(STREAM_START, len(raw["train"]))))
        raw, names["train"] = raw | {"train": start}, f"the stream's first {len(start):,} rows"

    def encode() -> dict[str, Split]:
        return {kind: preprocessor.encode(rows, names[kind], is_scored=kind != "train") for kind, rows in raw.items()}

    return in_turns(accelerator, writes_token_ids(accelerator), encode)


def make_accelerator(recipe: Recipe, run_folder: RunFolder | None = None) -> Accelerator:
    training = recipe.training
    require_known_engine()
    if run_folder is not None:  # the recipe that is saved says what it was
        training.mixed_precision = mixed_precision(training)  # type: ignore[assignment]
    trackers = training.trackers if run_folder is not None else []
    available = [str(tracker) for tracker in get_available_trackers()]
    for tracker in trackers:
        if tracker not in available:
            raise UserError(
                f"training.trackers: {tracker!r} is not installed or unknown; installed are {', '.join(available)}"
            )
    precision = accelerates(training.mixed_precision) if run_folder is not None else None
    if precision not in (None, AcceleratorState._shared_state.get("_mixed_precision")):
        AcceleratorState._reset_state()  # of what was computed before in this process, for all of which it holds one precision
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            log_with=trackers or None,
            project_dir=str(run_folder) if run_folder is not None else None,
            kwargs_handlers=recipe_handlers(training.mixed_precision) if run_folder is not None else None,
            deepspeed_plugin=deepspeed_plugin(recipe),
        )
    except ValueError as error:
        about = f"training.mixed_precision={training.mixed_precision!r}"
        if "parallelism" in str(error).lower():
            about = "the launcher's file"
        raise UserError(f"{about}: {reason(error)}") from None
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if launched > 1 and accelerator.num_processes == 1:
        raise UserError(
            f"accelerate finds no GPU for the {launched} processes of this launch, so each would train alone; for CPUs, "
            "launch by the file of `trefoil launch cpu`, or set ACCELERATE_USE_CPU=true"
        )
    return accelerator


def load_splits(
    reader: Reader, accelerator: Accelerator, sources: Sequence[Source] = ()
) -> dict[str, datasets.Dataset]:
    """The raw train, validation and, where the recipe names one, test split; instead of train the start of a stream."""
    recipe, data = reader.recipe, reader.recipe.data
    names = {"train": data.train_split} if not sources else {}
    names["validation"] = data.validation_split
    if data.test_split is not None:
        names["test"] = data.test_split
    if data.path is not None and Path(data.path).is_file():
        whole = [name for name in names.values() if "[" not in name]
        if data.shares and not data.split.test:
            names.pop("test", None)
        elif whole and not data.shares:
            raise UserError(
                f"data.path={data.path!r} is one file, but {whole[0]!r} is a split of its own; give a folder with a file "
                'for each split, or cut the file: "data.split={validation: 0.1, test: 0.1}"'
            )
    # before one reads it for all: does each node have it?
    in_turns(accelerator, True, lambda: [split_name(data, name) for name in names.values()])
    splits = in_turns(
        accelerator,
        accelerator.is_main_process,
        lambda: {
            kind: load_rows(data, name, reader.column_names(), recipe.task, recipe.seed, to_train=kind == "train")
            for kind, name in names.items()
        },
    )
    if data.is_joined and accelerator.is_main_process:
        for name in (name for kind, name in names.items() if kind != "train"):
            for source in sources_without(data, name):
                say(f"{source} has no split {name!r}, and is left out of it")
    if sources:
        start = in_turns(
            accelerator, True, lambda: sample(list(sources), reader.columns(), recipe.tokenizer.stream_examples)
        )
        splits["train"] = datasets.Dataset.from_dict(start)
        if not len(splits["train"]):
            raise UserError(
                f"the first {recipe.tokenizer.stream_examples:,} rows of the stream hold no texts in {', '.join(reader.columns())}"
            )
    if data.max_train_examples is not None:
        splits["train"] = first_rows(splits["train"], data.max_train_examples)
    if recipe.evaluation.max_examples is not None:
        splits["validation"] = first_rows(splits["validation"], recipe.evaluation.max_examples)
    return splits


def make_tokenizer(
    reader: Reader, examples: datasets.Dataset, run_folder: RunFolder, accelerator: Accelerator
) -> PreTrainedTokenizerBase:
    recipe, folder = reader.recipe, run_folder.tokenizer
    given = pretrained_tokenizer(recipe, reader.task)
    if given is not None:
        return given

    def train_and_save(aside: Path) -> None:
        first = "the stream's first " if recipe.data.streaming else ""
        say(f"training a {recipe.tokenizer.kind} tokenizer on {first}{len(examples):,} examples")
        trained = train_tokenizer(reader.texts(examples), recipe.tokenizer, reader.template)
        asked = recipe.tokenizer.vocab_size
        say(
            f"{len(trained):,} token types"
            + (f", not {asked:,}: the text fills no more" if len(trained) < asked else "")
        )
        trained.save_pretrained(aside)

    if not on_first(accelerator, folder.exists):
        write_once(accelerator, folder, train_and_save)
    return load_tokenizer(folder)


def _parameters(model: PreTrainedModel) -> str:
    total, trained = model.num_parameters(), model.num_parameters(only_trainable=True)
    return f"{total:,} parameters" if trained == total else f"{trained:,} of {total:,} parameters trained"


def _say_what(
    model: PreTrainedModel, preprocessor: Preprocessor, splits: dict[str, Split], sources: list[Source], seconds: float
) -> None:
    train, validation = splits["train"].examples, splits["validation"]
    weights = sum(source.weight for source in sources)
    mixed = ", ".join(f"{source.weight / weights:.1%} {source.name}" for source in sources)
    examples = f"{len(train):,} training examples with {preprocessor.token_count(train):,} tokens"
    say(
        f"{preprocessor.reader.task.name}: {_parameters(model)}, {len(preprocessor.tokenizer):,} token types, "
        f"{f'a stream of {mixed}' if sources else examples}, "
        f"{len(validation.rows):,} for validation (encoded in {duration(seconds)})"
    )
    if preprocessor.tokenizer.pad_token is None:
        filler = preprocessor.tokenizer.convert_ids_to_tokens(padding_id(preprocessor.tokenizer))
        say(f"the tokenizer has no padding token; batches are filled up with {filler}, which the mask hides")
    for where, encoded in (("training", train), ("validation", validation.examples)):
        if share := preprocessor.unknown_share(encoded):
            say(f"{share:.2%} of the tokens for {where} are unknown to the tokenizer")
    for split in splits.values():
        for line in split.remarks():
            say(line)


def _finish(prepared: Prepared, accelerator: Accelerator, run_folder: RunFolder, position: Position) -> dict[str, Any]:
    """Choose between the best and the averaged checkpoint (and the best of before the run was lengthened) on the validation
    split, then score the choice on the test split, both as the published model will be used."""
    told, preprocessor, evaluators = prepared.told, prepared.preprocessor, prepared.evaluators
    recipe, validation = preprocessor.recipe, evaluators["validation"]
    metric = validation.metric
    best = run_folder.best.path
    # where the run was finished before, `best` may be a mean
    candidates = {best: run_folder.best.read_results().get("weights", f"step {position.best_step}")}
    if on_first(accelerator, run_folder.finished.path.exists):
        candidates[run_folder.finished.path] = run_folder.finished.read_results()["weights"]
    averaged = on_first(accelerator, lambda: _to_average(run_folder, recipe.training.average_checkpoints))
    if len(averaged) > 1:
        steps = [step_of(folder) for folder in averaged]

        def fill(folder: Path) -> None:
            model = model_of(averaged[-1], told, recipe)
            average_weights(averaged, model)
            save_model(model, folder)
            preprocessor.save(folder)

        write_once(accelerator, run_folder.averaged, fill)
        candidates[run_folder.averaged] = f"mean of steps {', '.join(map(str, steps))}"
    scored = {}
    for folder, what in candidates.items():
        scores = validation.evaluate(load_model(folder, told, accelerator), final=True)
        scored[folder] = scores
        if accelerator.is_main_process:
            say(f"validation, {what}: {_shown(scores)}")
    chosen = best
    for folder in scored:
        if validation.is_better(scored[folder][metric], scored[chosen][metric]):
            chosen = folder
    results = {"weights": candidates[chosen], "validation": scores_in(scored[chosen])}
    if "test" in evaluators:
        measured = measured_of(evaluators["test"], load_model(chosen, told, accelerator))
        results["test"] = measured.scores
        if accelerator.is_main_process:
            write_predictions(run_folder.predictions, measured)
    results |= {"steps": position.step, "training_seconds": round(position.seconds, 1)}
    results["metrics"] = _metrics(results, validation)

    rows = evaluators["test" if "test" in evaluators else "validation"].split.rows
    example = (
        find_example(preprocessor.reader, prepared.splits["train"].rows, rows) if accelerator.is_main_process else None
    )

    def fill_best(folder: Path) -> None:
        """The weights, and beside them what a reader wants to know of them."""
        shutil.copytree(chosen, folder, dirs_exist_ok=True)
        new = ModelFolder(folder)
        new.results.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        shutil.copyfile(run_folder.recipe, new.recipe)
        if example is not None:
            new.example.write_text(json.dumps(example, ensure_ascii=False) + "\n", encoding="utf-8")
        plot_run(
            run_folder.log, metric, new.curve, minimized=metric in told.task.minimized,
            label_smoothing=recipe.optimization.label_smoothing,
        )  # fmt: skip

    write_once(accelerator, best, fill_best)
    if accelerator.is_main_process:
        remove(run_folder.averaged)
        remove(run_folder.finished.path)
    accelerator.wait_for_everyone()
    return results


def _to_average(run_folder: RunFolder, count: int) -> list[Path]:
    """The checkpoints whose mean is tried, less those that are damaged."""
    whole = []
    for checkpoint in to_average(checkpoint_folders(run_folder.checkpoints), count) if count > 1 else []:
        try:
            require_whole(checkpoint)
            whole.append(checkpoint)
        except UserError as error:
            say(f"{error}; left out of the mean")
    return whole


def evaluate(
    folder: Path | str,
    overrides: Sequence[str] = (),
    split: str | None = None,
    predictions: str | None = None,
    trust_recipe: bool = False,
) -> dict[str, Any]:
    """Scores of a trained or published model on a split of the data that its recipe names.

    Args:
        folder: A folder with a model, its tokenizer and `recipe.yaml`.
        overrides: `key.sub=value` for the recipe.
        split: Default: the recipe's test split.
        predictions: A file to write the model's outputs to.
        trust_recipe: Read and fetch whatever data the folder's recipe names, also where that is elsewhere.

    Raises:
        UserError: No recipe or no such split, or data that only the folder's recipe names lies elsewhere.
    """
    require_own_file(predictions)
    measured = measure(folder, recipe_of(folder, overrides, trust_recipe), split)
    if predictions is not None:
        write_predictions(Path(predictions), measured)
    return measured.scores


def recipe_of(folder: Path | str, overrides: Sequence[str] = (), trust_recipe: bool = False) -> Recipe:
    """The recipe that lies beside a model; what data it is about to read is said.

    Args: as of `evaluate`.

    Raises:
        UserError: There is none, or data that only it names lies elsewhere.
    """
    file = ModelFolder(folder).recipe
    if not file.is_file():
        raise UserError(
            f"{folder}: has no recipe.yaml, which says what to measure; give a folder that has one, or rows with --data FILE"
        )
    recipe = load_recipe(file, overrides)
    find_data(recipe, folder)
    for line in [*data_of_folder(recipe, Path(folder), overrides, trust_recipe or is_own_model(folder))]:
        say_once(line)
    return recipe


def measure(folder: Path | str, recipe: Recipe, split: str | None = None) -> Measured:
    """What `evaluate` finds out.

    Args:
        recipe: Names the data, and how it is read.

    Raises:
        UserError: No such split, or rows that do not suit the model.
    """
    name = split or recipe.data.test_split
    if name is None:
        raise UserError(f"{folder}: the recipe has no data.test_split; give --split")
    accelerator = make_accelerator(recipe)
    reader = make_reader(recipe)
    told = Told(reader, load_tokenizer(folder), learned={})  # a trained model knows
    raw = in_turns(
        accelerator,
        accelerator.is_local_main_process,
        lambda: load_rows(recipe.data, name, reader.column_names(), recipe.task, recipe.seed),
    )
    model = load_model(folder, told, accelerator)
    preprocessor = reader.task.preprocessor(reader, told.tokenizer, model.config)
    scored = in_turns(
        accelerator,
        writes_token_ids(accelerator),
        lambda: preprocessor.encode(raw, split_name(recipe.data, name), is_scored=True),
    )
    if accelerator.is_main_process:
        for line in scored.remarks():
            say(line)
    return measured_of(reader.task.evaluator(preprocessor, scored, accelerator), model)


def load_model(folder: Path | str, told: Told, accelerator: Accelerator) -> PreTrainedModel:
    """A saved model in the precision and with the settings of the published one; adapters are merged into its base."""
    try:
        if ModelFolder(folder).is_adapter:
            model = load_merged(folder, told.task.auto_class)
        else:
            model = told.task.auto_class.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
    except LOADING_ERRORS as error:
        raise UserError(f"{folder}: the model does not load: {reason(error)}") from None
    if (name := first_not_finite(model.named_parameters())) is not None:
        raise UserError(f"{folder}: {name} holds NaN or an infinity, so nothing is measured; train it anew")
    told.tell(model.config)
    return model.to(accelerator.device).eval()


def _shown(scores: dict[str, Any]) -> str:
    return "  ".join(
        f"{key} {value:.2f}" for key, value in scores.items() if isinstance(value, float) and key.count("/") < 2
    )


def _metrics(results: dict[str, Any], evaluator: Evaluator) -> list[dict[str, Any]]:
    """The scores of the task's metrics, each with all that is needed to measure it again."""
    recipe, metrics = evaluator.recipe, []
    for split in ("validation", "test"):
        scores = results.get(split, {})
        metrics += [
            {
                "name": name,
                "type": metric,
                "value": value,
                "split": getattr(recipe.data, f"{split}_split"),
                "dataset": _dataset_name(recipe),
                "signature": scores.get(name.replace(metric, f"{metric}_signature", 1)),
            }
            for metric in evaluator.metrics
            for name, value in scores.items()
            if name.partition("/")[0] == metric and isinstance(value, float)
        ]
    return metrics


def _dataset_name(recipe: Recipe) -> str:
    data = recipe.data
    if data.embedded:
        return "Trefoil embedded data"
    if data.is_joined:
        return " and ".join(source_names(data.sources))
    return str(data.name) if data.path is None else Path(data.path).resolve().name
