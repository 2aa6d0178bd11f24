"""Question answering: the answer is a slice of the context, which is read in overlapping windows where it is long."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import datasets
import torch
from huggingface_hub.dataclasses import strict
from torch.nn.functional import cross_entropy
from transformers import AutoModelForQuestionAnswering, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError
from ..pipelines.question_answering import Offsets, Window, answer_settings, answer_windows, best_spans
from ..recipes.schema import Recipe
from .evaluator import Evaluator
from .metrics.paired import ANSWER_F1
from .metrics.question_answering import AnswerQuality
from .preprocessor import CUT, INT, INTS, EncodedRow, Preprocessor, Split, pad, text_configs
from .reader import Reader, Rows, beginning, shortened
from .task import Task

NO_ANSWER = (0, 0)  # the first token stands for it

# tokens that cannot be part of an answer have no place in the context
PLACES = {"context_starts": INTS, "context_ends": INTS}
NOWHERE = (-1, -1)

ANSWERED, INEXACT = "answered", "inexact"  # answers that were encoded, and those of them that are not whole tokens
INEXACT_SHARE = 0.05  # of the answers, from which on it is said that they are not whole tokens


@strict
@dataclass
class QuestionAnsweringOptions:
    stride: int = 64  # so many tokens of the context two neighbouring windows share
    max_answer_length: int = 30  # in tokens, of what the model answers
    no_answer: bool | None = None  # may it say that there is none; default: if the training data has such questions


class QuestionAnsweringReader(Reader):
    """`question`, `context` and `answers`, as in SQuAD: `{"text": ["세 개"], "answer_start": [3]}`, both lists empty where
    the context has no answer. The first answer is learned, all of them count as right.
    """

    def __init__(self, task: Task, recipe: Recipe) -> None:
        super().__init__(task, recipe)
        for name, least in (("stride", 0), ("max_answer_length", 1)):
            if (value := getattr(self.options, name)) < least:
                raise UserError(f"options.{name}={value} must be at least {least}")

    def text_roles(self) -> tuple[str, ...]:
        return "question", "context"

    def learn(self, train: datasets.Dataset) -> dict[str, Any]:
        if self.options.no_answer is not None:
            return {}
        name = str(self.column("answers"))
        may_be_none = any(
            isinstance(answers, dict) and answers.get("text") == []
            for rows in train.select_columns([name]).iter(batch_size=1000)
            for answers in rows[name]
        )
        return {"task_specific_params": {self.task.name: {"handle_impossible_answer": may_be_none}}}

    def texts(self, examples: datasets.Dataset) -> Iterator[list[str]]:
        """Questions and contexts, each context once however many questions it has."""
        seen: set[str] = set()
        for rows in self.batches(examples):
            contexts = {text: None for text in rows["context"] if isinstance(text, str) and text not in seen}
            seen.update(contexts)
            yield [text for text in rows["question"] if isinstance(text, str)]
            yield list(contexts)

    def problems(self, rows: Rows) -> list[str | None]:
        return [
            problem or self._answers_problem(context, answers)
            for problem, context, answers in zip(super().problems(rows), rows["context"], rows["answers"], strict=True)
        ]

    def _answers_problem(self, context: str, answers: Any) -> str | None:
        column = f"column {self.column('answers')!r}"
        form = "{'text': ['…'], 'answer_start': [0]}"
        lists: list[Any] = [answers.get(name) for name in ("text", "answer_start")] if isinstance(answers, dict) else []
        if len(lists) != 2 or not all(isinstance(values, list) for values in lists):
            return f"{column} holds {shortened(repr(answers))}, not {form}"
        texts, starts = lists
        if len(texts) != len(starts):
            return (
                f"{column} has {len(texts)} in 'text' and {len(starts)} in 'answer_start', not one start for each text"
            )
        for text, start in zip(texts, starts, strict=True):
            if not isinstance(text, str) or type(start) is not int:
                return f"{column} holds the answer {shortened(repr(text))} at {start!r}, not {form}"
            if not text.strip():
                return f"{column} has an empty answer; where there is none, both lists are empty"
            there = context[start : start + len(text)] if start >= 0 else ""
            if there != text:
                return (
                    f"{column}: the answer {shortened(text)!r} is not at character {start} of the context, where "
                    f"{shortened(there)!r} stands{_elsewhere(context, text)}"
                )
        return None


class QuestionAnsweringPreprocessor(Preprocessor):
    """Windows and answers are those of this package's pipeline, which finds its settings in the model's `config.json`."""

    label_names = ("start_positions", "end_positions")
    needs_places = True

    def __init__(self, reader: Reader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
        super().__init__(reader, tokenizer, config)
        # whether the model tells question and context apart by token types
        self.has_types = getattr(config, "type_vocab_size", 0) > 1
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = names + ["token_type_ids"] * self.has_types
        types = {"token_type_ids": INTS} if self.has_types else {}
        self.features = {"input_ids": INTS, **types, "start_positions": INT, "end_positions": INT}
        self.settings = answer_settings(tokenizer, config)
        length = self.settings["max_seq_len"]
        self.longest_question = max(1, length // 2)  # in tokens; longer ones are cut when they are answered
        if length - tokenizer.num_special_tokens_to_add(pair=True) - self.longest_question < 1:
            raise UserError(f"batches.max_source_length: {length} tokens have no room for a question and a context")

    @classmethod
    def model_fields(
        cls, reader: Reader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, learned: dict[str, Any]
    ) -> dict[str, Any]:
        """The pipeline's settings too. Whether there may be no answer the recipe says, or the data, or the model."""
        name, options = reader.task.name, reader.options
        known = getattr(config, "task_specific_params", None) or {}
        of_data = learned.get("task_specific_params") or known
        no_answer = (of_data.get(name) or {}).get("handle_impossible_answer", False)
        positions = text_configs(config)[0].max_position_embeddings
        of_task = {
            "max_seq_len": min(reader.recipe.batches.max_source_length or positions, positions),
            "doc_stride": options.stride,
            "max_answer_len": options.max_answer_length,
            "handle_impossible_answer": bool(no_answer if options.no_answer is None else options.no_answer),
        }
        fields = super().model_fields(reader, tokenizer, config, learned)
        return {**fields, "task_specific_params": {**known, name: of_task}}

    def stored_features(self, is_scored: bool) -> dict[str, Any]:
        return {**self.features, **PLACES} if is_scored else self.features

    def encode_rows(self, rows: Rows, is_scored: bool) -> list[EncodedRow | str]:
        questions = [beginning(text, self.longest_question) for text in rows["question"]]
        lengths = [len(ids) for ids in self._ids(questions)]
        found = zip(self.reader.problems(rows), questions, lengths, rows["context"], rows["answers"], strict=True)
        return [problem or self._encode_row(is_scored, *row) for problem, *row in found]

    def _encode_row(
        self, is_scored: bool, question: str, length: int, context: str, answers: dict[str, list]
    ) -> EncodedRow | str:
        notes: Counter[str] = Counter()
        if length > self.longest_question:
            if not is_scored and not self.recipe.batches.truncate:
                return (
                    f"column {self.reader.column('question')!r} has {length} tokens, more than {self.longest_question}, half "
                    f"of the {self.settings['max_seq_len']} that the model reads at once (batches.truncate=true cuts)"
                )
            notes[CUT] = 1
        windows = self._windows(question, context, answers)
        holding = [window for window in windows if window["end_positions"] != NO_ANSWER[1]]
        if holding:
            notes[ANSWERED] = 1
            notes[INEXACT] = int(not _is_exact(holding[0], context, answers))
        elif answers["text"] and not is_scored:
            return (
                f"no window holds the whole answer {shortened(answers['text'][0])!r}; raise options.stride="
                f"{self.options.stride} or batches.max_source_length"
            )
        return EncodedRow(windows, notes)

    def finished(self, split: Split, encoded: datasets.Dataset) -> Split:
        answered, inexact = split.notes.pop(ANSWERED, 0), split.notes.pop(INEXACT, 0)
        if inexact > INEXACT_SHARE * answered:
            split.notes[
                f"{inexact / answered:.0%} of the answers begin or end within a token, and cannot be given exactly; a smaller "
                "tokenizer.vocab_size or tokenizer.kind=characters cuts finer"
            ] = inexact
        return split

    def _identity(self, is_scored: bool) -> list[Any]:
        return [*super()._identity(is_scored), self.settings]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []

    def _windows(self, question: str, context: str, answers: dict[str, list]) -> list[dict[str, Any]]:
        """Every window of an example, with the columns of `features` and of `PLACES`."""
        names = ("max_seq_len", "doc_stride", "max_question_len", "align_to_words")
        windows: list[Window] = answer_windows(
            self.tokenizer, question, context, **{name: self.settings[name] for name in names}
        )
        found = [NO_ANSWER] * len(windows)
        if answers["text"]:
            start = answers["answer_start"][0]
            found = answer_tokens([window.offsets for window in windows], start, start + len(answers["text"][0]))
        examples = []
        for window, (first, last) in zip(windows, found, strict=True):
            starts, ends = zip(*(pair or NOWHERE for pair in window.offsets), strict=True)
            places = {"context_starts": starts, "context_ends": ends}
            examples.append({**window.inputs, "start_positions": first, "end_positions": last, **places})
        return examples

    def collate(self, rows: Rows) -> dict[str, torch.Tensor]:
        batch = self.padded(rows["input_ids"])
        if self.has_types:
            batch["token_type_ids"] = pad(rows["token_type_ids"], 0)
        return batch | {name: torch.tensor(rows[name]) for name in self.label_names}


