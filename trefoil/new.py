"""`trefoil new`: a recipe for one's own data, written by looking at it. What was taken for what stands in its comments."""

import inspect
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import torch
import yaml

from .configuration.errors import UserError
from .data.formats import FORM, FORMATS, load_file, suffix_of
from .data.formats.delimited import DELIMITERS, delimiter_of
from .data.formats.reading import UTF_8, encoding_of
from .data.loading import load_split, split_file
from .data.whole_files import require_writable, write_file
from .pipelines.translation import is_language
from .recipes.reading import override_mapping, write_yaml
from .recipes.schema import DataRecipe, Recipe, build, validate
from .tasks import Task, get_task
from .tasks.labelled import LabelledReader
from .tasks.reader import Reader, shortened
from .tasks.task import usual_name
from .tasks.text_classification import split_labels
from .training.run import make_checked_reader

LOOKED_AT = 20_000  # rows
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
HELD_OUT = {"validation": 2000, "test": 2000}  # rows at most, a tenth where there are fewer
# what people call the columns, by the role
COLUMNS: dict[str, tuple[str, ...]] = {
    "text": ("text", "sentence", "review", "document", "content", "comment", "message", "body", "caption", "tweet", "문장", "본문", "내용", "리뷰"),
    "text_pair": ("text_pair", "sentence2", "hypothesis", "text2"),
    "label": ("label", "labels", "category", "class", "sentiment", "intent", "topic", "target", "score", "rating", "stars", "라벨", "레이블", "감정", "분류", "평점"),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "pos_tags", "labels"),
    "question": ("question", "질문"),
    "context": ("context", "passage", "paragraph", "본문"),
    "answers": ("answers", "answer"),
    "source": ("source", "src", "document", "article", "dialogue", "text", "원문"),
    "target": ("target", "tgt", "summary", "highlights", "abstract", "translation", "title", "번역문", "요약"),
    "image": ("image", "file_name", "picture"),
}  # fmt: skip
FIRST_OF_PAIR = ("sentence1", "premise", "text1")  # what is text where there is a pair
SCRIPTS = {
    "ko": "가-힣",
    "ja": "ぁ-ヿ",
    "zh": "一-鿿",
    "ru": "а-я",
    "ar": "ء-ي",
    "el": "α-ω",
    "he": "א-ת",
    "th": "ก-ฮ",
    "hi": "अ-ह",
}
SIZES = (("tiny", 2e6, 1e-3), ("small", 5e7, 5e-4), ("base", math.inf, 3e-4))  # up to so many tokens; learning rate
# what else stands behind the name of a file and looks like a language's
NO_LANGUAGES = (
    ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".md", ".rst", ".log", ".lock", ".bak", ".old", ".orig", ".tmp", ".zip", ".tar",
    ".doc", ".docx", ".odt", ".pdf", ".rtf", ".html", ".htm", ".xml", ".py", ".ipynb",
)  # fmt: skip
WINDOWED = ("token-classification", "question-answering")  # which read long texts piece by piece
LANGUAGE_MODELS = ("masked-lm", "causal-lm", "denoising")
WRITING = ("translation", "summarization")  # by Muon, which learned translation several times as fast (docs/log.md)
SHORT = 1000  # bytes, the longest of texts that are classified by n-grams of their characters (docs/log.md)
FEW = 5e6  # characters, up to which they are tagged by their n-grams and a chain over the tags
SEPARATORS, JOINED = ("|", ";", ","), 0.05  # of labels, and the share of rows with several of them
SMOOTHED = ("text-classification", "translation", "summarization", "image-captioning")


@dataclass
class Data:
    """What there is to train on.

    Args:
        keys: Of the recipe's `data`.
        rows: To train on, or their first.
        place: What it is called.
        notes: Lines on what was taken for what.
    """

    keys: dict[str, Any]
    rows: datasets.Dataset
    count: int
    place: str
    notes: list[str] = field(default_factory=list)


