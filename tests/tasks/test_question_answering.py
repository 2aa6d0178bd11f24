"""Questions about a text: which tokens an answer is, what is refused, and that a run answers as its pipeline does."""

import itertools
import json
import re
from types import SimpleNamespace

import datasets
import pytest
import torch
from accelerate import Accelerator
from training_runs import TINY_MODEL, merged
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, pipeline

import trefoil
from trefoil.configuration.errors import UserError
from trefoil.data.tokenizer import BIDIRECTIONAL, train_tokenizer
from trefoil.recipes.schema import Recipe, TokenizerRecipe, build, validate
from trefoil.tasks import TASKS, base
from trefoil.tasks.question_answering import QuestionAnsweringTask, answer_tokens
from trefoil.training.run import evaluate, load_splits, make_accelerator, train

ENGLISH = ("When was the tower built?", "The old tower was built in 1863, by hand.", "1863")
KOREAN = ("민수는 어디에서 왔어요?", "민수는 서울에서 왔고 지영은 부산에서 왔어요.", "서울")
EMOJI = ("무엇을 샀어요?", "👍🏽 민수는 🍎 사과 세 개를 샀어요.", "사과 세 개")
NO_ANSWER = {"text": [], "answer_start": []}


def row(question, context, *answers):
    return {
        "question": question,
        "context": context,
        "answers": {"text": list(answers), "answer_start": [context.index(answer) for answer in answers]},
    }


ROWS = [row(*ENGLISH), row(*KOREAN), row(*EMOJI)]


def content(output_dir="runs/qa", **changes):
    """A recipe of 20 steps, as it stands in YAML."""
    return merged(
        {
            "task": "question-answering",
            "output_dir": str(output_dir),
            "data": {"embedded": True, "embedded_sizes": {"train": 120, "validation": 10, "test": 20}},
            "tokenizer": {"vocab_size": 300},
            "model": {"preset": "encoder-tiny", "config": dict(TINY_MODEL)},
            "batches": {"tokens_per_batch": 1500},
            "optimization": {
                "learning_rate": 1e-3,
                "warmup_steps": min(4, changes.get("training", {}).get("max_steps", 4)),
            },
            "training": {"max_steps": 20, "log_every": 1, "evaluate_every": 10, "trackers": []},
        },
        changes,
    )


def make_recipe(output_dir="runs/qa", **changes) -> Recipe:
    recipe = build(Recipe, content(output_dir, **changes), "qa.yaml")
    validate(recipe, "qa.yaml")
    return recipe


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    """Every word that stands more than once is one token; every other character is its bytes."""
    texts = [text for question, context, _ in (ENGLISH, KOREAN, EMOJI) for text in (question, context)] * 3
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(texts, TokenizerRecipe(vocab_size=369), BIDIRECTIONAL).save_pretrained(folder)
    return folder


@pytest.fixture
def make_task(tokenizer_folder):
    """A task that is ready to encode, and its configuration."""

    def make(train=None, config=None, **changes):
        task = QuestionAnsweringTask(make_recipe(**changes), AutoTokenizer.from_pretrained(tokenizer_folder))
        if train is not None:
            task.learn(datasets.Dataset.from_list(train))
        config = config or trefoil.TrefoilEncoderConfig(**TINY_MODEL, vocab_size=len(task.tokenizer))
        task.prepare_config(config)
        return task, config

    return make


def tiny_model(config, seed=0):
    torch.manual_seed(seed)
    config.initializer_range = 0.3
    return AutoModelForQuestionAnswering.from_config(config).eval()


# --- which tokens an answer is


OUTSIDE = [None, None, None]  # the start, a question of one token, and what ends it


