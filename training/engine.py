"""How a model lies on the processes of a run: whole on each (one process, DDP), in parts (FSDP2, tensor parallel, both).

The engines are accelerate's, chosen by its configuration file (`accelerate launch --config_file`); nothing else in a run
asks which one is at work.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.nn.functional import pad
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel
from transformers.distributed import DistributedConfig
from transformers.distributed.tensor_parallel import (
    ALL_PARALLEL_STYLES,
    TensorParallelLayer,
    apply_tensor_parallelism,
)
from transformers.initialization import no_init_weights
from transformers.integrations import tensor_parallel

from ..configuration.errors import UserError
from ..modeling.attention import MultiHeadAttention
from ..modeling.positions import POSITION_CLASSES, Positions, ScorePositions
from ..recipes.schema import OptimizationRecipe, Recipe
from .adapters import save_model
from .checkpoints import TRAINED_FILE, has_adapters, held_weights, load_checkpoint
from .optimization import make_optimizers

FUSED_ON = ("cpu", "cuda", "hpu", "mps", "mtia", "xpu")  # devices for which torch has AdamW as one kernel


def require_known_engine() -> None:
    """
    Raises:
        UserError: accelerate's launcher asks for an engine that the loop does not know.
    """
    if is_set("ACCELERATE_USE_MEGATRON_LM"):
        raise UserError(
            "the launcher's file asks for Megatron-LM, which is not supported; use FSDP2 with tensor parallelism: "
            "`trefoil launch fsdp2-tp`"
        )
    if is_set("ACCELERATE_USE_FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise UserError("the launcher's file asks for FSDP1, which is not supported; set fsdp_version: 2")
    if not is_set("ACCELERATE_USE_PARALLELISM_CONFIG"):
        return
    if (size := os.environ.get("PARALLELISM_CONFIG_SP_SIZE", "1")) != "1":
        raise UserError(
            f"the launcher's file asks for sequence parallelism (parallelism_config_sp_size: {size}), which is DeepSpeed's and "
            "not supported; for sequences too long for one GPU set parallelism_config_cp_size: `trefoil launch fsdp2-cp`"
        )
    if (size := os.environ.get("PARALLELISM_CONFIG_CP_SIZE", "1")) != "1" and not is_set("ACCELERATE_USE_FSDP"):
        raise UserError(
            f"the launcher's file asks for context parallelism (parallelism_config_cp_size: {size}) without FSDP2, which "
            "accelerate lays it upon: `trefoil launch fsdp2-cp`"
        )


def is_set(variable: str) -> bool:
    """Whether accelerate's launcher asks for something."""
    return os.environ.get(variable, "false").lower() == "true"


