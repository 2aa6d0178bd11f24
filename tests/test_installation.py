"""The wheel: the same commit gives the same bytes, and what it installs works where there is no checkout."""

import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"].values()
EXTRAS = PROJECT["project"]["optional-dependencies"]
IMAGE = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")]


def test_the_image_is_made_of_all_that_the_wheel_is():
    assert {*IMAGE} == {*FOLDERS, "constraints.txt", "hub_card.md", "LICENSE", "pyproject.toml", "README.md"}


def test_all_is_all_that_users_install():
    (own,) = (line for line in EXTRAS["all"] if line.startswith("trefoil-transformers["))
    brought = {*re.search(r"\[(.*)\]", own)[1].split(","), "train"}
    assert brought == EXTRAS.keys() - {"all", "docs", "ecosystem", "lint", "test", "trackers"}


def test_every_extra_that_is_named_is_there():
    texts = [file.read_text(encoding="utf-8") for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    texts += [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Dockerfile", "pyproject.toml")]
    named = {
        extra
        for text in texts
        for group in re.findall(r"(?:trefoil-transformers|-e \"?\.|\"\.)\[([a-z,]+)\]", text)
        for extra in group.split(",")
    }
    assert {"train", "demo", "harness", "excel"} <= named <= EXTRAS.keys()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Two, of copies of the checkout that were written at other times."""
    pytest.importorskip("setuptools")
    built = []
    for number in (1, 2):
        copy = tmp_path_factory.mktemp("source")
        for name in IMAGE:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy)
        for file in copy.rglob("*"):
            os.utime(file, (number * 10**9, number * 10**9))
        out = tmp_path_factory.mktemp("wheel")
        words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(out), str(copy)]
        environment = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True, env=environment)
        built += out.glob("*.whl")
    return built


@pytest.mark.slow
def test_built_twice_it_has_the_same_bytes(wheels):
    first, second = (wheel.read_bytes() for wheel in wheels)
    assert first == second


@pytest.mark.slow
def test_it_holds_all_files_of_the_package(wheels):
    names = {*zipfile.ZipFile(wheels[0]).namelist()}
    for package, folder in PROJECT["tool"]["setuptools"]["package-dir"].items():
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                place = f"{package.replace('.', '/')}/{file.relative_to(ROOT / folder).as_posix()}"
                assert place in names
    assert "trefoil/hub_card.md" in names


@pytest.fixture(scope="module")
def installed(wheels, tmp_path_factory):
    """A function: runs a command of an environment that has the wheel, and the packages of this one behind it."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    commands = environment / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", str(commands / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheels[0])], check=True)
    (packages,) = environment.rglob("site-packages")
    others = [place for place in sys.path if Path(place).name == "site-packages"] or site.getsitepackages()
    (packages / "behind.pth").write_text("\n".join(others) + "\n", encoding="utf-8")

    def run(*words, cwd):
        process = subprocess.run(
            [str(commands / words[0]), *map(str, words[1:])], capture_output=True, text=True, check=False, cwd=cwd
        )
        assert process.returncode == 0, process.stderr
        return process.stdout

    return run


@pytest.mark.slow
def test_it_predicts_publishes_and_finds_its_files(installed, tmp_path):
    place = Path(installed("python", "-c", "import trefoil.hub; print(trefoil.hub.__file__)", cwd=tmp_path).strip())
    assert not place.is_relative_to(ROOT)
    model = ROOT / "models" / "korean-entities"
    said = installed("trefoil", "predict", model, "회의는 삼월 십오일 오후 두 시 반에 시작해요.", cwd=tmp_path)
    assert '"text": "삼월 십오일"' in said
    assert "encoder-token-classification-embedded" in installed("trefoil", "recipes", cwd=tmp_path)
    assert "ddp" in installed("trefoil", "launch", cwd=tmp_path)
    shutil.copytree(model, tmp_path / "model")
    installed("trefoil", "publish", tmp_path / "model", tmp_path / "again", "--dtype", "bfloat16", cwd=tmp_path)
    for name in ("modeling_encoder.py", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (model / name).read_bytes()
