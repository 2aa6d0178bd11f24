"""Questions about a text: which tokens an answer is, what is refused, and that a run answers as its pipeline does."""

import itertools
import json
import re
from types import SimpleNamespace

import datasets
import pytest
import torch
from task_parts import evaluator_for, preprocessor_for, reader_for, scores_of
from training_runs import TINY_MODEL, merged
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, pipeline

import trefoil
from trefoil.configuration.errors import UserError
from trefoil.data.tokenizer import BIDIRECTIONAL, train_tokenizer
from trefoil.recipes.schema import Recipe, TokenizerRecipe, build, validate
from trefoil.tasks import TASKS, evaluator
from trefoil.tasks.preprocessor import CUT
from trefoil.tasks.question_answering import QUESTION_ANSWERING, answer_tokens
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
def make_preprocessor(tokenizer_folder):
    """What encodes, for a model that learns from rows or is trained, and the model's configuration."""

    def make(train=None, config=None, tokenizer=None, **changes):
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(tokenizer_folder)
        config = config or trefoil.TrefoilEncoderConfig(**TINY_MODEL, vocab_size=len(tokenizer))
        train = None if train is None else datasets.Dataset.from_list(train)
        return preprocessor_for(make_recipe(**changes), train, tokenizer, config), config

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
def test_tokens_of_an_answer(make_preprocessor, example, tokens):
    preprocessor, _ = make_preprocessor()
    encoded = preprocessor.encode(datasets.Dataset.from_list([row(*example)]), "train.jsonl").examples
    assert encoded.column_names == ["input_ids", "start_positions", "end_positions", "example"]
    (window,) = encoded
    found = window["input_ids"][window["start_positions"] : window["end_positions"] + 1]
    assert [preprocessor.tokenizer.decode([token]) for token in found] in (tokens, [" ", *tokens])
    assert window["input_ids"] == preprocessor.tokenizer(example[0], example[1])["input_ids"]


@pytest.mark.parametrize(("kind", "said"), [("byte_bpe", True), ("characters", False)])
@pytest.mark.parametrize("is_scored", [False, True])
def test_answers_that_are_not_whole_tokens_are_told(make_preprocessor, kind, said, is_scored):
    characters = train_tokenizer([KOREAN[:2]], TokenizerRecipe(kind="characters"), BIDIRECTIONAL)
    preprocessor, _ = make_preprocessor(tokenizer=characters if kind == "characters" else None)
    rows = [row(*ENGLISH[:2], " 1863")] * 4 + [row(*KOREAN)] * 2 + [row(*KOREAN[:2])]
    split = preprocessor.encode(datasets.Dataset.from_list(rows), "train.jsonl", is_scored)
    assert split.remarks() == [
        "train.jsonl: 33% of the answers begin or end within a token, and cannot be given exactly; "
        "a smaller tokenizer.vocab_size or tokenizer.kind=characters cuts finer"
    ] * said  # fmt: skip


def test_the_first_answer_is_learned(make_preprocessor):
    preprocessor, _ = make_preprocessor()
    question, context, _ = KOREAN
    examples = datasets.Dataset.from_list([row(question, context, "부산", "서울"), row(question, context, "부산")])
    one, other = preprocessor.encode(examples, "train.jsonl").examples
    assert one | {"example": 1} == other


def test_windows(make_preprocessor):
    preprocessor, config = make_preprocessor(batches={"max_source_length": 24}, options={"stride": 6})
    context = " ".join(["민수는"] * 30 + ["서울에서"] + ["왔고"] * 30)
    examples = datasets.Dataset.from_list([row("어디?", context, "서울"), row(KOREAN[0], KOREAN[1], "부산")])
    encoded = preprocessor.encode(examples, "train.jsonl").examples
    windows = [window for window in encoded if window["example"] == 0]
    assert len(windows) > 2
    assert encoded["example"][:] == sorted(encoded["example"])
    assert set(encoded["example"]) == {0, 1}
    question = preprocessor.tokenizer("어디?")["input_ids"]
    contexts = []
    for window in windows:
        ids = window["input_ids"]
        assert len(ids) <= 24
        assert ids[: len(question)] == question
        contexts.append(ids[len(question) : -1])
        first, last = window["start_positions"], window["end_positions"]
        if " 서울에서" in preprocessor.tokenizer.decode(contexts[-1]):
            assert preprocessor.tokenizer.decode(ids[first : last + 1]) == " 서울에서"
        else:
            assert (first, last) == (0, 0)
    assert any(window["start_positions"] for window in windows)
    assert not all(window["start_positions"] for window in windows)
    for one, other in itertools.pairwise(contexts):
        assert one[-6:] == other[:6]
    assert config.task_specific_params["question-answering"]["max_seq_len"] == 24
    assert config.task_specific_params["question-answering"]["doc_stride"] == 6


