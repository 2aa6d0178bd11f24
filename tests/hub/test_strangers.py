"""A folder from a stranger: whatever it holds, no command runs code of it."""

import ast
import contextlib
import json
import shutil

import pytest
import yaml
from product import FILES, ROOT
from transformers import VisionEncoderDecoderConfig

from trefoil.cli import main
from trefoil.modeling.vision_encoder_decoder import VisionEncoderDecoderModel

RUN_ME = "import pathlib\npathlib.Path({ran!r}).touch()\ndef generate(model, **kwargs):\n    return None\n"
CONSENT = {"custom_generate": None, "trust_remote_code": True}


def change(file, **fields):
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(content | fields))


def card_consents(folder):
    head, body = (folder / "README.md").read_text().removeprefix("---\n").split("\n---\n", 1)
    head = yaml.safe_load(head) | {"inference": {"parameters": CONSENT | {"custom_generate": str(folder)}}}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(head)}---\n{body}")


def config_consents(folder):
    params = CONSENT | {"custom_generate": str(folder)}
    change(folder / "config.json", task_specific_params={"translation": params, "summarization": params})


def generation_config_consents(folder):
    change(folder / "generation_config.json", **CONSENT | {"custom_generate": str(folder)})


def nothing_more(folder):
    pass


def write_code(folder):
    shutil.copy(folder / "custom_generate" / "generate.py", folder / "tokenization.py")


def tokenizer_brings_code(folder):
    write_code(folder)
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization.Mine", "tokenization.Mine"]})


def processor_brings_code(folder):
    write_code(folder)
    change(folder / "processor_config.json", auto_map={"AutoProcessor": "tokenization.Mine"})


def pipeline_brings_code(folder):
    write_code(folder)
    entry = {"impl": "tokenization.Mine", "pt": ["AutoModelForSeq2SeqLM"], "type": "text"}
    change(folder / "config.json", custom_pipelines={"translation": entry})


def model_is_code(folder):
    write_code(folder)
    change(folder / "config.json", auto_map={"AutoConfig": "tokenization.Mine"}, model_type="of_a_stranger")


def another_release_wrote_it(folder):
    change(folder / "config.json", trefoil_version="0.0.1")
    for file in folder.glob("modeling_*.py"):
        shutil.copy(folder / "custom_generate" / "generate.py", file)
    shutil.rmtree(folder / "custom_generate")


def code_in_the_place_of_templates(folder):
    (folder / "custom_generate").rename(folder / "additional_chat_templates")
    (folder / "additional_chat_templates" / "generate.py").rename(folder / "additional_chat_templates" / "evil.py")
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["additional_chat_templates/evil.Mine", None]})


def code_outside(folder):
    shutil.move(folder / "custom_generate" / "generate.py", folder.parent / "evil.py")
    (folder / "custom_generate").rmdir()
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["../evil.Mine", None]})


TRICKS = [
    nothing_more,
    card_consents,
    config_consents,
    generation_config_consents,
    tokenizer_brings_code,
    processor_brings_code,
    pipeline_brings_code,
    model_is_code,
    another_release_wrote_it,
    code_in_the_place_of_templates,
    code_outside,
]


@pytest.fixture
def stranger(published, tmp_path):
    """A function: trick -> a published folder with code in it, and a way to have that run; the code makes a file."""

    def make(trick):
        folder = shutil.copytree(published, tmp_path / "tiny")
        (folder / "custom_generate").mkdir()
        (folder / "custom_generate" / "generate.py").write_text(RUN_ME.format(ran=str(tmp_path / "ran")))
        trick(folder)
        return folder

    return make


@pytest.fixture
def nothing_asks(monkeypatch):
    """transformers asks at a terminal whether code may run, where nobody has said that it may not."""

    def ask(question):
        raise AssertionError(question)

    monkeypatch.setattr("builtins.input", ask)


