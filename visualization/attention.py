"""Attention weights of any model of transformers for a text, with a readable label for every token."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from .labels import decoded_labels, encoding_labels, word_numbers
from .rollout import cross_rollout, self_rollout

ENCODER = "encoder self-attention"
DECODER = "decoder self-attention"
CROSS = "cross-attention"

# what is left out here, or None, the model's own settings fill in
GREEDY = {
    "num_beams": 1, "num_return_sequences": 1, "early_stopping": False, "length_penalty": 1.0,
    "do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "typical_p": 1.0, "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0, "return_dict_in_generate": False, "output_attentions": False, "output_hidden_states": False,
}  # fmt: skip
MAX_NEW_TOKENS = 256  # where the model does not say


@dataclass
class AttentionMap:
    """Who looks at whom: queries in rows, keys in columns, as in figure 3 of Bahdanau et al. 2015.

    Attributes:
        kind: `encoder self-attention`, `decoder self-attention` (each token sees itself and what is left of it) or
            `cross-attention` (of the decoder to the source).
        weights: `(layers, heads, queries, keys)`, float32; each row sums to one.
        query_tokens: Labels of the rows. In cross-attention a row is named by the token that is written there; the
            decoder has then read the tokens above. In self-attention, by the token that is read.
        key_tokens: Labels of the columns.
        encoder_weights: For cross-attention: the encoder's weights, where it has attention.
        decoder_weights: Likewise the decoder's own.
        query_words: For cross-attention to a target that was given: the number of the word, counted from 0 between white
            space, that each token is in, None of special tokens. None where the tokenizer cannot tell.
        key_words: Likewise of the source's tokens.
    """

    kind: str
    weights: torch.Tensor
    query_tokens: list[str]
    key_tokens: list[str]
    encoder_weights: torch.Tensor | None = field(default=None, repr=False)
    decoder_weights: torch.Tensor | None = field(default=None, repr=False)
    query_words: list[int | None] | None = field(default=None, repr=False)
    key_words: list[int | None] | None = field(default=None, repr=False)

    def average(self, layer: int | None = None, head: int | None = None) -> torch.Tensor:
        """The weights `(queries, keys)`, averaged over the layers and heads unless one is named."""
        layers = self.weights if layer is None else self.weights[layer, None]
        heads = layers if head is None else layers[:, head, None]
        return heads.mean(dim=(0, 1))

    def word_alignment(self) -> list[tuple[int, int]]:
        """Pairs of a source's and a target's word, one for each word of the target: the source's that its tokens look at
        most, in the average of all layers and heads.

        Raises:
            ValueError: It is not known which tokens make a word.
        """
        if self.query_words is None or self.key_words is None:
            raise ValueError("words are known where the tokenizer is fast, and the target is given")
        pairs, weights = [], self.average()
        keys = sorted({word for word in self.key_words if word is not None})
        of_key = torch.tensor([[word == key for word in self.key_words] for key in keys], dtype=weights.dtype)
        for number in sorted({word for word in self.query_words if word is not None} if keys else ()):
            rows = weights[[word == number for word in self.query_words]]
            pairs.append((keys[int((of_key @ rows.sum(dim=0)).argmax())], number))
        return pairs

    @property
    def rolls_out(self) -> bool:
        """Whether there is more than one attention to roll out through; a recurrent model has only one."""
        return self.kind != CROSS or len(self.weights) > 1 or self.encoder_weights is not None

    def rollout(self) -> torch.Tensor:
        """The weights `(queries, keys)`, rolled out through all layers: `self_rollout`, `cross_rollout`."""
        if self.kind == CROSS:
            return cross_rollout(self.weights, self.encoder_weights, self.decoder_weights)
        return self_rollout(self.weights)


@dataclass
class AttentionMaps:
    """All attention of a model for a text.

    Attributes:
        maps: One for an encoder or a decoder; for an encoder-decoder three, for a recurrent one the last of them.
        source: The text.
        target: The text that goes with it, or that the model has generated from it.
    """

    maps: list[AttentionMap]
    source: str
    target: str | None = None

    def __iter__(self) -> Iterator[AttentionMap]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, kind: str) -> AttentionMap:
        for found in self.maps:
            if found.kind == kind:
                return found
        raise KeyError(f"{kind!r}: there is only {', '.join(found.kind for found in self.maps)}")


def attention_maps(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    target: str | None = None,
    most_weights: int | None = None,
) -> AttentionMaps:
    """What a model looks at while it reads a text, or writes one.

    Args:
        model: An encoder, a decoder or an encoder-decoder, with any head or none. It is run with eager attention, the
            only one that gives its weights, and left as it was.
        tokenizer: The model's.
        source: The text.
        target: For an encoder, the second text of a pair. For a decoder, what follows the source, to the letter: a
            space between them belongs to one of them. For an encoder-decoder, what it is made to write; by default what
            it writes of its own accord: greedily, else by its own generation settings.
        most_weights: Refuse texts to which the model's layers and heads have more weights than these together, before
            they are computed; they grow with the square of the length. Default: any number.

    Raises:
        ValueError: A text is empty or too long, or the model has no attention to show.
    """
    for name, text in (("source", source), ("target", target)):
        if text is not None and not text.strip():
            raise ValueError(f"the {name} is empty; there is nothing to attend to")
    with torch.no_grad(), _eager(model):
        if model.config.is_encoder_decoder:
            return _encoder_decoder_maps(model, tokenizer, source, target, most_weights)
        return _stack_maps(model, tokenizer, source, target, most_weights)


def require_few(weights: int, most_weights: int | None) -> None:
    """Raises a ValueError where there are too many weights to show."""
    if most_weights is not None and weights > most_weights:
        raise ValueError(
            f"the attention of all layers and heads has {weights:,} weights, but {most_weights:,} are shown at most; "
            "give a shorter text"
        )


def load_for_attention(place: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model and its tokenizer from a folder or Hub id: a head is loaded only where it generates. No code there runs.

    Raises:
        OSError: There is no model with safetensors weights, or it cannot be read.
        ValueError: It has no tokenizer, does not read text, or is of a kind that transformers does not know.
    """
    config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    if config.is_encoder_decoder and type(config) not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        raise ValueError(f"a {config.model_type} does not read text, which the maps are of")
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"no tokenizer to load ({reason(error)})") from None
    auto_class = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModel
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # weights of a head that is left out are nothing to tell of
    try:
        model = auto_class.from_pretrained(
            place, attn_implementation="eager", use_safetensors=True, trust_remote_code=False
        )
        return model.eval(), tokenizer
    finally:
        logging.set_verbosity(level)


