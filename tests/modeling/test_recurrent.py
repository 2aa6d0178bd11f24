"""The recurrent encoder-decoder: scores and contexts by hand, its parts against the papers, its states under generation."""

import itertools
import math

import pytest
import torch
from conftest import seldom
from transformers import AutoModel, AutoModelForSeq2SeqLM

import trefoil
from trefoil.modeling.recurrent import RecurrentAttention

CELLS = ("lstm", "gru")
ATTENTIONS = ("none", "dot", "general", "concat")
SMALL = {"vocab_size": 41, "hidden_size": 16, "num_hidden_layers": 2, "initializer_range": 0.5}


def recurrent(seed=0, **fields):
    torch.manual_seed(seed)
    return trefoil.TrefoilRecurrentForConditionalGeneration(trefoil.TrefoilRecurrentConfig(**SMALL | fields)).eval()


KINDS = list(itertools.product(CELLS, ATTENTIONS, (True, False)))
OFTEN = [("gru", "none", True), ("lstm", "dot", False), ("lstm", "general", True), ("gru", "concat", False)]


@pytest.fixture(params=seldom(KINDS, *OFTEN), ids=lambda one: "-".join(map(str, one)))
def kind(request):
    return dict(zip(("cell_type", "attention_type", "bidirectional"), request.param, strict=True))


@pytest.fixture
def source():
    """Two sequences, the second of which is padded."""
    ids = torch.randint(3, 41, (2, 7), generator=torch.Generator().manual_seed(1))
    ids[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


# --- attention

QUERY = torch.tensor([[[0.7, 0.3]]])
KEYS = torch.tensor([[[0.8, 0.2], [0.1, 0.9], [0.4, 0.5]]])


def softmax(scores):
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def attended(attention, mask=None):
    """The scores, the weights, and the context that goes into the output."""
    seen = []
    attention.o_proj.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    _, weights = attention(QUERY, KEYS, mask)
    return attention.scores(QUERY, KEYS)[0, 0].tolist(), weights[0, 0, 0].tolist(), seen[0][0, 0, :2].tolist()


def test_dot_scores_by_hand():
    scores, weights, context = attended(RecurrentAttention(2, "dot"))
    # 0.7 · 0.8 + 0.3 · 0.2, and so on
    assert scores == pytest.approx([0.62, 0.34, 0.43])
    assert weights == pytest.approx(softmax([0.62, 0.34, 0.43]))
    assert context == pytest.approx([sum(w * key[dim] for w, key in zip(weights, KEYS[0].tolist(), strict=True))
                                     for dim in (0, 1)])  # fmt: skip


def test_general_scores_by_hand():
    attention = RecurrentAttention(2, "general")
    attention.q_proj.weight.data = torch.tensor([[2.0, 0.0], [1.0, -1.0]])
    # W h = (1.4, 0.4)
    assert attended(attention)[0] == pytest.approx(
        [1.4 * 0.8 + 0.4 * 0.2, 1.4 * 0.1 + 0.4 * 0.9, 1.4 * 0.4 + 0.4 * 0.5]
    )


def test_concat_scores_by_hand():
    attention = RecurrentAttention(2, "concat")
    attention.q_proj.weight.data = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    attention.k_proj.weight.data = torch.tensor([[0.5, 0.0], [0.0, 1.0]])
    attention.v_proj.weight.data = torch.tensor([[3.0, -1.0]])
    expected = [3 * math.tanh(0.7 + 0.5 * key[0]) - math.tanh(0.6 + key[1]) for key in KEYS[0].tolist()]
    assert attended(attention)[0] == pytest.approx(expected)


def test_padding_gets_no_weight():
    _, weights, _ = attended(RecurrentAttention(2, "dot"), torch.tensor([[True, False, True]]))
    assert weights == pytest.approx([*softmax([0.62, 0.43])[:1], 0.0, *softmax([0.62, 0.43])[1:]])


def test_the_attentional_state_follows_equation_5():
    attention = RecurrentAttention(2, "dot")
    output, weights = attention(QUERY, KEYS, None)
    context = weights[0] @ KEYS
    expected = torch.tanh(torch.cat((context, QUERY), dim=-1) @ attention.o_proj.weight.T)
    torch.testing.assert_close(output, expected)


# --- the model


def test_the_decoder_starts_from_the_encoder_s_last_states(source):
    model = recurrent(attention_type="none").model
    encoded = model.encoder(**source)
    assert encoded.final_states.shape == (2, 2, 2, 16)
    other = model.encoder(input_ids=source["input_ids"].flip(0), attention_mask=source["attention_mask"].flip(0))
    torch.testing.assert_close(encoded.final_states, other.final_states.flip(0))
    target = torch.tensor([[1, 5, 6]] * 2)
    first = model(**source, decoder_input_ids=target).last_hidden_state
    second = model(encoder_outputs=encoded, decoder_input_ids=target).last_hidden_state
    torch.testing.assert_close(first, second)


def test_without_attention_the_source_is_its_last_states_alone(source):
    model = recurrent(attention_type="none").model
    encoded = model.encoder(**source)
    target = torch.tensor([[1, 5, 6]] * 2)
    before = model(encoder_outputs=encoded, decoder_input_ids=target).last_hidden_state
    encoded.last_hidden_state = torch.randn_like(encoded.last_hidden_state)
    assert torch.equal(model(encoder_outputs=encoded, decoder_input_ids=target).last_hidden_state, before)


def test_padding_changes_nothing(kind, source):
    model = recurrent(**kind)
    labels = torch.tensor([[5, 6, 7, 2]] * 2)
    together = model(**source, labels=labels).logits[1]
    alone = model(input_ids=source["input_ids"][1:, :4], labels=labels[1:]).logits[0]
    torch.testing.assert_close(together, alone)


def test_a_later_token_never_changes_an_earlier_output(kind, source):
    model = recurrent(**kind)
    target = torch.tensor([[1, 5, 6, 7]] * 2)
    changed = target.clone()
    changed[:, 2] = 9
    before, after = (model(**source, decoder_input_ids=ids).logits for ids in (target, changed))
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2:], after[:, 2:])


