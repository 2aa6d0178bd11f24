"""What the demo page does for each task: what is typed in, and how the model's answer is shown."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from transformers import Pipeline

NEW_TOKENS = 64  # where the model's files do not say how much to write
SHOWN = 5  # of the most likely answers
STRIDE = 32  # tokens that two windows of a long text share

Texts = dict[str, str]
Allowed = Callable[[Any], bool]  # whether a value is one that a parameter may have


@dataclass(frozen=True)
class Task:
    """How a task looks on the page.

    Args:
        boxes: What is typed in: the name that the Hub's examples call it by → what the page calls it.
        button: What the button says.
        output: Makes the component that shows the answer.
        answer: Gives what that component shows, and the text that the model wrote, if it writes any.
        parameters: What a card may choose of the pipeline's arguments. A card is a stranger's word: what is not plain
            and harmless is not here, least of all what makes the pipeline run code.
    """

    boxes: Mapping[str, str]
    button: str
    output: Callable[[], gr.components.Component]
    answer: Callable[[Pipeline, Texts, dict[str, Any]], tuple[Any, str | None]]
    parameters: Mapping[str, Allowed] = field(default_factory=dict)

    def choose(self, wanted: Any) -> tuple[dict[str, Any], list[str]]:
        """The parameters that are allowed, with the values that they may have, and the names of the others."""
        given = wanted if isinstance(wanted, Mapping) else {}
        chosen = {
            name: value for name, value in given.items() if name in self.parameters and self.parameters[name](value)
        }
        return chosen, [str(name) for name in given if name not in chosen]


def refusal(text: str) -> gr.Error:
    return gr.Error(text, print_exception=False)


def longest_input(pipe: Pipeline) -> int:
    """How many tokens the model reads at most."""
    config = getattr(pipe.model.config, "encoder", pipe.model.config)
    return min(pipe.tokenizer.model_max_length, getattr(config, "max_position_embeddings", None) or 10**30)


def count_tokens(pipe: Pipeline, texts: Texts) -> int:
    return len(pipe.tokenizer(*texts.values(), verbose=False)["input_ids"])


def _warn_if_cut(pipe: Pipeline, texts: Texts) -> None:
    count, limit = count_tokens(pipe, texts), longest_input(pipe)
    if count > limit:
        gr.Warning(f"The text has {count:,} tokens, of which the model reads the first {limit:,}.")


def _refuse_if_longer(pipe: Pipeline, texts: Texts, limit: int) -> None:
    count = count_tokens(pipe, texts)
    if count > limit:
        raise refusal(f"The text has {count:,} tokens, but the model reads {limit:,} at most: shorten it.")


def _write_from(pipe: Pipeline, texts: Texts, parameters: dict[str, Any]) -> tuple[str, str]:
    """Translates or summarizes."""
    _warn_if_cut(pipe, texts)
    (text,) = pipe(texts["text"], truncation=True, **parameters)[0].values()
    return text, text


def _complete(pipe: Pipeline, texts: Texts, parameters: dict[str, Any]) -> tuple[str, str]:
    """What an encoder-decoder makes of a text with gaps, or of its beginning; it names the gaps by special tokens."""
    _warn_if_cut(pipe, texts)
    inputs = pipe.tokenizer(texts["text"], truncation=True, return_tensors="pt").to(pipe.device)
    options = {"max_new_tokens": pipe.model.generation_config.max_new_tokens or NEW_TOKENS} | parameters
    ids = pipe.model.generate(inputs.input_ids, attention_mask=inputs.attention_mask, **options)[0].tolist()
    tokenizer, config = pipe.tokenizer, pipe.model.generation_config
    around = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, config.decoder_start_token_id}
    text = tokenizer.decode([number for number in ids if number not in around])
    return text, text


def _continue(pipe: Pipeline, texts: Texts, parameters: dict[str, Any]) -> tuple[str, str]:
    limit = longest_input(pipe)
    _refuse_if_longer(pipe, texts, limit - 1)
    chosen = parameters.pop("max_new_tokens", None) or pipe.model.generation_config.max_new_tokens or NEW_TOKENS
    room = limit - count_tokens(pipe, texts)
    (answer,) = pipe(texts["text"], return_full_text=False, max_new_tokens=min(chosen, room), **parameters)
    return answer["generated_text"], answer["generated_text"]


def _fill(pipe: Pipeline, texts: Texts, parameters: dict[str, Any]) -> tuple[dict[str, float], None]:
    mask = pipe.tokenizer.mask_token
    if (count := texts["text"].count(mask)) != 1:
        raise refusal(f"Write {mask} once, for the word to guess: the text has it {count} times.")
    _refuse_if_longer(pipe, texts, longest_input(pipe))
    answers = pipe(texts["text"], **{"top_k": SHOWN} | parameters)
    return _scores((answer["token_str"].strip() or "␣", answer["score"]) for answer in answers), None


def _classify(pipe: Pipeline, texts: Texts, parameters: dict[str, Any]) -> tuple[dict[str, float] | str, None]:
    _warn_if_cut(pipe, texts)
    answers = pipe([texts], **{"top_k": None, "truncation": True} | parameters)[0]
    answers = answers if isinstance(answers, list) else [answers]
    if pipe.model.config.problem_type == "regression":
        return ", ".join(f"{answer['score']:.4g}" for answer in answers), None
    return _scores((answer["label"], answer["score"]) for answer in answers), None


def _tag(pipe: Pipeline, texts: Texts, parameters: dict[str, Any]) -> tuple[list[tuple[str, str | None]], None]:
    limit, tokenizer = longest_input(pipe), pipe.tokenizer
    windows = {}
    if count_tokens(pipe, texts) > limit:
        if not tokenizer.is_fast or tokenizer.pad_token is None:  # windows need both
            _refuse_if_longer(pipe, texts, limit)
        windows = {"stride": min(STRIDE, (limit - tokenizer.num_special_tokens_to_add()) // 2)}
    options = {"aggregation_strategy": "simple"} | windows | parameters
    if not tokenizer.is_fast:  # it does not tell what belongs to one word, nor where
        options["aggregation_strategy"] = "simple"
    entities = pipe(texts["text"], **options)
    return marked(texts["text"], entities if tokenizer.is_fast else found(texts["text"], entities)), None


def _find_answer(pipe: Pipeline, texts: Texts, parameters: dict[str, Any]) -> tuple[dict[str, float], None]:
    answers = pipe(question=texts["text"], context=texts["context"], **{"top_k": SHOWN} | parameters)
    answers = answers if isinstance(answers, list) else [answers]
    return _scores((answer["answer"] or "(no answer)", answer["score"]) for answer in answers), None


def found(text: str, entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entities with the places where they stand, in their order.

    Raises:
        gr.Error: A word does not stand there to the letter.
    """
    placed, end = [], 0
    for entity in entities:
        word = entity["word"].strip()
        start = text.find(word, end)
        if start < 0:
            raise refusal(f"The model finds “{word}”, but its tokenizer does not tell where in the text that stands.")
        end = start + len(word)
        placed.append(entity | {"start": start, "end": end})
    return placed


