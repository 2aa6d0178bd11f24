import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import trefoil
from trefoil.hub.card import CardFields
from trefoil.hub.publish import publish

SENTENCES = ["세 개의 사과와 두 개의 배", "three apples and two pears", "다섯 시 반", "half past five"]
RESULT = {
    "name": "chrF",
    "type": "chrf",
    "value": 41.25,
    "dataset": {"name": "Korean expressions", "type": "embedded"},
    "split": "test",
    "signature": "nrefs:1|case:mixed|nc:6",
}
RECIPE = "seed: 7\nmodel:\n  preset: trefoil-tiny\n"


def tiny_tokenizer():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=["<pad>", "<s>", "</s>", "<unk>", "<mask>"], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def tiny_config(vocab_size):
    half = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 24,
    }
    return trefoil.TrefoilEncoderDecoderConfig(encoder=dict(half), decoder=dict(half))


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """What a run leaves behind."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = trefoil.TrefoilEncoderDecoderForConditionalGeneration(tiny_config(len(tokenizer)))
    model.generation_config.num_beams = 2
    model.generation_config.max_new_tokens = 6
    model.save_pretrained(folder)
    (folder / "results.json").write_text(json.dumps([RESULT]))
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "curve.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "optimizer.note").write_text("of no use to others")
    return folder


@pytest.fixture(scope="session")
def published(source, tmp_path_factory):
    return publish(
        source,
        tmp_path_factory.mktemp("published") / "tiny",
        card=CardFields(language=["ko", "en"], license="apache-2.0", example="세 개의 사과"),
    )