@pytest.mark.parametrize(
    ("context", "answer", "places", "expected"),
    [
        ("It was built in 1863.", "1863", [(0, 2), (3, 6), (7, 12), (13, 15), (16, 20), (20, 21)], (7, 7)),
        ("It was built in 1863.", "in 1863", [(0, 2), (3, 6), (7, 12), (13, 15), (16, 20), (20, 21)], (6, 7)),
        ("민수는 서울에서 왔다", "서울", [(0, 3), (4, 8), (9, 11)], (4, 4)),  # the particle is of the same token
        ("민수는 서울에서 왔다", "울에서 왔", [(0, 3), (4, 8), (9, 11)], (4, 5)),  # begins within a token
        ("서울에서", "서울", [(0, 1), (1, 3), (3, 4)], (3, 4)),
        ("🍎 사과", "사과", [(0, 1), (0, 1), (0, 1), (0, 1), (2, 4)], (7, 7)),  # a token is a byte of the apple
        ("🍎 사과", "🍎", [(0, 1), (0, 1), (0, 1), (0, 1), (2, 4)], (3, 6)),
        ("👍🏽 둘", "👍🏽", [(0, 1), (1, 2), (3, 4)], (3, 4)),  # two code points
        ("세 개 ", " 개 ", [(0, 1), (2, 3), None], (4, 4)),  # white space is of no token
        ("\x00세 개", "\x00세", [(1, 2), (3, 4)], (3, 3)),  # nor is what the tokenizer leaves out
        ("세 \x00 개", "\x00", [(0, 1), (4, 5)], (0, 0)),
    ],
)
def test_the_covering_tokens_are_the_answer(context, answer, places, expected):
    start = context.index(answer)
    assert answer_tokens([[*OUTSIDE, *places, None]], start, start + len(answer)) == [expected]


def test_a_window_without_the_whole_answer_has_none():
    windows = [
        [*OUTSIDE, (0, 2), (2, 4), (4, 6)],
        [*OUTSIDE, (4, 6), (6, 8), (8, 10)],
        [*OUTSIDE, (6, 8), (8, 10), (10, 12)],
        [*OUTSIDE, (10, 12), (12, 14)],
    ]
    assert answer_tokens(windows, 2, 6) == [(4, 5), (0, 0), (0, 0), (0, 0)]
    assert answer_tokens(windows, 7, 9) == [(0, 0), (4, 5), (3, 4), (0, 0)]
    assert answer_tokens(windows, 3, 11) == [(0, 0)] * 4


@pytest.mark.parametrize(
    ("example", "tokens"),
    [
        (ENGLISH, ["1", "8", "6", "3"]),
        (KOREAN, [" 서울에서"]),
        (EMOJI, [" 사과", " 세", " 개를"]),
    ],
)
def test_tokens_of_an_answer(make_task, example, tokens):
    task, _ = make_task()
    encoded = task.encode(datasets.Dataset.from_list([row(*example)]), "train.jsonl")
    assert encoded.column_names == ["input_ids", "start_positions", "end_positions", "example"]
    (window,) = encoded
    found = window["input_ids"][window["start_positions"] : window["end_positions"] + 1]
    assert [task.tokenizer.decode([token]) for token in found] in (tokens, [" ", *tokens])
    assert window["input_ids"] == task.tokenizer(example[0], example[1])["input_ids"]


@pytest.mark.parametrize(("kind", "said"), [("byte_bpe", True), ("characters", False)])
def test_answers_that_are_not_whole_tokens_are_told(make_task, capsys, kind, said):
    task, _ = make_task()
    if kind == "characters":
        task.tokenizer = train_tokenizer([KOREAN[:2]], TokenizerRecipe(kind=kind), BIDIRECTIONAL)
    rows = [row(*ENGLISH[:2], " 1863")] * 4 + [row(*KOREAN)] * 2 + [row(*KOREAN[:2])]
    task.encode(datasets.Dataset.from_list(rows), "train.jsonl")
    message = "train.jsonl: 33% of the answers begin or end within a token, and cannot be given exactly; "
    assert (message in capsys.readouterr().err) is said


def test_the_first_answer_is_learned(make_task):
    task, _ = make_task()
    question, context, _ = KOREAN
    examples = datasets.Dataset.from_list([row(question, context, "부산", "서울"), row(question, context, "부산")])
    one, other = task.encode(examples, "train.jsonl")
    assert one | {"example": 1} == other


def test_windows(make_task):
    task, config = make_task(batches={"max_source_length": 24}, options={"stride": 6})
    context = " ".join(["민수는"] * 30 + ["서울에서"] + ["왔고"] * 30)
    examples = datasets.Dataset.from_list([row("어디?", context, "서울"), row(KOREAN[0], KOREAN[1], "부산")])
    encoded = task.encode(examples, "train.jsonl")
    windows = [window for window in encoded if window["example"] == 0]
    assert len(windows) > 2
    assert encoded["example"][:] == sorted(encoded["example"])
    assert set(encoded["example"]) == {0, 1}
    question = task.tokenizer("어디?")["input_ids"]
    contexts = []
    for window in windows:
        ids = window["input_ids"]
        assert len(ids) <= 24
        assert ids[: len(question)] == question
        contexts.append(ids[len(question) : -1])
        first, last = window["start_positions"], window["end_positions"]
        if " 서울에서" in task.tokenizer.decode(contexts[-1]):
            assert task.tokenizer.decode(ids[first : last + 1]) == " 서울에서"
        else:
            assert (first, last) == (0, 0)
    assert any(window["start_positions"] for window in windows)
    assert not all(window["start_positions"] for window in windows)
    for one, other in itertools.pairwise(contexts):
        assert one[-6:] == other[:6]
    assert config.task_specific_params["question-answering"]["max_seq_len"] == 24
    assert config.task_specific_params["question-answering"]["doc_stride"] == 6