class Engine:
    """
    Args:
        accelerator: With the engine that it was launched with.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        parallelism = accelerator.parallelism_config
        self.tensor_parallel = 1 if parallelism is None else parallelism.tp_size
        self.context_parallel = 1 if parallelism is None else parallelism.cp_size
        # neighbours have the same batch: those that split layers all of it, those that split sequences a part each
        self.parts = accelerator.num_processes // self.tensor_parallel
        self.part = accelerator.process_index // self.tensor_parallel
        self.data_size = self.parts // self.context_parallel
        self.data_rank = self.part // self.context_parallel

    @property
    def name(self) -> str:
        names = ["FSDP2"] * self.accelerator.is_fsdp2
        names += ["context parallel"] * (self.context_parallel > 1) + ["tensor parallel"] * (self.tensor_parallel > 1)
        return " with ".join(names) or ("DDP" if self.accelerator.num_processes > 1 else "one process")

    @property
    def shards(self) -> bool:
        """Whether a process has but a part of the weights."""
        return self.accelerator.is_fsdp2 or self.tensor_parallel > 1

    @property
    def in_parts(self) -> bool:
        """Whether each process writes its own part of a checkpoint."""
        return self.shards

    @property
    def fuses(self) -> bool:
        """Whether torch has a kernel that takes AdamW's whole step. It takes tensors alone or parts of tensors alone, and
        tensor parallelism leaves some weights whole."""
        return self.tensor_parallel == 1 and self.accelerator.device.type in FUSED_ON

    @property
    def bare(self) -> PreTrainedModel:
        """The model without what the engine put around it."""
        return self.accelerator.unwrap_model(self.model)

    def require(self, recipe: Recipe) -> None:
        """
        Raises:
            UserError: The engine cannot do what the recipe wants.
        """
        if self.shards and recipe.optimization.optimizer == "muon":
            raise UserError(
                f"optimization.optimizer='muon' works on whole matrices, of which {self.name} leaves each process a part; "
                "set optimization.optimizer=adamw, or launch with DDP"
            )
        if self.shards and recipe.adapter.kind is not None:
            raise UserError(
                f"adapter.kind={recipe.adapter.kind!r} does not go with {self.name}, of which no adapter is gathered; launch "
                "with DDP"
            )
        if recipe.training.compile and self.tensor_parallel > 1:
            raise UserError(
                "training.compile=true finds no way back through layers that tensor parallelism splits; set it to false, or "
                "launch with FSDP2 alone (`trefoil launch fsdp2`)"
            )
        if self.context_parallel == 1:
            return
        if (recipe.task, recipe.options.get("documents")) != ("causal-lm", "stream"):
            raise UserError(
                "context parallelism knows no mask but the causal one, so it trains task=causal-lm on one running text; set "
                "options.documents=stream, or launch without parallelism_config_cp_size (`trefoil launch fsdp2`)"
            )
        if recipe.training.compile:  # would take each part for the whole, and say nothing
            raise UserError("training.compile=true does not see context parallelism; set it to false")

    def require_model(self, model: PreTrainedModel) -> None:
        """
        Raises:
            UserError: The engine cannot lay out this model.
        """
        processes, instead = self.tensor_parallel, "launch with FSDP2 alone (`trefoil launch fsdp2`)"
        if self.context_parallel > 1:
            self._require_plain_attention(model, instead)
        if processes == 1:
            return
        if not any(".layers." in name for name in model.tp_plan):
            raise UserError(
                f"tensor parallelism splits the layers of transformers, which a {model.config.model_type} has not; {instead}"
            )
        for attention in model.modules():
            # where norms are over the whole projections, every process has all heads
            if not isinstance(attention, MultiHeadAttention) or attention.norm_projections:
                continue
            config = attention.config
            for name in ("num_attention_heads", "num_key_value_heads"):
                if getattr(config, name) % processes:
                    raise UserError(
                        f"{name}={getattr(config, name)} cannot be divided among the {processes} processes of tensor "
                        f"parallelism; set parallelism_config_tp_size to a divisor, or {instead}"
                    )
            if config.activation_dropout and config.intermediate_size % processes:  # random numbers would part
                raise UserError(
                    f"intermediate_size={config.intermediate_size} cannot be divided among the {processes} processes of tensor "
                    f"parallelism, as activation_dropout wants; set that to 0, or {instead}"
                )

    @staticmethod
    def _require_plain_attention(model: PreTrainedModel, instead: str) -> None:
        config, problem = model.config, None
        if issubclass(POSITION_CLASSES.get(config.position_embedding_type, Positions), ScorePositions):
            problem = f"position_embedding_type={config.position_embedding_type!r} adds to the scores"
        elif "sliding_attention" in config.layer_types:
            problem = "layer_types has sliding_attention"
        elif config.attn_logit_softcapping is not None:
            problem = f"attn_logit_softcapping={config.attn_logit_softcapping} caps the scores"
        elif config._attn_implementation != "sdpa":
            problem = f"attn_implementation is {config._attn_implementation!r}"
        if problem is not None:
            raise UserError(
                f"context parallelism splits torch's own attention with its causal mask alone, and {problem}; {instead}"
            )

    def prepare(
        self, model: PreTrainedModel, recipe: OptimizationRecipe, checkpoint: Path | None = None
    ) -> tuple[torch.nn.Module, list[torch.optim.Optimizer]]:
        """The model, laid out over the processes, and its optimisers, both as a checkpoint left them.

        Raises:
            UserError: The checkpoint was written by another optimiser or for another model.
        """
        self.model_class, self.config = type(model), copy.deepcopy(model.config)
        self.config.architectures = [self.model_class.__name__]
        if self.tensor_parallel > 1:
            self._split(model)
        self.model, optimizers = self._lay_out(model, make_optimizers(model, recipe, self.fuses), checkpoint)
        self.optimizers = [getattr(optimizer, "optimizer", optimizer) for optimizer in optimizers]  # torch's own
        self.is_settled = not isinstance(self.model, DistributedDataParallel)
        return self.model, optimizers

    def _lay_out(
        self, model: PreTrainedModel, optimizers: list[torch.optim.Optimizer], checkpoint: Path | None
    ) -> tuple[torch.nn.Module, list[Any]]:
        with _embeddings_in_one_unit(model):
            prepared, *laid_out = self.accelerator.prepare(model, *optimizers)
        if checkpoint is not None:
            load_checkpoint(checkpoint, prepared, optimizers)
        return prepared, laid_out

    def release(self) -> None:
        """Let go of the model and its optimisers."""
        del self.model, self.optimizers
        self.accelerator.free_memory()

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a checkpoint holds of the weights, by name, and of the optimisers. Every process asks."""
        return held_weights(self.model), get_optimizer_state_dict(self.model, self.optimizers)

    def settle(self, batch: dict[str, torch.Tensor]) -> None:
        """After its first backward pass, DDP sorts the gradients that it sums anew, and more than two then add up to other
        roundings. That pass is taken here, so that a run that goes on sums as one that was never stopped."""
        if not self.is_settled:
            self.model(**batch).loss.backward()
            self.model.zero_grad()
            self.is_settled = True

    def _split(self, model: PreTrainedModel) -> None:
        """Tensor parallelism (Shoeybi et al. 2019) by the model's own plan: projections into a sublayer by column, those
        out of it by row, embeddings by vocabulary."""
        config = DistributedConfig(tp_size=self.tensor_parallel)
        mesh = self.accelerator.torch_device_mesh["tp"]
        plan, _, _ = model._resolve_parallel_plans(config)
        for name, style in plan.items():
            if style == "replicated_with_grad_allreduce":
                plan[name] = _NORM_OF_HEADS
        for name, module in model.named_modules():
            stack = name.rpartition(".")[0]
            if isinstance(module, ScorePositions) and plan.get(f"{stack}.layers.0.self_attn.q_proj") == "colwise":
                plan[name] = _BIAS_OF_HEADS
        # a plan splits each parameter by its name, so one that has several is tied again afterwards
        once = {id(parameter): name for name, parameter in model.named_parameters()}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            if once[id(parameter)] != name:
                owner, _, last = name.rpartition(".")
                setattr(model.get_submodule(owner), last, torch.nn.Parameter(parameter.detach()))
        apply_tensor_parallelism(model, mesh, plan)
        model.tie_weights()
        model.config.distributed_config = config  # where accelerate looks for it
        # accelerate 1.15 asks transformers for a class that went in 5.18
        if not hasattr(tensor_parallel, "ReplicateParallel"):
            tensor_parallel.ReplicateParallel = _Replicated

    @contextmanager
    def share_of(self, batch: dict[str, torch.Tensor], is_last: bool) -> Iterator[dict[str, Any]]:
        """What this process computes of a batch: all of it, or its part of each row (ring attention; Liu et al. 2023).
        The backward pass is within, too; after that of the last one of a step, processes exchange their gradients."""
        with nullcontext() if is_last else self.accelerator.no_sync(self.model):
            if self.context_parallel == 1:
                yield batch
            else:
                with self._part_of(batch) as part:
                    yield part

    @contextmanager
    def _part_of(self, batch: dict[str, torch.Tensor]) -> Iterator[dict[str, Any]]:
        rows, length = batch["input_ids"].shape
        # of 2N pieces each process takes one from the front and one from the back, so that all have as much to do; what
        # fills up stands behind all that looks at it
        fill = -length % (2 * self.context_parallel)
        positions = torch.arange(length, device=batch["input_ids"].device).expand(rows, -1)
        parts = {
            "input_ids": pad(batch["input_ids"], (0, fill)),
            "shift_labels": pad(batch["shift_labels"], (0, fill), value=-100),
            "position_ids": pad(positions, (0, fill)),
        }
        tensors = list(parts.values())
        with self.accelerator.maybe_context_parallel(tensors, [1] * len(tensors), set(tensors)):
            # without masks of its own, each layer takes the causal one
            masks = dict.fromkeys(self.config.layer_types)
            yield parts | {"labels": parts["shift_labels"], "attention_mask": masks}

    @contextmanager
    def whole(self) -> Iterator[PreTrainedModel]:
        """The model with all its weights on each process, for what every process does by itself: evaluation, generation,
        saving. A copy where it lies in parts, and as it is written where its layers are compiled: that is for training,
        and would be done anew for caches and for steps of one token."""
        if not self.shards:
            with torch.compiler.set_stance("force_eager"):
                yield self.bare
            return
        with torch.device(self.accelerator.device), no_init_weights():
            model = self.model_class(copy.deepcopy(self.config))
        model.tie_weights()  # which is left out with the initialization
        if self.bare.can_generate():
            model.generation_config = self.bare.generation_config
        here = model.state_dict()
        for name, tensor in self._whole_weights():
            here[name].copy_(tensor)
        with self._autocast():
            yield model

    def _whole_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """By name; every process takes them, one after the other."""
        return ((name, full(each)) for name, each in self.bare.state_dict().items())

    def _autocast(self) -> AbstractContextManager:
        return self.accelerator.autocast()

    def save(self, folder: Path, weights: dict[str, torch.Tensor] | None, model: PreTrainedModel | None = None) -> None:
        """Write a model as `save_pretrained` does: one of `whole`, or this one with weights that are whole; with neither,
        all but the weights. Of a model with adapters, weights that are given are written by the names that they have."""
        bare = self.bare
        if model is not None:
            save_model(model, folder)
        elif weights is not None and not has_adapters(bare):
            bare.save_pretrained(folder, state_dict=weights, save_original_format=False)  # by the names that they have
        else:
            if weights is not None:
                save_file(weights, folder / TRAINED_FILE)
            self.config.save_pretrained(folder)
            if bare.can_generate():
                bare.generation_config.save_pretrained(folder)


