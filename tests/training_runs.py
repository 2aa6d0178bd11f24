"""Recipes of tiny runs, a second or two each, and how to read their logs."""

import json
from pathlib import Path

from trefoil.recipes.schema import Recipe, build, validate

TINY_MODEL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 96, "hidden_dropout": 0.1,
}  # fmt: skip


def merged(content, changes):
    """Nested mappings, those of `changes` put over those of `content`."""
    return content | {
        key: merged(content.get(key) or {}, value) if isinstance(value, dict) else value
        for key, value in changes.items()
    }


def tiny_content(output_dir, **changes):
    """A recipe of 20 steps of Korean to English, as it stands in YAML."""
    steps = changes.get("training", {}).get("max_steps") or 20
    content = {
        "language": ["ko", "en"],
        "output_dir": str(output_dir),
        "data": {
            "embedded": True, "columns": {"source": "ko", "target": "en"},
            "embedded_sizes": {"train": 120, "validation": 10, "test": 6},
        },
        "tokenizer": {"vocab_size": 300},
        "model": {"preset": "encoder-decoder-tiny", "config": dict(TINY_MODEL)},
        "batches": {"tokens_per_batch": 1200},
        "optimization": {"learning_rate": 3e-3, "warmup_steps": min(4, steps)},
        "training": {
            "max_steps": 20, "log_every": 1, "evaluate_every": 1000, "save_every": 6, "trackers": [],
        },
        "evaluation": {"metric": "chrf", "num_beams": 1, "max_new_tokens": 8},
    }  # fmt: skip
    return merged(content, changes)


def tiny_recipe(output_dir, **changes) -> Recipe:
    recipe = build(Recipe, tiny_content(output_dir, **changes), "tiny.yaml")
    validate(recipe, "tiny.yaml")
    return recipe


def losses(run_folder):
    """Step -> loss, as logged; a step that was logged twice is an error."""
    entries = [json.loads(line) for line in (Path(run_folder) / "log.jsonl").read_text().splitlines()]
    found = [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
    assert len(dict(found)) == len(found)
    return dict(found)
