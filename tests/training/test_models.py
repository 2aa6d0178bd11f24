"""Training that starts from other weights: what is kept, what is new, and what does not go together."""

import importlib.util
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from conftest import SMALL, tiny_model
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch._dynamo.utils import counters
from training_runs import TINY_MODEL, after_step, losses, merged, tiny_recipe, train_and_die
from transformers import (
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

import trefoil
from trefoil.configuration.errors import UserError
from trefoil.configuration.presets import preset_config
from trefoil.data.loading import load_split
from trefoil.recipes.schema import Recipe, build, validate
from trefoil.training.engine import Engine
from trefoil.training.loop import TrainingLoop
from trefoil.training.models import Told, compile_layers, make_model, pretrained_tokenizer, set_generation
from trefoil.training.run import make_reader, train

TEXTS = ["민수는 학교에 갔다", "날씨가 정말 좋다", "영화가 아주 나빴다", "사과 세 개를 샀다"]
PAIRS = [{"source": text, "target": text[::-1]} for text in TEXTS]
SENTIMENTS = [{"text": text, "label": "가나"[number % 2]} for number, text in enumerate(TEXTS)]
TOPICS = [row | {"label": "다라마"[number % 3]} for number, row in enumerate(SENTIMENTS)]
RATINGS = [row | {"label": number / 2} for number, row in enumerate(SENTIMENTS)]
TAGS = [{"tokens": text.split(), "tags": ["B-X", *["O"] * (len(text.split()) - 1)]} for text in TEXTS]
QUESTIONS = [
    {"question": "무엇?", "context": text, "answers": {"text": [text[:2]], "answer_start": [0]}} for text in TEXTS
]
DATA = {
    "masked-lm": SENTIMENTS,
    "causal-lm": SENTIMENTS,
    "text-classification": SENTIMENTS,
    "token-classification": TAGS,
    "question-answering": QUESTIONS,
    "translation": PAIRS,
}


def recipe_of(folder, task, rows=None, **changes):
    """A recipe of one step, with its data beside the run."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows or DATA[task]]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    content = {
        "task": task,
        "output_dir": str(folder / "run"),
        "data": {"path": str(folder)},
        "tokenizer": {} if "init_from" in changes["model"] or "tokenizer" in changes else {"kind": "characters"},
        "training": {"max_steps": 1, "trackers": []},
        "evaluation": {"num_beams": 1, "max_new_tokens": 3},
    }
    recipe = build(Recipe, merged(content, changes), "tiny.yaml")
    validate(recipe, "tiny.yaml")
    return recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run folders: an encoder and a decoder with the same tokenizer, and an encoder that classifies."""
    folder = tmp_path_factory.mktemp("pretrained")
    config = TINY_MODEL | {"initializer_range": 0.3, "num_hidden_layers": 2}
    encoder, decoder = ({"preset": f"{family}-tiny", "config": config} for family in ("encoder", "decoder"))
    train(recipe_of(folder / "encoder", "masked-lm", model=encoder))
    same = {"path": str(folder / "encoder" / "run" / "best")}
    train(recipe_of(folder / "decoder", "causal-lm", model=decoder, tokenizer=same))
    train(recipe_of(folder / "classifier", "text-classification", model=encoder, tokenizer=same))
    return SimpleNamespace(**{name: folder / name / "run" for name in ("encoder", "decoder", "classifier")})


def started(folder, task, source, rows=None, tokenizer=None, **model):
    """The model of a run that starts from another, before its first step."""
    source = {half: str(place) for half, place in source.items()} if isinstance(source, dict) else str(source)
    recipe = recipe_of(folder, task, rows, model={"init_from": source, **model}, tokenizer={"path": tokenizer})
    reader = make_reader(recipe)
    raw = load_split(recipe.data, "train", reader.columns(), task, seed=0)
    tokenizer = pretrained_tokenizer(recipe, reader.task)
    model = make_model(Told(reader, tokenizer, reader.learn(raw)), checkpoint=None)
    preprocessor = reader.task.preprocessor(reader, tokenizer, model.config)
    set_generation(model, preprocessor, preprocessor.encode(raw, "train"))
    return model


def assert_same_weights(model, folder):
    """Of a base model, and of what a folder holds of it."""
    expected = AutoModel.from_pretrained(folder / "best").state_dict()
    weights = model.state_dict()
    assert expected.keys() <= weights.keys()
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name


def new_weights(said):
    """What a run said of its weights."""
    (line,) = [line for line in said.splitlines() if line.startswith("new weights, not in ")]
    return set(line.rpartition(": ")[2].split(", "))


# --- another head


POOLED = {"pooler.classifier.weight", "pooler.classifier.bias", "score.weight", "score.bias"}
HEADS = [
    ("encoder", "text-classification", POOLED),
    ("encoder", "token-classification", {"score.weight", "score.bias"}),
    ("encoder", "question-answering", {"qa_outputs.weight", "qa_outputs.bias"}),
    ("decoder", "text-classification", {"score.weight"}),
    ("decoder", "token-classification", {"score.weight", "score.bias"}),
]


@pytest.mark.parametrize(("family", "task", "new"), HEADS, ids=["-".join(head[:2]) for head in HEADS])
def test_the_base_is_kept_and_the_head_is_new(trained, tmp_path, capsys, family, task, new):
    folder = getattr(trained, family)
    model = started(tmp_path, task, folder)
    assert type(model).__name__.startswith(f"Trefoil{family.title()}For")
    assert_same_weights(model.base_model, folder)
    assert {name for name, _ in model.named_parameters() if not name.startswith("model.")} == new
    said = capsys.readouterr().err
    assert f"new weights, not in {folder}: " in said
    assert new_weights(said) == new
    unused = f"weights of {folder} that are not used: lm_head.bias, transform.dense.weight, transform.norm.weight"
    assert (unused in said) is (family == "encoder")


def test_a_pretraining_on_shorter_rows_does_not_shorten_what_comes_after(trained, tmp_path):
    train(
        recipe_of(
            tmp_path / "short",
            "masked-lm",
            model={"init_from": str(trained.encoder)},
            batches={"max_source_length": 16},
        )
    )
    source = tmp_path / "short" / "run"
    assert AutoTokenizer.from_pretrained(source / "best").model_max_length == 16
    recipe = recipe_of(tmp_path / "next", "question-answering", model={"init_from": str(source)})
    reader = make_reader(recipe)
    told = Told(reader, pretrained_tokenizer(recipe, reader.task), learned={})
    model = make_model(told, checkpoint=None)
    reader.task.preprocessor(reader, told.tokenizer, model.config)
    assert told.tokenizer.model_max_length == TINY_MODEL["max_position_embeddings"]


def test_a_run_keeps_the_tokenizer_and_learns_the_new_head(trained, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(
        TrainingLoop,
        "__init__",
        lambda self, *arguments, begin=TrainingLoop.__init__: (
            begun.append({name: tensor.clone() for name, tensor in arguments[3].state_dict().items()}),
            begin(self, *arguments),
        )[1],
    )
    # characters that the pretraining has not seen
    rows = [row | {"text": f"{row['text']} zq"} for row in SENTIMENTS]
    model, optimization = {"init_from": str(trained.encoder)}, {"warmup_steps": 0}
    train(recipe_of(tmp_path, "text-classification", rows, model=model, optimization=optimization))
    before, after = (AutoTokenizer.from_pretrained(run / "best") for run in (trained.encoder, tmp_path / "run"))
    assert after.get_vocab() == before.get_vocab()
    assert after("학교에 갔다 zq")["input_ids"] == before("학교에 갔다 zq")["input_ids"]
    assert not (tmp_path / "run" / "tokenizer").exists()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "best")
    assert not torch.equal(model.score.weight, begun[0]["score.weight"])
    assert model.config.id2label == {0: "가", 1: "나"}


# --- a head that is there already


@pytest.mark.parametrize(
    ("rows", "labels"), [(SENTIMENTS, ["가", "나"]), (TOPICS, ["다", "라", "마"]), (RATINGS, ["LABEL_0"])]
)
def test_a_head_is_kept_if_the_labels_are_the_same(trained, tmp_path, capsys, rows, labels):
    model = started(tmp_path, "text-classification", trained.classifier, rows)
    assert_same_weights(model.base_model, trained.classifier)
    assert list(model.config.id2label.values()) == labels
    assert model.score.weight.shape == (len(labels), TINY_MODEL["hidden_size"])
    said = capsys.readouterr().err
    if rows is SENTIMENTS:
        assert "new weights" not in said
        before = AutoModelForSequenceClassification.from_pretrained(trained.classifier / "best")
        assert torch.equal(model.score.weight, before.score.weight)
        assert torch.equal(model.pooler.classifier.weight, before.pooler.classifier.weight)
    else:
        assert new_weights(said) == POOLED


def test_labels_in_another_order_are_the_same_labels(trained, tmp_path):
    rows = [row | {"label": {"가": "나", "나": "가"}[row["label"]]} for row in SENTIMENTS]
    model = started(tmp_path, "text-classification", trained.classifier, rows)
    assert model.config.id2label == {0: "가", 1: "나"}


# --- an encoder and a decoder, joined


def test_both_halves_are_kept_and_cross_attention_is_new(trained, tmp_path, capsys):
    model = started(tmp_path, "translation", {"encoder": trained.encoder, "decoder": trained.decoder})
    assert type(model) is trefoil.TrefoilEncoderDecoderForConditionalGeneration
    assert_same_weights(model.model.encoder, trained.encoder)
    assert_same_weights(model.model.decoder, trained.decoder)
    new = {name for name, _ in model.named_parameters() if "cross_attn" in name}
    assert len(new) == 2 * 5
    assert new_weights(capsys.readouterr().err) == new


@pytest.mark.parametrize(
    ("fields", "dropouts"),
    [
        ({"hidden_dropout": 0.3}, (0.3, 0.3)),
        ({"decoder": {"hidden_dropout": 0.4}}, (0.1, 0.4)),
        ({"share_encoder_decoder_embeddings": True, "encoder": {"hidden_dropout": 0.2}}, (0.2, 0.1)),
    ],
)
def test_fields_of_the_halves_can_be_changed(trained, tmp_path, fields, dropouts):
    source = {"encoder": trained.encoder, "decoder": trained.decoder}
    model = started(tmp_path, "translation", source, config=fields)
    for half, dropout in zip((model.model.encoder, model.model.decoder), dropouts, strict=True):
        assert half.config.hidden_dropout == dropout
        assert {layer.dropout.p for layer in half.layers} == {dropout}
    assert_same_weights(model.model.encoder, trained.encoder)
    if "share_encoder_decoder_embeddings" in fields:
        assert model.model.decoder.embed_tokens.weight is model.model.encoder.embed_tokens.weight
    else:
        assert_same_weights(model.model.decoder, trained.decoder)


def test_layers_that_neither_half_has_are_new(trained, tmp_path, capsys):
    source = {"encoder": trained.encoder, "decoder": trained.decoder}
    model = started(tmp_path, "translation", source, config={"encoder": {"num_hidden_layers": 3}})
    assert_same_weights(model.model.encoder, trained.encoder)
    added = {name for name, _ in model.named_parameters() if "encoder.layers.2." in name}
    assert added
    assert new_weights(capsys.readouterr().err) == added | {n for n, _ in model.named_parameters() if "cross_attn" in n}


def test_a_joined_model_is_trained(trained, tmp_path):
    source = {"encoder": str(trained.encoder), "decoder": str(trained.decoder)}
    results = train(recipe_of(tmp_path, "translation", model={"init_from": source}))
    assert {"bleu", "chrf"} <= results["test"].keys()
    before, after = (AutoTokenizer.from_pretrained(run / "best") for run in (trained.encoder, tmp_path / "run"))
    assert after.get_vocab() == before.get_vocab()


# --- what does not go together


@pytest.fixture(scope="module")
def of_another_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    model = {"preset": "decoder-tiny", "config": dict(TINY_MODEL)}
    train(recipe_of(folder, "causal-lm", [{"text": "다른 글자"}], model=model))
    return folder / "run"


def test_halves_with_different_tokenizers_are_refused(trained, of_another_tokenizer, tmp_path):
    source = {"encoder": str(trained.encoder), "decoder": str(of_another_tokenizer)}
    with pytest.raises(UserError) as error:
        train(recipe_of(tmp_path, "translation", model={"init_from": source}))
    assert str(error.value) == (
        f"model.init_from: the tokenizers of {trained.encoder} and {of_another_tokenizer} differ; "
        "train both models with one (tokenizer.path)"
    )


@pytest.mark.parametrize(
    ("task", "source", "message"),
    [
        ("translation", "encoder", "is a trefoil_encoder; the task translation needs trefoil_encoder_decoder or trefoil_recurrent"),
        ("masked-lm", "decoder", "is a trefoil_decoder; the task masked-lm needs trefoil_encoder"),
        ("causal-lm", "encoder", "is a trefoil_encoder; the task causal-lm needs trefoil_decoder"),
        ("question-answering", "decoder", "is a trefoil_decoder; the task question-answering needs trefoil_encoder"),
        ("text-classification", ("encoder", "decoder"),
         "is a trefoil_encoder_decoder; the task text-classification needs trefoil_encoder or trefoil_decoder"),
        ("translation", ("decoder", "encoder"),
         "holds a model of model_type='trefoil_decoder'; this half wants 'trefoil_encoder'"),
    ],
)  # fmt: skip
def test_a_model_of_another_family_is_refused(trained, tmp_path, task, source, message):
    if isinstance(source, tuple):
        place = {half: getattr(trained, of) for half, of in zip(("encoder", "decoder"), source, strict=True)}
    else:
        place = getattr(trained, source)
    with pytest.raises(UserError) as error:
        started(tmp_path, task, place)
    assert str(error.value).startswith("model.init_from=")
    assert str(error.value).endswith(message)


@pytest.mark.parametrize("source", [{"encoder": "one"}, {"encoder": "one", "dekoder": "other"}, {}])
def test_half_an_encoder_decoder_is_refused(tmp_path, source):
    with pytest.raises(UserError, match=r"model.init_from={.*} must name one encoder and one decoder, or be the place"):
        recipe_of(tmp_path, "translation", model={"init_from": source})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hiden_dropout": 0.1}, "unknown field 'hiden_dropout' of TrefoilEncoderDecoderConfig"),
        ({"encoder": {"hidden_size": 64}}, r"embed_tokens.weight is \(\d+, 32\) there, and \(\d+, 64\) in this model"),
        ({"hidden_dropout": "much"}, "hidden_dropout"),
    ],
)
def test_wrong_changes_of_joined_halves_are_refused(trained, tmp_path, fields, message):
    source = {"encoder": trained.encoder, "decoder": trained.decoder}
    with pytest.raises(UserError, match=message) as error:
        started(tmp_path, "translation", source, config=fields)
    assert "\n" not in str(error.value)


