"""The stock architectures that checkpoints are imported from and exported to."""

from .architecture import Architecture
from .decoders import GEMMA2, GEMMA3, GPT2, LLAMA, MISTRAL, OLMO2, PHI3, QWEN2, QWEN3, SMOLLM3
from .encoder_decoders import BART, M2M_100, MARIAN, MBART, PEGASUS, T5
from .encoders import BERT, DISTILBERT, ELECTRA, MODERNBERT, ROBERTA, XLM_ROBERTA

ARCHITECTURES: dict[str, Architecture] = {
    architecture.model_type: architecture
    for architecture in (
        BERT, ROBERTA, XLM_ROBERTA, ELECTRA, DISTILBERT, MODERNBERT, GPT2, LLAMA, MISTRAL, QWEN2, QWEN3,
        OLMO2, GEMMA2, GEMMA3, PHI3, SMOLLM3, BART, MBART, MARIAN, M2M_100, PEGASUS, T5,
    )
}  # fmt: skip