def new_recipe(called: str, path: str, minutes: float | None, output: Path, overrides: Sequence[str] = ()) -> list[str]:
    """Write a recipe that runs as it is.

    Args:
        called: The task, by its name or another that people use.
        path: A file, or a folder.
        minutes: That it may train.
        overrides: `key.sub=value`, what is known better.

    Returns:
        What was taken for what, in lines.

    Raises:
        UserError: No such task or data, or no telling which column is which; there is such a file already.
    """
    if output.exists():
        raise UserError(f"{output}: exists already; name another file with -o")
    require_writable(output)
    own = usual_name(called)
    task = get_task(own or called)
    given: dict[str, Any] = {}
    override_mapping(given, overrides)
    if called == "regression":
        given["options"] = {"problem_type": "regression"} | given.get("options", {})
    build(Recipe, given, f"trefoil new {called}")
    data = find_data(task, path, given.get("data") or {})
    text = written(task, data, minutes, given)
    recipe = build(Recipe, yaml.safe_load(text), str(output))
    validate(recipe, str(output))
    make_checked_reader(recipe)
    write_file(output, text)
    return ([f"{called} is the task {task.name}"] if own != called else []) + data.notes


# --- the data


def find_data(task: Task, path: str, given: dict[str, Any]) -> Data:
    """Where each split is, and which column is what."""
    place, notes = Path(path), list[str]()
    keys: dict[str, Any] = {"path": path}
    pair = aligned_pair(place) if "target" in task.roles else None
    if pair is not None:
        (stem, columns), place = pair, place if place.is_dir() else place.parent
        given = {**given, "columns": given.get("columns") or columns}
        found, keys = {}, {"path": str(place), "train_split": stem}
        source, target = columns.values()
        notes.append(
            f"{stem}.{source} and {stem}.{target} belong together, line by line; from {source} to {target} "
            f"(data.columns.source={target} turns it round)"
        )
    elif place.is_dir():
        found = {kind: name for kind, names in SPLITS.items() for name in reversed(names) if has_split(place, name)}
        if "train" in found:
            keys |= {f"{kind}_split": name for kind, name in found.items() if name != kind}
            notes += [f"{kind}: {name}" for kind, name in found.items() if kind != "train"]
        else:
            place = only_file(place)
            found, keys["path"] = {}, str(place)
    elif place.is_file():
        found = {}
    else:
        raise UserError(f"{path}: no such file or folder")
    form: dict[str, Any] = {key: given[key] for key in FORM if key in given}
    rows = read_named(task, place, keys.get("train_split", "train"), form, notes)
    keys |= form
    count, rows = len(rows), rows.select(range(min(LOOKED_AT, len(rows))))
    is_told = pair is not None and given["columns"] is pair[1]
    columns = chosen_columns(task, rows, given.get("columns") or {}, [] if is_told else notes)
    if taken := {role: name for role, name in columns.items() if name != role}:
        keys["columns"] = taken
    cut = {kind: share_of(count, most) for kind, most in HELD_OUT.items() if kind not in found}
    if "validation" in found and "test" in cut:
        keys["test_split"] = None
        notes.append("there is no test split; only validation is scored")
    elif cut:
        keys["split"] = cut
        shares = " and ".join(f"{100 * share:.3g}% for {kind}" for kind, share in cut.items())
        notes.append(
            f"of the {count:,} rows {shares}, the same ones each time; where rows belong together, as those of one customer, "
            "data.split.group=COLUMN keeps them so"
        )
    called = str(place / f"{pair[0]}.*") if pair is not None else keys["path"]
    return Data(keys, rows, count - round(count * sum(cut.values() if "split" in keys else ())), called, notes)


def has_split(folder: Path, name: str) -> bool:
    return split_file(folder, name) is not None or len(line_files(folder, name)) == 2


def line_files(folder: Path, split: str) -> list[str]:
    """The suffixes of files whose lines belong together."""
    names = [file.name.removesuffix(".gz").removeprefix(f"{split}.") for file in sorted(folder.glob(f"{split}.*"))]
    return [name for name in names if is_language(name) and f".{name.lower()}" not in (*FORMATS, *NO_LANGUAGES)]


