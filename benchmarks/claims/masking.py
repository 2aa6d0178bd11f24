"""Claim d: a decoder without a causal mask learns to look the answer up, and cannot generate (Vaswani et al. 2017, §3.2.3)."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import trefoil.modeling.decoder as decoder
from trefoil.modeling.masks import bidirectional_masks
from trefoil.visualization.labels import decoded_labels

from .draw import Table, panels, save, weights_of
from .positions import language_model_run
from .runs import Run, read_lines
from .texts import english

PROMPTS = ("The meeting", "I", "On Monday")
SHOWN = 16  # tokens


def see_everything() -> None:
    """Decoders look to both sides."""
    decoder.TrefoilDecoderModel.is_causal = False
    decoder.causal_masks = lambda config, inputs_embeds, attention_mask, *_: bidirectional_masks(
        config, inputs_embeds, attention_mask
    )


def runs(multi30k: str | None) -> list[Run]:
    causal = language_model_run("rotary", "decoder")
    return [causal, Run("masking/full", causal.recipe, causal.overrides, exchange="masking.see_everything")]


def measure(trained: list[Run]) -> dict[str, Any]:
    """What each model was trained to, the same with the mask that generation amounts to, and what it writes."""
    return {name: _measure(run) for name, run in zip(("causal", "full"), trained, strict=True)}


@torch.no_grad()
def _measure(run: Run) -> dict[str, Any]:
    model = AutoModelForCausalLM.from_pretrained(run.best, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(run.best)
    text = "\n".join(row["text"] for row in read_lines(english() / "test.jsonl")[:200])
    token_ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    rows = token_ids[: len(token_ids) // 64 * 64].view(-1, 64)
    trained_mask = torch.ones(64, 64).bool() if run.exchange != "-" else torch.ones(64, 64).bool().tril()
    losses = {}
    for name, mask in (("as trained", trained_mask), ("left to right", torch.ones(64, 64).bool().tril())):
        blocked = torch.zeros(1, 1, 64, 64).masked_fill(~mask, torch.finfo(torch.float32).min)
        output = model(rows, labels=rows, attention_mask=blocked.expand(len(rows), -1, -1, -1), output_attentions=True)
        losses[name] = float(output.loss)
        if name == "as trained":
            # of heads and rows, the most that a token looks at the one that it is to predict
            following = [weights.diagonal(1, -2, -1).mean(dim=(0, 2)).max() for weights in output.attentions]
            heads = torch.stack(output.attentions)
            looks_ahead = heads.diagonal(1, -2, -1).mean(dim=(1, 3))
            layer, index = divmod(int(looks_ahead.argmax()), looks_ahead.shape[1])
            head = heads[layer, 0, index, :SHOWN, :SHOWN]
    texts = []
    for prompt in PROMPTS:
        prompt_ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        written = model.generate(prompt_ids, max_new_tokens=24, do_sample=False)
        texts.append(tokenizer.decode(written[0], skip_special_tokens=True))
    return {
        "losses": losses, "following": float(max(following)), "texts": texts, "map": head.tolist(),
        "tokens": decoded_labels(tokenizer, rows[0, :SHOWN].tolist()),
        "curve": [[entry["step"], entry["loss"]] for entry in run.log() if "loss" in entry],
    }  # fmt: skip


def tables(measured: dict[str, Any]) -> dict[str, Table]:
    table = Table(
        [
            "trained with",
            "loss as trained",
            "loss left to right",
            "weight on the next token",
            "goes on from “The meeting”",
        ]
    )
    for name, of in measured.items():
        losses = [f"{loss:.3f}" for loss in of["losses"].values()]
        table.rows.append([f"a {name} mask" if name == "causal" else "no mask", *losses, f"{of['following']:.2f}",
                           f"`{_line(of['texts'][0])}`"])  # fmt: skip
    return {"masking": table}


def _line(text: str) -> str:
    text = text.replace("\n", " ⏎ ").replace("|", "/")
    return text if len(text) <= 60 else f"{text[:59]}…"


def draw(measured: dict[str, Any]) -> None:
    figure, (curves, *maps) = panels(3, width=4.4)
    for name, of in measured.items():
        steps, losses = zip(*of["curve"], strict=True)
        curves.plot(steps, losses, label={"causal": "causal mask", "full": "no mask"}[name], marker="")
    curves.set(xlabel="optimiser step", ylabel="training loss (nats)", title="Loss in training")
    curves.legend()
    for axes, (name, of) in zip(maps, measured.items(), strict=True):
        weights_of(axes, of["map"], of["tokens"], of["tokens"], {"causal": "Causal mask", "full": "No mask"}[name])
    save(figure, "masking")
