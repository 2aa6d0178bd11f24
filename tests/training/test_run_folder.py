"""A run's folder: whose it is, who is at work in it, and that nothing of anyone else's is touched."""

import copy
import errno
import fcntl
import json
import os
import shutil
import time
from multiprocessing import get_context

import pytest
from training_runs import after_step, losses, start, start_by_torchrun, tiny_recipe, train_and_die

from trefoil.configuration.errors import UserError
from trefoil.training.checkpoints import checkpoint_folders, load_state
from trefoil.training.run import train
from trefoil.training.run_folder import RunFolder, best_model, find_data

TRAINER = "import sys; from trefoil.cli import main; sys.exit(main(['train', sys.argv[1]]))"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unmarked(run, copy):
    """A copy of a run as it was before there were markers."""
    shutil.copytree(run, copy)
    for file in (RunFolder(copy).marker, RunFolder(copy).lock):
        file.unlink()
    return copy


# --- whose it is


def test_the_folder_of_another_run_is_refused(finished_run, tmp_path):
    with pytest.raises(UserError) as error:
        train(tiny_recipe(finished_run, seed=3))
    assert str(error.value) == (
        f"{finished_run}: holds another run (seed is 0 there and 3 here); "
        "set another output_dir, or overwrite=true to delete that run"
    )


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model": {"config": {"hidden_size": 64}}}, "model.config.hidden_size is 32 there and 64 here"),
        (
            {"model": {"preset": "recurrent-tiny"}},
            "model.preset is 'encoder-decoder-tiny' there and 'recurrent-tiny' here",
        ),
        ({"data": {"embedded_sizes": {"train": 90}}}, "data.embedded_sizes.train is 120 there and 90 here"),
        ({"data": {"columns": {"source": "en"}}}, "data.columns.source is 'ko' there and 'en' here"),
        ({"tokenizer": {"vocab_size": 290}}, "tokenizer.vocab_size is 300 there and 290 here"),
        ({"optimization": {"optimizer": "muon"}}, "optimization.optimizer is 'adamw' there and 'muon' here"),
        ({"optimization": {"weight_decay": 0.5}}, "optimization.weight_decay is 0.01 there and 0.5 here"),
        ({"batches": {"tokens_per_batch": 600}}, "batches.tokens_per_batch is 1200 there and 600 here"),
    ],
    ids=lambda value: value.partition(" ")[0] if isinstance(value, str) else "",
)
def test_a_recipe_that_would_go_on_from_another_is_refused_by_its_key(finished_run, changes, key):
    before = contents(finished_run)
    recipe = tiny_recipe(finished_run, **changes)
    recipe.training.mixed_precision = "no"  # what the run's came to
    with pytest.raises(UserError) as error, RunFolder(finished_run).claimed(recipe):
        pass
    assert str(error.value).startswith(f"{finished_run}: holds another run ({key}); set another output_dir")
    after = contents(finished_run)
    assert {name for name in before if before[name] != after[name]} <= {".trefoil-run.lock"}


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no run of Trefoil; set another output_dir"):
        train(tiny_recipe(tmp_path, overwrite=True))
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match="run: is a file; set another output_dir"):
        train(tiny_recipe(tmp_path / "run"))


def test_a_damaged_recipe_counts_as_another_run(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    (tmp_path / "run" / "recipe.yaml").write_text("")
    with pytest.raises(UserError, match=r"holds another run \(its recipe.yaml cannot be read\)"):
        train(tiny_recipe(tmp_path / "run"))


def test_overwriting_deletes_the_other_run_and_nothing_else(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    train(tiny_recipe(tmp_path / "run", seed=3, overwrite=True, training={"max_steps": 2}))
    assert list(losses(tmp_path / "run")) == [1, 2]
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"


def test_overwriting_replaces_a_finished_run_but_goes_on_with_an_unfinished_one(finished_run, tmp_path, monkeypatch):
    shutil.copytree(finished_run, tmp_path / "run")
    recipe = tiny_recipe(tmp_path / "run", overwrite=True)
    train_and_die(monkeypatch, recipe, after_step(8))
    assert list(losses(tmp_path / "run")) == list(range(1, 8))
    train_and_die(monkeypatch, recipe, after_step(14))
    assert [load_state(path)["step"] for path in checkpoint_folders(tmp_path / "run" / "checkpoints")] == [6, 12]
    assert losses(tmp_path / "run").items() < losses(finished_run).items()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_refused_is_left_as_it_was(tmp_path, overwrite):
    """A project with files that only look like a run's, or like what a run left half done."""
    recipe = tiny_recipe(tmp_path, overwrite=overwrite)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "log.jsonl").write_text("mine")
    for name in ("checkpoints", "checkpoints/step-1", "tokenizer", "best", ".x.old", ".y.writing", "z.trefoil-old",
                 ".x.trefoil-old", ".x.deleted", ".git"):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    before = contents(tmp_path)
    with pytest.raises(UserError, match="is not empty and holds no run of Trefoil; set another output_dir"):
        train(recipe)
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_a_run_from_before_the_marker_goes_on_and_is_marked(finished_run, tmp_path):
    folder = unmarked(finished_run, tmp_path / "run")
    (folder / ".mine.old").write_text("mine")
    train(tiny_recipe(folder, overwrite=True, training={"max_steps": 24}))
    assert list(losses(folder)) == list(range(1, 25))
    assert RunFolder(folder).marker.is_file()
    assert (folder / ".mine.old").read_text() == "mine"


def test_a_run_from_before_the_marker_is_not_overwritten(finished_run, tmp_path):
    folder = unmarked(finished_run, tmp_path / "run")
    before = contents(folder)
    with pytest.raises(UserError) as error:
        train(tiny_recipe(folder, seed=3, overwrite=True))
    assert str(error.value) == (
        f"{folder}: may hold another run (seed is 0 there and 3 here), without the marker .trefoil-run, so it is not "
        "overwritten; set another output_dir"
    )
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("{", "is not the marker of a run; set another output_dir"),
        ('{"format": 2}', "was written by a newer version of Trefoil; install that, or set another output_dir"),
    ],
)
def test_a_marker_that_is_not_understood_is_refused(finished_run, tmp_path, marker, message):
    shutil.copytree(finished_run, tmp_path / "run")
    (tmp_path / "run" / ".trefoil-run").write_text(marker)
    with pytest.raises(UserError, match=message):
        train(tiny_recipe(tmp_path / "run", seed=3, overwrite=True))
    assert (tmp_path / "run" / "best").is_dir()


