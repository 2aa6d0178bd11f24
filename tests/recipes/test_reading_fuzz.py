"""Whatever stands in a recipe, it is read or refused in lines; never a traceback, never more memory than the file asks for."""

import dataclasses
import string

import pytest
import yaml
from fuzzing import FEW, MANY, hypothesis, times
from hypothesis import strategies as st

from trefoil.configuration.errors import UserError
from trefoil.recipes.reading import parse_yaml, write_yaml
from trefoil.recipes.schema import Recipe, load_recipe

PIECES = [
    "data: {embedded: true}\n", "model: {preset: encoder-tiny}\n", "training: {max_steps: 1}\n", "seed: ", "options:\n",
    "  ", "- ", "? ", ": ", "&a ", "*a", "<<: ", "!!int ", "!x ", "!!python/name:os.system ", "{", "}", "[", "]", ", ", "|", ">\n",
    "'", '"', "\\x", "#", "---\n", "...\n", "%YAML 1.1\n", "012", "1_000", "0x1F", "1:30", ".inf", ".nan", "1e999", "9" * 5000,
    "=", "~", "\t", "\n", "\0", "\ud7ff", "\x85", "\u2028", "null", "yes", "2024-02-31",
]  # fmt: skip
SECTIONS = {
    field.name: [one.name for one in dataclasses.fields(field.type)]
    for field in dataclasses.fields(Recipe)
    if dataclasses.is_dataclass(field.type)
}
KEYS = st.sampled_from([*SECTIONS, *(field.name for field in dataclasses.fields(Recipe)), "", "a"])
SCALARS = (
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(string.printable, max_size=8)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=3)
)


def loads_or_is_refused(path, overrides=()):
    message = None
    try:
        recipe = load_recipe(path, overrides)
    except UserError as error:
        message = str(error)
    if message is not None:
        assert message
        assert all(len(line) < 2000 for line in message.splitlines())
        return
    assert isinstance(recipe, Recipe)
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(path) == recipe


@pytest.mark.parametrize("more", [FEW, MANY])
def test_pieces_of_yaml_in_any_order(tmp_path, more):
    @hypothesis.given(st.lists(st.sampled_from(PIECES), max_size=25))
    def check(pieces):
        (tmp_path / "r.yaml").write_text("".join(pieces), encoding="utf-8")
        loads_or_is_refused(tmp_path / "r.yaml")

    times(check, 50, more)


@pytest.mark.parametrize("more", [FEW, MANY])
def test_known_keys_with_any_values(tmp_path, more):
    sections = st.sampled_from([*SECTIONS]).flatmap(
        lambda name: st.tuples(st.just(name), st.dictionaries(st.sampled_from(SECTIONS[name]), VALUES, max_size=3))
    )

    @hypothesis.given(st.lists(sections, max_size=3), st.dictionaries(KEYS, VALUES, max_size=2))
    def check(filled, others):
        content = {"data": {"embedded": True}, "model": {"preset": "encoder-tiny"}, "training": {"max_steps": 1}}
        for name, values in filled:
            content[name] = {**content.get(name, {}), **values}
        (tmp_path / "r.yaml").write_text(yaml.safe_dump(content | others, allow_unicode=True), encoding="utf-8")
        loads_or_is_refused(tmp_path / "r.yaml")

    times(check, 20, more)


@pytest.mark.parametrize("more", [FEW, MANY])
def test_any_bytes(tmp_path, more):
    @hypothesis.given(st.binary(max_size=60))
    def check(content):
        (tmp_path / "r.yaml").write_bytes(content)
        loads_or_is_refused(tmp_path / "r.yaml")

    times(check, 50, more)


@pytest.mark.parametrize("more", [FEW, MANY])
def test_any_overrides(tmp_path, more):
    key = st.lists(KEYS | st.sampled_from(["[0]", "0", "[", "]"]), max_size=3).map(".".join)

    @hypothesis.given(st.lists(st.tuples(key, st.sampled_from(PIECES) | st.text(max_size=9)).map("=".join), max_size=3))
    def check(overrides):
        (tmp_path / "r.yaml").write_text("".join(PIECES[:3]))
        loads_or_is_refused(tmp_path / "r.yaml", overrides)

    times(check, 50, more)


@pytest.mark.parametrize("more", [FEW, MANY])
def test_what_is_written_is_read_as_the_same(more):
    @hypothesis.given(st.dictionaries(st.text(string.ascii_letters, min_size=1), st.text(), max_size=4))
    @hypothesis.example({"a": "one\x85two\u2028three\u2029"})
    def check(content):
        assert parse_yaml(write_yaml(content)) == content

    times(check, 50, more)