def test_a_batch(make_task):
    task, _ = make_task()
    encoded = task.encode(datasets.Dataset.from_list([*ROWS, ROWS[0] | {"answers": NO_ANSWER}]), "train.jsonl")
    batch = task.collate(encoded[:])
    assert batch.keys() == {"input_ids", "attention_mask", "start_positions", "end_positions"}
    assert batch["start_positions"].tolist()[3:] == batch["end_positions"].tolist()[3:] == [0]
    assert all(batch["start_positions"][:3] > 0)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths == task.lengths(encoded)[:, 0].tolist()


def test_token_types_tell_question_and_context_apart(make_task, tmp_path):
    config = trefoil.TrefoilEncoderConfig(**TINY_MODEL, vocab_size=369, type_vocab_size=2)
    task, _ = make_task(config=config)
    examples = datasets.Dataset.from_list(ROWS)
    encoded = task.encode(examples, "train.jsonl")
    batch = task.collate(encoded[:])
    length = len(task.tokenizer(KOREAN[0])["input_ids"])
    assert batch["token_type_ids"][1, :length].tolist() == [0] * length
    assert set(batch["token_type_ids"][1, length : len(encoded[1]["input_ids"])].tolist()) == {1}
    model = tiny_model(config)
    with torch.no_grad():
        model.model.embed_types.weight.mul_(3)
    model.save_pretrained(tmp_path)
    task.tokenizer.save_pretrained(tmp_path)
    predictions = task.evaluate(model, examples, Accelerator(), final=True)["predictions"]
    assert predictions == [answer["answer"] for answer in ask(tmp_path, ROWS)]


def test_a_tokenizer_with_token_types_for_a_model_without(make_task):
    task, config = make_task()
    task.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    task.prepare_config(config)
    assert "token_type_ids" not in task.tokenizer(*KOREAN[:2])


def test_each_context_is_a_text_once(make_task):
    task, _ = make_task()
    examples = datasets.Dataset.from_list([ROWS[0], ROWS[1], ROWS[0] | {"question": "Who?"}] * 700)
    texts = [text for batch in task.texts(examples) for text in batch]
    assert texts.count(ENGLISH[1]) == texts.count(KOREAN[1]) == 1
    assert texts.count("Who?") == texts.count(ENGLISH[0]) == 700


def test_other_columns(make_task):
    columns = {"question": "q", "context": "passage", "answers": "spans"}
    task, _ = make_task(data={"columns": columns})
    renamed = [{columns[name]: value for name, value in example.items()} for example in ROWS]
    encoded = task.encode(datasets.Dataset.from_list(renamed), "train.jsonl")
    task, _ = make_task()
    assert encoded[:] == task.encode(datasets.Dataset.from_list(ROWS), "train.jsonl")[:]
    assert list(task.texts(datasets.Dataset.from_list(ROWS)))[1] == [example["context"] for example in ROWS]


# --- what is refused


CONTEXT = "서울과 부산, 다시 서울"
FORM = "{'text': ['…'], 'answer_start': [0]}"


def answers(text, start):
    return {"text": [text], "answer_start": [start]}


