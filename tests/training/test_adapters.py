"""Adapters in place of all weights: what is trained, saved, resumed, merged, and refused."""

import importlib.util
import json
import shlex
import shutil
from types import SimpleNamespace

import pytest
import torch
from conftest import SMALL
from safetensors.torch import load_file, save_file
from training_runs import TINY_MODEL, after_step, losses, merged, start, train_and_die
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import trefoil
from tests.training.test_models import TEXTS, recipe_of
from trefoil.cli import main
from trefoil.configuration.errors import UserError
from trefoil.data.tokenizer import BIDIRECTIONAL, LEFT_TO_RIGHT, train_tokenizer
from trefoil.hub.publish import must_be_merged
from trefoil.hub.stock import export_stock
from trefoil.recipes.schema import AdapterRecipe, OptimizationRecipe, Recipe, TokenizerRecipe, build, validate
from trefoil.runs import summary
from trefoil.tasks import get_task
from trefoil.training.adapters import (
    add_adapter,
    load_merged,
    read_adapter,
    read_model_config,
    save_model,
    whole_model,
)
from trefoil.training.checkpoints import average_weights, latest_checkpoint
from trefoil.training.engine import Engine
from trefoil.training.models import model_of
from trefoil.training.optimization import make_optimizers
from trefoil.training.run import evaluate, train
from trefoil.training.run_folder import ModelFolder

peft = pytest.importorskip("peft")

