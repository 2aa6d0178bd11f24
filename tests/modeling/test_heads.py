"""The heads: what they pool, what they lose, how they load; and an encoder-decoder joined from two checkpoints."""

import re

import pytest
import torch
from conftest import OFTEN, SMALL, VARIANTS, seldom
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    linear,
    mse_loss,
)
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

import trefoil
from trefoil.modeling.losses import labelled, sequence_loss, span_cross_entropy, token_cross_entropy

SEQUENCE = {
    "encoder": trefoil.TrefoilEncoderForSequenceClassification,
    "decoder": trefoil.TrefoilDecoderForSequenceClassification,
}
TOKENS = {
    "encoder": trefoil.TrefoilEncoderForTokenClassification,
    "decoder": trefoil.TrefoilDecoderForTokenClassification,
}
ANSWERS = {"encoder": trefoil.TrefoilEncoderForQuestionAnswering}
AUTO = {
    AutoModelForSequenceClassification: SEQUENCE,
    AutoModelForTokenClassification: TOKENS,
    AutoModelForQuestionAnswering: ANSWERS,
}
HEADS = [(auto_class, family) for auto_class, families in AUTO.items() for family in families]
JOINED = trefoil.TrefoilEncoderDecoderForConditionalGeneration
PAD = 0


def headed(model_class, seed=0, **fields):
    torch.manual_seed(seed)
    return model_class(model_class.config_class(**SMALL | {"initializer_range": 0.2, "num_labels": 3} | fields)).eval()


def logits_of(outputs):
    return [outputs[name] for name in ("logits", "start_logits", "end_logits") if name in outputs]


def padded(token_ids, side, pad=7):
    """The ids behind or before three tokens that only the mask tells from real ones."""
    extra, ones = torch.full((2, 3), pad), torch.ones_like(token_ids)
    ids, mask = (extra, token_ids), (torch.zeros_like(extra), ones)
    if side == "right":
        ids, mask = ids[::-1], mask[::-1]
    return {"input_ids": torch.cat(ids, 1), "attention_mask": torch.cat(mask, 1)}


@pytest.mark.parametrize(("auto_class", "family"), HEADS)
@pytest.mark.parametrize("variant", seldom(VARIANTS, "modern", "bert"))
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(auto_class, family, variant, side, token_ids):
    model = headed(AUTO[auto_class][family], **VARIANTS[variant])
    for plain, found in zip(logits_of(model(token_ids)), logits_of(model(**padded(token_ids, side))), strict=True):
        if auto_class is not AutoModelForSequenceClassification:
            found = found[:, 3:] if side == "left" else found[:, :9]
        torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_an_encoder_pools_real_tokens(pooling, side, token_ids):
    model = headed(SEQUENCE["encoder"], classifier_pooling=pooling)
    inputs = padded(token_ids, side)
    states = model.model(**inputs).last_hidden_state
    states = states[:, 3:] if side == "left" else states[:, :9]
    pooled = states[:, 0] if pooling == "cls" else states.mean(dim=1)
    expected = model.score(torch.tanh(linear(pooled, model.pooler.classifier.weight, model.pooler.classifier.bias)))
    torch.testing.assert_close(model(**inputs).logits, expected)
    # a mask of another form says nothing of padding
    everything = torch.ones(2, 1, 9, 9, dtype=torch.bool)
    torch.testing.assert_close(model(token_ids, attention_mask=everything).logits, model(token_ids).logits)


def test_the_mean_is_over_rows_of_different_lengths(token_ids):
    model = headed(SEQUENCE["encoder"], classifier_pooling="mean")
    mask = torch.ones_like(token_ids)
    mask[0, 4:] = 0
    logits = model(token_ids, attention_mask=mask).logits
    torch.testing.assert_close(logits[:1], model(token_ids[:1, :4]).logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits[1:], model(token_ids[1:]).logits, atol=1e-5, rtol=1e-4)