class QuestionAnsweringEvaluator(Evaluator):
    preprocessor: QuestionAnsweringPreprocessor

    def evaluate(self, model: PreTrainedModel, final: bool) -> dict[str, Any]:
        found = []
        for indices, batch, output in self.outputs(model):
            logits = torch.stack([output.start_logits, output.end_logits], dim=1).float().cpu()
            labels = torch.stack([batch[name] for name in self.preprocessor.label_names], dim=1).cpu()
            lengths = batch["attention_mask"].sum(dim=1).tolist()
            for index, of_window, places, length in zip(indices, logits, labels, lengths, strict=True):
                own = of_window[:, :length].clone()
                # the model's own loss is also over the padding, and would change with the batch
                found.append((int(index), own, float(cross_entropy(own, places))))
        found = self.gathered(found)
        predictions = list(self._answers([logits for _, logits, _ in found]))
        scores = AnswerQuality(keep_in_memory=True).compute(predictions=predictions, references=self.references())
        loss = sum(loss for _, _, loss in found) / len(found)
        return {**scores, "loss": loss, "predictions": predictions}

    def references(self) -> list[list[str]]:
        return [list(answers["text"]) for answers in self.split.rows[str(self.reader.column("answers"))]]

    def _answers(self, logits: Sequence[torch.Tensor]) -> Iterator[str]:
        """The answer to each example, empty for none, from the logits `(2, length)` of all windows."""
        column, settings = str(self.reader.column("context")), self.preprocessor.settings
        examples: Any = self.split.examples
        pairs = zip(logits, examples.select_columns([*PLACES, "example"]), strict=True)
        groups = groupby(pairs, key=lambda pair: pair[1]["example"])
        for row, (_, group) in zip(self.split.rows.select_columns([column]), groups, strict=True):
            own, places = zip(*group, strict=True)
            spans = best_spans(
                [starts for starts, _ in own],
                [ends for _, ends in own],
                [list(zip(*(place[name] for name in PLACES), strict=True)) for place in places],
                max_answer_len=settings["max_answer_len"],
                handle_impossible_answer=settings["handle_impossible_answer"],
            )
            yield row[column][spans[0].start : spans[0].end] if spans else ""


