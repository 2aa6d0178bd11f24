import pytest
import torch
from conftest import tiny_model

from trefoil.configuration.errors import UserError
from trefoil.configuration.presets import preset_config
from trefoil.modeling.vision_encoder_decoder import TrefoilVisionEncoderDecoderModel
from trefoil.recipes.schema import OptimizationRecipe, TrainingRecipe
from trefoil.training.muon import Muon
from trefoil.training.optimization import Schedule, evaluation_interval, make_optimizers, planned_steps, warmup_steps


def names_of(model, parameters):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for parameter in parameters]


def groups_of(model, optimizer):
    """Weight decay -> names, of all groups."""
    groups = {}
    for group in optimizer.param_groups:
        groups.setdefault(group["weight_decay"], []).extend(names_of(model, group["params"]))
    return groups


def test_only_matrices_decay(family_and_variant):
    model = tiny_model(*family_and_variant)
    (optimizer,) = make_optimizers(model, OptimizationRecipe(weight_decay=0.1))
    groups = groups_of(model, optimizer)
    assert set(groups) == {0.1, 0.0}
    for name in groups[0.1]:
        assert name.endswith(("proj.weight", "dense.weight", "lm_head.weight")), name
    for name in groups[0.0]:
        assert name.endswith("bias") or "norm" in name or "embed" in name or "score_positions" in name, name
    together = groups[0.1] + groups[0.0]
    assert len(together) == len(set(together))
    assert set(together) == {name for name, _ in model.named_parameters()}


def test_a_tied_embedding_is_taken_once_and_does_not_decay():
    model = tiny_model("encoder-decoder")
    assert model.lm_head.weight is model.model.encoder.embed_tokens.weight is model.model.decoder.embed_tokens.weight
    (optimizer,) = make_optimizers(model, OptimizationRecipe())
    taken = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert sum(parameter is model.lm_head.weight for parameter in taken) == 1
    assert "model.encoder.embed_tokens.weight" in groups_of(model, optimizer)[0.0]


def test_an_output_projection_of_its_own_decays():
    model = tiny_model("decoder", tie_word_embeddings=False)
    (optimizer,) = make_optimizers(model, OptimizationRecipe(weight_decay=0.1))
    assert "lm_head.weight" in groups_of(model, optimizer)[0.1]


def test_frozen_parameters_are_left_alone():
    model = tiny_model("encoder")
    for parameter in model.model.layers.parameters():
        parameter.requires_grad_(False)
    (optimizer,) = make_optimizers(model, OptimizationRecipe())
    assert not any(".layers." in name for names in groups_of(model, optimizer).values() for name in names)


def test_adamw_is_set_as_the_recipe_says():
    recipe = OptimizationRecipe(learning_rate=0.02, beta1=0.8, beta2=0.9, epsilon=1e-7, weight_decay=0.3)
    (optimizer,) = make_optimizers(tiny_model("encoder"), recipe)
    assert type(optimizer) is torch.optim.AdamW
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.02, (0.8, 0.9), 1e-7)