def test_settings_of_generation_are_kept_where_the_task_has_none(tmp_path):
    preset = {"preset": "encoder-decoder-tiny", "config": TINY_MODEL}
    train(recipe_of(tmp_path / "first", "translation", model=preset))
    best = tmp_path / "first" / "run" / "best"
    settings = GenerationConfig.from_pretrained(best)
    settings.update(
        bad_words_ids=[[7]],
        forced_eos_token_id=2,
        num_beams=6,
        max_length=99,
        do_sample=True,
        top_k=9,
        eos_token_id=[2, 5],
    )
    settings.save_pretrained(best)
    found = started(tmp_path / "second", "translation", best.parent).generation_config
    assert (found.bad_words_ids, found.forced_eos_token_id, found.eos_token_id) == ([[7]], 2, [2, 5])
    assert found.num_beams == recipe_of(tmp_path, "translation", model=preset).evaluation.num_beams
    assert found.max_length is None
    assert not found.do_sample


@pytest.mark.parametrize("task", ["translation", "causal-lm"])
def test_another_tokenizer_brings_its_own_token_ids(tmp_path, task):
    family = {"translation": "encoder-decoder", "causal-lm": "decoder"}[task]
    train(recipe_of(tmp_path / "first", task, model={"preset": f"{family}-tiny", "config": TINY_MODEL}))
    best = tmp_path / "first" / "run" / "best"
    settings = GenerationConfig.from_pretrained(best)
    settings.update(bad_words_ids=[[7]], eos_token_id=[2, 5])
    settings.save_pretrained(best)
    config = json.loads((best / "config.json").read_text())
    (best / "config.json").write_text(json.dumps(config | {"eos_token_id": [2, 5]}))
    words = {token: number for number, token in enumerate(["<unk>", "a", "</s>", "<pad>"])}  # and no start
    other = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<unk>")), unk_token="<unk>", eos_token="</s>", pad_token="<pad>"
    )  # fmt: skip
    other.save_pretrained(tmp_path / "other")

    def ids(found):
        return (
            found.pad_token_id,
            found.bos_token_id,
            found.eos_token_id,
            getattr(found, "decoder_start_token_id", None),
        )

    model = started(tmp_path / "second", task, best, tokenizer=str(tmp_path / "other"))
    assert ids(model.config) == ids(model.generation_config) == (3, None, 2, 3 if task == "translation" else None)
    assert model.generation_config.bad_words_ids is None
    same = started(tmp_path / "third", task, best, tokenizer=str(best))
    assert same.config.eos_token_id == same.generation_config.eos_token_id == [2, 5]
    assert same.generation_config.bad_words_ids == [[7]]


