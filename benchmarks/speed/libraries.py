"""Transformers that other libraries make, as one would train them: torch.nn's own, and those of x-transformers.

They are of the same size as ours and of as many matrix products, and do not compute the same numbers.
"""

from importlib.util import find_spec
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

import trefoil

from .models import SMALL, TOKENS, Shape, fields

# what both libraries make where they are not told otherwise: pre-norm as they can, plain, positions learned
PLAIN = {
    "is_gated_act": False, "hidden_act": "gelu", "norm_type": "layer_norm", "norm_eps": 1e-5,
    "position_embedding_type": "learned", "attention_bias": True, "mlp_bias": True,
}  # fmt: skip


def ours(kind: str, vocab_size: int, shape: Shape) -> nn.Module:
    stack = fields(shape, vocab_size) | PLAIN
    if kind == "masked-LM":
        return trefoil.TrefoilEncoderForMaskedLM(trefoil.TrefoilEncoderConfig(**stack))
    if kind == "causal-LM":
        return trefoil.TrefoilDecoderForCausalLM(trefoil.TrefoilDecoderConfig(**stack))
    config = trefoil.TrefoilEncoderDecoderConfig(encoder=stack, decoder=stack)
    return trefoil.TrefoilEncoderDecoderForConditionalGeneration(config)


class Peer(nn.Module):
    """What a library does not have: a loss of all logits, which the embedding gives of the hidden states.

    Args:
        stacks: Modules `ids -> (rows, length, width)`; a decoder behind an encoder gets `context` too.
        embedding: That of the tokens, and the output projection.
    """

    def __init__(self, kind: str, stacks: list[nn.Module], embedding: nn.Embedding) -> None:
        super().__init__()
        self.kind, self.stacks, self.embedding = kind, nn.ModuleList(stacks), embedding
        width = embedding.embedding_dim
        # before the vocabulary, as BERT and our encoder have it
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        if kind != "masked-LM":
            self.transform = nn.Identity()

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        hidden_states = self.stacks[0](input_ids)
        if self.kind == "text-to-text":
            start = torch.full_like(labels[:, :1], TOKENS["bos_token_id"])
            hidden_states = self.stacks[1](torch.cat([start, labels[:, :-1]], dim=1), context=hidden_states)
        if self.kind == "causal-LM":
            hidden_states, labels = hidden_states[:, :-1], labels[:, 1:]
        logits = F.linear(self.transform(hidden_states), self.embedding.weight)
        return SimpleNamespace(loss=F.cross_entropy(logits.flatten(0, 1), labels.flatten()))


# --- torch.nn


class TorchStack(nn.Module):
    """Embeddings, and what `torch.nn` makes of layers."""

    def __init__(self, layers: nn.Module, embedding: nn.Embedding, positions: int, is_causal: bool) -> None:
        super().__init__()
        self.layers, self.embedding, self.is_causal = layers, embedding, is_causal
        self.positions = nn.Embedding(positions, embedding.embedding_dim)

    def forward(self, ids: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        length = ids.shape[1]
        states = self.embedding(ids) + self.positions.weight[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length, ids.device) if self.is_causal else None
        if context is None:
            return self.layers(states, mask=mask, is_causal=self.is_causal)
        return self.layers(states, context, tgt_mask=mask, tgt_is_causal=self.is_causal)


def of_torch(kind: str, vocab_size: int, shape: Shape) -> Peer:
    embedding = nn.Embedding(vocab_size, shape.width)
    nn.init.normal_(embedding.weight, std=0.02)
    sizes = {
        "d_model": shape.width, "nhead": shape.heads, "dim_feedforward": shape.inner, "dropout": 0.0,
        "activation": "gelu", "batch_first": True, "norm_first": True,
    }  # fmt: skip
    layers: list[nn.Module] = [
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**sizes), shape.layers, nn.LayerNorm(shape.width), enable_nested_tensor=False
        )
    ]
    if kind == "text-to-text":
        both = nn.Transformer(custom_encoder=layers[0], num_decoder_layers=shape.layers, **sizes)
        layers = [both.encoder, both.decoder]
    last = len(layers) - 1
    stacks = [
        TorchStack(each, embedding, shape.positions, is_causal=number == last and kind != "masked-LM")
        for number, each in enumerate(layers)
    ]
    return Peer(kind, stacks, embedding)


# --- x-transformers


def of_x_transformers(kind: str, vocab_size: int, shape: Shape) -> Peer:
    from x_transformers import Decoder, Encoder, TransformerWrapper

    sizes = {
        "dim": shape.width, "depth": shape.layers, "heads": shape.heads, "attn_dim_head": shape.width // shape.heads,
        "attn_flash": True, "ff_mult": shape.inner / shape.width,
    }  # fmt: skip

    def stack(layers: nn.Module) -> nn.Module:
        return TransformerWrapper(
            num_tokens=vocab_size, max_seq_len=shape.positions, attn_layers=layers, return_only_embed=True
        )

    stacks = [stack((Decoder if kind == "causal-LM" else Encoder)(**sizes))]
    if kind == "text-to-text":
        stacks.append(stack(Decoder(**sizes, cross_attend=True)))
        stacks[1].token_emb = stacks[0].token_emb
    return Peer(kind, stacks, stacks[0].token_emb.emb)


PEERS = {"torch.nn": of_torch, "x-transformers": of_x_transformers}


def is_installed(peer: str) -> bool:
    return peer == "torch.nn" or find_spec(peer.replace("-", "_")) is not None


def pair(
    peer: str, kind: str, device: torch.device, vocab_size: int, shape: Shape = SMALL
) -> tuple[nn.Module, nn.Module]:
    """Our model and a library's, of weights of their own."""
    torch.manual_seed(0)
    return ours(kind, vocab_size, shape).to(device), PEERS[peer](kind, vocab_size, shape).to(device)
