"""PEFT's adapters on Trefoil's models."""

import subprocess
import sys

import pytest
import torch
from conftest import tiny_config, tiny_model
from ecosystem_helpers import PERIODIC, arguments, logged_losses, logits_of
from transformers import Trainer

import trefoil

peft = pytest.importorskip("peft")
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftModel, get_peft_model  # noqa: E402


@pytest.fixture
def adapted():
    """A decoder with adapters on all linear layers, and its weights before."""
    model = tiny_model("decoder")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, lora_alpha=8)
    return get_peft_model(model, config), before


def train_adapters(peft_model):
    """Losses of a few steps."""
    optimizer = torch.optim.AdamW([part for part in peft_model.parameters() if part.requires_grad], lr=2e-2)
    losses = []
    for _ in range(30):
        loss = peft_model(input_ids=PERIODIC, labels=PERIODIC).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_adapters_are_trained_and_nothing_else(adapted):
    peft_model, before = adapted
    trainable = {name for name, part in peft_model.named_parameters() if part.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    # q, k, v and o, and three of the gated feed-forward, in two layers: two matrices each
    assert len(trainable) == 2 * 2 * 7
    losses = train_adapters(peft_model)
    assert losses[-1] < 0.3 * losses[0]
    after = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): weight
        for name, weight in peft_model.state_dict().items()
        if "lora_" not in name
    }
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_adapters_are_saved_and_loaded_onto_the_same_base(adapted, tmp_path):
    peft_model, _ = adapted
    untrained = logits_of(peft_model)
    train_adapters(peft_model)
    logits = logits_of(peft_model)
    assert not torch.allclose(logits, untrained, atol=0.1)
    peft_model.save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    loaded = PeftModel.from_pretrained(tiny_model("decoder"), tmp_path)
    torch.testing.assert_close(logits_of(loaded), logits)


def test_merged_adapters_give_the_same_logits(adapted, tmp_path):
    peft_model, before = adapted
    train_adapters(peft_model)
    logits = logits_of(peft_model)
    merged = peft_model.merge_and_unload()
    assert type(merged) is trefoil.TrefoilDecoderForCausalLM
    assert merged.state_dict().keys() == before.keys()
    torch.testing.assert_close(logits_of(merged), logits, atol=1e-4, rtol=1e-4)
    merged.save_pretrained(tmp_path)
    loaded = trefoil.TrefoilDecoderForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits_of(loaded), logits_of(merged))


def test_an_adapted_decoder_generates_what_it_learned(adapted):
    peft_model, _ = adapted
    train_adapters(peft_model)
    peft_model.eval()
    prompt, expected = PERIODIC[:1, :5], PERIODIC[:1]
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    found = peft_model.generate(input_ids=prompt, **options)
    assert torch.equal(found, expected)
    assert torch.equal(peft_model.merge_and_unload().generate(prompt, **options), found)


def test_trainer_trains_adapters(adapted, tmp_path):
    peft_model, before = adapted
    rows = [{"input_ids": row.tolist(), "labels": row.tolist()} for row in PERIODIC]
    trainer = Trainer(
        peft_model,
        arguments(tmp_path, max_steps=30, learning_rate=2e-2, per_device_train_batch_size=4),
        train_dataset=rows,
    )
    trainer.train()
    losses = logged_losses(trainer)
    assert losses[-1] < 0.5 * losses[0]
    embedding = peft_model.get_base_model().model.embed_tokens.weight
    assert torch.equal(embedding, before["model.embed_tokens.weight"])
    loaded = PeftModel.from_pretrained(tiny_model("decoder"), tmp_path / "checkpoint-30")
    torch.testing.assert_close(logits_of(loaded), logits_of(peft_model))


# --- what is adapted where the configuration names no modules


def random_model(model_class, family):
    torch.manual_seed(0)
    return model_class(tiny_config(family, initializer_range=0.2))


