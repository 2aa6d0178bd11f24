"""Denoising: the papers' examples, what is hidden how often, and that texts of a row know nothing of each other."""

import json
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from conftest import seldom
from task_parts import evaluator_for, preprocessor_for, reader_for
from tokenizers import Tokenizer, models, pre_tokenizers
from training_runs import TINY_MODEL, after_step, losses, merged, train_and_die
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast

from trefoil.configuration.errors import UserError
from trefoil.configuration.presets import preset_config
from trefoil.data import corruption
from trefoil.data.corruption import Infilling, Prefix, Spans
from trefoil.data.packing import BestFitRows
from trefoil.data.tokenizer import TEXT_TO_TEXT, train_tokenizer
from trefoil.hub.architectures import ARCHITECTURES
from trefoil.hub.stock import export_stock
from trefoil.recipes.schema import Recipe, TokenizerRecipe, build, validate
from trefoil.tasks.denoising import DENOISING, TEMPLATES, around, sentence_places
from trefoil.training.run import evaluate, train

OBJECTIVES = ("spans", "infilling", "ul2", "prefix")
TEXTS = [
    "Thank you for inviting me to your party last week. It was fun! Come again.",
    "나는 어제 학교에 갔다. 날씨가 좋았다. 🙂🙂 친구를 만났다.",
    "hello",
    "🙂",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j k l m n o p q r s t u v w x y z",
]
S = np.arange(1000, 1100)


def generator(seed=0):
    return np.random.default_rng(seed)


def restored(source, target, sentinels=S):
    """The text of a source and a target with sentinels."""
    spans, known = {}, set(sentinels.tolist())
    for token in target.tolist():
        if token in known:
            spans[token] = []
            last = token
        else:
            spans[last].append(token)
    text = []
    for token in source.tolist():
        text += spans.pop(token) if token in known else [token]
    (end,) = spans.values()
    assert end == []
    return text


# --- the papers' examples


def test_figure_2_of_raffel_et_al():
    words = np.array(["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."])
    sentinels = np.array(["<X>", "<Y>", "<Z>"])
    source, target = corruption.with_sentinels(words, np.array([[2, 4], [8, 9]]), sentinels)
    assert " ".join(source) == "Thank you <X> me to your party <Y> week ."
    assert " ".join(target) == "<X> for inviting <Y> last <Z>"


def test_figure_2_of_lewis_et_al():
    words = np.array(["A", "B", "C", ".", "D", "E", "."])
    source = corruption.with_masks(words, np.array([[1, 3], [5, 5]]), "_")
    assert " ".join(source) == "A _ . D _ E ."
    ends = words[:-1] == "."
    found = {" ".join(corruption.permuted(words, ends, generator(seed))) for seed in range(20)}
    assert found == {"A B C . D E .", "D E . A B C ."}


def test_table_1_of_tay_et_al():
    mixture = corruption.mixture_of_denoisers([1, 2, 3], S)
    settings = [(mode, part.density, getattr(part, "mean_length", None)) for mode, part in mixture.denoisers]
    assert sorted(settings[1:]) == [
        (1, 0.15, 3), (1, 0.15, 8), (3, 0.15, 64), (3, 0.5, 3), (3, 0.5, 8), (3, 0.5, 64),
    ]  # fmt: skip
    assert settings[0] == (2, 0.25, None)
    ids = np.arange(10, 110)
    modes = []
    for seed in range(2000):
        source, target = mixture(ids, generator(seed))
        modes.append(source[0])
        if source[0] == 2:
            assert source[1:].tolist() + target.tolist() == ids.tolist()
            assert len(target) == 25
        else:
            assert restored(source[1:], target) == ids.tolist()
    assert np.bincount(modes)[1:] / 2000 == pytest.approx([2 / 7, 1 / 7, 4 / 7], abs=0.04)


def test_rows_are_as_long_as_those_of_t5():
    """512 tokens of source, its end among them, are made of 568."""
    assert corruption.most_tokens(Spans(0.15, 3.0, S), 511, 114, 100) == 568
    assert corruption.most_tokens(Spans(0.15, 3.0, S), 511, 113, 100) < 568
    assert corruption.most_tokens(Spans(0.15, 3.0, S), 511, 511, 20) < 568
    assert corruption.most_tokens(Spans(0.15, 3.0, S), 1, 0, 20) == 0


# --- what is hidden


