"""Stock models against the Trefoil models that are imported from them.

Every case makes a stock model with random weights, imports it, exports it again, and compares what the three compute.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from transformers import PreTrainedModel

from trefoil.hub.architectures import ARCHITECTURES
from trefoil.hub.stock import export_stock, import_stock, trefoil_weights
from trefoil.hub.stock_checkpoint import load_stock

VOCABULARY = 67


@dataclass(frozen=True)
class Case:
    """A stock class and how its configuration differs from the architecture's small one.

    Attributes:
        architecture: Its `model_type`.
        head: The stock class, less what the classes of an architecture have in common.
        says: What is special about it.
        fields: Fields of the configuration.
    """

    architecture: str
    head: str
    says: str
    fields: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.architecture}-{self.head}-{self.says}".replace(" ", "_").replace(",", "")


@dataclass(frozen=True)
class Differences:
    """The largest differences, stock against ours; absolute, for gradients relative to the largest of the weight."""

    logits: float
    loss: float
    hidden_states: float
    gradients: float


TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
STACK = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip
HALVES = {
    "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "bert": STACK | {"pad_token_id": 0},
    "roberta": STACK | {"pad_token_id": 1, "type_vocab_size": 1},
    "xlm-roberta": STACK | {"pad_token_id": 1, "type_vocab_size": 1},
    "electra": STACK | {"embedding_size": 16, "pad_token_id": 0},
    "distilbert": {
        "vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48,
        "max_position_embeddings": 64,
    },
    "modernbert": STACK | TOKENS | {"num_hidden_layers": 3, "local_attention": 6, "cls_token_id": 1, "sep_token_id": 2},
    "gpt2": {
        "vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "llama": STACK | TOKENS,
    "mistral": STACK | TOKENS | {"num_key_value_heads": 2, "sliding_window": None},
    "qwen2": STACK | TOKENS | {"num_key_value_heads": 2},
    "qwen3": STACK | TOKENS | {"num_key_value_heads": 2, "head_dim": 16},
    "olmo2": STACK | TOKENS,
    "gemma2": STACK | TOKENS | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 5},
    "gemma3_text": STACK | TOKENS | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 5, "num_hidden_layers": 3, "sliding_window_pattern": 2},
    "phi3": STACK | TOKENS,
    "smollm3": STACK | TOKENS | {"num_key_value_heads": 2, "num_hidden_layers": 4},
    "bart": HALVES,
    "mbart": HALVES,
    "marian": HALVES | {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": 2},
    "m2m_100": HALVES,
    "pegasus": HALVES | {"pad_token_id": 0, "eos_token_id": 1},
    "t5": {
        "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
        "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
    },
}  # fmt: skip
CLASS_NAMES = {
    "bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "electra": "Electra",
    "distilbert": "DistilBert", "modernbert": "ModernBert", "gpt2": "GPT2", "llama": "Llama", "mistral": "Mistral",
    "qwen2": "Qwen2", "qwen3": "Qwen3", "olmo2": "Olmo2", "gemma2": "Gemma2", "gemma3_text": "Gemma3Text", "phi3": "Phi3",
    "smollm3": "SmolLM3", "bart": "Bart", "mbart": "MBart", "marian": "Marian", "m2m_100": "M2M100",
    "pegasus": "Pegasus", "t5": "T5",
}  # fmt: skip

# these give padding a position of its own, so what they compute there is their own too
PADDING_APART = ("roberta", "xlm-roberta", "m2m_100")

LABELS = {"num_labels": 5}
CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification")
CASES = [
    Case("bert", "ForMaskedLM", "plain"),
    Case("bert", "ForMaskedLM", "8 heads, 3 layers, ReLU", {"num_attention_heads": 8, "num_hidden_layers": 3, "hidden_act": "relu"}),
    Case("bert", "ForMaskedLM", "not tied, eps 1e-5, 3 types", {"tie_word_embeddings": False, "layer_norm_eps": 1e-5, "type_vocab_size": 3}),
    Case("bert", "Model", "pooler"),
    Case("roberta", "ForMaskedLM", "plain"),
    Case("roberta", "ForMaskedLM", "2 heads, 1 layer, ReLU", {"num_attention_heads": 2, "num_hidden_layers": 1, "hidden_act": "relu"}),
    Case("roberta", "ForMaskedLM", "not tied, padding 0, 2 types", {"tie_word_embeddings": False, "pad_token_id": 0, "type_vocab_size": 2}),
    Case("roberta", "Model", "pooler"),
    Case("xlm-roberta", "ForMaskedLM", "plain"),
    Case("xlm-roberta", "ForMaskedLM", "8 heads, 3 layers, ReLU", {"num_attention_heads": 8, "num_hidden_layers": 3, "hidden_act": "relu"}),
    Case("xlm-roberta", "ForMaskedLM", "not tied, eps 1e-5, 2 types", {"tie_word_embeddings": False, "layer_norm_eps": 1e-5, "type_vocab_size": 2}),
    Case("xlm-roberta", "Model", "pooler"),
    Case("electra", "ForMaskedLM", "plain"),
    Case("electra", "ForMaskedLM", "8 heads, 3 layers, ReLU, embedding of full width", {"num_attention_heads": 8, "num_hidden_layers": 3, "hidden_act": "relu", "embedding_size": 32}),
    Case("electra", "ForMaskedLM", "not tied, eps 1e-5, wider embedding", {"tie_word_embeddings": False, "layer_norm_eps": 1e-5, "embedding_size": 40}),
    Case("electra", "Model", "bare"),
    Case("distilbert", "ForMaskedLM", "plain"),
    Case("distilbert", "ForMaskedLM", "8 heads, 3 layers, ReLU", {"n_heads": 8, "n_layers": 3, "activation": "relu"}),
    Case("distilbert", "ForMaskedLM", "not tied, sinusoidal", {"tie_word_embeddings": False, "sinusoidal_pos_embds": True}),
    Case("distilbert", "Model", "bare"),
    Case("modernbert", "ForMaskedLM", "plain"),
    Case(
        "modernbert", "ForMaskedLM", "all biases, 6 layers, window 4",
        {
            "attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True, "local_attention": 4,
            "num_hidden_layers": 6,
        },
    ),
    Case(
        "modernbert", "ForMaskedLM", "not tied, no output bias, all global, SiLU",
        {
            "tie_word_embeddings": False, "decoder_bias": False, "layer_types": ["full_attention"] * 3,
            "hidden_activation": "silu",
        },
    ),
    Case("modernbert", "ForSequenceClassification", "mean pooling", LABELS | {"classifier_pooling": "mean"}),
    Case("modernbert", "Model", "bare"),
    *(
        Case(name, head, "5 labels", LABELS)
        for name in ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "modernbert", "gpt2", "llama", "qwen3", "gemma2", "phi3", "smollm3")
        for head in CLASSIFIERS
    ),
    *(
        Case(name, "ForQuestionAnswering", "plain")
        for name in ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "modernbert")
    ),
    Case("gpt2", "LMHeadModel", "plain"),
    Case("gpt2", "LMHeadModel", "8 heads, 3 layers, inner 40, ReLU", {"n_head": 8, "n_layer": 3, "n_inner": 40, "activation_function": "relu"}),
    Case("gpt2", "LMHeadModel", "not tied, scores not scaled", {"tie_word_embeddings": False, "scale_attn_weights": False}),
    Case("gpt2", "Model", "bare"),
    Case("llama", "ForCausalLM", "plain"),
    Case("llama", "ForCausalLM", "2 key/value heads, tied, biases", {"num_key_value_heads": 2, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    Case("llama", "ForCausalLM", "1 key/value head, heads of 16, theta 5e5", {"num_key_value_heads": 1, "head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    *(
        Case("llama", "ForCausalLM", f"RoPE {kind}", {"max_position_embeddings": 64, "rope_parameters": {"rope_type": kind, "rope_theta": 1e4} | settings})
        for kind, settings in {
            "linear": {"factor": 2.0},
            "dynamic": {"factor": 2.0},
            "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
            "yarn": {"factor": 4.0, "original_max_position_embeddings": 16},
            "longrope": {"factor": 4.0, "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 1.5, 2.0, 3.0], "original_max_position_embeddings": 16},
        }.items()
    ),
    Case("llama", "Model", "bare"),
    Case("mistral", "ForCausalLM", "no window"),
    Case("mistral", "ForCausalLM", "window 5, 4 key/value heads", {"sliding_window": 5, "num_key_value_heads": 4}),
    Case("mistral", "ForCausalLM", "window 3, tied, heads of 16", {"sliding_window": 3, "tie_word_embeddings": True, "head_dim": 16}),
    Case("qwen2", "ForCausalLM", "plain"),
    Case("qwen2", "ForCausalLM", "windows from layer 1 on", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1, "num_hidden_layers": 3}),
    Case("qwen2", "ForCausalLM", "tied, 1 key/value head", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    Case("qwen3", "ForCausalLM", "plain"),
    Case("qwen3", "ForCausalLM", "tied, biases, 4 key/value heads", {"tie_word_embeddings": True, "attention_bias": True, "num_key_value_heads": 4}),
    Case("qwen3", "ForCausalLM", "windows from layer 1 on, heads of 8", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1, "head_dim": 8}),
    Case("olmo2", "ForCausalLM", "plain"),
    Case("olmo2", "ForCausalLM", "2 key/value heads, tied, biases", {"num_key_value_heads": 2, "tie_word_embeddings": True, "attention_bias": True}),
    Case("olmo2", "ForCausalLM", "RoPE yarn, eps 1e-6", {"rms_norm_eps": 1e-6, "rope_parameters": {"rope_type": "yarn", "rope_theta": 5e5, "factor": 4.0, "original_max_position_embeddings": 16}}),
    Case("olmo2", "ForSequenceClassification", "5 labels", LABELS),
    Case("gemma2", "ForCausalLM", "plain"),
    Case("gemma2", "ForCausalLM", "low caps, scale of 12, heads of 16, all windows", {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0, "query_pre_attn_scalar": 12, "head_dim": 16, "layer_types": ["sliding_attention"] * 2}),
    Case("gemma2", "ForCausalLM", "no caps, no windows, not tied, biases, 1 key/value head", {"layer_types": ["full_attention"] * 2, "attn_logit_softcapping": None, "final_logit_softcapping": None, "tie_word_embeddings": False, "attention_bias": True, "num_key_value_heads": 1}),
    Case("gemma3_text", "ForCausalLM", "plain"),
    Case("gemma3_text", "ForCausalLM", "capped logits, scale of 12, not tied, no windows", {"final_logit_softcapping": 2.0, "query_pre_attn_scalar": 12, "tie_word_embeddings": False, "layer_types": ["full_attention"] * 3}),
    Case("gemma3_text", "ForCausalLM", "RoPE linear in full layers, biases, window 3", {"sliding_window": 3, "attention_bias": True, "rope_parameters": {"full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}),
    Case("gemma3_text", "ForSequenceClassification", "5 labels", LABELS),
    Case("phi3", "ForCausalLM", "plain"),
    Case("phi3", "ForCausalLM", "2 key/value heads, tied, window 5", {"num_key_value_heads": 2, "tie_word_embeddings": True, "sliding_window": 5}),
    Case("phi3", "ForCausalLM", "a half of each head turned", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
    Case("phi3", "ForCausalLM", "RoPE longrope", {"original_max_position_embeddings": 32, "rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 1.5, 2.0, 3.0]}}),
    Case("smollm3", "ForCausalLM", "plain"),
    Case("smollm3", "ForCausalLM", "not tied, biases, every other layer without positions", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True, "no_rope_layer_interval": 2}),
    Case("smollm3", "ForCausalLM", "windows where there are no positions", {"no_rope_layers": [1, 0, 0, 1], "use_sliding_window": True, "sliding_window": 4}),
    Case("smollm3", "ForCausalLM", "positions in all layers", {"no_rope_layers": [1, 1, 1, 1]}),
    Case("bart", "ForConditionalGeneration", "plain"),
    Case("bart", "ForConditionalGeneration", "unequal halves, scaled embedding, ReLU", {"encoder_layers": 1, "decoder_layers": 3, "decoder_attention_heads": 2, "decoder_ffn_dim": 40, "scale_embedding": True, "activation_function": "relu"}),
    Case("bart", "ForConditionalGeneration", "not tied", {"tie_word_embeddings": False}),
    Case("bart", "Model", "bare"),
    Case("mbart", "ForConditionalGeneration", "plain"),
    Case("mbart", "ForConditionalGeneration", "unequal halves, scaled embedding", {"encoder_layers": 3, "decoder_layers": 1, "encoder_attention_heads": 8, "scale_embedding": True}),
    Case("mbart", "ForConditionalGeneration", "not tied, ReLU", {"tie_word_embeddings": False, "activation_function": "relu"}),
    Case("marian", "MTModel", "plain"),
    Case("marian", "MTModel", "unequal halves, scaled embedding, swish", {"encoder_layers": 3, "decoder_layers": 1, "scale_embedding": True, "activation_function": "swish"}),
    Case("marian", "MTModel", "two vocabularies", {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 59}),
    Case("marian", "MTModel", "not tied", {"tie_word_embeddings": False, "share_encoder_decoder_embeddings": False}),
    Case("marian", "Model", "bare"),
    Case("m2m_100", "ForConditionalGeneration", "plain"),
    Case("m2m_100", "ForConditionalGeneration", "unequal halves, embedding not scaled, GELU", {"encoder_layers": 3, "decoder_layers": 1, "encoder_attention_heads": 8, "decoder_ffn_dim": 40, "scale_embedding": False, "activation_function": "gelu"}),
    Case("m2m_100", "ForConditionalGeneration", "not tied, padding 0", {"tie_word_embeddings": False, "pad_token_id": 0, "bos_token_id": 1}),
    Case("m2m_100", "Model", "bare"),
    Case("pegasus", "ForConditionalGeneration", "plain"),
    Case("pegasus", "ForConditionalGeneration", "unequal halves, scaled embedding, ReLU", {"encoder_layers": 3, "decoder_layers": 1, "decoder_attention_heads": 8, "encoder_ffn_dim": 40, "scale_embedding": True, "activation_function": "relu"}),
    Case("pegasus", "ForConditionalGeneration", "not tied", {"tie_word_embeddings": False}),
    Case("pegasus", "Model", "bare"),
    Case("t5", "ForConditionalGeneration", "plain"),
    Case("t5", "ForConditionalGeneration", "gated GELU, output not tied", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    Case("t5", "ForConditionalGeneration", "unequal halves, 8 buckets up to 20, heads of 16", {"num_layers": 3, "num_decoder_layers": 1, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "d_kv": 16}),
    Case("t5", "Model", "gated SiLU, bare", {"feed_forward_proj": "gated-silu"}),
]  # fmt: skip


def class_name(case: Case) -> str:
    """The name of a case's stock class; Gemma 3's causal model is called like the whole model, not like its text model."""
    name = CLASS_NAMES[case.architecture] + case.head
    return name if hasattr(transformers, name) else CLASS_NAMES[case.architecture].removesuffix("Text") + case.head


def stock_model(case: Case) -> PreTrainedModel:
    """The stock model of a case; all its weights are random, also those that start at 0 or 1."""
    torch.manual_seed(0)
    config_class = getattr(transformers, f"{CLASS_NAMES[case.architecture]}Config")
    model = getattr(transformers, class_name(case))(config_class(**SMALL[case.architecture] | case.fields))
    untied_head = case.architecture == "t5" and case.fields.get("tie_word_embeddings") is False
    if untied_head:  # its configuration calls everything tied; the weights decide
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    for name, weight in [*model.named_parameters(), *model.named_buffers()]:
        if not weight.requires_grad and "final_logits_bias" not in name:
            continue
        values = 0.15 * torch.randn_like(weight)
        is_scale = weight.ndim == 1 and name.endswith("weight")
        weight.data.copy_(1 + values if is_scale else values)
    originals = model.state_dict()
    for name, original in ARCHITECTURES[case.architecture].duplicates.items():
        prefix = "" if name in originals else ARCHITECTURES[case.architecture].prefix + "."
        if (name := name.removeprefix(prefix)) in originals:
            originals[name].copy_(originals[original.removeprefix(prefix)])
    return model.eval()


def inputs(model: PreTrainedModel, case: Case) -> dict[str, torch.Tensor]:
    """Three sequences of different lengths, and labels as the head wants them."""
    generator = torch.Generator().manual_seed(1)
    vocabulary = min(VOCABULARY, getattr(model.config, "decoder_vocab_size", None) or VOCABULARY)
    pad = model.config.pad_token_id or 0
    ids = torch.randint(3, vocabulary, (3, 13), generator=generator)
    mask = torch.ones_like(ids)
    # stock heads look for answers in the padding, ours do not
    seen_in_loss = case.architecture in PADDING_APART and not model.config.is_encoder_decoder
    if model.config.pad_token_id is not None and not seen_in_loss and case.head != "ForQuestionAnswering":
        for row, length in enumerate((13, 9, 4)):
            ids[row, length:], mask[row, length:] = pad, 0
    else:
        ids, mask = ids[:1], mask[:1]
    given = {"input_ids": ids, "attention_mask": mask}
    rows = len(ids)
    labels = torch.randint(3, vocabulary, (rows, 7), generator=generator)
    if model.config.is_encoder_decoder:
        labels[-1, 4:] = -100
        if case.head == "Model":
            return given | {"decoder_input_ids": labels.clamp(min=3)}
        return given | {"labels": labels}
    if case.head == "Model":
        return given
    if case.head == "ForSequenceClassification":
        return given | {"labels": torch.arange(rows)}
    if case.head == "ForQuestionAnswering":
        return given | {"start_positions": torch.arange(rows), "end_positions": torch.arange(rows) + 1}
    limit = model.config.num_labels if case.head == "ForTokenClassification" else vocabulary
    return given | {"labels": (ids % limit).masked_fill(mask == 0, -100)}


def compare(case: Case, folder: Path) -> Differences:
    """What a stock model and the Trefoil model imported from it compute, and that both generate the same.

    Args:
        folder: An empty folder for the three checkpoints.

    Raises:
        AssertionError: The weights do not come back bit for bit, or another text is generated.
    """
    stock = stock_model(case)
    stock.save_pretrained(folder / "stock")
    import_stock(folder / "stock", folder / "trefoil")
    export_stock(folder / "trefoil", folder / "exported", case.architecture)
    same_weights(folder / "stock", folder / "exported")
    auto_class = type(stock)
    stock = auto_class.from_pretrained(folder / "stock").eval()
    exported = load_stock(folder / "exported", "exported")[0].eval()
    ours = trefoil_model(folder / "trefoil")
    given = inputs(stock, case)
    outputs = {name: model(**given, output_hidden_states=True) for name, model in
               {"stock": stock, "ours": ours, "exported": exported}.items()}  # fmt: skip
    for output in outputs.values():
        (output.loss if "loss" in output else output[0].square().mean()).backward()
    if stock.can_generate():
        same_texts(stock, ours, given)
        same_texts(exported, ours, given)
    pairs = [(outputs["stock"], outputs["ours"]), (outputs["exported"], outputs["ours"])]
    masks = real_tokens(given) if case.architecture in PADDING_APART else []

    def largest_of(wanted: Callable[[str], bool]) -> float:
        return max(largest(pair, wanted, masks) for pair in pairs)

    return Differences(
        logits=largest_of(lambda name: "logits" in name or name == "last_hidden_state"),
        loss=largest_of(lambda name: name == "loss"),
        hidden_states=largest_of(lambda name: "hidden_state" in name),
        gradients=max(gradients(model, ours) for model in (stock, exported)),
    )


def trefoil_model(folder: Path) -> PreTrainedModel:
    """The model of a Trefoil folder, as its own class."""
    import trefoil

    config = transformers.AutoConfig.from_pretrained(folder)
    return getattr(trefoil, config.architectures[0]).from_pretrained(folder).eval()


def same_weights(first: Path, second: Path) -> None:
    """Raises an AssertionError where two folders do not hold the same tensors."""
    weights, others = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert weights.keys() == others.keys(), weights.keys() ^ others.keys()
    for name, weight in weights.items():
        assert weight.dtype == others[name].dtype, name
        assert torch.equal(weight, others[name]), name


def real_tokens(given: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """1 where a source has no padding, `(B, S)`, and where a target's inputs, made from its labels, have none."""
    masks = [given["attention_mask"]]
    if "labels" in given and given["labels"].ndim == 2:
        masks.append(torch.nn.functional.pad((given["labels"] != -100)[:, :-1].long(), (1, 0), value=1))
    return masks


