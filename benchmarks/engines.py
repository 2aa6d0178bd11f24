"""Train every family and task by each of accelerate's engines, on CPUs, and print how far the losses lie from those of one
process: the largest difference over 30 steps.

    python -m benchmarks.engines [--engines "FSDP2 on 2" …] [--cases "decoder causal-lm" …] [--folder FOLDER]

Models are tiny, in float32 and without dropout; texts are of unequal lengths, and no size is a multiple of the number of
processes. `*` stands where scores or predictions are not those of one process, `refused` where the engine cannot do it.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import traceback
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path

import datasets
import torch
from accelerate import state as accelerate_state

from trefoil.configuration.errors import UserError
from trefoil.data.embedded import load_embedded
from trefoil.recipes.schema import Recipe, build, validate
from trefoil.training import throughput
from trefoil.training.run import train

from .on_cpu import ENGINES, let_in, ranks

# these models have key and value heads for two
FIRST, *OTHERS = [name for name in ENGINES if name != "TP on 4"]

MODEL = {
    "hidden_size": 24, "intermediate_size": 37, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "hidden_dropout": 0.0,
    "initializer_range": 0.3,  # so that the outputs of a barely trained model differ from row to row
}  # fmt: skip
CONTENT = {
    "batches": {"tokens_per_batch": 400},
    "tokenizer": {"kind": "characters"},
    "optimization": {"learning_rate": 1e-3, "warmup_steps": 4},
    "training": {
        "max_steps": 30, "log_every": 1, "evaluate_every": 30, "save_every": 20, "average_checkpoints": 1, "trackers": [],
    },
    "evaluation": {"num_beams": 1, "max_new_tokens": 8},
}  # fmt: skip
ACCUMULATED = {"batches": {"tokens_per_device": 90}}
TRANSLATION = {"task": "translation", "data": {"columns": {"source": "ko", "target": "en"}}}
SUMMARIZATION = {
    "task": "summarization", "data": {"columns": {"source": "document", "target": "summary"}},
    "batches": {"tokens_per_batch": 600},
}  # fmt: skip
TAGGING = {
    "task": "token-classification", "data": {"columns": {"tags": "ner_tags", "text": "text"}},
    "options": {"label_all_subwords": True},
}  # fmt: skip


def merged(*contents):
    """Nested mappings, later ones put over earlier ones."""
    result = {}
    for content in contents:
        for key, value in content.items():
            result[key] = merged(result.get(key) or {}, value) if isinstance(value, dict) else value
    return result


def model(preset, **fields):
    fields = fields if preset == "recurrent" else MODEL | fields
    return {"model": {"preset": f"{preset}-tiny", "config": fields}}


# every family and task; every kind of position, and weights that are tied, shared between halves, and neither
CASES = {
    "encoder masked-lm": merged({"task": "masked-lm"}, model("encoder", position_embedding_type="learned", max_position_embeddings=45)),
    "encoder text-classification": merged(
        {"task": "text-classification"}, model("encoder", position_embedding_type="alibi"), ACCUMULATED
    ),
    "encoder token-classification": merged(TAGGING, model("encoder", qk_norm="head")),
    "encoder question-answering": merged({"task": "question-answering"}, model("encoder"), ACCUMULATED),
    "decoder causal-lm": merged(
        {"task": "causal-lm", "training": {"gradient_checkpointing": True, "average_checkpoints": 2}},
        model("decoder", max_position_embeddings=45, num_hidden_layers=2),
        ACCUMULATED,
    ),
    "decoder causal-lm, a running text": merged(
        {"task": "causal-lm", "options": {"documents": "stream"}, "training": {"gradient_checkpointing": True}},
        model("decoder", max_position_embeddings=45, num_hidden_layers=2),
        ACCUMULATED,
    ),
    "decoder text-classification": merged(
        {"task": "text-classification"}, model("decoder", position_embedding_type="relative")
    ),
    "decoder token-classification": merged(TAGGING, model("decoder", qk_norm="projection"), ACCUMULATED),
    "encoder-decoder translation": merged(
        TRANSLATION,
        model("encoder-decoder", num_hidden_layers=2),
        {"training": {"average_checkpoints": 2, "gradient_checkpointing": 0.0007}},  # some layers, with some engines all
    ),
    "the same, accumulated, nothing shared": merged(
        TRANSLATION,
        model(
            "encoder-decoder",
            tie_word_embeddings=False,
            position_embedding_type="sinusoidal",
            norm_type="layer_norm",
            norm_position="post",
            mlp_bias=True,
            attention_bias=True,
        ),
        ACCUMULATED,
    ),
    "encoder-decoder summarization": merged(
        SUMMARIZATION, model("encoder-decoder", position_embedding_type="relative"), ACCUMULATED
    ),
    "encoder-decoder denoising": merged(
        {"task": "denoising", "batches": {"tokens_per_batch": 300}}, model("encoder-decoder", share_encoder_decoder_embeddings=False, qk_norm="head", max_position_embeddings=48), ACCUMULATED
    ),
    "recurrent translation": merged(
        TRANSLATION,
        model("recurrent", hidden_size=26, num_hidden_layers=1, hidden_dropout=0.0),
        {"batches": {"tokens_per_batch": 200, "tokens_per_device": 50}},
    ),
    "recurrent summarization": merged(
        SUMMARIZATION,
        model("recurrent", hidden_size=26, cell_type="gru", num_hidden_layers=1, hidden_dropout=0.0),
        {"batches": {"tokens_per_batch": 200}},
    ),
    "vision-encoder-decoder image-captioning": merged(
        {"task": "image-captioning", "tokenizer": {"kind": "wordpiece", "vocab_size": 67}},
        model("vision-encoder-decoder", encoder={"image_size": 48, "patch_size": 12}),
        ACCUMULATED,
    ),
}  # fmt: skip
SIZES = {"train": 61, "validation": 7, "test": 5}


def recipe_of(engine, name, folder) -> dict:
    """A case's recipe as it stands in YAML; the run lies in `folder / ENGINE / CASE`. One process accumulates nothing."""
    data = {"embedded": True, "embedded_sizes": SIZES}
    if CASES[name]["task"] in ("masked-lm", "causal-lm", "denoising"):
        data = {"path": str(write_texts(folder / "texts"))}
    whole = {"batches": {"tokens_per_device": None}} if engine == FIRST else {}
    return merged(CONTENT, {"output_dir": str(folder / engine / name), "data": data}, CASES[name], whole)


