import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from transformers import pipeline

from trefoil.configuration.errors import UserError
from trefoil.hub import check as check_module
from trefoil.hub import publish as publish_module
from trefoil.hub.check import check_published
from trefoil.hub.folders import load_tokenizer
from trefoil.hub.publish import publish
from trefoil.hub.space import (
    GRADIO_VERSION,
    PYTHON_VERSION,
    REQUIREMENTS,
    SENTENCEPIECE,
    metadata_of_run,
    space_files,
)
from trefoil.hub.uses import USES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def space(source, tmp_path_factory):
    return publish(source, tmp_path_factory.mktemp("space") / "tiny", space=True)


def failures(folder):
    return {check.name: check.message for check in check_published(folder) if not check.ok}


def test_the_code_is_the_package_s_but_for_import_lines():
    for name, content in space_files().items():
        if name == "requirements.txt":
            continue
        original = (ROOT / "visualization" / name.removeprefix("visualization_")).read_text().splitlines()
        lines = content.decode().splitlines()
        changed = [pair for pair in zip(original, lines, strict=True) if pair[0] != pair[1]]
        assert all(before.startswith("from .") for before, _ in changed)
        assert all(re.match(r"from visualization_\w+ import", after) for _, after in changed)


def test_everything_that_is_imported_is_there_or_required():
    files = space_files()
    known = {Path(name).stem for name in files} | {
        "gradio",
        "huggingface_hub",
        "yaml",
    }  # gradio and transformers bring them
    known |= {re.match(r"\w+", line)[0] for line in REQUIREMENTS} | set(sys.stdlib_module_names)
    for name, content in files.items():
        if name.endswith(".py"):
            for node in ast.walk(ast.parse(content)):
                if isinstance(node, ast.ImportFrom):
                    assert node.level == 0
                    assert node.module.split(".")[0] in known
                elif isinstance(node, ast.Import):
                    assert {alias.name.split(".")[0] for alias in node.names} <= known


def test_script_and_style_of_the_page_go_along():
    assert {"visualization_page.js", "visualization_page.css"} <= space_files().keys()


def test_versions_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(REQUIREMENTS) <= set(project["dependencies"])
    assert project["requires-python"] == f">={PYTHON_VERSION}"
    assert f"gradio=={GRADIO_VERSION}\n" in (ROOT / "constraints.txt").read_text()
    assert space_files()["requirements.txt"].decode().splitlines() == list(REQUIREMENTS)
    assert SENTENCEPIECE in project["optional-dependencies"]["ecosystem"]


@pytest.mark.parametrize(
    ("name", "extra"), [("source.spm", [SENTENCEPIECE]), ("spiece.model", [SENTENCEPIECE]), ("tokenizer.json", [])]
)
def test_a_tokenizer_of_sentencepiece_requires_it(source, tmp_path, monkeypatch, name, extra):
    tokenizer = load_tokenizer(source)
    monkeypatch.setattr(tokenizer, "save_pretrained", lambda folder: (folder / name).write_bytes(b""))
    monkeypatch.setattr(publish_module, "load_tokenizer", lambda folder: tokenizer)
    folder = publish(source, tmp_path / "tiny", space=True)
    assert (folder / "requirements.txt").read_text().splitlines() == [*REQUIREMENTS, *extra]


@pytest.mark.parametrize(
    ("head", "change", "message"),
    [
        ("bare", lambda folder: None, "a Space needs a model with a head, such as one fine-tuned for a task; publish"),
        (
            "causal-lm",
            lambda folder: [path.unlink() for path in folder.glob("tokenizer*")],
            "a Space needs a tokenizer beside the weights; publish this model without --space",
        ),
        (
            "masked-lm",
            lambda folder: drop(folder / "tokenizer_config.json", "mask_token"),
            "a Space needs a tokenizer with a mask token; publish",
        ),
    ],
)
def test_a_model_without_a_page_is_no_space(published_head, tmp_path, head, change, message):
    copy = shutil.copytree(published_head(head), tmp_path / "model")
    change(copy)
    with pytest.raises(UserError, match=message):
        publish(copy, tmp_path / "out", space=True)
    assert not (tmp_path / "out").exists()
    assert publish(copy, tmp_path / "out").is_dir()


def drop(path, key):
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != key}))


def test_the_page_knows_what_every_head_does():
    answers = pytest.importorskip("trefoil.visualization.answers", exc_type=ImportError)
    tasks = {use.task for auto_class, uses in USES.items() if auto_class != "AutoModel" for use in uses}
    assert tasks | {answers.TEXT_TO_TEXT} == answers.TASKS.keys()  # which the Hub counts among text-generation


