"""Tokenizers: trained on the task's text, saved as ordinary fast tokenizers."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..configuration.errors import UserError
from .recipe import TokenizerRecipe

SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


def train_tokenizer(texts: Iterable[str] | Iterator[list[str]], recipe: TokenizerRecipe) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer (Sennrich et al. 2016; Radford et al. 2019, §2.2): no text has unknown tokens.

    Digits stand alone, so that numbers are read digit by digit. Ids 0, 1 and 2 are padding, start and end; an end
    token closes every encoded text.

    Raises:
        UserError: The texts cannot fill the vocabulary; names the size that they fill.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(SPECIAL_TOKENS)
    if recipe.vocab_size < smallest:
        raise UserError(
            f"tokenizer.vocab_size={recipe.vocab_size} has no room for the {smallest} bytes and special tokens; "
            f"set at least {smallest}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        min_frequency=recipe.min_frequency,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    filled = tokenizer.get_vocab_size()
    if filled < recipe.vocab_size:
        raise UserError(
            f"tokenizer.vocab_size={recipe.vocab_size} is more than the training text fills "
            f"(with tokenizer.min_frequency={recipe.min_frequency}); set at most {filled}"
        )
    end = SPECIAL_TOKENS["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        **SPECIAL_TOKENS,
    )


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or Hub id.

    Raises:
        UserError: There is none, or it lacks a padding or end token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: no tokenizer to load ({str(error).splitlines()[0]})") from None
    for name in ("pad_token", "eos_token"):
        if getattr(tokenizer, name) is None:
            raise UserError(f"{source}: the tokenizer has no {name}; batches need it")
    return tokenizer
