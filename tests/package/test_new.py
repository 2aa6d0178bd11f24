"""`trefoil new`: what it takes for what, and that what it writes runs."""

import json
import random
import shlex

import pytest
import yaml

from trefoil.cli import main
from trefoil.new import options_of_labels
from trefoil.recipes.schema import load_recipe

WORDS = ["영화", "정말", "좋다", "나쁜", "배우", "음악", "😀", "연출", "장면", "감동"]


def sentence(number, length=6):
    return " ".join(random.Random(number).choices(WORDS, k=length)) + f" {number}"


def table(header, rows, delimiter=","):
    return "".join(delimiter.join(map(str, row)) + "\n" for row in ([header] if header else []) + rows)


def new(tmp_path, task, data, *more):
    code = main(["new", task, *more, "--data", str(data), "-o", str(tmp_path / "my.yaml")])
    return load_recipe(tmp_path / "my.yaml") if code == 0 else code


REVIEWS = [[sentence(number), number, "긍정" if number % 3 else "부정"] for number in range(90)]


@pytest.mark.parametrize("task", ["text-classification", "sentiment", "classification", "Sentiment Analysis"])
def test_a_table_of_reviews(tmp_path, write, capsys, task):
    file = write("reviews.csv", table(["내용", "id", "감정"], REVIEWS, ";").encode("cp949", "ignore"))
    recipe = new(tmp_path, task, file, "--minutes", "2.5")
    assert (recipe.task, recipe.language, recipe.model.preset) == ("text-classification", ["ko"], "encoder-tiny")
    assert recipe.data.columns == {"text": "내용", "label": "감정"}
    assert (recipe.data.split.validation, recipe.data.split.test, recipe.training.max_minutes) == (0.1, 0.1, 2.5)
    shown = capsys.readouterr().out
    assert ("is the task text-classification" in shown) == (task != "text-classification")
    assert "text is the column '내용', by its name (data.columns.text)" in shown
    assert "2 labels: 긍정 67%, 부정 33%" in shown
    assert all(
        f"# - {line}" in (tmp_path / "my.yaml").read_text()
        for line in shown.splitlines()[1 if "is the task" in shown else 0 : -3]
    )


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [
        ([sentence(number) for number in range(90)], [1, 2, 3, 4]),
        ([f"the {number}th of them was fine" for number in range(90)], [1, 2, 3, 4, 5, 6]),
        ([f"{number} " + "long " * 300 for number in range(90)], None),
    ],
)
def test_short_texts_are_classified_by_n_grams_of_characters(tmp_path, write, texts, sizes):
    rows = [[text, "yes" if number % 3 else "no"] for number, text in enumerate(texts)]
    recipe = new(tmp_path, "classification", write("a.csv", table(["text", "label"], rows)))
    assert recipe.model.config.get("classifier_ngram_sizes") == sizes
    assert recipe.tokenizer.kind == ("characters" if sizes else "byte_bpe")


def test_what_it_writes_runs(tmp_path, write, capsys):
    new(tmp_path, "sentiment", write("reviews.csv", table(["내용", "id", "감정"], [*REVIEWS, ["", 7, "부정"]])))
    before = {*tmp_path.rglob("*")}
    assert main(["train", str(tmp_path / "my.yaml"), "--dry-run"]) == 0
    assert {*tmp_path.rglob("*")} == before
    assert "step 3/3" in capsys.readouterr().err


def test_columns_by_what_they_hold_are_said_with_what_else_they_could_be(tmp_path, write, capsys):
    file = write(
        "a.csv", table(["a", "b", "c", "d"], [[n, sentence(n), sentence(-n, 3), "xyz"[n % 3]] for n in range(60)])
    )
    assert new(tmp_path, "classification", file).data.columns == {"text": "b", "label": "d"}
    shown = capsys.readouterr().out
    assert "text is the column 'b', by what it holds; it could be c, a (data.columns.text)" in shown
    (tmp_path / "my.yaml").unlink()
    assert new(tmp_path, "classification", file, "data.columns.text=c").data.columns == {"text": "c", "label": "d"}


def test_a_table_without_a_header(tmp_path, write):
    recipe = new(
        tmp_path, "classification", write("a.tsv", table(None, [[sentence(n), n % 2] for n in range(40)], "\t"))
    )
    assert recipe.data.header == ["column 1", "column 2"]
    assert recipe.data.columns == {"text": "column 1", "label": "column 2"}