@pytest.mark.parametrize(("density", "mean"), [(0.15, 3.0), (0.5, 8.0), (0.3, 1.0)])
def test_spans_have_the_density_and_the_mean_length(density, mean):
    draws = [corruption.draw_spans(600, density, mean, generator(seed)) for seed in range(500)]
    lengths = np.concatenate([spans[:, 1] - spans[:, 0] for spans in draws])
    assert lengths.sum() / (500 * 600) == pytest.approx(density, abs=1e-3)
    assert lengths.mean() == pytest.approx(mean, rel=0.02)
    assert lengths.min() >= 1
    for spans in draws:
        assert (spans[1:, 0] > spans[:-1, 1]).all()
    often = np.bincount(np.concatenate([np.arange(*span) for spans in draws for span in spans]), minlength=600)
    assert often[:3].sum() == pytest.approx(often[-3:].sum(), rel=0.25)
    assert often[100:500].mean() == pytest.approx(often.mean(), rel=0.03)


def test_infilled_spans_are_poisson_and_some_are_empty():
    draws = [corruption.draw_infilled(600, 0.3, 3.0, generator(seed)) for seed in range(500)]
    lengths = np.concatenate([spans[:, 1] - spans[:, 0] for spans in draws])
    assert lengths.sum() == 500 * 180
    poisson = [0.0498, 0.1494, 0.2240, 0.2240, 0.1680, 0.1008]
    assert np.bincount(lengths)[:6] / len(lengths) == pytest.approx(poisson, abs=0.01)


@pytest.mark.parametrize("length", range(9))
@pytest.mark.parametrize("seed", range(5))
def test_short_texts(length, seed):
    """Also none at all, and those shorter than a span: not all is hidden, and nothing is lost."""
    ids, random = np.arange(length), generator(seed)
    for denoiser in (Spans(0.15, 3.0, S), Spans(0.9, 64.0, S), Spans(0.5, 1.0, S)):
        source, target = denoiser(ids, random)
        assert restored(source, target) == ids.tolist()
        assert [len(source), len(target)] == denoiser.needs(np.array([length]))[:2, 0].tolist()
        assert len(target) > 1 or length < 2
    for density in (0.3, 0.9):
        source, target = Infilling(density, 3.0, -1)(ids, random)
        assert target.tolist() == ids.tolist()
        assert len(source) <= length
        kept = source[source >= 0]
        assert (np.diff(kept) > 0).all()
        assert len(kept) == length - corruption.hidden_count(length, density)
    source, target = Prefix()(ids, random)
    assert source.tolist() + target.tolist() == ids.tolist()
    assert len(source) or not length


@pytest.mark.parametrize("objective", seldom(OBJECTIVES, "ul2"))
def test_no_text_needs_more_than_is_said(objective):
    denoiser = {
        "spans": Spans(0.15, 3.0, S),
        "infilling": Infilling(0.3, 3.0, -1),
        "ul2": corruption.mixture_of_denoisers([1, 2, 3], S),
        "prefix": Prefix(),
    }[objective]
    longest = np.zeros((40, 2), dtype=int)
    for length in range(40):
        for seed in range(100):
            pair = denoiser(np.arange(length), generator(seed))
            longest[length] = np.maximum(longest[length], [len(side) for side in pair])
    needs = denoiser.needs(np.arange(40))[:2].T
    assert (longest <= needs).all()
    assert (longest[8:] >= 0.8 * needs[8:]).all()


# --- rows of texts


