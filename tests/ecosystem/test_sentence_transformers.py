"""sentence-transformers on the encoder: embeddings, saving, its trainer."""

import pytest
import torch
from conftest import tiny_config
from datasets import Dataset
from ecosystem_helpers import arguments, logged_losses, small_tokenizer

import trefoil
from trefoil.data.tokenizer import BIDIRECTIONAL

sentence_transformers = pytest.importorskip("sentence_transformers")
from sentence_transformers.sentence_transformer import losses  # noqa: E402

SENTENCES = ["a cat sat on a mat", "dogs bark", "the sun is out again today"]
PAIRS = {
    "anchor": ["cats", "dogs", "suns", "rain", "wind", "snow", "fish", "bird"],
    "positive": ["mew", "bark", "warm", "wet", "blow", "cold", "swim", "fly"],
}


@pytest.fixture
def encoder(tmp_path):
    """A folder with an encoder and a tokenizer of characters."""
    tokenizer = small_tokenizer(SENTENCES + PAIRS["anchor"] + PAIRS["positive"], BIDIRECTIONAL)
    torch.manual_seed(0)
    model = trefoil.TrefoilEncoderModel(tiny_config("encoder", vocab_size=len(tokenizer), initializer_range=0.2))
    model.save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    return model.eval(), tokenizer, str(tmp_path / "encoder")


def embedder(folder):
    modules = sentence_transformers.sentence_transformer.modules
    words = modules.Transformer(folder)
    pooling = modules.Pooling(words.get_embedding_dimension(), pooling_mode="mean")
    return sentence_transformers.SentenceTransformer(modules=[words, pooling], device="cpu")


def mean_states(model, tokenizer, sentence):
    with torch.no_grad():
        return model(**tokenizer(sentence, return_tensors="pt")).last_hidden_state[0].mean(dim=0)


def test_embeddings_are_means_of_hidden_states(encoder, tmp_path):
    model, tokenizer, folder = encoder
    expected = torch.stack([mean_states(model, tokenizer, sentence) for sentence in SENTENCES])
    ours = embedder(folder)
    assert type(ours[0].auto_model) is trefoil.TrefoilEncoderModel
    assert ours.max_seq_length == model.config.max_position_embeddings
    # sentences of different lengths in one padded batch
    torch.testing.assert_close(ours.encode(SENTENCES, convert_to_tensor=True), expected, atol=1e-5, rtol=1e-4)

    ours.save_pretrained(str(tmp_path / "saved"))
    loaded = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert type(loaded[0].auto_model) is trefoil.TrefoilEncoderModel
    torch.testing.assert_close(loaded.encode(SENTENCES, convert_to_tensor=True), expected, atol=1e-5, rtol=1e-4)


def test_a_folder_without_its_own_pooling_is_averaged(encoder):
    model, tokenizer, folder = encoder
    plain = sentence_transformers.SentenceTransformer(folder, device="cpu")
    expected = torch.stack([mean_states(model, tokenizer, sentence) for sentence in SENTENCES])
    torch.testing.assert_close(plain.encode(SENTENCES, convert_to_tensor=True), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_its_trainer_brings_pairs_together(encoder, tmp_path):
    ours = embedder(encoder[2])

    def found():
        vectors = [ours.encode(PAIRS[side], convert_to_tensor=True) for side in ("anchor", "positive")]
        return (ours.similarity(*vectors).argmax(dim=1) == torch.arange(8)).float().mean()

    before = found()
    trainer = sentence_transformers.SentenceTransformerTrainer(
        ours,
        arguments(tmp_path, sentence_transformers.SentenceTransformerTrainingArguments, max_steps=30),
        train_dataset=Dataset.from_dict(PAIRS),
        loss=losses.MultipleNegativesRankingLoss(ours),
    )
    trainer.train()
    logged = logged_losses(trainer)
    assert logged[-1] < 0.3 * logged[0]
    assert before < 0.5
    assert found() == 1
