"""The README's examples run as they stand."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "published/" not in code]


def test_there_is_an_example_of_a_trained_model_and_for_each_family():
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("number", range(4))
def test_example(number, tmp_path, monkeypatch):
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[number], f"README example {number + 1}", "exec"), {})


def test_the_recipe_in_the_readme_is_right(tmp_path):
    from trefoil.recipes.schema import load_recipe

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1], encoding="utf-8")
    assert load_recipe(recipe).model.preset == "encoder-decoder-small"