BAD = [
    ({"question": "  "}, "column 'question' is empty"),
    ({"question": None}, "column 'question' holds None, not a text"),
    ({"context": "\n"}, "column 'context' is empty"),
    ({"answers": None}, f"column 'answers' holds None, not {FORM}"),
    ({"answers": {"text": ["서울"], "answer_start": None}},
     f"column 'answers' holds {{'text': ['서울'], 'answer_start': None}}, not {FORM}"),
    ({"answers": {"text": ["서울", "부산"], "answer_start": [0]}},
     "column 'answers' has 2 in 'text' and 1 in 'answer_start', not one start for each text"),
    ({"answers": {"text": ["서울"], "answer_start": [None]}},
     f"column 'answers' holds the answer '서울' at None, not {FORM}"),
    ({"answers": answers("부산", 3)},
     "column 'answers': the answer '부산' is not at character 3 of the context, where ' 부' stands; it stands at 4"),
    ({"answers": answers("서울", 1)},
     "column 'answers': the answer '서울' is not at character 1 of the context, where '울과' stands"),
    ({"answers": answers("대구", 99)},
     "column 'answers': the answer '대구' is not at character 99 of the context, where '' stands; "
     "the context does not contain it"),
    ({"answers": answers("서울", -2)},
     "column 'answers': the answer '서울' is not at character -2 of the context, where '' stands"),
    ({"answers": answers(" ", 3)}, "column 'answers' has an empty answer; where there is none, both lists are empty"),
    ({"question": "어디? " * 40},
     "column 'question' has 122 tokens, more than 48, half of the 96 that the model reads at once "
     "(batches.truncate=true cuts)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "problem"), BAD)
def test_a_bad_row(make_task, change, problem):
    good = {"question": "어디?", "context": CONTEXT, "answers": answers("부산", 4)}
    examples = datasets.Dataset.from_list([good, good | change])
    task, _ = make_task()
    with pytest.raises(UserError) as error:
        task.encode(examples, "train.jsonl")
    message = str(error.value)
    assert message == f"train.jsonl example 2: {problem}; mend it or set data.invalid_examples=skip"
    task, _ = make_task(data={"invalid_examples": "skip"})
    assert task.encode(examples, "train.jsonl")["example"][:] == [0]
    assert (task.problems["train.jsonl"].count, task.problems["train.jsonl"].first) == (1, f"example 2, {problem}")
    if "tokens" not in problem:  # a question that is too long can still be asked
        assert task.scorable(examples, "test.jsonl")[:] == examples.select([0])[:]


def test_answers_that_are_no_lists(make_task):
    task, _ = make_task(data={"invalid_examples": "skip"})
    examples = datasets.Dataset.from_list([{"question": "어디?", "context": CONTEXT, "answers": "부산"}])
    message = f"train.jsonl: no valid example is left of 1; example 1, column 'answers' holds '부산', not {FORM}"
    with pytest.raises(UserError, match=re.escape(message)):
        task.encode(examples, "train.jsonl")


def test_an_answer_that_no_window_holds(make_task):
    task, _ = make_task(batches={"max_source_length": 24}, options={"stride": 2})
    context = " ".join(["민수는"] * 40)
    with pytest.raises(
        UserError, match=r"1: no window holds the whole answer '민수는 민수는.*…'; raise options\.stride=2 or "
    ):
        task.encode(datasets.Dataset.from_list([row("어디?", context, context)]), "train.jsonl")


def test_a_long_question_is_cut_if_the_recipe_says_so(make_task):
    task, _ = make_task(batches={"truncate": True})
    examples = datasets.Dataset.from_list([row("어디? " * 40, CONTEXT, "부산")])
    (window,) = task.encode(examples, "train.jsonl")
    assert len(window["input_ids"]) <= 96
    assert window["start_positions"] > 48
    assert task.problems["train.jsonl"].cut == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"stride": -1}}, "options.stride=-1 must be at least 0"),
        ({"options": {"max_answer_length": 0}}, "options.max_answer_length=0 must be at least 1"),
        ({"options": {"strides": 3}}, "task question-answering: unknown key options.strides; did you mean stride?"),
        ({"data": {"columns": {"answer": "x"}}},
         "data.columns.answer: the task question-answering has no such column; did you mean answers?"),
        ({"evaluation": {"metric": "bleu"}},
         "evaluation.metric='bleu': the task question-answering has no such metric; there are f1, exact_match, "
         "character_f1"),
        ({"batches": {"max_source_length": 5}},
         "batches.max_source_length: 5 tokens have no room for a question and a context"),
    ],
)  # fmt: skip
def test_a_recipe_that_asks_for_what_cannot_be(make_task, changes, message):
    with pytest.raises(UserError) as error:
        make_task(**changes)
    assert str(error.value) == message


# --- no answer


