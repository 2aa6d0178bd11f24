"""DeepSpeed's ZeRO as one more engine (Rajbhandari et al. 2020): stage 2 leaves each process a part of the gradients and
moments, stage 3 of the weights too. It needs `pip install deepspeed`; without it nothing here is asked for.
"""

import importlib.util
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, DistributedType
from accelerate.utils.deepspeed import DeepSpeedEngineWrapper
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from ..configuration.errors import UserError
from ..modeling.recurrence import RecurrentDirection
from ..recipes.schema import Recipe
from .checkpoints import first_names, load_tensors, load_weights
from .engine import Engine, is_set

INSTEAD = "FSDP2 leaves each process as small a part: `trefoil launch fsdp2`"
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW
MORE_GPUS = "is not supported; set none, and share among more GPUs"
# what a launcher's file may say of DeepSpeed, and is not silently passed over: its variable, what does no harm, its key
OTHER_SETTINGS = [
    ("ACCELERATE_DEEPSPEED_CONFIG_FILE", None, "deepspeed_config_file", "is not read; set zero_stage in its place"),
    ("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none", "offload_optimizer_device", MORE_GPUS),
    ("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none", "offload_param_device", MORE_GPUS),
    ("ACCELERATE_GRADIENT_CLIPPING", "auto", "gradient_clipping", "is the recipe's: optimization.max_grad_norm"),
    (
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
        "1",
        "gradient_accumulation_steps",
        "is the recipe's: batches.tokens_per_device",
    ),
]


