"""A Marian with random weights comes in, is fine-tuned by the ordinary recipe, goes out, and translates as it did here.

    python benchmarks/marian_round_trip.py DATA FOLDER [key=value ...]

DATA holds English-German pairs as the recipe encoder-decoder-translation-multi30k reads them; the keys are of that recipe.
What FOLDER gets: `stock`, `imported`, `run`, `exported`. Needs sentencepiece.
"""

import json
import subprocess
import sys
from pathlib import Path

import sentencepiece
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, MarianConfig, MarianMTModel, MarianTokenizer, set_seed

RECIPE = "encoder-decoder-translation-multi30k"


def make_stock(pairs: list[dict[str, str]], folder: Path) -> None:
    """Marian's kind of tokenizer, trained on the pairs, and a small model that has learned nothing."""
    folder.mkdir(parents=True)
    prefix = str(folder / "source")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(pair[side] for pair in pairs for side in ("en", "de")), model_prefix=prefix, vocab_size=4000,
        bos_id=-1, eos_id=-1, unk_id=0, minloglevel=2,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    known = [pieces.id_to_piece(number) for number in range(len(pieces))]
    tokens = ["</s>", "<unk>", *(piece for piece in known if piece != "<unk>"), "<pad>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = MarianTokenizer(
        f"{prefix}.model", f"{prefix}.model", str(folder / "vocab.json"), source_lang="en", target_lang="de"
    )
    pad = vocabulary["<pad>"]
    layers = {f"{half}_{name}": value for half in ("encoder", "decoder")
              for name, value in {"layers": 3, "attention_heads": 4, "ffn_dim": 512}.items()}  # fmt: skip
    set_seed(0)
    model = MarianMTModel(
        MarianConfig(
            vocab_size=len(vocabulary), d_model=192, activation_function="swish", scale_embedding=True,
            pad_token_id=pad, decoder_start_token_id=pad, eos_token_id=0, forced_eos_token_id=0,
            max_position_embeddings=256, **layers,
        )
    )  # fmt: skip
    model.generation_config.bad_words_ids = [[pad]]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def translate(model, tokenizer, sentences: list[str], num_beams: int) -> list[str]:
    """Fifty sentences at a time."""
    translations: list[str] = []
    for start in range(0, len(sentences), 50):
        batch = tokenizer(sentences[start : start + 50], return_tensors="pt", padding=True)
        tokens = model.eval().generate(**batch, num_beams=num_beams, max_new_tokens=80)
        translations += tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return translations


def command(*arguments: str | Path) -> None:
    from trefoil.cli import main as run  # not above: the process of stock_translations reads this file, too

    print("$ trefoil", *arguments, flush=True)
    if run([str(argument) for argument in arguments]) != 0:
        sys.exit(1)


def stock_translations(folder: Path, sentences: Path, num_beams: int) -> list[str]:
    """In a process of its own, which has never heard of Trefoil."""
    arguments = [sys.executable, __file__, "--stock", str(folder), str(sentences), str(num_beams)]
    return json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main() -> None:
    data, folder, overrides = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    pairs = [json.loads(line) for line in (data / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    make_stock(pairs, folder / "stock")
    command("import", folder / "stock", folder / "imported")
    start = [f"model.init_from={folder / 'imported'}", "model.preset=null", "tokenizer={}"]
    settings = [*start, f"data.path={data}", f"output_dir={folder / 'run'}"]
    command("train", RECIPE, *settings, *overrides)
    command("export", folder / "run", folder / "exported", "--to", "marian")

    held_out = [json.loads(line)["en"] for line in (data / "validation.jsonl").read_text(encoding="utf-8").splitlines()]
    (folder / "sentences.json").write_text(json.dumps(held_out), encoding="utf-8")
    best = folder / "run" / "best"
    ours, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(best), AutoTokenizer.from_pretrained(best)
    for num_beams in (1, 4):
        theirs = stock_translations(folder / "exported", folder / "sentences.json", num_beams)
        same = sum(
            one == other for one, other in zip(translate(ours, tokenizer, held_out, num_beams), theirs, strict=True)
        )
        print(f"{num_beams} beams: {same} of {len(held_out)} validation sentences are the same text")
    print(f"for example: {held_out[0]} -> {theirs[0]}")


if __name__ == "__main__":
    if sys.argv[1] == "--stock":
        assert "trefoil" not in sys.modules
        place, sentences, beams = sys.argv[2:]
        model = MarianMTModel.from_pretrained(place)
        print(
            json.dumps(
                translate(
                    model, MarianTokenizer.from_pretrained(place), json.loads(Path(sentences).read_text()), int(beams)
                )
            )
        )
    else:
        main()
