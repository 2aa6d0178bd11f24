"""What runs where nothing is installed but the package's own dependencies."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from training_runs import TINY_MODEL

import trefoil
from trefoil.data.tokenizer import LEFT_TO_RIGHT, train_tokenizer
from trefoil.recipes.schema import TokenizerRecipe

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# what transformers brings along
BROUGHT = {"filelock", "numpy", "pyyaml", "tokenizers", "tqdm"}
IMPORTED = {
    "pillow": "PIL",
    "prometheus-client": "prometheus_client",
    "rouge-score": "rouge_score",
    "scikit-learn": "sklearn",
    "sentence-transformers": "sentence_transformers",
}


def names(requirements):
    return {requirement.partition(">")[0].partition("=")[0].partition("[")[0] for requirement in requirements}


EXTRAS = PROJECT["optional-dependencies"]
HIDDEN = sorted(
    IMPORTED.get(name, name)
    for name in set().union(*(names(EXTRAS[one]) for one in ("train", "adapters", "demo", "export", "harness", "serve", "test", "ecosystem")))
    - BROUGHT - names(PROJECT["dependencies"]) - {"trefoil-transformers", "pytest-timeout", "pytest-xdist"}
)  # fmt: skip


def without(*arguments, hidden=HIDDEN, code="from trefoil.cli import main; sys.exit(main(sys.argv[1:]))"):
    """Runs in a process that cannot import these modules."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({hidden!r})); "
    command = [sys.executable, "-c", hide + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "model"
    tokenizer = train_tokenizer([["one two three"]], TokenizerRecipe(kind="characters"), LEFT_TO_RIGHT)
    torch.manual_seed(0)
    config = trefoil.preset_config("decoder-tiny", vocab_size=len(tokenizer), **TINY_MODEL)
    trefoil.TrefoilDecoderForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_base_is_small():
    assert names(PROJECT["dependencies"]) == {"huggingface_hub", "safetensors", "torch", "transformers"}
    assert {"accelerate", "datasets", "gradio", "matplotlib", "peft", "PIL", "psutil", "sklearn"} <= set(HIDDEN)


GENERATE = """
import trefoil
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
inputs = AutoTokenizer.from_pretrained(sys.argv[1])("one", return_tensors="pt")
print(type(AutoModel.from_pretrained(sys.argv[1])).__name__, model.generate(**inputs, max_new_tokens=3).shape[1])
"""


def test_a_model_loads_and_generates(model_folder):
    process = without(model_folder, code=GENERATE)
    assert process.returncode == 0, process.stderr
    assert process.stdout.split()[0] == "TrefoilDecoderModel"
    assert int(process.stdout.split()[1]) > 3


@pytest.mark.slow
def test_attend_needs_no_more(model_folder, tmp_path):
    process = without("attend", model_folder, "one two", "-o", tmp_path / "map.html")
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "map.html").is_file()


@pytest.mark.slow
def test_predict_needs_no_more(model_folder):
    process = without("predict", model_folder, "one", "--max-new-tokens", "3", "--seed", "1")
    assert process.returncode == 0, process.stderr
    assert '"generated_text": ' in process.stdout


@pytest.mark.slow
def test_a_function_that_needs_more_says_so():
    process = without(hidden=["accelerate"], code="import trefoil; trefoil.train('decoder-causal-lm-tinyshakespeare')")
    expected = "ModuleNotFoundError: trefoil.train needs accelerate: pip install 'trefoil-transformers[train]'"
    assert process.stderr.splitlines()[-1] == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "hidden", "missing", "extra"),
    [
        (["train", "decoder-causal-lm-tinyshakespeare"], ["accelerate"], "accelerate", "train"),
        (["train", "decoder-causal-lm-tinyshakespeare"], ["datasets"], "datasets", "train"),
        (["publish", "x", "y"], ["jinja2"], "jinja2", "train"),
        (["attend", "{model}", "one", "-o", "{tmp}/map.png"], ["matplotlib"], "matplotlib", "train"),
        (["demo", "x"], ["gradio"], "gradio", "demo"),
        (["evaluate", "x", "--harness", "y"], ["lm_eval"], "lm_eval", "harness"),
        (["completion", "bash"], ["shtab"], "shtab", "completion"),
        (["serve", "x"], ["fastapi"], "fastapi", "serve"),
        (["serve", "x"], ["uvicorn"], "uvicorn", "serve"),
    ],
)
def test_what_is_missing_is_said_in_a_line(model_folder, tmp_path, arguments, hidden, missing, extra):
    places = {"model": model_folder, "tmp": tmp_path}
    process = without(*(argument.format(**places) for argument in arguments), hidden=hidden)
    assert process.returncode == 2, process.stderr
    expected = f"error: trefoil {arguments[0]} needs {missing}: pip install 'trefoil-transformers[{extra}]'"
    assert process.stderr.splitlines()[-1] == expected
    assert "Traceback" not in process.stderr


def test_the_package_says_that_it_is_typed():
    assert (Path(trefoil.__file__).parent / "py.typed").is_file()


def test_the_list_of_licences_is_of_what_is_pinned():
    root = Path(__file__).parents[1]
    pinned = [line.split("==") for line in (root / "constraints.txt").read_text().splitlines() if "==" in line]
    rows = [
        line.split("|") for line in (root / "docs/dependencies.md").read_text().splitlines() if line.startswith("|")
    ]
    listed = {normalized(cells[1].strip()): cells[2].strip() for cells in rows}
    missing = [name for name, version in pinned if listed.get(normalized(name), "").partition("+")[0] != version]
    assert not missing, "run `make dependencies`"


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()
