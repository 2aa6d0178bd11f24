"""Nodes: token ids are written by one process of all, or by one on each node where those do not see each other's files; what
is wrong on one node is told by all, before any work."""

import json
import shutil
import threading

import pytest
from accelerate import Accelerator
from training_runs import losses, start, tiny_recipe

from trefoil.configuration.errors import UserError
from trefoil.training import nodes

# trains, in processes that take themselves for the only one of a node, and writes down how many rows each encoded
NODES = """
import os, socket, sys
import datasets
rank, (recipe, cache, how, *overrides) = os.environ["RANK"], sys.argv[1:]
os.environ["LOCAL_RANK"] = "0"
datasets.config.HF_DATASETS_CACHE = cache if how == "shared" else f"{cache}/node-{rank}"
socket.gethostname = lambda: f"node-{rank}"
from trefoil.cli import main
from trefoil.training import nodes, run
from trefoil.tasks.preprocessor import Preprocessor
nodes.CACHE_PATIENCE = nodes.PATIENCE = 0.5
encoded = Preprocessor._encoded
def counted(self, rows, indices, *rest):
    with open(f"{cache}.{rank}", "a") as file:
        file.write(f"{len(indices)}\\n")
    return encoded(self, rows, indices, *rest)
Preprocessor._encoded = counted
if rank == "1":  # the last node to see what is new
    run.latest_checkpoint = run.checkpoint_folders = lambda *arguments: None
sys.exit(main(["train", recipe, *(word.replace("NODE", f"node-{rank}") for word in overrides)]))
"""


def train_on_nodes(folder, how, *overrides):
    recipe = tiny_recipe(folder / "run", training={"max_steps": 2})
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    (folder / "script.py").write_text(NODES)
    return start(folder / "script.py", folder / "recipe.yaml", folder / "cache", how, *overrides, processes=2)


def rows_encoded(folder, rank):
    file = folder / f"cache.{rank}"
    return sum(map(json.loads, file.read_text().splitlines())) if file.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize(("how", "expected"), [("shared", [136, 0]), ("apart", [136, 136])])
def test_who_encodes(tmp_path, how, expected):
    process = train_on_nodes(tmp_path, how)
    assert process.returncode == 0, process.stderr
    assert [rows_encoded(tmp_path, rank) for rank in range(2)] == expected
    said = [line for line in process.stderr.splitlines() if "node-1 does not share" in line]
    assert len(said) == (how == "apart")
    assert not list(tmp_path.rglob(".seen-*"))


@pytest.mark.slow
def test_all_go_on_from_the_checkpoint_that_the_first_sees(tmp_path):
    for steps in (2, 4):
        process = train_on_nodes(tmp_path, "shared", f"training.max_steps={steps}", "training.average_checkpoints=2")
        assert process.returncode == 0, process.stderr
    assert "going on from step 2" in process.stderr
    assert "mean of steps 2, 4" in process.stderr
    assert list(losses(tmp_path / "run")) == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_folder_that_not_all_nodes_see_is_refused_before_any_work(tmp_path):
    process = train_on_nodes(tmp_path, "shared", f"output_dir={tmp_path}/NODE")
    assert process.returncode == 2
    assert (
        f"error: {tmp_path}/node-0: node-1 does not see what node-0 writes there; set output_dir to a folder that all "
        "machines share\n"
    ) in process.stderr
    assert not (tmp_path / "node-1").exists()
    assert {path.name for path in (tmp_path / "node-0").iterdir()} <= {
        "recipe.yaml",
        ".trefoil-run",
        ".trefoil-run.lock",
    }
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
@pytest.mark.parametrize("lacks", ["everything", "a split"])
def test_data_that_one_node_lacks_is_named_with_the_node(tmp_path, lacks):
    data = tmp_path / "node-0"
    data.mkdir()
    rows = [json.dumps({"ko": f"하나 {number}", "en": f"one {number}"}) for number in range(20)]
    for split in ("train", "validation", "test"):
        (data / f"{split}.jsonl").write_text("\n".join(rows))
    if lacks == "a split":
        shutil.copytree(data, tmp_path / "node-1")
        (tmp_path / "node-1" / "train.jsonl").unlink()
    process = train_on_nodes(
        tmp_path, "apart", "data.embedded=false", f"data.path={tmp_path}/NODE", "data.embedded_sizes=null"
    )
    assert process.returncode == 2
    problem = "no such file or folder" if lacks == "everything" else "no file for the split 'train'"
    assert f"error: on node-1: {tmp_path}/node-1: {problem}" in process.stderr
    assert rows_encoded(tmp_path, 0) == 0


class TwoProcesses:
    """As `gather` finds them: this one, and one on another node that answers by turns."""

    def __init__(self, monkeypatch, *others):
        self.others = iter(others)
        monkeypatch.setattr(nodes, "gather", lambda mine: [mine, next(self.others)])


def test_whose_mistake_it_is(monkeypatch):
    def fail():
        raise UserError("no such file")

    well, wrong = (True, "node2", None), (True, "node2", "no such file")
    accelerator, first = Accelerator(), nodes.socket.gethostname()
    for work, others, expected in [
        (fail, [None, well], f"on {first}: no such file"),
        (lambda: 1, [None, well, wrong], "on node2: no such file"),
        (fail, [None, wrong], "no such file"),
        (fail, [None, (False, first, None)], "no such file"),  # there is one node only
    ]:
        TwoProcesses(monkeypatch, *others)
        with pytest.raises(UserError) as error:
            nodes.in_turns(accelerator, True, work)
        assert str(error.value) == expected
    TwoProcesses(monkeypatch, None, well, well)
    assert nodes.in_turns(accelerator, False, lambda: 1) == 1
    TwoProcesses(monkeypatch, None, well, well, None)
    assert nodes.on_first(accelerator, lambda: 7) == 7


def test_the_others_are_waited_for(tmp_path, monkeypatch):
    """As over NFS, which is slow to show a file."""
    monkeypatch.setattr(nodes, "gather", lambda mine: [mine, (True, "")] if isinstance(mine, tuple) else [mine])
    monkeypatch.setattr(nodes.Path, "touch", lambda file: threading.Timer(0.3, file.write_text, [""]).start())
    assert nodes.nodes_without(Accelerator(), tmp_path, patience=0.0) == [nodes.socket.gethostname()]
    assert nodes.nodes_without(Accelerator(), tmp_path, patience=30.0) == []


def test_what_cannot_be_written_leaves_what_was_there(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "file").write_text("before")

    def fill(folder):
        (folder / "file").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        UserError,
        match=r"best: cannot be written \(No space left on device; \S+ GB are free there\); what was there before",
    ):
        nodes.write_once(Accelerator(), tmp_path / "best", fill)
    assert (tmp_path / "best" / "file").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