def deepspeed_plugin(recipe: Recipe) -> DeepSpeedPlugin | None:
    """What accelerate is told of DeepSpeed; None where nobody asks for it.

    Raises:
        UserError: It is not installed, or the launcher's file asks for what the loop does not know.
    """
    if not is_set("ACCELERATE_USE_DEEPSPEED"):
        return None
    if importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            f"the launcher's file asks for DeepSpeed, which is not installed; pip install deepspeed, or {INSTEAD}"
        )
    for variable, usual, key, problem in OTHER_SETTINGS:
        if os.environ.get(variable, usual) != usual:
            raise UserError(f"the launcher's file says {key}: {os.environ[variable]}, which {problem}")
    if (stage := os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")) not in ("2", "3"):
        raise UserError(f"the launcher's file says zero_stage: {stage}; set 2 or 3")
    if (precision := recipe.training.mixed_precision) in ("fp16", "fp8"):
        raise UserError(f"training.mixed_precision={precision!r} does not go with DeepSpeed; set bf16, or {INSTEAD}")
    config = {
        "zero_optimization": {"stage": int(stage)},
        "gradient_clipping": recipe.optimization.max_grad_norm or 0.0,
        "train_micro_batch_size_per_gpu": 1,  # the loop counts labels, and divides by them
        "gradient_accumulation_steps": 1,
        "bf16": {"enabled": False},  # weights stay in float32, as by every engine
        "fp16": {"enabled": False},
        "torch_autocast": {
            "enabled": precision == "bf16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # of which gradients would be summed in bfloat16
        },
    }
    return DeepSpeedPlugin(hf_ds_config=config)


def make_engine(accelerator: Accelerator) -> Engine:
    """The engine that a run was launched with."""
    return ZeRO(accelerator) if accelerator.distributed_type == DistributedType.DEEPSPEED else Engine(accelerator)


class ZeRO(Engine):
    """The model under DeepSpeed. Checkpoints are whole: the first process writes what it gathers."""

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__(accelerator)
        # of what DeepSpeed calls
        warnings.filterwarnings("ignore", "`torch.distributed.*is deprecated", FutureWarning)
        unset_hf_deepspeed_config()  # for which transformers would make each model in parts, those that are evaluated too

    @property
    def name(self) -> str:
        return f"ZeRO-{self.accelerator.deepspeed_plugin.zero_stage}"

    def require(self, recipe: Recipe) -> None:
        super().require(recipe)
        if recipe.training.compile and self.accelerator.deepspeed_plugin.zero_stage == 3:
            raise UserError(
                "training.compile=true does not go with ZeRO-3, which gathers weights and lets go of them within a layer, so "
                f"that it is compiled again and again; set it to false, or {INSTEAD}"
            )

    @property
    def shards(self) -> bool:
        return True

    @property
    def in_parts(self) -> bool:
        return False

    def _lay_out(
        self, model: PreTrainedModel, optimizers: list[torch.optim.Optimizer], checkpoint: Path | None
    ) -> tuple[torch.nn.Module, list[Any]]:
        from deepspeed.utils import set_z3_leaf_modules

        if checkpoint is not None:
            load_weights(checkpoint, model)
        # gathered once a sequence, and not at each of its steps, of which processes have more or fewer
        set_z3_leaf_modules(model, [RecurrentDirection], raise_if_not_found=False)
        (optimizer,) = optimizers  # no Muon, which works on whole matrices
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.groups = [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
        prepared, _ = self.accelerator.prepare(model, optimizer)
        self.zero = prepared.optimizer
        self.accelerator.deepspeed_engine_wrapped = _Backward(prepared)
        # DeepSpeed lets AdamW make its moments at the first step, which may be left out, or come after a checkpoint
        stage_2 = self.accelerator.deepspeed_plugin.zero_stage == 2
        parts = self.zero.single_partition_of_fp32_groups if stage_2 else self.zero.fp32_partitioned_groups_flat
        for part in parts:
            moments = {name: torch.zeros_like(part) for name in MOMENTS}
            optimizer.state[part] = {"step": torch.zeros((), device=part.device), **moments}
        if stage_2:
            self.zero._lazy_init_hp_params_optimizer_state()
        if checkpoint is not None:
            self._load_moments(checkpoint, prepared.module, optimizer)
        return prepared, [_Step(prepared, optimizer)]

    def release(self) -> None:
        super().release()
        del self.zero

    @contextmanager
    def share_of(self, batch: dict[str, torch.Tensor], is_last: bool) -> Iterator[dict[str, Any]]:
        self.accelerator.gradient_state._set_sync_gradients(is_last)
        yield batch

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        from deepspeed.utils import safe_get_full_optimizer_state

        is_main = self.accelerator.is_main_process
        weights = {name: tensor.cpu() for name, tensor in self._whole_weights() if is_main}
        steps = next(iter(self.optimizers[0].state.values()))["step"]
        moments: dict[str, dict[str, torch.Tensor]] = {}
        for name, parameter in _trained(self.bare):
            moments[name] = {"step": steps}
            for kind in MOMENTS:
                tensor = safe_get_full_optimizer_state(parameter, kind)
                if is_main:
                    moments[name][kind] = tensor.cpu()
        groups = [
            {**{key: value for key, value in group.items() if key != "params"}, "params": names}
            for group, names in zip(self.optimizers[0].param_groups, self.groups, strict=True)
        ]
        return weights, {"state": moments, "param_groups": groups}

    def _load_moments(self, checkpoint: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
        """One parameter's after the other, of which each process takes its part."""
        from deepspeed.utils import safe_set_full_optimizer_state

        for name, parameter in _trained(model):
            size = getattr(parameter, "ds_shape", parameter.shape)
            moments = {kind: torch.empty(size) for kind in MOMENTS}
            steps = torch.empty(())
            wanted = {f"{name}.{kind}": tensor for kind, tensor in moments.items()}
            load_tensors(checkpoint, wanted | {f"{name}.step": steps})
            for kind, tensor in moments.items():
                safe_set_full_optimizer_state(parameter, tensor.to(self.accelerator.device), kind)
        for values in optimizer.state.values():
            values["step"].copy_(steps)

    def _whole_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        from deepspeed.runtime.zero import GatheredParameters

        firsts, parameters = first_names(self.bare), dict(self.bare.named_parameters())
        for name, tensor in self.bare.state_dict().items():
            if name in firsts:
                with GatheredParameters([parameters[firsts[name]]]):
                    yield name, parameters[firsts[name]].detach()
            else:
                yield name, tensor

    def _autocast(self) -> AbstractContextManager:
        config = self.accelerator.deepspeed_plugin.deepspeed_config["torch_autocast"]
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=config["enabled"])


def _trained(model: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, each) for name, each in model.named_parameters() if each.requires_grad)


class _Backward(DeepSpeedEngineWrapper):
    """accelerate's, whose `backward` would take the step too, before anyone has seen the loss of all processes."""

    def backward(self, loss: torch.Tensor, sync_gradients: bool = True, **kwargs: Any) -> None:
        self.engine.set_gradient_accumulation_boundary(is_boundary=sync_gradients)
        self.engine.backward(loss, **kwargs)

    def get_global_grad_norm(self) -> torch.Tensor:
        """Of the gradients that the next step takes; DeepSpeed clips them there."""
        zero = self.engine.optimizer
        if self.engine.zero_optimization_stage() == 2:
            return zero.scaled_global_norm()
        norms = torch.stack([norm.float() for norm in zero._get_norm_groups()])  # -1: one that is not finite
        return torch.where((norms < 0).any(), math.inf, torch.linalg.vector_norm(norms))


class _Step:
    """AdamW as the loop sees it: `step` is DeepSpeed's. A step that is left out is taken, too, with AdamW standing still, so
    that DeepSpeed lets go of the gradients."""

    def __init__(self, engine: Any, optimizer: torch.optim.Optimizer) -> None:
        self.engine, self.optimizer = engine, optimizer
        self.is_taken = False

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    def step(self) -> None:
        self.engine.step()
        self.is_taken = True

    def zero_grad(self) -> None:
        if not self.is_taken:
            self.optimizer.step = lambda closure=None: None  # type: ignore
            self.engine.step()
            del self.optimizer.step
        self.is_taken = False