def recipe_of(folder, objective="spans", rows=TEXTS * 6, options=None, **changes):
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in rows]
        (folder / "data" / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    content = {
        "task": "denoising",
        "options": {"objective": objective} | (options or {}),
        "output_dir": str(folder / "run"),
        "data": {"path": str(folder / "data")},
        "tokenizer": {"vocab_size": 420},
        "model": {"preset": "encoder-decoder-tiny", "config": dict(TINY_MODEL)},
        "batches": {"tokens_per_batch": 400},
        "optimization": {"learning_rate": 3e-3, "warmup_steps": 4},
        "training": {"max_steps": 12, "log_every": 1, "evaluate_every": 6, "save_every": 4, "trackers": []},
        "evaluation": {"num_beams": 1},
    }
    recipe = build(Recipe, merged(content, changes), "tiny.yaml")
    validate(recipe, "tiny.yaml")
    return recipe


def tokenizer_of(objective, kind="characters", texts=TEXTS):
    return train_tokenizer(texts, TokenizerRecipe(kind=kind, vocab_size=420, min_frequency=1), TEMPLATES[objective])


def parts_of(folder, objective="spans", preset="encoder-decoder-tiny", texts=TEXTS, tokenizer=None, **changes):
    """The preprocessor, the encoded texts, and a model's configuration."""
    rows = datasets.Dataset.from_dict({"text": texts})
    tokenizer = tokenizer or tokenizer_of(objective)
    config = preset_config(preset, **TINY_MODEL | {"vocab_size": len(tokenizer), "hidden_dropout": 0.0})
    preprocessor = preprocessor_for(recipe_of(folder, objective, **changes), rows, tokenizer, config)
    return preprocessor, preprocessor.encode(rows, "here"), config


@pytest.mark.parametrize("documents", ["row", "stream"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_all_of_a_text_is_in_its_source_and_target(tmp_path, objective, documents):
    texts = ["", *TEXTS] if documents == "stream" else TEXTS
    options = {"documents": documents} | ({"permute_sentences": False} if objective == "infilling" else {})
    preprocessor, split, _ = parts_of(tmp_path, objective, texts=texts, options=options)
    indices = np.arange(len(split.examples))
    made = preprocessor.randomize(split.examples[indices], indices, 3)
    tokenizer, end = preprocessor.tokenizer, preprocessor.tokenizer.eos_token_id
    ids, whole = [], []
    for row in range(len(indices)):
        for number in np.unique(made["sequence_ids"][row]):
            source = made["input_ids"][row][made["sequence_ids"][row] == number]
            target = made["labels"][row][made["decoder_sequence_ids"][row] == number]
            seen = made["decoder_input_ids"][row][made["decoder_sequence_ids"][row] == number]
            assert source[-1] == target[-1] == end
            assert seen.tolist() == [tokenizer.bos_token_id, *target[:-1]]
            source, target = source[:-1], target[:-1]
            if objective == "infilling":
                ids += target.tolist()
                kept = source[source != tokenizer.mask_token_id]
                assert (
                    "".join(tokenizer.convert_ids_to_tokens(target)).startswith(
                        "".join(tokenizer.convert_ids_to_tokens(kept[:1]))
                    )
                    or source[0] == tokenizer.mask_token_id
                )
                continue
            if objective == "ul2":
                mode, source = tokenizer.convert_ids_to_tokens(int(source[0])), source[1:]
                assert mode in ("[R]", "[S]", "[X]")
            sequential = objective == "prefix" or (objective == "ul2" and mode == "[S]")
            ids += [*source, *target] if sequential else restored(source, target, preprocessor.sentinels)
    for text in texts:
        text = text + "\n" if documents == "stream" else text
        whole += tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [int(token) for token in ids] == whole


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_is_hidden_depends_on_seed_epoch_and_index_alone(tmp_path, objective):
    preprocessor, split, _ = parts_of(tmp_path, objective, texts=TEXTS * 10)
    indices = np.arange(len(split.examples))

    def draw(indices, epoch, seed=0):
        preprocessor.recipe.seed = seed
        made = preprocessor.randomize(split.examples[indices], indices, epoch)
        return [row.tolist() for row in made["input_ids"]]

    first = draw(indices, 0)
    assert draw(indices, 0) == first
    assert draw(indices[::-1][:3], 0) == first[::-1][:3]
    for other in (draw(indices, 1), draw(indices, 0, seed=1)):
        assert all(row != before for row, before in zip(other, first, strict=True))
    fixed = preprocessor.corrupted_once(split.examples[indices], indices)["input_ids"]
    preprocessor.recipe.seed = 5
    again = preprocessor.corrupted_once(split.examples[indices[1:2]], indices[1:2])["input_ids"]
    assert again[0].tolist() == fixed[1].tolist()


@pytest.mark.parametrize("packing", ["wrapped", "best_fit"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_lengths_are_known_beforehand(tmp_path, objective, packing):
    preprocessor, split, _ = parts_of(tmp_path, objective, texts=TEXTS * 10, options={"packing": packing})
    assert isinstance(split.examples, BestFitRows) == (packing == "best_fit")
    lengths, indices = preprocessor.lengths(split.examples), np.arange(len(split.examples))
    for epoch in range(5):
        made = preprocessor.randomize(split.examples[indices], indices, epoch)
        found = np.array([[len(row) for row in made[name]] for name in ("input_ids", "labels")]).T
        assert (found <= lengths).all()
        if objective == "spans":
            assert (found == lengths).all()
    for name in ("position_ids", "decoder_position_ids"):
        assert preprocessor.collate(made)[name].max() < TINY_MODEL["max_position_embeddings"]


@pytest.mark.parametrize(("source", "target"), [(16, 96), (96, 16), (40, 40)])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_side_of_a_text_is_longer_than_asked_for(tmp_path, objective, source, target):
    batches = {"max_source_length": source, "max_target_length": target}
    preprocessor, split, _ = parts_of(tmp_path, objective, batches=batches)
    indices = np.arange(len(split.examples))
    for epoch in range(5):
        batch = preprocessor.collate(preprocessor.randomize(split.examples[indices], indices, epoch))
        assert batch["position_ids"].max() < source
        assert batch["decoder_position_ids"].max() < target


@pytest.mark.parametrize("preset", ["encoder-decoder-tiny", pytest.param("bart-base", marks=pytest.mark.slow)])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_packed_and_padded_texts_have_the_same_loss_and_gradients(tmp_path, objective, preset):
    preprocessor, split, config = parts_of(tmp_path, objective, preset)
    indices = np.arange(len(split.examples))
    rows = preprocessor.randomize(split.examples[indices], indices, 0)
    packed = preprocessor.collate(rows)
    documents = []
    for row in range(len(indices)):
        for number in np.unique(rows["sequence_ids"][row]):
            source = rows["input_ids"][row][rows["sequence_ids"][row] == number]
            documents.append((source, rows["labels"][row][rows["decoder_sequence_ids"][row] == number]))
    assert len(documents) > len(indices)
    padded = {
        name: torch.nn.utils.rnn.pad_sequence([torch.tensor(pair[side]) for pair in documents], True, fill)
        for side, name, fill in ((0, "input_ids", config.pad_token_id), (1, "labels", -100))
    }
    padded["attention_mask"] = torch.nn.utils.rnn.pad_sequence(
        [torch.ones(len(source), dtype=torch.long) for source, _ in documents], True, 0
    )
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    results = []
    for batch in (padded, packed):
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        results.append([loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


# --- sentences


@pytest.mark.parametrize("kind", ["byte_bpe", "characters"])
def test_sentences_end_with_a_full_stop_and_a_space(kind):
    text = "하나. 둘이다! 3.14 e.g. x? no"
    tokenizer = tokenizer_of("infilling", kind, [text, *TEXTS])
    closing, opening = sentence_places(tokenizer)
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])
    ends = closing[ids[:-1]] & opening[ids[1:]]
    sentences = [tokenizer.decode(piece) for piece in np.split(ids, np.flatnonzero(ends) + 1)]
    assert sentences == ["하나.", " 둘이다!", " 3.14 e.g.", " x?", " no"]


def test_sentences_of_word_pieces():
    tokenizer = tokenizer_of("infilling", "wordpiece")
    closing, opening = sentence_places(tokenizer)
    ids = np.array(tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"])
    ends = closing[ids[:-1]] & opening[ids[1:]]
    assert ends.sum() == 2


# --- tokenizers


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece", "unigram", "characters"])
def test_a_trained_tokenizer_has_what_the_objective_needs(kind, tmp_path):
    for objective, tokens in {
        "spans": ["<extra_id_0>", "<extra_id_99>"],
        "ul2": ["<extra_id_0>", "<extra_id_99>", "[R]", "[S]", "[X]"],
        "infilling": ["<mask>"],
    }.items():
        tokenizer_of(objective, kind, TEXTS * 3).save_pretrained(tmp_path / objective)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / objective)
        for token in tokens:
            ids = tokenizer(f"a {token} b", add_special_tokens=False)["input_ids"]
            assert ids.count(tokenizer.convert_tokens_to_ids(token)) == 1
            assert tokenizer.decode(ids, skip_special_tokens=True).split() == ["a", "b"]


@pytest.mark.parametrize(
    ("objective", "token"), [("spans", "<extra_id_0>"), ("ul2", "<extra_id_0>"), ("infilling", "mask token")]
)
def test_a_tokenizer_that_lacks_something_is_refused(tmp_path, objective, token):
    tokenizer = train_tokenizer(TEXTS, TokenizerRecipe(kind="characters"), TEXT_TO_TEXT)
    message = f"the tokenizer has no {token}, which options.objective={objective} needs; take one"
    with pytest.raises(UserError, match=message):
        parts_of(tmp_path, objective, tokenizer=tokenizer)


def word_tokenizer(words, **special):
    words = {word: number for number, word in enumerate([*words, "<unk>"])}
    frame = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    frame.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=frame, unk_token="<unk>", **special)


def test_what_stands_around_a_source():
    tokenizer = tokenizer_of("infilling")
    assert [side.tolist() for side in around(tokenizer)] == [[], [2]]
    framed = train_tokenizer(
        TEXTS, TokenizerRecipe(kind="characters"), replace(TEXT_TO_TEXT, single="<s> $A </s>", pair="<s> $A $B </s>")
    )
    assert [side.tolist() for side in around(framed)] == [[1], [2]]
    assert [side.tolist() for side in around(word_tokenizer("ab", pad_token="<pad>", eos_token="</s>"))] == [[], []]


def test_a_tokenizer_with_sentinels_of_its_own_and_no_start_token(tmp_path):
    """T5's kind: the start token of a target is the padding."""
    words = [*"abcdefgh", *(f"<extra_id_{number}>" for number in range(5)), "<pad>", "</s>"]
    tokenizer = word_tokenizer(words, pad_token="<pad>", eos_token="</s>")
    preprocessor, split, config = parts_of(tmp_path, texts=["a b c d e f g h"] * 9, tokenizer=tokenizer)
    assert preprocessor.sentinels.tolist() == [8, 9, 10, 11, 12]
    assert config.decoder_start_token_id == tokenizer.pad_token_id
    made = preprocessor.randomize(split.examples[[0]], np.arange(1), 0)
    assert made["decoder_input_ids"][0][0] == tokenizer.pad_token_id


# --- recipes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 1.0}, "options.density=1.0 must lie between 0 and 1"),
        ({"density": float("nan")}, "options.density=nan must be a finite number"),
        ({"mean_span_length": 0.5}, "options.mean_span_length=0.5 must be at least 1"),
        (
            {"objective": "ul2", "density": 0.2},
            "options.density is for options.objective=spans or infilling, not for ul2",
        ),
        ({"permute_sentences": True}, "options.permute_sentences is for options.objective=infilling, not for spans"),
        ({"objective": "span"}, "options.objective='span' is not one of 'spans', 'infilling', 'ul2', 'prefix'"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line(tmp_path, options, message):
    with pytest.raises(UserError) as error:
        reader_for(recipe_of(tmp_path, options=options))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_lengths_that_leave_no_room_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"batches\.max_source_length=2 and max_target_length=96 leave no room for"):
        parts_of(tmp_path, batches={"max_source_length": 2})


def test_an_empty_text_is_invalid_and_two_texts_of_a_row_are_two(tmp_path):
    tokenizer = tokenizer_of("spans")
    config = preset_config("encoder-decoder-tiny", **TINY_MODEL | {"vocab_size": len(tokenizer)})
    columns = {"text": "ko", "other_text": "en"}
    recipe = recipe_of(tmp_path, data={"columns": columns, "invalid_examples": "skip"})
    rows = datasets.Dataset.from_dict({"ko": ["나는", " ", "갔다"], "en": ["hello", "a", "b"]})
    preprocessor = preprocessor_for(recipe, rows, tokenizer, config)
    split = preprocessor.encode(rows, "here")
    texts = [tokenizer.decode(ids) for ids in split.examples.encoded["input_ids"] if ids]
    assert texts == ["나는", "hello", "갔다", "b"]
    assert split.rows["en"] == ["hello", "b"]
    assert split.first_skipped == "example 2, column 'ko' is empty"
    assert list(preprocessor.reader.texts(rows)) == [["나는", " ", "갔다"], ["hello", "a", "b"]]


# --- runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Objective -> the folder of a run, which is made where it is asked for."""

    class Finished(dict):
        def __missing__(self, objective):
            folder = tmp_path_factory.mktemp(objective)
            train(recipe_of(folder, objective))
            self[objective] = folder / "run"
            return self[objective]

    return Finished()


@pytest.mark.parametrize("objective", seldom(OBJECTIVES, "spans"))
def test_a_run_learns_and_scores_the_same_again(finished, objective):
    run = finished[objective]
    results = json.loads((run / "best" / "results.json").read_text())
    assert results["test"]["perplexity"] == pytest.approx(np.exp(results["test"]["loss"]))
    found = losses(run)
    assert found[12] < found[1]
    again = evaluate(run / "best")
    assert again == pytest.approx(results["test"])
    assert evaluate(run / "best", ["seed=7", "evaluation.tokens_per_batch=100"]) == pytest.approx(again, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("objective", seldom(["spans", "infilling"], "spans"))
def test_killed_it_goes_on_to_the_same_losses(finished, tmp_path, monkeypatch, objective):
    train_and_die(monkeypatch, recipe_of(tmp_path, objective), after_step(7))
    train(recipe_of(tmp_path, objective))
    assert losses(tmp_path / "run") == losses(finished[objective])


@pytest.mark.slow
def test_workers_make_the_same_batches(finished, tmp_path):
    train(recipe_of(tmp_path, batches={"workers": 1}))
    assert losses(tmp_path / "run") == losses(finished["spans"])


@pytest.mark.parametrize("objective", seldom(OBJECTIVES, "spans"))
def test_translation_goes_on_from_it(finished, tmp_path, objective):
    pairs = [json.dumps({"source": text, "target": text[::-1]}) + "\n" for text in TEXTS]
    (tmp_path / "pairs").mkdir()
    for split in ("train", "validation", "test"):
        (tmp_path / "pairs" / f"{split}.jsonl").write_text("".join(pairs))
    content = {
        "task": "translation",
        "output_dir": str(tmp_path / "run"),
        "data": {"path": str(tmp_path / "pairs")},
        "model": {"init_from": str(finished[objective])},
        "optimization": {"learning_rate": 1e-9},
        "training": {"max_steps": 1, "trackers": []},
        "evaluation": {"num_beams": 1, "max_new_tokens": 4},
    }
    recipe = build(Recipe, content, "tiny.yaml")
    train(recipe)
    before, after = finished[objective] / "best", tmp_path / "run" / "best"
    vocabularies = [AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (before, after)]
    assert vocabularies[0] == vocabularies[1]
    weights = [AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict() for folder in (before, after)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-6, rtol=0, msg=name)


def t5_fields():
    """A recipe's `model.config` that T5 can express."""
    fields = {"hidden_act": "relu", "is_gated_act": False, "decoder": {"scale_lm_head": True}}
    for name, value in ARCHITECTURES["t5"].options.items():
        *half, field = name.split(".")
        (fields.setdefault(half[0], {}) if half else fields)[field] = value
    return fields


STOCK = {"t5": t5_fields(), "bart": {}}


@pytest.mark.parametrize(
    ("to", "objective", "preset"),
    [
        ("t5", "spans", "encoder-decoder-tiny"),
        pytest.param("bart", "infilling", "bart-base", marks=pytest.mark.slow),
    ],
)
def test_what_is_learned_is_exported(tmp_path, to, objective, preset):
    sizes = dict(TINY_MODEL) | STOCK[to] | {"attention_dropout": 0.1, "activation_dropout": 0.1}
    recipe = recipe_of(tmp_path, objective, model={"preset": preset, "config": sizes}, training={"max_steps": 4})
    train(recipe)
    best = tmp_path / "run" / "best"
    export_stock(best, tmp_path / to, to)
    ours, stock = (AutoModelForSeq2SeqLM.from_pretrained(folder).eval() for folder in (best, tmp_path / to))
    assert type(stock).__name__ == f"{ {'t5': 'T5', 'bart': 'Bart'}[to] }ForConditionalGeneration"
    assert stock.config.decoder_start_token_id == ours.config.decoder_start_token_id
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / to)
    hidden = {"spans": "<extra_id_0>", "infilling": "<mask>"}[objective]
    batch = tokenizer(f"Thank you {hidden} me", text_target="for inviting", return_tensors="pt")
    with torch.no_grad():
        outputs = [model(input_ids=batch["input_ids"], labels=batch["labels"]) for model in (ours, stock)]
    torch.testing.assert_close(outputs[0].logits, outputs[1].logits, atol=1e-5, rtol=1e-4)
    texts = [model.generate(batch["input_ids"], max_new_tokens=5, num_beams=1).tolist() for model in (ours, stock)]
    assert texts[0] == texts[1]


def test_of_a_validation_split_always_the_same_is_hidden(tmp_path):
    preprocessor, _, config = parts_of(tmp_path)
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    rows = datasets.Dataset.from_dict({"text": TEXTS})
    scores = [evaluator_for(preprocessor, rows).evaluate(model, final) for final in (False, True)]
    assert scores[0] == scores[1]
    assert scores[0].keys() == {"loss", "perplexity"}
    assert DENOISING.metrics == DENOISING.minimized == ("perplexity",)