def test_the_head_of_the_card_says_that_it_is_a_space(space, published):
    data = ModelCard.load(space / "README.md").data
    assert {name: data.get(name) for name in ("title", "sdk", "sdk_version", "app_file", "python_version")} == {
        "title": "tiny",
        "sdk": "gradio",
        "sdk_version": GRADIO_VERSION,
        "app_file": "app.py",
        "python_version": PYTHON_VERSION,
    }
    assert data.pipeline_tag == "translation"
    assert "sdk" not in ModelCard.load(published / "README.md").data.to_dict()
    assert not list(published.glob("visualization_*")) + list(published.glob("app.py"))


@pytest.mark.slow
def test_a_space_passes_the_check_and_its_model_loads_alone(space):
    checks = check_published(space)
    assert [check for check in checks if not check.ok] == []
    assert {check.name: check.message for check in checks}["space"] == f"gradio {GRADIO_VERSION} runs app.py"


@pytest.mark.parametrize(
    ("name", "content", "failed", "message"),
    [
        ("app.py", "import os\n", {"code", "loading"}, "app.py: not what trefoil-transformers"),
        ("visualization_page.py", None, {"code", "loading"}, "visualization_page.py: not what"),
        ("visualization_page.js", "alert(1)", {"code", "loading"}, "visualization_page.js: not what"),
        ("requirements.txt", None, {"space", "loading"}, "there is no requirements.txt; publish again with --space"),
        (
            "README.md",
            "---\nlibrary_name: transformers\npipeline_tag: translation\n---\n",
            {"space", "loading"},
            "lacks title, ",
        ),
    ],
)
def test_what_is_wrong_with_a_space_is_said(space, tmp_path, monkeypatch, name, content, failed, message):
    monkeypatch.setattr(check_module, "_check_loading", lambda folder, config: [])
    copy = shutil.copytree(space, tmp_path / "tiny")
    (copy / "manifest.json").unlink()
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_text(content)
    found = failures(copy)
    assert found.keys() == failed
    assert any(message in text for text in found.values())


def test_a_space_is_replaced_like_any_published_folder(source, space, tmp_path):
    copy = shutil.copytree(space, tmp_path / "tiny")
    publish(source, copy, overwrite=True)
    assert not (copy / "app.py").exists()


def test_a_run_says_how_to_try_it(published_head, source):
    metadata = metadata_of_run(published_head("question-answering"), "회의")
    assert metadata == {
        "title": "회의",
        "pipeline_tag": "question-answering",
        "widget": [{"text": "회의는 몇 시에 시작해요?", "context": "회의는 삼월 십오일 오후 두 시 반에 시작해요."}],
    }
    assert metadata_of_run(source, "x")["widget"] == [
        {"text": "The meeting is at half past two on the fifteenth of March."}
    ]


def test_a_run_is_tried_on_a_row_of_its_own_data(source, tmp_path):
    folder = shutil.copytree(source, tmp_path / "run")
    (folder / "example.json").write_text('{"text": "네 개의 배"}')
    assert metadata_of_run(folder, "x")["widget"] == [{"text": "네 개의 배"}]


SERVE = """
import importlib.abc, runpy, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] == "trefoil":
            raise ModuleNotFoundError(fullname)
sys.meta_path.insert(0, Hidden())
sys.path.insert(0, sys.argv[1])  # as `python app.py` does
runpy.run_path(f"{sys.argv[1]}/app.py", run_name="__main__")
"""


@pytest.mark.slow
def test_app_py_answers_where_there_is_no_package(space, tmp_path):
    client = pytest.importorskip("gradio_client")
    folder = shutil.copytree(space, tmp_path / "tiny")
    hub = {"HF_HOME": str(tmp_path / "home"), "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    errors = tmp_path / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", SERVE, str(folder)],
            env=os.environ | hub,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    try:
        line = process.stdout.readline()
        assert line.startswith("tiny: http://127.0.0.1:"), line + errors.read_text()
        page = client.Client(line.split()[1], verbose=False, analytics_enabled=False)
        answer, attention = page.predict("세 개의 사과 🍎", api_name="/run")
    finally:
        process.kill()
        process.communicate()
    assert answer == pipeline("translation", model=str(space), device="cpu")("세 개의 사과 🍎")[0]["translation_text"]
    assert "cross-attention" in attention
    assert {path.name for path in folder.iterdir()} == {path.name for path in space.iterdir()}