HEADS = {
    "SEQ_CLS": (trefoil.TrefoilEncoderForSequenceClassification, "encoder"),
    "TOKEN_CLS": (trefoil.TrefoilEncoderForTokenClassification, "encoder"),
    "QUESTION_ANS": (trefoil.TrefoilEncoderForQuestionAnswering, "encoder"),
    "FEATURE_EXTRACTION": (trefoil.TrefoilEncoderModel, "encoder"),
    "CAUSAL_LM": (trefoil.TrefoilDecoderForCausalLM, "decoder"),
    "SEQ_2_SEQ_LM": (trefoil.TrefoilEncoderDecoderForConditionalGeneration, "encoder-decoder"),
}


def first_output(model):
    with torch.no_grad():
        return model.eval()(input_ids=PERIODIC, return_dict=False)[0]


@pytest.mark.parametrize("task_type", HEADS)
def test_every_family_is_adapted_saved_and_merged(task_type, tmp_path):
    expected = first_output(random_model(*HEADS[task_type]))
    peft_model = get_peft_model(random_model(*HEADS[task_type]), LoraConfig(task_type=task_type))
    assert peft_model.peft_config["default"].target_modules == {"q_proj", "v_proj"}
    adapted = {name.split(".lora_")[0] for name, _ in peft_model.named_parameters() if ".lora_" in name}
    attention = 6 if task_type == "SEQ_2_SEQ_LM" else 2  # two layers, which a decoder behind an encoder has twice
    assert len(adapted) == 2 * attention
    torch.testing.assert_close(first_output(peft_model), expected)

    for name, part in peft_model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(part, std=0.1)
    output = first_output(peft_model)
    assert not torch.allclose(output, expected, atol=0.05)
    peft_model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(random_model(*HEADS[task_type]), tmp_path)
    torch.testing.assert_close(first_output(loaded), output)
    torch.testing.assert_close(first_output(loaded.merge_and_unload()), output, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("targets", [None, pytest.param("all-linear", marks=pytest.mark.slow)])
@pytest.mark.parametrize("task_type", ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"])
def test_a_new_head_is_saved_whole(task_type, targets, tmp_path):
    """What the pretrained base does not hold must lie beside the adapters."""
    options = {"task_type": task_type, "target_modules": targets}
    if targets and task_type != "SEQ_CLS":  # of any model, PEFT counts these heads among all linear layers
        options["exclude_modules"] = ["score", "qa_outputs"]
    tiny_model("encoder").save_pretrained(tmp_path / "base")

    def new_head(seed):
        torch.manual_seed(seed)
        return HEADS[task_type][0].from_pretrained(tmp_path / "base")

    peft_model = get_peft_model(new_head(seed=1), LoraConfig(**options))
    for part in peft_model.parameters():
        if part.requires_grad:
            torch.nn.init.normal_(part, std=0.2)
    peft_model.save_pretrained(tmp_path / "adapters")
    loaded = PeftModel.from_pretrained(new_head(seed=2), tmp_path / "adapters")
    torch.testing.assert_close(first_output(loaded), first_output(peft_model))


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
@pytest.mark.parametrize("kind", [AdaLoraConfig, IA3Config])
def test_other_kinds_of_adapters_know_every_family(family, kind):
    options = {"total_step": 10} if kind is AdaLoraConfig else {}
    peft_model = get_peft_model(tiny_model(family), kind(**options))
    assert {"q_proj", "k_proj", "v_proj", "down_proj"} >= peft_model.peft_config["default"].target_modules
    assert any(part.requires_grad for part in peft_model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("imports", ["import peft; import trefoil", "import trefoil; import peft"])
def test_the_order_of_imports_does_not_matter(imports):
    code = f"""
{imports}
from peft.tuners.lora import LoraModel
print([LoraModel.target_module_mapping.get(f"trefoil_{{family}}") for family in ("encoder", "decoder", "encoder_decoder")])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[-2] == str([["q_proj", "v_proj"]] * 3)


@pytest.mark.slow
def test_a_broken_peft_is_no_obstacle(tmp_path):
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "__init__.py").write_text("raise RuntimeError('half installed')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import trefoil; trefoil.preset_config('decoder-tiny')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