def test_a_batch(make_preprocessor):
    preprocessor, _ = make_preprocessor()
    rows = datasets.Dataset.from_list([*ROWS, ROWS[0] | {"answers": NO_ANSWER}])
    encoded = preprocessor.encode(rows, "train.jsonl").examples
    batch = preprocessor.collate(encoded[:])
    assert batch.keys() == {"input_ids", "attention_mask", "start_positions", "end_positions"}
    assert batch["start_positions"].tolist()[3:] == batch["end_positions"].tolist()[3:] == [0]
    assert all(batch["start_positions"][:3] > 0)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths == preprocessor.lengths(encoded)[:, 0].tolist()


def test_token_types_tell_question_and_context_apart(make_preprocessor, tmp_path):
    config = trefoil.TrefoilEncoderConfig(**TINY_MODEL, vocab_size=369, type_vocab_size=2)
    preprocessor, _ = make_preprocessor(config=config)
    examples = datasets.Dataset.from_list(ROWS)
    encoded = preprocessor.encode(examples, "train.jsonl").examples
    batch = preprocessor.collate(encoded[:])
    length = len(preprocessor.tokenizer(KOREAN[0])["input_ids"])
    assert batch["token_type_ids"][1, :length].tolist() == [0] * length
    assert set(batch["token_type_ids"][1, length : len(encoded[1]["input_ids"])].tolist()) == {1}
    model = tiny_model(config)
    with torch.no_grad():
        model.model.embed_types.weight.mul_(3)
    model.save_pretrained(tmp_path)
    preprocessor.tokenizer.save_pretrained(tmp_path)
    predictions = scores_of(model, preprocessor, examples)["predictions"]
    assert predictions == [answer["answer"] for answer in ask(tmp_path, ROWS)]


def test_a_tokenizer_with_token_types_for_a_model_without(make_preprocessor, tokenizer_folder):
    names = ["input_ids", "token_type_ids", "attention_mask"]
    preprocessor, _ = make_preprocessor(
        tokenizer=AutoTokenizer.from_pretrained(tokenizer_folder, model_input_names=names)
    )
    assert "token_type_ids" not in preprocessor.tokenizer(*KOREAN[:2])


def test_each_context_is_a_text_once(make_preprocessor):
    preprocessor, _ = make_preprocessor()
    examples = datasets.Dataset.from_list([ROWS[0], ROWS[1], ROWS[0] | {"question": "Who?"}] * 700)
    texts = [text for batch in preprocessor.reader.texts(examples) for text in batch]
    assert texts.count(ENGLISH[1]) == texts.count(KOREAN[1]) == 1
    assert texts.count("Who?") == texts.count(ENGLISH[0]) == 700


def test_other_columns(make_preprocessor):
    columns = {"question": "q", "context": "passage", "answers": "spans"}
    preprocessor, _ = make_preprocessor(data={"columns": columns})
    renamed = [{columns[name]: value for name, value in example.items()} for example in ROWS]
    encoded = preprocessor.encode(datasets.Dataset.from_list(renamed), "train.jsonl").examples
    preprocessor, _ = make_preprocessor()
    assert encoded[:] == preprocessor.encode(datasets.Dataset.from_list(ROWS), "train.jsonl").examples[:]
    assert list(preprocessor.reader.texts(datasets.Dataset.from_list(ROWS)))[1] == [
        example["context"] for example in ROWS
    ]


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
def test_a_bad_row(make_preprocessor, change, problem):
    good = {"question": "어디?", "context": CONTEXT, "answers": answers("부산", 4)}
    examples = datasets.Dataset.from_list([good, good | change])
    can_be_asked = "tokens" in problem  # though it is too long
    for is_scored in [False] if can_be_asked else [False, True]:
        preprocessor, _ = make_preprocessor()
        with pytest.raises(UserError) as error:
            preprocessor.encode(examples, "train.jsonl", is_scored)
        message = str(error.value)
        assert message == f"train.jsonl example 2: {problem}; mend it or set data.invalid_examples=skip"
        preprocessor, _ = make_preprocessor(data={"invalid_examples": "skip"})
        split = preprocessor.encode(examples, "train.jsonl", is_scored)
        assert split.examples["example"][:] == [0]
        assert split.rows[:] == examples.select([0])[:]
        assert (split.skipped, split.first_skipped) == (1, f"example 2, {problem}")