def test_a_decoder_classifies_by_the_last_real_token(token_ids):
    model = headed(SEQUENCE["decoder"])
    scores = model.score(model.model(token_ids).last_hidden_state)
    torch.testing.assert_close(model(token_ids).logits, scores[:, -1])
    # without a mask, the padding token tells, on the right here
    ids = token_ids.clone()
    ids[0, 6:] = PAD
    torch.testing.assert_close(model(ids).logits, torch.stack([scores[0, 5], scores[1, 8]]))
    # also with one, as in transformers' decoders, where padding is the end of the sequence, too
    torch.testing.assert_close(model(ids, attention_mask=torch.ones_like(ids)).logits, model(ids).logits)
    # embeddings have no padding token
    last = model.score(model.model(ids).last_hidden_state)[:, -1]
    torch.testing.assert_close(model(inputs_embeds=model.get_input_embeddings()(ids)).logits, last)
    without = headed(SEQUENCE["decoder"], pad_token_id=None)
    without.load_state_dict(model.state_dict())
    torch.testing.assert_close(without(ids).logits, last)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_classifies_as_llama_does(side, token_ids):
    torch.manual_seed(0)
    theirs = LlamaForSequenceClassification(LlamaConfig(**SMALL, pad_token_id=PAD, num_labels=3)).eval()
    ours = headed(SEQUENCE["decoder"])
    names = {"post_attention_layernorm": "mlp_norm", "input_layernorm": "self_attn_norm"}
    weights = theirs.state_dict()
    for old, new in names.items():
        weights = {name.replace(old, new): weight for name, weight in weights.items()}
    ours.load_state_dict(weights)
    batch = padded(token_ids, side, pad=PAD) | {"labels": torch.tensor([2, 0])}
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    expected, found = theirs(**batch, position_ids=positions), ours(**batch)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.loss, expected.loss)


@pytest.mark.parametrize("model_class", [SEQUENCE["decoder"], TOKENS["decoder"]])
def test_a_decoder_head_continues_from_a_cache(model_class, token_ids):
    model = headed(model_class)
    mask = torch.ones_like(token_ids)
    mask[0, :2] = 0
    whole = model(token_ids, attention_mask=mask).logits
    past = model.model(token_ids[:, :5], attention_mask=mask[:, :5], use_cache=True).past_key_values
    rest = model(token_ids[:, 5:], attention_mask=mask, past_key_values=past)
    torch.testing.assert_close(rest.logits, whole if whole.ndim == 2 else whole[:, 5:], atol=1e-5, rtol=1e-4)


def test_a_cache_is_made_where_it_is_asked_for(token_ids):
    model = headed(SEQUENCE["decoder"])
    labels = torch.tensor([0, 2])
    assert model(token_ids, use_cache=True).past_key_values.get_seq_length() == 9
    assert model(token_ids, use_cache=True, labels=labels).past_key_values.get_seq_length() == 9
    assert model(token_ids, use_cache=False).past_key_values is None
    assert model(token_ids, labels=labels).past_key_values is None


@pytest.mark.parametrize(("auto_class", "family"), HEADS)
def test_hidden_states_and_attentions_come_along(auto_class, family, token_ids):
    model = headed(AUTO[auto_class][family])
    model.set_attn_implementation("eager")
    outputs = model(token_ids, output_hidden_states=True, output_attentions=True)
    assert [states.shape for states in outputs.hidden_states] == [(2, 9, 32)] * 3
    assert [weights.shape for weights in outputs.attentions] == [(2, 4, 9, 9)] * 2
    assert isinstance(model(token_ids, return_dict=False), tuple)


@pytest.mark.parametrize(("auto_class", "family"), HEADS)
def test_segments_reach_the_base_model(auto_class, family, token_ids):
    model = headed(AUTO[auto_class][family], type_vocab_size=2)
    plain = logits_of(model(token_ids))
    segments = torch.ones_like(token_ids)
    for ours, other in zip(plain, logits_of(model(token_ids, token_type_ids=segments)), strict=True):
        assert (ours - other).abs().max() > 1e-3


