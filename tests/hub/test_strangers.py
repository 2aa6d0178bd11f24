"""A folder from a stranger: whatever it holds, no command runs code of it, reads what is not in it, or fills the memory."""

import ast
import contextlib
import json
import re
import shutil
import struct
import subprocess
import sys

import pytest
import yaml
from product import FILES, ROOT
from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer

import trefoil
from trefoil.cli import main

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


def often(*tried, but=None):
    """All tricks but one; those that are not tried often are slow."""
    tricks = [trick for trick in TRICKS if trick is not but]
    marked = [pytest.param(trick, marks=[] if trick in tried else pytest.mark.slow) for trick in tricks]
    return pytest.mark.parametrize("trick", marked, ids=lambda trick: trick.__name__)


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
    yield ["import", folder, tmp_path / "ours"]
    yield ["evaluate", folder, "--minimal-pairs", tmp_path / "none.jsonl"]


@often(generation_config_consents, tokenizer_brings_code, model_is_code)
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


@often(tokenizer_brings_code, model_is_code)
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
    config = trefoil.TrefoilVisionEncoderDecoderConfig(encoder=dict(half), decoder=dict(half))
    with pytest.raises(ValueError, match="for this kind of AutoModel"):
        trefoil.TrefoilVisionEncoderDecoderModel(config)
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
            if getattr(getattr(node.func, "value", None), "id", None) in ("GenerationConfig", "PeftModel"):
                continue  # neither has code of its own
            hands_on = any(isinstance(argument, ast.Starred) for argument in node.args)
            from_nowhere = bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value is None
            if not (hands_on or from_nowhere):
                unsaid.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert unsaid == []


@often(card_consents)
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


@often(tokenizer_brings_code, another_release_wrote_it, but=model_is_code)
def test_transformers_itself_runs_none_of_it_where_the_package_is_imported(stranger, tmp_path, nothing_asks, trick):
    folder = stranger(trick)
    for load in (AutoModel, AutoModelForSeq2SeqLM):
        assert type(load.from_pretrained(folder)).__module__.startswith("trefoil.")
    if trick not in (
        tokenizer_brings_code,
        code_in_the_place_of_templates,
        code_outside,
    ):  # for which transformers asks
        AutoTokenizer.from_pretrained(folder)
    assert not (tmp_path / "ran").exists()


# --- what is not in the folder