@pytest.mark.parametrize(
    ("rows", "option", "expected"),
    [
        (ROWS, None, False),
        ([*ROWS, ROWS[0] | {"answers": NO_ANSWER}], None, True),
        ([*ROWS, ROWS[0] | {"answers": NO_ANSWER}], False, False),
        (ROWS, True, True),
    ],
)
def test_whether_there_may_be_no_answer_is_learned_and_kept(make_task, rows, option, expected):
    task, config = make_task(train=rows, options={"no_answer": option})
    assert config.task_specific_params["question-answering"]["handle_impossible_answer"] is expected
    assert task.settings["handle_impossible_answer"] is expected
    # to evaluate a trained model, nothing is learned
    task, config = make_task(config=config)
    assert config.task_specific_params["question-answering"]["handle_impossible_answer"] is expected
    task, config = make_task(config=config, options={"no_answer": not expected})
    assert config.task_specific_params["question-answering"]["handle_impossible_answer"] is not expected


def test_other_task_specific_parameters_stay(make_task):
    config = trefoil.TrefoilEncoderConfig(**TINY_MODEL, vocab_size=369, task_specific_params={"ner": {"a": 1}})
    make_task(config=config)
    assert config.task_specific_params["ner"] == {"a": 1}


class Sure(torch.nn.Module):
    """A model that is sure of what it is told: logits by token id."""

    def __init__(self, start, end):
        super().__init__()
        self.start, self.end, self.device = start, end, torch.device("cpu")

    def forward(self, input_ids, attention_mask, start_positions, end_positions, num_items_in_batch):
        def logits(wanted):
            return 9.0 * torch.isin(input_ids, torch.tensor(wanted)).float()

        return SimpleNamespace(start_logits=logits(self.start), end_logits=logits(self.end))


def test_scores_of_known_answers(make_task):
    rows = [row(*KOREAN), row(KOREAN[0], KOREAN[1], "부산"), row(*KOREAN[:2])]
    task, _ = make_task(train=rows)
    (token,) = task.tokenizer(" 서울에서", add_special_tokens=False)["input_ids"]
    examples = datasets.Dataset.from_list(rows)
    scores = task.evaluate(Sure([token], [token]), examples, Accelerator(), final=True)
    assert scores["predictions"] == ["서울에서"] * 3
    assert (scores["exact_match"], scores["f1"]) == (0.0, 0.0)
    # once in three, the two of its four characters that are right are all that there are
    assert scores["character_f1"] == pytest.approx(100 * (2 * 2 / (4 + 2)) / 3)
    start = task.tokenizer.bos_token_id
    scores = task.evaluate(Sure([start], [start]), examples, Accelerator(), final=True)
    assert scores["predictions"] == [""] * 3
    assert scores["exact_match"] == pytest.approx(100 / 3)
    assert (scores["has_answer_exact_match"], scores["no_answer_exact_match"]) == (0.0, 100.0)
    task, _ = make_task(options={"no_answer": False})
    predictions = task.evaluate(Sure([start], [start]), examples, Accelerator(), final=True)["predictions"]
    assert all(predictions)


# --- evaluation


def long_rows(size=12):
    rows = []
    for number in range(size):
        parts = [example[1] for example in (KOREAN, EMOJI, ENGLISH)] * (1 + number % 4)
        context = f"{number} " + " ".join(parts[number % 3 :])
        example = row(f"{number}번은 어디에서?", context, context.split()[number % 5])
        rows.append(example | {"answers": NO_ANSWER} if number % 5 == 4 else example)
    return rows


def ask(folder, rows, **options):
    pipe = pipeline("question-answering", model=str(folder), device="cpu")
    return pipe([{name: example[name] for name in ("question", "context")} for example in rows], **options)


