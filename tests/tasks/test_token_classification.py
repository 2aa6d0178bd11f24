"""Tags of tokens: which sub-word stands for which, what is refused, and that `pipeline` finds what was predicted."""

import itertools
import json
import random
from types import SimpleNamespace

import datasets
import pytest
import torch
from task_parts import evaluator_for, preprocessor_for, reader_for, scores_of
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn.functional import cross_entropy, one_hot
from training_runs import TINY_MODEL, merged
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    TokenClassificationPipeline,
    pipeline,
)

from trefoil.configuration.errors import UserError
from trefoil.configuration.presets import preset_config
from trefoil.data.tokenizer import BIDIRECTIONAL, LEFT_TO_RIGHT, train_tokenizer
from trefoil.recipes.schema import Recipe, TokenizerRecipe, build, validate
from trefoil.tasks import evaluator, get_task
from trefoil.tasks.metrics import EntityQuality
from trefoil.tasks.preprocessor import EncodedRow
from trefoil.tasks.token_classification import align, complete, repair, windows
from trefoil.training.run import evaluate, train

BYTES = 256 + 4  # a vocabulary of single bytes and <pad> <s> </s> <mask>

ENGLISH = [
    (["Anna", "Lee", "lives", "in", "New", "York", "."], ["B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC", "O"]),
    (["Tom", "saw", "Paris", "and", "Rome"], ["B-PER", "O", "B-LOC", "O", "B-LOC"]),
    (["in", "Rome", "it", "rains"], ["O", "B-LOC", "O", "O"]),
    (["Anna", "met", "Tom", "Lee", "in", "Paris"], ["B-PER", "O", "B-PER", "I-PER", "O", "B-LOC"]),
]  # fmt: skip


def content(output_dir="runs/ner", **changes):
    """A recipe of 20 steps, as it stands in YAML."""
    return merged(
        {
            "task": "token-classification",
            "language": ["ko"],
            "output_dir": str(output_dir),
            "data": {
                "embedded": True, "columns": {"tags": "ner_tags", "text": "text"},
                "embedded_sizes": {"train": 120, "validation": 12, "test": 20},
            },
            "options": {"label_all_subwords": True},
            "tokenizer": {"kind": "characters"},
            "model": {"preset": "encoder-tiny", "config": dict(TINY_MODEL)},
            "batches": {"tokens_per_batch": 1200},
            "optimization": {"learning_rate": 3e-3, "warmup_steps": min(4, changes.get("training", {}).get("max_steps", 4))},
            "training": {"max_steps": 20, "log_every": 1, "evaluate_every": 10, "trackers": []},
        },
        changes,
    )  # fmt: skip


def make_recipe(output_dir="runs/ner", **changes) -> Recipe:
    recipe = build(Recipe, content(output_dir, **changes), "ner.yaml")
    validate(recipe, "ner.yaml")
    return recipe


