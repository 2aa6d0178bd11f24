"""Token ids are written once: by one process of all, or by one on each node where those do not see each other's files."""

import json

import pytest
from training_runs import start, tiny_recipe

# trains, in processes that take themselves for the only one of a node, and writes down how many rows each encoded
NODES = """
import os, sys
rank, is_shared = os.environ["RANK"], sys.argv[3] == "shared"
os.environ["LOCAL_RANK"] = "0"
os.environ["HF_DATASETS_CACHE"] = sys.argv[2] if is_shared else f"{sys.argv[2]}/node-{rank}"
from trefoil.cli import main
from trefoil.training import nodes
from trefoil.tasks.preprocessor import Preprocessor
nodes.CACHE_PATIENCE = 0.5
encoded = Preprocessor._encoded
def counted(self, rows, indices, *rest):
    with open(f"{sys.argv[2]}.{rank}", "a") as file:
        file.write(f"{len(indices)}\\n")
    return encoded(self, rows, indices, *rest)
Preprocessor._encoded = counted
sys.exit(main(["train", sys.argv[1]]))
"""


def rows_encoded(folder, rank):
    file = folder / f"cache.{rank}"
    return sum(map(json.loads, file.read_text().splitlines())) if file.exists() else 0


@pytest.mark.parametrize(("how", "expected"), [("shared", [136, 0]), ("apart", [136, 136])])
def test_who_encodes(tmp_path, how, expected):
    recipe = tiny_recipe(tmp_path / "run", training={"max_steps": 2})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "script.py").write_text(NODES)
    process = start(tmp_path / "script.py", tmp_path / "recipe.yaml", tmp_path / "cache", how, processes=2)
    assert process.returncode == 0, process.stderr
    assert [rows_encoded(tmp_path, rank) for rank in range(2)] == expected
    said = [line for line in process.stderr.splitlines() if "does not share" in line]
    assert len(said) == (how == "apart")
    assert not list((tmp_path / "cache").rglob(".seen-*"))
