import types

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.utils.data import Dataset
from transformers import GenerationConfig, PreTrainedTokenizerFast, pipeline

import trefoil
from trefoil.pipelines.translation import TranslationPipeline, languages_of, languages_of_task, with_language

WORDS = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    *["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
]
LIMIT = 12


def make_tokenizer(adds_eos=True):
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if adds_eos:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="module")
def model():
    half = {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": LIMIT,
        "position_embedding_type": "learned",
        "initializer_range": 0.5,
    }
    torch.manual_seed(0)
    return trefoil.TrefoilEncoderDecoderForConditionalGeneration(
        trefoil.TrefoilEncoderDecoderConfig(encoder=dict(half), decoder=dict(half))
    ).eval()


@pytest.fixture(scope="module")
def pipe(model):
    return TranslationPipeline(model=model, tokenizer=make_tokenizer(), device="cpu", task="translation")


def text_of(records):
    return [record["translation_text"] for record in records]


def test_a_text_gives_a_list_of_one(pipe):
    (record,) = pipe("one two")
    assert record.keys() == {"translation_text"}
    assert isinstance(record["translation_text"], str)


def test_it_is_what_generate_gives(pipe, model):
    inputs = pipe.tokenizer("one two three", return_tensors="pt")
    ids = model.generate(inputs.input_ids, attention_mask=inputs.attention_mask, num_beams=4, max_new_tokens=LIMIT - 1)
    (record,) = pipe("one two three", return_tensors=True)
    assert record.keys() == {"translation_token_ids"}
    assert torch.equal(record["translation_token_ids"], ids[0])
    assert text_of(pipe("one two three")) == [pipe.tokenizer.decode(ids[0], skip_special_tokens=True)]


def test_a_list_gives_a_dict_each_and_batches_change_nothing(pipe):
    texts = ["one", "two three four five", "", "six seven", "eight nine ten one two"]
    single = [pipe(text)[0] for text in texts]
    assert pipe(texts) == single
    assert pipe(texts, batch_size=2) == single
    assert pipe(tuple(texts), batch_size=5) == single
    assert pipe([]) == []


def test_generators_and_datasets_are_answered_one_by_one(pipe):
    texts = ["one", "two three"]

    class Texts(Dataset):
        def __len__(self):
            return len(texts)

        def __getitem__(self, index):
            return texts[index]

    expected = [pipe(text) for text in texts]
    stream = pipe(text for text in texts)
    assert not isinstance(stream, list)
    assert list(stream) == expected
    assert list(pipe(Texts(), batch_size=2)) == expected


def test_several_sequences_a_text(pipe):
    assert len(pipe("one two", num_beams=3, num_return_sequences=3)) == 3
    nested = pipe(["one two", "three"], num_beams=3, num_return_sequences=2, batch_size=2)
    assert [len(records) for records in nested] == [2, 2]


def test_generation_settings_reach_generate(model):
    pipe = TranslationPipeline(model=model, tokenizer=make_tokenizer(), device="cpu", max_new_tokens=3, num_beams=1)
    ids = pipe("one two", return_tensors=True, eos_token_id=None)[0]["translation_token_ids"]
    assert len(ids) == 1 + 3
    ids = pipe("one two", return_tensors=True, eos_token_id=None, max_new_tokens=2)[0]["translation_token_ids"]
    assert len(ids) == 1 + 2


def test_a_generation_config_of_the_call_is_kept(pipe):
    settings = GenerationConfig(max_new_tokens=2, pad_token_id=0, decoder_start_token_id=1)
    ids = pipe("one two", return_tensors=True, generation_config=settings)[0]["translation_token_ids"]
    assert len(ids) == 1 + 2
    assert settings.num_beams is None


def test_both_answers_or_none(pipe):
    (record,) = pipe("one", return_tensors=True, return_text=True)
    assert record.keys() == {"translation_text", "translation_token_ids"}
    with pytest.raises(ValueError, match="nothing to return"):
        pipe("one", return_text=False)


def test_blank_texts_have_blank_translations(pipe, model):
    assert text_of(pipe("")) == text_of(pipe(" \n")) == [""]
    assert len(pipe("", return_tensors=True)[0]["translation_token_ids"]) == 0
    bare = TranslationPipeline(model=model, tokenizer=make_tokenizer(adds_eos=False), device="cpu")
    assert text_of(bare(["", "one two"], batch_size=2))[0] == ""


def test_a_long_source_is_cut_with_a_warning_and_keeps_its_end(pipe, caplog):
    text = "one " * 30
    pipe(text)
    assert f"a source of 31 tokens is cut to the {LIMIT} that the model reads" in caplog.text
    inputs = pipe.preprocess(text)
    assert inputs["input_ids"].shape == (1, LIMIT)
    assert inputs["input_ids"][0, -1] == pipe.tokenizer.eos_token_id


def test_cutting_can_be_asked_for_or_refused(pipe, caplog):
    assert pipe.preprocess("one " * 30, truncation=True)["input_ids"].shape[1] == LIMIT
    assert pipe.preprocess("one " * 30, truncation=False)["input_ids"].shape[1] == 31
    assert caplog.text == ""


