"""Translation: sentence pairs, one way or by one model in several directions; BLEU, chrF.

A model of several directions is told by the first token of a source into which language to translate: `<2en>` (Johnson et al.
2017). A row that holds the same in several languages is an example in each direction.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from huggingface_hub.dataclasses import strict
from transformers import AutoModelForSeq2SeqLM

from ..configuration.errors import UserError
from ..data.streaming import SOURCE
from ..pipelines.translation import is_language, language_tag
from ..recipes.schema import Recipe, source_names
from ..recipes.settings import that
from .metrics.paired import bleu
from .metrics.translation import TranslationQuality
from .preprocessor import INT, EncodedRow
from .reader import Example, Rows
from .task import Task
from .text_to_text import FAMILIES, TextToTextEvaluator, TextToTextPreprocessor, TextToTextReader


def are_directions(value: list[list[str]]) -> bool:
    return 0 < len(value) == len({*map(tuple, value)}) and all(
        len(one) == len(set(one)) == 2 and all(map(is_language, one)) for one in value
    )


def usual_direction(recipe: Recipe) -> list[str] | None:
    """Of a model of several directions the one that examples are in: the first from the recipe's first language, or the first."""
    given = recipe.options.get("directions")
    return next((one for one in given if one[:1] == recipe.language[:1]), given[0]) if given else None


@strict
@dataclass
class TranslationOptions:
    # from which language into which: [[ko, en], [en, ko]]; the columns are then called as the languages, and texts are tagged
    directions: list[list[str]] | None = that(
        are_directions, "must be pairs of two languages, each once, such as [[ko, en], [en, ko]]"
    )


class TranslationReader(TextToTextReader):
    source_keys: ClassVar[tuple[str, ...]] = ("tag", "directions")

    def __init__(self, task: Task, recipe: Recipe) -> None:
        super().__init__(task, recipe)
        wanted = self.options.directions or []
        # of each source, the numbers of those that it is for
        self.directions_of: list[list[int]] = []
        for number, source in enumerate(recipe.data.sources):
            if source.directions is not None and not are_directions(source.directions):
                raise UserError(
                    f"data.sources[{number}].directions={source.directions} must be pairs of two languages, each once; to leave "
                    "a source out, delete it"
                )
            for direction in source.directions or []:
                if direction not in wanted:
                    raise UserError(
                        f"data.sources[{number}].directions: {direction} is none of options.directions={wanted}"
                    )
            chosen = wanted if source.directions is None else source.directions
            self.directions_of.append([wanted.index(direction) for direction in chosen])

    @property
    def directions(self) -> list[tuple[str, str]]:
        """Roles of source and target."""
        return [(direction[0], direction[1]) for direction in self.options.directions or [self.task.roles]]

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(role for direction in self.directions for role in direction))

    @property
    def tags(self) -> tuple[str, ...]:
        languages = dict.fromkeys(target for _, target in self.options.directions or [])
        return (*map(language_tag, languages), *super().tags)

    def asked(self, rows: Rows) -> list[Example]:
        """Of several directions, in the usual one."""
        source, _ = usual_direction(self.recipe) or self.task.roles
        return [{"text": text} for text in rows[source]]

    def target_language(self, number: int) -> str | None:
        """Of a direction; without directions, the second of the recipe's two languages."""
        if self.options.directions:
            return self.directions[number][1]
        return self.recipe.language[1] if len(self.recipe.language) == 2 else None


class TranslationPreprocessor(TextToTextPreprocessor):
    reader: TranslationReader

    def stored_features(self, is_scored: bool) -> dict[str, Any]:
        return self.features | ({"direction": INT} if is_scored else {})

    def encode_rows(self, rows: Rows, is_scored: bool) -> list[EncodedRow | str]:
        if not self.options.directions:
            return super().encode_rows(rows, is_scored)
        encoded: list[EncodedRow | str] = [problem or EncodedRow([]) for problem in self.reader.problems(rows)]
        for number, (source, target) in enumerate(self.reader.directions):
            here = [
                (at, row)
                for at, row in enumerate(encoded)
                if isinstance(row, EncodedRow)
                and (SOURCE not in rows or number in self.reader.directions_of[rows[SOURCE][at]])
            ]
            pairs = {
                role: [rows[name][at] for at, _ in here] for role, name in (("source", source), ("target", target))
            }
            if SOURCE in rows:
                pairs[SOURCE] = [rows[SOURCE][at] for at, _ in here]
            pairs = self._tagged(pairs)
            pairs["source"] = [f"{language_tag(target)}{text}" for text in pairs["source"]]
            called = {"source": source, "target": target}
            made = self._encoded_pairs(pairs, [None] * len(here), is_scored, called) if here else []
            for (at, row), new in zip(here, made, strict=True):
                if isinstance(new, str):
                    encoded[at] = new
                    continue
                row.examples += [example | {"direction": number} for example in new.examples]
                row.notes += new.notes
        return encoded