def test_answers_that_are_no_lists(make_preprocessor):
    preprocessor, _ = make_preprocessor(data={"invalid_examples": "skip"})
    examples = datasets.Dataset.from_list([{"question": "어디?", "context": CONTEXT, "answers": "부산"}])
    message = f"train.jsonl: no valid example is left of 1; example 1, column 'answers' holds '부산', not {FORM}"
    with pytest.raises(UserError, match=re.escape(message)):
        preprocessor.encode(examples, "train.jsonl")


def test_an_answer_that_no_window_holds(make_preprocessor):
    preprocessor, _ = make_preprocessor(batches={"max_source_length": 24}, options={"stride": 2})
    context = " ".join(["민수는"] * 40)
    examples = datasets.Dataset.from_list([row("어디?", context, context)])
    with pytest.raises(
        UserError, match=r"1: no window holds the whole answer '민수는 민수는.*…'; raise options\.stride=2 or "
    ):
        preprocessor.encode(examples, "train.jsonl")
    windows = preprocessor.encode(examples, "test.jsonl", is_scored=True).examples
    assert len(windows) > 1
    assert not any(windows["start_positions"])


@pytest.mark.parametrize(("truncate", "is_scored"), [(True, False), (False, True)])
def test_a_long_question_is_cut_if_the_recipe_says_so_or_it_is_asked(make_preprocessor, truncate, is_scored):
    preprocessor, _ = make_preprocessor(batches={"truncate": truncate})
    examples = datasets.Dataset.from_list([row("어디? " * 40, CONTEXT, "부산")])
    split = preprocessor.encode(examples, "train.jsonl", is_scored)
    (window,) = split.examples
    assert len(window["input_ids"]) <= 96
    assert window["start_positions"] > 48
    assert split.notes == {CUT: 1}


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
def test_a_recipe_that_asks_for_what_cannot_be(make_preprocessor, changes, message):
    with pytest.raises(UserError) as error:
        make_preprocessor(**changes)
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
def test_whether_there_may_be_no_answer_is_learned_and_kept(make_preprocessor, rows, option, expected):
    preprocessor, config = make_preprocessor(train=rows, options={"no_answer": option})
    assert config.task_specific_params["question-answering"]["handle_impossible_answer"] is expected
    assert preprocessor.settings["handle_impossible_answer"] is expected
    # to evaluate a trained model, nothing is learned
    preprocessor, config = make_preprocessor(config=config)
    assert config.task_specific_params["question-answering"]["handle_impossible_answer"] is expected
    preprocessor, config = make_preprocessor(config=config, options={"no_answer": not expected})
    assert config.task_specific_params["question-answering"]["handle_impossible_answer"] is not expected


def test_other_task_specific_parameters_stay(make_preprocessor):
    config = trefoil.TrefoilEncoderConfig(**TINY_MODEL, vocab_size=369, task_specific_params={"ner": {"a": 1}})
    make_preprocessor(config=config)
    assert config.task_specific_params["ner"] == {"a": 1}


class Sure(torch.nn.Module):
    """A model that is sure of what it is told: logits by token id."""

    def __init__(self, start, end):
        super().__init__()
        self.start, self.end = start, end

    def forward(self, input_ids, attention_mask, start_positions, end_positions, num_items_in_batch):
        def logits(wanted):
            return 9.0 * torch.isin(input_ids, torch.tensor(wanted)).float()

        return SimpleNamespace(start_logits=logits(self.start), end_logits=logits(self.end))