def test_the_tokenizer_s_limit_counts_too(pipe, monkeypatch):
    monkeypatch.setattr(pipe.tokenizer, "model_max_length", 5)
    assert pipe.preprocess("one " * 30)["input_ids"].shape[1] == 5


def test_languages_reach_tokenizers_that_know_them(model):
    tokenizer = make_tokenizer()
    seen = []

    def build(self, text, src_lang, tgt_lang, **options):
        seen.append((src_lang, tgt_lang))
        return self(text, **options) | {"forced_bos_token_id": 7}

    tokenizer._build_translation_inputs = types.MethodType(build, tokenizer)
    pipe = TranslationPipeline(model=model, tokenizer=tokenizer, device="cpu", task="translation_ko_to_en")
    records = pipe(["one", "two three"], batch_size=2, return_tensors=True)
    assert all(record["translation_token_ids"][1] == 7 for record in records)
    pipe("one", src_lang="de", tgt_lang="fr")
    assert seen == [("ko", "en"), ("ko", "en"), ("de", "fr")]


def test_languages_are_ignored_by_tokenizers_of_one_pair(pipe):
    assert pipe("one two", src_lang="ko", tgt_lang="en") == pipe("one two")


def test_inputs_that_are_no_texts_are_refused(pipe):
    with pytest.raises(TypeError, match="an input is of type dict"):
        pipe([{"text": "one"}])


def test_models_that_cannot_translate_are_refused():
    config = trefoil.TrefoilDecoderConfig(
        vocab_size=len(WORDS), hidden_size=16, num_attention_heads=2, num_hidden_layers=1
    )
    with pytest.raises(ValueError, match="TrefoilDecoderForCausalLM cannot translate"):
        TranslationPipeline(model=trefoil.TrefoilDecoderForCausalLM(config), tokenizer=make_tokenizer(), device="cpu")


@pytest.mark.parametrize("task", ["translation", "translation_ko_to_en"])
def test_importing_the_package_brings_the_task_back(model, task):
    pipe = pipeline(task, model=model, tokenizer=make_tokenizer(), device="cpu")
    assert type(pipe) is TranslationPipeline
    assert pipe.task == task


def test_other_tasks_are_as_they_were():
    with pytest.raises(KeyError, match="no-such-task"):
        pipeline("no-such-task", model="nowhere", config=trefoil.TrefoilEncoderConfig())


def test_languages_of_a_task():
    assert languages_of_task("translation_ko_to_en") == ("ko", "en")
    assert languages_of_task("translation") == languages_of_task("image_text_to_text") == (None, None)


# --- scores


def test_scores_are_those_that_beams_are_ranked_by(pipe, model):
    inputs = pipe.tokenizer("one two three", return_tensors="pt")
    options = {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 0.6, "max_new_tokens": LIMIT - 1}
    beams = model.generate(
        inputs.input_ids,
        attention_mask=inputs.attention_mask,
        **options,
        return_dict_in_generate=True,
        output_scores=True,
    )
    records = pipe("one two three", return_scores=True, **options)
    assert [record["score"] for record in records] == pytest.approx(beams.sequences_scores.tolist())
    assert [record["score"] for record in records] == sorted((record["score"] for record in records), reverse=True)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_score_is_the_mean_log_probability_of_the_tokens(pipe, model, num_beams):
    texts = ["one two three", "four", "five six seven eight nine"]
    batch = pipe(texts, batch_size=3, num_beams=num_beams, max_new_tokens=6, return_scores=True, return_tensors=True)
    for text, record in zip(texts, batch, strict=True):
        ids = record["translation_token_ids"]
        written = ids[1:].tolist()
        length = written.index(2) + 1 if 2 in written else len(written)
        inputs = pipe.tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model(input_ids=inputs, decoder_input_ids=ids[None, :length]).logits[0]
        chosen = logits.log_softmax(-1)[range(length), written[:length]]
        assert record["score"] == pytest.approx(float(chosen.mean()), abs=1e-5)
    assert pipe(" ", return_scores=True, max_new_tokens=2)[0] == {"translation_text": "", "score": None}


# --- languages


def test_the_tag_goes_before_the_text():
    tokenizer = make_tokenizer()
    assert with_language(tokenizer, "one", tgt_lang="en") == "one"
    tokenizer.add_special_tokens({"extra_special_tokens": ["<2en>", "<2zh-Hant>", "<2>", "<extra>"]})
    assert languages_of(tokenizer) == ["en", "zh-Hant"]
    assert with_language(tokenizer, "one", tgt_lang="zh-Hant") == "<2zh-Hant>one"
    assert with_language(tokenizer, "one", src_lang="zh-Hant") == "<2en>one"
    assert with_language(tokenizer, "<2en>one") == "<2en>one"
    for languages in ({}, {"src_lang": "fr"}, {"tgt_lang": "zh"}):
        with pytest.raises(ValueError, match="tgt_lang must be one of en, zh-Hant"):
            with_language(tokenizer, "one", **languages)
