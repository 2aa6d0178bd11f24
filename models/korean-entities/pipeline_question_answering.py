"""Extractive question answering through `pipeline()`: the call and the answers of transformers 4, which transformers 5
has no more.

A context that is longer than the model reads is read in overlapping windows. `answer_windows` makes them, `best_spans`
chooses among all of an example's windows, and `answer_settings` says with which numbers: whoever evaluates a model with
these three gets the pipeline's answers.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers.pipelines.base import ChunkPipeline

Offsets = Sequence[Sequence[int] | None]

# used where neither the call nor `task_specific_params` in the model's `config.json` says otherwise
DEFAULT_SETTINGS = {
    "max_seq_len": 384,
    "doc_stride": 128,
    "max_question_len": None,
    "max_answer_len": 15,
    "handle_impossible_answer": False,
    "align_to_words": False,
}


class Span(NamedTuple):
    """An answer: a slice `context[start:end]` and its probability. No answer is the slice `[0:0]`."""

    score: float
    start: int
    end: int


class Window(NamedTuple):
    """What the model reads of an example at once.

    Args:
        inputs: What the tokenizer gives the model: `input_ids`, `attention_mask`, ..., each `length` numbers.
        offsets: For each of the `length` tokens the slice of the context that it stands for, without white space
            around it; None for tokens that cannot be part of an answer.
    """

    inputs: dict[str, list[int]]
    offsets: list[tuple[int, int] | None]


def answer_settings(tokenizer: Any, config: Any, **chosen: Any) -> dict[str, Any]:
    """How a model answers: the settings of `chosen` that are not None, else those that its `config.json` lists under
    `task_specific_params`, `question-answering`, else `DEFAULT_SETTINGS`.

    Args:
        tokenizer: Its `model_max_length` and
        config: the model's `max_position_embeddings` limit `max_seq_len`.
        chosen: Keys of `DEFAULT_SETTINGS`, which `QuestionAnsweringPipeline.__call__` explains.

    Raises:
        ValueError: `max_seq_len`, `max_question_len`, `max_answer_len` below 1, or `doc_stride` below 0.
    """
    of_task = (getattr(config, "task_specific_params", None) or {}).get("question-answering") or {}
    known = {name: value for name, value in of_task.items() if name in DEFAULT_SETTINGS}
    settings = DEFAULT_SETTINGS | known | {name: value for name, value in chosen.items() if value is not None}
    for name, least in (("max_seq_len", 1), ("max_question_len", 1), ("max_answer_len", 1), ("doc_stride", 0)):
        if settings[name] is not None and settings[name] < least:
            raise ValueError(f"{name}={settings[name]} must be at least {least}")
    limit = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", None) or 10**30)
    settings["max_seq_len"] = min(settings["max_seq_len"], limit)
    if "doc_stride" not in known and chosen.get("doc_stride") is None:
        settings["doc_stride"] = min(settings["doc_stride"], settings["max_seq_len"] // 2)
    return settings


def answer_windows(
    tokenizer: Any,
    question: str,
    context: str,
    max_seq_len: int,
    doc_stride: int,
    max_question_len: int | None = None,
    align_to_words: bool = False,
) -> list[Window]:
    """The windows in which a model reads a context: question and part of the context, joined by the tokenizer.

    Args:
        tokenizer: A fast tokenizer. Its template for pairs puts in the special tokens.
        question, context: Texts that are not blank.
        max_seq_len: Longest window in tokens, the special ones included.
        doc_stride: So many tokens of the context two neighbouring windows share; half a window's context where that
            would be all of it.
        max_question_len: A longer question is cut to so many tokens. Default and most: half of `max_seq_len`.
        align_to_words: Give every token the slice of the whole word that it belongs to, as the tokenizer splits words.

    Raises:
        ValueError: A text is blank or none, the tokenizer is not fast, or the windows are too short for any context.
    """
    for name, text in (("question", question), ("context", context)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"the {name} must be a text that is not blank, not {text!r}")
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} is not a fast tokenizer, and knows no places in the context")
    longest_question = min(max_question_len or max_seq_len, max(1, max_seq_len // 2))
    places = _places(tokenizer, question)
    if len(places) > longest_question:
        question = question[: places[longest_question - 1][1]]
        places = _places(tokenizer, question)
    room = max_seq_len - tokenizer.num_special_tokens_to_add(pair=True) - len(places)
    if room < 1:
        raise ValueError(
            f"max_seq_len={max_seq_len} has no room for a context beside a question of {len(places)} tokens"
        )
    encoded = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=max_seq_len,
        stride=doc_stride if doc_stride < room else room // 2,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    offsets = [
        [
            _without_space(context, *pair) if sequence == 1 else None
            for pair, sequence in zip(pairs, encoded.sequence_ids(index), strict=True)
        ]
        for index, pairs in enumerate(encoded["offset_mapping"])
    ]
    if align_to_words:
        offsets = _widened_to_words(offsets, [encoded.word_ids(index) for index in range(len(offsets))])
    names = [name for name in encoded if name not in ("offset_mapping", "overflow_to_sample_mapping")]
    return [Window({name: encoded[name][index] for name in names}, pairs) for index, pairs in enumerate(offsets)]


def _places(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    return tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]


def _without_space(context: str, start: int, end: int) -> tuple[int, int] | None:
    text = context[start:end]
    start, end = start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())
    return (start, end) if start < end else None


def _widened_to_words(
    offsets: list[list[tuple[int, int] | None]], words: list[list[int | None]]
) -> list[list[tuple[int, int] | None]]:
    """A word may begin in one window and end in the next, so its extent is looked for in all of them."""
    extents: dict[int | None, tuple[int, int]] = {}
    for pairs, numbers in zip(offsets, words, strict=True):
        for pair, word in zip(pairs, numbers, strict=True):
            if pair is not None:
                start, end = extents.get(word, pair)
                extents[word] = min(start, pair[0]), max(end, pair[1])
    return [
        [pair if pair is None or word is None else extents[word] for pair, word in zip(pairs, numbers, strict=True)]
        for pairs, numbers in zip(offsets, words, strict=True)
    ]


def best_spans(
    start_logits: Sequence[torch.Tensor],
    end_logits: Sequence[torch.Tensor],
    offsets: Sequence[Offsets],
    *,
    max_answer_len: int = 15,
    top_k: int = 1,
    handle_impossible_answer: bool = False,
) -> list[Span]:
    """The best answers over all windows of one example, best first.

    In every window the logits become probabilities by a softmax over the tokens of the context and the first token,
    which stands for "no answer here". An answer's score is the probability of its start times that of its end; the
    score of no answer is the least that any window gives it, since one window with an answer is enough. Of equal
    scores the earlier window, start and end come first, and no answer last.

    The result depends on nothing but these arguments: it is computed in float64 from the logits of tokens that count,
    so padding on the right, wherever it comes from, changes no bit.

    Args:
        start_logits, end_logits: For each window `(length,)`, or longer where it was padded on the right; or a tensor
            `(windows, length)`.
        offsets: For each window, for each token, the slice of the context that it stands for. None, `(-1, -1)` or an
            empty slice is a token that cannot be part of an answer.
        max_answer_len: Longest answer, counted in tokens that can be part of one.
        top_k: How many answers, none twice.
        handle_impossible_answer: Let no answer, `Span(score, 0, 0)`, be one of them.

    Returns:
        At most `top_k` answers; fewer where there are not so many.
    """
    best: dict[tuple[int, int], float] = {}
    no_answer = 1.0
    for start, end, pairs in zip(start_logits, end_logits, offsets, strict=True):
        slices = [(int(pair[0]), int(pair[1])) if pair is not None else (-1, -1) for pair in pairs]
        tokens = [token for token, (first, last) in enumerate(slices) if token > 0 and 0 <= first < last]
        starts, ends = (logits.double().cpu()[[0, *tokens]].softmax(dim=0) for logits in (start, end))
        no_answer = min(no_answer, (starts[0] * ends[0]).item())
        if not tokens:
            continue
        longest = min(max_answer_len, len(tokens))
        # (start, length - 1); what would end behind the last token has no probability
        scores = starts[1:, None] * torch.nn.functional.pad(ends[1:], (0, longest - 1)).unfold(0, longest, 1)
        found: set[tuple[int, int]] = set()
        for index in _best_first(scores.flatten(), only_one=top_k == 1):
            first, more = divmod(index, longest)
            if first + more >= len(tokens):
                continue
            span = slices[tokens[first]][0], slices[tokens[first + more]][1]
            found.add(span)
            best[span] = max(scores[first, more].item(), best.get(span, 0.0))  # in this order NaN stays
            if len(found) == top_k:
                break
    answers = [Span(score, *span) for span, score in best.items()]
    if handle_impossible_answer:
        answers.append(Span(no_answer, 0, 0))
    return sorted(answers, key=lambda answer: -answer.score)[:top_k]


def _best_first(scores: torch.Tensor, only_one: bool) -> list[int]:
    return [int(scores.argmax())] if only_one else scores.sort(descending=True, stable=True).indices.tolist()


class QuestionAnsweringPipeline(ChunkPipeline):
    """Finds the answers to questions in texts, with any model that has a head for it.

    ```python
    answer = pipeline("question-answering", model=folder)
    answer(question="사과는 몇 개인가요?", context="사과 세 개와 배 두 개를 샀다.")
    # {"score": 0.98, "start": 3, "end": 6, "answer": "세 개"}
    ```

    `answer` is always `context[start:end]`. Long contexts are read in overlapping windows; the tokenizer must be a fast
    one.
    """

    _load_tokenizer = True
    _load_processor = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    default_input_names = "question,context"

    def __call__(self, *args: Any, question: Any = None, context: Any = None, **kwargs: Any) -> Any:
        """Answers a question, or each of many.

        Args:
            args: A dict with `question` and `context`, a list of such dicts, or a generator or dataset that yields
                them; or question and context as below.
            question, context (`str` or lists of `str`): Instead of `args`. With a list of questions, either one context
                for all or a list of contexts as long.
            top_k (`int`, *optional*): How many answers for each question. Default: 1.
            doc_stride (`int`, *optional*): So many tokens of the context two neighbouring windows share. Default: 128,
                at most half of `max_seq_len`.
            max_answer_len (`int`, *optional*): Longest answer in tokens. Default: 15.
            max_seq_len (`int`, *optional*): Longest window (question, context and special tokens) in tokens. Default:
                384, at most what tokenizer and model allow.
            max_question_len (`int`, *optional*): A longer question is cut to so many tokens. Default: half of
                `max_seq_len`.
            handle_impossible_answer (`bool`, *optional*): Allow no answer, with `answer` empty and `start` and `end` 0.
                Default: False.
            align_to_words (`bool`, *optional*): Widen answers to whole words, as the tokenizer splits them. Default:
                False (transformers 4: True), since in Korean that adds the particle: "서울에서" for "서울".
            batch_size (`int`, *optional*): Windows read at a time. Default: 1.

            Defaults are those of the model where `task_specific_params` in its `config.json` says so.

        Returns:
            For each question a dict with `score`, `start`, `end` (places of characters in the context) and `answer`;
            where `top_k` is not 1, a list of such dicts, best first. For a list, a list of these; for a generator or
            dataset, an iterator over them.

        Raises:
            ValueError: A question or context is missing, blank or no text, or there is not one context for each
                question.
        """
        examples = _as_examples(args, question, context)
        if isinstance(examples, list) and not examples:
            return []
        return super().__call__(examples, **kwargs)

    def _sanitize_parameters(
        self, top_k: int | None = None, **settings: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown := settings.keys() - DEFAULT_SETTINGS.keys():
            raise TypeError(f"unknown {', '.join(sorted(unknown))}; there are top_k, {', '.join(DEFAULT_SETTINGS)}")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k={top_k} must be at least 1")
        chosen = {name: value for name, value in settings.items() if value is not None}
        answer_settings(self.tokenizer, self.model.config, **chosen)  # refuses what is out of range before it runs
        of_answers = ("max_answer_len", "handle_impossible_answer")
        preprocess = {name: value for name, value in chosen.items() if name not in of_answers}
        postprocess = {name: value for name, value in chosen.items() if name in of_answers}
        return preprocess, {}, postprocess if top_k is None else postprocess | {"top_k": top_k}

    def preprocess(self, input_: Any, **chosen: Any) -> Iterator[dict[str, Any]]:
        question, context = _question_and_context(input_)
        settings = answer_settings(self.tokenizer, self.model.config, **chosen)
        windows = answer_windows(
            self.tokenizer,
            question,
            context,
            settings["max_seq_len"],
            settings["doc_stride"],
            settings["max_question_len"],
            settings["align_to_words"],
        )
        for index, window in enumerate(windows):
            tensors = {name: torch.tensor([values]) for name, values in window.inputs.items()}
            yield tensors | {
                "is_token": torch.ones(1, len(window.offsets), dtype=torch.bool),
                "offsets": window.offsets,
                "context": context,
                "is_last": index == len(windows) - 1,
            }

    def _forward(self, input_tensors: dict[str, Any], **forward_parameters: Any) -> dict[str, Any]:
        kept = {name: input_tensors[name] for name in ("is_token", "offsets", "context", "is_last")}
        outputs = self.model(**{name: value for name, value in input_tensors.items() if name not in kept})
        if "start_logits" not in outputs:
            raise ValueError(
                f"{type(self.model).__name__} cannot answer: this pipeline needs a model with a question-answering head, "
                "one that AutoModelForQuestionAnswering loads"
            )
        return {"start_logits": outputs["start_logits"], "end_logits": outputs["end_logits"]} | kept

    def postprocess(
        self, model_outputs: list[dict[str, Any]], top_k: int = 1, **chosen: Any
    ) -> dict[str, Any] | list[dict[str, Any]]:
        settings = answer_settings(self.tokenizer, self.model.config, **chosen)
        own = [window["is_token"][0] for window in model_outputs]  # padding may be on either side
        spans = best_spans(
            [window["start_logits"][0][tokens] for window, tokens in zip(model_outputs, own, strict=True)],
            [window["end_logits"][0][tokens] for window, tokens in zip(model_outputs, own, strict=True)],
            [window["offsets"] for window in model_outputs],
            max_answer_len=settings["max_answer_len"],
            top_k=top_k,
            handle_impossible_answer=settings["handle_impossible_answer"],
        )
        context = model_outputs[0]["context"]
        answers = [
            {"score": span.score, "start": span.start, "end": span.end, "answer": context[span.start : span.end]}
            for span in spans
        ]
        if top_k != 1:
            return answers
        return answers[0] if answers else {"score": 0.0, "start": 0, "end": 0, "answer": ""}


def _as_examples(args: tuple[Any, ...], question: Any, context: Any) -> Any:
    if len(args) == 1 and question is None and context is None:
        return list(args[0]) if isinstance(args[0], tuple) else args[0]
    if len(args) == 2 and question is None and context is None:
        question, context = args
    elif args:
        raise ValueError("give either question=... and context=..., or examples: dicts with question and context")
    if isinstance(question, list | tuple):
        contexts = [context] * len(question) if isinstance(context, str) else context
        if not isinstance(contexts, list | tuple) or len(contexts) != len(question):
            raise ValueError(f"{len(question)} questions need one context, or a list of as many, not {contexts!r}")
        return [{"question": one, "context": other} for one, other in zip(question, contexts, strict=True)]
    return {"question": question, "context": context}


def _question_and_context(example: Any) -> tuple[Any, Any]:
    if not isinstance(example, dict) or not {"question", "context"} <= example.keys():
        raise ValueError(f"an example must be a dict with question and context, not {example!r}")
    return example["question"], example["context"]
