"""What it takes to begin: imports, the command line, and a large checkpoint."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMPORTS = {
    "`import torch, transformers`": ("-c", "import torch, transformers"),
    "`import trefoil`": ("-c", "import trefoil"),
    "`trefoil --help`": ("-m", "trefoil", "--help"),
}

LOADED = """
import json, sys, torch
from benchmarks.speed.contest import Peak
from trefoil.modeling.decoder import TrefoilDecoderForCausalLM
with Peak(torch.device("cpu")) as peak:
    model = TrefoilDecoderForCausalLM.from_pretrained(sys.argv[1])
    total = sum(parameter.sum().item() for parameter in model.parameters())
print(json.dumps([peak.bytes, sum(parameter.nbytes for parameter in model.parameters())]))
"""


def seconds_of(words: tuple[str, ...]) -> float:
    """Of a fresh process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def measure(rounds: int = 5) -> dict[str, float]:
    """Seconds of each start, in turns, and what a checkpoint of 1 GB takes to be loaded, in copies of itself."""
    taken: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(rounds):
        for name, words in IMPORTS.items():
            taken[name].append(seconds_of(words))
    return {name: statistics.median(seconds) for name, seconds in taken.items()} | {"copies": copies_of_a_checkpoint()}


def copies_of_a_checkpoint(gigabytes: float = 1.0) -> float:
    """The memory that loading a checkpoint takes at most, in sizes of the checkpoint."""
    from trefoil.configuration.presets import preset_config
    from trefoil.modeling.decoder import TrefoilDecoderForCausalLM

    config = preset_config("gpt2")
    layers = max(
        1, round((gigabytes * 1e9 / 4 - config.vocab_size * config.hidden_size) / (12 * config.hidden_size**2))
    )
    config = preset_config("gpt2", num_hidden_layers=layers)
    with tempfile.TemporaryDirectory() as folder:
        TrefoilDecoderForCausalLM(config).save_pretrained(folder)
        words = [sys.executable, "-c", LOADED, folder]
        process = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[2])
    peak, size = json.loads(process.stdout.splitlines()[-1])
    return peak / size