def aligned_pair(place: Path) -> tuple[str, dict[str, str]] | None:
    """What two files of one name are called whose lines belong together, `notes.de` and `notes.en`, and their columns: the only
    two such in a folder, or a file and the one beside it, in which case that file is the source. None where there are none, or
    they are a split."""
    folder = place if place.is_dir() else place.parent
    files = [place] if place.is_file() else sorted(folder.glob("*.*"))
    stems = {file.name.removesuffix(".gz").rpartition(".")[0] for file in files if suffix_of(file) not in FORMATS}
    pairs = {stem: languages for stem in stems if len(languages := line_files(folder, stem)) == 2}
    if len(pairs) != 1 or any(has_split(folder, name) for name in SPLITS["train"]):
        return None
    ((stem, languages),) = pairs.items()
    named = suffix_of(place)[1:]
    source, target = languages if named not in languages or languages[0] == named else reversed(languages)
    return stem, {"source": source, "target": target}


def only_file(folder: Path) -> Path:
    files = [file for file in sorted(folder.iterdir()) if suffix_of(file) in FORMATS]
    if len(files) == 1:
        return files[0]
    names = ", ".join(file.name for file in sorted(folder.iterdir())) or "nothing"
    raise UserError(
        f"{folder}: holds {names}; which is to train on? Call it train.csv, train.jsonl …, or name the file"
    )


def read(task: Task, place: Path, split: str, form: dict[str, Any]) -> datasets.Dataset:
    file = split_file(place, split)
    if file is None or file.is_dir():
        columns = line_files(place, split) if file is None else list(task.roles)
        return load_split(DataRecipe(path=str(place)), split, columns, task.name, 0)
    # of a file in the form of SQuAD, what is wanted tells that it is one
    wanted = list(task.roles) if suffix_of(file) == ".json" and "answers" in task.roles else []
    return load_file(file, wanted, form)


def read_named(task: Task, place: Path, split: str, form: dict[str, Any], notes: list[str]) -> datasets.Dataset:
    """The rows, also of a table that does not begin with the names of its columns; then the form and the notes say how they are
    called.

    Raises:
        UserError: There are none.
    """
    form |= found_form(place, form)
    rows = read(task, place, split, form)
    if suffix_of(place) in (".csv", ".tsv", ".xlsx") and "header" not in form and lacks_header(rows):
        form["header"] = [f"column {number}" for number in range(1, len(rows.column_names) + 1)]
        notes.append(f"the first row is no header, by what it holds; columns are called {', '.join(form['header'])}")
        rows = read(task, place, split, form)
    if not len(rows):
        raise UserError(f"{place}: no rows")
    return rows


def found_form(place: Path, given: dict[str, Any]) -> dict[str, Any]:
    """How one file is read where that is not as usual, so that its recipe says it and no run has to find it again."""
    suffix, found = suffix_of(place), dict[str, Any]()
    known = inspect.signature(FORMATS[suffix]).parameters if place.is_file() and suffix in FORMATS else ()
    if "encoding" in known and "encoding" not in given and (encoding := encoding_of(place, None)) != UTF_8:
        found["encoding"] = encoding
    if "delimiter" in known and "delimiter" not in given:
        delimiter = delimiter_of(place, None, {**found, **given}.get("encoding", UTF_8))
        found |= {"delimiter": delimiter} if delimiter != DELIMITERS[suffix][0] else {}
    return found


def lacks_header(rows: datasets.Dataset) -> bool:
    """Whether the names of columns are values: numbers, sentences, or what stands below them as well."""
    known = {name for names in COLUMNS.values() for name in names}
    if any(name.lower() in known for name in rows.column_names):
        return False
    first = rows[:1000]
    return any(
        len(name) > 40 or re.fullmatch(r"-?\d+([.,]\d+)?", name) is not None or name in values
        for name, values in first.items()
    )


def share_of(count: int, most: int) -> float:
    return float(f"{min(0.1, most / count):.2g}")


# --- its columns


