"""Engines: whatever lays the model over the processes, the losses are those of one process, and so are checkpoints."""

import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
from conftest import tiny_model
from training_runs import TALKATIVE, losses, tiny_content, tiny_recipe

import trefoil
from benchmarks import engines, on_cpu
from trefoil.configuration.errors import UserError
from trefoil.recipes.schema import Recipe, build
from trefoil.training.checkpoints import checkpoint_folders
from trefoil.training.engine import Engine
from trefoil.training.run import train

ONE = engines.FIRST
# each number of processes with each engine; four heads can be split in two and in four
PLACES = [ONE, "DDP on 2", "DDP on 4", "FSDP2 on 2", "FSDP2 on 4", "TP on 2", "TP on 4"]
PLACES += [name for name in on_cpu.ENGINES if "ZeRO" in name]
HEADS = {"num_hidden_layers": 1, "num_attention_heads": 4}
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def launch():
    """Train by engines, in processes that a process of its own starts."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as launcher:
        yield lambda jobs: launcher.submit(engines.launch, jobs).result()


def content(folder, steps=8, **changes):
    training = {"max_steps": steps, "evaluate_every": 4, "save_every": 4}
    model = {"config": TALKATIVE["model"]["config"] | HEADS}
    return tiny_content(folder, **TALKATIVE | {"model": model, "training": training} | changes)


@pytest.mark.slow
def test_a_run_goes_on_by_another_engine_to_the_same_losses(launch, tmp_path):
    whole, parts = tmp_path / "runs" / "whole", tmp_path / "runs" / "parts"
    assert launch([(ONE, content(whole)), ("FSDP2 on 2", content(parts, steps=4))]) == [None, None]
    (checkpoint,) = checkpoint_folders(parts / "checkpoints")
    assert len(list(checkpoint.glob("shard-*.safetensors"))) == 2
    assert launch([(ONE, content(parts))]) == [None]
    assert engines.difference(parts, whole) <= 1e-4
    assert engines.same(parts, whole)
    assert {path.name for path in (parts / "best").glob("*.safetensors")} == {"model.safetensors"}


@pytest.fixture(scope="module")
def begun(launch, tmp_path_factory):
    """Of every engine a whole run, and a half."""
    folder = tmp_path_factory.mktemp("begun")
    lengths = {"whole": 8, "half": 4}
    jobs = [(place, content(folder / place / name, steps)) for place in PLACES for name, steps in lengths.items()]
    assert launch(jobs) == [None] * len(jobs)
    return folder


@slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("after", PLACES)
def test_a_run_goes_on_by_every_engine_from_every_other(launch, begun, tmp_path, after):
    runs = {before: tmp_path / "runs" / before for before in PLACES}
    for before, run in runs.items():
        shutil.copytree(begun / before / "half", run)
    assert launch([(after, content(run)) for run in runs.values()]) == [None] * len(runs)
    for before, run in runs.items():
        assert engines.difference(run, begun / ONE / "whole") <= 1e-4, before
        assert engines.same(run, begun / ONE / "whole"), before
    assert losses(runs[after]) == losses(begun / after / "whole")


@pytest.fixture(scope="module")
def alone(launch, tmp_path_factory):
    """Every family and task by one process."""
    folder = tmp_path_factory.mktemp("alone")
    outcomes = launch([(ONE, engines.recipe_of(ONE, case, folder)) for case in engines.CASES])
    assert outcomes == [None] * len(engines.CASES)
    return folder


@slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", engines.OTHERS)
def test_every_family_and_task(launch, alone, engine):
    outcomes = launch([(engine, engines.recipe_of(engine, case, alone)) for case in engines.CASES])
    for case, outcome in zip(engines.CASES, outcomes, strict=True):
        if "CP" in engine and case != "decoder causal-lm, a running text":
            assert outcome.startswith("context parallelism knows no mask but the causal one"), case
            continue
        if "TP" in engine and case.startswith("recurrent"):
            assert outcome.startswith(
                "tensor parallelism splits the layers of transformers, which a trefoil_recurrent"
            ), case
            continue
        assert outcome is None, case
        assert engines.difference(alone / engine / case, alone / ONE / case) <= 1e-4, case
        assert engines.same(alone / engine / case, alone / ONE / case), case


@pytest.mark.slow
def test_muon_is_refused_where_matrices_lie_in_parts(launch, tmp_path):
    run = tmp_path / "runs" / "run"
    (refusal,) = launch([("FSDP2 on 2", content(run, optimization={"optimizer": "muon"}))])
    assert refusal.startswith(
        "optimization.optimizer='muon' works on whole matrices, of which FSDP2 leaves each process a part"
    )
    assert not run.exists()


@pytest.mark.parametrize(
    ("environment", "refusal"),
    [
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "asks for Megatron-LM, which is not supported; use FSDP2 with tensor"),
        ({"ACCELERATE_USE_FSDP": "true"}, "asks for FSDP1, which is not supported; set fsdp_version: 2"),
        (on_cpu.parallel(cp=2), r"asks for context parallelism \(parallelism_config_cp_size: 2\) without FSDP2"),
        (on_cpu.parallel(sp=4), r"asks for sequence parallelism \(parallelism_config_sp_size: 4\)"),
    ],
)
def test_what_the_loop_cannot_do_is_refused_before_anything_is_written(tmp_path, monkeypatch, environment, refusal):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=refusal) as error:
        train(tiny_recipe(tmp_path / "run"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def split_among(processes, rows=1):
    parallelism = SimpleNamespace(tp_size=processes, cp_size=rows)
    return Engine(
        SimpleNamespace(
            parallelism_config=parallelism, num_processes=processes * rows, process_index=0, is_fsdp2=rows > 1
        )
    )


def test_models_that_cannot_be_split_are_refused():
    recurrent = trefoil.TrefoilRecurrentForConditionalGeneration(
        trefoil.TrefoilRecurrentConfig(vocab_size=9, hidden_size=8)
    )
    cases = [
        (recurrent, "tensor parallelism splits the layers of transformers, which a trefoil_recurrent has not"),
        (tiny_model("decoder"), "num_key_value_heads=2 cannot be divided among the 4 processes of tensor parallelism"),
        (
            tiny_model("encoder-decoder", num_key_value_heads=4, intermediate_size=47, activation_dropout=0.1),
            "intermediate_size=47 cannot be divided among the 4 processes",
        ),
    ]
    for model, refusal in cases:
        with pytest.raises(UserError) as error:
            split_among(4).require_model(model)
        assert str(error.value).startswith(refusal)
        assert "\n" not in str(error.value)
    split_among(4).require_model(tiny_model("encoder-decoder", num_key_value_heads=4))
    split_among(4).require_model(tiny_model("decoder", "olmo"))  # whose heads are whole everywhere


def test_layers_that_are_split_are_not_compiled():
    recipe = build(Recipe, tiny_content("run", training={"compile": True}), "tiny.yaml")
    with pytest.raises(
        UserError, match=r"compile=true finds no way back through layers that tensor .*; set it to false"
    ):
        split_among(2).require(recipe)
    split_among(1).require(recipe)


def test_context_parallelism_is_of_one_running_text_and_plain_attention():
    engine, stream = split_among(1, rows=2), {"task": "causal-lm", "options": {"documents": "stream"}}
    for changes, refusal in [
        ({"task": "causal-lm"}, "set options.documents=stream"),
        ({}, "set options.documents=stream"),
        (stream | {"training": {"compile": True}}, "training.compile=true does not see context parallelism"),
    ]:
        with pytest.raises(UserError, match=refusal):
            engine.require(build(Recipe, tiny_content("run", **changes), "tiny.yaml"))
    engine.require(build(Recipe, tiny_content("run", **stream), "tiny.yaml"))
    for model, problem in [
        (tiny_model("decoder", "t5"), "position_embedding_type='relative' adds to the scores"),
        (tiny_model("decoder", "windows"), "layer_types has sliding_attention"),
        (tiny_model("decoder", attn_logit_softcapping=3.0, attn_implementation="eager"), "attn_logit_softcapping=3.0"),
        (tiny_model("decoder", attn_implementation="eager"), "attn_implementation is 'eager'"),
    ]:
        with pytest.raises(UserError, match=re.escape(problem)) as error:
            engine.require_model(model)
        assert "\n" not in str(error.value)
    engine.require_model(tiny_model("decoder"))


@slow
def test_rows_that_are_split_go_on_whole_and_whole_ones_split(launch, tmp_path):
    def half(place, run, steps):
        recipe = engines.recipe_of("CP on 2", "decoder causal-lm, a running text", tmp_path / "runs")
        return place, engines.merged(
            recipe, {"output_dir": str(run), "training": {"max_steps": steps, "save_every": 4}}
        )

    runs = [tmp_path / "runs" / name for name in ("whole", "one", "two")]
    assert launch([half(ONE, runs[0], 8), half(ONE, runs[1], 4), half("CP on 2", runs[2], 4)]) == [None] * 3
    assert launch([half("CP on 2", runs[1], 8), half(ONE, runs[2], 8)]) == [None] * 2
    for run in runs[1:]:
        assert engines.difference(run, runs[0]) <= 1e-4