def test_a_folder_with_splits_of_other_names(tmp_path, write):
    for name, count in (("train", 30), ("dev", 10)):
        rows = [{"tokens": ["서울", "좋다"], "ner_tags": ["B-LOC", "O"]}] * count
        folder = write(f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows)).parent
    recipe = new(tmp_path, "ner", folder)
    assert (recipe.task, recipe.data.validation_split, recipe.data.test_split) == ("token-classification", "dev", None)
    assert recipe.data.columns == {"tags": "ner_tags"}
    assert not recipe.data.shares


@pytest.mark.parametrize(
    ("tokens", "options"),
    [(list("서울 참 "), {"delimiter": ""}), (["Seoul", "is"], {"label_all_subwords": True})],
)
def test_few_words_are_tagged_by_n_grams_of_characters_and_a_chain(tmp_path, write, capsys, tokens, options):
    texts = [[*tokens, chr(ord("가") + number)] for number in range(60)]
    rows = [json.dumps({"tokens": text, "tags": ["B-LOC", *["O"] * (len(text) - 1)]}) for text in texts]
    recipe = new(tmp_path, "ner", write("a.jsonl", "\n".join(rows)))
    assert (recipe.options, recipe.tokenizer.kind) == (options, "characters")
    assert recipe.model.config["classifier_crf"]
    assert recipe.model.config["classifier_ngram_sizes"] == [1, 2, 3, 4]
    characters = 48 * len(options.get("delimiter", " ").join(texts[0]))
    assert f"about {characters:,} tokens" in capsys.readouterr().out
    assert main(["train", str(tmp_path / "my.yaml"), "--dry-run"]) == 0


def test_a_folder_with_one_file_or_several(tmp_path, write, capsys):
    folder = write("poems.txt", "".join(f"{sentence(n)}\n" for n in range(300))).parent
    recipe = new(tmp_path, "language-model", folder)
    assert (recipe.task, recipe.data.path) == ("causal-lm", str(folder / "poems.txt"))
    write("more.txt", "a\n")
    assert main(["new", "lm", "--data", str(folder), "-o", str(tmp_path / "other.yaml")]) == 2
    assert "holds more.txt, poems.txt; which is to train on?" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["lines", "tmx", "csv"])
def test_pairs_of_sentences(tmp_path, write, kind):
    pairs = [(sentence(number), f"sentence {number}") for number in range(50)]
    if kind == "lines":
        write("train.ko", "".join(f"{ko}\n" for ko, _ in pairs))
        data = write("train.en", "".join(f"{en}\n" for _, en in pairs)).parent
    elif kind == "tmx":
        unit = '<tu><tuv xml:lang="ko"><seg>{}</seg></tuv><tuv xml:lang="en"><seg>{}</seg></tuv></tu>'
        data = write("a.tmx", f"<tmx>{''.join(unit.format(*pair) for pair in pairs)}</tmx>")
    else:
        data = write("a.csv", table(["ko", "en"], pairs))
    recipe = new(tmp_path, "translate", data)
    columns = [recipe.data.columns[role] for role in ("source", "target")]
    assert sorted(columns) == ["en", "ko"]
    assert recipe.language == columns
    assert recipe.model.preset == "encoder-decoder-tiny"


@pytest.mark.parametrize(
    ("given", "more", "columns"),
    [
        ("", [], {"source": "de", "target": "en"}),
        ("notes.de", [], {"source": "de", "target": "en"}),
        ("notes.en", [], {"source": "en", "target": "de"}),
        ("", ["data.columns.source=en"], {"source": "en", "target": "de"}),
    ],
)
def test_two_files_whose_lines_belong_together(tmp_path, write, capsys, given, more, columns):
    write("notes.de", "".join(f"Satz {number}\n" for number in range(100)))
    folder = write("notes.en", "".join(f"sentence {number}\n" for number in range(100))).parent
    write("readme.txt", "What this is.\n")
    for suffix in ("yaml", "md", "bak"):
        write(f"notes.{suffix}", "no lines of a language\n")
    recipe = new(tmp_path, "translation", folder / given, *more)
    assert (recipe.data.path, recipe.data.train_split, recipe.data.columns) == (str(folder), "notes", columns)
    assert recipe.data.shares == {"validation": 0.1, "test": 0.1}
    assert recipe.language == [*columns.values()]
    assert recipe.output_dir == "runs/notes"
    shown = capsys.readouterr().out
    assert "belong together, line by line; from" in shown
    assert ("by its name" in shown) == bool(more)  # what the files are called says it
    assert main(["train", str(tmp_path / "my.yaml"), "--dry-run"]) == 0