def test_the_loss_is_the_mean_over_labels(make_task):
    task, config = make_task(train=long_rows())
    model, examples = tiny_model(config), datasets.Dataset.from_list(long_rows())
    scores = task.evaluate(model, examples, Accelerator(), final=False)
    encoded = task.encode(examples, "validation.jsonl")
    assert len(encoded) > len(examples)
    with torch.no_grad():
        losses = [float(model(**task.collate(encoded[[index]])).loss) for index in range(len(encoded))]
    assert scores["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


class Stop(Exception):
    """Enough was seen of a process."""


def test_windows_of_one_example_may_be_on_several_processes(make_task, monkeypatch):
    task, config = make_task(train=long_rows(), evaluation={"tokens_per_batch": 300})
    model, examples = tiny_model(config), datasets.Dataset.from_list(long_rows())
    expected = task.evaluate(model, examples, Accelerator(), final=True)
    parts = []

    def gather(items):
        parts.append(items)
        if len(parts) < 3:
            raise Stop
        return [item for part in parts for item in part]

    monkeypatch.setattr(base, "gather_object", gather)
    for rank in range(3):
        process = SimpleNamespace(process_index=rank, num_processes=3, is_main_process=False)
        if rank < 2:
            with pytest.raises(Stop):
                task.evaluate(model, examples, process, final=True)
    assert all(parts)
    assert task.evaluate(model, examples, process, final=True) == expected


@pytest.mark.parametrize("no_answer", [True, False])
def test_the_pipeline_gives_the_same_answers(make_task, tmp_path, no_answer):
    changes = {"batches": {"max_source_length": 40}, "options": {"no_answer": no_answer, "stride": 10}}
    task, config = make_task(**changes)
    model, rows = tiny_model(config), long_rows(30)
    rows.append(row("어디? " * 40, KOREAN[1], "서울"))  # a question that is cut
    with torch.no_grad():
        model.qa_outputs.bias.zero_()
    model.save_pretrained(tmp_path)
    task.tokenizer.save_pretrained(tmp_path)
    predictions = task.evaluate(model, datasets.Dataset.from_list(rows), Accelerator(), final=True)["predictions"]
    assert len(set(predictions)) > 5
    assert predictions == [answer["answer"] for answer in ask(tmp_path, rows)]
    assert predictions == [answer["answer"] for answer in ask(tmp_path, rows, batch_size=4)]
    if not no_answer:
        assert all(predictions)


# --- whole runs


def test_it_is_a_task():
    assert TASKS["question-answering"] is QuestionAnsweringTask
    assert list(TASKS).index("question-answering") < list(TASKS).index("translation")


def test_a_run(tmp_path):
    recipe = make_recipe(
        tmp_path / "run",
        model={"config": {"initializer_range": 0.3, "hidden_dropout": 0.0, "max_position_embeddings": 256}},
    )
    results = train(recipe)
    best = tmp_path / "run" / "best"
    scores = {"f1", "exact_match", "character_f1", "loss"}
    assert scores <= results["test"].keys()
    assert {entry["name"] for entry in results["metrics"]} >= {"f1", "exact_match", "character_f1"}
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0] - 0.5
    assert [entry["step"] for entry in log if "validation_f1" in entry] == [10, 20]
    assert all("validation_loss" in entry for entry in log if "validation_f1" in entry)
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 20
    assert type(AutoModelForQuestionAnswering.from_pretrained(best)) is trefoil.TrefoilEncoderForQuestionAnswering
    # the embedded data has questions without an answer, so the pipeline may say that there is none
    params = trefoil.TrefoilEncoderConfig.from_pretrained(best).task_specific_params["question-answering"]
    assert params["handle_impossible_answer"] is True
    assert [line["prediction"] for line in lines] == [answer["answer"] for answer in ask(best, lines)]
    assert evaluate(best) == results["test"]


SQUAD = {
    "version": "1.0",
    "data": [
        {
            "title": "도시",
            "paragraphs": [
                {
                    "context": KOREAN[1],
                    "qas": [
                        {"id": f"{number}", "question": KOREAN[0], "answers": [{"text": "서울", "answer_start": 4}]}
                        for number in range(20)
                    ],
                }
            ],
        }
    ],
}


@pytest.mark.parametrize("whole_folder", [True, False])
def test_parts_of_one_file_in_the_form_of_squad(tmp_path, write, whole_folder):
    file = write("small_v1.0.json", json.dumps(SQUAD, ensure_ascii=False))
    data = {
        "embedded": False,
        "embedded_sizes": None,
        "path": str(file.parent if whole_folder else file),
        "train_split": "small_v1.0[:80%]",
        "validation_split": "small_v1.0[80%:90%]",
        "test_split": "small_v1.0[90%:]",
    }
    recipe = make_recipe(tmp_path / "run", data=data, training={"max_steps": 1}, tokenizer={"min_frequency": 1})
    task = QuestionAnsweringTask(recipe)
    splits = load_splits(recipe, task, make_accelerator(recipe))
    assert [splits[kind]["id"][:] for kind in ("train", "validation", "test")] == [
        [str(number) for number in range(first, last)] for first, last in ((0, 16), (16, 18), (18, 20))
    ]
    task.learn(splits["train"])
    assert task.no_answer is False
    if not whole_folder:
        assert train(recipe)["steps"] == 1