@pytest.mark.parametrize(("auto_class", "family"), HEADS)
def test_dropout_of_a_head(auto_class, family):
    model_class = AUTO[auto_class][family]
    if model_class in ANSWERS.values():
        return
    assert headed(model_class, hidden_dropout=0.25).dropout.p == 0.25
    assert headed(model_class, hidden_dropout=0.25, classifier_dropout=0).dropout.p == 0
    assert headed(model_class, classifier_dropout=0.5).dropout.p == 0.5


@pytest.mark.parametrize(("auto_class", "family"), HEADS)
def test_saved_heads_load_through_their_auto_class(auto_class, family, token_ids, tmp_path):
    model = headed(AUTO[auto_class][family], **({"classifier_pooling": "mean"} if family == "encoder" else {}))
    model.save_pretrained(tmp_path)
    loaded, report = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is type(model)
    assert not any(report.values()), report
    for ours, theirs in zip(logits_of(model(token_ids)), logits_of(loaded.eval()(token_ids)), strict=True):
        assert torch.equal(ours, theirs)


def test_a_head_is_new_on_a_pretrained_base(tmp_path):
    headed(trefoil.TrefoilEncoderForMaskedLM).save_pretrained(tmp_path)
    model, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=5, output_loading_info=True)
    assert report["missing_keys"] == {
        "pooler.classifier.weight",
        "pooler.classifier.bias",
        "score.weight",
        "score.bias",
    }
    assert model.score.weight.shape == (5, 32)


# losses


@pytest.fixture
def scores():
    return 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


CLASSES = torch.tensor([0, 3, -100, 1, 2, -100])
NAN = float("nan")
SEVERAL = torch.tensor([[1, 0, 1, NAN], [NAN] * 4, [0, 0, 0, 1], [1, 1, 1, 1], [0, NAN, 0, 0], [1, 0, 0, 0.0]])
NUMBERS = torch.tensor([[0.5, -2, NAN, 7]] * 6)
PROBLEMS = {
    "single_label_classification": CLASSES,
    "multi_label_classification": SEVERAL,
    "regression": NUMBERS,
}


def torch_loss(problem_type, scores, labels, **kwargs):
    kept = labelled(labels)
    if problem_type == "single_label_classification":
        return cross_entropy(scores[kept], labels[kept], **kwargs)
    loss = mse_loss if problem_type == "regression" else binary_cross_entropy_with_logits
    return loss(scores[kept], labels[kept], **kwargs)


def test_which_labels_count():
    assert labelled(torch.tensor([1, -100, 0])).tolist() == [True, False, True]
    assert labelled(torch.tensor([1, -1]), ignore_index=-1).tolist() == [True, False]
    assert labelled(torch.tensor([1.0, -100.0, NAN])).tolist() == [True, True, False]
    assert labelled(torch.tensor([True, False])).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("problem_type", PROBLEMS)
def test_sequence_losses_are_torchs(problem_type, dtype, scores):
    labels, scores = PROBLEMS[problem_type], scores.to(dtype)
    mean = sequence_loss(scores, labels, problem_type)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean, torch_loss(problem_type, scores.float(), labels))
    count = int(labelled(labels).sum())
    for items in (count, torch.tensor(count)):
        torch.testing.assert_close(sequence_loss(scores, labels, problem_type, num_items_in_batch=items), mean)
    torch.testing.assert_close(sequence_loss(scores, labels, problem_type, num_items_in_batch=1), mean * count)


def test_label_smoothing_of_sequences(scores):
    smoothed = sequence_loss(scores, CLASSES, "single_label_classification", label_smoothing=0.2)
    torch.testing.assert_close(
        smoothed, torch_loss("single_label_classification", scores, CLASSES, label_smoothing=0.2)
    )
    smoothed = sequence_loss(scores, SEVERAL, "multi_label_classification", label_smoothing=0.2)
    torch.testing.assert_close(smoothed, torch_loss("multi_label_classification", scores, SEVERAL * 0.8 + 0.1))
    plain = sequence_loss(scores, NUMBERS, "regression")
    assert torch.equal(sequence_loss(scores, NUMBERS, "regression", label_smoothing=0.2), plain)


