"""How a model of each task is asked, and what it answers: on the page, on the command line and in Python alike.

An answer is a dict: what the model says of an input, under the names that stand in `TASKS`. Where several are asked for there
is a list of them, the best first.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedConfig,
    TokenClassificationPipeline,
    pipeline,
)
from transformers.image_utils import load_image

from .conversations import conversation_ids

NEW_TOKENS = 64  # where neither the call nor the model's files say how much to write
SHOWN = 5  # of the most likely words
STRIDE = 32  # tokens that two windows of a long text share
LIKELY = 0.5  # from this probability on, a text has a label of several that it may have

# of models and their tokenizers, where a text is none that they can take
MODEL_ERRORS = (ValueError, TypeError, IndexError, RuntimeError, ImportError, AssertionError, ArithmeticError)
LOADING_ERRORS = (
    OSError,
    ImportError,
    LookupError,
    AttributeError,
    SafetensorError,
    StrictDataclassError,
    *MODEL_ERRORS,
)

Answer = dict[str, Any]
Allowed = Callable[[Any], bool]  # whether a value is one that a parameter may have


class UnanswerableError(ValueError):
    """An input that a model cannot answer.

    Attributes:
        index: Its place among those that were asked together.
    """

    def __init__(self, message: str, index: int = 0) -> None:
        super().__init__(message)
        self.index = index


class TooLongError(UnanswerableError):
    """A text that could be cut."""


@dataclass(frozen=True)
class Asking:
    """How a task's model is asked.

    Args:
        inputs: What it needs to know.
        ask: Gives the answers to each of many inputs, given a pipeline, the inputs, how the pipeline is called with them, whether
            long texts are cut, and parameters.
        fields: What an answer says, given the pipeline and whether so many of the best are asked for.
        line: A readable form, given an input and one of its answers.
        parameters: What may be chosen of the pipeline's arguments, by anybody. A card is a stranger's word: what is not plain and
            harmless is not here, least of all what makes the pipeline run code.
        optional: What it may be told besides.
    """

    inputs: tuple[str, ...]
    ask: Callable[..., list[list[Answer]]]
    fields: Callable[[Any, bool], tuple[str, ...]]
    line: Callable[[Any, Answer], str]
    parameters: Mapping[str, Allowed]
    optional: tuple[str, ...] = ()

    def choose(self, wanted: Any) -> tuple[dict[str, Any], list[str]]:
        """The parameters that are allowed, with the values that they may have, and the names of the others."""
        given = wanted if isinstance(wanted, Mapping) else {}
        chosen = {
            name: value for name, value in given.items() if name in self.parameters and self.parameters[name](value)
        }
        return chosen, [str(name) for name in given if name not in chosen]


def ask(
    task: str,
    pipe: Any,
    inputs: Sequence[Any],
    call: Callable[..., list[Any]] | None = None,
    truncate: bool = False,
    **parameters: Any,
) -> list[list[Answer]]:
    """The answers to each input, the best first.

    Args:
        task: One of `TASKS`.
        pipe: Of `load_pipe`.
        inputs: Texts, or dicts where the task needs to know more; of pictures, the names of their files.
        call: Calls a pipeline with inputs and its arguments. Default: just so.
        truncate: Cut a text that is longer than the model reads: its end, or the beginning of one that is continued.
        parameters: Those of the task.

    Raises:
        UnanswerableError: An input is none that the model can answer.
    """
    return TASKS[task].ask(pipe, list(inputs), call or _just_so, truncate, parameters)


def _just_so(pipe: Any, inputs: list[Any], **options: Any) -> list[Any]:
    return pipe(inputs, **options)


# --- loading

# how the names of model classes end → what such a model usually does
HEADS = {
    "ForConditionalGeneration": "translation",
    "MTModel": "translation",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "VisionEncoderDecoderModel": "image-to-text",
}


def load_pipe(
    model: str, tag: Any = None, trust_remote_code: bool = False, tasks: Sequence[str] | None = None
) -> tuple[str, Any]:
    """A model's task, and what it is asked by: a pipeline, or what is called as one.

    Args:
        model: A folder or a Hub id.
        tag: The task, as the Hub calls it. Default, and where the model's head is for another: what that usually does.
        trust_remote_code: Let the `.py` files beside the weights run.
        tasks: Those of `TASKS` that are wanted. Default: all.

    Raises:
        ValueError: It does not load, or does none of the tasks; in one line.
    """
    config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    tasks = list(TASKS) if tasks is None else tasks
    usual = _task_of(config)
    task = tag if isinstance(tag, str) and tag in tasks and _may_do(usual, tag) else usual
    if config.is_encoder_decoder and task == "text-generation":
        task = TEXT_TO_TEXT
    if task is None or task not in tasks:
        raise ValueError(f"what it does is not known; there are {', '.join(tasks)}")
    if task == IMAGE_TO_TEXT:
        return task, Captioner(model, trust_remote_code)
    name = "translation" if task == TEXT_TO_TEXT else task  # its parts are the same
    pipe = pipeline(
        name,
        model=model,
        model_kwargs={"use_safetensors": True},
        trust_remote_code=trust_remote_code,
        pipeline_class=_Tagger if task == "token-classification" else None,
    )
    if pipe.model.main_input_name != "input_ids":
        raise ValueError(f"a {config.model_type} does not read text, which {task} needs")
    if pipe.tokenizer is None:
        raise ValueError("it has no tokenizer")
    if task == "fill-mask" and pipe.tokenizer.mask_token is None:
        raise ValueError("its tokenizer has no mask token to put in place of a word")
    pipe.tokenizer.model_max_length = longest_input(pipe)  # by which pipelines cut; it may stand in config.json only
    if task == "text-generation":
        pipe.tokenizer.truncation_side = "left"
    return task, pipe


def _task_of(config: PreTrainedConfig) -> str | None:
    name = (config.architectures or [""])[0]
    return next((task for ending, task in HEADS.items() if name.endswith(ending)), None)


def _may_do(usual: str | None, task: str) -> bool:
    """Whether a head that usually does one task may do another; else it would be made anew, and know nothing."""
    return usual in (None, task) or (
        usual == "translation" and task in ("summarization", "text-generation", TEXT_TO_TEXT)
    )


def read_card(model: str) -> dict[str, Any]:
    """The head of a model's card, and the card's heading as `title`; nothing where there is no card.

    Args:
        model: A folder or a Hub id.
    """
    place = Path(model, "README.md") if Path(model).is_dir() else model
    try:
        card = ModelCard.load(place)
    except (*LOADING_ERRORS, yaml.YAMLError, HfHubHTTPError, HFValidationError):
        return {}
    heading = next((line[2:].strip() for line in card.text.splitlines() if line.startswith("# ")), None)
    return {"title": heading} | card.data.to_dict()


class Captioner:
    """Says what is in pictures; called as a pipeline, of which transformers 5 has none for it."""

    def __init__(self, model: str, trust_remote_code: bool = False) -> None:
        self.device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        self.model = AutoModelForImageTextToText.from_pretrained(
            model, use_safetensors=True, trust_remote_code=trust_remote_code
        )
        self.model.to(self.device).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
        self.image_processor = AutoImageProcessor.from_pretrained(
            model, backend="pil", trust_remote_code=trust_remote_code
        )

    def __call__(self, images: Sequence[Any], batch_size: int = 1, **options: Any) -> list[list[str]]:
        captions: list[list[str]] = []
        for start in range(0, len(images), batch_size):
            pictures = [
                _picture(image, start + place) for place, image in enumerate(images[start : start + batch_size])
            ]
            pixel_values = self.image_processor(pictures, return_tensors="pt").pixel_values.to(self.device)
            ids = self.model.generate(pixel_values, **{"max_new_tokens": _new_tokens(self)} | options)
            texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
            count = len(texts) // len(pictures)
            captions += [texts[first : first + count] for first in range(0, len(texts), count)]
        return captions


def _picture(image: Any, index: int) -> Any:
    if isinstance(image, str | os.PathLike):
        if not Path(image).is_file():  # nor is it looked for in the network
            raise UnanswerableError(f"{image}: no such file", index)
        image = os.fspath(image)
    try:
        return load_image(image)
    except (OSError, ValueError):
        raise UnanswerableError(f"{image}: cannot be read as a picture", index) from None


# --- lengths


def longest_input(pipe: Any) -> int:
    """How many tokens the model reads at most."""
    config = getattr(pipe.model.config, "encoder", pipe.model.config)
    return min(pipe.tokenizer.model_max_length, getattr(config, "max_position_embeddings", None) or 10**30)


def count_tokens(pipe: Any, inputs: Sequence[Any]) -> list[int]:
    """Of texts, pairs of them, and conversations."""
    return [len(ids) for ids in _token_ids(pipe, inputs)]


def _token_ids(pipe: Any, inputs: Sequence[Any], **options: Any) -> Iterator[list[int]]:
    for each in inputs:
        if isinstance(each, list):
            try:
                yield conversation_ids(pipe.tokenizer, each)
            except Exception as error:  # of a stranger's template, which may fail in any way
                why = " ".join(str(error).split()) or type(error).__name__
                raise ValueError(f"the tokenizer's template of conversations fails: {why}") from None
        else:
            texts = each.values() if isinstance(each, dict) else [each]
            yield pipe.tokenizer(*texts, verbose=False, **options)["input_ids"]


def require_length(pipe: Any, inputs: Sequence[Any], limit: int) -> list[int]:
    """As of `count_tokens`.

    Raises:
        TooLongError: One has more than `limit`.
    """
    counts = count_tokens(pipe, inputs)
    for index, count in enumerate(counts):
        if count > limit:
            raise TooLongError(
                f"the text has {count:,} tokens, but the model reads {limit:,} at most: shorten it", index
            )
    return counts


# --- what writes


def _write_from(pipe: Any, inputs: list[str], call: Callable, truncate: bool, chosen: dict[str, Any]) -> list:
    """Translates or summarizes."""
    if not truncate:
        require_length(pipe, inputs, longest_input(pipe))
    options = {"return_scores": True} if chosen.pop("scores", False) else {}
    outputs = call(pipe, inputs, truncation=True, **options, **_best_few(pipe, chosen))
    return [[_without_text(each) for each in _listed(output)] for output in outputs]


def _without_text(output: Answer) -> Answer:
    """`translation_text` is `translation` here; it comes first."""
    text = {name.removesuffix("_text"): value for name, value in output.items() if name != "score"}
    return text | {name: value for name, value in output.items() if name == "score"}


def _complete(pipe: Any, inputs: list[str], call: Callable, truncate: bool, chosen: dict[str, Any]) -> list:
    """What an encoder-decoder makes of a text with gaps, or of its beginning; it names the gaps by special tokens."""
    if not truncate:
        require_length(pipe, inputs, longest_input(pipe))
    tokenizer, config = pipe.tokenizer, pipe.model.generation_config
    around = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, config.decoder_start_token_id}

    def complete(texts: list[str], batch_size: int = 1, **options: Any) -> list[list[Answer]]:
        read = tokenizer(texts, truncation=True, padding=len(texts) > 1, return_tensors="pt").to(pipe.device)
        options = {"max_new_tokens": _new_tokens(pipe)} | options
        ids = pipe.model.generate(read.input_ids, attention_mask=read.attention_mask, **options).tolist()
        written = [tokenizer.decode([number for number in row if number not in around]) for row in ids]
        count = len(written) // len(texts)
        return [
            [{"generated_text": text} for text in written[first : first + count]]
            for first in range(0, len(written), count)
        ]

    return call(_Called(complete, tokenizer), inputs, **_best_few(pipe, chosen))


def _continue(pipe: Any, inputs: list[Any], call: Callable, truncate: bool, chosen: dict[str, Any]) -> list:
    """Continues texts, or answers them where the tokenizer has a template of conversations."""
    is_chat = chosen.pop("chat", None)
    if pipe.tokenizer.chat_template is not None if is_chat is None else is_chat:
        inputs = [[{"role": "user", "content": each}] if isinstance(each, str) else each for each in inputs]
    limit, wanted = longest_input(pipe), chosen.pop("max_new_tokens", None) or _new_tokens(pipe)
    cut: dict[str, Any] = {}
    if truncate:
        room = max(1, limit - min(wanted, limit // 2))
        cut = {"tokenizer_encode_kwargs": {"truncation": True, "max_length": room}}
        counts = [min(count, room) for count in count_tokens(pipe, inputs)]
    else:
        counts = require_length(pipe, inputs, limit - 1)
    # the pipeline draws if nobody says otherwise; here who asks for it does, or the model's own files
    asked = {"temperature", "top_p", "top_k"} & chosen.keys() or pipe.model.generation_config.do_sample
    draws = chosen.get("do_sample", bool(asked))
    chosen = {"do_sample": draws} | ({} if draws else {"temperature": None}) | chosen
    answers: list[list[Answer]] = [[] for _ in inputs]
    rooms = [min(wanted, limit - count) for count in counts]
    for room in sorted(set(rooms)):  # what one text has room for depends on no other
        indices = [index for index, each in enumerate(rooms) if each == room]
        found = call(
            pipe, [inputs[index] for index in indices], return_full_text=False, max_new_tokens=room, **cut, **chosen
        )
        for index, output in zip(indices, found, strict=True):
            answers[index] = [{"generated_text": each["generated_text"]} for each in _listed(output)]
    return answers


def _caption(pipe: Any, inputs: list[Any], call: Callable, truncate: bool, chosen: dict[str, Any]) -> list:
    return [[{"caption": text} for text in texts] for texts in call(pipe, inputs, **_best_few(pipe, chosen))]


def _new_tokens(pipe: Any) -> int:
    return pipe.model.generation_config.max_new_tokens or NEW_TOKENS


def _best_few(pipe: Any, chosen: dict[str, Any]) -> dict[str, Any]:
    """What `generate` is told for the `n_best`."""
    count = chosen.pop("n_best", 1)
    if count == 1:
        return chosen
    beams = chosen.get("num_beams") or pipe.model.generation_config.num_beams or getattr(pipe, "default_num_beams", 1)
    return chosen | {"num_beams": max(count, beams), "num_return_sequences": count}


# --- what chooses


def _fill(pipe: Any, inputs: list[str], call: Callable, truncate: bool, chosen: dict[str, Any]) -> list:
    mask, limit = pipe.tokenizer.mask_token, longest_input(pipe)
    for index, text in enumerate(inputs):
        if (count := text.count(mask)) != 1:
            raise UnanswerableError(f"write {mask} once, for the word to guess: the text has it {count} times", index)
    if truncate:
        for index, ids in enumerate(_token_ids(pipe, inputs, truncation=True)):
            if pipe.tokenizer.mask_token_id not in ids:
                raise UnanswerableError(f"{mask} stands behind the {limit:,} tokens that the model reads", index)
    else:
        require_length(pipe, inputs, limit)

    def fill(texts: list[str], **options: Any) -> list[list[dict[str, Any]]]:
        found = pipe(texts, **options)
        return [found] if len(texts) == 1 else found  # the pipeline takes the one out of its list

    options = {"top_k": SHOWN, "tokenizer_kwargs": {"truncation": truncate}} | chosen
    return [
        [
            {"token": each["token_str"].strip(), "score": each["score"], "filled_text": each["sequence"]}
            for each in output
        ]
        for output in call(_Called(fill, pipe.tokenizer), inputs, **options)
    ]


def _classify(pipe: Any, inputs: list[Any], call: Callable, truncate: bool, chosen: dict[str, Any]) -> list:
    if not truncate:
        require_length(pipe, inputs, longest_input(pipe))
    named = "top_k" in chosen
    count = chosen.pop("top_k", 1)
    outputs = call(pipe, inputs, top_k=None, truncation=True, **chosen)
    fields = _of_labels(pipe, named)
    if fields == ("value",):
        return [[{"value": output[0]["score"]}] for output in outputs]
    scores = [{each["label"]: each["score"] for each in output} for output in outputs]
    if fields == ("values",):
        return [[{"values": each}] for each in scores]
    if fields == ("labels", "scores"):
        likely = [[label for label, score in each.items() if score >= LIKELY] for each in scores]
        return [[{"labels": labels, "scores": each}] for labels, each in zip(likely, scores, strict=True)]
    return [[{"label": each["label"], "score": each["score"]} for each in output[:count]] for output in outputs]


def _of_labels(pipe: Any, are_best: bool) -> tuple[str, ...]:
    config = pipe.model.config
    if config.problem_type == "regression":
        return ("value",) if config.num_labels == 1 else ("values",)
    if config.problem_type == "multi_label_classification" and not are_best:
        return ("labels", "scores")
    return ("label", "score")


def _tag(pipe: Any, inputs: list[str], call: Callable, truncate: bool, chosen: dict[str, Any]) -> list:
    limit, tokenizer = longest_input(pipe), pipe.tokenizer
    options: dict[str, Any] = {"aggregation_strategy": "simple"} | chosen
    if tokenizer.is_fast and tokenizer.pad_token is not None:  # windows need both
        if not truncate and any(count > limit for count in count_tokens(pipe, inputs)):
            options["stride"] = min(STRIDE, (limit - tokenizer.num_special_tokens_to_add()) // 2)
    elif not truncate:
        require_length(pipe, inputs, limit)
    if not tokenizer.is_fast:  # it does not tell what belongs to one word, nor where
        options["aggregation_strategy"] = "simple"
    outputs = call(pipe, inputs, **options)
    if not tokenizer.is_fast:
        pairs = enumerate(zip(inputs, outputs, strict=True))
        outputs = [_found(text, entities, index) for index, (text, entities) in pairs]
    return [[{"entities": _entities(text, each)}] for text, each in zip(inputs, outputs, strict=True)]


class _Tagger(TokenClassificationPipeline):
    """Of a text with scores that are no numbers, which would make none of its words part of an entity, the whole is one, of such a
    score."""

    def postprocess(self, all_outputs: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
        if any(outputs["logits"][outputs["special_tokens_mask"] == 0].isnan().any() for outputs in all_outputs):
            text = all_outputs[0]["sentence"]
            label = self.model.config.id2label[0]
            return [{"entity_group": label, "word": text, "score": math.nan, "start": 0, "end": len(text)}]
        return super().postprocess(all_outputs, **options)


def _found(text: str, entities: list[dict[str, Any]], index: int) -> list[dict[str, Any]]:
    """The entities with the places where they stand, in their order."""
    placed, end = [], 0
    for entity in entities:
        word = entity["word"].strip()
        start = text.find(word, end)
        if start < 0:
            raise UnanswerableError(
                f"the model finds “{word}”, but its tokenizer does not tell where in the text that stands", index
            )
        end = start + len(word)
        placed.append(entity | {"start": start, "end": end})
    return placed


def _entities(text: str, found: list[dict[str, Any]]) -> list[Answer]:
    """Each with the slice of the text that it is, without white space around it."""
    entities = []
    for each in found:
        part = text[each["start"] : each["end"]]
        word, start = part.strip(), each["start"] + len(part) - len(part.lstrip())
        if word:
            place = {"text": word, "start": start, "end": start + len(word)}
            entities.append(place | {"label": each["entity_group"], "score": float(each["score"])})
    return entities


def _find_answer(pipe: Any, inputs: list[Any], call: Callable, truncate: bool, chosen: dict[str, Any]) -> list:
    names = ("answer", "score", "start", "end")
    return [
        [{name: each[name] for name in names} for each in _listed(output)] for output in call(pipe, inputs, **chosen)
    ]


def marked(text: str, entities: list[Answer]) -> list[tuple[str, str | None]]:
    """A text in pieces, each with the label of the entity that it is, or none."""
    pieces: list[tuple[str, str | None]] = []
    end = 0
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        start = max(end, entity["start"])
        pieces += [(text[end:start], None), (text[start : entity["end"]], entity["label"])]
        end = max(end, entity["end"])
    pieces.append((text[end:], None))
    return [piece for piece in pieces if piece[0]]


@dataclass
class _Called:
    """A function that is called as a pipeline is."""

    function: Callable[..., list[Any]]
    tokenizer: Any

    def __call__(self, inputs: list[Any], **options: Any) -> list[Any]:
        return self.function(inputs, **options)


def _listed(output: Any) -> list[Any]:
    return output if isinstance(output, list) else [output]


# --- a readable form


def _line_of(name: str) -> Callable[[Any, Answer], str]:
    return lambda _, answer: " ".join(answer[name].split("\n"))


def _line_of_score(name: str) -> Callable[[Any, Answer], str]:
    return lambda _, answer: f"{answer[name] or '-'} {answer['score']:.2f}"


def _line_of_labels(_: Any, answer: Answer) -> str:
    if "value" in answer:
        return f"{answer['value']:.4g}"
    if "label" in answer:
        return f"{answer['label']} {answer['score']:.2f}"
    if "values" in answer:
        return ", ".join(f"{label} {value:.4g}" for label, value in answer["values"].items())
    return ", ".join(f"{label} {answer['scores'][label]:.2f}" for label in answer["labels"]) or "-"


def _line_of_entities(text: str, answer: Answer) -> str:
    pieces = marked(text, answer["entities"])
    return " ".join("".join(piece if label is None else f"[{piece} {label}]" for piece, label in pieces).split("\n"))


# --- parameters


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
BEST = {"top_k": _whole(1, 1000)}
FEW = GENERATION | {"n_best": _whole(1, 64)}
SUMMARY = FEW | {"scores": _switch}
TRANSLATION = SUMMARY | {"src_lang": _language, "tgt_lang": _language}
CONVERSATION = GENERATION | {"chat": _switch}
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


def _says(*names: str) -> Callable[[Any, bool], tuple[str, ...]]:
    return lambda pipe, are_best: names


# of encoder-decoders that neither translate nor summarize: the Hub counts it among text-generation, whose pipeline is for
# decoders, and transformers 5 has none for it
TEXT_TO_TEXT = "text2text-generation"
IMAGE_TO_TEXT = "image-to-text"
TASKS = {
    "translation": Asking(("source",), _write_from, _says("translation"), _line_of("translation"), TRANSLATION),
    "summarization": Asking(("source",), _write_from, _says("summary"), _line_of("summary"), SUMMARY),
    TEXT_TO_TEXT: Asking(("text",), _complete, _says("generated_text"), _line_of("generated_text"), FEW),
    "text-generation": Asking(("text",), _continue, _says("generated_text"), _line_of("generated_text"), CONVERSATION),
    "fill-mask": Asking(("text",), _fill, _says("token", "score", "filled_text"), _line_of_score("token"), BEST),
    "text-classification": Asking(("text",), _classify, _of_labels, _line_of_labels, SCORES, optional=("text_pair",)),
    "token-classification": Asking(("text",), _tag, _says("entities"), _line_of_entities, TAGS),
    "question-answering": Asking(
        ("question", "context"),
        _find_answer,
        _says("answer", "score", "start", "end"),
        _line_of_score("answer"),
        SPANS,
    ),
    IMAGE_TO_TEXT: Asking(("image",), _caption, _says("caption"), _line_of("caption"), FEW),
}
