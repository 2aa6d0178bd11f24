"""Time the optimiser steps of a recipe, alone or against variants of it, interleaved so that a drifting machine is fair.

    python benchmarks/step_time.py RECIPE [key=value …] [--versus key=value … [--versus …]] [--steps 20]

For example, what the attention implementation and the precision change:

    python benchmarks/step_time.py encoder-decoder-translation-multi30k data.path=FOLDER --versus model.attn_implementation=sdpa \
        --versus training.mixed_precision=no
"""

import argparse
import statistics
import tempfile
import time

import datasets
from accelerate.state import AcceleratorState

from trefoil.recipes.schema import load_recipe
from trefoil.training.run import make_accelerator, make_loop, make_reader, prepare
from trefoil.training.run_folder import RunFolder
from trefoil.training.zero import make_engine


def made_ready(recipe_name, overrides, folder):
    """All that the recipe needs before its first step, and its training loop."""
    recipe = load_recipe(recipe_name, [*overrides, f"output_dir={folder}"])
    AcceleratorState._reset_state(reset_partial_state=True)  # one process, several precisions
    engine = make_engine(make_accelerator(recipe))
    run_folder = RunFolder(folder)
    prepared = prepare(make_reader(recipe), engine, run_folder)
    return prepared, make_loop(prepared, engine, run_folder)


def make_stepper(recipe_name, overrides, folder):
    """A function that runs the recipe's next step and returns its seconds and tokens."""
    _, loop = made_ready(recipe_name, overrides, folder)
    steps = loop.data.steps(epoch=0, batch=0)

    def run():
        batch, _ = next(steps)
        started = time.perf_counter()
        values = loop.step(batch)
        return time.perf_counter() - started, values["tokens"]

    return run


def main():
    datasets.disable_progress_bars()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--versus", nargs="+", action="append", default=[], metavar="key=value")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    variants = [[], *arguments.versus]
    with tempfile.TemporaryDirectory() as folder:
        steppers = [
            make_stepper(arguments.recipe, [*arguments.overrides, *variant], f"{folder}/{number}")
            for number, variant in enumerate(variants)
        ]
        for run in steppers:
            for _ in range(3):
                run()
        seconds = [[] for _ in variants]
        tokens = 0
        for _ in range(arguments.steps):
            for run, times in zip(steppers, seconds, strict=True):
                elapsed, tokens_of_step = run()
                times.append(elapsed)
            tokens += tokens_of_step
    base = seconds[0]
    print(f"{'variant':60} {'ms/step':>9} {'tokens/s':>9} {'ratio':>6}  (medians of {arguments.steps} steps)")
    for variant, times in zip(variants, seconds, strict=True):
        ratio = statistics.median(other / own for own, other in zip(base, times, strict=True))
        print(
            f"{' '.join(variant) or 'as it is':60} {1000 * statistics.median(times):9.0f} "
            f"{tokens / sum(times):9,.0f} {ratio:6.2f}"
        )


if __name__ == "__main__":
    main()