def chosen_columns(
    task: Task, rows: datasets.Dataset, given: dict[str, str], notes: list[str], key: str = "data.columns."
) -> dict[str, str]:
    """Role -> column: as is given, by its name, or by what it holds.

    Args:
        notes: Are told what was found.
        key: What stands before a role where a user says it.
    """
    for role, name in given.items():
        if name not in rows.column_names:
            raise UserError(f"{key}{role}: no column {name!r}; there are {', '.join(rows.column_names)}")
    chosen = dict(given)
    left = [name for name in rows.column_names if name not in chosen.values()]
    lower = {name.lower(): name for name in reversed(left)}
    pair = next((lower[name] for name in COLUMNS["text_pair"] if name in lower), None)
    if pair is not None and "text_pair" in task.optional_roles:
        first = [lower[name] for name in FIRST_OF_PAIR if name in lower]
        chosen = {"text_pair": pair} | ({"text": first[0]} if first else {}) | chosen
    for role in task.roles:
        named = [
            lower[name]
            for name in (role, *COLUMNS.get(role, ()))
            if name in lower and lower[name] not in chosen.values()
        ]
        if role not in chosen and named:
            chosen[role] = named[0]
    unnamed = [role for role in task.roles if role not in chosen]
    sample = rows[:1000]
    for role in sorted(unnamed, key=lambda role: role == "text"):  # what is no label is text
        fitting = fitting_columns(role, {name: sample[name] for name in left if name not in chosen.values()})
        if not fitting:
            raise UserError(
                f"no telling which column is {role!r} of {', '.join(rows.column_names)}; say it: {key}{role}=NAME"
            )
        chosen[role] = fitting[0]
        others = f"; it could be {', '.join(fitting[1:4])}" if len(fitting) > 1 else ""
        notes.append(f"{role} is the column {fitting[0]!r}, by what it holds{others} ({key}{role})")
    for role in (*task.roles, "text_pair"):
        if role in chosen and role not in unnamed and chosen[role] != role:
            notes.append(f"{role} is the column {chosen[role]!r}, by its name ({key}{role})")
    return chosen