def answer_tokens(offsets: Sequence[Offsets], start: int, end: int) -> list[tuple[int, int]]:
    """The first and the last token of the answer `context[start:end]` in each window, which are those that cover it: an
    answer may begin or end within a token.

    Args:
        offsets: For each window, for each token, the slice of the context that it stands for; None for none.

    Returns:
        `NO_ANSWER` for a window that does not hold the whole answer.
    """
    covering = [
        [token for token, pair in enumerate(pairs) if pair is not None and pair[0] < end and start < pair[1]]
        for pairs in offsets
    ]
    extents = [
        (pairs[tokens[0]][0], pairs[tokens[-1]][1]) if tokens else None  # type: ignore[index]
        for pairs, tokens in zip(offsets, covering, strict=True)
    ]
    some = [extent for extent in extents if extent is not None]
    if not some:
        return [NO_ANSWER] * len(offsets)
    whole = min(first for first, _ in some), max(last for _, last in some)
    return [
        (tokens[0], tokens[-1]) if extent == whole else NO_ANSWER
        for tokens, extent in zip(covering, extents, strict=True)
    ]


def _is_exact(window: dict[str, Any], context: str, answers: dict[str, list]) -> bool:
    """Whether the window's tokens of the first answer are no more than that answer."""
    start, end = window["context_starts"][window["start_positions"]], window["context_ends"][window["end_positions"]]
    return context[start:end] == answers["text"][0].strip()


def _elsewhere(context: str, text: str) -> str:
    """The end of a message about an answer that is not where it should be."""
    if text not in context:
        return "; the context does not contain it"
    first, last = context.find(text), context.rfind(text)
    return f"; it stands at {first}" if first == last else ""


QUESTION_ANSWERING = Task(
    name="question-answering",
    also_called=("qa", "squad", "extractive-qa", "reading-comprehension"),
    pipeline_tag="question-answering",
    auto_class=AutoModelForQuestionAnswering,
    families=("trefoil_encoder",),
    roles=("question", "context", "answers"),
    options=QuestionAnsweringOptions,
    metrics=("f1", "exact_match", "character_f1"),
    asked=("question", "context"),
    measure=lambda *_: ANSWER_F1,
    reader=QuestionAnsweringReader,
    preprocessor=QuestionAnsweringPreprocessor,
    evaluator=QuestionAnsweringEvaluator,
)
