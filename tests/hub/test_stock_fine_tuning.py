"""Checkpoints with the tokenizers that they have out there are imported, trained on, published and given back."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
from stock_checkpoints import Case, stock_model
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from trefoil.hub.architectures import ARCHITECTURES
from trefoil.hub.publish import publish
from trefoil.hub.stock import export_stock, import_stock
from trefoil.recipes.schema import Recipe, build, load_recipe
from trefoil.tasks import get_task
from trefoil.training.run import train

WORDS = ["three", "apples", "two", "pears", "half", "past", "five"]
TEXTS = ["three apples two pears", "half past five", "two apples", "five pears past three"]
LETTERS = sorted(set("".join(WORDS)))
DATA = {
    "masked-lm": [{"text": text} for text in TEXTS],
    "causal-lm": [{"text": text} for text in TEXTS],
    "text-classification": [{"text": text, "label": "ab"[number % 2]} for number, text in enumerate(TEXTS)],
    "token-classification": [
        {"tokens": text.split(), "tags": ["B-X", *["O"] * (len(text.split()) - 1)]} for text in TEXTS
    ],
    "question-answering": [
        {"question": "what", "context": text, "answers": {"text": [text.split()[0]], "answer_start": [0]}}
        for text in TEXTS
    ],
    "translation": [{"source": text, "target": text[::-1]} for text in TEXTS],
}


def numbered(*tokens):
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def scored(*tokens):
    return [(token, 0.0 if token.startswith("<") else -5.0) for token in dict.fromkeys(tokens)]


BYTES = sorted(ByteLevel.alphabet())
PIECES = ["▁", *LETTERS]
LANGUAGES = ["en_XX", "de_DE"]


def word_pieces(tokenizer_class):
    pieces = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return tokenizer_class(vocab=numbered("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *pieces))


def bytes_of(tokenizer_class, *special, **options):
    return tokenizer_class(vocab=numbered(*special, *BYTES), merges=[], **options)


def pieces_of(tokenizer_class, *special, **options):
    return tokenizer_class(vocab=numbered(*special, *PIECES), merges=[], **options)


def unigrams(tokenizer_class, *special, **options):
    return tokenizer_class(vocab=scored(*special, *PIECES), **options)


def fast(*special, **names):
    """As of architectures without a tokenizer class of their own."""
    tokenizer = bytes_of(transformers.GPT2Tokenizer, *special, unk_token=names.get("unk_token", special[0]))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **names)


def modern_bert():
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return fast("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", unk_token="[UNK]", **names)


def marian():
    return fast("<pad>", "</s>", "<unk>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def olmo2():
    end = "<|endoftext|>"
    return fast(end, "<|pad|>", bos_token=end, eos_token=end, unk_token=end, pad_token="<|pad|>")


def nllb():
    special = ("<s>", "<pad>", "</s>", "<unk>")
    return pieces_of(
        transformers.NllbTokenizer, *special, src_lang="en_XX", tgt_lang="de_DE", extra_special_tokens=LANGUAGES
    )


def mbart():
    return unigrams(transformers.MBartTokenizer, "<s>", "<pad>", "</s>", "<unk>", src_lang="en_XX", tgt_lang="de_DE")


LLAMA = partial(pieces_of, transformers.LlamaTokenizer, "<unk>", "<s>", "</s>")
QWEN = partial(bytes_of, transformers.Qwen2Tokenizer, "<|endoftext|>")
ROBERTA = partial(bytes_of, transformers.RobertaTokenizer, "<s>", "<pad>", "</s>", "<unk>", "<mask>")
GEMMA = partial(pieces_of, transformers.GemmaTokenizer, "<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
TOKENIZERS = {
    "bert": partial(word_pieces, transformers.BertTokenizer),
    "distilbert": partial(word_pieces, transformers.BertTokenizer),
    "electra": partial(word_pieces, transformers.ElectraTokenizer),
    "roberta": ROBERTA,
    "xlm-roberta": partial(unigrams, transformers.XLMRobertaTokenizer, "<s>", "<pad>", "</s>", "<unk>"),
    "modernbert": modern_bert,
    "gpt2": partial(bytes_of, transformers.GPT2Tokenizer, "<|endoftext|>"),
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": QWEN,
    "qwen3": QWEN,
    "olmo2": olmo2,
    "gemma2": GEMMA,
    "gemma3_text": GEMMA,
    "phi3": LLAMA,
    "smollm3": QWEN,
    "bart": ROBERTA,
    "mbart": mbart,
    "marian": marian,
    "m2m_100": nllb,
    "pegasus": partial(unigrams, transformers.PegasusTokenizer, "<pad>", "</s>", "<unk>", "<mask_1>", "<mask_2>"),
    "t5": partial(unigrams, transformers.T5Tokenizer, "<pad>", "</s>", "<unk>"),
}

HEADS = {"encoder": "ForMaskedLM", "decoder": "ForCausalLM", "encoder-decoder": "ForConditionalGeneration"}
TASKS = {
    "encoder": ("masked-lm", "text-classification", "token-classification", "question-answering"),
    "decoder": ("causal-lm", "text-classification", "token-classification"),
    "encoder-decoder": ("translation",),
}
NAMES = ("pad_token_id", "bos_token_id", "eos_token_id")


def stock_folder(architecture, folder, head=None, **fields):
    """A small checkpoint, its tokenizer, and the ids of special tokens that such checkpoints have in config.json."""
    tokenizer = TOKENIZERS[architecture]()
    own = {"vocab_size": len(tokenizer)} | {name: getattr(tokenizer, name) for name in NAMES}
    if architecture in ("marian", "pegasus", "t5"):
        own["decoder_start_token_id"] = tokenizer.pad_token_id
    first = {"bart": "<s>", "mbart": "de_DE", "m2m_100": "de_DE"}.get(architecture)
    usual = {"gpt2": "LMHeadModel", "marian": "MTModel"}.get(architecture, HEADS[ARCHITECTURES[architecture].family])
    model = stock_model(Case(architecture, head or usual, "tokenizer", own | fields))
    if first is not None:
        model.generation_config.forced_bos_token_id = tokenizer.convert_tokens_to_ids(first)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def trained_on(source, task, folder, **options):
    """A run of two steps that starts from a model."""
    (folder / "data").mkdir(parents=True)
    for split in ("train", "validation"):
        lines = [json.dumps(row) + "\n" for row in DATA[task]]
        (folder / "data" / f"{split}.jsonl").write_text("".join(lines))
    content = {
        "task": task,
        "options": options,
        "output_dir": str(folder / "run"),
        "data": {"path": str(folder / "data"), "test_split": None},
        "model": {"init_from": str(source)},
        "training": {"max_steps": 2, "trackers": []},
        "evaluation": {"num_beams": 1, "max_new_tokens": 3},
    }
    train(build(Recipe, content, "tiny.yaml"))
    return folder / "run"


def said(folder, task):
    """Of special tokens, by the model, its generation and the tokenizer."""
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = {name: getattr(config, name, None) for name in (*NAMES, "decoder_start_token_id")}
    if task in ("causal-lm", "translation"):
        generation = GenerationConfig.from_pretrained(folder)
        ids |= {"ends": generation.eos_token_id, "first": generation.forced_bos_token_id}
    return ids, tokenizer.special_tokens_map, [tokenizer(text)["input_ids"] for text in TEXTS]


@torch.no_grad()
def output_of(folder, task):
    """Logits, or of a translation the loss, by the class that everyone loads such a model with."""
    model = get_task(task).auto_class.from_pretrained(folder)
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)(TEXTS[0])["input_ids"]])
    return model(input_ids=ids, **({"labels": ids} if task == "translation" else {}))[0]


def goes_on(stock, architecture, task, folder):
    """What was imported is trained, published and exported: special tokens are those that came in."""
    run = trained_on(folder.parent / "trefoil", task, folder)
    publish(run, folder / "published")
    assert said(folder / "published", task) == said(folder.parent / "trefoil", task)
    if not (architecture in ("olmo2", "gemma3_text") and task == "token-classification"):  # stock has no such class
        export_stock(run, folder / "exported", architecture)
        assert said(folder / "exported", task) == said(stock, task)
        outputs = [output_of(folder / name, task) for name in ("published", "exported")]
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


def goes_round(architecture, task, folder, **fields):
    stock = stock_folder(architecture, folder / "stock", **fields)
    import_stock(stock, folder / "trefoil")
    goes_on(stock, architecture, task, folder / task)


PAIRS = [(name, task) for name, architecture in ARCHITECTURES.items() for task in TASKS[architecture.family]]
QUICK = [("bert", "text-classification"), ("mbart", "translation")]


@pytest.mark.parametrize(
    ("architecture", "task"), [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow) for pair in PAIRS]
)
def test_a_checkpoint_goes_round(architecture, task, tmp_path, capsys):
    goes_round(architecture, task, tmp_path)
    filled = {"gpt2": "<|endoftext|>", **dict.fromkeys(("llama", "mistral", "phi3"), "</s>")}.get(architecture)
    line = f"the tokenizer has no padding token; batches are filled up with {filled}, which the mask hides\n"
    assert (line in capsys.readouterr().err) is (filled is not None)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["causal-lm", "text-classification"])
def test_several_ends_stay(task, tmp_path):
    goes_round("llama", task, tmp_path, eos_token_id=[2, 5])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "new", "unused"),
    [
        ("text-classification", "score.bias, score.weight", ""),
        (
            "token-classification",
            "score.bias, score.weight",
            "pooler.classifier.bias, pooler.classifier.weight",
        ),
    ],
)
def test_a_bare_bert_has_a_pooler_for_whom_it_serves(task, new, unused, tmp_path, capsys):
    import_stock(stock_folder("bert", tmp_path / "stock", head="Model"), tmp_path / "trefoil")
    trained_on(tmp_path / "trefoil", task, tmp_path)
    said = capsys.readouterr().err
    assert f"new weights, not in {tmp_path / 'trefoil'}: {new}\n" in said
    assert (
        f"weights of {tmp_path / 'trefoil'} that are not used: {unused}" in said if unused else "not used" not in said
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [[], ["model.init_from=trefoil", "model.preset=null", "model.config={}", "tokenizer={}"]]
)
def test_the_recipe_for_tags_of_one_s_own(more, tmp_path, monkeypatch):
    """Both commands of its head."""
    monkeypatch.chdir(tmp_path)
    import_stock(stock_folder("bert", tmp_path / "stock"), "trefoil")
    for split in ("train", "validation", "test"):
        Path(f"{split}.conll").write_text("three O\napples B-FRUIT\n\nhalf B-TIME\npast I-TIME\nfive I-TIME\n")
    brief = ["training.max_epochs=null", "training.max_steps=2", "training.trackers=[]", "optimization.warmup_steps=1"]
    brief += ["training.mixed_precision=null"]  # one for all that a process runs
    recipe = load_recipe("encoder-token-classification-conll", ["data.path=.", "output_dir=run", *more, *brief])
    assert {"f1"} <= train(recipe)["test"].keys()


def test_every_architecture_has_its_tokenizer():
    assert TOKENIZERS.keys() == ARCHITECTURES.keys()
