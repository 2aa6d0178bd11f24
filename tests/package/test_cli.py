"""The command line in process: what it prints, and that a user's mistake is one line and exit code 2."""

import csv
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest
import yaml
from stock_checkpoints import CASES, stock_model
from training_runs import tiny_content, tiny_recipe

import trefoil
from tests.hub.conftest import HEADS, SIZES, tiny_tokenizer
from trefoil.cli import main
from trefoil.predict import Predictor
from trefoil.recipes.schema import load_recipe
from trefoil.training.run import train
from trefoil.training.run_folder import ModelFolder, RunFolder
from trefoil.training.stopping import STOP_SIGNALS

QUICK = {"training": {"max_steps": 2}, "optimization": {"warmup_steps": 0}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(tiny_recipe(folder, **QUICK))
    return folder


@pytest.fixture(scope="module")
def published(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "tiny"
    assert main(["publish", str(trained), str(folder)]) == 0
    return folder


@pytest.fixture
def recipe(tmp_path):
    """A recipe's file whose run takes two steps."""
    (tmp_path / "my.yaml").write_text(tiny_recipe(tmp_path / "run", **QUICK).to_yaml())
    return tmp_path / "my.yaml"


def ends(arguments):
    """The exit code, also where argparse ends the process."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code


# --- help


def test_help_names_every_command(capsys):
    assert ends(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in (
        "new",
        "recipes",
        "debug",
        "train",
        "launch",
        "evaluate",
        "compare",
        "publish",
        "demo",
        "predict",
        "translate",
        "attend",
        "import",
        "export",
        "doctor",
        "completion",
    ):
        assert re.search(rf"\n    {command}\s", shown)
        assert ends([command, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: trefoil {command} ")


@pytest.mark.slow
def test_the_module_can_be_run():
    process = subprocess.run([sys.executable, "-m", "trefoil", "--help"], capture_output=True, text=True, check=False)
    assert process.returncode == 0
    assert process.stdout.startswith("usage: trefoil ")
    assert process.stderr == ""


# --- what goes right


def test_recipes(capsys):
    assert ends(["recipes"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert any(re.match(r"encoder-text-classification-nsmc +Sentiment of Korean film reviews", line) for line in shown)
    assert ends(["recipes", "encoder-text-classification-nsmc.yaml"]) == 0
    assert "task: text-classification\n" in capsys.readouterr().out
    assert ends(["recipes", "nsmc"]) == 2
    assert "no such recipe; there are decoder-causal-lm-" in capsys.readouterr().err


def test_debug(recipe, tmp_path, capsys):
    assert ends(["debug", recipe, "data.embedded_sizes={train: 40, validation: 5, test: 5}"]) == 0
    assert "parameters" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_train(recipe, tmp_path, capsys):
    assert ends(["train", recipe, "training.max_steps=1", "seed=4"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "error" not in shown.err
    assert [line.split()[0] for line in shown.err.splitlines()[-4:]] == ["test:", "the", "use", "publish"]
    assert f"trefoil publish {tmp_path / 'run'} published/run" in shown.err
    assert json.loads((tmp_path / "run" / "best" / "results.json").read_text())["steps"] == 1
    assert "seed: 4" in (tmp_path / "run" / "best" / "recipe.yaml").read_text()


def test_train_prints_json_and_is_quiet(recipe, tmp_path, capsys):
    assert ends(["train", recipe, "--json", "--quiet", "data.embedded_sizes={train: 40, validation: 5, test: 5}"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads((tmp_path / "run" / "best" / "results.json").read_text())
    assert shown.err == ""
    assert ends(["train", recipe, "--quiet", "seed=x"]) == 2
    assert capsys.readouterr().err.endswith("seed='x' is not of type int\n")
    assert "keeps no results for --json to print" in one_error_line(capsys, ["train", recipe, "--json", "--dry-run"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell, tmp_path, capsys):
    pytest.importorskip("shtab")
    assert ends(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "push-to-hub" in script
    if shell == "bash" and shutil.which("bash"):
        (tmp_path / "script").write_text(script, encoding="utf-8")
        asked = (
            'source ./script; COMP_WORDS=(trefoil publish --pr); COMP_CWORD=2; _shtab_trefoil; echo "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout == "--private\n"


def test_evaluate_prints_json(trained, tmp_path, capsys):
    assert ends(["evaluate", trained, "--json", "--predictions", tmp_path / "said.jsonl"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores == json.loads((trained / "best" / "results.json").read_text())["test"]
    assert len((tmp_path / "said.jsonl").read_text().splitlines()) == 6
    assert ends(["evaluate", trained, "data.embedded_sizes={test: 3}", "--predictions", tmp_path / "said.jsonl"]) == 0
    assert len((tmp_path / "said.jsonl").read_text().splitlines()) == 3


def test_translate_arguments_and_standard_input(trained, capsys, monkeypatch):
    assert ends(["translate", trained, "세 시 반", "두 개"]) == 0
    from_arguments = capsys.readouterr().out
    assert from_arguments.count("\n") == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("세 시 반\n두 개"))
    assert ends(["translate", trained, "--batch-size", "1"]) == 0
    assert capsys.readouterr().out == from_arguments
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert ends(["translate", trained]) == 0
    assert capsys.readouterr().out == ""


def test_bare_it_prints_help(capsys):
    assert ends([]) == 0
    assert capsys.readouterr().out.startswith("usage: trefoil ")
    assert ends(["--version"]) == 0
    assert capsys.readouterr().out == f"trefoil {trefoil.__version__}\n"


def test_a_line_that_is_not_utf_8_is_named(trained, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("하나\n".encode() + b"\xff\n")))
    assert one_error_line(capsys, ["translate", trained]) == "error: line 2: is not UTF-8; convert the text to UTF-8"


def test_data_that_a_published_recipe_names_elsewhere_is_asked_for(trained, tmp_path, monkeypatch, capsys):
    folder, data = tmp_path / "theirs", tmp_path / "data"
    shutil.copytree(trained / "best", folder)
    data.mkdir()
    (data / "test.jsonl").write_text('{"ko": "세 시 반", "en": "half past three"}\n')
    content = yaml.safe_load((folder / "recipe.yaml").read_text())
    content["data"] |= {"embedded": False, "embedded_sizes": None, "path": str(data)}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert one_error_line(capsys, ["evaluate", folder]).startswith(
        f"error: {folder}/recipe.yaml: data.path='{data}' lies"
    )
    assert ends(["evaluate", folder, "--trust-recipe"]) == 0
    assert f"{folder}: reads {data}, as data.path says\n" in capsys.readouterr().err
    assert ends(["evaluate", folder, f"data.path={data}"]) == 0
    monkeypatch.chdir(tmp_path)
    assert ends(["evaluate", folder]) == 0


def test_translate_with_scores_is_json_lines(trained, capsys):
    assert ends(["translate", trained, "세 시 반", "두 개"]) == 0
    plain = capsys.readouterr().out.splitlines()
    options = ["--n-best", "2", "--scores", "--alignments"]
    assert ends(["translate", trained, "세 시 반", "두 개", *options[2:]]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["translation"] for record in records] == plain
    assert all(record.keys() == {"line", "source", "translation", "score", "alignment"} for record in records)
    assert ends(["translate", trained, "세 시 반", "두 개", *options]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["line"] for record in records] == [1, 1, 2, 2]
    assert records[0]["score"] >= records[1]["score"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_predict_is_json_lines_but_readable_on_a_terminal(trained, capsys, monkeypatch):
    assert ends(["translate", trained, "세 시 반", "두 개"]) == 0
    plain = capsys.readouterr().out
    assert ends(["predict", trained, "세 시 반", "두 개"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(record) for record in records] == [["line", "source", "translation"]] * 2
    assert [record["translation"] for record in records] == plain.splitlines()
    assert ends(["predict", trained, "세 시 반", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("line,source,translation\n1,세 시 반,")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    assert ends(["predict", trained, "세 시 반", "두 개"]) == 0
    assert terminal.getvalue() == plain


def test_who_types_a_line_waits_for_its_answer(trained, monkeypatch):
    class Typed:
        """A terminal at which a line is typed when the one before has its answer."""

        def isatty(self):
            return True

        def __iter__(self):
            for number in range(3):
                assert sys.stdout.getvalue().count("\n") == number
                yield "세 시 반\n"

    monkeypatch.setattr(sys, "stdin", Typed())
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    assert ends(["predict", trained]) == 0
    assert terminal.getvalue().count("\n") == 3


def test_predict_writes_a_file_that_a_killed_command_goes_on_with(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("trefoil.records.ROWS_AT_ONCE", 2)
    (tmp_path / "in.csv").write_text("ko,id\n세 시 반,a\n두 개,b\n,c\n네 시,d\n다섯 시,e\n", encoding="utf-8")
    words = ["predict", trained, "--input", tmp_path / "in.csv", "--column", "ko", "-o", tmp_path / "out.csv"]
    assert ends(words) == 0
    whole = (tmp_path / "out.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(whole)))
    assert [(row["line"], row["id"]) for row in rows] == [(str(place + 1), name) for place, name in enumerate("abcde")]
    assert [bool(row["translation"]) for row in rows][2] is False
    assert one_error_line(capsys, words) == f"error: {tmp_path / 'out.csv'}: exists already; name another file"
    (tmp_path / "out.csv").unlink()
    usual = Predictor.answers

    def interrupt(self, inputs, *arguments, **options):
        if "네 시" in inputs:
            raise KeyboardInterrupt
        return usual(self, inputs, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "answers", interrupt)
        assert ends(words) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; the same command goes on"
    assert "was begun with num_beams=None, not 2" in one_error_line(capsys, [*words, "--num-beams", "2"])
    assert ends(words) == 0
    assert capsys.readouterr().err == f"{tmp_path / 'out.csv'}: goes on after line 2\n"
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_tokens_are_shown_as_they_are_generated_and_a_conversation_is_held(tmp_path, monkeypatch, capsys):
    tokenizer, fields = tiny_tokenizer(), HEADS["causal-lm"][0].config_class(**SIZES, vocab_size=120)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }} {% endfor %}"
    HEADS["causal-lm"][0](fields).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    words = ["predict", tmp_path, "--max-new-tokens", "8", "--temperature", "2", "--seed", "3"]
    assert ends([*words, "three apples"]) == 0
    streamed = terminal.getvalue()
    assert streamed.endswith("\n")
    assert ends([*words, "three apples", "--format", "jsonl"]) == 0
    record = json.loads(terminal.getvalue().removeprefix(streamed))
    assert record["generated_text"].split() == streamed.split() != []
    said = iter(["three", " ", "apples"])
    asked = []
    usual = Predictor.answers
    monkeypatch.setattr("builtins.input", lambda prompt: next(said, None) or raise_end())
    monkeypatch.setattr(
        Predictor,
        "answers",
        lambda self, inputs, *rest, **more: asked.append(len(inputs[0])) or usual(self, inputs, *rest, **more),
    )
    assert ends([*words, "--chat"]) == 0
    assert asked == [1, 3]


def raise_end():
    raise EOFError


@pytest.mark.slow
def test_publish_check_evaluate_and_translate_the_published(trained, published, capsys):
    assert (published / "README.md").is_file()
    capsys.readouterr()
    assert ends(["publish", "--check", published]) == 0
    assert "FAILED" not in capsys.readouterr().out
    assert ends(["evaluate", published, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores == json.loads((trained / "best" / "results.json").read_text())["test"]
    assert ends(["translate", published, "세 시 반", "--num-beams", "2"]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_publishing_says_how_far_it_is_but_not_quietly(trained, tmp_path, capsys):
    assert ends(["publish", trained, tmp_path / "one"]) == 0
    reading, writing, example, done = capsys.readouterr().err.splitlines()[-4:]
    assert reading == f"publishing {trained}: reading the weights"
    assert writing == f"publishing {trained}: writing {tmp_path / 'one'}"
    assert f"“{ModelFolder(trained / 'best').read_example()['text']}”" in example
    assert done == f"published {trained} in {tmp_path / 'one'}"
    assert ends(["publish", trained, tmp_path / "two", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_publishing_names_a_folder_as_it_was_typed(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert ends(["publish", trained, "one"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[1] == f"publishing {trained}: writing one"
    assert said[-1] == f"published {trained} in one"


def test_publish_space_adds_the_page(trained, tmp_path):
    assert ends(["publish", trained, tmp_path / "space", "--space"]) == 0
    assert (tmp_path / "space" / "app.py").is_file()


@pytest.mark.parametrize("kind", ["run", "published"])
def test_demo_opens_a_page(kind, trained, published, monkeypatch):
    app = pytest.importorskip("trefoil.visualization.app", exc_type=ImportError)
    opened = []
    monkeypatch.setattr(app, "open_page", lambda *arguments: opened.append(arguments))
    folder = {"run": trained, "published": published}[kind]
    assert ends(["demo", folder, "--port", 7999]) == 0
    ((page, host, port),) = opened
    assert (page.title, host, port) == (folder.name, "127.0.0.1", 7999)
    (examples,) = (block.samples for block in page.blocks.values() if hasattr(block, "samples"))
    assert examples == [[ModelFolder(trained / "best").read_example()["text"]]]


def test_publish_shows_another_example(trained, tmp_path):
    assert ends(["publish", trained, tmp_path / "one", "--example", "세 시 반"]) == 0
    assert 'translate("세 시 반")' in (tmp_path / "one" / "README.md").read_text()


def test_demo_refuses_in_a_line(trained, tmp_path, capsys):
    pytest.importorskip("gradio")
    assert ends(["demo", tmp_path]) == 2
    assert re.fullmatch(r"error: .*: no model; give a run's folder .*\n", capsys.readouterr().err)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert ends(["demo", trained, "--port", port]) == 2
    assert f"error: cannot serve at 127.0.0.1, port {port}: Address already in use" in capsys.readouterr().err
    assert ends(["demo", trained, "--host", "nowhere.invalid"]) == 2
    assert re.search(r"^error: cannot serve at nowhere\.invalid: .+\n\Z", capsys.readouterr().err, re.MULTILINE)


def test_demo_without_gradio_says_what_to_install(trained, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("app", "answers"):
        monkeypatch.delitem(sys.modules, f"trefoil.visualization.{name}", raising=False)
    assert ends(["demo", trained]) == 2
    assert capsys.readouterr().err == ("error: trefoil demo needs gradio: pip install 'trefoil-transformers[demo]'\n")


def test_attend(trained, published, tmp_path, capsys):
    for folder in (trained, published):
        assert ends(["attend", folder, "세 시 반", "-o", tmp_path / "map.html"]) == 0
        shown = capsys.readouterr()
        assert shown.out.count("\n") == 1  # what the model writes
        assert f"cross-attention: {tmp_path / 'map.html'}" in shown.err
        assert "Attention of " in (tmp_path / "map.html").read_text(encoding="utf-8")
    assert ends(["attend", trained, "세 시 반", "half past three", "--output", tmp_path / "map.png"]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_attend_draws_no_page_that_is_too_large(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("trefoil.visualization.page.MOST_WEIGHTS", 10)
    line = one_error_line(capsys, ["attend", trained, "세 시 반", "half past", "-o", tmp_path / "map.html"])
    assert "weights, but 10 are shown at most; give a shorter text" in line
    assert not (tmp_path / "map.html").exists()
    assert ends(["attend", trained, "세 시 반", "half past", "-o", tmp_path / "map.png"]) == 0


@pytest.mark.parametrize("error", [TypeError("odd\nmodel"), RuntimeError("odd")])
def test_what_attend_cannot_do_is_one_line(trained, tmp_path, monkeypatch, capsys, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("trefoil.visualization.attention.attention_maps", fail)
    line = one_error_line(capsys, ["attend", trained, "x", "-o", tmp_path / "map.html"])
    assert line == f"error: {trained / 'best'}: odd"


def test_attend_looks_at_its_output_before_the_model(tmp_path, monkeypatch, capsys):
    (tmp_path / "d.html").mkdir()
    line = one_error_line(capsys, ["attend", "no-such/model", "x", "-o", tmp_path / "d.html"])
    assert line == f"error: {tmp_path / 'd.html'}: is a folder; name a file in it"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    line = one_error_line(capsys, ["attend", "no-such/model", "x", "-o", tmp_path / "map.html"])
    assert line == f"error: {tmp_path / 'map.html'}: cannot be written; name a file elsewhere"


def test_help_of_attend_says_how_a_decoder_s_target_follows(capsys):
    assert ends(["attend", "--help"]) == 0
    assert "decoder: what follows the source, appended to the letter" in " ".join(capsys.readouterr().out.split())


def test_a_check_that_fails_is_exit_code_1(published, tmp_path, capsys):
    shutil.copytree(published, tmp_path / "broken")
    (tmp_path / "broken" / "notes.txt").write_text("mine")
    (tmp_path / "broken" / "modeling_norms.py").unlink()
    assert ends(["publish", "--check", tmp_path / "broken"]) == 1
    shown = capsys.readouterr().out
    assert "FAILED  files: notes.txt" in shown
    assert "FAILED  code: modeling_norms.py" in shown


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
def test_asked_to_stop_before_the_first_step_it_ends_alike(recipe, monkeypatch, capsys, number):
    def be_asked(recipe):
        signal.raise_signal(number)
        pytest.fail("was not heard")

    before = [signal.getsignal(one) for one in STOP_SIGNALS]
    monkeypatch.setattr("trefoil.training.run.train", be_asked)
    assert ends(["train", "--stopped-code", 0, recipe]) == 0
    assert capsys.readouterr().err == "stopped; the same command goes on from the last checkpoint\n"
    assert [signal.getsignal(one) for one in STOP_SIGNALS] == before


@pytest.mark.parametrize("code", ["1", "2", "256", "-1", "x"])
def test_an_exit_code_that_says_something_else_is_refused(recipe, capsys, code):
    assert ends(["train", f"--stopped-code={code}", recipe]) == 2
    assert f"'{code}' is not an exit code from 0 to 255, without 1 and 2, which say errors" in capsys.readouterr().err


def test_interrupted_is_exit_code_130(recipe, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("trefoil.training.run.train", interrupt)
    assert ends(["train", recipe]) == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from the last checkpoint\n"


# --- what goes wrong


def one_error_line(capsys, arguments):
    assert ends(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    lines = [line for line in shown.err.splitlines() if "error:" in line]
    assert len(lines) == 1, shown.err
    assert shown.err.splitlines()[-1] == lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.max_step=1"], "unknown key training.max_step; did you mean max_steps?"),
        (["training.max_steps=few"], "training.max_steps='few' is not int | None"),
        (["training.max_steps"], "an override is key=value"),
        (["task=translate"], "unknown task; did you mean translation?"),
        (["optimization.schedule=liner"], "did you mean linear?"),
        (["model.preset=huge"], "model.preset='huge' is no preset"),
        (["model.config.hiden_size=3"], "unknown field 'hiden_size'"),
        (["model.config.num_attention_heads=3"], "hidden_size=32 is not a multiple of num_attention_heads=3"),
        (["model.preset=null", "model.init_from=nowhere/none", "tokenizer={}"], "nowhere/none: no tokenizer to load"),
        (["tokenizer={path: nowhere/none}"], "nowhere/none: no tokenizer to load"),
        (["tokenizer.vocab_size=100"], "has no room for the 259 bytes and special tokens"),
        (["data.embedded=false", "data.path=nowhere"], "nowhere: no such file or folder"),
        (["data.embedded=false", "data.name=nobody/nothing"], "data set 'nobody/nothing', split 'train'"),
        (["data.columns.source=kr"], "no column 'kr'; there are id, ko, en"),
        (["data.embedded_sizes={train: -1}"], "data.embedded_sizes={'train': -1}"),
        (["evaluation.metric=blue"], "there are bleu, chrf, exact_match"),
        (["training.trackers=[nothing]"], "training.trackers: 'nothing' is not installed or unknown"),
        (["batches.max_source_length=5"], "embedded data (train) example 1: column 'ko' has"),
    ],
)
def test_mistakes_in_a_recipe(recipe, capsys, overrides, message):
    line = one_error_line(capsys, ["train", recipe, *overrides])
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    "words",
    [["predict", "{run}", "x"], ["evaluate", "{run}"], ["attend", "{run}", "x"], ["publish", "{run}", "out"],
     ["export", "{run}", "out", "--to", "marian"], ["train", "{recipe}", "model={init_from: {run}}", "tokenizer={}", "output_dir=other"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_of_a_run_that_was_never_measured_each_command_says_what_to_do(recipe, tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    with RunFolder("run").claimed(load_recipe(recipe)):
        pass
    words = [word.replace("{run}", "run").replace("{recipe}", str(recipe)) for word in words]
    line = one_error_line(capsys, words)
    assert line.startswith("error: run: a run that was never measured, so it has no best model; go on with the same")


def test_mistakes_about_folders(recipe, trained, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "mute").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(trained / "best" / name, tmp_path / "mute")
    for arguments, message in [
        (["train", "no-such-recipe"], "no-such-recipe: no such recipe; give a YAML file or one of"),
        (["train", recipe, f"output_dir={tmp_path / 'full'}"], "is not empty and holds no run of Trefoil"),
        (["train", recipe, f"output_dir={trained}", "seed=9"], "holds another run (seed is 0 there and 9 here)"),
        (["evaluate", tmp_path / "full"], "no model; give a run's folder"),
        (["evaluate", tmp_path / "none"], "has no recipe.yaml"),
        (["evaluate", trained, "--split", "dev"], "no split 'dev'"),
        (["evaluate", trained, "--predictions", tmp_path / "no" / "file"], "its folder does not exist"),
        (["evaluate", trained, "--predictions", tmp_path], "is a folder; name a file in it"),
        (
            ["evaluate", trained, "--predictions", tmp_path / "full" / "thesis.txt"],
            "holds something else than predictions",
        ),
        (["evaluate", trained, "--data", tmp_path / f"{'long' * 70}.csv"], "File name too long"),
        (["translate", tmp_path / "full", "x"], "no model; give a run's folder"),
        (["translate", tmp_path / "none", "x"], "none"),
        (["translate", trained, "x", "--to", "en"], "--to en: this model has no tags for languages"),
        (["translate", trained, "x", "-o", tmp_path / "no" / "file.txt"], "its folder does not exist"),
        (["translate", trained, "x", "-o", tmp_path / "file"], "file: the file's name must end with .jsonl, .csv"),
        (["predict", tmp_path / "full", "x"], "no model; give a run's folder"),
        (["predict", tmp_path / "none", "x"], "no such folder, and no Hub id that can be loaded: "),
        (["predict", tmp_path / "mute", "x"], "tokenizer"),
        (["predict", trained, ""], "the text '' is empty"),
        (["predict", trained, "세 " * 200], "line 1: the text has"),
        (["predict", trained, "세 " * 200], "96 at most: shorten it, or cut it with --truncate"),
        (["predict", trained, "x", "--temperature", "0"], "--temperature=0.0: is out of range"),
        (["predict", trained, "x", "--chat"], "--chat: is no option of translation"),
        (
            ["predict", trained, "x", "--task", "fill-mask"],
            "the head of the model is for translation, not for fill-mask",
        ),
        (["predict", trained, "x", "--task", "guess"], "task='guess': unknown; there are translation, "),
        (["predict", trained, "x", "--question", "y"], "--question: a model for translation is not asked with it"),
        (["predict", trained, "x", "--input", "y.txt"], "give either texts or --input FILE"),
        (["predict", trained, "x", "--column", "y"], "there is no such file"),
        (["predict", trained, "--input", tmp_path / "y.txt"], "y.txt: no such file"),
        (["attend", tmp_path / "full", "x"], "no model; give a run's folder"),
        (["attend", tmp_path / "none", "x"], "none"),
        (["attend", trained, "x", "-o", "map.pdf"], "map.pdf: the file's name must end with .html or .png"),
        (["attend", trained, "x", "-o", tmp_path / "no" / "map.html"], "its folder does not exist"),
        (["attend", trained, "x", "-o", tmp_path / f"{'long' * 70}.html"], "cannot be written (File name too long)"),
        (["attend", trained, "x", "-o", tmp_path / f"{'long' * 70}.png"], "cannot be written (File name too long)"),
        (["attend", trained, " "], "the source is empty"),
        (["attend", trained, "세 " * 200], "tokens, but the model reads 96 at most"),
        (["attend", tmp_path / "mute", "x"], "no tokenizer to load"),
        (["publish", tmp_path / "full", tmp_path / "out"], "there is no config.json"),
        (["publish", trained, tmp_path / "full"], "is not empty"),
        (["publish", trained], "give SOURCE and OUTPUT, or --check FOLDER"),
        (["publish", trained, "--check", trained], "give either SOURCE and OUTPUT, or --check FOLDER"),
        (["publish", "--check", tmp_path / "full"], "has no config.json"),
    ]:
        line = one_error_line(capsys, arguments)
        assert line.startswith("error: ")
        assert message in line


def test_a_mistake_in_the_data(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    for split in ("train", "validation", "test"):
        (tmp_path / "data" / f"{split}.csv").write_text("ko,en\n하나,one\n둘\n")
    content = tiny_content(tmp_path / "run", data={"embedded": False, "path": str(tmp_path / "data")})
    (tmp_path / "my.yaml").write_text(json.dumps(content))
    line = one_error_line(capsys, ["train", tmp_path / "my.yaml"])
    assert line == f"error: {tmp_path / 'data' / 'train.csv'} line 3: 1 values for 2 columns"


@pytest.mark.parametrize(
    "arguments",
    [
        ["tran"],
        ["train"],
        ["evaluate", "x", "--spilt", "test"],
        ["translate", "x", "--num-beams", "many"],
        ["translate", "x", "--num-beams", "0"],
        ["translate", "x", "--batch-size", "0"],
        ["translate", "x", "--n-best", "0"],
        ["publish", "x", "y", "--max-shard-size", "big"],
        ["demo", "x", "--port", "0"],
        ["demo", "x", "--port", "65536"],
        ["attend", "x", "\udcea\udcb0"],
        ["attend", "x", "y", "\udcff"],
    ],
)
def test_mistakes_on_the_command_line(capsys, arguments):
    line = one_error_line(capsys, arguments)
    assert line.startswith("trefoil")


def test_only_the_first_process_says_it(recipe, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert ends(["train", recipe, "training.max_step=1"]) == 2
    assert capsys.readouterr().err == ""


# --- import, export


def test_a_checkpoint_comes_in_and_goes_out(tmp_path, capsys):
    stock = stock_model(next(case for case in CASES if str(case) == "llama-ForCausalLM-plain"))
    stock.save_pretrained(tmp_path / "stock")
    assert ends(["import", tmp_path / "stock", tmp_path / "model"]) == 0
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"imported .*stock as TrefoilDecoderForCausalLM in .*; .* differ by \d\.\de[+-]\d\d at most", told)
    assert ends(["export", tmp_path / "model", tmp_path / "out", "--to", "llama"]) == 0
    assert "as LlamaForCausalLM in" in capsys.readouterr().err
    assert (tmp_path / "out" / "config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "{model}", "{out}"], "is a Trefoil model already"),
        (["import", "{nowhere}", "{out}"], "there is no such folder"),
        (["export", "{model}", "{out}", "--to", "bart"], "bart cannot express"),
        (["export", "{model}", "{out}", "--to", "marain"], "unknown architecture 'marain'; did you mean marian?"),
        (["export", "{nowhere}", "{out}", "--to", "bart"], "holds no model"),
        (["export", "{model}", "{model}", "--to", "bart"], "overlap"),
        (
            ["export", "{model}", "{out}", "--to", "gguf", "--quantization", "q3"],
            "has no quantization 'q3'; it has float32",
        ),
        (
            ["export", "{model}", "{out}", "--to", "bart", "--quantization", "int8"],
            "goes with --to ctranslate2 and gguf",
        ),
    ],
)
def test_imports_and_exports_that_are_refused(arguments, message, published, tmp_path, capsys):
    places = {"model": published, "out": tmp_path / "out", "nowhere": tmp_path / "nowhere"}
    assert ends([argument.format(**places) for argument in arguments]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("error: ")
    assert message in told[-1]
    assert not (tmp_path / "out").exists()
