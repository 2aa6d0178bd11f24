"""The trained models of `models/`: small, with the code of today, and as good as their cards say, where only transformers is."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from safetensors import safe_open

from trefoil.data.embedded import load_embedded
from trefoil.hub.bundle import bundle_code
from trefoil.hub.folders import classes_of
from trefoil.training.manifest import MANIFEST_FILE, damage, read_manifest

ROOT = Path(__file__).parents[1]
MODELS = sorted(folder for folder in (ROOT / "models").iterdir() if folder.is_dir())
GENERATED = {"korean-english-expressions": "translation", "korean-entities": "token-classification"}
MEGABYTE = 2**20

REVIEWS = {
    "정말 재미있게 봤어요. 최고의 영화!": "positive",
    "감동적이고 아름다운 영화였다": "positive",
    "또 보고 싶은 명작": "positive",
    "배우들 연기가 너무 좋았습니다": "positive",
    "시간이 아깝다. 진짜 재미없음": "negative",
    "최악의 영화, 돈 아까워요": "negative",
    "지루해서 중간에 나왔다": "negative",
    "이게 영화냐 쓰레기": "negative",
}
# Sonnet 18, of which the model has seen nothing
SONNET = """Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:
"""


def elsewhere(*arguments):
    """What is printed where Trefoil is not installed and there is no network."""
    words = [sys.executable, "-I", str(ROOT / "benchmarks" / "elsewhere.py"), *map(str, arguments)]
    process = subprocess.run(words, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def figure_of(folder, *rows):
    """That of the task, of rows as JSON, or of a text."""
    printed = elsewhere(folder, *rows)
    return float(re.search(r"(?:BLEU|accuracy|entity F1|perplexity) ([\d.]+)", printed)[1])


def test_there_are_some():
    assert {*GENERATED} <= {folder.name for folder in MODELS}


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_it_is_small_whole_and_has_a_card(folder):
    assert sum(file.stat().st_size for file in folder.iterdir()) < 5 * MEGABYTE
    card = ModelCard.load(folder / "README.md").data
    assert card.license
    assert card.eval_results
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_its_code_is_that_of_the_package(folder):
    expected = bundle_code(classes_of(folder)[0])
    found = {file.name: file.read_bytes() for file in folder.glob("*.py")}
    assert found == expected, "run `make models-code`"


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_its_files_are_those_of_its_manifest(folder):
    published = read_manifest(folder)
    assert published.keys() | {MANIFEST_FILE} == {file.name for file in folder.iterdir()}
    changed = [name for name, checksum in published.items() if damage(folder / name, checksum)]
    assert changed == [], "run `make models-code`"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "korean-entities")) for name in GENERATED]
)
def test_it_is_as_good_as_its_card_says(name, tmp_path):
    rows = load_embedded(GENERATED[name], sizes={"test": 200})["test"]
    rows.to_json(tmp_path / "rows.jsonl", force_ascii=False)
    card = {
        result.metric_type: result.metric_value
        for result in ModelCard.load(ROOT / "models" / name / "README.md").data.eval_results
    }
    said = next(value for kind, value in card.items() if kind in ("bleu", "seqeval", "f1"))
    assert figure_of(ROOT / "models" / name, tmp_path / "rows.jsonl") == pytest.approx(said, abs=3)


@pytest.mark.slow
def test_reviews(tmp_path):
    rows = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in REVIEWS.items()]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    assert figure_of(ROOT / "models" / "korean-reviews", tmp_path / "rows.jsonl") >= 75


@pytest.mark.slow
def test_shakespeare(tmp_path):
    (tmp_path / "rows.txt").write_text(SONNET, encoding="utf-8")
    assert figure_of(ROOT / "models" / "shakespeare", tmp_path / "rows.txt") < 10


@pytest.fixture(scope="module")
def oldest_transformers(tmp_path_factory):
    """A folder with the oldest release of transformers that pyproject.toml allows, and of what it depends on closely."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = " ".join(project["dependencies"] + project["optional-dependencies"]["train"])
    names = ("transformers", "huggingface_hub", "safetensors", "tokenizers")
    oldest = [f"{name}=={re.search(rf'{name}>=([0-9.]+)', bounds)[1]}" for name in names]
    folder = tmp_path_factory.mktemp("oldest")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *oldest]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"{', '.join(oldest)} cannot be installed here")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_the_oldest_transformers_loads_it_alike(folder, oldest_transformers):
    """Beside it stands the newest, in which all else is tested."""
    code = (
        "import sys, json; sys.path[:0] = sys.argv[2:]; import torch, transformers\n"
        "sys.modules['trefoil'] = None\n"
        "config = transformers.AutoConfig.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "name = next(n for n, c in config.auto_map.items() if c.endswith('.' + config.architectures[0]))\n"
        "model = getattr(transformers, name).from_pretrained(sys.argv[1], trust_remote_code=True).eval()\n"
        "ids = torch.arange(5, 13)[None]\n"
        "more = {'decoder_input_ids': ids} if config.is_encoder_decoder else {}\n"
        "with torch.no_grad(): logits = model(input_ids=ids, **more).logits\n"
        "print(json.dumps([transformers.__version__, logits.flatten().tolist()]))"
    )
    found = {}
    for beside in ([str(oldest_transformers)], []):
        words = [sys.executable, "-I", "-c", code, str(folder), *beside]
        process = subprocess.run(words, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
        version, logits = json.loads(process.stdout.splitlines()[-1])
        found[version] = logits
    assert len(found) == 2
    assert len({tuple(logits) for logits in found.values()}) == 1
