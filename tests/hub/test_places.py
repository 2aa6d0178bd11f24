"""Nothing that is published says where files lay on the author's machine."""

import dataclasses
import json
import shutil
import struct
import zlib
from pathlib import Path

import pytest
import yaml
from conftest import seldom

from tests.hub.conftest import RECIPE, RESULT
from trefoil.configuration.errors import UserError
from trefoil.hub.places import NAMELESS, Places, last_part, plain_picture
from trefoil.hub.publish import publish
from trefoil.recipes.schema import Recipe, build, is_place, load_recipe

SECRET = "geheim"
LOCAL = [
    f"/home/{SECRET}/data",
    f"/home/{SECRET} client/data/",
    f'/home/{SECRET}/it\'s "mine"/data',
    f"~/{SECRET}/data",
    f"~{SECRET}/data",
    f"~{SECRET}",
    f"../{SECRET}/data",
    f"./{SECRET}/data",
    f"C:\\Users\\{SECRET}\\data",
    f"C:/Users/{SECRET}/data",
    f"\\\\{SECRET}\\share\\data",
    f"..\\{SECRET}\\data",
    f"file:///home/{SECRET}/data",
    f"s3://{SECRET}/data",
    f"{SECRET}/of/data",
    f"/home/{SECRET}: [x]/data",
]


def said(folder):
    """Every file of a folder, as what can be read of it."""
    return {path.name: path.read_bytes().decode("utf-8", errors="replace") for path in folder.iterdir()}


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def picture(*chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in chunks)


@pytest.fixture
def run(source, tmp_path):
    """A function: places in every part of it -> a run's folder."""

    def make(place, **recipe):
        folder = shutil.copytree(source, tmp_path / SECRET / "run")
        content = {
            **RECIPE,
            "output_dir": place,
            "options": {"prefix": place, "more": [place, {"deep": place}]},
            "data": {
                "path": place,
                "name": place,
                "columns": {"source": place},
                "streaming": True,
                "sources": [{"path": place}, {"name": place, "split": place}],
            },
            "tokenizer": {"path": place},
            "model": {"init_from": {"encoder": place, "decoder": "name/model"}},
            "optimization": {"schedule_options": {"file": place}},
            "training": {"max_steps": 1, "trackers": [place]},
        }
        (folder / "recipe.yaml").write_text(yaml.safe_dump(content | recipe))
        results = {"metrics": [RESULT | {"dataset": place}, RESULT | {"dataset": {"name": place}}], "from": place}
        (folder / "results.json").write_text(json.dumps(results))
        for name, extra in {
            "config.json": {"_name_or_path": place, "init_from": place, "notes": [place]},
            "generation_config.json": {"_name_or_path": place},
            "tokenizer_config.json": {"name_or_path": place, "vocab_file": place, "notes": place},
        }.items():
            file = folder / name
            file.write_text(json.dumps(json.loads(file.read_text()) | extra))
        seen = [(b"IHDR", b"0" * 13), (b"IDAT", b"1"), (b"IEND", b"")]
        texts = [(b"tEXt", f"Title\0{place}".encode()), (b"iTXt", place.encode()), (b"eXIf", place.encode())]
        (folder / "curve.png").write_bytes(picture(seen[0], *texts, *seen[1:]) + place.encode())
        return folder

    return make


@pytest.mark.parametrize("place", seldom(LOCAL, *LOCAL[2:15:4]))
def test_no_file_tells_a_local_place(run, tmp_path, place):
    folder = publish(run(place), tmp_path / "out")
    assert {name for name, text in said(folder).items() if SECRET in text.lower()} == set()
    recipe = load_recipe(folder / "recipe.yaml")
    name = NAMELESS if place == f"~{SECRET}" else "data"
    assert (recipe.output_dir, recipe.data.path, recipe.tokenizer.path) == (name, name, name)
    assert recipe.model.init_from == {"encoder": name, "decoder": "name/model"}
    assert [source.path or source.name for source in recipe.data.sources] == [name, name]
    assert recipe.optimization.schedule_options == {"file": name}


def test_what_is_on_the_hub_stays(run, tmp_path):
    data = {"name": "me/data", "streaming": True, "sources": [{"name": "me/one"}, {"name": "me/two"}, {"path": "x"}]}
    model = {"init_from": "name/model"}
    folder = run("data", data=data, tokenizer={"path": "me/tok"}, model=model)
    recipe = load_recipe(publish(folder, tmp_path / "out") / "recipe.yaml")
    assert (recipe.data.name, recipe.tokenizer.path, recipe.model.init_from) == ("me/data", "me/tok", "name/model")
    assert "datasets:\n- me/data\n- me/one\n- me/two\n" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("is_started_there", [True, False])
def test_a_folder_that_is_named_like_something_on_the_hub(run, tmp_path, monkeypatch, is_started_there):
    folder = run(f"{SECRET}/data")
    (tmp_path / SECRET / "data").mkdir()
    monkeypatch.chdir(tmp_path if is_started_there else Path(__file__).parent)
    out = publish(folder, tmp_path / "out")
    assert {name for name, text in said(out).items() if SECRET in text.lower()} == set()


def test_words_of_a_model_stay(tmp_path):
    content = {"id2label": {"0": "/m/01k"}, "added_tokens_decoder": {"1": {"content": "~/x"}}, "eos_token": "/a/b"}
    content |= {"chat_template": "/a/b", "hidden_act": "gelu", "scores": [0.5, None]}
    assert Places(tmp_path).config(content) == content
    signature = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.5.1"
    assert Places(tmp_path).text({"signature": signature, "a/b": 1.5}) == {"signature": signature, "a/b": 1.5}


def test_a_picture_keeps_what_is_seen(tmp_path):
    seen = [(b"IHDR", b"0" * 13), (b"pHYs", b"9"), (b"IDAT", b"1"), (b"IDAT", b"2"), (b"IEND", b"")]
    assert plain_picture(picture(*seen), tmp_path) == picture(*seen)
    for content, message in ((b"GIF89a", "is not a PNG"), (picture(*seen)[:-2], "is cut off at byte")):
        with pytest.raises(UserError, match=message):
            plain_picture(content, tmp_path)


def test_last_parts():
    parts = {
        "a": "a",
        "..": NAMELESS,
        "": NAMELESS,
        "/": NAMELESS,
        "C:": NAMELESS,
        "a/./": NAMELESS,
        "https://h/a?b=/c": "a",
    }
    assert {place: last_part(place) for place in parts} == parts


def test_fields_that_hold_a_place_say_so():
    def places(settings, prefix=""):
        for one in dataclasses.fields(settings):
            if dataclasses.is_dataclass(value := getattr(settings, one.name)):
                yield from places(value, f"{one.name}.")
            elif is_place(one):
                yield f"{prefix}{one.name}"

    assert list(places(build(Recipe, {}, "r"))) == [
        "output_dir", "data.name", "data.path", "tokenizer.path", "model.init_from",
    ]  # fmt: skip