@pytest.mark.parametrize("problem_type", PROBLEMS)
def test_a_batch_without_labels_gives_zeros(problem_type, scores):
    labels = torch.full_like(PROBLEMS[problem_type], NAN if PROBLEMS[problem_type].is_floating_point() else -100)
    scores.requires_grad_()
    loss = sequence_loss(scores, labels, problem_type, num_items_in_batch=5, label_smoothing=0.1)
    loss.backward()
    assert loss == 0
    assert torch.equal(scores.grad, torch.zeros_like(scores))


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression"])
def test_labels_of_nan_leave_other_gradients_alone(problem_type, scores):
    labels = PROBLEMS[problem_type]
    scores.requires_grad_()
    sequence_loss(scores, labels, problem_type).backward()
    assert scores.grad.isfinite().all()
    assert (scores.grad[~labelled(labels)] == 0).all()
    assert (scores.grad[labelled(labels)] != 0).all()


@pytest.mark.parametrize(
    ("labels", "num_labels", "problem_type"),
    [
        (torch.tensor([0, 2]), 3, "single_label_classification"),
        (torch.tensor([0, 2], dtype=torch.int32), 3, "single_label_classification"),
        (torch.tensor([[0.0, 1, 1], [1, 0, 0]]), 3, "multi_label_classification"),
        (torch.tensor([0.5, 2]), 1, "regression"),
        (torch.tensor([[0.5], [2]]), 1, "regression"),
        (torch.tensor([1, 2]), 1, "regression"),
    ],
)
@pytest.mark.parametrize("family", SEQUENCE)
def test_problem_types_are_inferred(family, labels, num_labels, problem_type, token_ids):
    model = headed(SEQUENCE[family], num_labels=num_labels)
    outputs = model(token_ids, labels=labels)
    assert model.config.problem_type == problem_type
    logits = outputs.logits if labels.ndim == 2 or problem_type[0] == "s" else outputs.logits[:, 0]
    labels = labels.long() if problem_type[0] == "s" else labels.float()
    torch.testing.assert_close(outputs.loss, torch_loss(problem_type, logits, labels))


def test_a_given_problem_type_counts(token_ids):
    model = headed(SEQUENCE["encoder"], problem_type="regression")
    labels = torch.tensor([[0.5, 1, 2], [1, 1, NAN]])
    outputs = model(token_ids, labels=labels)
    torch.testing.assert_close(outputs.loss, torch_loss("regression", outputs.logits, labels))


def test_labels_of_a_wrong_number_are_refused(token_ids):
    model = headed(SEQUENCE["encoder"], problem_type="multi_label_classification")
    with pytest.raises(RuntimeError, match="shape"):
        model(token_ids, labels=torch.tensor([0.0, 1]))


@pytest.mark.parametrize("family", TOKENS)
def test_token_labels(family, token_ids):
    model = headed(TOKENS[family])
    labels = token_ids % 3
    labels[:, 4:] = -100
    outputs = model(token_ids, labels=labels)
    expected = cross_entropy(outputs.logits[:, :4].reshape(-1, 3), labels[:, :4].reshape(-1))
    torch.testing.assert_close(outputs.loss, expected)
    torch.testing.assert_close(model(token_ids, labels=labels, num_items_in_batch=4).loss, expected * 2)
    smoothed = model(token_ids, labels=labels, label_smoothing=0.2).loss
    torch.testing.assert_close(smoothed, token_cross_entropy(outputs.logits, labels, 3, label_smoothing=0.2))
    assert smoothed != expected


def test_positions_of_answers(token_ids):
    model = headed(ANSWERS["encoder"])
    starts, ends = torch.tensor([2, 4]), torch.tensor([3, 8])
    outputs = model(token_ids, start_positions=starts, end_positions=ends)
    expected = (cross_entropy(outputs.start_logits, starts) + cross_entropy(outputs.end_logits, ends)) / 2
    torch.testing.assert_close(outputs.loss, expected)
    columns = model(token_ids, start_positions=starts[:, None], end_positions=ends[:, None])
    assert torch.equal(columns.loss, outputs.loss)
    counted = model(token_ids, start_positions=starts, end_positions=ends, num_items_in_batch=4)
    torch.testing.assert_close(counted.loss, expected)
    assert model(token_ids, start_positions=starts).loss is None


