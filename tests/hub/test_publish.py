import json
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

import trefoil
from tests.hub.conftest import HEADS
from tests.training_runs import bind_to_permissions, set_writable
from trefoil.configuration.errors import UserError
from trefoil.hub import publish as publish_module
from trefoil.hub.bundle import bundle_code, flatten
from trefoil.hub.publish import publish
from trefoil.pipelines.translation import TranslationPipeline

PACKAGE_FOLDERS = {"configuration": "configuration_", "modeling": "modeling_", "pipelines": "pipeline_"}

PIPELINE_IMPORTS = [
    b"from .pipeline_summarization import SummarizationPipeline  # noqa: F401\n",
    b"from .pipeline_translation import TranslationPipeline  # noqa: F401\n",
]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_holds_what_is_needed_and_nothing_else(published):
    names = {path.name for path in published.iterdir()}
    assert {name for name in names if not name.endswith(".py")} == {
        "README.md",
        "config.json",
        "curve.png",
        "generation_config.json",
        "manifest.json",
        "model.safetensors",
        "recipe.yaml",
        "results.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert {"configuration_encoder_decoder.py", "modeling_encoder_decoder.py", "pipeline_translation.py"} <= names
    assert {"pipeline_summarization.py", "pipeline_text_to_text.py"} <= names
    assert "pipeline_question_answering.py" not in names
    assert "configuration_presets.py" not in names


def test_a_recurrent_model_brings_no_transformer_along():
    assert bundle_code(trefoil.TrefoilRecurrentConfig).keys() == {
        "configuration_recurrent.py", "modeling_base.py", "modeling_cache.py", "modeling_dropout.py", "modeling_losses.py",
        "modeling_recurrence.py", "modeling_recurrent.py", "modeling_scores.py", "modeling_sequence_to_sequence.py",
        "modeling_unpadding.py", "modeling_vocabulary.py", "pipeline_like_lengths.py", "pipeline_summarization.py",
        "pipeline_text_to_text.py", "pipeline_translation.py",
    }  # fmt: skip


def test_a_captioner_brings_its_image_processor_and_what_its_decoder_needs(published_captioner):
    names = {path.name for path in published_captioner.iterdir()}
    assert {name for name in names if not name.endswith(".py")} == {
        "README.md", "config.json", "generation_config.json", "manifest.json", "model.safetensors", "preprocessor_config.json",
        "recipe.yaml", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert {
        "configuration_vision_encoder_decoder.py",
        "modeling_vision_encoder_decoder.py",
        "modeling_decoder.py",
    } <= names
    assert not {name for name in names if name.startswith("pipeline_") or name.endswith("_encoder.py")}
    config = json.loads((published_captioner / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_vision_encoder_decoder.TrefoilVisionEncoderDecoderConfig",
        "AutoModelForImageTextToText": "modeling_vision_encoder_decoder.TrefoilVisionEncoderDecoderModel",
    }
    assert "custom_pipelines" not in config


def test_a_captioner_without_an_image_processor_is_refused(captioner, tmp_path):
    folder = without(tmp_path / "run", "preprocessor_config.json")(captioner)
    with pytest.raises(UserError, match=r"run: no image processor to load, from preprocessor_config\.json: "):
        publish(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_captioner_survives_fine_tuning_and_saving_again_without_the_package(published_captioner, tmp_path):
    first, tuned = run_clean(FINE_TUNE_CAPTIONER, tmp_path / "home-a", published_captioner, tmp_path / "tuned")
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    assert config["auto_map"].keys() == {"AutoConfig", "AutoModelForImageTextToText"}
    names = {path.name for path in published_captioner.glob("*.py")}
    assert {path.name for path in (tmp_path / "tuned").glob("*.py")} == names
    again, _ = run_clean(FINE_TUNE_CAPTIONER, tmp_path / "home-b", tmp_path / "tuned", tmp_path / "again")
    assert first != tuned == again


def test_code_is_the_source_but_for_import_lines(published):
    sources = {
        prefix + path.name: path
        for folder, prefix in PACKAGE_FOLDERS.items()
        for path in Path(sys.modules[f"trefoil.{folder}"].__file__).parent.glob("*.py")
    }
    for path in published.glob("*.py"):
        original = sources[path.name].read_bytes().splitlines(keepends=True)
        lines = path.read_bytes().splitlines(keepends=True)
        added = [line for line in lines if line in PIPELINE_IMPORTS]
        assert added == (PIPELINE_IMPORTS if path.name == "modeling_encoder_decoder.py" else [])
        kept = [line for line in lines if line not in added]
        assert len(kept) == len(original)
        changed = [(before, after) for before, after in zip(original, kept, strict=True) if before != after]
        assert all(re.match(rb"from \.{1,2}[\w.]+ import", before) for before, _ in changed)
        assert all(re.match(rb"from \.(configuration|modeling|pipeline)_\w+ import", after) for _, after in changed)


def test_config_points_at_every_class(published):
    config = json.loads((published / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_encoder_decoder.TrefoilEncoderDecoderConfig",
        "AutoModel": "modeling_encoder_decoder.TrefoilEncoderDecoderModel",
        "AutoModelForSeq2SeqLM": "modeling_encoder_decoder.TrefoilEncoderDecoderForConditionalGeneration",
    }
    assert {task: entry["impl"] for task, entry in config["custom_pipelines"].items()} == {
        "translation": "pipeline_translation.TranslationPipeline",
        "summarization": "pipeline_summarization.SummarizationPipeline",
    }
    assert config["trefoil_version"] == trefoil.__version__


def test_twice_the_same_bytes(source, published, tmp_path):
    again = publish(
        source,
        tmp_path / "tiny",
        card=publish_module.CardFields(language=["ko", "en"], license="apache-2.0", example="세 개의 사과"),
    )
    assert contents(again) == contents(published)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounded_weights_take_half_the_room_and_load_as_they_were(source, published, tmp_path, dtype):
    folder = publish(source, tmp_path / "rounded", dtype=dtype)
    stored, before = (load_file(path / "model.safetensors") for path in (folder, published))
    assert stored.keys() == before.keys()
    assert {str(weight.dtype) for weight in stored.values()} == {f"torch.{dtype}"}
    rounded, exact = (AutoModelForSeq2SeqLM.from_pretrained(path) for path in (folder, published))
    assert rounded.dtype == exact.dtype == torch.float32
    for name, weight in exact.state_dict().items():
        assert torch.equal(rounded.state_dict()[name], weight.to(getattr(torch, dtype)).float()), name
    assert f"before the weights were rounded to {dtype}" in (folder / "README.md").read_text()
    assert "rounded" not in (published / "README.md").read_text()


def test_large_weights_are_sharded(source, published, tmp_path):
    sharded = publish(source, tmp_path / "sharded", max_shard_size="100KB")
    assert len(list(sharded.glob("model-*-of-*.safetensors"))) > 1
    whole, parts = (AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict() for folder in (published, sharded))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_folder_is_published_from_its_best_model(source, tmp_path):
    shutil.copytree(source, tmp_path / "run" / "best")
    assert (publish(tmp_path / "run", tmp_path / "out") / "results.json").exists()


def test_installed_code_is_used_where_the_package_is_imported(published, tmp_path):
    pipe = pipeline("translation", model=str(published), device="cpu")
    assert type(pipe) is TranslationPipeline
    assert type(pipe.model) is trefoil.TrefoilEncoderDecoderForConditionalGeneration
    pipe.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert not saved.keys() & {"auto_map", "custom_pipelines", "trefoil_version"}
    assert not list(tmp_path.glob("*.py"))


CLEAN = """
import importlib.abc, json, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] == "trefoil":
            raise ModuleNotFoundError(fullname)
sys.meta_path.insert(0, Hidden())
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline
ids = torch.tensor([[5, 6, 7, 2]])
"""
FINE_TUNE = """
model = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1], trust_remote_code=True)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
model.train()
model(input_ids=ids, labels=ids).loss.backward()
optimizer.step()
model.eval().save_pretrained(sys.argv[2])
AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True).save_pretrained(sys.argv[2])
print(json.dumps(model(input_ids=ids, decoder_input_ids=ids).logits[0].tolist()))
"""
FINE_TUNE_CAPTIONER = """
from transformers import AutoModelForImageTextToText
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], trust_remote_code=True)
pixel_values = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)
logits = lambda: model.eval()(pixel_values=pixel_values, decoder_input_ids=ids).logits[0].tolist()
before = logits()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
model.train()(pixel_values=pixel_values, labels=ids).loss.backward()
optimizer.step()
model.save_pretrained(sys.argv[2])
print(json.dumps([before, logits()]))
"""
USE = """
pipe = pipeline("translation", model=sys.argv[1], trust_remote_code=True, device="cpu")
logits = pipe.model(input_ids=ids, decoder_input_ids=ids).logits[0].tolist()
print(json.dumps({"type": type(pipe).__module__, "answer": pipe("세 개의 사과"), "logits": logits}))
"""


def run_clean(script, home, *arguments):
    environment = os.environ | {"HF_HOME": str(home), "HF_MODULES_CACHE": str(home / "modules"), "HF_HUB_OFFLINE": "1"}
    process = subprocess.run(
        [sys.executable, "-I", "-c", CLEAN + script, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.slow
def test_it_survives_fine_tuning_and_saving_again_without_the_package(published, tmp_path):
    logits = run_clean(FINE_TUNE, tmp_path / "home-a", published, tmp_path / "tuned")
    assert {path.name for path in published.glob("*.py")} == {path.name for path in (tmp_path / "tuned").glob("*.py")}
    used = run_clean(USE, tmp_path / "home-b", tmp_path / "tuned")
    assert used["type"].startswith("transformers_modules.tuned.")
    assert used["answer"][0].keys() == {"translation_text"}
    assert used["logits"] == logits
    before = AutoModelForSeq2SeqLM.from_pretrained(published)
    ids = torch.tensor([[5, 6, 7, 2]])
    assert before(input_ids=ids, decoder_input_ids=ids).logits[0].tolist() != logits


def test_without_a_token_nothing_is_begun(source, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UserError, match=r"cannot push to me/tiny: there is no Hub token; run `hf auth login`"):
        publish(source, tmp_path / "out", push_to_hub="me/tiny")
    assert not (tmp_path / "out").exists()


def test_a_wrong_hub_id_is_refused(source, tmp_path):
    with pytest.raises(UserError, match="cannot push to 'a/b/c'"):
        publish(source, tmp_path / "out", push_to_hub="a/b/c")


def test_pushing_uploads_the_folder(source, tmp_path, monkeypatch):
    calls = []

    class Api:
        def create_repo(self, repo_id, **options):
            calls.append(("create", repo_id, options))
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def upload_folder(self, **options):
            files = sorted(path.name for path in options["folder_path"].iterdir())
            calls.append(("upload", options["repo_id"], options["repo_type"], files))

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_token")
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    folder = publish(source, tmp_path / "out", push_to_hub="me/tiny", private=True)
    files = sorted(path.name for path in folder.iterdir())
    model = {"repo_type": "model", "space_sdk": None, "private": True, "exist_ok": True}
    assert calls == [("create", "me/tiny", model), ("upload", "me/tiny", "model", files)]
    assert 'from_pretrained("me/tiny", trust_remote_code=True)' in (folder / "README.md").read_text()

    calls.clear()
    folder = publish(source, tmp_path / "space", push_to_hub="me/tiny", space=True)
    with_page = sorted(path.name for path in folder.iterdir())
    assert {"app.py", "requirements.txt"} == {name for name in with_page if name not in files and "_" not in name}
    kinds = {"model": None, "space": "gradio"}
    assert calls == [
        call
        for kind, sdk in kinds.items()
        for call in (
            ("create", "me/tiny", {"repo_type": kind, "space_sdk": sdk, "private": False, "exist_ok": True}),
            ("upload", "me/tiny", kind, with_page),
        )
    ]


def test_a_push_that_fails_says_what_failed(source, tmp_path, monkeypatch):
    class Api:
        def create_repo(self, repo_id, repo_type, **options):
            if repo_type == "space":
                raise OSError("no room\nmore")
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def upload_folder(self, **options):
            pass

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_token")
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    with pytest.raises(UserError, match=r"out is written, but pushing to the space me/tiny failed: no room$"):
        publish(source, tmp_path / "out", push_to_hub="me/tiny", space=True)


def test_it_replaces_only_what_it_published(source, tmp_path):
    out = publish(source, tmp_path / "out")
    with pytest.raises(UserError, match="is not empty; choose another folder"):
        publish(source, out)
    publish(source, out, overwrite=True, metrics=[])
    assert "Results" not in (out / "README.md").read_text()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files too"):
        publish(source, out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    with pytest.raises(UserError, match="overlap"):
        publish(source, source / "out", overwrite=True)


def test_a_failure_leaves_nothing_behind(source, tmp_path, monkeypatch):
    def fail(config_class):
        raise RuntimeError("disk full")

    monkeypatch.setattr(publish_module, "bundle_code", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        publish(source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_not_published(source, tmp_path, value):
    name = "model.encoder.layers.0.mlp.up_proj.weight"
    folder = changed(source, tmp_path / "run", name, value)
    with pytest.raises(UserError) as error:
        publish(folder, tmp_path / "out")
    assert (
        str(error.value) == f"{folder}: {name} holds NaN or an infinity, so the model is not published; train it anew"
    )
    assert not (tmp_path / "out").exists()


def test_weights_beyond_a_precision_are_not_published_in_it(source, tmp_path):
    name = "model.encoder.layers.0.mlp.up_proj.weight"
    folder = changed(source, tmp_path / "run", name, 1e5)
    with pytest.raises(UserError, match=f"{name} is beyond what float16 can hold; publish with --dtype bfloat16"):
        publish(folder, tmp_path / "out", dtype="float16")
    publish(folder, tmp_path / "out", dtype="bfloat16")


def changed(source, folder, name, value):
    folder = without(folder)(source)
    weights = load_file(folder / "model.safetensors")
    weights[name][0, 0] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def killed_while_it_publishes(source, target, seconds):
    """Publish over and over, until some seconds later that process is killed."""

    def again_and_again():
        while True:
            publish(source, target, overwrite=True)

    process = get_context("fork").Process(target=again_and_again)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()


@pytest.mark.parametrize("times", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_at_any_time_it_leaves_the_old_folder_or_the_new_one_and_the_next_clears_up(source, tmp_path, times):
    whole = contents(publish(source, tmp_path / "out"))
    for _ in range(times):
        killed_while_it_publishes(source, tmp_path / "out", random.uniform(0.05, 0.6))
        assert contents(tmp_path / "out") == whole
    with pytest.raises(UserError, match="is not empty"):
        publish(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def fill_up(folder):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))


def make_read_only(folder):
    bind_to_permissions()
    set_writable(folder, False, False)


@pytest.mark.parametrize(
    ("prevent", "why"), [(fill_up, "File too large"), (make_read_only, "Permission denied")], ids=["full", "read-only"]
)
def test_where_it_cannot_write_is_one_line_and_leaves_what_was_there(source, tmp_path, prevent, why):
    whole = contents(publish(source, tmp_path / "out"))
    found = get_context("fork").Queue()

    def publish_in_vain():
        prevent(tmp_path)
        try:
            publish(source, tmp_path / "out", overwrite=True)
        except UserError as error:
            found.put(str(error))

    process = get_context("fork").Process(target=publish_in_vain)
    process.start()
    line = found.get(timeout=60)
    process.join()
    set_writable(tmp_path, False, True)
    assert re.fullmatch(
        rf"{tmp_path / 'out'}: cannot be written \(.*{why}.*; \S+ GB are free there\); what was there before is kept; "
        "make room or choose another folder",
        line,
    )
    assert contents(tmp_path / "out") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def without(folder, *names, **changes):
    """Makes `folder` a run that lacks files, or whose config.json differs."""

    def build(source):
        folder.mkdir()
        for path in source.iterdir():
            if path.name not in names:
                (folder / path.name).write_bytes(path.read_bytes())
        config = folder / "config.json"
        if config.exists():
            config.write_text(json.dumps(json.loads(config.read_text()) | changes))
        return folder

    return build


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["config.json"], {}, "there is no config.json"),
        (["model.safetensors"], {}, "holds no safetensors weights"),
        ([], {"model_type": "bert"}, "model_type 'bert' is not one of trefoil_encoder, "),
        ([], {"architectures": ["Bert"]}, "architectures 'Bert' is not one of TrefoilEncoderDecoderModel, "),
        ([], {"tie_word_embeddings": False, "share_encoder_decoder_embeddings": False}, "missing keys"),
    ],
)
def test_mistakes_are_named(source, tmp_path, names, changes, message):
    with pytest.raises(UserError, match=message):
        publish(without(tmp_path / "run", *names, **changes)(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_does_not_fit_is_refused(source, tmp_path):
    folder = without(tmp_path / "run")(source)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<ko>", "<en>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=r"the tokenizer has \d+ tokens, but the model's embedding only \d+"):
        publish(folder, tmp_path / "out")


def test_imports_become_flat():
    text, needed = flatten(
        "trefoil.modeling.encoder", "from ..configuration.encoder import A\nfrom .layer import (\n    B,\n)\n"
    )
    assert text == "from .configuration_encoder import A\nfrom .modeling_layer import (\n    B,\n)\n"
    assert needed == ["trefoil.configuration.encoder", "trefoil.modeling.layer"]


@pytest.mark.parametrize(
    "source_text",
    [
        "from . import layer\n",
        "from .. import configuration\n",
        "from ..training.loop import x\n",
        "def f():\n    from .layer import x\n",
        "from trefoil.modeling.layer import x\n",
        "import trefoil\n",
        '"""Write\n\nfrom .layer import x\n"""\n',
    ],
)
def test_imports_that_cannot_be_flat_are_refused(source_text):
    with pytest.raises(ValueError, match=r"trefoil\.modeling\.encoder"):
        flatten("trefoil.modeling.encoder", source_text)


# --- the example on the card


@pytest.fixture
def with_row(source, tmp_path):
    """A run's best model that has kept a row of its data."""
    folder = shutil.copytree(source, tmp_path / "run")
    (folder / "example.json").write_text(json.dumps({"text": "네 개의 배"}))
    return folder


def widget(folder):
    return ModelCard.load(folder / "README.md").data.get("widget")


def test_the_card_shows_a_row_of_the_data_and_the_user_is_told(with_row, tmp_path, capsys):
    folder = publish(with_row, tmp_path / "out")
    assert widget(folder) == [{"text": "네 개의 배"}]
    assert 'translate("네 개의 배")' in (folder / "README.md").read_text()
    assert capsys.readouterr().err.splitlines()[-1] == (
        "the card shows this row of your data, which was not trained on: “네 개의 배”; --example TEXT shows another"
    )
    assert not (folder / "example.json").exists()


def test_an_example_of_the_user_s_own_is_shown_without_a_word(with_row, tmp_path, capsys):
    fields = publish_module.CardFields(example="half past five")
    assert widget(publish(with_row, tmp_path / "out", card=fields)) == [{"text": "half past five"}]
    assert "your data" not in capsys.readouterr().err


def test_without_a_row_nothing_is_said_of_one(source, tmp_path, capsys):
    assert "meeting" in widget(publish(source, tmp_path / "out"))[0]["text"]
    assert "your data" not in capsys.readouterr().err


def test_a_row_that_nobody_has_seen_is_not_pushed(with_row, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(publish_module, "_require_hub", lambda repo_id: None)
    monkeypatch.setattr(publish_module, "_push", lambda *arguments, **options: None)
    folder = publish(with_row, tmp_path / "out", push_to_hub="me/tiny")
    assert all("배" not in file.read_text() for file in folder.glob("*.md"))
    assert capsys.readouterr().err.splitlines()[-1] == (
        "the card shows none of your data, since it was pushed at once; to show a row: --example '네 개의 배'"
    )


@pytest.mark.parametrize("head", HEADS)
def test_published_anew_the_card_is_the_same(published_head, tmp_path, head):
    again = publish(published_head(head), tmp_path / "tiny")
    assert (again / "README.md").read_bytes() == (published_head(head) / "README.md").read_bytes()


def test_published_anew_the_card_shows_the_same_row(with_row, tmp_path, capsys):
    folder = publish(publish(with_row, tmp_path / "out"), tmp_path / "again")
    assert widget(folder) == [{"text": "네 개의 배"}]
    assert capsys.readouterr().err.count("your data") == 1


@pytest.mark.parametrize(
    ("head", "given", "message"),
    [
        ("question-answering", {"example": "a"}, "asked with a context and a question: give example and question"),
        ("question-answering", {"question": "a"}, "asked with a context and a question: give example and question"),
        ("entailment", {"example": "a"}, "is for text-classification and is asked with two texts: give example and"),
        ("causal-lm", {"question": "a"}, "is for text-generation and is asked with one text: give example"),
        ("causal-lm", {"example": "a", "question": "b"}, "is asked with one text"),
    ],
)
def test_an_example_is_of_as_many_texts_as_the_model_is_asked_with(published_head, tmp_path, head, given, message):
    with pytest.raises(UserError, match=message):
        publish(published_head(head), tmp_path / "out", card=publish_module.CardFields(**given))
    assert not (tmp_path / "out").exists()