def test_states_give_the_tokens_of_none(kind, source):
    model = recurrent(**kind)
    for options in ({"num_beams": 1}, {"num_beams": 3, "num_return_sequences": 2}):
        options |= {"max_new_tokens": 9, "do_sample": False}
        assert torch.equal(model.generate(**source, **options), model.generate(**source, **options, use_cache=False))


def test_every_weight_gets_a_gradient(kind, source):
    model = recurrent(**kind).train()
    model(**source, labels=torch.tensor([[5, 6, 7, 2]] * 2)).loss.backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    # what only the encoder's outputs would use, where the decoder has no eye on them
    assert without == []


def test_attention_and_hidden_states_are_returned(source):
    labels = torch.tensor([[5, 6, 7, 2]] * 2)
    outputs = recurrent()(**source, labels=labels, output_attentions=True, output_hidden_states=True)
    (weights,) = outputs.cross_attentions
    assert weights.shape == (2, 1, 4, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 4))
    assert (weights[1, ..., 4:] == 0).all()
    assert [states.shape for states in outputs.decoder_hidden_states] == [(2, 4, 16)] * 3
    assert [states.shape for states in outputs.encoder_hidden_states] == [(2, 7, 16)] * 3
    none = recurrent(attention_type="none")(**source, labels=labels, output_attentions=True)
    assert none.cross_attentions is None


def test_saved_and_loaded_by_the_auto_classes(kind, source, tmp_path):
    model = recurrent(**kind)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    labels = torch.tensor([[5, 6, 7, 2]] * 2)
    assert torch.equal(loaded(**source, labels=labels).logits, model(**source, labels=labels).logits)
    assert type(AutoModel.from_pretrained(tmp_path)) is trefoil.TrefoilRecurrentModel


def test_an_encoder_s_outputs_without_its_last_states_are_refused(source):
    model, labels = recurrent(), torch.tensor([[5, 6, 7, 2]] * 2)
    outputs, mask = model.get_encoder()(**source), source["attention_mask"]
    again = model(encoder_outputs=outputs, attention_mask=mask, labels=labels).logits
    assert torch.equal(again, model(**source, labels=labels).logits)
    with pytest.raises(ValueError, match="no final_states"):
        model(encoder_outputs=outputs.to_tuple(), attention_mask=mask, labels=labels)


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_are_resized(tied, source):
    model = recurrent(tie_word_embeddings=tied)
    model.resize_token_embeddings(50)
    assert model.config.vocab_size == 50
    assert model(**source, labels=torch.tensor([[49, 2]] * 2)).logits.shape == (2, 2, 50)
    shared = model.model.encoder.embed_tokens.weight is model.model.decoder.embed_tokens.weight
    assert shared == tied == (model.lm_head.weight is model.model.decoder.embed_tokens.weight)


@pytest.mark.slow
def test_it_learns_to_copy():
    model = recurrent(hidden_size=32, initializer_range=0.1).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = torch.randint(3, 41, (16, 5), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = 2
    for _ in range(150):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    assert torch.equal(model.eval().generate(ids, max_new_tokens=5, do_sample=False)[:, 1:], ids)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 7}, "hidden_size=7 must be even with bidirectional=True"),
        ({"hidden_dropout": 1.0}, r"hidden_dropout=1.0 must lie in \[0, 1\)"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0 must be positive"),
        ({"cell_type": "rnn"}, "cell_type"),
        ({"attention_type": "cosine"}, "attention_type"),
    ],
)
def test_configurations_that_do_not_fit(fields, message):
    with pytest.raises(Exception, match=message):
        trefoil.TrefoilRecurrentConfig(**fields)