# --- compiled layers


@pytest.fixture
def backend(monkeypatch):
    """Says what compiles: torch's default generates code, which takes long."""

    def compile_by(name):
        torch._dynamo.reset()
        compile_in_place = torch.nn.Module.compile
        monkeypatch.setattr(
            torch.nn.Module, "compile", lambda module, **how: compile_in_place(module, **how | {"backend": name})
        )

    yield compile_by
    torch._dynamo.reset()


def step_of(model, rows, length):
    """Of a batch with padding: the loss; gradients are added up."""
    ids = torch.randint(3, SMALL["vocab_size"], (rows, length), generator=torch.Generator().manual_seed(length))
    mask = torch.ones_like(ids)
    mask[-1, -2:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    loss = model(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=rows * length + 0.5).loss
    loss.backward()
    return loss.item()


@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_layer_is_compiled_once_for_batches_of_every_shape(backend, checkpointing):
    backend("eager")  # what is traced is the same
    plain, compiled = (tiny_model("decoder", num_hidden_layers=3).train() for _ in range(2))
    if checkpointing:
        compiled.activation_checkpointing_enable()
    compile_layers(compiled)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    counters.clear()
    shapes = [(4, 9), (7, 12), (3, 30), (2, 45), (11, 8), (5, 21), (6, 6), (9, 10), (8, 25), (2, 60), (13, 5), (30, 4)]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for rows, length in shapes:
            assert step_of(compiled, rows, length) == pytest.approx(step_of(plain, rows, length), abs=1e-4)
    assert counters["stats"]["unique_graphs"] == 1
    for one, other in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_generated_code_of_a_layer_gives_the_same_losses():
    torch._dynamo.reset()
    plain, compiled = (tiny_model("decoder").train() for _ in range(2))
    compile_layers(compiled)
    for rows, length in ((4, 9), (7, 12), (3, 30)):
        assert step_of(compiled, rows, length) == pytest.approx(step_of(plain, rows, length), abs=1e-4)


@pytest.mark.slow
def test_a_compiled_run_goes_on_to_the_losses_of_one_that_is_not(backend, tmp_path, monkeypatch):
    backend("eager")
    model = {"config": {"hidden_dropout": 0.0}}  # compiled, torch draws other numbers
    train(tiny_recipe(tmp_path / "plain", model=model))
    train_and_die(monkeypatch, tiny_recipe(tmp_path / "run", model=model, training={"compile": True}), after_step(7))
    train(tiny_recipe(tmp_path / "run", model=model, training={"compile": True}))
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "plain"), abs=1e-4)
    ours, theirs = (load_file(tmp_path / run / "best" / "model.safetensors") for run in ("run", "plain"))
    assert ours.keys() == theirs.keys()


