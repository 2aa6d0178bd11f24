"""transformers' own pipelines on published folders: what they say is what the model's logits say."""

from threading import Thread

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    TextIteratorStreamer,
    TextStreamer,
    pipeline,
)

TEXT = "세 개의 사과와 half past five"


@pytest.fixture
def opened(published_head):
    """A function: head, Auto class -> its pipeline's model and tokenizer, loaded from the published folder."""

    def load(head, auto_class):
        folder = published_head(head)
        return auto_class.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    return load


@torch.no_grad()
def outputs(model, tokenizer, *texts):
    return model(**tokenizer(*texts, return_tensors="pt"))


def test_fill_mask(opened):
    model, tokenizer = opened("masked-lm", AutoModelForMaskedLM)
    text = f"세 개의 {tokenizer.mask_token} half past {tokenizer.mask_token}"
    found = pipeline("fill-mask", model=model, tokenizer=tokenizer)(text, top_k=3)
    ids = tokenizer(text, return_tensors="pt").input_ids
    best = outputs(model, tokenizer, text).logits[ids == tokenizer.mask_token_id].softmax(-1).topk(3)
    assert [[guess["token"] for guess in guesses] for guesses in found] == best.indices.tolist()
    scores = torch.tensor([[guess["score"] for guess in guesses] for guesses in found])
    torch.testing.assert_close(scores, best.values)


def test_text_classification(opened):
    model, tokenizer = opened("text-classification", AutoModelForSequenceClassification)
    found = pipeline("text-classification", model=model, tokenizer=tokenizer)([TEXT, "배"], top_k=None, batch_size=2)
    for text, answers in zip([TEXT, "배"], found, strict=True):
        scores = outputs(model, tokenizer, text).logits[0].softmax(-1)
        assert {answer["label"] for answer in answers} == {"부정", "긍정"}
        for answer in answers:
            assert answer["score"] == pytest.approx(float(scores[model.config.label2id[answer["label"]]]), rel=1e-4)


def test_zero_shot_classification_by_entailment(opened):
    model, tokenizer = opened("entailment", AutoModelForSequenceClassification)
    classify = pipeline("zero-shot-classification", model=model, tokenizer=tokenizer)
    labels = ["사과", "배", "five"]
    found = classify(TEXT, candidate_labels=labels, hypothesis_template="{}", multi_label=False)
    entailed = torch.stack([outputs(model, tokenizer, TEXT, label).logits[0, 2] for label in labels]).softmax(-1)
    scores = dict(zip(found["labels"], found["scores"], strict=True))
    assert [scores[label] for label in labels] == pytest.approx(entailed.tolist(), rel=1e-4)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_token_classification_with_every_aggregation_strategy(opened, strategy):
    model, tokenizer = opened("token-classification", AutoModelForTokenClassification)
    tag = pipeline("token-classification", model=model, tokenizer=tokenizer, ignore_labels=[])
    found = tag(TEXT, aggregation_strategy=strategy)
    scores = outputs(model, tokenizer, TEXT).logits[0].softmax(-1)
    offsets = tokenizer(TEXT, return_offsets_mapping=True)["offset_mapping"][1:-1]
    assert found[0]["start"] == 0
    assert found[-1]["end"] == len(TEXT)
    if strategy == "none":
        assert [(one["start"], one["end"]) for one in found] == offsets
        labels = [model.config.id2label[number] for number in scores[1:-1].argmax(-1).tolist()]
        assert [one["entity"] for one in found] == labels
        return
    for one in found:
        assert one["entity_group"] in {"O", "시간"}
        assert one["word"].replace(" ", "") in TEXT.replace(" ", "")
        assert scores.min() <= one["score"] <= scores.max()
        if strategy != "simple":  # of whole words
            for place in (one["start"], one["end"]):
                assert place in (0, len(TEXT)) or " " in TEXT[place - 1 : place + 1]


def test_feature_extraction(opened):
    model, tokenizer = opened("bare", AutoModel)
    found = pipeline("feature-extraction", model=model, tokenizer=tokenizer)(TEXT, return_tensors=True)
    torch.testing.assert_close(found, outputs(model, tokenizer, TEXT).last_hidden_state)


def test_text_generation_and_its_streamers(opened, capsys):
    model, tokenizer = opened("causal-lm", AutoModelForCausalLM)
    write = pipeline("text-generation", model=model, tokenizer=tokenizer)
    options = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
    (whole,) = write(TEXT, return_full_text=False, **options)
    prompt = tokenizer(TEXT, return_tensors="pt")
    generated = model.generate(**prompt, **options)[0, prompt.input_ids.shape[1] :]
    assert whole["generated_text"] == tokenizer.decode(generated, skip_special_tokens=True)

    capsys.readouterr()
    write(TEXT, streamer=TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True), **options)
    assert capsys.readouterr().out.strip() == whole["generated_text"].strip()

    pieces = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=60)
    thread = Thread(target=write, args=(TEXT,), kwargs={"streamer": pieces, **options})
    thread.start()
    streamed = list(pieces)
    thread.join()
    assert len(streamed) > 1
    assert "".join(streamed).strip() == whole["generated_text"].strip()
