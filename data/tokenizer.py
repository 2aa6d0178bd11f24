"""Tokenizers: trained on the task's text, saved as ordinary fast tokenizers."""

import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Digits, Metaspace, PreTokenizer, Split
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..configuration.errors import UserError, reason
from ..recipes.schema import TokenizerRecipe

Batches = Iterable[list[str]]

# their ids count from 0 in this order; <unk> is left out where there are no unknown tokens, <mask> where none is wanted
SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
UNKNOWN = {"unk_token": "<unk>"}
MASK = {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}

# what can do the work of a special token that a tokenizer lacks: BERT's has no start and end, GPT-2's and Llama's no padding
STAND_INS = {"pad_token": ("eos_token", "unk_token"), "bos_token": ("cls_token",), "eos_token": ("sep_token",)}


@dataclass(frozen=True)
class Template:
    """What stands around a text and around a pair; `:1` is a token type."""

    single: str
    pair: str
    mask: bool  # whether there are the tokens of MASK
    more: tuple[str, ...] = ()  # special tokens beside these


TEXT_TO_TEXT = Template("$A </s>", "$A </s> $B </s>", mask=False)
BIDIRECTIONAL = Template("<s> $A </s>", "<s> $A </s> $B:1 </s>:1", mask=True)
LEFT_TO_RIGHT = Template("<s> $A", "<s> $A </s> $B:1", mask=False)  # no end: a prompt is to be continued
STREAM = Template("$A", "$A $B:1", mask=False)  # running text without documents


def _byte_bpe(frame: Tokenizer, texts: Batches, recipe: TokenizerRecipe, special: list[str]) -> models.Model:
    """Sennrich et al. 2016; Radford et al. 2019, §2.2."""
    alphabet = sorted(ByteLevel.alphabet())
    _need_room(recipe, len(alphabet) + len(special), "bytes")
    trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **_options(recipe, special))
    return _trained(frame, models.BPE(), texts, trainer).model


def _wordpiece(frame: Tokenizer, texts: Batches, recipe: TokenizerRecipe, special: list[str]) -> models.Model:
    """Devlin et al. 2019, with pieces found by the merges of BPE."""
    texts = list(texts)
    # The trainer numbers `##` characters in the order of a hash map and breaks ties by number, so that every run would
    # find other pieces. Numbered beforehand, as if they were special, they leave it no choice.
    alphabet = _alphabet(frame, texts, "##")
    _need_room(recipe, len(alphabet) + len(special), "characters")
    trainer = trainers.WordPieceTrainer(**_options(recipe, special + alphabet))
    return models.WordPiece(_trained(frame, models.WordPiece(), texts, trainer).get_vocab(), **UNKNOWN)


def _unigram(frame: Tokenizer, texts: Batches, recipe: TokenizerRecipe, special: list[str]) -> models.Model:
    """Kudo 2018, §3.2; `min_frequency` has no meaning here."""
    texts, size = list(texts), recipe.vocab_size
    _need_room(recipe, len(_alphabet(frame, texts, "")) + len(special), "characters")
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=special, show_progress=False, **UNKNOWN)
    trained = json.loads(_trained(frame, models.Unigram(), texts, trainer).to_str())["model"]["vocab"]
    # It sums in the order of a hash map, and spreads characters that it has no use for, in that order, over a band
    # above the lowest score. Rounding, and closing the band, make all runs the same.
    scores = {piece: score for piece, score in trained if piece not in special}
    if len(scores) + len(special) > size:  # so it does where the characters alone fill the size
        scores = {piece: score for piece, score in scores.items() if len(piece) == 1}
    lowest = min(scores.values())
    band = lowest + 1e-4 * sum(len(piece) == 1 for piece in scores)
    same = {piece: round(lowest if len(piece) == 1 and score < band else score, 3) for piece, score in scores.items()}
    pieces = [(token, 0.0) for token in special] + sorted(same.items(), key=lambda item: (-item[1], item[0]))
    return models.Unigram(pieces, unk_id=special.index(UNKNOWN["unk_token"]), byte_fallback=False)


