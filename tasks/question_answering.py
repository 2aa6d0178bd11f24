"""Question answering: the answer is a slice of the context, which is read in overlapping windows where it is long."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import datasets
import torch
from accelerate import PartialState
from huggingface_hub.dataclasses import strict
from torch.nn.functional import cross_entropy
from transformers import AutoModelForQuestionAnswering, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError
from ..data.progress import say
from ..pipelines.question_answering import Offsets, Window, answer_settings, answer_windows, best_spans
from ..recipes.schema import Recipe
from .base import INT, INTS, Encoded, Task, beginning, gathered, pad, shortened, text_problem
from .metrics.question_answering import AnswerQuality

NO_ANSWER = (0, 0)  # the first token stands for it

# tokens that cannot be part of an answer have no place in the context
PLACES = {"context_starts": INTS, "context_ends": INTS}
NOWHERE = (-1, -1)

INEXACT_SHARE = 0.05  # of the answers, from which on it is said that they are not whole tokens


@strict
@dataclass
class QuestionAnsweringOptions:
    stride: int = 64  # so many tokens of the context two neighbouring windows share
    max_answer_length: int = 30  # in tokens, of what the model answers
    no_answer: bool | None = None  # may it say that there is none; default: if the training data has such questions


class QuestionAnsweringTask(Task):
    """`question`, `context` and `answers`, as in SQuAD: `{"text": ["세 개"], "answer_start": [3]}`, both lists empty where
    the context has no answer. The first answer is learned, all of them count as right.

    Windows and answers are those of this package's pipeline, which finds its settings in the model's `config.json`.
    """

    name = "question-answering"
    auto_class = AutoModelForQuestionAnswering
    family = ("trefoil_encoder",)
    roles = ("question", "context", "answers")
    options_class = QuestionAnsweringOptions
    label_names = ("start_positions", "end_positions")
    metrics = ("f1", "exact_match", "character_f1")
    has_types = False  # whether the model tells question and context apart by token types

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        super().__init__(recipe, tokenizer)
        for name, least in (("stride", 0), ("max_answer_length", 1)):
            if (value := getattr(self.options, name)) < least:
                raise UserError(f"options.{name}={value} must be at least {least}")
        self.no_answer: bool | None = self.options.no_answer
        self.answered = self.inexact = 0  # answers that were encoded, and those of them that are not whole tokens

    @property
    def features(self) -> dict[str, Any]:  # type: ignore[override]
        types = {"token_type_ids": INTS} if self.has_types else {}
        return {"input_ids": INTS, **types, "start_positions": INT, "end_positions": INT}

    def learn(self, train: datasets.Dataset) -> None:
        if self.no_answer is None:
            name = str(self.column("answers"))
            self.no_answer = any(
                isinstance(answers, dict) and answers.get("text") == []
                for rows in train.select_columns([name]).iter(batch_size=1000)
                for answers in rows[name]
            )

    def texts(self, examples: datasets.Dataset) -> Iterator[list[str]]:
        """Questions and contexts, each context once however many questions it has."""
        seen: set[str] = set()
        for rows in examples.select_columns(self.columns()).iter(batch_size=1000):
            roles = self.by_role(rows)
            contexts = {text: None for text in roles["context"] if isinstance(text, str) and text not in seen}
            seen.update(contexts)
            yield [text for text in roles["question"] if isinstance(text, str)]
            yield list(contexts)

    def prepare_config(self, config: PreTrainedConfig) -> None:
        super().prepare_config(config)
        if not self.tokenizer.is_fast:
            raise UserError(
                f"{type(self.tokenizer).__name__} is not a fast tokenizer; only those know places in a text"
            )
        self.has_types = config.type_vocab_size > 1
        names = [name for name in self.tokenizer.model_input_names if name != "token_type_ids"]
        self.tokenizer.model_input_names = names + ["token_type_ids"] * self.has_types
        params = getattr(config, "task_specific_params", None) or {}
        if self.no_answer is None:  # a trained model knows
            self.no_answer = bool((params.get(self.name) or {}).get("handle_impossible_answer"))
        of_task = {
            "max_seq_len": self.max_lengths()[0],
            "doc_stride": self.options.stride,
            "max_answer_len": self.options.max_answer_length,
            "handle_impossible_answer": self.no_answer,
        }
        config.task_specific_params = {**params, self.name: of_task}
        self.settings = answer_settings(self.tokenizer, config)
        length = self.settings["max_seq_len"]
        if length - self.tokenizer.num_special_tokens_to_add(pair=True) - self.longest_question < 1:
            raise UserError(f"batches.max_source_length: {length} tokens have no room for a question and a context")

    @property
    def longest_question(self) -> int:
        """In tokens; longer ones are cut when they are answered."""
        return max(1, self.settings["max_seq_len"] // 2)

    def scoring_problems(self, rows: dict[str, list]) -> list[str | None]:
        return [
            text_problem(self.column("question"), question)
            or text_problem(self.column("context"), context)
            or self._answers_problem(context, answers)
            for question, context, answers in zip(*(rows[role] for role in self.roles), strict=True)
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

    def encode(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        self.answered = self.inexact = 0
        encoded = super().encode(examples, where)
        if self.inexact > INEXACT_SHARE * self.answered and PartialState().is_main_process:
            say(
                f"{where}: {self.inexact / self.answered:.0%} of the answers begin or end within a token, and cannot be given "
                "exactly; a smaller tokenizer.vocab_size or tokenizer.kind=characters cuts finer"
            )
        return encoded

    def encode_rows(self, rows: dict[str, list]) -> list[Encoded]:
        problems = self.scoring_problems(rows)
        questions = [beginning(text, self.longest_question) for text in rows["question"]]
        lengths = [len(ids) for ids in self._ids(questions)]
        encoded: list[Encoded] = []
        for row, (problem, length) in enumerate(zip(problems, lengths, strict=True)):
            if problem is None and length > self.longest_question:
                if self.recipe.batches.truncate:
                    self.cut_texts += 1
                else:
                    problem = (
                        f"column {self.column('question')!r} has {length} tokens, more than {self.longest_question}, half "
                        f"of the {self.settings['max_seq_len']} that the model reads at once (batches.truncate=true cuts)"
                    )
            if problem is not None:
                encoded.append(problem)
                continue
            answers = rows["answers"][row]
            windows = self._windows(questions[row], rows["context"][row], answers)
            holding = [window for window in windows if window["end_positions"] != NO_ANSWER[1]]
            if holding:
                self.answered += 1
                self.inexact += not _is_exact(holding[0], rows["context"][row], answers)
            if answers["text"] and not holding:
                encoded.append(
                    f"no window holds the whole answer {shortened(answers['text'][0])!r}; raise options.stride="
                    f"{self.options.stride} or batches.max_source_length"
                )
            else:
                encoded.append(windows)
        return encoded

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

    def collate(self, rows: dict[str, list]) -> dict[str, torch.Tensor]:
        batch = self.padded(rows["input_ids"])
        if self.has_types:
            batch["token_type_ids"] = pad(rows["token_type_ids"], 0)
        return batch | {name: torch.tensor(rows[name]) for name in self.label_names}

    @torch.no_grad()
    def evaluate(
        self, model: PreTrainedModel, examples: datasets.Dataset, accelerator: Any, final: bool
    ) -> dict[str, Any]:
        windows = self._all_windows(examples)
        found = []
        for indices, batch, output in self.outputs(model, windows, accelerator):
            logits = torch.stack([output.start_logits, output.end_logits], dim=1).float().cpu()
            labels = torch.stack([batch[name] for name in self.label_names], dim=1).cpu()
            lengths = batch["attention_mask"].sum(dim=1).tolist()
            for index, of_window, places, length in zip(indices, logits, labels, lengths, strict=True):
                own = of_window[:, :length].clone()
                # the model's own loss is also over the padding, and would change with the batch
                found.append((int(index), own, float(cross_entropy(own, places))))
        found = gathered(found, accelerator)
        predictions = list(self._answers(examples, windows, [logits for _, logits, _ in found]))
        references = [list(answers["text"]) for answers in examples[self.column("answers")]]
        scores = AnswerQuality(keep_in_memory=True).compute(predictions=predictions, references=references)
        loss = sum(loss for _, _, loss in found) / len(found)
        return {**scores, "loss": loss, "predictions": predictions}

    def _all_windows(self, examples: datasets.Dataset) -> datasets.Dataset:
        """Windows of examples that can be scored, those with too long a question among them."""
        features = {**self.features, **PLACES, "example": INT}

        def encode_batch(rows: dict[str, list], indices: list[int]) -> dict[str, list]:
            rows = self.by_role(rows)
            windows: dict[str, list] = {name: [] for name in features}
            for index, *row in zip(indices, *(rows[role] for role in self.roles), strict=True):
                for window in self._windows(*row):
                    for name, values in windows.items():
                        values.append(index if name == "example" else window[name])
            return windows

        return self.map_rows(examples, "the evaluated split", encode_batch, features)

    def _answers(
        self, examples: datasets.Dataset, windows: datasets.Dataset, logits: Sequence[torch.Tensor]
    ) -> Iterator[str]:
        """The answer to each example, empty for none, from the logits `(2, length)` of all windows."""
        column = self.column("context")
        pairs = zip(logits, windows.select_columns([*PLACES, "example"]), strict=True)
        groups = groupby(pairs, key=lambda pair: pair[1]["example"])
        for row, (_, group) in zip(examples.select_columns([column]), groups, strict=True):
            own, places = zip(*group, strict=True)
            spans = best_spans(
                [starts for starts, _ in own],
                [ends for _, ends in own],
                [list(zip(*(place[name] for name in PLACES), strict=True)) for place in places],
                max_answer_len=self.settings["max_answer_len"],
                handle_impossible_answer=self.settings["handle_impossible_answer"],
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