def full(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor, of which this process may have a part. Every process calls this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class _Replicated(TensorParallelLayer):
    """What a plan does not name is whole on every process.

    Its gradients are copied: where a batch has one row, those of two parameters may lie in the same memory (a view of the
    other), and what is accumulated would be added to both twice.
    """

    def should_use_local_tensors(self, module: torch.nn.Module) -> bool:
        return True

    @contextmanager
    def context_around_forward(self, module: torch.nn.Module, mesh: torch.distributed.DeviceMesh) -> Iterator[None]:
        with super().context_around_forward(module, mesh):
            for parameter in module.parameters(recurse=False):
                if parameter.requires_grad and not parameter.is_leaf:
                    parameter.register_hook(torch.clone)
            yield

    def prepare_module_tp(self, module: torch.nn.Module, mesh: torch.distributed.DeviceMesh) -> None:
        self.install_forward(module, mesh)


class _BiasOfHeads(TensorParallelLayer):
    """What positions add to the scores `(1, H, T, S)`: of all heads those that are on this process."""

    def transform_output_post_forward(
        self, module: torch.nn.Module, output: torch.Tensor, mesh: torch.distributed.DeviceMesh
    ) -> torch.Tensor:
        whole = DTensor.from_local(output, mesh, [Replicate()], run_check=False)
        return whole.redistribute(placements=[Shard(1)]).to_local()


class _NormOfHeads(TensorParallelLayer):
    """A norm that all heads share, whole on every process. Each sees its own heads, so gradients are summed; transformers'
    style would sum those of accumulated batches again and again."""

    @contextmanager
    def context_around_forward(self, module: torch.nn.Module, mesh: torch.distributed.DeviceMesh) -> Iterator[None]:
        parameters = dict(module._parameters)
        for name, parameter in parameters.items():
            if parameter is not None:
                whole = DTensor.from_local(parameter, mesh, [Replicate()], run_check=False)
                module._parameters[name] = whole.to_local(grad_placements=[Partial()])  # type: ignore[assignment]
        try:
            yield
        finally:
            module._parameters.update(parameters)


_BIAS_OF_HEADS, _NORM_OF_HEADS = "trefoil_bias_of_heads", "trefoil_norm_of_heads"
ALL_PARALLEL_STYLES.register(_BIAS_OF_HEADS, _BiasOfHeads())
ALL_PARALLEL_STYLES.register(_NORM_OF_HEADS, _NormOfHeads())


@contextmanager
def _embeddings_in_one_unit(model: PreTrainedModel) -> Iterator[None]:
    """FSDP2's units in accelerate are the layers, the input and the output embedding. Where yet another module has the weight
    of one of them, as in an encoder-decoder, torch refuses that unit; such weights are left to the root, which has all."""
    names = ("get_input_embeddings", "get_output_embeddings")
    embeddings = [embedding for name in names if (embedding := getattr(model, name)()) is not None]
    weights = {id(weight) for embedding in embeddings for weight in embedding.parameters(recurse=False)}
    sharing = [
        module for module in model.modules() if any(id(each) in weights for each in module.parameters(recurse=False))
    ]
    if all(module in embeddings for module in sharing):
        yield
        return
    for name in names:
        setattr(model, name, lambda: None)
    try:
        yield
    finally:
        for name in names:
            delattr(model, name)
