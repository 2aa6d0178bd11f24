import itertools
import math

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertTokenizer,
    PreTrainedTokenizerFast,
    pipeline,
)

import trefoil
from trefoil.pipelines.question_answering import (
    QuestionAnsweringPipeline,
    Span,
    answer_settings,
    answer_windows,
    best_spans,
)

CONTEXT = "민수는 서울에서 사과 세 개를 샀다 🍎 그리고 three apples 👍🏽 in 꿈나라"
QUESTION = "사과는 몇 개?"
SPECIAL = [("<s>", 1), ("</s>", 2)]


def byte_tokenizer(**options):
    """No merges: every token is a byte, so characters are cut apart."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return finish(tokenizer, **options)


def metaspace_tokenizer(**options):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=["<pad>", "<s>", "</s>", "<unk>"], show_progress=False)
    tokenizer.train_from_iterator([CONTEXT, QUESTION] * 3, trainer)
    return finish(tokenizer, **options)


def finish(tokenizer, **options):
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=SPECIAL
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>", **options
    )


def bert_tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "in", "was", "where", "paris", "founded"]
    pieces = [piece for letter in "abcdefghijklmnopqrstuvwxyz?.,0123456789" for piece in (letter, f"##{letter}")]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(words + pieces))}
    return BertTokenizer(vocab=vocab, model_max_length=48)


def bert(tokenizer, model_class=BertForQuestionAnswering, **options):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.5, **options,
    )  # fmt: skip
    return model_class(config).eval()


def make_pipe(tokenizer, **options):
    return QuestionAnsweringPipeline(model=bert(tokenizer, **options), tokenizer=tokenizer, device="cpu")


@pytest.fixture(scope="module")
def pipe():
    return make_pipe(metaspace_tokenizer())


def softmax(*logits):
    total = sum(map(math.exp, logits))
    return [math.exp(value) / total for value in logits]


# a window of six tokens: <s> question </s> then the context's tokens at characters 0-2, 3-5 and 5-6
OFFSETS = [None, None, None, (0, 2), (3, 5), (5, 6)]
START = torch.tensor([0.5, 9.0, 9.0, 1.0, 2.0, -1.0])
END = torch.tensor([0.0, 9.0, 9.0, 3.0, 1.0, 1.5])
STARTS, ENDS = softmax(0.5, 1.0, 2.0, -1.0), softmax(0.0, 3.0, 1.0, 1.5)


def test_the_best_span_by_hand():
    (span,) = best_spans([START], [END], [OFFSETS])
    # (0, 2) ends best but starts worse: 1 + 3 = 4; starting at the second token reaches at most 2 + 1.5
    assert span[1:] == (0, 2)
    assert span.score == pytest.approx(STARTS[1] * ENDS[1], rel=1e-6)


def test_all_spans_by_hand():
    spans = best_spans([START], [END], [OFFSETS], top_k=10)
    expected = {
        (OFFSETS[2 + first][0], OFFSETS[2 + last][1]): STARTS[first] * ENDS[last]
        for first in (1, 2, 3)
        for last in range(first, 4)
    }
    assert [span[1:] for span in spans] == sorted(expected, key=lambda place: -expected[place])
    assert [span.score for span in spans] == pytest.approx(sorted(expected.values(), reverse=True), rel=1e-6)


def test_the_longest_answer_is_counted_in_tokens():
    spans = best_spans([START], [END], [OFFSETS], top_k=10, max_answer_len=2)
    assert {span[1:] for span in spans} == {(0, 2), (0, 5), (3, 5), (3, 6), (5, 6)}
    spans = best_spans([START], [END], [OFFSETS], top_k=10, max_answer_len=1)
    assert {span[1:] for span in spans} == {(0, 2), (3, 5), (5, 6)}


def test_no_answer_is_the_least_that_any_window_gives_it():
    sure = torch.tensor([9.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert best_spans([sure], [sure], [OFFSETS], handle_impossible_answer=True)[0][1:] == (0, 0)
    assert best_spans([sure], [sure], [OFFSETS])[0][1:] == (0, 2)
    both = best_spans([sure, START], [sure, END], [OFFSETS, OFFSETS], top_k=10, handle_impossible_answer=True)
    assert both[0][1:] == (0, 2)
    (null,) = (span for span in both if span[1:] == (0, 0))
    assert null.score == pytest.approx(STARTS[0] * ENDS[0], rel=1e-6)


def test_an_answer_that_two_windows_have_is_one_answer():
    flat = torch.zeros(6)
    one, other = best_spans([flat], [flat], [OFFSETS], top_k=10), best_spans([START], [END], [OFFSETS], top_k=10)
    both = best_spans([flat, START], [flat, END], [OFFSETS, OFFSETS], top_k=10)
    scores = {span[1:]: span.score for span in one}
    assert {span[1:]: span.score for span in both} == {span[1:]: max(span.score, scores[span[1:]]) for span in other}


def test_the_earliest_of_equal_answers_is_taken():
    flat = torch.zeros(6)
    assert best_spans([flat, flat], [flat, flat], [OFFSETS, OFFSETS])[0] == Span(1 / 16, 0, 2)
    places = [span[1:] for span in best_spans([flat], [flat], [OFFSETS], top_k=10)]
    assert places == [(0, 2), (0, 5), (0, 6), (3, 5), (3, 6), (5, 6)]


@pytest.mark.parametrize("outside", [None, (-1, -1), (0, 0), [-1, -1]])
def test_padding_and_ways_to_write_outside_change_no_bit(outside):
    offsets = [outside if pair is None else pair for pair in OFFSETS]
    padded = [torch.cat([logits, torch.tensor([70.0, -3.0, 8.0])]) for logits in (START, END)]
    expected = best_spans([START], [END], [OFFSETS], top_k=4, handle_impossible_answer=True)
    for pairs in (offsets, [*offsets, outside, outside, outside]):
        assert best_spans([padded[0]], [padded[1]], [pairs], top_k=4, handle_impossible_answer=True) == expected
    if isinstance(outside, list):
        stacked = torch.stack([START, START]), torch.stack([END, END]), torch.tensor([offsets, offsets])
        assert best_spans(*stacked, top_k=4, handle_impossible_answer=True) == expected


def test_windows_without_context_have_no_answers():
    nothing = [None] * 6
    assert best_spans([START], [END], [nothing]) == []
    assert best_spans([START], [END], [nothing], handle_impossible_answer=True) == [Span(1.0, 0, 0)]
    assert best_spans([], [], []) == []


@pytest.mark.parametrize(("make_tokenizer", "size"), [(byte_tokenizer, 40), (metaspace_tokenizer, 12)])
def test_windows_are_exact_slices_and_cover_the_context(make_tokenizer, size):
    tokenizer = make_tokenizer()
    windows = answer_windows(tokenizer, QUESTION, CONTEXT, max_seq_len=size, doc_stride=3)
    assert len(windows) > 1
    seen = set()
    for window in windows:
        ids = window.inputs["input_ids"]
        assert window.inputs.keys() == {"input_ids", "attention_mask"}
        assert len(ids) == len(window.offsets) <= size
        assert (ids[0], ids[-1]) == (1, 2)
        assert window.offsets[: ids.index(2) + 1] == [None] * (ids.index(2) + 1)
        for pair in window.offsets:
            if pair is not None:
                text = CONTEXT[slice(*pair)]
                assert text == text.strip() != ""
                seen |= set(range(*pair))
    assert seen == {place for place, character in enumerate(CONTEXT) if not character.isspace()}


def test_a_short_context_is_one_window_as_the_tokenizer_joins_pairs():
    tokenizer = metaspace_tokenizer()
    (window,) = answer_windows(tokenizer, QUESTION, CONTEXT, max_seq_len=200, doc_stride=20)
    assert window.inputs["input_ids"] == tokenizer(QUESTION, CONTEXT)["input_ids"]


def test_neighbouring_windows_share_the_stride():
    windows = answer_windows(byte_tokenizer(), "?", "abcdefghijklmnopqrstuvwxyz", max_seq_len=14, doc_stride=4)
    contexts = [[pair for pair in window.offsets if pair is not None] for window in windows]
    assert [len(context) for context in contexts[:-1]] == [10] * (len(contexts) - 1)
    for one, other in itertools.pairwise(contexts):
        assert one[-4:] == other[:4]


def test_a_stride_as_long_as_a_window_is_half_of_it():
    tokenizer, long = byte_tokenizer(), "abcdefghijklmnopqrstuvwxyz"
    assert answer_windows(tokenizer, "?", long, 14, 10) == answer_windows(tokenizer, "?", long, 14, 5)
    assert answer_windows(tokenizer, "?", long, 14, 500) == answer_windows(tokenizer, "?", long, 14, 5)


def test_long_questions_are_cut():
    tokenizer = byte_tokenizer()
    for options, length in (({}, 10), ({"max_question_len": 3}, 3), ({"max_question_len": 500}, 10)):
        window = answer_windows(tokenizer, "q" * 50, "abc", 20, 2, **options)[0]
        assert window.inputs["input_ids"].index(2) - 1 == length
    with pytest.raises(ValueError, match="max_seq_len=4 has no room for a context beside a question of 2 tokens"):
        answer_windows(tokenizer, "qq", "abc", 4, 0)


def test_words_are_whole_over_the_edge_of_a_window():
    tokenizer = byte_tokenizer()
    windows = answer_windows(tokenizer, "?", "ab cdefghijklmnop qr", 14, 2, align_to_words=True)
    assert len(windows) > 1
    assert {pair for window in windows for pair in window.offsets} == {None, (0, 2), (3, 17), (18, 20)}


def test_settings_are_the_call_s_then_the_model_s_then_the_default():
    tokenizer, config = metaspace_tokenizer(), BertConfig(max_position_embeddings=512)
    settings = answer_settings(tokenizer, config)
    assert (settings["max_seq_len"], settings["doc_stride"], settings["max_answer_len"]) == (384, 128, 15)
    tokenizer.model_max_length = 100
    settings = answer_settings(tokenizer, config, max_answer_len=None)
    assert (settings["max_seq_len"], settings["doc_stride"], settings["max_answer_len"]) == (100, 50, 15)
    config.max_position_embeddings = 64
    config.task_specific_params = {"question-answering": {"max_answer_len": 40, "doc_stride": 60, "prefix": "x"}}
    settings = answer_settings(tokenizer, config, max_seq_len=80)
    assert (settings["max_seq_len"], settings["doc_stride"], settings["max_answer_len"]) == (64, 60, 40)
    assert answer_settings(tokenizer, config, max_answer_len=3)["max_answer_len"] == 3
    assert "prefix" not in settings
    with pytest.raises(ValueError, match="doc_stride=-1 must be at least 0"):
        answer_settings(tokenizer, config, doc_stride=-1)


def test_settings_survive_saving_with_a_model_of_ours(tmp_path):
    params = {"question-answering": {"max_answer_len": 40}}
    trefoil.TrefoilEncoderConfig(task_specific_params=params).save_pretrained(tmp_path)
    config = trefoil.TrefoilEncoderConfig.from_pretrained(tmp_path)
    assert answer_settings(metaspace_tokenizer(), config)["max_answer_len"] == 40


def test_an_answer_is_a_slice_of_the_context(pipe):
    answer = pipe(question=QUESTION, context=CONTEXT)
    assert answer.keys() == {"score", "start", "end", "answer"}
    assert (type(answer["score"]), type(answer["start"]), type(answer["end"])) == (float, int, int)
    assert 0 < answer["score"] < 1
    assert answer["answer"] == CONTEXT[answer["start"] : answer["end"]] != ""


def test_every_way_to_ask(pipe):
    other = "몇 시에?"
    one, two = pipe(question=QUESTION, context=CONTEXT), pipe(question=other, context=CONTEXT[::-1])
    examples = [{"question": QUESTION, "context": CONTEXT}, {"question": other, "context": CONTEXT[::-1], "id": 7}]
    assert pipe(examples[0]) == pipe(QUESTION, CONTEXT) == one
    assert pipe(examples) == pipe(tuple(examples)) == [one, two]
    assert pipe(question=[QUESTION, other], context=[CONTEXT, CONTEXT[::-1]]) == [one, two]
    assert pipe(question=[QUESTION, QUESTION], context=CONTEXT) == [one, one]
    assert pipe(examples[:1]) == pipe(question=[QUESTION], context=[CONTEXT]) == [one]
    assert pipe([]) == pipe(question=[], context=CONTEXT) == []
    stream = pipe(example for example in examples)
    assert not isinstance(stream, list)
    assert list(stream) == [one, two]


def test_several_answers_best_first(pipe):
    answers = pipe(question=QUESTION, context=CONTEXT, top_k=5)
    assert len(answers) == 5
    assert answers[0] == pipe(question=QUESTION, context=CONTEXT)
    assert [answer["score"] for answer in answers] == sorted((answer["score"] for answer in answers), reverse=True)
    assert len({(answer["start"], answer["end"]) for answer in answers}) == 5
    assert len(pipe(question=QUESTION, context="사과", top_k=50)) < 50


def test_it_is_what_the_model_and_the_functions_give_whatever_the_batch(pipe):
    context = " ".join(f"{number} {CONTEXT}" for number in range(6))
    examples = [{"question": QUESTION, "context": text} for text in (context, CONTEXT[:9], context[40:], "사과")]
    options = {"max_seq_len": 30, "doc_stride": 8, "top_k": 3, "handle_impossible_answer": True}
    answers = pipe(examples, **options)
    for example, found in zip(examples, answers, strict=True):
        windows = answer_windows(pipe.tokenizer, **example, max_seq_len=30, doc_stride=8)
        outputs = [pipe.model(input_ids=torch.tensor([window.inputs["input_ids"]])) for window in windows]
        spans = best_spans(
            [output.start_logits[0].detach() for output in outputs],
            [output.end_logits[0].detach() for output in outputs],
            [window.offsets for window in windows],
            top_k=3,
            handle_impossible_answer=True,
        )
        assert [(answer["score"], answer["start"], answer["end"]) for answer in found] == spans
    for batch_size in (2, 8):
        batched = pipe(examples, batch_size=batch_size, **options)
        for one, other in zip(itertools.chain(*answers), itertools.chain(*batched), strict=True):
            assert one | {"score": 0} == other | {"score": 0}
            assert one["score"] == pytest.approx(other["score"], rel=1e-4)


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_on_either_side_changes_no_bit(side):
    pipe = make_pipe(metaspace_tokenizer(padding_side=side))

    def forward(input_ids, **inputs):
        return {"start_logits": (input_ids * 37 % 11) / 3, "end_logits": (input_ids * 29 % 13) / 2}

    pipe.model.forward = forward
    examples = [{"question": QUESTION, "context": CONTEXT[:size]} for size in (4, 30, 12, 48)]
    options = {"top_k": 9, "handle_impossible_answer": True, "max_seq_len": 12}
    assert pipe(examples, batch_size=8, **options) == pipe(examples, **options)


@pytest.mark.parametrize(
    ("context", "first", "last", "expected", "word"),
    [
        ("🍎 사과", 0, 3, "🍎", "🍎"),  # a token is a byte: three for a syllable, four for an apple
        ("🍎 사과", 5, 7, "사", "사과"),
        ("🍎 사과", 5, 10, "사과", "사과"),
        ("가👍🏽나", 3, 10, "👍🏽", "👍🏽"),
        ("서울에서", 0, 5, "서울", "서울에서"),
    ],
)
def test_korean_and_emoji_keep_their_places(context, first, last, expected, word):
    pipe = make_pipe(byte_tokenizer())

    def forward(input_ids, **inputs):
        begin = int((input_ids[0] == 2).nonzero()[0]) + 1
        start, end = torch.zeros(2, *input_ids.shape)
        start[0, begin + first] = end[0, begin + last] = 20.0
        return {"start_logits": start, "end_logits": end}

    pipe.model.forward = forward
    answer = pipe(question="?", context=context)
    assert answer["answer"] == context[answer["start"] : answer["end"]] == expected
    assert pipe(question="?", context=context, align_to_words=True)["answer"] == word


def test_blank_and_missing_texts_are_refused(pipe):
    for options in ({"question": "", "context": "x"}, {"question": "x", "context": " \n"}, {"question": "x"}, {}):
        with pytest.raises(ValueError, match=r"^the (question|context) must be a text that is not blank, not .*$"):
            pipe(**options)
    with pytest.raises(ValueError, match="an example must be a dict with question and context, not 'x'"):
        pipe("x")
    with pytest.raises(ValueError, match="2 questions need one context, or a list of as many"):
        pipe(question=["x", "y"], context=["z"])
    with pytest.raises(ValueError, match="give either question"):
        pipe({"question": "x", "context": "y"}, question="z")


@pytest.mark.parametrize("options", [{"top_k": 0}, {"max_answer_len": 0}, {"max_seq_len": 0}])
def test_settings_out_of_range_are_refused(pipe, options):
    with pytest.raises(ValueError, match="=0 must be at least 1"):
        pipe(question=QUESTION, context=CONTEXT, **options)
    with pytest.raises(TypeError, match="unknown longest; there are top_k"):
        pipe(question=QUESTION, context=CONTEXT, longest=3)


def test_models_that_cannot_answer_are_refused():
    tokenizer = metaspace_tokenizer()
    pipe = QuestionAnsweringPipeline(model=bert(tokenizer, BertForMaskedLM), tokenizer=tokenizer, device="cpu")
    with pytest.raises(ValueError, match="BertForMaskedLM cannot answer"):
        pipe(question=QUESTION, context=CONTEXT)


def test_importing_the_package_brings_the_task_back_for_stock_models_too():
    tokenizer = bert_tokenizer()
    pipe = pipeline("question-answering", model=bert(tokenizer), tokenizer=tokenizer, device="cpu", max_answer_len=3)
    assert type(pipe) is QuestionAnsweringPipeline
    context = "Trefoil was founded in Paris, in 1901. " * 5
    answers = pipe(question="Where was it founded?", context=context, top_k=4, batch_size=4)
    assert len(answers) == 4
    for answer in answers:
        assert answer["answer"] == context[answer["start"] : answer["end"]]
    (window, *_) = answer_windows(tokenizer, "Where?", context, 48, 8)
    assert "token_type_ids" in window.inputs or "token_type_ids" not in tokenizer.model_input_names
