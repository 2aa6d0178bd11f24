"""What every Trefoil transformer stack is made of: the fields that the encoder and the decoder share."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_rope_utils import RopeParameters

from .configuration_positions import POSITION_KINDS


def _default_layer_type(sliding_window: int | None) -> str:
    return "full_attention" if sliding_window is None else "sliding_attention"


@strict
class TrefoilConfig(PreTrainedConfig):
    """One transformer stack. Not used on its own: see `TrefoilEncoderConfig` and `TrefoilDecoderConfig`.

    The defaults are the modern recipe (pre-norm RMSNorm, rotary positions, gated SiLU, no biases, no dropout); `presets.py` holds
    the settings that reproduce published architectures.

    Args:
        vocab_size: Number of token ids; `input_ids` lie in `[0, vocab_size)`.
        hidden_size: Width of the residual stream.
        intermediate_size: Width inside the feed-forward sublayer.
        num_hidden_layers: Number of layers.
        num_attention_heads: Query heads.
        num_key_value_heads: Key and value heads; fewer than query heads is grouped-query attention
            (Ainslie et al. 2023). Default: as many as query heads.
        head_dim: Width of one head. Default: `hidden_size // num_attention_heads`.
        hidden_act: Activation of the feed-forward sublayer, a name that `transformers.activations` knows.
        is_gated_act: Gate the feed-forward sublayer (Shazeer 2020).
        norm_type: `rms_norm` (Zhang & Sennrich 2019), `layer_norm` (Ba et al. 2016) or `zero_centered_rms_norm`, which
            scales by one plus its weight (Gemma).
        norm_position: `pre`: norm before each sublayer; `post`: after each residual sum (Vaswani et al. 2017, figure 1);
            `output`: of each sublayer's output (OLMo 2); `sandwich`: before each sublayer and of its output (Gemma 2).
            All but `post` have one more at the end.
        norm_eps: Added to the variance.
        norm_bias: Biases in `layer_norm`; `rms_norm` has none.
        skip_first_norm: No norm before the first self-attention, for a pre-norm stack with `embedding_norm` (ModernBERT).
        embedding_norm: Normalise the sum of the embeddings (BERT, BART).
        scale_embedding: Multiply token embeddings by `sqrt(hidden_size)` (Vaswani et al. 2017, §3.4).
        position_embedding_type: `rotary` (Su et al. 2021; on queries and keys), `learned` or `sinusoidal`
            (added to the embeddings; Vaswani et al. 2017, §3.5), `relative` (Raffel et al. 2020, §2.1; added to the
            scores), `alibi` (Press et al. 2022; likewise) or `none` (Kazemnejad et al. 2023: only a causal mask tells
            positions apart). `POSITION_KINDS` holds them all.
        rope_parameters: Rotary settings, as transformers defines them, or a dict of them for each of `layer_types`;
            only read with `rotary`.
        no_rope_layers: For each layer, 1 if `rotary` turns its queries and keys, 0 if not (Yang et al. 2025; SmolLM3).
            Default: it does in all.
        interleave_sinusoids: Sines and cosines alternate, as in Vaswani et al.; else all sines come first (Marian).
        inclusive_sinusoids: The slowest sinusoids turn once in `2π · 10000` tokens (tensor2tensor; Fan et al. 2021,
            M2M-100); in Vaswani et al., those that would come next.
        position_offset: What positions count from: rows of the `learned` table in front of position 0 (2 in BART and
            RoBERTa), or the first position of the `sinusoidal` ones (2 in M2M-100).
        relative_attention_num_buckets: Distances that `relative` tells apart.
        relative_attention_max_distance: From this distance on, in tokens, `relative` tells none apart.
        max_position_embeddings: Longest sequence, in tokens. A hard limit with `learned`; otherwise the length that
            pipelines and trainers keep to.
        type_vocab_size: Number of segment ids (BERT's `token_type_ids`); 0 for none.
        sliding_window: How far self-attention sees in layers of the type `sliding_attention`: a decoder so many
            tokens including the current one (Beltagy et al. 2020), an encoder so many to each side. Default: all.
        layer_types: `full_attention` or `sliding_attention` for each layer. Default: `sliding_attention` for all where
            `sliding_window` is set, else `full_attention`.
        attention_bias: Biases on the query, key, value and output projections.
        attention_output_bias: A bias on the output projection. Default: `attention_bias`.
        query_pre_attn_scalar: Scores are divided by its square root. Default: `head_dim` (Vaswani et al. 2017, §3.2.1);
            1 leaves them as they are (T5).
        attn_logit_softcapping: Scores are bent to stay below this (Gemma 2). Default: they are not.
        qk_norm: RMSNorm on queries and keys: of each `head` (Henry et al. 2020; Qwen3), of the whole `projection` (OLMo
            2), or `none`.
        mlp_bias: Biases in the feed-forward sublayer.
        hidden_dropout: Dropout on the embeddings and on every sublayer's output.
        attention_dropout: Dropout on the attention weights.
        activation_dropout: Dropout inside the feed-forward sublayer, after the activation.
        classifier_dropout: Dropout before the projection of a classification head. Default: `hidden_dropout`.
        classifier_crf: A head that labels tokens learns which labels follow which (Lample et al. 2016), token by token, so that
            torch.export takes one length only.
        initializer_range: Standard deviation of initial weights.
        residual_init: How the matrices begin that write to the residual stream, one a sublayer: `normal`, as the others; `scaled`,
            with a standard deviation that is divided by the square root of how many there are (GPT-2, Radford et al. 2019,
            §2.3), so that deep stacks begin with states of the same size; `zero`, so that each layer begins as the identity
            (Zhang et al. 2019, Fixup).
        tie_word_embeddings: Use the input embedding as the output projection (Press & Wolf 2017).
        freeze_padding_embedding: The padding token's embedding starts at zero and gets no gradient where it is read.
        lm_head_bias: A bias on the output projection.

    Raises:
        StrictDataclassError: (of `huggingface_hub.errors`) A value of a wrong type, or sizes that do not fit together; the
            message names the fields and their values.
    """

    keys_to_ignore_at_inference = ["past_key_values"]
    base_model_pp_plan = {
        "embed_tokens": (["input_ids"], ["inputs_embeds"]),
        "layers": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "norm": (["hidden_states"], ["hidden_states"]),
    }

    vocab_size: int = 32000
    hidden_size: int = 512
    intermediate_size: int = 1536
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    is_gated_act: bool = True
    norm_type: Literal["rms_norm", "layer_norm", "zero_centered_rms_norm"] = "rms_norm"
    norm_position: Literal["pre", "post", "output", "sandwich"] = "pre"
    norm_eps: float = 1e-6
    norm_bias: bool = True
    skip_first_norm: bool = False
    embedding_norm: bool = False
    scale_embedding: bool = False
    position_embedding_type: str = "rotary"
    rope_parameters: RopeParameters | dict | None = None
    no_rope_layers: list[int] | None = None
    interleave_sinusoids: bool = True
    inclusive_sinusoids: bool = False
    position_offset: int = 0
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    max_position_embeddings: int = 1024
    type_vocab_size: int = 0
    sliding_window: int | None = None
    layer_types: list[str] | None = None
    attention_bias: bool = False
    attention_output_bias: bool | None = None
    query_pre_attn_scalar: float | int | None = None
    attn_logit_softcapping: float | int | None = None
    qk_norm: Literal["none", "head", "projection"] | bool = "none"
    mlp_bias: bool = False
    hidden_dropout: float | int = 0.0
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    classifier_dropout: float | int | None = None
    classifier_crf: bool = False
    initializer_range: float = 0.02
    residual_init: Literal["normal", "scaled", "zero"] = "normal"
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = True
    freeze_padding_embedding: bool = True
    lm_head_bias: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.head_dim is None and self.num_attention_heads > 0:
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.attention_output_bias is None:
            self.attention_output_bias = self.attention_bias
        scaled = kwargs.pop("scale_attention", True)  # a field of former releases
        if self.query_pre_attn_scalar is None and self.head_dim is not None:
            self.query_pre_attn_scalar = self.head_dim if scaled else 1
        if self.layer_types is None:
            self.layer_types = [_default_layer_type(self.sliding_window)] * self.num_hidden_layers
        super().__post_init__(**kwargs)
        kind = POSITION_KINDS.get(self.position_embedding_type)
        if kind is not None and "rope_parameters" not in kind.fields:
            self.rope_parameters = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "qk_norm" and isinstance(value, bool):  # the values of former releases
            value = "head" if value else "none"
        super().__setattr__(name, value)
        if name == "num_hidden_layers" and (turned := self.__dict__.get("no_rope_layers")):
            self.no_rope_layers = turned[:value]
        types = self.__dict__.get("layer_types")
        if not types or name not in ("num_hidden_layers", "sliding_window"):
            return
        alike = len(set(types)) == 1
        if name == "num_hidden_layers":
            self.layer_types = types[:1] * value if alike else types[:value]
        elif alike:
            self.layer_types = [_default_layer_type(value)] * len(types)

    def validate_architecture(self) -> None:
        """Checks between fields; each message names the fields and their values."""
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                     "num_key_value_heads", "head_dim", "query_pre_attn_scalar", "max_position_embeddings"):  # fmt: skip
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        for name in ("position_offset", "type_vocab_size"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        assert self.head_dim is not None  # these two were filled in by __post_init__
        assert self.num_key_value_heads is not None
        derived_head_dim = self.head_dim == self.hidden_size // self.num_attention_heads
        if derived_head_dim and self.hidden_size % self.num_attention_heads != 0:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}"
            )
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act={self.hidden_act!r} is no activation; there are {', '.join(sorted(ACT2FN))}")
        if self.num_attention_heads % self.num_key_value_heads != 0:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads={self.num_key_value_heads}"
            )
        self._validate_layer_types()
        if self.skip_first_norm and not (self.norm_position == "pre" and self.embedding_norm):
            raise ValueError("skip_first_norm=True needs norm_position='pre' and embedding_norm=True")
        if self.position_embedding_type not in POSITION_KINDS:
            raise ValueError(
                f"position_embedding_type={self.position_embedding_type!r} is no kind of positions; "
                f"there are {', '.join(POSITION_KINDS)}"
            )
        POSITION_KINDS[self.position_embedding_type].check(self)
        if (self.attn_logit_softcapping or 1) <= 0:
            raise ValueError(f"attn_logit_softcapping={self.attn_logit_softcapping} must be positive")
        for name in ("hidden_dropout", "attention_dropout", "activation_dropout", "classifier_dropout"):
            if not 0 <= (getattr(self, name) or 0) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1)")

    def _validate_layer_types(self) -> None:
        assert self.layer_types is not None  # filled in by __post_init__
        if len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types names {len(self.layer_types)} layers, but num_hidden_layers={self.num_hidden_layers}"
            )
        if unknown := set(self.layer_types) - {"full_attention", "sliding_attention"}:
            raise ValueError(f"layer_types: {min(unknown)!r} is neither 'full_attention' nor 'sliding_attention'")
        if "sliding_attention" not in self.layer_types:
            return
        if self.sliding_window is None or self.sliding_window <= 0:
            raise ValueError(f"sliding_window={self.sliding_window} must be positive with 'sliding_attention' layers")

    @property
    def head_dropout(self) -> float:
        """Dropout of a classification head."""
        return self.hidden_dropout if self.classifier_dropout is None else self.classifier_dropout

    def _attention_modules(self) -> list[str]:
        return ["self_attn"]

    @property
    def base_model_tp_plan(self) -> dict[str, str]:  # type: ignore[override]
        """Tensor-parallel plan: projections into a sublayer are split by column, those out of it by row.

        It follows the fields, so that every pattern matches a module of the configured model. Entries that
        transformers assigns (for tied embeddings before 5.18, for quantised weights) come on top.
        """
        plan: dict[str, str] = {}
        # a norm over the whole projection needs all of it
        into, out = "colwise", "rowwise"
        if self.qk_norm == "projection":
            into, out = "colwise_gather_output", "rowwise_split_input"
        for attention in self._attention_modules():
            plan |= {f"layers.*.{attention}.{name}_proj": into for name in "qkv"}
            plan[f"layers.*.{attention}.o_proj"] = out
            if self.qk_norm == "head":
                plan |= {f"layers.*.{attention}.{name}_norm": "replicated_with_grad_allreduce" for name in "qk"}
        if self.is_gated_act:
            plan["layers.*.mlp.gate_proj"] = "colwise"
        plan |= {"layers.*.mlp.up_proj": "colwise", "layers.*.mlp.down_proj": "rowwise"}
        return plan | self.__dict__.get("base_model_tp_plan", {})

    @base_model_tp_plan.setter
    def base_model_tp_plan(self, plan: dict[str, str]) -> None:
        # under the property's own name, which transformers leaves out when it writes config.json
        self.__dict__["base_model_tp_plan"] = dict(plan)