def _characters(frame: Tokenizer, texts: Batches, recipe: TokenizerRecipe, special: list[str]) -> models.Model:
    """The most frequent code points, whatever `min_frequency`: BPE without merges, which leaves words their ids."""
    _need_room(recipe, 1 + len(special), "character")
    counts: Counter[str] = Counter()
    for text in itertools.chain.from_iterable(texts):
        counts.update(frame.normalizer.normalize_str(text) if frame.normalizer else text)
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    tokens = special + ranked[: recipe.vocab_size - len(special)]
    return models.BPE({token: number for number, token in enumerate(tokens)}, merges=[], **UNKNOWN)


@dataclass(frozen=True)
class Kind:
    """How text becomes the units that tokens are found in, and how tokens become text again."""

    learn: Callable[[Tokenizer, Batches, TokenizerRecipe, list[str]], models.Model]
    cuts: list[PreTokenizer]
    decoder: decoders.Decoder
    nfc: bool = False  # one spelling of composed characters; never the decomposed one, which takes Hangul apart
    unknown: bool = True  # whether a text can have unknown tokens
    lstrip: bool = False  # whether the mask takes the space before it, which belongs to the token that it stands for


_BYTES = ByteLevel(add_prefix_space=False)
_DIGITS = Digits(individual_digits=True)
_SPACE = Split(Regex(r" (?=\S)"), "removed")  # Metaspace puts it back, outside the offsets
_BREAKS = Split(Regex(r"\s"), "isolated")

KINDS = {
    "byte_bpe": Kind(_byte_bpe, [_DIGITS, _BYTES], decoders.ByteLevel(), unknown=False, lstrip=True),
    "wordpiece": Kind(_wordpiece, [BertPreTokenizer()], decoders.WordPiece(), nfc=True),
    "unigram": Kind(_unigram, [_SPACE, Metaspace(), _DIGITS, _BREAKS], decoders.Metaspace(), nfc=True, lstrip=True),
    "characters": Kind(_characters, [Split(Regex(r"\s+"), "isolated")], decoders.Fuse()),
}


def train_tokenizer(
    texts: Iterable[str] | Iterator[list[str]], recipe: TokenizerRecipe, template: Template = TEXT_TO_TEXT
) -> PreTrainedTokenizerFast:
    """A tokenizer of the recipe's kind; the same texts give the same one.

    It has at most `vocab_size` token types: fewer where the texts fill no more. With `byte_bpe` no text has unknown tokens.
    There and in `unigram` digits stand alone, so that numbers are read digit by digit. Ids 0, 1 and 2 are padding, start and
    end; the unknown and the mask token follow where there are any.

    Raises:
        UserError: There is no text, or the vocabulary is too small for its characters; names the size that fits.
            (`characters` makes do with a smaller one.)
    """
    kind = KINDS[recipe.kind]
    names: dict[str, Any] = SPECIAL_TOKENS | (UNKNOWN if kind.unknown else {}) | (MASK if template.mask else {})
    own = dict.fromkeys(names.values())
    special = [*(own | dict.fromkeys([*template.more, *(recipe.special_tokens or ())]))]
    tokenizer = Tokenizer(models.BPE())
    if steps := [normalizers.NFC()] * kind.nfc + [normalizers.Lowercase()] * recipe.lowercase:
        tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(kind.cuts)
    tokenizer.decoder = kind.decoder
    tokenizer.model = kind.learn(tokenizer, _some(texts), recipe, special)
    if template.mask:
        names["mask_token"] = AddedToken(MASK["mask_token"], lstrip=kind.lstrip, normalized=False, special=True)
    more = [AddedToken(token, lstrip=kind.lstrip, normalized=False, special=True) for token in special[len(own) :]]
    tokenizer.add_special_tokens([*{str(token): token for token in names.values()}.values(), *more])
    if more:
        names["extra_special_tokens"] = more
    around = [(token, number) for number, token in enumerate(special) if token in template.pair]
    place: Any = processors.TemplateProcessing(single=template.single, pair=template.pair, special_tokens=around)
    if recipe.kind == "byte_bpe" and template.mask:  # tasks that mark words in a text want offsets without spaces
        place = processors.Sequence([processors.ByteLevel(add_prefix_space=False, trim_offsets=True), place])
    tokenizer.post_processor = place
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, model_input_names=inputs, **names
    )


def _some(texts: Iterable[str | list[str]]) -> Iterator[list[str]]:
    some = False
    for text in texts:
        some = some or any(text)
        yield [text] if isinstance(text, str) else text
    if not some:
        raise UserError("there is no text to train a tokenizer on: the training split has none, or all are empty")