def marked(text: str, entities: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    """A text in pieces, each with the label of the entity that it is, or none."""
    pieces: list[tuple[str, str | None]] = []
    end = 0
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        start = max(end, entity["start"])
        pieces += [(text[end:start], None), (text[start : entity["end"]], entity["entity_group"])]
        end = max(end, entity["end"])
    pieces.append((text[end:], None))
    return [piece for piece in pieces if piece[0]]


def _scores(answers: Any) -> dict[str, float]:
    """Answer → score; the better score where an answer stands there twice."""
    scores: dict[str, float] = {}
    for answer, score in answers:
        scores[answer] = max(score, scores.get(answer, 0.0))
    return scores


def _written() -> gr.Textbox:
    return gr.Textbox(label="Output", lines=2, interactive=False, buttons=["copy"])


def _labels() -> gr.Label:
    return gr.Label(label="Output", num_top_classes=SHOWN)


def _entities() -> gr.HighlightedText:
    return gr.HighlightedText(label="Output", show_legend=True)


def _switch(value: Any) -> bool:
    return isinstance(value, bool)


def _whole(least: int, most: int) -> Allowed:
    return lambda value: type(value) is int and least <= value <= most


def _number(least: float, most: float) -> Allowed:
    return lambda value: type(value) in (int, float) and least <= value <= most


def _one_of(*words: str) -> Allowed:
    return lambda value: isinstance(value, str) and value in words


def _language(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z]{2,8}([_-][A-Za-z0-9]{2,8})*", value) is not None


LENGTHS = {"max_new_tokens": _whole(1, 4096), "max_length": _whole(1, 4096), "min_new_tokens": _whole(0, 4096)}
GENERATION = LENGTHS | {
    "num_beams": _whole(1, 64),
    "do_sample": _switch,
    "temperature": _number(0.01, 100),
    "top_k": _whole(0, 1_000_000),
    "top_p": _number(0.0, 1.0),
    "repetition_penalty": _number(0.01, 100),
    "length_penalty": _number(-100, 100),
    "no_repeat_ngram_size": _whole(0, 4096),
    "early_stopping": _switch,
}
TRANSLATION = GENERATION | {"src_lang": _language, "tgt_lang": _language}
BEST = {"top_k": _whole(1, 1000)}
SCORES = BEST | {"function_to_apply": _one_of("sigmoid", "softmax", "none")}
TAGS = {"aggregation_strategy": _one_of("simple", "first", "average", "max")}
SPANS = BEST | {
    "doc_stride": _whole(0, 100_000),
    "max_answer_len": _whole(1, 100_000),
    "max_seq_len": _whole(1, 100_000),
    "max_question_len": _whole(1, 100_000),
    "handle_impossible_answer": _switch,
    "align_to_words": _switch,
}

# of encoder-decoders that neither translate nor summarize: the Hub counts it among text-generation, whose pipeline is for
# decoders, and transformers 5 has none for it
TEXT_TO_TEXT = "text2text-generation"
TASKS = {
    "translation": Task({"text": "Text"}, "Translate", _written, _write_from, TRANSLATION),
    "summarization": Task({"text": "Text"}, "Summarize", _written, _write_from, GENERATION),
    TEXT_TO_TEXT: Task({"text": "Text with gaps, or its beginning"}, "Complete", _written, _complete, GENERATION),
    "text-generation": Task({"text": "Beginning of a text"}, "Continue", _written, _continue, GENERATION),
    "fill-mask": Task({"text": "Text"}, "Guess", _labels, _fill, BEST),
    "text-classification": Task({"text": "Text"}, "Classify", _labels, _classify, SCORES),
    "token-classification": Task({"text": "Text"}, "Tag", _entities, _tag, TAGS),
    "question-answering": Task({"text": "Question", "context": "Context"}, "Answer", _labels, _find_answer, SPANS),
}
