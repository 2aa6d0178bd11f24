import json

import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, ViTImageProcessorPil

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
RECIPE = {
    "seed": 7,
    "data": {"path": "data"},
    "model": {"preset": "encoder-decoder-tiny"},
    "training": {"max_steps": 1},
}
PNG = b"\x89PNG\r\n\x1a\n"


def tiny_tokenizer(start=""):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=["<pad>", "<s>", "</s>", "<unk>", "<mask>"], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start}$A </s>", pair=f"{start}$A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def tiny_config(vocab_size):
    half = SIZES | {"vocab_size": vocab_size, "max_position_embeddings": 24}
    return trefoil.TrefoilEncoderDecoderConfig(encoder=dict(half), decoder=dict(half))


# task of a recipe -> model class, fields of its configuration
HEADS = {
    "masked-lm": (trefoil.TrefoilEncoderForMaskedLM, {}),
    "text-classification": (trefoil.TrefoilEncoderForSequenceClassification, {"id2label": {0: "부정", 1: "긍정"}}),
    "entailment": (
        trefoil.TrefoilDecoderForSequenceClassification,
        {"id2label": {0: "contradiction", 1: "neutral", 2: "Entailment"}},
    ),
    "token-classification": (
        trefoil.TrefoilEncoderForTokenClassification,
        {"id2label": {0: "O", 1: "B-시간", 2: "I-시간"}},
    ),
    "question-answering": (trefoil.TrefoilEncoderForQuestionAnswering, {}),
    "causal-lm": (trefoil.TrefoilDecoderForCausalLM, {}),
    "bare": (trefoil.TrefoilEncoderModel, {}),
}


@pytest.fixture(scope="session")
def published_head(tmp_path_factory):
    """A function: name in HEADS -> folder of a published model."""
    folders = {}

    def make(name):
        if name not in folders:
            model_class, fields = HEADS[name]
            folder = tmp_path_factory.mktemp(f"run-{name}")
            tokenizer = tiny_tokenizer("" if name == "causal-lm" else "<s> ")
            tokenizer.save_pretrained(folder)
            fields = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": 64} | fields
            if labels := fields.get("id2label"):
                fields["label2id"] = {label: number for number, label in labels.items()}
            torch.manual_seed(0)
            model_class(model_class.config_class(**fields)).save_pretrained(folder)
            columns = {"text_pair": "hypothesis"} if name == "entailment" else {}
            task = {"entailment": "text-classification", "bare": "masked-lm"}.get(name, name)
            data = {"path": "data", "columns": columns}
            recipe = RECIPE | {"task": task, "language": ["ko"], "data": data}
            (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
            folders[name] = publish(folder, tmp_path_factory.mktemp(f"published-{name}") / "tiny")
        return folders[name]

    return make


def save_captioner(folder):
    """A model that captions pictures, as a run leaves it."""
    tokenizer = tiny_tokenizer("<s> ")
    encoder = {"model_type": "vit", "image_size": 16, "patch_size": 8, "initializer_range": 0.5}
    config = trefoil.preset_config(
        "vision-encoder-decoder-tiny",
        **SIZES,
        vocab_size=len(tokenizer),
        encoder=encoder,
        decoder={"initializer_range": 0.5, "hidden_size": 48, "max_position_embeddings": 16},
    )
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, 0, 2
    torch.manual_seed(0)
    model = trefoil.TrefoilVisionEncoderDecoderModel(config)
    model.generation_config.max_new_tokens = 6
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    recipe = RECIPE | {
        "task": "image-captioning",
        "language": ["ko"],
        "model": {"preset": "vision-encoder-decoder-tiny"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture(scope="session")
def captioner(tmp_path_factory):
    return save_captioner(tmp_path_factory.mktemp("captioner"))


@pytest.fixture(scope="session")
def published_captioner(captioner, tmp_path_factory):
    return publish(captioner, tmp_path_factory.mktemp("published-captioner") / "tiny")


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
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "curve.png").write_bytes(PNG)
    (folder / "optimizer.note").write_text("of no use to others")
    return folder


@pytest.fixture(scope="session")
def published(source, tmp_path_factory):
    return publish(
        source,
        tmp_path_factory.mktemp("published") / "tiny",
        card=CardFields(language=["ko", "en"], license="apache-2.0", example="세 개의 사과"),
    )