def test_of_several_pairs_of_files_none_is_chosen(tmp_path, write, capsys):
    for name in ("one.de", "one.en", "two.de", "two.en"):
        folder = write(name, "a\n").parent
    assert new(tmp_path, "translation", folder) == 2
    assert "holds one.de, one.en, two.de, two.en; which is to train on?" in capsys.readouterr().err


def test_what_is_printed_can_be_typed(tmp_path, write, capsys):
    file = write("A.CSV", table(["text", "label"], [[sentence(n), n % 2] for n in range(40)]))
    output = tmp_path / "my first.yaml"
    assert main(["new", "classification", "--data", str(file), "-o", str(output)]) == 0
    *_, debug, train = capsys.readouterr().out.splitlines()
    assert [shlex.split(line) for line in (debug, train)] == [
        ["trefoil", one, str(output)] for one in ("debug", "train")
    ]


def test_how_a_table_is_read_is_found_once(tmp_path, write, capsys):
    file = write("a.csv", table(["text", "label"], [[f"Ärger {n}", n % 2] for n in range(40)], ";").encode("cp1252"))
    recipe = new(tmp_path, "classification", file)
    assert (recipe.data.encoding, recipe.data.delimiter) == ("cp1252", ";")
    assert "read as cp1252, in which it says 'Ärger 0;0'" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "my.yaml"), "--dry-run"]) == 0
    assert "read as" not in capsys.readouterr().err
    (tmp_path / "my.yaml").unlink()
    plain = write("b.csv", table(["text", "label"], [[sentence(n), n % 2] for n in range(40)]))
    assert new(tmp_path, "classification", plain).data.encoding is None


def test_several_labels_of_a_row_and_fractions(tmp_path, write, capsys):
    labels = ["음식", "음식|값", "값|자리", "", "자리"]
    rows = [[sentence(number), labels[number % 5]] for number in range(100)]
    recipe = new(tmp_path, "classification", write("a.csv", table(["text", "label"], rows)))
    assert recipe.options == {"label_separator": "|"}
    assert "3 labels: " in capsys.readouterr().out
    assert main(["train", str(tmp_path / "my.yaml"), "--dry-run"]) == 0
    assert "micro_f1" in capsys.readouterr().err
    (tmp_path / "my.yaml").unlink()
    rows = [[sentence(number), f"{number % 40 / 10:.2f}"] for number in range(100)]
    recipe = new(tmp_path, "classification", write("b.csv", table(["text", "score"], rows)))
    assert recipe.options == {"problem_type": "regression"}
    assert " labels: " not in capsys.readouterr().out
    assert main(["train", str(tmp_path / "my.yaml"), "--dry-run"]) == 0
    assert "pearson" in capsys.readouterr().err
    (tmp_path / "my.yaml").unlink()
    rows = [[sentence(number), number % 4] for number in range(100)]
    file = write("c.csv", table(["text", "score"], rows))
    assert new(tmp_path, "regression", file).options == {"problem_type": "regression"}
    (tmp_path / "my.yaml").unlink()
    assert new(tmp_path, "classification", file).options == {}


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (["a", "b", None], {}),
        (["low, risk", "high, risk", "none"] * 9, {}),
        (["1", "2", "10"], {}),
        (["1.0", "2.0"], {}),
        ([1, 2.5], {"problem_type": "regression"}),
        (["3,25", "1,5", "2,25", "3,5", "1,25", "2,5"] * 3, {}),
        ([["a"], ["a", "b"]], {}),
        (["a; b", "b", "a", "b;a;c", "c"] * 3, {"label_separator": ";"}),
    ],
)
def test_what_labels_of_a_table_are(labels, options):
    assert {name: value for name, (value, _) in options_of_labels(labels).items()} == options