FAMILIES = {
    "encoder": ("masked-lm", BIDIRECTIONAL),
    "decoder": ("causal-lm", LEFT_TO_RIGHT),
    "encoder-decoder": ("translation", BIDIRECTIONAL),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Folders of models with random weights, large enough for outputs to depend on every input."""
    folders = {}
    for family, (name, template) in FAMILIES.items():
        task, folder = get_task(name), tmp_path_factory.mktemp("base") / family
        tokenizer = train_tokenizer([TEXTS], TokenizerRecipe(kind="characters"), template)
        config = trefoil.preset_config(f"{family}-tiny", vocab_size=len(tokenizer), **TINY_MODEL, initializer_range=0.2)
        torch.manual_seed(0)
        task.auto_class.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders[family] = folder
    return folders


def adapted_recipe(folder, base, task="text-classification", **changes):
    usual = {
        "model": {"init_from": str(base)},
        "adapter": {"kind": "lora", "r": 4, "alpha": 8},
        "optimization": {"learning_rate": 1e-2},
        "training": {"max_steps": 3, "log_every": 1},
    }
    return recipe_of(folder, task, **merged(usual, changes))


def files(folder):
    return {file.name for file in folder.iterdir()}


TRAINED = [
    ("encoder", "text-classification", {"kind": "lora"}, {"pooler.classifier", "score"}),
    ("encoder", "token-classification", {"kind": "dora", "targets": "q_proj"}, {"score"}),
    ("encoder", "question-answering", {"kind": "ia3"}, {"qa_outputs"}),
    ("decoder", "causal-lm", {"kind": "lora", "targets": ["q_proj", "v_proj"]}, set()),
    ("encoder-decoder", "translation", {"kind": "lora"}, set()),
]


@pytest.mark.parametrize(
    ("family", "task", "adapter", "whole"),
    [
        pytest.param(*case, id=case[1], marks=[pytest.mark.slow] if number else [])
        for number, case in enumerate(TRAINED)
    ],
)
def test_only_adapters_and_a_new_head_are_trained_and_saved(bases, tmp_path, capsys, family, task, adapter, whole):
    recipe = adapted_recipe(tmp_path, bases[family], task)
    recipe.adapter = build(Recipe, {"adapter": adapter}, "tiny.yaml").adapter
    before = load_file(bases[family] / "model.safetensors")
    results = train(recipe)

    best = tmp_path / "run" / "best"
    held = load_file(best / "adapter_model.safetensors")
    said = capsys.readouterr().err
    trained, total = (number.replace(",", "") for number in said.partition(f"{task}: ")[2].split()[0:3:2])
    assert sum(tensor.numel() for tensor in held.values()) == int(trained) < int(total)
    marks = ("lora_", "ia3_")
    assert {name.rpartition(".")[0] for name in held if not any(mark in name for mark in marks)} == {
        f"base_model.model.{name}" for name in whole
    }
    config = read_adapter(best)
    assert config.base_model_name_or_path == str(bases[family])
    assert set(config.modules_to_save or ()) == whole
    assert {"adapter_config.json", "model_config.json", "tokenizer.json", "recipe.yaml", "results.json"} < files(best)
    assert not {"config.json", "model.safetensors"} & files(best)
    # the base lies as it was, and so do those of its weights in the model that is made of both that nothing is added to
    assert all(
        torch.equal(tensor, before[name]) for name, tensor in load_file(bases[family] / "model.safetensors").items()
    )
    model = load_merged(best, get_task(task).auto_class)
    weights = model.state_dict()
    assert torch.equal(weights[name := next(name for name in before if "embed_tokens" in name)], before[name])
    assert not any("lora" in name or "modules_to_save" in name for name in weights)
    assert evaluate(best) == results["test"]


@pytest.mark.slow
def test_peft_alone_makes_the_same_of_it(classified, bases):
    best = classified / "best"
    labels = read_model_config(best).id2label
    base = AutoModelForSequenceClassification.from_pretrained(
        bases["encoder"], id2label=labels, ignore_mismatched_sizes=True
    )
    inputs = AutoTokenizer.from_pretrained(best)(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        expected = peft.PeftModel.from_pretrained(base, best).eval()(**inputs).logits
        found = load_merged(best, AutoModelForSequenceClassification).eval()(**inputs).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert labels == {0: "가", 1: "나"}


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": {"kind": "lora", "dropout": 0.2}},
        pytest.param({"adapter": {"kind": "dora"}, "optimization": {"optimizer": "muon"}}, marks=pytest.mark.slow),
        pytest.param(
            {
                "training": {"gradient_checkpointing": True},
                "batches": {"tokens_per_batch": 64, "tokens_per_device": 32},
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_that_goes_on_takes_the_same_steps_to_the_bit(bases, tmp_path, monkeypatch, changes):
    usual = {"training": {"max_steps": 6, "save_every": 2, "evaluate_every": 3}}
    straight, broken = (
        adapted_recipe(tmp_path / name, bases["encoder"], **merged(usual, changes)) for name in ("straight", "broken")
    )
    train(straight)
    train_and_die(monkeypatch, broken, after_step(5))
    checkpoint = latest_checkpoint(tmp_path / "broken" / "run" / "checkpoints")
    assert checkpoint.name == "step-00000004"
    assert files(checkpoint) == {
        "config.json",
        "manifest.json",
        "optimizer.safetensors",
        "state.json",
        "trained.safetensors",
        *files_of_tokenizer(checkpoint),
    }
    assert all("lora_" in name or "modules_to_save" in name for name in load_file(checkpoint / "trained.safetensors"))
    train(broken)
    assert losses(tmp_path / "broken" / "run") == losses(tmp_path / "straight" / "run")
    for name in ("best/adapter_model.safetensors", "checkpoints/step-00000006/trained.safetensors"):
        one, other = (load_file(tmp_path / run / "run" / name) for run in ("straight", "broken"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name


def files_of_tokenizer(folder):
    return {name for name in files(folder) if name.startswith("tokenizer")}


@pytest.mark.slow
def test_checkpoints_are_averaged(bases, tmp_path):
    recipe = adapted_recipe(
        tmp_path, bases["decoder"], "causal-lm", training={"average_checkpoints": 2, "save_every": 1, "max_steps": 4}
    )
    train(recipe)
    folders = sorted((tmp_path / "run" / "checkpoints").iterdir())
    told = SimpleNamespace(task=get_task("causal-lm"), head_is_new=lambda _: False, tell_pretrained=lambda _: None)
    model = model_of(folders[-1], told, recipe)
    average_weights(folders, model)
    ends = [load_file(folder / "trained.safetensors") for folder in folders]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            mean = sum(tensors[name].double() for tensors in ends) / len(ends)
            assert torch.equal(parameter, mean.float()), name
    assert not (tmp_path / "run" / "averaged").exists()


def test_optimizers_take_what_is_trained_and_let_scales_be():
    torch.manual_seed(0)
    model = trefoil.TrefoilEncoderForSequenceClassification(trefoil.TrefoilEncoderConfig(**SMALL))
    config = peft.IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], modules_to_save=["score"]
    )
    model.add_adapter(config)
    (optimizer,) = make_optimizers(model, OptimizationRecipe(weight_decay=0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    taken = {group["weight_decay"]: {names[id(one)] for one in group["params"]} for group in optimizer.param_groups}
    assert taken[0.1] == {"score.modules_to_save.default.weight"}
    assert taken[0.1] | taken[0.0] == {name for name, one in model.named_parameters() if one.requires_grad}


def test_muon_without_anything_for_adamw():
    model = trefoil.TrefoilDecoderForCausalLM(trefoil.TrefoilDecoderConfig(**SMALL))
    model.add_adapter(peft.LoraConfig(target_modules=["q_proj"]))
    (muon,) = make_optimizers(model, OptimizationRecipe(optimizer="muon"))
    assert sum(len(group["params"]) for group in muon.param_groups) == 2 * 2


# --- used as any other run


@pytest.fixture(scope="module")
def classified(bases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classified")
    train(adapted_recipe(folder, bases["encoder"], training={"max_steps": 20}))
    return folder / "run"


def test_load_answers_with_the_labels(classified):
    predictor = trefoil.load(classified)
    assert [answer["label"] for answer in predictor(TEXTS)] == ["가", "나", "가", "나"]
    assert type(predictor.model) is trefoil.TrefoilEncoderForSequenceClassification
    assert trefoil.load(classified / "best")(TEXTS[0]) == predictor(TEXTS[0])


def test_its_end_says_how_to_use_it(classified, tmp_path, monkeypatch):
    _, _, use, publish = summary(ModelFolder(classified / "best").read_results(), classified)
    assert use.startswith("use it:      trefoil predict")
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(publish.partition("trefoil ")[2]), "--quiet"]) == 0
    assert (tmp_path / "published/run/model.safetensors").is_file()


def test_one_on_a_model_of_the_hub_need_not_be_merged(classified, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(classified, run)
    adapter = ModelFolder(run / "best").adapter
    adapter.write_text(json.dumps(json.loads(adapter.read_text()) | {"base_model_name_or_path": "nobody/base"}))
    assert not must_be_merged(run)


def test_commands_read_it(classified, tmp_path, capsys):
    assert main(["evaluate", str(classified), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["accuracy"] == 100.0
    assert main(["predict", str(classified), TEXTS[0], "--format", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "가"
    assert main(["attend", str(classified), TEXTS[0], "-o", str(tmp_path / "map.html")]) == 0


def test_it_is_exported(tmp_path):
    base, adapter, ids = tmp_path / "base", tmp_path / "adapter", torch.arange(6)[None]
    torch.manual_seed(0)
    trefoil.TrefoilDecoderForCausalLM(trefoil.preset_config("llama-like", **SMALL)).save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    add_adapter(model, AdapterRecipe(kind="lora"), str(base), AutoModelForCausalLM)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapter.mkdir()
    save_model(model, adapter)
    export_stock(adapter, tmp_path / "llama", "llama")
    with torch.no_grad():
        expected = model.eval()(ids).logits
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "llama").eval()(ids).logits
        before = AutoModelForCausalLM.from_pretrained(base).eval()(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(before, expected, atol=1e-2)


def test_a_temporary_folder_holds_the_whole_model_and_goes(classified):
    with whole_model(classified / "best") as place:
        assert {"config.json", "model.safetensors", "recipe.yaml", "tokenizer.json"} <= files(place)
        assert not {"adapter_config.json", "model_config.json"} & files(place)
    assert not place.exists()
    with whole_model("some/model") as place:
        assert place == "some/model"


# --- refused


def refused(changes, **more):
    content = {"task": "causal-lm", "data": {"path": "data"}, "training": {"max_steps": 1}} | changes | more
    with pytest.raises(UserError) as error:
        validate(build(Recipe, content, "tiny.yaml"), "tiny.yaml")
    return str(error.value)


BASE = {"model": {"init_from": "base"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"adapter": {"kind": "lora"}, "model": {"preset": "decoder-tiny"}}, "set model.init_from to their place"),
        ({"adapter": {"kind": "lora"}, "model": {"init_from": {"encoder": "a", "decoder": "b"}}}, "model.init_from joins two"),
        (BASE | {"adapter": {"kind": "prefix"}}, "adapter.kind='prefix' is not one of 'lora', 'dora', 'ia3'"),
        (BASE | {"adapter": {"r": 8}}, "adapter.r=8 does nothing without a kind; set adapter.kind=lora"),
        (BASE | {"adapter": {"kind": "lora", "r": 0}}, "adapter.r=0 must be positive"),
        (BASE | {"adapter": {"kind": "lora", "targets": []}}, "adapter.targets=[] must name linear layers"),
        (BASE | {"adapter": {"kind": "lora", "lora_alpha": 8}}, "unknown key adapter.lora_alpha; did you mean adapter.alpha?"),
        (BASE | {"adapter": {"kind": "ia3", "alpha": 8}}, "adapter.alpha=8 is of lora and dora"),
        (BASE | {"adapter": {"kind": "ia3"}, "optimization": {"optimizer": "muon"}}, "set optimization.optimizer=adamw"),
    ],
)  # fmt: skip
def test_a_recipe_says_what_goes_together(content, message):
    assert message in refused(content)


def test_a_layer_that_is_not_there_is_named(bases, tmp_path):
    recipe = adapted_recipe(tmp_path, bases["encoder"], adapter={"targets": ["q_proj", "key"]})
    with pytest.raises(
        UserError, match=r"adapter.targets: 'key' names no linear layer of the model; there are down_proj, "
    ):
        train(recipe)
    recipe.adapter.targets = "q_prj"
    with pytest.raises(UserError, match=r"'q_prj' names no linear layer of the model; did you mean q_proj\?"):
        train(recipe)
    assert not (tmp_path / "run" / "best").exists()


def test_an_adapter_is_no_base(classified, tmp_path):
    with pytest.raises(UserError, match=f"{classified} is an adapter; trefoil publish {classified} FOLDER --merge"):
        train(adapted_recipe(tmp_path, classified))


def test_a_new_weight_beside_old_ones_is_refused(bases, tmp_path):
    folder = tmp_path / "bare"
    trefoil.TrefoilEncoderModel.from_pretrained(bases["encoder"]).save_pretrained(folder)
    AutoTokenizer.from_pretrained(bases["encoder"]).save_pretrained(folder)
    with pytest.raises(UserError, match=r"lm_head.bias is new, .* in which lm_head.weight is not new"):
        train(adapted_recipe(tmp_path / "new", folder, "masked-lm"))


def test_without_peft_nothing_begins(bases, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    with pytest.raises(
        UserError, match=r"adapter.kind='lora' needs peft: pip install 'trefoil-transformers\[adapters\]'"
    ):
        train(adapted_recipe(tmp_path, bases["encoder"]))
    assert not (tmp_path / "run").exists()


def test_engines_that_divide_weights_are_refused(bases, tmp_path):
    engine = object.__new__(type("Sharded", (Engine,), {"shards": True, "name": "FSDP2"}))
    engine.tensor_parallel = engine.context_parallel = 1
    with pytest.raises(UserError, match=r"adapter.kind='lora' does not go with FSDP2, .*; launch with DDP"):
        engine.require(adapted_recipe(tmp_path, bases["encoder"]))


@pytest.fixture
def broken(classified, tmp_path):
    """A function: changes to adapter_config.json -> what loading says."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in (classified / "best").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())

    def load(**changes):
        content = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(content | changes))
        with pytest.raises(UserError) as error:
            load_merged(folder, AutoModelForSequenceClassification)
        return str(error.value)

    load.folder = folder
    return load


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"megatron_config": {}, "megatron_core": "evil"}, "megatron_"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' is not known here; load the adapter with PEFT"),
        ({"peft_type": "XLORA"}, "peft_type 'XLORA' is none of LORA, IA3"),
        ({"base_model_name_or_path": "/nowhere/at/all"}, "its base model '/nowhere/at/all' is not there"),
        ({"base_model_name_or_path": None}, "its base model None is not there"),
        ({"base_model_name_or_path": "nobody/nothing"}, "its base model nobody/nothing does not load"),
    ],
)
def test_what_a_stranger_s_adapter_asks_for_is_refused(broken, changes, message):
    assert message in broken(**changes)


