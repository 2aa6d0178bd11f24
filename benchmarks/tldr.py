"""A decoder that summarises: SciTLDR as texts for causal-lm, and ROUGE of what a model says behind an abstract.

    python -m benchmarks.tldr DATA FOLDER
    python -m benchmarks.tldr DATA --score MODEL [--examples 100]

DATA holds train.jsonl, validation.jsonl and test.jsonl with source, target and, of the last two, references; FOLDER gets
the same with text: the first 100 words of an abstract, `TL;DR:` and its summary. Scored are the first of test.jsonl, and MODEL
is `first-sentence`, or what `trefoil.load` takes: a decoder, which gets so many words and `TL;DR:`, or one that summarises
whole abstracts.
"""

import argparse
import json
import re
from pathlib import Path

import trefoil
from trefoil.tasks.metrics.summarization import SummaryQuality

WORDS = 100  # of an abstract, the first
SCORES = ("rouge1", "rouge2", "rougeL")


def rows_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def prompt_of(abstract: str) -> str:
    return f"{' '.join(abstract.split()[:WORDS])}\nTL;DR:"


def write_texts(data: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        texts = [f"{prompt_of(row['source'])} {row['target']}" for row in rows_of(data / f"{split}.jsonl")]
        lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def summaries_by(model: str, abstracts: list[str]) -> list[str]:
    if model == "first-sentence":
        return [re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0] for text in abstracts]
    predictor = trefoil.load(model)
    if predictor.task == "summarization":
        return [answer["summary"] or "" for answer in predictor(abstracts, truncate=True)]
    prompts = [prompt_of(text) for text in abstracts]
    answers = predictor(prompts, max_new_tokens=48, do_sample=False, chat=False)
    return [first_line(answer["generated_text"]) for answer in answers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("folder", type=Path, metavar="FOLDER", nargs="?")
    parser.add_argument("--score", metavar="MODEL")
    parser.add_argument("--examples", type=int, default=100, metavar="N")
    arguments = parser.parse_args()
    if (arguments.folder is None) == (arguments.score is None):
        parser.error("give one of FOLDER and --score MODEL")
    if arguments.folder is not None:
        write_texts(arguments.data, arguments.folder)
        return
    rows = rows_of(arguments.data / "test.jsonl")[: arguments.examples]
    found = summaries_by(arguments.score, [row["source"] for row in rows])
    scores = SummaryQuality.scores(found, [row["references"] for row in rows])
    print(json.dumps({"examples": len(rows)} | {name: round(scores[name], 1) for name in SCORES} | {"first": found[0]}))


if __name__ == "__main__":
    main()