@pytest.mark.parametrize("outside", [-100, 9, 500, -1])
def test_an_answer_outside_of_the_sequence_does_not_count(outside):
    generator = torch.Generator().manual_seed(0)
    start_logits, end_logits = (torch.randn(3, 9, generator=generator) for _ in range(2))
    starts, ends = torch.tensor([2, outside, 4]), torch.tensor([outside, outside, 8])
    counted = cross_entropy(start_logits[[0, 2]], starts[[0, 2]], label_smoothing=0.1, reduction="sum")
    end = cross_entropy(end_logits[2:], ends[2:], label_smoothing=0.1)
    answers = (start_logits, end_logits, starts, ends)
    found = span_cross_entropy(*answers, label_smoothing=0.1)
    torch.testing.assert_close(found, (counted / 2 + end) / 2)
    found = span_cross_entropy(*answers, num_items_in_batch=3, label_smoothing=0.1)
    torch.testing.assert_close(found, (counted + end) / 3)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("side", ["left", "right"])
def test_what_a_row_is_batched_with_does_not_change_where_its_answer_is(side, label_smoothing, token_ids):
    model = headed(ANSWERS["encoder"])
    alone = model(token_ids[:1, :5], start_positions=torch.tensor([1]), end_positions=torch.tensor([3]),
                  label_smoothing=label_smoothing).loss  # fmt: skip
    ids, mask = token_ids.clone(), torch.ones_like(token_ids)
    padding = slice(5, None) if side == "right" else slice(None, -5)
    real = slice(None, 5) if side == "right" else slice(-5, None)
    ids[0, real], ids[0, padding], mask[0, padding] = token_ids[0, :5], 0, 0
    moved = 0 if side == "right" else 4
    outside = torch.tensor([-100])
    padded = model(
        ids,
        attention_mask=mask,
        start_positions=torch.cat((torch.tensor([1 + moved]), outside)),
        end_positions=torch.cat((torch.tensor([3 + moved]), outside)),
        label_smoothing=label_smoothing,
    ).loss
    torch.testing.assert_close(padded, alone)


def test_an_answer_in_the_padding_does_not_count():
    logits = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    starts, ends = torch.tensor([4, 2]), torch.tensor([5, 3])
    found = span_cross_entropy(logits, logits, starts, ends, mask)
    torch.testing.assert_close(found, span_cross_entropy(logits[1:], logits[1:], starts[1:], ends[1:]))


def test_answers_that_are_all_outside_give_zeros(token_ids):
    model = headed(ANSWERS["encoder"])
    outside = torch.tensor([-100, 9])
    loss = model(token_ids, start_positions=outside, end_positions=outside, num_items_in_batch=4).loss
    loss.backward()
    assert loss == 0
    assert all((parameter.grad == 0).all() for parameter in model.parameters())


@pytest.mark.parametrize(("auto_class", "family"), HEADS)
def test_micro_batches_sum_to_the_whole_batch(auto_class, family, token_ids):
    model = headed(AUTO[auto_class][family])
    ids = token_ids.repeat(2, 1)[:3]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if auto_class is AutoModelForSequenceClassification:
        batch["labels"], items = torch.tensor([0, -100, 2]), 2
    elif auto_class is AutoModelForTokenClassification:
        batch["labels"], items = (ids % 3).index_fill(1, torch.tensor([0, 5]), -100), 21
    else:
        batch |= {"start_positions": torch.tensor([2, -100, 4]), "end_positions": torch.tensor([2, -100, 4])}
        items = 4
    whole = model(**batch, label_smoothing=0.1).loss
    parts = [
        model(**{key: value[rows] for key, value in batch.items()}, num_items_in_batch=items, label_smoothing=0.1).loss
        for rows in ([0], [1], [2])
    ]
    torch.testing.assert_close(sum(parts), whole)


# masked language modelling at some positions only