class TranslationEvaluator(TextToTextEvaluator):
    """Scores of each direction and of each source that rows are joined of are called `bleu/ko-en/name`. Over several
    directions a score is the mean of theirs, each of which counts alike, since BLEU of two languages is of other words."""

    reader: TranslationReader
    quality = TranslationQuality

    def compared(self, texts: list[str]) -> dict[str, Any]:
        reader, rows, examples = self.reader, self.split.rows, self.split.examples
        is_tagged = bool(reader.options.directions)
        row_of = np.unique(examples["example"], return_inverse=True)[1]  # type: ignore[call-overload]
        direction_of = np.array(examples["direction"] if is_tagged else np.zeros(len(texts)))  # type: ignore[call-overload]
        source_of = np.array(rows[SOURCE] if SOURCE in rows.column_names else np.zeros(len(rows)), dtype=int)[row_of]
        sources = np.unique(source_of)
        names = source_names(self.recipe.data.sources)
        found: dict[str, dict[str, Any]] = {}
        for number, (source, target) in enumerate(reader.directions):
            references = list(rows[reader.column(target)])
            direction = [f"{source}-{target}"] * (len(reader.directions) > 1)
            for one in [None, *(sources if len(sources) > 1 else [])]:
                chosen = np.flatnonzero((direction_of == number) & (True if one is None else source_of == one))
                if len(chosen):
                    found["/".join(direction + ([] if one is None else [names[one]]))] = self.quality_of(
                        [texts[at] for at in chosen],
                        [references[row_of[at]] for at in chosen],
                        language=reader.target_language(number),
                    )
        scores = found.pop("", None) or _mean({name: found[name] for name in found if "/" not in name})
        for name, of in found.items():
            scores |= {f"{key}/{name}": value for key, value in of.items()}
        if not is_tagged:
            return scores | {"predictions": texts}
        predictions: list[dict[str, str]] = [{} for _ in range(len(rows))]
        for text, row, number in zip(texts, row_of, direction_of, strict=True):
            predictions[row]["-".join(reader.directions[number])] = text
        return scores | {"predictions": predictions}

    def references(self) -> list[Any]:
        """Of several directions, each row's target in each."""
        reader, rows = self.reader, self.split.rows
        if not reader.options.directions:
            return super().references()
        targets = {"-".join(direction): list(rows[reader.column(direction[1])]) for direction in reader.directions}
        return [{name: column[at] for name, column in targets.items()} for at in range(len(rows))]


def _mean(of_directions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The mean of each score; its signature names those of the directions."""
    scores: dict[str, Any] = {}
    for key in next(iter(of_directions.values())):
        values = {name: of[key] for name, of in of_directions.items()}
        is_number = all(isinstance(value, float) for value in values.values())
        told = " and ".join(f"{name} ({value})" for name, value in values.items())
        scores[key] = sum(values.values()) / len(values) if is_number else f"mean of {told}"
    return scores


TRANSLATION = Task(
    name="translation",
    also_called=("translate", "mt", "nmt", "machine-translation", "seq2seq", "text2text"),
    pipeline_tag="translation",
    auto_class=AutoModelForSeq2SeqLM,
    families=FAMILIES,
    roles=("source", "target"),
    options=TranslationOptions,
    metrics=("bleu", "chrf", "exact_match"),
    asked=("source",),
    measure=lambda _, language: bleu(language),
    reader=TranslationReader,
    preprocessor=TranslationPreprocessor,
    evaluator=TranslationEvaluator,
)
