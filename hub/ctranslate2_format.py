"""CTranslate2's format, by its own converter, and what its engine says."""

import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

ARCHITECTURES = (
    "llama", "mistral", "qwen2", "qwen3", "gpt2", "bert", "roberta", "xlm-roberta", "distilbert",
    "bart", "mbart", "marian", "m2m_100", "pegasus", "t5",
)  # fmt: skip
QUANTIZATIONS = (
    "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32",
)  # fmt: skip


def prepare(model: PreTrainedModel, to: str) -> bool:
    """Give a model that becomes a Marian one more row of embeddings, unless padding has the last, which CTranslate2 leaves
    out; whether it has got one."""
    rows = model.get_input_embeddings().weight.shape[0]
    if to != "marian" or model.config.pad_token_id == rows - 1:
        return False
    model.resize_token_embeddings(rows + 1, mean_resizing=False)
    return True


def write(
    stock: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, quantization: str | None
) -> list[str]:
    """Fill a folder with what CTranslate2 reads, and with the tokenizer."""
    from ctranslate2.converters import TransformersConverter

    with TemporaryDirectory(dir=folder) as aside:
        checkpoint, written = Path(aside, "checkpoint"), Path(aside, "written")
        stock.save_pretrained(checkpoint)
        tokenizer.save_pretrained(checkpoint)
        TransformersConverter(str(checkpoint)).convert(str(written), quantization=quantization)
        for file in written.iterdir():
            file.rename(folder / file.name)
    tokenizer.save_pretrained(folder)
    return []


@torch.no_grad()
def outputs(
    folder: Path, stock: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a decoder, hidden states of an encoder, log-probabilities of an encoder-decoder's tokens: of
    CTranslate2 and of the stock model, in float32."""
    import ctranslate2
    import numpy

    ctranslate2.set_log_level(
        logging.ERROR
    )  # it would warn of kinds of weights that this processor has no instructions for
    stock, place = stock.eval(), {"model_path": str(folder), "device": "cpu"}
    if not stock.config.is_encoder_decoder:
        if stock.can_generate():
            found = ctranslate2.Generator(**place).forward_batch([ids])
        else:
            found = ctranslate2.Encoder(**place).forward_batch([ids]).last_hidden_state
        expected = stock(torch.tensor([ids]))[0].float()
        return torch.from_numpy(numpy.array(found.to(ctranslate2.DataType.float32))), expected
    ids = [number for number in ids if number < len(tokenizer)]
    tokens = [tokenizer.convert_ids_to_tokens(ids)]
    (score,) = ctranslate2.Translator(**place).score_batch(tokens, tokens)
    # mBART is given its first token, which names the language
    starts = json.loads((folder / "config.json").read_text())["decoder_start_token"] is not None
    given = torch.tensor([[stock.config.decoder_start_token_id] * starts + ids + [tokenizer.eos_token_id]])
    logits = stock(input_ids=torch.tensor([ids]), decoder_input_ids=given[:, :-1]).logits
    return torch.tensor(score.log_probs), logits[0].float().log_softmax(-1).gather(1, given[0, 1:, None])[:, 0]