def write_texts(folder) -> Path:
    if not folder.exists():
        folder.mkdir(parents=True)
        for split, rows in load_embedded("translation", sizes=SIZES).items():
            (folder / f"{split}.txt").write_text("\n".join(rows["ko"]) + "\n", encoding="utf-8")
    return folder


# --- several processes, each of which trains one recipe after the other


def launch(jobs) -> list[str | None]:
    """Train recipes, each by an engine. The processes are forked from this one, so all that is imported is imported once.

    Args:
        jobs: Pairs of an engine's name and a recipe as it stands in YAML.

    Returns:
        Of each what it was refused for, or the end of its traceback; None where it was trained.
    """
    outcomes: list[str | None] = []
    while len(outcomes) < len(jobs):  # neighbours by the same engine are trained by the same processes
        engine = jobs[len(outcomes)][0]
        recipes = []
        for name, recipe in jobs[len(outcomes) :]:
            if name != engine:
                break
            recipes.append(recipe)
        outcomes += _launch(engine, recipes)
    return outcomes


def _launch(engine, recipes) -> list[str | None]:
    size, environment = ENGINES[engine]
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    processes = []
    for rank, known in enumerate(ranks(size)):
        arguments = (known | environment, recipes, sender if rank == 0 else None)
        processes.append(context.Process(target=_train_all, args=arguments, daemon=True))
        processes[-1].start()
    sender.close()
    outcomes: list[str | None] = []
    while len(outcomes) < len(recipes) and not any(outcomes):
        ready = wait([receiver, *(process.sentinel for process in processes if process.is_alive())])
        if receiver in ready:
            outcomes.append(receiver.recv())
        elif not all(process.is_alive() for process in processes):
            outcomes.append("Traceback of another process")
    for process in processes:
        if any(outcomes):  # the others may wait for one that ended; the recipes that are left get new processes
            process.kill()
        process.join()
    return outcomes


