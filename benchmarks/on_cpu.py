"""Engines on CPUs: accelerate leaves FSDP and tensor parallelism to GPUs; here processes on a CPU are let in, and gloo shards
for real. For tests and benchmarks.

    torchrun --standalone --nproc-per-node 2 benchmarks/on_cpu.py train RECIPE [key=value …]
"""

import inspect
import os
import sys
import textwrap

from accelerate import accelerator, state

FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
}
TENSOR_PARALLEL = {"ACCELERATE_USE_PARALLELISM_CONFIG": "true", "PARALLELISM_CONFIG_TP_SIZE": "2"}
# processes, and what tells them of the engine
ENGINES: dict[str, tuple[int, dict[str, str]]] = {
    "one": (1, {}),
    "ddp": (2, {}),
    "fsdp2": (2, FSDP2),
    "fsdp2 on four": (4, FSDP2),
    "tensor parallel": (2, TENSOR_PARALLEL),
    "fsdp2 with tensor parallel": (4, FSDP2 | TENSOR_PARALLEL | {"PARALLELISM_CONFIG_DP_SHARD_SIZE": "2"}),
}


def command(engine, script, *arguments):
    """What starts a Python file in the processes of an engine, and their environment."""
    processes, environment = ENGINES[engine]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    known = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    return [sys.executable, *launcher, *map(str, (script, *arguments))], os.environ | known | environment


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
