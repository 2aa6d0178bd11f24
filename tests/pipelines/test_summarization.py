import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration, pipeline

import trefoil
from trefoil.pipelines.summarization import SummarizationPipeline
from trefoil.pipelines.translation import TranslationPipeline

WORDS = ["<pad>", "</s>", "<unk>", "summarize", ":", "one", "two", "three", "four", "five"]
PARAMS = {"summarization": {"prefix": "summarize: ", "max_length": 9, "num_beams": 3}}


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=12
    )


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return T5ForConditionalGeneration(config).eval()


@pytest.fixture
def pipe(model, tokenizer):
    return pipeline("summarization", model=model, tokenizer=tokenizer, device="cpu")


def test_importing_the_package_brings_the_task_back(pipe):
    assert type(pipe) is SummarizationPipeline
    assert pipe.task == "summarization"


@pytest.mark.slow
def test_it_is_what_generate_gives(pipe, model, tokenizer):
    inputs = tokenizer("one two three", return_tensors="pt")
    ids = model.generate(inputs.input_ids, attention_mask=inputs.attention_mask, num_beams=4, max_new_tokens=256)
    (record,) = pipe("one two three", return_tensors=True)
    assert record.keys() == {"summary_token_ids"}
    assert torch.equal(record["summary_token_ids"], ids[0])
    assert pipe("one two three") == [{"summary_text": tokenizer.decode(ids[0], skip_special_tokens=True)}]


def test_lists_batches_and_blank_texts(pipe):
    texts = ["one two three", "", "four", "five four three two"]
    single = [pipe(text, max_new_tokens=5)[0] for text in texts]
    assert single[1] == {"summary_text": ""}
    assert pipe(texts, max_new_tokens=5) == pipe(texts, max_new_tokens=5, batch_size=3) == single


def test_there_are_no_languages(pipe):
    with pytest.raises(ValueError, match="src_lang"):
        pipe("one", src_lang="ko")


def test_a_long_source_is_cut_with_a_warning(pipe, caplog):
    pipe("one " * 30, max_new_tokens=3)
    assert "a source of 31 tokens is cut to the 12 that the model reads" in caplog.text


def test_it_warns_where_a_summary_has_to_be_as_long_as_its_source(pipe, caplog):
    pipe("one two", max_new_tokens=20)
    assert caplog.text == ""
    pipe("one two", min_new_tokens=6, max_new_tokens=8)
    assert "a source of 3 tokens is to have a summary of at least 6 (min_length, min_new_tokens)" in caplog.text


def test_inputs_and_models_that_do_not_fit_are_refused(pipe, tokenizer):
    with pytest.raises(TypeError, match="summary needs texts, but an input is of type int"):
        pipe([1])
    config = trefoil.TrefoilDecoderConfig(vocab_size=20, hidden_size=16, num_attention_heads=2, num_hidden_layers=1)
    with pytest.raises(ValueError, match="TrefoilDecoderForCausalLM cannot summarize"):
        SummarizationPipeline(model=trefoil.TrefoilDecoderForCausalLM(config), tokenizer=tokenizer, device="cpu")


def test_what_a_config_lists_for_the_task_counts_where_others_are_silent(model, tokenizer, tmp_path):
    model.config.task_specific_params = PARAMS
    model.save_pretrained(tmp_path)
    model = T5ForConditionalGeneration.from_pretrained(tmp_path)
    pipe = pipeline("summarization", model=model, tokenizer=tokenizer, device="cpu")
    assert pipe.preprocess("one")["input_ids"].tolist() == [[3, 4, 5, 1]]
    assert pipe._with_defaults({}) == {"max_length": 9, "num_beams": 3}
    assert pipe._with_defaults({"max_new_tokens": 5}) == {"max_new_tokens": 5, "num_beams": 3}
    model.generation_config.num_beams = 2
    assert pipe._with_defaults({}) == {"max_length": 9}
    translate = TranslationPipeline(model=model, tokenizer=tokenizer, device="cpu", task="translation")
    assert translate.preprocess("one")["input_ids"].tolist() == [[5, 1]]
    consent = {"custom_generate": str(tmp_path), "trust_remote_code": True, "streamer": "x"}
    model.config.task_specific_params = {"translation": consent}
    assert translate._with_defaults({}).keys() & consent.keys() == set()