def test_damaged_results_are_named(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    file = tmp_path / "run" / "best" / "results.json"
    file.write_text("{")
    with pytest.raises(UserError) as error:
        train(tiny_recipe(tmp_path / "run"))
    assert str(error.value).startswith(f"{file}: is damaged (")
    assert "\n" not in str(error.value)


def test_of_a_run_that_was_never_measured_it_says_what_to_do(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.claimed(tiny_recipe(run.path)):
        pass
    with pytest.raises(
        UserError, match=r"never measured, so it has no best model; go on with the same `trefoil train` command$"
    ):
        best_model(run.path)
    for step in (1, 2):
        checkpoint = run.checkpoints / f"step-{step:08}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").touch()
    with pytest.raises(UserError, match=r"or take the model of its last checkpoint as it is: .*step-00000002$"):
        best_model(run.path)


def test_data_is_found_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "project" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    recipe = tiny_recipe("runs/x", data={"embedded": False, "sources": [{"path": "data"}, {"path": "none"}]})
    with RunFolder("runs/x").claimed(recipe):
        pass
    run = tmp_path / "project" / "runs" / "x"

    def found(folder):
        again = copy.deepcopy(recipe)
        find_data(again, folder)
        return [source.path for source in again.data.sources]

    assert found("runs/x") == ["data", "none"]
    monkeypatch.chdir(tmp_path)
    assert found(run) == found(run / "best") == found("project/runs/x") == [str(tmp_path / "project" / "data"), "none"]
    (tmp_path / "data").mkdir()
    assert found(run) == ["data", "none"]  # which is here, too


def test_the_best_model_of_a_run_or_what_was_given(finished_run):
    assert best_model(finished_run) == best_model(finished_run / "best") == str(finished_run / "best")
    assert best_model("name/model") == "name/model"


# --- who is at work in it


def hold(recipe, held):
    with RunFolder(recipe.output_dir).claimed(recipe):
        held.set()
        time.sleep(300)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_second_run_is_refused_until_the_first_ends_even_killed(finished_run, tmp_path, processes):
    shutil.copytree(finished_run, tmp_path / "run")
    recipe = tiny_recipe(tmp_path / "run", training={"mixed_precision": "no"})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "train.py").write_text(TRAINER)
    context = get_context("fork")
    held = context.Event()
    holder = context.Process(target=hold, args=(recipe, held))
    holder.start()
    try:
        assert held.wait(60)
        words = (tmp_path / "train.py", tmp_path / "recipe.yaml")
        process = start(*words) if processes == 1 else start_by_torchrun(*words, processes=processes)
        (line,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
        marker = json.loads((tmp_path / "run" / ".trefoil-run").read_text())
        assert line == (
            f"error: {tmp_path / 'run'}: another run is at work here (process {holder.pid} on {os.uname().nodename} since "
            f"{marker['since']}); wait for it, stop it, or set another output_dir"
        )
        # torch's launcher raises an error of its own where a process ends with one, and ends the others
        assert process.stderr.count("Traceback") == processes - 1
        assert process.returncode == 2 if processes == 1 else "exitcode  : 2" in process.stderr
    finally:
        holder.kill()
        holder.join()
    train(recipe)


def claim_at_once(recipe, barrier, found, over):
    barrier.wait(60)
    try:
        with RunFolder(recipe.output_dir).claimed(recipe):
            found.put("at work")
            over.wait(60)
    except UserError as error:
        found.put(str(error))


def test_of_two_runs_that_start_at_once_in_a_new_folder_one_is_refused(tmp_path):
    context = get_context("fork")
    for number in range(5):
        recipe = tiny_recipe(tmp_path / f"run-{number}")
        barrier, found, over = context.Barrier(2), context.Queue(), context.Event()
        runs = [context.Process(target=claim_at_once, args=(recipe, barrier, found, over)) for _ in range(2)]
        for run in runs:
            run.start()
        said = [found.get(timeout=60) for _ in runs]
        over.set()
        for run in runs:
            run.join()
        refusal, winner = sorted(said, key=lambda line: line == "at work")
        assert winner == "at work"
        assert refusal.startswith(f"{recipe.output_dir}: another run is at work here (")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_it_says_so_and_goes_on(tmp_path, monkeypatch, capsys, number):
    def flock(descriptor, operation):
        if operation != fcntl.LOCK_UN:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    folder, recipe = RunFolder(tmp_path / "run"), tiny_recipe(tmp_path / "run")
    with folder.claimed(recipe):
        assert folder.marker.is_file()
    assert (
        f"{folder}: no locks on this file system ({os.strerror(number)}), so start no second" in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_run_that_fails_lets_go_of_its_folder(tmp_path, monkeypatch):
    recipe = tiny_recipe(tmp_path / "run", training={"max_steps": 2})
    train_and_die(monkeypatch, recipe, after_step(1))
    train(recipe)
