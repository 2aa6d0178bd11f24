"""CTranslate2's format, by its own converter, and what its engine says."""

import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError
from ..modeling.encoder_decoder import TrefoilEncoderDecoderForConditionalGeneration

ARCHITECTURES = (
    "llama", "mistral", "qwen2", "qwen3", "gpt2", "bert", "roberta", "xlm-roberta", "distilbert",
    "bart", "mbart", "marian", "m2m_100", "pegasus", "t5",
)  # fmt: skip
QUANTIZATIONS = (
    "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32",
)  # fmt: skip


# what an encoder-decoder of ours may have, without a stock architecture; what else there is must be as in the presets
KNOWN = {
    "position_embedding_type": ("rotary", "sinusoidal", "learned"),
    "norm_position": ("pre", "post"),
    "norm_type": ("rms_norm", "layer_norm"),
    "hidden_act": ("silu", "relu", "gelu", "gelu_new", "gelu_pytorch_tanh"),
    "qk_norm": ("none",),
}
ACTIVATIONS = {
    "silu": "SWISH", "relu": "RELU", "gelu": "GELU", "gelu_new": "GELUTanh", "gelu_pytorch_tanh": "GELUTanh",
}  # fmt: skip


def prepare(model: PreTrainedModel, to: str) -> bool:
    """Give a model that becomes a Marian one more row of embeddings, unless padding has the last, which CTranslate2 leaves
    out; whether it has got one."""
    rows = model.get_input_embeddings().weight.shape[0]
    if to != "marian" or model.config.pad_token_id == rows - 1:
        return False
    model.resize_token_embeddings(rows + 1, mean_resizing=False)
    return True


def write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, quantization: str | None
) -> list[str]:
    """Fill a folder with what CTranslate2 reads of a stock model or of an encoder-decoder of ours, and with the tokenizer.

    Raises:
        UserError: CTranslate2 has no such encoder-decoder.
    """
    from ctranslate2.converters import TransformersConverter

    if isinstance(model, TrefoilEncoderDecoderForConditionalGeneration):
        specification = _specification(model, tokenizer)
        specification.validate()
        specification.optimize(quantization=quantization)
        specification.save(str(folder))
    else:
        with TemporaryDirectory(dir=folder) as aside:
            checkpoint, written = Path(aside, "checkpoint"), Path(aside, "written")
            model.save_pretrained(checkpoint)
            tokenizer.save_pretrained(checkpoint)
            TransformersConverter(str(checkpoint)).convert(str(written), quantization=quantization)
            for file in written.iterdir():
                file.rename(folder / file.name)
    tokenizer.save_pretrained(folder)
    return []


def _specification(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Any:
    """An encoder-decoder as CTranslate2's own parts: those that the converter puts stock models together from."""
    from ctranslate2.specs import TransformerDecoderSpec, TransformerEncoderSpec, TransformerSpec

    encoder, decoder = model.model.encoder, model.model.decoder
    for name, half in (("encoder", encoder.config), ("decoder", decoder.config)):
        for option, known in KNOWN.items():
            if (value := getattr(half, option)) not in known:
                raise UserError(f"of {name}.{option} it has {' and '.join(map(repr, known))}, not {value!r}")
    if encoder.config.vocab_size != decoder.config.vocab_size:
        raise UserError("source and target have vocabularies of their own; it gets one")
    whole = TransformerSpec(
        TransformerEncoderSpec(**_options(encoder.config)), TransformerDecoderSpec(**_options(decoder.config))
    )
    _fill_stack(whole.encoder, whole.encoder.embeddings[0], encoder)
    _fill_stack(whole.decoder, whole.decoder.embeddings, decoder)
    _fill(whole.decoder.projection, model.lm_head)
    names = {number: token for token, number in tokenizer.get_vocab().items()}
    tokens = [names.get(number, f"<unused {number}>") for number in range(encoder.config.vocab_size)]
    whole.register_source_vocabulary(tokens)
    whole.register_target_vocabulary(tokens)
    whole.config.bos_token, whole.config.eos_token = tokenizer.bos_token, tokenizer.eos_token
    whole.config.unk_token = tokenizer.unk_token or tokenizer.eos_token  # one is wanted, also where no text has any
    whole.config.decoder_start_token = names[model.config.decoder_start_token_id]
    whole.config.layer_norm_epsilon = decoder.config.norm_eps
    return whole


def _options(config: PreTrainedConfig) -> dict[str, Any]:
    from ctranslate2.specs.common_spec import Activation

    rotary = config.position_embedding_type == "rotary"
    return {
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "pre_norm": config.norm_position == "pre",
        "activation": Activation[ACTIVATIONS[config.hidden_act]],
        "ffn_glu": config.is_gated_act,
        "rms_norm": config.norm_type == "rms_norm",
        "layernorm_embedding": config.embedding_norm,
        "num_heads_kv": None
        if config.num_key_value_heads == config.num_attention_heads
        else config.num_key_value_heads,
        "head_dim": config.head_dim,
        "rotary_dim": config.head_dim if rotary else None,
        "rotary_interleave": False,
        "rotary_base": config.rope_parameters["rope_theta"] if rotary else 10000,
    }


def _fill_stack(to: Any, embedding: Any, stack: Any) -> None:
    from ctranslate2.converters.utils import fuse_linear
    from ctranslate2.specs.common_spec import LinearSpec

    def fill_fused(to: Any, *parts: torch.nn.Module) -> None:
        fused = [LinearSpec() for _ in parts]
        for one, part in zip(fused, parts, strict=True):
            _fill(one, part)
        fuse_linear(to, fused)

    embedding.weight = stack.embed_tokens.weight
    to.scale_embeddings = stack.config.scale_embedding
    if stack.embed_positions is not None:
        to.position_encodings.encodings = stack.embed_positions(
            torch.arange(stack.config.max_position_embeddings)[None]
        )[0]
    if stack.embed_norm is not None:
        _fill(to.layernorm_embedding, stack.embed_norm)
    if stack.config.norm_position == "pre":
        _fill(to.layer_norm, stack.norm)
    for one, layer in zip(to.layer, stack.layers, strict=True):
        attention = layer.self_attn
        fill_fused(one.self_attention.linear[0], attention.q_proj, attention.k_proj, attention.v_proj)
        _fill(one.self_attention.linear[1], attention.o_proj)
        _fill(one.self_attention.layer_norm, layer.self_attn_norm)
        if layer.cross_attn is not None:
            attention = layer.cross_attn
            _fill(one.attention.linear[0], attention.q_proj)
            fill_fused(one.attention.linear[1], attention.k_proj, attention.v_proj)
            _fill(one.attention.linear[2], attention.o_proj)
            _fill(one.attention.layer_norm, layer.cross_attn_norm)
        first, *others = [part for part in (layer.mlp.gate_proj, layer.mlp.up_proj) if part is not None]
        _fill(one.ffn.linear_0, first)
        for other in others:
            _fill(one.ffn.linear_0_noact, other)
        _fill(one.ffn.linear_1, layer.mlp.down_proj)
        _fill(one.ffn.layer_norm, layer.mlp_norm)


def _fill(to: Any, part: torch.nn.Module) -> None:
    """A linear layer or a norm."""
    is_norm = hasattr(to, "gamma")
    setattr(to, "gamma" if is_norm else "weight", part.weight)
    if getattr(part, "bias", None) is not None:
        setattr(to, "beta" if is_norm else "bias", part.bias)


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