def make_rows(*rows):
    """`(tokens, tags)` or `(tokens, tags, text)` as a split."""
    names = ("tokens", "tags", "text")[: len(rows[0])]
    return datasets.Dataset.from_dict(
        {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    )


def make_config(**fields):
    return preset_config("encoder-tiny", **{"vocab_size": 300, "max_position_embeddings": 64} | fields)


def labelled(*names):
    return make_config(id2label=dict(enumerate(names)))


def recipe_for(examples, **changes):
    """A recipe for these rows, with no more options than the changes say."""
    columns = {"text": "text"} if "text" in examples.column_names else {}
    changes = merged({"data": {"columns": columns}}, changes)
    recipe = content(**changes)
    recipe["data"]["columns"] = changes["data"]["columns"]
    recipe["options"] = changes.get("options", {})
    return build(Recipe, recipe, "ner.yaml")


def make_preprocessor(tokenizer, examples, positions=64, trained=None, **changes):
    """For a new model that learns from the examples, or for a trained one with this configuration."""
    config = trained or make_config(max_position_embeddings=positions)
    return preprocessor_for(recipe_for(examples, **changes), examples if trained is None else None, tokenizer, config)


def make_tokenizer(kind, texts, size=2000, template=BIDIRECTIONAL):
    return train_tokenizer(texts, TokenizerRecipe(kind=kind, vocab_size=size), template)


def wordpiece(*pieces, pre_tokenizer=None, cleans=False):
    """A tokenizer with just these pieces."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {piece: number for number, piece in enumerate([*special, *pieces])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.BertPreTokenizer()
    if cleans:
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="[CLS]", eos_token="[SEP]", **names)


def encoded_tags(preprocessor, examples, number=0):
    """The sub-words of an encoded row, each with its tag; `.` where it has none."""
    row = preprocessor.encode(examples, "train").examples[number]
    pieces = preprocessor.tokenizer.convert_ids_to_tokens(row["input_ids"])
    tags = ["." if label == -100 else preprocessor.labels[label] for label in row["labels"]]
    return " ".join(f"{piece}/{tag}" for piece, tag in zip(pieces, tags, strict=True))


def token_tags(preprocessor, rows):
    """The tags of the sub-words that represent tokens."""
    return [
        preprocessor.labels[label]
        for row in rows
        for label, token in zip(row["labels"], row["represented"], strict=True)
        if token >= 0
    ]


def entities(tags, spans):
    """`(start, end, type)` of the entities of valid BIO2."""
    found = []
    for tag, (start, end) in zip(tags, spans, strict=True):
        if tag[:2] == "B-":
            found.append((start, end, tag[2:]))
        elif tag[:2] == "I-":
            found[-1] = (found[-1][0], end, tag[2:])
    return found


def oracle(change=lambda labels: labels):
    """A model that says what the labels are; the first label where there are none."""

    def forward(input_ids, attention_mask, labels, num_items_in_batch):
        answers = change(labels).clamp(min=0)
        return SimpleNamespace(loss=torch.tensor(0.5), logits=one_hot(answers, 13).float())

    return forward


# --- which sub-word stands for which token


def test_english_bytes():
    examples = make_rows((["To", "Éa", "a"], ["B-PER", "I-PER", "O"]))
    preprocessor = make_preprocessor(make_tokenizer("byte_bpe", ["ab"], BYTES), examples)
    # É has two bytes; a space of its own is no part of the word behind it, but of the entity in which it stands
    assert encoded_tags(preprocessor, examples) == "<s>/. T/B-PER o/. Ġ/I-PER Ã/I-PER ī/. a/. Ġ/O a/O </s>/."


def test_words_that_begin_with_their_space():
    examples = make_rows((["ab", "ab", "ab"], ["O", "B-X", "I-X"]))
    for template in (BIDIRECTIONAL, LEFT_TO_RIGHT):  # offsets without and with the space
        tokenizer = make_tokenizer("byte_bpe", ["ab ab ab"] * 3, BYTES - (not template.mask) + 2, template)
        preprocessor = make_preprocessor(tokenizer, examples)
        assert encoded_tags(preprocessor, examples).removesuffix(" </s>/.") == "<s>/. ab/O Ġab/B-X Ġab/I-X"


def test_korean_characters_in_a_text_without_spaces_between_tokens():
    examples = make_rows((["서울", "에서", "3", "일"], ["B-LOC", "O", "B-DAT", "I-DAT"], "서울에서 3 일"))
    tokenizer = make_tokenizer("characters", examples["text"])
    preprocessor = make_preprocessor(tokenizer, examples)
    # the space within the date belongs to it, that before it does not
    expected = "<s>/. 서/B-LOC 울/. 에/O 서/.  /O 3/B-DAT  /I-DAT 일/I-DAT </s>/."
    assert encoded_tags(preprocessor, examples) == expected
    preprocessor = make_preprocessor(tokenizer, examples, options={"label_all_subwords": True})
    expected = "<s>/. 서/B-LOC 울/I-LOC 에/O 서/O  /O 3/B-DAT  /I-DAT 일/I-DAT </s>/."
    assert encoded_tags(preprocessor, examples) == expected


def test_emoji_of_several_characters_and_many_bytes():
    thumb = "👍🏽"  # two characters of four bytes each
    examples = make_rows(([thumb, "🍎"], ["B-X", "B-Y"], f"{thumb}🍎"))
    preprocessor = make_preprocessor(make_tokenizer("byte_bpe", ["ab"], BYTES), examples)
    row = preprocessor.encode(examples, "train").examples[0]
    assert row["represented"] == [-1, 0, *[-1] * 7, 1, *[-1] * 3, -1]
    assert row["sources"] == [0, 1]


def test_wordpiece():
    examples = make_rows((["Unbelievable", "Seoul", "!"], ["O", "B-LOC", "O"]))
    preprocessor = make_preprocessor(wordpiece("un", "##believ", "##able", "seoul", "!", cleans=True), examples)
    assert encoded_tags(preprocessor, examples) == "[CLS]/. un/O ##believ/. ##able/. seoul/B-LOC !/O [SEP]/."
    preprocessor = make_preprocessor(preprocessor.tokenizer, examples, options={"label_all_subwords": True})
    assert encoded_tags(preprocessor, examples) == "[CLS]/. un/O ##believ/O ##able/O seoul/B-LOC !/O [SEP]/."


def test_unknown_words_have_a_subword():
    examples = make_rows((["Zoë", "sings"], ["B-PER", "O"]))
    assert (
        encoded_tags(make_preprocessor(wordpiece("sings"), examples), examples) == "[CLS]/. [UNK]/B-PER sings/O [SEP]/."
    )


def test_tokens_that_share_a_subword_take_the_tag_that_continues_the_first():
    rows = (
        (["서울", "에서", "민", "수"], ["B-LOC", "O", "B-PER", "I-PER"], "서울에서 민수"),
        (["민", "수"], ["O", "O"], "민수"),
    )
    examples = make_rows(*rows)
    preprocessor = make_preprocessor(wordpiece("서울에서", "민수"), examples)
    split = preprocessor.encode(examples, "train")
    assert split.examples["represented"] == [[-1, 0, 2, -1], [-1, 0, -1]]
    assert split.examples["sources"] == [[0, 0, 2, 2], [0, 0]]
    # 에서 has another tag than 서울 and does not continue it; 수 does
    [remark] = split.remarks()
    assert remark.startswith("train: 1 tokens share a sub-word with the token before them")
    assert "tokenizer.kind=characters" in remark
    scores = scores_of(oracle(), preprocessor, examples)
    assert scores["predictions"] == [["B-LOC", "I-LOC", "B-PER", "I-PER"], ["O", "O"]]
    assert scores["details"] == [
        {
            "entities": [
                {"text": "서울에서", "label": "LOC", "start": 0, "end": 4},
                {"text": "민수", "label": "PER", "start": 5, "end": 7},
            ]
        },
        {"entities": []},
    ]


def test_the_first_character_that_has_a_subword_decides():
    # the normalizer drops the control character; 0 and 1 lie in one sub-word, of which 1 has the end, and one more
    assert align([(0, 3)], [(1, 3)]) == ([0], [0])
    assert align([(0, 2), (2, 4)], [(0, 1), (1, 3), (3, 4)]) == ([0, 1], [0, 1, -1])
    assert align([(0, 1), (1, 2), (2, 3)], [(0, 3)]) == ([0, 0, 0], [0])
    assert align([(0, 1), (1, 1), (2, 3)], [(0, 1), (2, 3)]) == ([0, -1, 2], [0, 2])


def test_spaces_as_tokens_in_character_level_data():
    tokens, tags = list("3 일 민"), ["B-DAT", "I-DAT", "I-DAT", "O", "B-PER"]
    examples = make_rows((tokens, tags))
    characters = make_tokenizer("characters", ["3 일 민수"])
    preprocessor = make_preprocessor(characters, examples, options={"delimiter": ""})
    assert encoded_tags(preprocessor, examples) == "<s>/. 3/B-DAT  /I-DAT 일/I-DAT  /O 민/B-PER </s>/."
    preprocessor = make_preprocessor(wordpiece("3", "일", "민"), examples, options={"delimiter": ""})
    assert encoded_tags(preprocessor, examples) == "[CLS]/. 3/B-DAT 일/I-DAT 민/B-PER [SEP]/."
    scores = scores_of(oracle(), preprocessor, examples)
    assert scores["predictions"] == [tags]


def test_a_space_as_a_token_does_not_take_the_subword_of_the_word_behind_it():
    examples = make_rows((list("a b"), ["B-X", "I-X", "I-X"]), (list("a b"), ["O", "O", "B-X"]))
    tokenizer = make_tokenizer("byte_bpe", ["a b"] * 3, BYTES, LEFT_TO_RIGHT)  # without a mask, room for a merge
    preprocessor = make_preprocessor(tokenizer, examples, options={"delimiter": ""})
    assert encoded_tags(preprocessor, examples, 0) == "<s>/. a/B-X Ġb/I-X"
    assert encoded_tags(preprocessor, examples, 1) == "<s>/. a/O Ġb/B-X"
    predictions = scores_of(oracle(), preprocessor, examples)["predictions"]
    assert predictions == examples["tags"]


def test_tokens_without_a_subword_continue_an_entity_that_goes_on():
    assert complete(["B-A", None, None, "I-A", None, "B-A", None], [0, -1, -1, 3, -1, 5, -1]) == [
        "B-A", "I-A", "I-A", "I-A", "O", "B-A", "O",
    ]  # fmt: skip
    assert complete([None, "I-A", None, "I-B"], [-1, 1, -1, 3]) == ["O", "B-A", "O", "B-B"]
    assert complete(["O", None, "I-A"], [0, 0, 2]) == ["O", "O", "B-A"]


def test_special_tokens_in_a_text_are_text():
    examples = make_rows((["<s>", "a", "</s>"], ["B-X", "O", "B-X"]))
    preprocessor = make_preprocessor(make_tokenizer("characters", ["a b"]), examples)
    assert encoded_tags(preprocessor, examples) == "<s>/. <s>/B-X  /O a/O  /O </s>/B-X </s>/."


# --- long documents


def test_each_subword_belongs_to_one_window():
    rng = random.Random(0)
    for _ in range(500):
        size = rng.randint(1, 40)
        length, overlap = rng.randint(0, 150), rng.randint(0, size // 2)
        found = windows(length, size, overlap)
        own = [position for _, _, first, last in found for position in range(first, last)]
        assert own == list(range(length))
        assert all(start <= first <= last <= stop <= start + size for start, stop, first, last in found)
        assert all(stop - start == overlap for (_, stop, *_), (start, *_) in itertools.pairwise(found))


def test_context_is_shared_evenly():
    # 10 sub-words, windows of 6 that share 4
    assert windows(10, 6, 4) == [(0, 6, 0, 4), (2, 8, 4, 6), (4, 10, 6, 10)]


def test_a_long_document_is_cut_as_its_tokenizer_cuts_it():
    rng = random.Random(1)
    words = ["ab", "ba", "aab", "b"]
    tokens = [rng.choice(words) for _ in range(90)]
    tags = [f"B-{token}" if token != "b" else "O" for token in tokens]
    examples = make_rows((tokens, tags), (["b"], ["O"]), (tokens[:40], tags[:40]))
    tokenizer = make_tokenizer("characters", ["ab "])
    preprocessor = make_preprocessor(tokenizer, examples, positions=32, options={"stride": 10})
    encoded = preprocessor.encode(examples, "train").examples
    own = tokenizer(
        " ".join(tokens), max_length=32, stride=10, truncation=True, return_overflowing_tokens=True
    )["input_ids"]  # fmt: skip
    first = [row for row in encoded if row["example"] == 0]
    assert [row["input_ids"] for row in first] == own
    assert max(map(len, encoded["input_ids"])) == 32
    for example, count in ((0, 90), (1, 1), (2, 40)):
        rows = [row for row in encoded if row["example"] == example]
        assert [token for row in rows for token in row["represented"] if token >= 0] == list(range(count))
        assert token_tags(preprocessor, rows) == examples["tags"][example]
    scores = scores_of(oracle(), preprocessor, examples)
    assert scores["f1"] == scores["token_accuracy"] == 100
    assert scores["predictions"] == examples["tags"]


def test_the_overlap_is_at_most_half_a_window():
    examples = make_rows((["a"] * 60, ["B-X"] * 60))
    preprocessor = make_preprocessor(
        make_tokenizer("characters", ["ab "]), examples, positions=12, options={"stride": 500}
    )
    encoded = preprocessor.encode(examples, "train").examples
    assert token_tags(preprocessor, encoded) == examples["tags"][0]


def test_no_room_for_a_window():
    examples = make_rows((["a"], ["B-X"]))
    preprocessor = make_preprocessor(make_tokenizer("characters", ["ab "]), examples, batches={"max_source_length": 2})
    with pytest.raises(UserError, match=r"^a longest length of 2 leaves no room beside the 2 special tokens$"):
        preprocessor.encode(examples, "train")


# --- what is refused


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O I-A I-A B-A I-B O I-B", "O B-A I-A B-A B-B O B-B"),  # as in IOB1
        ("I-A", "B-A"),
        ("B-A I-A B-A I-A I-A O", "B-A I-A B-A I-A I-A O"),
    ],
)
def test_repair(tags, expected):
    assert repair(tags.split()) == expected.split()
    assert repair(expected.split()) == expected.split()


def test_repaired_tags_are_counted_and_learned():
    examples = make_rows((["a", "b", "c"], ["I-X", "I-X", "I-Y"]), (["a", "b", "c"], ["O", "O", "I-X"]))
    tokenizer = make_tokenizer("characters", ["ab c"])
    preprocessor = make_preprocessor(tokenizer, examples)
    assert encoded_tags(preprocessor, examples) == "<s>/. a/B-X  /I-X b/I-X  /O c/B-Y </s>/."
    for is_scored in (False, True, True):  # the same rows are not counted twice
        split = preprocessor.encode(examples, "test", is_scored)
        assert split.rows is examples
        assert split.remarks() == ["test: turned 3 tags I-TYPE that continue no entity into B-TYPE"]
    scores = scores_of(oracle(), preprocessor, examples)
    assert scores["f1"] == 100
    assert scores["predictions"] == [["B-X", "I-X", "B-Y"], ["O", "O", "B-X"]]


GOOD = (["Anna", "sings"], ["B-PER", "O"])
BAD = {
    "no list": (
        ("Anna", ["B-PER"]),
        "column 'tokens' holds 'Anna', not a list",
    ),
    "nothing": (
        (None, ["B-PER"]),
        "column 'tokens' holds None, not a list",
    ),
    "tags missing": (
        (["Anna"], None),
        "column 'tags' holds None, not a list",
    ),
    "tokens empty": (([], []), "column 'tokens' is an empty list"),
    "tags empty": ((["Anna"], []), "column 'tags' is an empty list"),
    "a token is a number": ((["Anna", 5], ["O", "O"]), "column 'tokens' holds 5, not a text"),
    "a token is missing": ((["Anna", None], ["O", "O"]), "column 'tokens' holds None, not a text"),
    "lengths": ((["Anna", "sings"], ["O"]), "column 'tokens' has 2 tokens, column 'tags' 1 tags"),
    "blank": ((["", " \n"], ["O", "O"]), "column 'tokens' holds nothing but blank tokens"),
    "BIOES": ((["Anna"], ["S-PER"]), "column 'tags' has 'S-PER', which is no BIO2 tag (O, B-TYPE or I-TYPE)"),
    "no prefix": ((["Anna"], ["PER"]), "column 'tags' has 'PER', which is no BIO2 tag (O, B-TYPE or I-TYPE)"),
    "underscore": ((["Anna"], ["B_PER"]), "column 'tags' has 'B_PER', which is no BIO2 tag (O, B-TYPE or I-TYPE)"),
    "no type": ((["Anna"], ["B-"]), "column 'tags' has 'B-', which is no BIO2 tag (O, B-TYPE or I-TYPE)"),
    "empty tag": ((["Anna"], [""]), "column 'tags' has '', which is no BIO2 tag (O, B-TYPE or I-TYPE)"),
    "no tag": ((["Anna"], [None]), "column 'tags' has None, which is no BIO2 tag (O, B-TYPE or I-TYPE)"),
    "number": (
        (["Anna"], [3]),
        "column 'tags' has 3, which is no BIO2 tag (O, B-TYPE or I-TYPE); options.names names numbers: {0: O, 1: B-PER}",
    ),
    "new type": ((["Anna"], ["B-ORG"]), "column 'tags' has the type 'ORG', which training data has not; it has PER"),
}


@pytest.mark.parametrize(("row", "problem"), BAD.values(), ids=BAD)
def test_a_bad_row(row, problem):
    preprocessor = make_preprocessor(make_tokenizer("characters", ["Anna sings"]), make_rows(GOOD))
    found = preprocessor.encode_rows({"tokens": [GOOD[0], row[0]], "tags": [GOOD[1], row[1]]}, is_scored=False)
    assert isinstance(found[0], EncodedRow)
    assert found[1] == problem
    assert preprocessor.encode_rows({"tokens": [row[0]], "tags": [row[1]]}, is_scored=False) == [problem]


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        (["O", "I-PER"], "column 'tags' has 'I-PER' after 'O', where it continues no entity; "),
        (["I-PER", "O"], "column 'tags' has 'I-PER' at the start, where it continues no entity; "),
    ],
)
def test_invalid_sequences_are_refused_if_wanted(tags, problem):
    examples = make_rows(GOOD)
    preprocessor = make_preprocessor(
        make_tokenizer("characters", ["Anna sings"]), examples, options={"repair_tags": False}
    )
    found = preprocessor.encode_rows({"tokens": [GOOD[0]], "tags": [tags]}, is_scored=False)
    assert found == [f"{problem}options.repair_tags=true makes it a B- tag"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Bea sings", "column 'tokens' has 'Anna', which does not come in column 'text'"),
        ("sings Anna", "column 'tokens' has 'sings', which does not come after 'Anna' in column 'text'"),
        (" ", "column 'text' is empty"),
        (None, "column 'text' holds None, not a text"),
    ],
)
def test_tokens_that_are_not_in_the_text(text, problem):
    examples = make_rows((*GOOD, "Anna sings"))
    preprocessor = make_preprocessor(make_tokenizer("characters", ["Anna sings"]), examples)
    assert preprocessor.encode_rows({"tokens": [GOOD[0]], "tags": [GOOD[1]], "text": [text]}, is_scored=False) == [
        problem
    ]


def test_tokens_in_which_the_tokenizer_finds_nothing():
    examples = make_rows((["a"], ["B-X"]), (["\u200b\x01"], ["O"]))
    preprocessor = make_preprocessor(wordpiece("a", cleans=True), examples, data={"invalid_examples": "skip"})
    split = preprocessor.encode(examples, "train")
    assert len(split.examples) == 1
    assert split.first_skipped == "example 2, column 'tokens' has no token in which the tokenizer finds a sub-word"


def test_bad_rows_stop_a_run_or_are_skipped():
    examples = make_rows(GOOD, (["Anna", "sings"], ["S-PER", "O"]), (["Tom"], ["B-PER"]))
    tokenizer = make_tokenizer("characters", ["Anna sings Tom"])
    problem = r"example 2: column 'tags' has 'S-PER', which is no BIO2 tag \(O, B-TYPE or I-TYPE\)"
    preprocessor = make_preprocessor(tokenizer, examples)
    for is_scored in (False, True):
        with pytest.raises(UserError, match=f"^train {problem}; mend it or set data.invalid_examples=skip$"):
            preprocessor.encode(examples, "train", is_scored)
    preprocessor = make_preprocessor(tokenizer, examples, data={"invalid_examples": "skip"})
    for is_scored in (False, True):
        split = preprocessor.encode(examples, "train", is_scored)
        assert split.examples["example"] == [0, 2]
        assert split.rows["tokens"] == [["Anna", "sings"], ["Tom"]]
        assert split.skipped == 1
    assert scores_of(oracle(), preprocessor, examples)["predictions"] == [["B-PER", "O"], ["B-PER"]]


def test_options_are_checked():
    with pytest.raises(UserError, match=r"^options.stride=-1 must not be negative$"):
        reader_for(recipe_for(make_rows(GOOD), options={"stride": -1}))
    with pytest.raises(UserError, match=r"unknown key options.strides; did you mean stride\?"):
        reader_for(recipe_for(make_rows(GOOD), options={"strides": 1}))
    with pytest.raises(UserError, match=r"^optimization.label_smoothing is of each label alone"):
        reader_for(
            recipe_for(
                make_rows(GOOD), optimization={"label_smoothing": 0.1}, model={"config": {"classifier_crf": True}}
            )
        )
    with pytest.raises(UserError, match=r"data.columns.label: the task token-classification has no such column"):
        reader_for(recipe_for(make_rows(GOOD), data={"columns": {"label": "x"}}))


def test_a_tokenizer_must_know_offsets():
    class SlowTokenizer:
        is_fast, pad_token_id, eos_token_id, bos_token_id, model_max_length = False, 0, 2, 1, 100

        def __len__(self):
            return 10

    with pytest.raises(UserError, match=r"^SlowTokenizer does not say where .* needs a fast tokenizer$"):
        make_preprocessor(SlowTokenizer(), make_rows(GOOD))


# --- labels


def learned(examples):
    return reader_for(recipe_for(examples)).learn(examples)


def test_labels_are_o_and_both_tags_of_each_type():
    labels = ["O", "B-A", "I-A", "B-Z", "I-Z"]
    assert learned(make_rows((["a", "b", "c"], ["B-Z", "I-A", "O"]))) == {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ("O", "column 'tags' marks no entity in the training data: all tags are O"),
        ("NOUN", r"column 'tags' has 'NOUN', which is no BIO2 tag \(O, B-TYPE or I-TYPE\)"),
    ],
)
def test_data_without_entities(tags, problem):
    with pytest.raises(UserError, match=f"^{problem}$"):
        learned(make_rows((["a"], [tags])))


def test_numbers_have_the_names_of_the_data_or_of_the_recipe():
    names = ["O", "B-PER", "I-PER"]
    numbers = make_rows((["Anna", "Lee", "sings"], [1, 2, 0]))
    feature = datasets.List(datasets.ClassLabel(names=names))
    tokenizer = make_tokenizer("characters", ["Anna Lee sings"])
    for examples, options in (
        (numbers.cast_column("tags", feature), {}),
        (numbers, {"names": dict(enumerate(names))}),
    ):
        preprocessor = make_preprocessor(tokenizer, examples, options=options)
        assert preprocessor.labels == names
        assert token_tags(preprocessor, preprocessor.encode(examples, "train").examples) == ["B-PER", "I-PER", "O"]
        # a trained model is measured without what was learned
        preprocessor = make_preprocessor(tokenizer, examples, options=options, trained=labelled(*names))
        assert scores_of(oracle(), preprocessor, examples)["predictions"] == [["B-PER", "I-PER", "O"]]


def test_names_of_tags_that_are_not_there_are_refused():
    rows = make_rows((["Anna", "sings"], [1, 0]))
    with pytest.raises(UserError) as error:
        reader_for(recipe_for(rows, options={"names": {0: "O", 1: "B-PER", 7: "B-LOC"}})).learn(rows)
    assert str(error.value) == "options.names has '7', which is no label of the training data; there are 0, 1"


def test_a_head_is_of_use_if_it_has_the_same_labels():
    examples, tokenizer = make_rows((["a", "b"], ["B-X", "O"])), make_tokenizer("characters", ["ab"])
    reader, same, other = reader_for(recipe_for(examples)), labelled("I-X", "O", "B-X"), labelled("O", "B-Y", "I-Y")
    assert not reader.head_is_new(same, reader.learn(examples))
    assert reader.head_is_new(other, reader.learn(examples))
    preprocessor = preprocessor_for(reader.recipe, examples, tokenizer, same)
    assert preprocessor.labels == ["I-X", "O", "B-X"]
    assert same.id2label == {0: "I-X", 1: "O", 2: "B-X"}
    [row] = preprocessor.encode_rows({"tokens": [["a", "b"]], "tags": [["B-X", "O"]]}, is_scored=False)
    assert row.examples[0]["labels"] == [-100, 2, 1, 1, -100]
    preprocessor_for(reader.recipe, examples, tokenizer, other)
    assert (other.num_labels, other.label2id) == (3, {"O": 0, "B-X": 1, "I-X": 2})


def test_the_texts_for_a_tokenizer_are_those_that_are_encoded():
    for examples, texts in (
        (make_rows(GOOD, (["x"], ["S-X"])), [["Anna sings"]]),
        (make_rows((*GOOD, "Anna  sings!")), [["Anna  sings!"]]),
    ):
        assert list(reader_for(recipe_for(examples)).texts(examples)) == texts


# --- scores


@pytest.fixture(scope="module")
def untrained():
    """What encodes some rows, some of them long, and a model that says something else of every row."""
    rng = random.Random(2)
    words = ["민수", "서울", "에서", "3", "일", "👍"]
    rows = []
    for length in (*range(1, 12), 40, 60):
        tags = repair([rng.choice(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]) for _ in range(length)])
        rows.append(([rng.choice(words) for _ in range(length)], tags))
    examples = make_rows(*rows)
    tokenizer = make_tokenizer("characters", [" ".join(words)])
    config = make_config(**TINY_MODEL | {"max_position_embeddings": 64, "initializer_range": 0.5})
    recipe = recipe_for(examples, evaluation={"tokens_per_batch": 300}, options={"stride": 8})
    preprocessor = preprocessor_for(recipe, examples, tokenizer, config)
    torch.manual_seed(0)
    return preprocessor, AutoModelForTokenClassification.from_config(config).eval(), examples


@torch.no_grad()
def test_scores_are_those_of_a_computation_text_by_text(untrained):
    preprocessor, model, examples = untrained

    def label_of(tag):
        return torch.tensor(preprocessor.labels.index(tag))

    scores = scores_of(model, preprocessor, examples)
    expected, losses = [], []
    for row in examples.select(range(11)):
        inputs = preprocessor.tokenizer(" ".join(row["tokens"]), return_tensors="pt")
        logits = model(**inputs).logits[0]
        at, position = [], 1  # behind <s>
        for token, tag in zip(row["tokens"], row["tags"], strict=True):
            if at:  # the space before the token
                losses.append(float(cross_entropy(logits[position - 1], label_of(tag if tag[0] == "I" else "O"))))
            losses.append(float(cross_entropy(logits[position], label_of(tag))))
            at.append(position)
            position += len(token) + 1
        expected.append(repair([preprocessor.labels[label] for label in logits[at].argmax(dim=-1)]))
    assert scores["predictions"][:11] == expected
    assert len({tag for tags in expected for tag in tags}) > 2
    quality = EntityQuality(keep_in_memory=True).compute(predictions=scores["predictions"], references=examples["tags"])
    assert {name: scores[name] for name in quality} == quality
    short = scores_of(model, preprocessor, examples.select(range(11)))
    assert short["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_two_processes_score_as_one(untrained, monkeypatch):
    preprocessor, model, examples = untrained
    alone = scores_of(model, preprocessor, examples)
    shares = []

    class OtherProcessError(Exception):
        """Ends the process that is played first."""

    def gather(items):
        shares.append(items)
        if len(shares) == 1:
            raise OtherProcessError
        return items + shares[0]

    def evaluate_as(rank):
        accelerator = SimpleNamespace(process_index=rank, num_processes=2, is_main_process=rank == 0, device="cpu")
        return evaluator_for(preprocessor, examples, accelerator).evaluate(model, final=True)

    monkeypatch.setattr(evaluator, "gather_object", gather)
    with pytest.raises(OtherProcessError):
        evaluate_as(1)
    together = evaluate_as(0)
    assert min(map(len, shares)) > 0
    assert together == alone


def test_wrong_tags_cost(untrained):
    preprocessor, _, examples = untrained
    right = scores_of(oracle(), preprocessor, examples)
    assert right["f1"] == right["precision"] == right["recall"] == right["token_accuracy"] == 100
    nothing = scores_of(oracle(lambda labels: labels * 0), preprocessor, examples)
    assert nothing["f1"] == nothing["recall"] == 0
    share = sum(tag == "O" for tags in examples["tags"] for tag in tags) / sum(map(len, examples["tags"]))
    assert nothing["token_accuracy"] == pytest.approx(100 * share)


# --- runs


@pytest.mark.parametrize("family", ["encoder", pytest.param("decoder", marks=pytest.mark.slow)])
def test_a_run(tmp_path, family):
    recipe = make_recipe(tmp_path / "run", model={"preset": f"{family}-tiny"})
    results = train(recipe)
    best = tmp_path / "run" / "best"
    assert {"f1", "f1_signature", "precision", "recall", "token_accuracy", "loss", "f1_LOC"} <= results["test"].keys()
    assert results["test"]["token_accuracy"] > 55  # it has learned what most tokens are
    assert get_task(recipe.task).auto_class.from_pretrained(best).config.id2label[0] == "O"
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 20
    assert all(len(line["prediction"]) == len(line["tokens"]) for line in lines)
    assert evaluate(best) == results["test"]


def test_a_run_goes_on_from_a_head_with_the_same_labels(tmp_path, capsys):
    train(make_recipe(tmp_path / "first", training={"max_steps": 4}))
    source = str(tmp_path / "first" / "best")
    capsys.readouterr()
    init = {"preset": None, "init_from": source, "config": {}}
    again = content(tmp_path / "second", model=init, training={"max_steps": 1}) | {"tokenizer": {}}
    train(build(Recipe, again, "ner.yaml"))
    assert "new weights" not in capsys.readouterr().err


@pytest.fixture
def texts_of_their_own(write):
    """Write rows as the training, validation and test split; returns the folder."""

    def write_rows(rows):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        files = [write(f"{split}.jsonl", lines) for split in ("train", "validation", "test")]
        return str(files[0].parent)

    return write_rows


def pipeline_entities(best, strategy, texts):
    ner = pipeline("token-classification", model=str(best), aggregation_strategy=strategy, device="cpu")
    assert type(ner) is TokenClassificationPipeline
    return [[(entity["start"], entity["end"], entity["entity_group"]) for entity in ner(text)] for text in texts]


OVERFIT = {
    "training": {"max_steps": 80, "evaluate_every": 80},
    "optimization": {"learning_rate": 1e-2, "schedule": "linear"},
    "model": {"config": {"hidden_dropout": 0.0}},
}


@pytest.mark.slow
def test_pipeline_finds_what_was_predicted_in_raw_text(tmp_path):
    """Characters, all labelled: what `aggregation_strategy="simple"` joins are whole entities."""
    splits = {f"{name}_split": "train[:20]" for name in ("train", "validation", "test")}
    train(make_recipe(tmp_path / "run", data=splits, **OVERFIT))
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    expected = []
    for line in lines:
        spans, end = [], 0
        for token in line["tokens"]:
            start = line["text"].index(token, end)
            end = start + len(token)
            spans.append((start, end))
        expected.append(entities(line["prediction"], spans))
    assert sum(map(len, expected)) > 20
    assert pipeline_entities(tmp_path / "run" / "best", "simple", [line["text"] for line in lines]) == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_pipeline_finds_what_was_predicted_in_words(tmp_path, texts_of_their_own):
    """Sub-words of which the first of each word is labelled: `aggregation_strategy="first"` reads those."""
    folder = texts_of_their_own([{"tokens": tokens, "tags": tags} for tokens, tags in ENGLISH])
    changes = merged(OVERFIT, {"tokenizer": {"kind": "byte_bpe", "vocab_size": 275}})
    recipe = content(tmp_path / "run", **changes) | {"data": {"path": folder}, "options": {}}
    train(build(Recipe, recipe, "ner.yaml"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines] == [tags for _, tags in ENGLISH]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "best")
    assert any(len(tokenizer.tokenize(f" {word}")) > 1 for tokens, _ in ENGLISH for word in tokens)
    expected = []
    for line in lines:
        spans = [
            (len(" ".join(line["tokens"][:number])) + (number > 0), len(" ".join(line["tokens"][: number + 1])))
            for number in range(len(line["tokens"]))
        ]
        expected.append(entities(line["prediction"], spans))
    texts = [" ".join(line["tokens"]) for line in lines]
    assert pipeline_entities(tmp_path / "run" / "best", "first", texts) == expected