def test_what_is_evaluated_is_not_compiled(backend):
    backend("eager")
    model = tiny_model("decoder")
    compile_layers(model)
    engine = Engine(Accelerator())
    engine.model = model
    counters.clear()
    with engine.whole() as whole, torch.no_grad():
        whole.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3, do_sample=False)
    assert "unique_graphs" not in counters["stats"]


def test_a_model_without_layers_is_not_compiled():
    config = preset_config("recurrent-tiny", vocab_size=50)
    with pytest.raises(UserError, match="layers of transformers, which a trefoil_recurrent has not; set it to false"):
        compile_layers(AutoModelForSeq2SeqLM.from_config(config))


# --- what no machine has


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"num_hidden_layers": 10**12},
            "model: a model with hidden_size=32, .*num_hidden_layers=1,000,000,000,000, .* takes",
        ),
        (
            {"vocab_size": 10**12},
            "model: a model with .*vocab_size=1,000,000,000,000 takes [0-9,.]+ GB of memory at least, and",
        ),
        (
            {"decoder": {"intermediate_size": 10**14}},
            "model: a model with .*intermediate_size=100,000,000,000,000 takes",
        ),
        ({"hidden_size": -32}, "model: hidden_size=-32 must be positive"),
        ({"num_hidden_layers": -1}, "model: num_hidden_layers=-1 must be positive"),
    ],
)
def test_sizes_that_cannot_be_are_refused_before_anything_is_made(tmp_path, fields, message):
    with pytest.raises(UserError, match=message) as caught:
        train(tiny_recipe(tmp_path / "run", model={"config": fields}))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="it is installed")
def test_an_attention_that_is_not_installed_is_a_line(tmp_path):
    recipe = tiny_recipe(tmp_path / "run", model={"attn_implementation": "flash_attention_2"})
    with pytest.raises(
        UserError, match=r"model: FlashAttention2 .*the package for FlashAttention2 doesn't seem to be"
    ) as caught:
        train(recipe)
    assert "\n" not in str(caught.value)