def test_an_adapter_that_lacks_something_is_refused(broken):
    weights = broken.folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if "lora_A" in name)
    save_file({other: tensor for other, tensor in tensors.items() if other != name}, weights)
    assert broken().endswith(f"it lacks {name.removeprefix('base_model.model.')}")
    score = tensors.pop("base_model.model.score.weight")
    save_file(tensors, weights)
    assert "there is no 'base_model.model.score.weight'" in broken()
    save_file(tensors | {"base_model.model.score.weight": score[:1]}, weights)
    assert "does not fit its base model" in broken()
    weights.write_bytes(b"")
    assert "does not fit its base model" in broken()
    weights.rename(broken.folder / "adapter_model.bin")
    assert broken().endswith("holds no adapter_model.safetensors; save the adapter as safetensors")


# --- several processes


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(bases, tmp_path):
    still = {"adapter": {"dropout": 0.0}, "model": {"config": {"hidden_dropout": 0.0}}, "training": {"max_steps": 6}}
    train(adapted_recipe(tmp_path / "alone", bases["encoder"], **still))
    recipe = adapted_recipe(tmp_path / "together", bases["encoder"], **merged(still, {"training": {"save_every": 2}}))
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    (tmp_path / "script.py").write_text("import sys; from trefoil.cli import main; sys.exit(main(sys.argv[1:]))")
    first = start(tmp_path / "script.py", "train", tmp_path / "recipe.yaml", "training.max_steps=3", processes=2)
    assert first.returncode == 0, first.stderr
    second = start(tmp_path / "script.py", "train", tmp_path / "recipe.yaml", processes=2)
    assert second.returncode == 0, second.stderr
    one, two = (losses(tmp_path / name / "run") for name in ("alone", "together"))
    assert one.keys() == two.keys()
    assert list(one.values()) == pytest.approx(list(two.values()), rel=1e-4)
    assert evaluate(tmp_path / "together" / "run" / "best") == evaluate(tmp_path / "alone" / "run" / "best")
