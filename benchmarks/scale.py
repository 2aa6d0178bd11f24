"""What scale costs: how long training stands still for a checkpoint, and the memory of a process by each engine.

    python -m benchmarks.scale                       # all, for docs/scale.md: 5 minutes on two calm cores
    python -m benchmarks.scale checkpoints|memory|computed [--hidden-size 768] [--rounds 3]

Tables go to standard output. Checkpoints are written by one process that trains on tiny batches, in turns as training does
it and waiting for the disk. The memory is that of the weights, gradients and moments on a process, per parameter, and the
most that was resident until the first step was done, above what was there before the model; processes on a CPU are let into the engines by benchmarks/on_cpu.py.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from trefoil.configuration.presets import preset_config
from trefoil.modeling.decoder import TrefoilDecoderForCausalLM
from trefoil.recipes.schema import OptimizationRecipe
from trefoil.training.checkpoint_writer import CheckpointWriter
from trefoil.training.engine import Engine, local

from . import on_cpu
from .speed.contest import Peak

HIDDEN_SIZES = {"checkpoints": 768, "memory": 576}  # 124 and 77 million parameters
GIGABYTE = 1e9
# bytes a parameter: weights, gradients, two moments of AdamW
EXPECTED = {"one process": 16, "DDP on 2": 16, "FSDP2 on 2": 16 / 2, "FSDP2 on 4": 16 / 4, "TP on 2": 16 / 2}


class Training:
    """A GPT-2 of some width, prepared by the engine of the launch, and its steps on tiny batches."""

    def __init__(self, hidden_size: int) -> None:
        self.accelerator = Accelerator()
        config = preset_config(
            "gpt2", hidden_size=hidden_size, intermediate_size=4 * hidden_size, num_attention_heads=8
        )
        model = TrefoilDecoderForCausalLM(config)
        self.parameters = model.num_parameters()
        self.engine = Engine(self.accelerator)
        self.model, self.optimizers = self.engine.prepare(model, OptimizationRecipe(optimizer="adamw"))
        self.ids = torch.randint(3, config.vocab_size, (1, 16), generator=torch.Generator().manual_seed(0))

    def step(self) -> float:
        """Seconds of a step."""
        started = time.perf_counter()
        self.accelerator.backward(self.model(input_ids=self.ids, labels=self.ids).loss)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - started


def row(*cells) -> str:
    return f"| {' | '.join(map(str, cells))} |"


# --- checkpoints


def checkpoints(hidden_size, rounds, parent):
    """How long training stands still for a checkpoint, where it goes on meanwhile and where it waits."""
    training = Training(hidden_size)
    still = {"beside": [], "waiting": []}
    calm, disturbed = [], []
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        writer = CheckpointWriter(Path(folder), training.engine, keep=1)
        for number in range(2 * rounds + 1):
            calm += [training.step() for _ in range(2)]
            seconds = writer.begin(number, {}, training.engine.save)
            how = "waiting" if number % 2 else "beside"
            while writer.is_writing and how == "beside":
                disturbed.append(training.step())
            started = time.perf_counter()
            writer.finish()
            if number:  # the first one allocates
                still[how].append(seconds + time.perf_counter() - started)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))
    beside, waiting = (statistics.median(still[how]) for how in ("beside", "waiting"))
    print(f"A checkpoint of {training.parameters / 1e6:.0f} million parameters, {size / GIGABYTE:.2f} GB:\n")
    print(row("checkpoints", f"seconds that training stood still (medians of {rounds})"))
    print(row("---", "---:"))
    print(row("training waits for the disk", f"{waiting:.2f}"))
    print(row("training goes on", f"{beside:.2f}"))
    print(
        f"\n{beside / waiting:.0%} of the time that waiting takes. A step took {statistics.median(calm):.2f} s, and "
        f"{statistics.median(disturbed or calm):.2f} s while a checkpoint was written.\n"
    )


# --- memory


def held(training):
    """Bytes of the weights, gradients and moments that lie on this process."""
    tensors = [tensor for weight in training.model.parameters() for tensor in (weight, weight.grad)]
    tensors += [value for one in training.optimizers for state in one.state.values() for value in state.values()]
    return sum(local(tensor).nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))


def measure_memory(hidden_size):
    """In each process of a launch; the first prints what all found."""
    on_cpu.let_in()
    Accelerator()
    with Peak(torch.device("cpu")) as making:
        training = Training(hidden_size)
        training.step()
    training.accelerator.backward(training.model(input_ids=training.ids, labels=training.ids).loss)
    numbers = [held(training), making.bytes]
    found = gather_object([[number / training.parameters for number in numbers]])
    if training.accelerator.is_main_process:
        print(json.dumps({"parameters": training.parameters, "found": found}))


def memory(hidden_size):
    """Of each engine, bytes a parameter."""
    rows = []
    for engine, expected in EXPECTED.items():
        words, environment = on_cpu.command(
            engine, "-m", "benchmarks.scale", "measure-memory", "--hidden-size", hidden_size
        )
        process = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        content = json.loads(process.stdout.splitlines()[-1])
        here = [each for each, _ in content["found"]]
        making = max(peak for _, peak in content["found"])
        rows.append(row(engine, f"{expected:g}", ", ".join(f"{each:.1f}" for each in here), f"{making:.1f}"))
    print(f"Bytes a parameter on each process, of a model of {content['parameters'] / 1e6:.0f} million parameters:\n")
    print(row("engine", "computed", "held", "most that is resident until the first step is done"))
    print(row("---", "---:", "---:", "---:"))
    print("\n".join(rows), "\n")


def computed():
    """What other models take."""
    counts = (1, 2, 4, 8, 64)
    print("Computed: weights, gradients and moments on each process, in GB, without activations:\n")
    print(row("parameters", "checkpoint", "one process, DDP", *(f"FSDP2 on {count}" for count in counts[1:])))
    print(row(*["---:"] * (2 + len(counts))))
    for name, parameters in (("124 million", 124e6), ("1 billion", 1e9), ("8 billion", 8e9)):
        sizes = [12 * parameters, *(16 * parameters / count for count in counts)]
        print(row(name, *(f"{size / GIGABYTE:.1f}" if size < 1e11 else f"{size / GIGABYTE:.0f}" for size in sizes)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("checkpoints", "memory", "computed", "measure-memory"))
    parser.add_argument("--hidden-size", type=int, help="of the model, which has 12 layers and GPT-2's vocabulary")
    parser.add_argument("--rounds", type=int, default=3, help="checkpoints of each kind")
    parser.add_argument("--folder", type=Path, help="where checkpoints are written; default: a temporary folder")
    arguments = parser.parse_args()
    part, sizes = arguments.part, dict(HIDDEN_SIZES)
    if arguments.hidden_size is not None:
        sizes = dict.fromkeys(sizes, arguments.hidden_size)
    if part == "measure-memory":
        return measure_memory(sizes["memory"])
    if part in (None, "memory"):
        memory(sizes["memory"])
    if part in (None, "checkpoints"):
        checkpoints(sizes["checkpoints"], arguments.rounds, arguments.folder)
    if part in (None, "computed"):
        computed()


if __name__ == "__main__":
    main()