def squad(question, context, answer):
    """Forty texts, with two questions each."""
    answers = [{"text": answer, "answer_start": context.index(answer)}]
    qas = [{"id": str(number), "question": question, "answers": answers} for number in range(2)]
    return json.dumps({"data": [{"paragraphs": [{"context": f"{context} {n:02}", "qas": qas} for n in range(40)]}]})


def test_questions_in_the_form_of_squad(tmp_path, write, capsys):
    file = write("dev.json", squad("몇 번째 도시에 산다?", "서울에 산다", "서울"))
    recipe = new(tmp_path, "qa", file)
    assert recipe.data.columns == {}
    assert (recipe.tokenizer.kind, recipe.model.config["matched_ngram_sizes"]) == ("characters", [2, 3, 4, 5])
    # a text is read with each of its questions
    assert f"64 rows to train on, about {64 * (12 + 9):,} tokens" in capsys.readouterr().out
    assert main(["train", str(tmp_path / "my.yaml"), "--dry-run"]) == 0
    (tmp_path / "my.yaml").unlink()
    recipe = new(tmp_path, "qa", write("dev.json", squad("Where do you live?", "They live in Seoul", "Seoul")))
    assert (recipe.tokenizer.kind, recipe.model.config["matched_ngram_sizes"]) == ("byte_bpe", [1, 2, 3])
    assert main(["train", str(tmp_path / "my.yaml"), "--dry-run"]) == 0


def test_more_text_asks_for_more(tmp_path, write):
    found = []
    for count in (100, 40_000):
        file = write(f"{count}.txt", "".join(f"{sentence(n, 12)}\n" for n in range(count)))
        recipe = new(tmp_path, "mlm", file)
        found.append((recipe.tokenizer.vocab_size, recipe.batches.tokens_per_batch, -recipe.training.max_epochs))
        (tmp_path / "my.yaml").unlink()
    assert all(less < more for less, more in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("clasification", "text,label\na,b\n", "task='clasification': unknown task; did you mean text-classification?"),
        (
            "ner",
            "text,label\na,b\n",
            "no telling which column is 'tokens' of text, label; say it: data.columns.tokens=NAME",
        ),
        ("classification", "text,label\n", "no rows"),
        ("classification", "", "no rows"),
    ],
)
def test_what_cannot_be_told(tmp_path, write, capsys, task, content, message):
    assert new(tmp_path, task, write("a.csv", content)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "my.yaml").exists()


def test_a_file_that_is_there_is_kept(tmp_path, write, capsys):
    (tmp_path / "my.yaml").write_text("mine")
    assert main(["new", "ner", "--data", "x", "-o", str(tmp_path / "my.yaml")]) == 2
    assert (tmp_path / "my.yaml").read_text() == "mine"
    assert main(["new", "ner", "--data", str(tmp_path / "none.csv"), "-o", str(tmp_path / "new.yaml")]) == 2
    assert "none.csv: no such file or folder" in capsys.readouterr().err


def test_other_keys_that_are_known_better(tmp_path, write):
    file = write("a.csv", table(["text", "label"], [[sentence(n), n % 2] for n in range(40)]))
    recipe = new(tmp_path, "classification", file, "seed=7", "training.max_epochs=2", "data.split.group=label")
    assert (recipe.seed, recipe.training.max_epochs, recipe.data.split.group) == (7, 2, "label")
    assert yaml.safe_load((tmp_path / "my.yaml").read_text())["data"]["split"]["validation"] == 0.1


def test_what_the_data_holds_writes_no_keys(tmp_path, write):
    rows = [[f'"{sentence(number)}"', '"zgood\noverwrite: true #"' if number % 2 else "bad"] for number in range(60)]
    recipe = new(tmp_path, "sentiment", write("a.csv", table(["text", "label"], rows)))
    assert recipe.overwrite is False


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.columns.label=nope", "data.columns.label: no column 'nope'; there are text, label"),
        ("data.columns=text", "data.columns='text' is not"),
        ("data=5", "data must be a mapping, not 5"),
    ],
)
def test_what_is_known_better_wrongly_is_refused_in_a_line(tmp_path, write, capsys, override, message):
    assert new(tmp_path, "sentiment", write("a.csv", table(["text", "label"], [["a", 1], ["b", 0]])), override) == 2
    assert message in capsys.readouterr().err