def largest(pair: tuple[Any, Any], wanted: Callable[[str], bool], masks: list[torch.Tensor]) -> float:
    """The largest difference between those outputs that are wanted, in real tokens where masks of such are given."""
    stock, ours = pair
    found = 0.0
    for name, theirs in stock.items():
        if not wanted(name):
            continue
        theirs, mine = (value if isinstance(value, tuple) else (value,) for value in (theirs, ours[name]))
        assert len(theirs) == len(mine), name
        for one, other in zip(theirs, mine, strict=True):
            assert one.shape == other.shape, name
            difference = (one - other).abs()
            for mask in masks:
                if difference.shape[:2] == mask.shape:
                    difference = difference * mask.reshape(*mask.shape, *(1,) * (difference.ndim - 2))
            found = max(found, difference.max().item())
    return found


def gradients(stock: PreTrainedModel, ours: PreTrainedModel) -> float:
    """The largest difference between gradients, relative to the largest gradient of the same weight (at least 1e-3)."""
    theirs = {name: weight.grad for name, weight in stock.state_dict(keep_vars=True).items() if weight.grad is not None}
    theirs = trefoil_weights(stock, type(ours), ours.config, theirs)
    mine = {name: weight.grad for name, weight in ours.state_dict(keep_vars=True).items() if weight.grad is not None}
    extra = {"lm_head.bias"} if ours.config.is_encoder_decoder else set()  # a buffer there, a parameter here
    assert mine.keys() - extra == theirs.keys() - extra, mine.keys() ^ theirs.keys()
    assert theirs
    return max(
        ((mine[name] - grad).abs().max() / grad.abs().max().clamp(min=1e-3)).item() for name, grad in theirs.items()
    )


def same_texts(stock: PreTrainedModel, ours: PreTrainedModel, given: dict[str, torch.Tensor]) -> None:
    """Raises an AssertionError where greedy search or beam search finds other tokens."""
    ids, mask = given["input_ids"], given["attention_mask"]
    if not stock.config.is_encoder_decoder:  # prompts are padded on the left
        ids, mask = ids.flip(1), mask.flip(1)
    start = {"decoder_start_token_id": 3} if stock.config.model_type == "mbart" else {}
    for options in ({"num_beams": 1}, {"num_beams": 3, "num_return_sequences": 2}):
        options |= {"do_sample": False, "max_new_tokens": 6, "pad_token_id": stock.config.pad_token_id or 0} | start
        texts = [model.generate(ids, attention_mask=mask, **options) for model in (stock, ours)]
        assert torch.equal(*texts), (options, texts)