LINKS = [
    "README.md",
    "recipe.yaml",
    "results.json",
    "curve.png",
    "tokenizer.json",
    "generation_config.json",
    "model.safetensors",
]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("README.md", "model.safetensors") else pytest.mark.slow)
        for name in LINKS
    ],
)
def test_no_command_that_copies_follows_a_link_out_of_the_folder(published, tmp_path, capsys, name):
    folder, secret = shutil.copytree(published, tmp_path / "tiny"), tmp_path / "secret"
    shutil.move(folder / name, secret)
    (folder / name).symlink_to(secret)
    said = f"{folder / name}: is a link that leads out of the folder; put the file itself there, or remove it\n"
    for command in (["publish", folder, tmp_path / "out"], ["export", folder, tmp_path / "out", "--to", "bart"]):
        assert main(list(map(str, command))) == 2
        assert capsys.readouterr().err == f"error: {said}"
    assert main(["publish", "--check", str(folder)]) == 1
    assert f"FAILED  files: {said}" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_nor_one_of_a_run_s_folder(source, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(source, run / "best")
    (tmp_path / "secret").write_text("mine")
    (run / "curve.png").symlink_to(tmp_path / "secret")
    assert main(["publish", str(run), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {run / 'curve.png'}: is a link that leads out of the folder")
    (run / "curve.png").unlink()
    shutil.move(run / "best", tmp_path / "elsewhere")
    (run / "best").symlink_to(tmp_path / "elsewhere")
    assert main(["publish", str(run), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {run / 'best'}: is a link that leads out of the folder")


def test_checkpoints_may_lie_on_another_disk(source, tmp_path):
    shutil.copytree(source, tmp_path / "run" / "best")
    (tmp_path / "disk").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "disk")
    assert main(["publish", str(tmp_path / "run"), str(tmp_path / "out")]) == 0


def each_command(folder, tmp_path):
    yield from commands(folder, tmp_path)
    yield ["evaluate", folder, "--split", "test"]
    yield ["demo", folder]
    yield ["train", tmp_path / "mine.yaml", f"model.init_from={folder}", f"output_dir={tmp_path / 'run'}"]


def says_so(folder, tmp_path, capsys, said):
    (tmp_path / "mine.yaml").write_text(
        "data: {embedded: true, embedded_sizes: {train: 9}}\ntraining: {max_steps: 1, trackers: []}\n"
    )
    for command in each_command(folder, tmp_path):
        code = main(list(map(str, command)))
        shown = capsys.readouterr()
        if "--check" in command:
            assert (code, f"FAILED  weights: {said}" in shown.out) == (1, True), command
            assert "loading: not tried" in shown.out
        else:
            assert (code, shown.err.splitlines()[-1].startswith(f"error: {said}")) == (2, True), (command, shown.err)
    assert not any((tmp_path / name).exists() for name in ("again", "stock", "ours", "page.html"))


def test_no_command_reads_weights_elsewhere(published, tmp_path, capsys):
    folder = shutil.copytree(published, tmp_path / "tiny")
    shutil.move(folder / "model.safetensors", tmp_path / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"x": "../model.safetensors"}}))
    says_so(folder, tmp_path, capsys, f"{index}: names '../model.safetensors', which is no file beside it")


# --- what no machine has


def test_no_command_makes_a_model_that_the_weights_are_none_of(published, tmp_path, capsys):
    folder = shutil.copytree(published, tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    config["decoder"]["num_hidden_layers"] = 10_000_000
    (folder / "config.json").write_text(json.dumps(config))
    says_so(
        folder, tmp_path, capsys, f"{folder / 'config.json'}: num_hidden_layers is 10,000,000, but the weights have "
    )


def test_no_command_writes_without_an_end(published, tmp_path, capsys):
    folder = shutil.copytree(published, tmp_path / "tiny")
    change(folder / "generation_config.json", min_new_tokens=10**9)
    says_so(
        folder,
        tmp_path,
        capsys,
        f"{folder / 'generation_config.json'}: min_new_tokens is 1,000,000,000, and more than ",
    )


def test_no_command_believes_a_head_of_weights_that_lies(published, tmp_path, capsys):
    folder = shutil.copytree(published, tmp_path / "tiny")
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(struct.pack("<Q", 2**50))
    says_so(folder, tmp_path, capsys, f"{folder / 'model.safetensors'}: cannot be read: ")


@pytest.mark.parametrize("option", ["--num-beams", "--n-best", "--max-new-tokens"])
def test_nor_does_the_command_line_ask_for_what_no_machine_has(published, capsys, option):
    assert main(["translate", str(published), "세 개", option, "1000000"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {option}=1000000: is out of range")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"forced_bos_token_id": 10**9}, "out of bounds"),
        ({"num_beams": -1}, "negative"),
        ({"max_new_tokens": "x"}, ""),
        ({"length_penalty": 1e30}, "out of range"),
    ],
)
def test_settings_that_no_model_can_follow_are_a_line(published, tmp_path, capsys, settings, message):
    folder = shutil.copytree(published, tmp_path / "tiny")
    change(folder / "generation_config.json", **settings)
    assert main(["translate", str(folder), "세 개의 사과"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {folder}: ")
    assert message in line


# --- words


def test_a_tokenizer_s_own_cuts_and_padding_change_nothing_and_are_not_published(published, tmp_path, capsys):
    folder = shutil.copytree(published, tmp_path / "tiny")
    text = "세 개의 사과와 두 개의 배"
    assert main(["translate", str(folder), text]) == 0
    right = capsys.readouterr().out
    cuts = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    fills = {"strategy": {"Fixed": 20}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0}
    change(folder / "tokenizer.json", truncation=cuts, padding=fills | {"pad_token": "<pad>"})
    assert main(["translate", str(folder), text]) == 0
    assert capsys.readouterr().out == right
    assert main(["publish", str(folder), str(tmp_path / "again")]) == 0
    kept = json.loads((tmp_path / "again" / "tokenizer.json").read_text())
    assert (kept["truncation"], kept["padding"]) == (None, None)
    assert not {"max_length", "stride"} & json.loads((tmp_path / "again" / "tokenizer_config.json").read_text()).keys()


TEMPLATES = {
    "{{ messages.__class__.__mro__ }}": "access to attribute '__class__' of 'list' object is unsafe",
    "{% for one in range(10 ** 9) %}x{% endfor %}": "Range too big",
    "{{ 'x' * (10 ** 15) }}": "",
    "{{ raise_exception('no\nsuch role') }}": "no such role",
    "{{ 1 / 0 }}": "division by zero",
    "{{ cycler.__init__.__globals__.os.system('touch ' ~ 'ran') }}": "",
    "{% include '/etc/passwd' %}": "",
    "{% if %}": "",
    "{{ messages[7].content.x.y }}": "",
}


@pytest.mark.parametrize(("template", "message"), TEMPLATES.items())
def test_a_template_of_conversations_is_rendered_in_a_sandbox(
    published_head, tmp_path, monkeypatch, capsys, template, message
):
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(published_head("causal-lm"), tmp_path / "tiny")
    (folder / "chat_template.jinja").write_text(template)
    capsys.readouterr()  # of publishing, where it took long
    assert main(["predict", str(folder), "three"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the tokenizer's template of conversations fails: ")
    assert message in line
    assert list(tmp_path.iterdir()) == [folder]


# --- what docs/security.md says


def test_each_promise_names_a_test_that_there_is():
    promises = [line for line in (ROOT / "docs" / "security.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(promises) > 15
    file = None
    for promise in promises:
        named = re.findall(r"\((\.\./tests/[\w/.]+)\)|::(test_\w+)", promise)
        assert named, promise
        for place, test in named:
            file = ROOT / "docs" / place if place else file
            assert not test or f"\ndef {test}(" in file.read_text(), test


# --- the whole command line, as somebody types it


@pytest.mark.slow
def test_a_bomb_of_a_folder_in_a_process_with_little_memory(published, tmp_path):
    """The same, where what is not refused would end the process."""
    folder = shutil.copytree(published, tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    for half in ("encoder", "decoder"):
        config[half] |= {"vocab_size": 10**9, "num_hidden_layers": 10**7}
    (folder / "config.json").write_text(json.dumps(config))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2); "
    code = f"{limit}from trefoil.cli import main; raise SystemExit(main(['translate', {str(folder)!r}, 'x']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {folder / 'config.json'}: ")