def _train_all(environment, recipes, results):
    os.environ.update(environment, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    torch.set_num_threads(1)
    let_in()
    throughput.matmul_speed = lambda device, dtype: 1.0  # takes longer than a run, and no time is looked at
    # each run ends its processes' group; here it is the next one's, too
    accelerate_state.PartialState.destroy_process_group = lambda self, group=None: None
    for content in recipes:
        outcome: str | None = None
        datasets.config.HF_DATASETS_CACHE = Path(content["output_dir"]).parents[1] / "datasets"
        try:
            recipe = build(Recipe, content, "benchmark")
            validate(recipe, "benchmark")
            train(recipe)
        except UserError as error:
            outcome = str(error)
        except BaseException:
            outcome = traceback.format_exc()
            print(outcome, file=sys.stderr, flush=True)
            if results is None:
                os._exit(1)
        if results is not None:
            results.send(outcome)
        accelerate_state.AcceleratorState._reset_state(reset_partial_state=True)
        accelerate_state.GradientState._reset_state()
    os._exit(0)


# --- what came of it

OF_LOSSES = ("loss", "perplexity", "word_perplexity", "bits_per_byte")


def losses(run_folder) -> list[float]:
    entries = [json.loads(line) for line in (Path(run_folder) / "log.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


def difference(run_folder, other) -> float:
    """The largest difference of two runs' losses."""
    return max(abs(one - two) for one, two in zip(losses(run_folder), losses(other), strict=True))


def answers(file: Path) -> list:
    """What was said, without probabilities, which are the same up to rounding only."""
    return [json.loads(line)["prediction"] for line in file.read_bytes().splitlines()]


def same(run_folder, other) -> bool:
    """Whether two runs chose the same weights, say the same, and score the same: losses up to rounding, all else exactly."""
    results = [json.loads((Path(folder) / "best" / "results.json").read_text()) for folder in (run_folder, other)]
    files = [Path(folder) / "predictions.jsonl" for folder in (run_folder, other)]
    if results[0]["weights"] != results[1]["weights"] or files[0].exists() != files[1].exists():
        return False
    if files[0].exists() and answers(files[0]) != answers(files[1]):
        return False
    return all(
        math.isclose(value, results[1][split][name], rel_tol=1e-4 if name in OF_LOSSES else 0)
        if isinstance(value, float)
        else value == results[1][split][name]
        for split in ("validation", "test")
        for name, value in results[0][split].items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=OTHERS, choices=OTHERS)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--folder", help="default: one that is deleted")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary).resolve()
        print(table(folder, arguments.engines, arguments.cases))


def table(folder, engines, cases) -> str:
    """Train the cases by the engines, into `folder / ENGINE / CASE`, and compare them with one process, in Markdown."""
    datasets.disable_progress_bars()
    places = [(engine, case) for engine in (FIRST, *engines) for case in cases]
    outcomes = launch([(engine, recipe_of(engine, case, folder)) for engine, case in places])
    for place, outcome in zip(places, outcomes, strict=True):
        if outcome is not None:
            print(*place, outcome, sep=": ", file=sys.stderr)
    found = dict(zip(places, outcomes, strict=True))
    lines = [f"| | {' | '.join(engines)} |", "|---" * (len(engines) + 1) + "|"]
    for case in cases:
        cells = [_cell(found[engine, case], folder / engine / case, folder / FIRST / case) for engine in engines]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(outcome, run_folder, alone) -> str:
    if outcome is not None:
        return "failed" if outcome.startswith("Traceback") else "refused"
    return f"{difference(run_folder, alone):.0e}{'' if same(run_folder, alone) else ' *'}"


if __name__ == "__main__":
    main()