@pytest.mark.parametrize("variant", seldom(VARIANTS, *OFTEN["encoder"]))
def test_logits_of_masked_positions_give_the_same_loss(variant, token_ids):
    model = headed(trefoil.TrefoilEncoderForMaskedLM, **VARIANTS[variant])
    labels = token_ids.masked_fill(token_ids % 4 != 0, -100)
    masked = labels != -100
    assert 1 < masked.sum() < masked.numel()
    for kwargs in ({}, {"num_items_in_batch": 11, "label_smoothing": 0.1}):
        gradients = []
        for keep in (0, masked):
            model.zero_grad()
            outputs = model(token_ids, labels=labels, logits_to_keep=keep, **kwargs)
            outputs.loss.backward()
            gradients.append((outputs, [parameter.grad for parameter in model.parameters()]))
        (whole, expected), (kept, found) = gradients
        assert kept.logits.shape == (int(masked.sum()), SMALL["vocab_size"])
        torch.testing.assert_close(kept.logits, whole.logits[masked], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(kept.loss, whole.loss)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_labels_are_kept_with_their_logits(token_ids):
    model = headed(trefoil.TrefoilEncoderForMaskedLM)
    whole = model(token_ids).logits
    rows = torch.arange(2)[:, None]
    for keep, columns in (
        (3, torch.arange(6, 9).expand(2, 3)),
        (torch.tensor([1, 4]), torch.tensor([[1, 4]] * 2)),
        (torch.tensor([[1, 4], [2, 2]]), torch.tensor([[1, 4], [2, 2]])),
    ):
        outputs = model(token_ids, labels=token_ids, logits_to_keep=keep)
        torch.testing.assert_close(outputs.logits, whole[rows, columns], atol=1e-5, rtol=1e-5)
        expected = cross_entropy(whole[rows, columns].flatten(0, 1), token_ids[rows, columns].flatten())
        torch.testing.assert_close(outputs.loss, expected)


def test_no_masked_position_gives_zeros(token_ids):
    model = headed(trefoil.TrefoilEncoderForMaskedLM)
    labels = torch.full_like(token_ids, -100)
    outputs = model(token_ids, labels=labels, logits_to_keep=labels != -100, num_items_in_batch=5)
    outputs.loss.backward()
    assert outputs.loss == 0
    assert outputs.logits.shape == (0, SMALL["vocab_size"])
    assert all((parameter.grad == 0).all() for parameter in model.parameters())


# an encoder and a decoder, joined


@pytest.fixture
def halves(tmp_path):
    """An encoder and a decoder of different widths, depths and vocabularies, saved with heads."""

    def save(encoder_head=trefoil.TrefoilEncoderForMaskedLM, decoder_head=trefoil.TrefoilDecoderForCausalLM, **fields):
        encoder = headed(encoder_head, vocab_size=50, hidden_size=48, num_hidden_layers=3, pad_token_id=4)
        decoder = headed(decoder_head, seed=1, **fields)
        encoder.save_pretrained(tmp_path / "encoder")
        decoder.save_pretrained(tmp_path / "decoder")
        return encoder, decoder, (tmp_path / "encoder", tmp_path / "decoder")

    return save


HALF_HEADS = [
    (trefoil.TrefoilEncoderForMaskedLM, trefoil.TrefoilDecoderForCausalLM),
    (trefoil.TrefoilEncoderModel, trefoil.TrefoilDecoderModel),
    (SEQUENCE["encoder"], SEQUENCE["decoder"]),
    (ANSWERS["encoder"], TOKENS["decoder"]),
]


@pytest.mark.parametrize("heads", HALF_HEADS, ids=lambda heads: heads[0].__name__)
def test_joining_halves_keeps_their_weights(heads, halves):
    encoder, decoder, folders = halves(*heads)
    model, report = JOINED.from_encoder_decoder_pretrained(*folders, output_loading_info=True)
    for half, pretrained in ((model.model.encoder, encoder), (model.model.decoder, decoder)):
        joined = half.state_dict()
        for name, weight in pretrained.base_model.state_dict().items():
            assert torch.equal(joined[name], weight), name
    new = {name for name, _ in model.named_parameters() if "cross_attn" in name}
    assert report["missing_keys"] == new
    assert len(new) == 2 * 5
    assert not any(report[kind] for kind in report if kind != "missing_keys")
    assert model.model.decoder.layers[0].cross_attn.k_proj.weight.shape[1] == 48
    assert model.model.decoder.layers[0].cross_attn.k_proj.weight.std().item() == pytest.approx(0.2, rel=0.1)
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight
    config = model.config
    assert model.model.encoder.config is config.encoder
    assert model.model.decoder.config is config.decoder
    assert (config.decoder_start_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, PAD)
    assert config.tie_word_embeddings
    assert not config.share_encoder_decoder_embeddings


def test_a_joined_model_is_saved_loaded_and_generates(halves, token_ids, tmp_path):
    _, _, folders = halves()
    model = JOINED.from_encoder_decoder_pretrained(*folders, decoder_start_token_id=2)
    source = token_ids % 40 + 5
    assert model.generation_config.decoder_start_token_id == 2
    options = {"max_new_tokens": 6, "do_sample": False}
    found = model.generate(source, **options)
    assert (found[:, 0] == 2).all()
    model.save_pretrained(tmp_path / "joined")
    loaded, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "joined", output_loading_info=True)
    assert not any(report.values()), report
    assert torch.equal(loaded.generate(source, **options), found)
    assert loaded.lm_head.weight is loaded.model.decoder.embed_tokens.weight
    model(input_ids=source, labels=token_ids).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("was_tied", [True, False])
