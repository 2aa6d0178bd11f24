"""Engines on CPUs: accelerate leaves FSDP and tensor parallelism to GPUs; here processes on a CPU are let in, and gloo shards
for real; context parallelism, which torch has for the kernels of GPUs, is given that of CPUs. For tests and benchmarks.

    torchrun --standalone --nproc-per-node 2 benchmarks/on_cpu.py train RECIPE [key=value …]
"""

import functools
import importlib.util
import inspect
import os
import socket
import sys
import textwrap

import torch
from accelerate import accelerator, state
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.experimental._context_parallel import _attention

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}


def parallel(**sizes):
    return {
        "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
        **{f"PARALLELISM_CONFIG_{name.upper()}_SIZE": str(size) for name, size in sizes.items()},
    }


def zero(stage):
    return {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage), "DS_ACCELERATOR": "cpu"}


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
    "CP on 2": (2, FSDP2 | parallel(cp=2)),
    "FSDP2 x CP 2x2": (4, FSDP2 | parallel(dp_shard=2, cp=2)),
}
if importlib.util.find_spec("deepspeed"):
    ENGINES |= {"ZeRO-2 on 2": (2, zero(2)), "ZeRO-3 on 2": (2, zero(3)), "ZeRO-3 on 4": (4, zero(3))}


def command(engine, *words):
    """What starts a Python file, or a module (`-m`, name), in the processes of an engine, and their environment."""
    processes, environment = ENGINES[engine]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    known = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    return [sys.executable, *launcher, *map(str, words)], os.environ | known | environment


def ranks(processes):
    """What a launcher would tell each of several processes of one machine, so that they find each other; one is told nothing."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        known = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "ACCELERATE_USE_CPU": "true"}
    known |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
    return [known | dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)) for rank in range(processes)]


class RingAttention(torch.autograd.Function):
    """Attention along a ring of processes as torch has it, by its kernel for CPUs, for which it registers none."""

    @staticmethod
    def forward(ctx, mesh, query, key, value, settings):
        ring = (mesh.get_group(), 2, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu)
        output, sums = _attention._templated_ring_attention(*ring, query, key, value, **settings)
        ctx.save_for_backward(query, key, value, output, sums)
        ctx.mesh, ctx.settings = mesh, settings
        return output

    @staticmethod
    def backward(ctx, gradient):
        query, key, value, output, sums = ctx.saved_tensors
        ring = (ctx.mesh.get_group(), 2, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward)
        gradients = _attention._templated_ring_attention_backward(
            *ring, gradient.contiguous(), "grad_out", query, key, value, output, sums, **ctx.settings
        )
        return None, *gradients[:3], None


def attend_along_the_ring(usual):
    @functools.wraps(usual)  # torch puts its own in the place of that name
    def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        if not isinstance(query, DTensor):
            return usual(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        assert attn_mask is None
        mesh, placements = query.device_mesh, query.placements
        query, key, value = (states.to_local() for states in (query, key, value))
        groups = query.shape[1] // key.shape[1]
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
        settings = {"is_causal": is_causal, "dropout_p": dropout_p, "scale": scale}
        return DTensor.from_local(RingAttention.apply(mesh, query, key, value, settings), mesh, placements)

    return attend


def let_in():
    torch.nn.functional.scaled_dot_product_attention = attend_along_the_ring(
        torch.nn.functional.scaled_dot_product_attention
    )
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        os.environ["ACCELERATE_USE_CPU"] = "false"
        state.PartialState._prepare_backend = lambda self, *_: ("gloo", DistributedType.MULTI_CPU)
        return
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