def _need_room(recipe: TokenizerRecipe, smallest: int, what: str) -> None:
    if (size := recipe.vocab_size) < smallest:
        needs = f"{smallest} {what} and special tokens; set at least {smallest}"
        raise UserError(f"tokenizer.vocab_size={size} has no room for the {needs}")


def _options(recipe: TokenizerRecipe, first: list[str]) -> dict[str, Any]:
    size, least = recipe.vocab_size, recipe.min_frequency
    return {"vocab_size": size, "min_frequency": least, "special_tokens": first, "show_progress": False}


def _trained(frame: Tokenizer, model: models.Model, texts: Batches, trainer: trainers.Trainer) -> Tokenizer:
    """A tokenizer that cuts like the frame; one apart, for it gets what the trainer calls special as added tokens."""
    tokenizer = Tokenizer.from_str(frame.to_str())
    tokenizer.model = model
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _alphabet(frame: Tokenizer, texts: Batches, prefix: str) -> list[str]:
    """The characters of the texts, also with the prefix where they continue a unit."""
    trainer = trainers.BpeTrainer(vocab_size=0, continuing_subword_prefix=prefix, show_progress=False)
    return sorted(_trained(frame, models.BPE(), texts, trainer).get_vocab())


def load_tokenizer(source: str | os.PathLike) -> PreTrainedTokenizerBase:
    """Any tokenizer of a folder or Hub id but one that brings its own code; with the special tokens that it has there, and
    no others.

    Raises:
        UserError: There is none, or it does not load.
    """
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{source}: no tokenizer to load ({reason(error)})") from error


def bare_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """The token ids of texts without special tokens around them; where the tokens stand in a text is left out, since to find
    that takes half as long again."""
    if not tokenizer.is_fast:
        return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def token_id(tokenizer: PreTrainedTokenizerBase, name: str) -> int | None:
    """The id of the special token `name` or, where there is none, of one that stands in for it."""
    ids = (getattr(tokenizer, f"{each}_id") for each in (name, *STAND_INS.get(name, ())))
    return next((number for number in ids if number is not None), None)


def require_tokens(tokenizer: PreTrainedTokenizerBase, names: Iterable[str], task: str) -> None:
    """
    Raises:
        UserError: The tokenizer lacks one of the special tokens `names`, and nothing stands in for it.
    """
    for name in names:
        if token_id(tokenizer, name) is None:
            tried = " or ".join((name, *STAND_INS.get(name, ())))
            raise UserError(
                f"{tokenizer.name_or_path or 'the tokenizer'}: has no {tried}, which the task {task} needs; take another "
                "tokenizer, or name one of its tokens so in tokenizer_config.json"
            )


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What fills up batches. Where no token is there for it, it may be any: the mask hides it."""
    return token_id(tokenizer, "pad_token") or 0


def unknown_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token of which nothing is known but that it is there; none where GPT-2's, which ends texts, is named so."""
    number = tokenizer.unk_token_id
    return None if number in (tokenizer.eos_token_id, tokenizer.pad_token_id) else number


def model_token_ids(
    tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, needed: Iterable[str] = ()
) -> dict[str, int | list[int] | None]:
    """What a model's configuration says of special tokens: the tokenizer's own, and of those that are `needed` also what
    stands in for them. Pretrained weights keep what the tokenizer does not know, and further ends of a text."""
    ids: dict[str, int | list[int] | None] = {}
    for name in ("pad_token", "bos_token", "eos_token"):
        found = token_id(tokenizer, name) if name in needed else getattr(tokenizer, f"{name}_id")
        said = getattr(config, f"{name}_id", None)
        keeps = bool(config.name_or_path) if found is None else isinstance(said, list) and found in said
        ids[f"{name}_id"] = said if keeps else found
    return ids


def decoder_start_id(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> int | None:
    """The first input of an encoder-decoder's decoder: the token that starts a text, else padding, as T5 has it. Pretrained
    weights keep theirs, be it another (BART's is the end) or, as mBART's, the last token of the labels."""
    said = getattr(config, "decoder_start_token_id", None)
    if config.name_or_path and (said is not None or getattr(config, "start_from_labels", False)):
        return said
    first = token_id(tokenizer, "bos_token")
    return padding_id(tokenizer) if first is None else first
