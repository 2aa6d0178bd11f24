"""Engines on CPUs: accelerate leaves FSDP and tensor parallelism to GPUs; here processes on a CPU are let in, and gloo shards
for real. For tests and benchmarks.

    torchrun --standalone --nproc-per-node 2 benchmarks/on_cpu.py train RECIPE [key=value …]
"""

import inspect
import os
import sys
import textwrap

from accelerate import accelerator, state

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}


def parallel(**sizes):
    return {
        "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
        **{f"PARALLELISM_CONFIG_{name.upper()}_SIZE": str(size) for name, size in sizes.items()},
    }


# how many processes, and what accelerate's launcher tells them
ENGINES: dict[str, tuple[int, dict[str, str]]] = {
    "one process": (1, {}),
    "DDP on 2": (2, {}),
    "DDP on 3": (3, {}),
    "DDP on 4": (4, {}),
    "FSDP2 on 2": (2, FSDP2),
    "FSDP2 on 4": (4, FSDP2 | {"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}),
    "HSDP 2x2": (4, FSDP2 | parallel(dp_replicate=2, dp_shard=2)),
    "TP on 2": (2, parallel(tp=2)),
    "TP on 4": (4, parallel(tp=4)),
    "FSDP2 x TP 2x2": (4, FSDP2 | parallel(dp_shard=2, tp=2)),
}


def command(engine, *words):
    """What starts a Python file, or a module (`-m`, name), in the processes of an engine, and their environment."""
    processes, environment = ENGINES[engine]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    known = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    return [sys.executable, *launcher, *map(str, words)], os.environ | known | environment


def let_in():
    source = textwrap.dedent(inspect.getsource(state.AcceleratorState.__init__))
    gpus = "elif self.distributed_type in [\n"
    assert source.count(gpus) == 1
    names = {}
    exec(source.replace(gpus, gpus + "DistributedType.MULTI_CPU,\n"), state.__dict__, names)
    state.AcceleratorState.__init__ = names["__init__"]
    many = accelerator.Accelerator.multi_device.fget
    accelerator.Accelerator.multi_device = property(
        lambda self: many(self) or (self.use_distributed and self.parallelism_config is not None)
    )


if __name__ == "__main__":
    from trefoil.cli import main

    let_in()
    sys.exit(main(sys.argv[1:]))