def test_scores_of_known_answers(make_preprocessor):
    rows = [row(*KOREAN), row(KOREAN[0], KOREAN[1], "부산"), row(*KOREAN[:2])]
    preprocessor, _ = make_preprocessor(train=rows)
    (token,) = preprocessor.tokenizer(" 서울에서", add_special_tokens=False)["input_ids"]
    examples = datasets.Dataset.from_list(rows)
    scores = scores_of(Sure([token], [token]), preprocessor, examples)
    assert scores["predictions"] == ["서울에서"] * 3
    assert (scores["exact_match"], scores["f1"]) == (0.0, 0.0)
    # once in three, the two of its four characters that are right are all that there are
    assert scores["character_f1"] == pytest.approx(100 * (2 * 2 / (4 + 2)) / 3)
    start = preprocessor.tokenizer.bos_token_id
    scores = scores_of(Sure([start], [start]), preprocessor, examples)
    assert scores["predictions"] == [""] * 3
    assert scores["exact_match"] == pytest.approx(100 / 3)
    assert (scores["has_answer_exact_match"], scores["no_answer_exact_match"]) == (0.0, 100.0)
    preprocessor, _ = make_preprocessor(options={"no_answer": False})
    predictions = scores_of(Sure([start], [start]), preprocessor, examples)["predictions"]
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


def test_the_loss_is_the_mean_over_labels(make_preprocessor):
    preprocessor, config = make_preprocessor(train=long_rows())
    model, examples = tiny_model(config), datasets.Dataset.from_list(long_rows())
    scores = evaluator_for(preprocessor, examples).evaluate(model, final=False)
    encoded = preprocessor.encode(examples, "validation.jsonl").examples
    assert len(encoded) > len(examples)
    with torch.no_grad():
        losses = [float(model(**preprocessor.collate(encoded[[index]])).loss) for index in range(len(encoded))]
    assert scores["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


class Stop(Exception):
    """Enough was seen of a process."""


def test_windows_of_one_example_may_be_on_several_processes(make_preprocessor, monkeypatch):
    preprocessor, config = make_preprocessor(train=long_rows(), evaluation={"tokens_per_batch": 300})
    model, examples = tiny_model(config), datasets.Dataset.from_list(long_rows())
    expected = scores_of(model, preprocessor, examples)
    parts = []

    def gather(items):
        parts.append(items)
        if len(parts) < 3:
            raise Stop
        return [item for part in parts for item in part]

    monkeypatch.setattr(evaluator, "gather_object", gather)
    for rank in range(3):
        process = SimpleNamespace(process_index=rank, num_processes=3, is_main_process=False, device="cpu")
        if rank < 2:
            with pytest.raises(Stop):
                evaluator_for(preprocessor, examples, process).evaluate(model, final=True)
    assert all(parts)
    assert evaluator_for(preprocessor, examples, process).evaluate(model, final=True) == expected


@pytest.mark.parametrize("no_answer", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_pipeline_gives_the_same_answers(make_preprocessor, tmp_path, no_answer):
    changes = {"batches": {"max_source_length": 40}, "options": {"no_answer": no_answer, "stride": 10}}
    preprocessor, config = make_preprocessor(**changes)
    model, rows = tiny_model(config), long_rows(30)
    rows.append(row("어디? " * 40, KOREAN[1], "서울"))  # a question that is cut
    with torch.no_grad():
        model.qa_outputs.bias.zero_()
    model.save_pretrained(tmp_path)
    preprocessor.tokenizer.save_pretrained(tmp_path)
    predictions = scores_of(model, preprocessor, datasets.Dataset.from_list(rows))["predictions"]
    assert len(set(predictions)) > 5
    assert predictions == [answer["answer"] for answer in ask(tmp_path, rows)]
    assert predictions == [answer["answer"] for answer in ask(tmp_path, rows, batch_size=4)]
    if not no_answer:
        assert all(predictions)


# --- whole runs


def test_it_is_a_task():
    assert TASKS["question-answering"] is QUESTION_ANSWERING
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
    reader = reader_for(recipe)
    splits = load_splits(reader, make_accelerator(recipe))
    assert [splits[kind]["id"][:] for kind in ("train", "validation", "test")] == [
        [str(number) for number in range(first, last)] for first, last in ((0, 16), (16, 18), (18, 20))
    ]
    params = reader.learn(splits["train"])["task_specific_params"]
    assert params["question-answering"]["handle_impossible_answer"] is False
    if not whole_folder:
        assert train(recipe)["steps"] == 1