def fitting_columns(role: str, columns: dict[str, list]) -> list[str]:
    """Columns that may have a role, the likeliest first."""
    values = {name: [value for value in column if value is not None] for name, column in columns.items()}
    values = {name: of for name, of in values.items() if of}
    lists = [name for name, of in values.items() if isinstance(of[0], list)]
    texts = {name: sum(map(len, of)) / len(of) for name, of in values.items() if isinstance(of[0], str)}
    if role in ("tokens", "tags"):
        kinds = {name: len({str(item) for items in values[name] for item in items}) for name in lists}
        return sorted(kinds, key=lambda name: kinds[name], reverse=role == "tokens")
    if role == "label":
        kinds = {name: len(set(map(str, of))) for name, of in values.items() if name not in lists}
        return sorted(
            (name for name in kinds if 2 <= kinds[name] <= max(2, len(values[name]) // 2)), key=lambda n: kinds[n]
        )
    if role in ("source", "target"):  # the first of the two longest, and then the other
        named = [name for name in texts if is_language(name.lower().partition("-")[0])]
        two = sorted(texts, key=lambda name: -texts[name])[:2]
        return [name for name in texts if name in (named if len(named) > 1 else two)]
    return sorted(texts, key=lambda name: -texts[name]) if role == "text" else []


# --- the recipe


def written(task: Task, data: Data, minutes: float | None, given: dict[str, Any]) -> str:
    """A recipe in YAML, with comments on what was chosen and why."""
    options: dict[str, Any] = {}
    if task.name == "text-classification":
        options = options_of_labels(data.rows[data.keys.get("columns", {}).get("label", "label")])
    if task.name == "token-classification":
        tokens_of_rows = data.rows[data.keys.get("columns", {}).get("tokens", "tokens")]
        if all(isinstance(token, str) and len(token) <= 1 for tokens in tokens_of_rows for token in tokens or []):
            options = {"delimiter": ("", "tokens are characters")}
    content = {
        "task": task.name, "data": data.keys, "options": {name: value for name, (value, _) in options.items()} | given.get("options", {}),
        "training": {"max_steps": 1}, "model": {"init_from": "any"},
    }  # fmt: skip
    reader = task.reader(task, build(Recipe, content, "trefoil new"))
    rows = reader.prepared(data.rows, data.place)
    found = reader.mistakes(rows, lambda index: f"{data.place} example {index + 1}")
    if found:
        count = sum(count for _, count in found.values())
        data.notes.append(
            f"{count:,} of the first {len(rows):,} rows are invalid and left out, the first: {next(iter(found.values()))[0]}"
        )
    texts = [text for some in reader.texts(rows) for text in some]
    characters = sum(map(len, texts)) * data.count / len(rows)
    vocabulary = min(32_000, max(500, round(2.5 * math.sqrt(characters), -2)))
    tokenizer: dict[str, Any] = {"vocab_size": (int(vocabulary), f"by the {characters:,.0f} characters of text")}
    longest = max((len(text.encode()) for text in texts), default=0)
    labels = label_note(reader, rows)
    languages = languages_of(task, data.keys.get("columns", {}), reader, rows)
    is_answering = task.name == "question-answering"
    if is_answering:  # a text is read with each of its questions
        columns = (rows[str(reader.column(role))] for role in reader.text_roles())
        characters = sum(len(text or "") for column in columns for text in column) * data.count / len(rows)
    is_tagging = task.name == "token-classification" and characters <= FEW
    by_ngrams = is_tagging or (task.name == "text-classification" and longest <= SHORT)
    # a syllable is a character in some scripts, and letters are many to a word in others
    is_syllabic = bool({*languages} & {"ko", "ja", "zh"})
    in_characters = by_ngrams or (is_answering and is_syllabic)
    tokens = characters / 3
    read = characters if in_characters else tokens
    is_packed = task.name in LANGUAGE_MODELS
    is_brief = minutes is not None and minutes < 60 and not torch.cuda.is_available()
    most = 2048 if is_brief else 8192  # of few minutes, more steps make more than larger ones
    batch = 2 ** round(math.log2(min(most, max(2048 if is_packed else 512, read / 100))))
    steps = max(1.0, read / batch)
    epochs = min(30, max(3, math.ceil(2000 / steps)))
    family = (
        "vision-encoder-decoder"
        if "image" in task.roles
        else task.families[0].removeprefix("trefoil_").replace("_", "-")
    )
    size, _, rate = next(one for one in SIZES if tokens <= one[1])
    if is_brief:
        size, _, rate = SIZES[0]
    if size == "tiny" and "decoder" in family:
        rate *= 2
    config: dict[str, Any] = {"hidden_dropout": 0.2 if tokens < 5e6 else 0.1}
    config |= {"classifier_pooling": "mean"} if task.name == "text-classification" else {}
    if by_ngrams:
        config |= {"classifier_ngram_sizes": [*range(1, 5 if is_tagging or is_syllabic else 7)]}
        config |= {"ngram_sizes": [2, 3, 4], "classifier_crf": True} if is_tagging else {"num_hidden_layers": 1}
        tokenizer = {
            "kind": ("characters", "whose n-grams tell more of few or short texts than layers learn"),
            "vocab_size": (5000, "at most"),
        } | ({} if is_tagging else {"lowercase": (True, "")})
    if is_answering:
        config |= {"type_vocab_size": 2, "ngram_sizes": [2, 3, 4]}
        config |= {"matched_ngram_sizes": [2, 3, 4, 5] if is_syllabic else [1, 2, 3]}
        if is_syllabic:
            tokenizer = {"kind": ("characters", "an answer may end within a word"), "vocab_size": (5000, "at most")}
    if is_tagging or is_answering:
        rate *= 2
    if is_tagging:
        options = options or {"label_all_subwords": (True, "each character has its word's tag")}
    config |= {"max_position_embeddings": 256} if is_packed else {}
    # without it nothing is left to learn of labels that are all right, and one surprise then breaks what was learned
    smoothing = {"label_smoothing": (0.1, "")} if task.name in SMOOTHED else {}
    truncates = longest > 1000 and not is_packed and task.name not in WINDOWED
    name = re.sub(r"[^\w.-]+", "-", Path(data.place).resolve().name.partition(".")[0]) or "run"
    limits = {"max_epochs": (epochs, f"of about {steps:,.0f} steps each; sooner, where patience runs out")}
    if minutes is not None:
        limits["max_minutes"] = (minutes, "whichever comes first")
    sections: dict[str, Any] = {
        "task": (task.name, ""),
        "language": (languages, "ISO 639 codes, for the model card" + ("" if languages else ": [en]")),
        "output_dir": (f"runs/{name}", ""),
        "data": {key: (value, "") for key, value in data.keys.items()}
        | ({"invalid_examples": ("skip", "error: stop at the first")} if found else {}),
        **({"options": options} if options else {}),
        "tokenizer": tokenizer,
        "model": {"preset": (f"{family}-{size}", "tiny, small or base"), "config": (config, "")},
        "batches": {"tokens_per_batch": (batch, "of a step; small data wants small batches")}
        | ({"truncate": (True, f"the longest text has {longest:,} bytes")} if truncates else {})
        | ({"token_dropout": (0.1, "of the characters, so that names are not learned by heart")} if is_tagging else {}),
        "optimization": ({"optimizer": ("muon", "")} if task.name in WRITING or is_tagging or is_answering else {})
        | {
            "learning_rate": (rate, ""),
            "schedule": ("linear", "warm-up: a tenth of the run, at most 400 steps"),
        }
        | smoothing,
        "training": limits
        | {
            "patience": (5, "evaluations without a better score; there are ten in a run, at most 500 steps apart"),
            "mixed_precision": ("auto", "bf16 where the device is made for it"),
            "log_every": (min(50, max(1, int(steps * epochs) // 100)), "steps"),
        },
    }
    for key, value in given.items():
        if key not in sections or not isinstance(value, dict):
            sections[key] = (value, "")
            continue
        for name, one in value.items():
            before = sections[key].get(name, ({}, ""))[0]
            sections[key][name] = ({**before, **one} if isinstance(one, dict) else one, "")
    data.notes += [labels] if labels else []
    data.notes.append(f"{data.count:,} rows to train on, about {read:,.0f} tokens")
    # what comes from the data must not end the comment
    data.notes = [_one_line(note) for note in data.notes]
    head = [_one_line(f"# {task.name} on {data.place}, as `trefoil new` found it:"), "#"]
    head += [f"# - {note}" for note in data.notes]
    return "\n".join([*head, *(line for key, value in sections.items() for line in lines_of(key, value))]) + "\n"


def _one_line(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)


def lines_of(key: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{key}:", *(f"  {line}" for name, one in value.items() for line in lines_of(name, one))]
    content, comment = value
    shown = write_yaml(content, default_flow_style=True, width=10**6).strip().removesuffix("\n...")
    return [f"{key}: {shown}" + (f" # {_one_line(comment)}" if comment else "")]


def options_of_labels(labels: Sequence[Any]) -> dict[str, tuple[Any, str]]:
    """What is said of labels that are numbers to estimate, or several in one text, which texts of a table do not say themselves."""
    if any(isinstance(label, list | dict) for label in labels):
        return {}
    texts = [text for label in labels if label is not None and (text := str(label).strip())]
    if texts and all(map(is_number, texts)) and any(not float(text).is_integer() for text in texts):
        return {"problem_type": ("regression", "labels are fractions")}
    for separator in SEPARATORS:
        parts = [split_labels(text, separator) for text in texts]
        joined = sum(len(of) > 1 for of in parts)
        counts = Counter(part for of in parts for part in of)
        if separator == "," and all(map(str.isdecimal, counts)):  # fractions, as some languages write them
            continue
        # the parts come again in other rows
        if joined > JOINED * len(texts) and len(counts) < len({*texts}) and counts.total() > 3 * len(counts):
            return {"label_separator": (separator, "between the labels of a row; one without has none")}
    return {}


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def label_note(reader: Reader, rows: datasets.Dataset) -> str | None:
    if not isinstance(reader, LabelledReader) or getattr(reader.options, "problem_type", None) == "regression":
        return None
    counts = reader.label_counts(rows)
    shares = ", ".join(f"{name} {count / counts.total():.0%}" for name, count in counts.most_common(8))
    return f"{len(counts):,} labels: {shortened(shares, 200)}"


def languages_of(task: Task, columns: dict[str, str], reader: Reader, rows: datasets.Dataset) -> list[str]:
    """By the columns' names, where they are languages, or by the script of most of their letters."""
    found = []
    for role in ("source", "target") if task.name == "translation" else reader.text_roles()[:1]:
        code = columns.get(role, role).lower().partition("-")[0]
        text = "".join(str(value) for value in rows[:200][str(reader.column(role))]).lower()
        letters = sum(map(str.isalpha, text))
        script = next((name for name, of in SCRIPTS.items() if 2 * len(re.findall(f"[{of}]", text)) > letters), None)
        found.append(code if len(code) == 2 and is_language(code) else script)
    return [code for code in found if code] if None not in found else []