def commands(folder, tmp_path):
    yield ["translate", folder, "세 개의 사과"]
    yield ["predict", folder, "세 개의 사과"]
    yield ["attend", folder, "세 개의 사과", "-o", tmp_path / "page.html"]
    yield ["publish", folder, tmp_path / "again"]
    yield ["publish", "--check", folder]
    yield ["export", folder, tmp_path / "stock", "--to", "bart"]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
def test_no_command_runs_it(stranger, tmp_path, nothing_asks, trick, capsys):
    folder = stranger(trick)
    for command in commands(folder, tmp_path):
        main([str(argument) for argument in command])
        assert not (tmp_path / "ran").exists(), command


@pytest.fixture
def pairs(tmp_path):
    """A folder of three pairs of sentences, which are every split."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text('{"source": "세 개의 사과", "target": "three apples"}\n' * 3)
    return folder


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
@pytest.mark.parametrize("command", ["evaluate", "compare", "train"])
def test_neither_scoring_nor_training_runs_it(stranger, pairs, tmp_path, nothing_asks, trick, command, capsys):
    folder = stranger(trick)
    data = [f"data.path={pairs}", "evaluation.max_new_tokens=3"]
    arguments = ["evaluate", str(folder), *data, "--split", "test"]
    if command == "compare":
        arguments = ["compare", str(folder), str(folder), "--data", str(pairs / "test.jsonl"), data[1]]
    if command == "train":
        (tmp_path / "mine.yaml").write_text("training: {max_steps: 1, trackers: []}\n")
        arguments = [
            "train",
            str(tmp_path / "mine.yaml"),
            f"output_dir={tmp_path / 'run'}",
            f"model.init_from={folder}",
        ]
        arguments += data
    code = main(arguments)
    assert not (tmp_path / "ran").exists()
    assert code == 0 or capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    assert code == (2 if trick is model_is_code else 0)


def test_no_half_of_a_model_runs_it(tmp_path, nothing_asks):
    (tmp_path / "half.py").write_text(RUN_ME.format(ran=str(tmp_path / "ran")))
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    half = sizes | {
        "model_type": "vit",
        "auto_map": {"AutoModelForCausalLM": "half.Mine"},
        "_name_or_path": str(tmp_path),
    }
    with pytest.raises(ValueError, match="for this kind of AutoModel"):
        VisionEncoderDecoderModel(VisionEncoderDecoderConfig(encoder=dict(half), decoder=dict(half)))
    assert not (tmp_path / "ran").exists()


def test_whatever_loads_says_whether_code_may_run():
    """Left unsaid, transformers asks at a terminal."""
    unsaid = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            if name not in ("from_pretrained", "pipeline") or "trust_remote_code" in {one.arg for one in node.keywords}:
                continue
            hands_on = any(isinstance(argument, ast.Starred) for argument in node.args)
            from_nowhere = bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value is None
            if not (hands_on or from_nowhere):
                unsaid.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert unsaid == []


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
def test_no_page_runs_it(stranger, tmp_path, nothing_asks, trick, capsys):
    pytest.importorskip("gradio")
    from tests.visualization.pages import press
    from trefoil.visualization.app import make_page

    folder = stranger(trick)
    with contextlib.suppress(ValueError):  # some say that they cannot be loaded
        press(make_page(folder), "세 개의 사과")
    assert not (tmp_path / "ran").exists()
    if trick is card_consents:
        said = f"{folder}: of the card's parameters these are not used: custom_generate, trust_remote_code\n"
        assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("trick", [nothing_more, another_release_wrote_it], ids=lambda trick: trick.__name__)
def test_the_check_runs_it_where_the_user_says_so(stranger, tmp_path, trick, capsys):
    folder = stranger(trick)
    assert main(["publish", "--check", str(folder)]) == 1
    assert "FAILED  loading: not tried" in capsys.readouterr().out
    assert main(["publish", "--check", str(folder), "--trust-remote-code"]) == 1
    assert "ok      clean process" in capsys.readouterr().out
    assert (tmp_path / "ran").exists()