@pytest.mark.parametrize("tie", [True, False])
def test_the_output_projection_of_joined_halves(was_tied, tie, halves):
    _, decoder, folders = halves(tie_word_embeddings=was_tied)
    model, report = JOINED.from_encoder_decoder_pretrained(*folders, output_loading_info=True, tie_word_embeddings=tie)
    assert "lm_head.weight" not in report["missing_keys"]
    expected = decoder.model.embed_tokens.weight if tie else decoder.lm_head.weight
    assert torch.equal(model.lm_head.weight, expected)
    shared = model.lm_head.weight.data_ptr() == model.model.decoder.embed_tokens.weight.data_ptr()
    assert shared == tie


def test_an_output_projection_that_no_checkpoint_has_is_new(halves):
    _, _, folders = halves(decoder_head=trefoil.TrefoilDecoderModel, tie_word_embeddings=False)
    model, report = JOINED.from_encoder_decoder_pretrained(*folders, output_loading_info=True)
    assert not model.config.tie_word_embeddings
    assert "lm_head.weight" in report["missing_keys"]
    assert model.lm_head.weight.std().item() == pytest.approx(0.2, rel=0.1)


def test_joined_embeddings_are_shared_on_request(tmp_path):
    encoder = headed(trefoil.TrefoilEncoderForMaskedLM)
    encoder.save_pretrained(tmp_path / "encoder")
    headed(trefoil.TrefoilDecoderForCausalLM, seed=1).save_pretrained(tmp_path / "decoder")
    folders = (tmp_path / "encoder", tmp_path / "decoder")
    apart = JOINED.from_encoder_decoder_pretrained(*folders)
    assert not torch.equal(apart.model.encoder.embed_tokens.weight, apart.model.decoder.embed_tokens.weight)
    assert apart.config.decoder.cross_attention_hidden_size is None
    shared = JOINED.from_encoder_decoder_pretrained(*folders, share_encoder_decoder_embeddings=True)
    for weight in (shared.model.encoder.embed_tokens.weight, shared.lm_head.weight):
        assert weight is shared.model.decoder.embed_tokens.weight
        assert torch.equal(weight, encoder.model.embed_tokens.weight)


def test_halves_of_a_wrong_kind_are_refused(halves):
    _, _, (encoder, decoder) = halves()
    line = f"{decoder} holds a model of model_type='trefoil_decoder'; this half wants 'trefoil_encoder'"
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        JOINED.from_encoder_decoder_pretrained(decoder, decoder)
    line = f"{encoder} holds a model of model_type='trefoil_encoder'; this half wants 'trefoil_decoder'"
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        JOINED.from_encoder_decoder_pretrained(encoder, encoder)
