"""GGUF, the format of llama.cpp: the decoders and the tokenizers that it has, written with its own package."""

import io
import json
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError

FILE = "model.gguf"
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2")
QUANTIZATIONS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}
ACTIVATIONS = {"gpt2": ("gelu_new", "gelu_pytorch_tanh")}  # of the others SiLU

# How llama.cpp cuts texts before it finds byte pairs, by its names for that, and what stands for it in a tokenizer.json.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CUTS = {
    "gpt-2": ["bytes of words"],
    "smollm": ["digits", "bytes of words"],
    "llama-bpe": [_WORDS % "{1,3}", "bytes"],
    "qwen2": [_WORDS % "", "bytes"],
}
SPACE = "▁"  # what llama.cpp calls one in vocabularies that are not of bytes


def write(
    stock: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, quantization: str | None
) -> list[str]:
    """Fill a folder with `model.gguf`, which holds a decoder and its tokenizer.

    Raises:
        UserError: llama.cpp has no such positions, windows, activation or tokenizer.
    """
    import gguf

    config = stock.config
    _require_known(config)
    writer = gguf.GGUFWriter(folder / FILE, config.model_type)
    writer.add_name(config.model_type)
    _add_sizes(writer, config)
    notes = _add_tokenizer(writer, tokenizer, config.vocab_size)
    kind = QUANTIZATIONS[quantization or str(stock.dtype).removeprefix("torch.")]
    file_type = "ALL_F32" if kind == "F32" else f"MOSTLY_{kind}"
    writer.add_file_type(gguf.LlamaFileType[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[config.model_type.upper()], config.num_hidden_layers)
    tied = config.tie_word_embeddings
    for name, weight in stock.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        found = names.get_type_and_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise UserError(f"its {config.model_type} has no {name}")
        of, new = found
        values = _as_llama_cpp(name, weight.float(), config).numpy()
        plain = weight.ndim == 1 or of == gguf.MODEL_TENSOR.POS_EMBD
        rounded = "F16" if kind == "Q8_0" and weight.shape[-1] % 32 else kind
        stored = gguf.GGMLQuantizationType["F32" if plain else rounded]
        writer.add_tensor(new, gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return notes


@torch.no_grad()
def outputs(
    folder: Path, stock: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of what transformers reads of the file, and of the stock model, in float32."""
    with redirect_stderr(io.StringIO()):  # a bar
        read = type(stock).from_pretrained(folder, gguf_file=FILE, config=stock.config, trust_remote_code=False)
    found, expected = (model.eval()(torch.tensor([ids])).logits.float() for model in (read, stock))
    return found, expected


def _require_known(config: PreTrainedConfig) -> None:
    activation = config.hidden_act if config.model_type != "gpt2" else config.activation_function
    if activation not in (known := ACTIVATIONS.get(config.model_type, ("silu",))):
        raise UserError(f"its {config.model_type} has no activation {activation!r}, only {', '.join(known)}")
    if config.model_type == "gpt2":
        if not config.scale_attn_weights:
            raise UserError("its gpt2 has no scores that are not scaled (scale_attn_weights=False)")
        return
    if (kind := config.rope_parameters["rope_type"]) not in ("default", "linear"):
        raise UserError(f"of rope_type default and linear only, not {kind!r}")
    if getattr(config, "use_sliding_window", False):
        raise UserError(f"its {config.model_type} has no windows (use_sliding_window=True)")


def _add_sizes(writer: Any, config: PreTrainedConfig) -> None:
    import gguf

    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.rope_parameters["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_parameters["factor"])


def _as_llama_cpp(name: str, weight: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """Weights as llama.cpp has them: its Llama turns neighbouring values of a head, others the first half with the
    second, and GPT-2's matrices lie the other way round."""
    module = name.split(".")[-2]
    if config.model_type == "llama" and module in ("q_proj", "k_proj"):
        heads = config.num_attention_heads if module == "q_proj" else config.num_key_value_heads
        halves = weight.view(heads, 2, -1, *weight.shape[1:])
        return halves.transpose(1, 2).reshape(weight.shape)
    if config.model_type == "gpt2" and module in ("c_attn", "c_proj", "c_fc") and weight.ndim == 2:
        return weight.T.contiguous()
    return weight


def _add_tokenizer(writer: Any, tokenizer: PreTrainedTokenizerBase, size: int) -> list[str]:
    """Byte pairs, or single characters, which llama.cpp has among its unigrams.

    Raises:
        UserError: It is another kind of tokenizer.
    """
    import gguf

    written = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {"model": {"type": "slow"}}
    notes, kind = [], written["model"]["type"]
    steps = _steps(written.get("normalizer"), "normalizers")
    cuts = [_cut(step) for step in _steps(written.get("pre_tokenizer"), "pretokenizers")]
    characters = kind == "BPE" and not written["model"]["merges"] and cuts == [r"\s+"]
    named = next((name for name, known in CUTS.items() if known == cuts), None)
    if steps == [{"type": "NFC"}]:
        notes.append("llama.cpp does not compose characters (NFC); give it texts that are")
    elif steps:
        raise UserError(
            f"it does not change texts as this tokenizer does ({', '.join(step['type'] for step in steps)})"
        )
    if not characters and (kind != "BPE" or named is None):
        raise UserError(
            f"of tokenizers only kinds byte_bpe and characters, and those of GPT-2, SmolLM, Llama 3 and Qwen 2, not this "
            f"{kind}"
        )
    tokens = {number: token for token, number in tokenizer.get_vocab().items()}
    added, of = tokenizer.added_tokens_decoder, gguf.TokenType
    names, types = [], []
    for number in range(size):
        token, special = tokens.get(number, f"[PAD{number}]"), added.get(number)
        if special is not None:
            types.append(of.CONTROL if special.special else of.USER_DEFINED)
        else:
            types.append(of.NORMAL if number in tokens else of.UNUSED)
            token = token.replace(" ", SPACE) if characters else token
        names.append(token)
    if characters:
        types[tokenizer.unk_token_id] = of.UNKNOWN
        writer.add_tokenizer_model("t5")
        writer.add_token_scores([-1.0] * size)
        writer.add_remove_extra_whitespaces(False)
    else:
        pairs = (pair if isinstance(pair, str) else " ".join(pair) for pair in written["model"]["merges"])
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(named)
        writer.add_token_merges(list(pairs))
    writer.add_add_space_prefix(False)
    writer.add_token_list(names)
    writer.add_token_types(types)
    for name in ("bos", "eos", "unk", "pad"):
        if (number := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    framed = tokenizer("a").input_ids
    writer.add_add_bos_token(framed[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(framed[-1] == tokenizer.eos_token_id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)
    return notes


def _steps(part: dict[str, Any] | None, of: str) -> list[dict[str, Any]]:
    """What a part of a tokenizer.json does, one after the other."""
    if part is None:
        return []
    return [step for inner in part[of] for step in _steps(inner, of)] if part["type"] == "Sequence" else [part]


def _cut(step: dict[str, Any]) -> str:
    """A step of a pre-tokenizer, as `CUTS` has it; its JSON where that has none."""
    if step["type"] == "Digits" and step["individual_digits"]:
        return "digits"
    if step["type"] == "ByteLevel" and not step["add_prefix_space"]:
        return "bytes of words" if step["use_regex"] else "bytes"
    if step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        return step["pattern"].get("Regex", "")
    return json.dumps(step)
