"""An adapter is published small, for PEFT, or merged, as any other model."""

import json
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from training_runs import merged
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import trefoil
from tests.hub.conftest import SIZES, tiny_tokenizer
from tests.training.test_models import recipe_of
from trefoil.cli import main
from trefoil.configuration.errors import UserError
from trefoil.hub.card import CardFields
from trefoil.hub.check import check_published
from trefoil.hub.publish import publish
from trefoil.training.adapters import load_merged
from trefoil.training.run import train

peft = pytest.importorskip("peft")

TEXTS = ["three apples", "half past five"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, ["fruit", "time"], strict=True)]
ON_HUB = CardFields(base_model="me/base")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "encoder"
    tokenizer = tiny_tokenizer("<s> ")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "initializer_range": 0.3}
    trefoil.TrefoilEncoderForMaskedLM(trefoil.TrefoilEncoderConfig(**sizes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    changes = {"model": {"init_from": str(base)}, "adapter": {"kind": "lora", "r": 4}, "language": ["en"]}
    train(recipe_of(folder, "text-classification", ROWS, **merged(changes, {"optimization": {"learning_rate": 1e-2}})))
    return folder / "run"


@pytest.fixture(scope="module")
def small(run, tmp_path_factory):
    return publish(run, tmp_path_factory.mktemp("published") / "small", card=ON_HUB)


def logits_of(model, folder):
    with torch.no_grad():
        return model.eval()(**AutoTokenizer.from_pretrained(folder)(TEXTS[0], return_tensors="pt")).logits


def test_a_small_folder_holds_what_peft_loads_and_what_it_is(small, run):
    assert {file.name for file in small.iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json", "model_config.json",
        "tokenizer.json", "tokenizer_config.json", "recipe.yaml", "results.json", "curve.png",
    }  # fmt: skip
    assert (small / "adapter_model.safetensors").read_bytes() == (
        run / "best" / "adapter_model.safetensors"
    ).read_bytes()
    config = json.loads((small / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["peft_type"], config["r"]) == ("me/base", "LORA", 4)
    told = AutoConfig.from_pretrained(small / "model_config.json")
    assert told.id2label == {0: "fruit", 1: "time"}
    for file in small.iterdir():
        assert str(run.parents[1]).encode() not in file.read_bytes(), file.name


def test_its_card_says_how_to_load_it(small, base):
    card = ModelCard.load(small / "README.md")
    assert (card.data.base_model, card.data.library_name) == ("me/base", "peft")
    assert (card.data.pipeline_tag, card.data.tags) == ("text-classification", ["trefoil", "lora"])
    assert "A LoRA adapter with " in card.text
    assert "for the Trefoil encoder [me/base](https://huggingface.co/me/base)" in card.text
    code = card.text.partition("```python\n")[2].partition("```")[0]
    assert "from transformers import AutoModelForSequenceClassification, AutoTokenizer\n\nbase = " in code
    known: dict = {}
    exec(code.replace('"me/base"', repr(str(base))).replace('"small"', repr(str(small))), known)
    assert type(known["model"]) is trefoil.TrefoilEncoderForSequenceClassification
    assert known["label"] in (0, 1)
    assert known["model"].config.id2label == {0: "fruit", 1: "time"}
    assert ".py" not in card.text.partition("## Files")[2]


def test_peft_makes_of_it_what_the_run_measured(small, run, base):
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    found = logits_of(peft.PeftModel.from_pretrained(model, small), small)
    expected = logits_of(load_merged(run / "best", AutoModelForSequenceClassification), run / "best")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_merged_it_is_an_ordinary_folder(run, base, tmp_path):
    folder = publish(run, tmp_path / "whole", merge=True)
    assert not {"adapter_config.json", "adapter_model.safetensors", "model_config.json"} & {
        file.name for file in folder.iterdir()
    }
    before, after = load_file(base / "model.safetensors"), load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(before[name], after[name])
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    expected = logits_of(load_merged(run / "best", AutoModelForSequenceClassification), run / "best")
    assert torch.equal(logits_of(model, folder), expected)
    card = ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.base_model) == ("transformers", None)
    assert trefoil.load(folder)(TEXTS[0]) == trefoil.load(run)(TEXTS[0])


@pytest.mark.slow
def test_merged_it_passes_the_check(run, tmp_path):
    assert all(check.ok for check in check_published(publish(run, tmp_path / "whole", merge=True)))


def test_the_same_run_gives_the_same_bytes_and_takes_the_place_of_the_last(small, run, tmp_path):
    again = publish(run, tmp_path / "small", card=ON_HUB)
    for _ in range(2):
        assert {file.name: file.read_bytes() for file in again.iterdir()} == {
            file.name: file.read_bytes() for file in small.iterdir()
        }
        publish(run, again, card=ON_HUB, overwrite=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            r"is an adapter on .*/encoder, which nobody else has; publish the whole model with merge \(--merge\), or say",
        ),
        (
            {"card": ON_HUB, "dtype": "bfloat16"},
            r"dtype \(--dtype\) is for whole models, and this is an adapter; add merge",
        ),
        ({"card": ON_HUB, "space": True}, r"space \(--space\) is for whole models"),
    ],
)
def test_what_an_adapter_cannot_be_is_refused(run, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        publish(run, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_there_must_be_something_to_merge(source, tmp_path):
    with pytest.raises(UserError, match=r"is a whole model, with no adapter to merge; leave out merge \(--merge\)"):
        publish(source, tmp_path / "out", merge=True)


def test_it_passes_the_check_but_is_not_loaded(small, capsys):
    assert main(["publish", "--check", str(small)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ok      checksums: 9 files as they were published" in lines
    assert lines[-1].startswith("ok      loading: not tried, as nothing of the adapter's base lies here")


@pytest.mark.parametrize(
    ("name", "content", "failing"),
    [
        ("adapter_model.safetensors", None, {"checksums"}),
        ("modeling_layer.py", b"1", {"code"}),
        ("model.safetensors", b"", {"weights"}),
        (
            "model_config.json",
            b'{"model_type": "trefoil_encoder", "auto_map": {"AutoModel": "a.B"}}',
            {"checksums", "config"},
        ),
        ("README.md", b"---\nlibrary_name: transformers\npipeline_tag: text-classification\n---\n", {"card"}),
    ],
)
def test_what_is_wrong_with_it_fails_the_check(small, tmp_path, name, content, failing):
    folder = shutil.copytree(small, tmp_path / "small")
    if content is None:
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
    (folder / name).write_bytes(content)
    assert {check.name for check in check_published(folder) if not check.ok} == failing


def test_the_command(run, tmp_path, capsys):
    assert main(["publish", str(run), str(tmp_path / "small"), "--base-model", "me/base"]) == 0
    assert main(["publish", str(run), str(tmp_path / "whole"), "--merge"]) == 0
    assert (tmp_path / "small" / "adapter_config.json").is_file()
    assert (tmp_path / "whole" / "config.json").is_file()