def take_step(model, optimizers, seed, scaler=None, factor=1.0):
    """By gradients that are given, whatever the weights are."""
    random = torch.Generator().manual_seed(seed)
    loss = sum((each * torch.randn(each.shape, generator=random) * factor).sum() for each in model.parameters())
    (loss if scaler is None else scaler.scale(loss)).backward()
    for optimizer in optimizers:
        if scaler is None:
            optimizer.step()
        else:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
        optimizer.zero_grad()
    if scaler is not None:
        scaler.update()


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_one_kernel_takes_the_same_steps(kind):
    recipe = OptimizationRecipe(optimizer=kind, weight_decay=0.1)
    models = {is_fused: tiny_model("encoder-decoder", "bert") for is_fused in (False, True)}
    for is_fused, model in models.items():
        optimizers = make_optimizers(model, recipe, is_fused)
        assert all(group.get("fused", is_fused) == is_fused for each in optimizers for group in each.param_groups)
        for seed in range(4):
            take_step(model, optimizers, seed)
    for one, other in zip(*(model.parameters() for model in models.values()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_with_the_scaler_of_fp16_it_leaves_out_the_same_steps():
    """The kernel is told of gradients that are not finite, and then stands still by itself."""
    models = {is_fused: tiny_model("decoder") for is_fused in (False, True)}
    for is_fused, model in models.items():
        (optimizer,) = optimizers = make_optimizers(model, OptimizationRecipe(learning_rate=0.01), is_fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for seed, factor in enumerate((1.0, float("inf"), 1.0)):
            take_step(model, optimizers, seed, scaler, factor)
        assert scaler.get_scale() == 512
        assert {int(state["step"]) for state in optimizer.state.values()} == {2}
    for one, other in zip(*(model.parameters() for model in models.values()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_muon_takes_the_matrices_inside_the_layers(family):
    model = tiny_model(family, "bert")
    muon, adamw = make_optimizers(model, OptimizationRecipe(optimizer="muon", weight_decay=0.1))
    assert (type(muon), type(adamw)) == (Muon, torch.optim.AdamW)
    mine, rest = groups_of(model, muon)[0.1], groups_of(model, adamw)[0.0]
    assert all(".layers." in name and name.endswith("proj.weight") for name in mine)
    assert not any(".layers." in name and name.endswith("proj.weight") for name in rest)
    assert sorted(mine + rest) == sorted(name for name, _ in model.named_parameters())
    assert len(groups_of(model, adamw)) == 1


def test_muon_finds_the_layers_of_transformers_own_models_whatever_their_list_is_called():
    vision = {"model_type": "dinov3_vit", "image_size": 16, "patch_size": 8}  # model.layer.0
    config = preset_config("vision-encoder-decoder-tiny", vocab_size=20, encoder=vision)
    model = TrefoilVisionEncoderDecoderModel(config)
    muon, _ = make_optimizers(model, OptimizationRecipe(optimizer="muon"))
    mine = [name for names in groups_of(model, muon).values() for name in names]
    assert {name.split(".")[0] for name in mine} == {"encoder", "decoder"}
    assert all(name.endswith("proj.weight") for name in mine)
    assert len(mine) == 3 * 6 + 3 * 11  # attention and feed-forward; attention twice and a gated feed-forward


# --- schedules


def rates(schedule, steps, warmup=10, total=100, **options):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    recipe = OptimizationRecipe(learning_rate=0.5, schedule=schedule, schedule_options=options)
    set_rates = Schedule([optimizer], recipe, warmup)
    found = []
    for step in range(steps + 1):
        set_rates.set(step, total)
        found.append(optimizer.param_groups[0]["lr"] / 0.5)
    return found


@pytest.mark.parametrize(
    ("schedule", "options", "half", "end"),
    [
        ("linear", {}, 50 / 90, 0.0),
        ("cosine", {}, 0.5868, 0.0),
        ("constant_with_warmup", {}, 1.0, 1.0),
        ("inverse_sqrt", {}, (10 / 50) ** 0.5, (10 / 100) ** 0.5),
        ("polynomial", {"power": 1.0, "lr_end": 0.05}, 0.1 + 0.9 * 50 / 90, 0.1),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}, 0.1 + 0.9 * 0.5868, 0.1),
    ],
)
def test_start_peak_middle_and_end(schedule, options, half, end):
    found = rates(schedule, 100, **options)
    assert found[0] == 0
    assert found[5] == pytest.approx(0.5)
    assert found[10] == pytest.approx(1) == pytest.approx(max(found))
    assert found[50] == pytest.approx(half, abs=1e-4)
    assert found[100] == pytest.approx(end, abs=1e-6)


def test_without_warm_up_it_starts_at_the_peak():
    assert rates("linear", 1, warmup=0)[0] == 1


@pytest.mark.parametrize("schedule", ["constant", "constant_with_warmup", "inverse_sqrt"])
def test_some_need_no_end(schedule):
    assert rates(schedule, 30, total=None)[10] == pytest.approx(1)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "polynomial", "cosine_with_restarts"])
def test_others_have_it_far_away_where_it_is_not_known(schedule):
    assert rates(schedule, 30, total=None)[30] == pytest.approx(1, abs=1e-4)


def test_the_rate_is_of_the_step_and_the_number_of_steps_alone():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = Schedule([optimizer], OptimizationRecipe(learning_rate=0.5, schedule="linear"), warmup=10)
    for step, steps, rate in ((50, 100, 50 / 90), (50, 60, 10 / 50), (50, None, 1), (5, 60, 0.5), (50, 100, 50 / 90)):
        schedule.set(step, steps)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * rate)


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        ("cosine_with_min_lr", {}),
        ("linear", {"power": 2}),
        ("cosine", {"num_cycle": 2}),
        ("polynomial", {"lr_end": 3.0}),
        ("warmup_stable_decay", {}),
    ],
)
def test_wrong_options_of_a_schedule_are_refused(schedule, options):
    with pytest.raises(UserError) as error:
        rates(schedule, 1, **options)
    assert str(error.value).startswith(f"optimization.schedule_options={options}: ")
    assert "\n" not in str(error.value)


# --- how long a run is


@pytest.mark.parametrize(
    ("limits", "step", "seconds", "expected"),
    [
        ({"max_steps": 100}, 0, 0.0, 100),
        ({"max_epochs": 3}, 0, 0.0, 60),
        ({"max_epochs": 3, "max_steps": 100}, 0, 0.0, 60),
        ({"max_minutes": 1.0}, 0, 0.0, None),
        ({"max_minutes": 1.0}, 1, 0.0, None),
        ({"max_minutes": 1.0}, 11, 20.0, 30),
        ({"max_minutes": 1.0}, 41, 61.0, 41),
        ({"max_minutes": 1.0, "max_steps": 20}, 11, 20.0, 20),
        ({"max_minutes": 1.0, "max_steps": 40}, 11, 20.0, 30),
    ],
)
def test_planned_steps(limits, step, seconds, expected):
    assert planned_steps(TrainingRecipe(**limits), 20, step, seconds) == expected


def test_a_warm_up_that_is_longer_than_the_run_is_refused():
    recipe = OptimizationRecipe(warmup_steps=50)
    assert [warmup_steps(recipe, steps) for steps in (None, 50, 51)] == [50, 50, 50]
    with pytest.raises(UserError) as error:
        warmup_steps(recipe, 49)
    assert str(error.value) == (
        "optimization.warmup_steps=50 is more than the run's 49 steps; set fewer, such as 4, or train longer"
    )
    assert warmup_steps(OptimizationRecipe(schedule="constant", warmup_steps=50), 10) == 50  # which has none


@pytest.mark.parametrize(("steps", "expected"), [(None, 400), (10_000, 400), (4_000, 400), (500, 50), (5, 0)])
def test_a_warm_up_that_nobody_set_suits_the_run(steps, expected):
    assert warmup_steps(OptimizationRecipe(), steps) == expected


@pytest.mark.parametrize(
    ("asked", "steps", "expected"),
    [(None, 260, 26), (None, 7, 1), (None, 100_000, 500), (None, None, 500), (40, 260, 40)],
)
def test_a_run_is_evaluated_ten_times_unless_it_is_long_or_says_otherwise(asked, steps, expected):
    assert evaluation_interval(TrainingRecipe(evaluate_every=asked), steps) == expected