def reason(error: Exception) -> str:
    """The line of an error's text that says what is wrong: the first, or the last if that only leads to it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if lines[0].endswith(":") else lines[0]


def _stack_maps(model: Any, tokenizer: Any, source: str, target: str | None, most_weights: int | None) -> AttentionMaps:
    """Of an encoder, or of a decoder."""
    texts = [source] if target is None else [source, target]
    sample = _weights_of_two(model, _encode(tokenizer, source)["input_ids"])
    is_causal = not sample[..., 0, 1].any()  # asked of the model, as names differ
    if is_causal:
        texts = ["".join(texts)]
    encoding = _encode(tokenizer, *texts)
    _require_room("text" if len(texts) == 1 else "pair of texts", encoding, tokenizer, model.config)
    require_few(sample[..., 0, 0].numel() * len(encoding["input_ids"]) ** 2, most_weights)
    names = ["input_ids", "attention_mask"] if is_causal else ["input_ids", "attention_mask", "token_type_ids"]
    outputs = model(**_tensors(encoding, model, names), output_attentions=True, return_dict=True)
    labels = encoding_labels(tokenizer, encoding, texts)
    weights = _stacked(outputs.attentions, model, len(labels), len(labels))
    return AttentionMaps([AttentionMap(DECODER if is_causal else ENCODER, weights, labels, labels)], source, target)


def _encoder_decoder_maps(
    model: Any, tokenizer: Any, source: str, target: str | None, most_weights: int | None
) -> AttentionMaps:
    encoding = _encode(tokenizer, source)
    _require_room("source", encoding, tokenizer, getattr(model.config, "encoder", model.config))
    inputs = _tensors(encoding, model, ["input_ids", "attention_mask"])
    source_tokens = encoding_labels(tokenizer, encoding, [source])
    target_words = None
    if most_weights is not None:
        require_few(_count_weights(model, inputs["input_ids"], written=1), most_weights)
    if target is None:
        decoder_ids = _generated(model, inputs)
        written = decoder_ids[0, 1:].tolist()
        target_tokens = decoded_labels(tokenizer, written)
        target = tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        decoder_ids = decoder_ids[:, :-1]
    else:
        wanted = _encode(tokenizer, text_target=target)
        _require_room("target", wanted, tokenizer, getattr(model.config, "decoder", model.config))
        decoder_ids = _decoder_inputs(model, _tensors(wanted, model, ["input_ids"])["input_ids"])
        target_tokens = encoding_labels(tokenizer, wanted, [target], of_target=True)
        target_words = word_numbers(tokenizer, wanted, target)
    if most_weights is not None:
        require_few(_count_weights(model, inputs["input_ids"], written=decoder_ids.shape[1]), most_weights)
    outputs = model(**inputs, decoder_input_ids=decoder_ids, output_attentions=True, return_dict=True)

    start = tokenizer.convert_ids_to_tokens(int(decoder_ids[0, 0]))
    read = [start, *target_tokens[:-1]]
    encoder = decoder = None
    maps = []
    if outputs.encoder_attentions:
        encoder = _stacked(outputs.encoder_attentions, model, len(source_tokens), len(source_tokens))
        maps.append(AttentionMap(ENCODER, encoder, source_tokens, source_tokens))
    if outputs.decoder_attentions:
        decoder = _stacked(outputs.decoder_attentions, model, len(read), len(read))
        maps.append(AttentionMap(DECODER, decoder, read, read))
    cross = _stacked(outputs.cross_attentions, model, len(target_tokens), len(source_tokens))
    source_words = word_numbers(tokenizer, encoding, source)
    maps.append(AttentionMap(CROSS, cross, target_tokens, source_tokens, encoder, decoder, target_words, source_words))
    return AttentionMaps(maps, source, target)


@contextmanager
def _eager(model: Any) -> Iterator[None]:
    """The model in evaluation mode and with eager attention; afterwards as it was."""
    config = model.config
    halves = {name: getattr(config, name) for name in config.sub_configs}
    before = {name: half._attn_implementation for name, half in halves.items() if half is not None}
    before[""] = config._attn_implementation
    was_training = model.training
    model.set_attn_implementation("eager")
    model.eval()
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        model.train(was_training)


def _weights_of_two(model: Any, ids: list[int]) -> torch.Tensor:
    """The weights `(layers, heads, 2, 2)` between a token and the same again."""
    outputs = model(
        input_ids=torch.tensor([ids[:1] * 2], device=model.device), output_attentions=True, return_dict=True
    )
    return _stacked(outputs.get("attentions"), model, 2, 2)


def _count_weights(model: Any, source_ids: torch.Tensor, written: int) -> int:
    """How many weights an encoder-decoder has for a source `(1, length)` and so many tokens written: asked of the model
    with one token of each, as names differ."""
    read, one = source_ids.shape[1], source_ids[:, :1]
    outputs = model(input_ids=one, decoder_input_ids=one, output_attentions=True, return_dict=True)
    pairs = {"encoder": read * read, "decoder": written * written, "cross": written * read}
    return sum(
        layer.shape[1] * count
        for name, count in pairs.items()
        for layer in outputs.get(f"{name}_attentions") or ()
        if layer is not None
    )


def _encode(tokenizer: Any, *texts: str, **options: Any) -> Any:
    encoding = tokenizer(*texts, **options, return_offsets_mapping=tokenizer.is_fast, verbose=False)
    if not encoding["input_ids"]:
        raise ValueError(f"the tokenizer finds no token in {[*texts, *options.values()][0]!r}")
    return encoding


def _tensors(encoding: Any, model: Any, names: list[str]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([encoding[name]], device=model.device) for name in names if name in encoding}


def _require_room(name: str, encoding: Any, tokenizer: Any, config: Any) -> None:
    length = len(encoding["input_ids"])
    positions = getattr(config, "max_position_embeddings", None)
    limit = min(tokenizer.model_max_length, positions or length)
    if length > limit:
        raise ValueError(f"the {name} has {length} tokens, but the model reads {limit} at most; give a shorter one")


def _generated(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the model writes, with the token that it starts from: `(1, 1 + length)`."""
    if not model.can_generate():
        raise ValueError(f"{type(model).__name__} has no head to generate with; give a target")
    settings = copy.deepcopy(model.generation_config)
    settings.update(**GREEDY)
    if settings.max_new_tokens is None and "max_length" not in model.generation_config.to_diff_dict():
        positions = getattr(getattr(model.config, "decoder", model.config), "max_position_embeddings", None)
        settings.max_new_tokens = min(MAX_NEW_TOKENS, (positions or MAX_NEW_TOKENS + 1) - 1)
    return model.generate(**inputs, generation_config=settings)


def _decoder_inputs(model: Any, labels: torch.Tensor) -> torch.Tensor:
    """A start token, and the labels `(1, length)` but for the last."""
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is not None:
        return shift(labels=labels)
    start = model.config.decoder_start_token_id
    if start is None:
        raise ValueError("decoder_start_token_id=None: the decoder has no token to start from; set it in config.json")
    return torch.cat((labels.new_tensor([[start]]), labels[:, :-1]), dim=1)


def _stacked(attentions: Any, model: Any, queries: int, keys: int) -> torch.Tensor:
    """`(layers, heads, queries, keys)`, float32, from a tuple with one tensor `(1, heads, queries, keys)` a layer."""
    if not attentions or any(layer is None or tuple(layer.shape[-2:]) != (queries, keys) for layer in attentions):
        raise ValueError(
            f"{type(model).__name__} has no attention weights to show: it gives none of every token to all"
        )
    return torch.stack([layer[0].float().cpu() for layer in attentions])
