"""Recipes as YAML: what others would read in another way, or what could fill the memory, is refused by its line."""

import datetime
import os
from pathlib import Path

import pytest
import yaml

from trefoil.configuration.errors import UserError
from trefoil.recipes.reading import packaged_recipes, parse_yaml, read_mapping
from trefoil.recipes.schema import load_recipe

MINIMAL = "data: {embedded: true}\nmodel: {preset: encoder-decoder-tiny}\ntraining:\n  max_steps: 10\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(MINIMAL)
    return path


def refused(path, *overrides):
    with pytest.raises(UserError) as error:
        load_recipe(path, overrides)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    return str(error.value)


def bomb(levels):
    names = [f"a{level}" for level in range(levels)]
    lines = [f"{names[0]}: &{names[0]} [x, x, x, x, x, x, x, x, x]"]
    for name, other in zip(names[1:], names, strict=False):
        lines.append(f"{name}: &{name} [{', '.join([f'*{other}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("options:\n  " + bomb(12).replace("\n", "\n  "), "line 7: aliases (*name) are not for recipes; write it out"),
        ("seed: &seed 3\noutput_dir: *seed", "line 6: aliases (*name) are not for recipes; write it out"),
        ("training: {max_steps: 3}", "line 5: 'training' is there twice; keep one"),
        ("options: {a: 1,\n  'a': 2}", "line 6: 'a' is there twice; keep one"),
        ("options:\n- - {a: {b: 1, b: 2}}", "line 6: 'b' is there twice; keep one"),
        ("seed: !!int 3", "line 5: tags (tag:yaml.org,2002:int) are not for recipes; leave it out"),
        ("seed: !!int x", "line 5: tags"),
        ("seed: !!bool x", "line 5: tags"),
        ("seed: !!timestamp x", "line 5: tags"),
        ("seed: !!python/object/apply:os.system [id]", "line 5: tags (tag:yaml.org,2002:python/object/apply:os.system)"),
        ("options: !mine {a: 1}", "line 5: tags (!mine) are not"),
        ("seed: " + "[" * 500, "not YAML: nested too deeply"),
        ("seed: " + "{a: " * 500, "not YAML: nested too deeply"),
        ("seed: \0", "not YAML: unacceptable character #x0000"),
        ("seed: =", "line 5: not YAML: could not determine a constructor"),
        ("? [a]\n: 2", "line 5: not YAML: found unhashable key"),
    ],
)  # fmt: skip
def test_what_a_recipe_does_not_need_is_refused_by_its_line(file, text, message):
    file.write_text(f"{MINIMAL}{text}\n")
    assert refused(file).startswith(f"{file}: {message}")


def test_overrides_likewise(file):
    assert refused(file, "options={a: 1, a: 2}") == "'options={a: 1, a: 2}': 'a' is there twice; keep one"
    assert refused(file, "seed=!!int 3").endswith("tags (tag:yaml.org,2002:int) are not for recipes; leave it out")
    assert refused(file, "seed=" + "[" * 400).endswith(" is not a YAML value")


@pytest.mark.parametrize(
    "number", ["012", "0x10", "0b1", "1_000", "1:30", "08", "1" * 19, "1" * 5000, "2024-01-01", "0o17"]
)
def test_whole_numbers_that_some_read_in_another_way_are_none(file, number):
    shown = repr(number) if len(number) < 200 else f"{number!r:.200} …"
    for override in (f"training.max_steps={number}", f"seed={number}"):
        key = override.partition("=")[0]
        assert refused(file, override).startswith(f"{file}: {key}={shown} is not ")
    file.write_text(MINIMAL.replace("10", number))
    assert refused(file).startswith(f"{file}: training.max_steps={shown} is not int | None")


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "1.0e+999", "inf", "nan", "1" * 5000])
def test_numbers_without_an_end_are_none(file, number):
    assert refused(file, f"evaluation.length_penalty={number}").startswith(f"{file}: evaluation.length_penalty=")
    assert refused(file, f"optimization.learning_rate={number}").startswith(f"{file}: optimization.learning_rate=")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("-7", -7), ("+7", 7), ("123456789012345678", 123456789012345678), ("1.5", 1.5), ("1.", 1.0), (".5", 0.5),
        ("-1.5e-3", -0.0015), ("1.5e+3", 1500.0), ("1e-4", "1e-4"), ("yes", True), ("no", False), ("~", None), ("null", None),
        ("12ab", "12ab"), ("'012'", "012"), ("1.5.0", "1.5.0"), ("-", "-"), (".", "."), ("12:30", "12:30"),
    ],
)  # fmt: skip
def test_values_as_they_look(text, value):
    found = parse_yaml(f"a: {text}")["a"] if text != "-" else parse_yaml("a: '-'")["a"]
    assert found == value
    assert type(found) is type(value)


def test_what_a_recipe_is_written_as_is_read_as_the_same():
    content = {
        "a": ["012", "1:30", "0x10", "1_000", "2024-01-01", "yes", "~", ".inf", "1e-4", "=", "<<", "!x", "*x", "&x"]
    }
    content |= {"numbers": [0, -7, 10**17, 1e-9, 1.5, 1e22, -0.0], "twice": [content["a"][:1]] * 2}
    assert parse_yaml(yaml.safe_dump(content["a"])) == content["a"]
    assert parse_yaml(yaml.safe_dump(content["numbers"])) == content["numbers"]


def test_dates_are_words():
    assert parse_yaml("2024-01-01") == "2024-01-01"
    assert isinstance(yaml.safe_load("2024-01-01"), datetime.date)


def test_a_file_that_is_too_long_is_not_read(file):
    file.write_text(MINIMAL + "#" * 2**20)
    assert refused(file) == f"{file}: has {file.stat().st_size:,} bytes, and a recipe at most 1,048,576"


@pytest.mark.parametrize("path", packaged_recipes().values(), ids=lambda path: path.stem)
def test_packaged_recipes_are_read_as_every_reader_reads_them(path):
    assert read_mapping(path)[0] == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_a_place_at_home(file, monkeypatch):
    monkeypatch.setenv("HOME", "/house")
    keys = ["data={path: ~/x}", "output_dir=~/runs", "model={init_from: {encoder: ~/a, decoder: b/~/c}}"]
    recipe = load_recipe(file, keys)
    assert (recipe.data.path, recipe.output_dir) == ("/house/x", "/house/runs")
    assert recipe.model.init_from == {"encoder": "/house/a", "decoder": "b/~/c"}
    recipe = load_recipe(file, ["data={sources: [{path: ~/a}]}", "tokenizer={path: ~/t}"])
    assert (recipe.data.sources[0].path, recipe.tokenizer.path) == ("/house/a", "/house/t")
    assert not Path("~").exists()
    assert os.path.expanduser("~") == "/house"
