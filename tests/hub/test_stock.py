"""What an import and an export carry along, and what they refuse."""

import json
import subprocess
import sys

import pytest
import torch
import transformers
from conftest import tiny_config, tiny_model
from exported_models import TEXTS, exported, trained_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import trefoil
from benchmarks.stock_checkpoints import CASES, stock_model
from tests.hub.conftest import tiny_tokenizer
from trefoil.configuration.errors import UserError
from trefoil.hub.architectures import ARCHITECTURES
from trefoil.hub.stock import export_stock, import_stock, to_stock, to_trefoil

FIRST = {case.architecture: case for case in reversed(CASES) if case.says == "plain"}


@pytest.fixture
def stock_folder(tmp_path):
    """A function: architecture -> the folder of a stock checkpoint, with fields of its config.json changed."""

    def save(architecture, **fields):
        folder = tmp_path / "stock"
        stock_model(FIRST[architecture]).save_pretrained(folder)
        change_config(folder, **fields)
        return folder

    return save


def change_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def refusal(function, *arguments, **options):
    with pytest.raises(UserError) as error:
        function(*arguments, **options)
    return str(error.value)


# --- what comes along


def test_tokenizer_and_generation_settings_go_both_ways(tmp_path):
    tokenizer = tiny_tokenizer()
    config = transformers.LlamaConfig(
        **dict(ARCHITECTURES_SMALL, vocab_size=len(tokenizer)), pad_token_id=0, bos_token_id=1, eos_token_id=2
    )
    stock = transformers.LlamaForCausalLM(config)
    stock.generation_config = GenerationConfig(
        max_new_tokens=5, num_beams=2, eos_token_id=[2, 3], pad_token_id=0, repetition_penalty=1.1
    )
    stock.save_pretrained(tmp_path / "stock")
    tokenizer.save_pretrained(tmp_path / "stock")
    import_stock(tmp_path / "stock", tmp_path / "trefoil")
    export_stock(tmp_path / "trefoil", tmp_path / "exported", "llama")
    settings = GenerationConfig.from_pretrained(tmp_path / "stock")
    ids = tokenizer("세 개의 사과", return_tensors="pt").input_ids
    texts = []
    for name in ("stock", "trefoil", "exported"):
        folder = tmp_path / name
        assert GenerationConfig.from_pretrained(folder).to_diff_dict() == settings.to_diff_dict()
        loaded = AutoTokenizer.from_pretrained(folder)
        assert loaded("세 개의 사과").input_ids == ids[0].tolist()
        model = AutoModelForCausalLM.from_pretrained(folder)
        texts.append(loaded.decode(model.generate(ids, do_sample=False)[0]))
    assert len(set(texts)) == 1


ARCHITECTURES_SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def test_a_tokenizer_without_unknown_token_gets_one_and_stays_as_it_was(tmp_path):
    tokenizer = trained_tokenizer("decoder", "byte_bpe")
    assert tokenizer.unk_token is None
    model = tiny_model("decoder", vocab_size=len(tokenizer))
    folder = exported(model, tokenizer, "llama", tmp_path)
    written = AutoTokenizer.from_pretrained(folder)
    assert written.unk_token == tokenizer.eos_token
    assert (folder / "tokenizer.json").read_text() == (tmp_path / "trefoil/tokenizer.json").read_text()
    assert written(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]


def test_half_precision_stays(tmp_path, stock_folder):
    folder = stock_folder("qwen2")
    transformers.Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    converted = import_stock(folder, tmp_path / "trefoil")
    assert converted.model.dtype == torch.bfloat16
    assert {weight.dtype for weight in load_file(tmp_path / "trefoil" / "model.safetensors").values()} == {
        torch.bfloat16
    }


def test_a_checkpoint_in_several_files(tmp_path):
    stock_model(FIRST["bert"]).save_pretrained(tmp_path / "stock", max_shard_size="20KB")
    assert len(list((tmp_path / "stock").glob("*.safetensors"))) > 1
    import_stock(tmp_path / "stock", tmp_path / "trefoil")


def test_the_labels_keep_their_names(tmp_path, stock_folder):
    folder = stock_folder("bert")
    names = {0: "부정", 1: "긍정"}
    config = transformers.BertConfig.from_pretrained(folder, id2label=names, label2id={v: k for k, v in names.items()})
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    import_stock(folder, tmp_path / "trefoil")
    export_stock(tmp_path / "trefoil", tmp_path / "exported", "bert")
    for name in ("trefoil", "exported"):
        assert transformers.AutoConfig.from_pretrained(tmp_path / name).id2label == names


def test_pretraining_heads_without_counterpart_are_left_behind(tmp_path, stock_folder):
    folder = stock_folder("bert")
    transformers.BertForPreTraining(transformers.BertConfig.from_pretrained(folder)).save_pretrained(folder)
    assert type(import_stock(folder, tmp_path / "trefoil").model) is trefoil.TrefoilEncoderForMaskedLM


def test_a_bert_without_pooler_goes_both_ways(tmp_path):
    stock = transformers.BertModel(transformers.BertConfig(**ARCHITECTURES_SMALL), add_pooling_layer=False)
    stock.save_pretrained(tmp_path / "stock")
    model = import_stock(tmp_path / "stock", tmp_path / "trefoil").model
    assert not model.config.add_pooler
    (note,) = export_stock(tmp_path / "trefoil", tmp_path / "exported", "bert").notes
    assert note == "the model has no pooler; transformers draws one at random wherever it loads the checkpoint"
    weights, others = (load_file(tmp_path / name / "model.safetensors") for name in ("stock", "exported"))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())


def test_what_matters_in_training_only_is_noted(tmp_path, stock_folder):
    folder = stock_folder("gpt2", embd_pdrop=0.3)
    notes = import_stock(folder, tmp_path / "trefoil").notes
    assert notes == ["embd_pdrop=0.3 becomes 0.1, which matters in further training only"]
    model = tiny_model("decoder", hidden_dropout=0.2, tie_word_embeddings=False)
    assert to_stock(model, "llama").notes == ["hidden_dropout=0.2 becomes 0.0, which matters in further training only"]


@pytest.mark.parametrize(
    ("preset", "head", "to"),
    [
        ("bert-base", "TrefoilEncoderForMaskedLM", "bert"),
        ("gpt2", "TrefoilDecoderForCausalLM", "gpt2"),
        ("llama-like", "TrefoilDecoderForCausalLM", "llama"),
        ("decoder-tiny", "TrefoilDecoderForCausalLM", "llama"),
        ("bart-base", "TrefoilEncoderDecoderForConditionalGeneration", "bart"),
    ],
)
def test_what_was_made_here_is_exported(preset, head, to):
    sizes = ARCHITECTURES_SMALL | {"vocab_size": 67, "max_position_embeddings": 64, "num_key_value_heads": 4}
    if preset == "gpt2":
        sizes |= {"freeze_padding_embedding": False, "bos_token_id": 1, "eos_token_id": 2}
    if preset == "bart-base":
        halves = {"position_offset": 2, "lm_head_bias": True}
        sizes |= {"encoder": {"position_offset": 2}, "decoder": halves}
    torch.manual_seed(0)
    model = getattr(trefoil, head)(trefoil.preset_config(preset, **sizes))
    converted = to_stock(model, to)
    assert converted.difference < 1e-5
    assert converted.model.config.model_type == to


def test_no_stock_model_is_called_at_run_time(tmp_path, stock_folder):
    for number, architecture in enumerate(("llama", "t5")):
        import_stock(stock_folder(architecture), tmp_path / f"trefoil{number}")
    code = (
        "import sys, torch, trefoil\n"
        "from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM\n"
        f"decoder = AutoModelForCausalLM.from_pretrained({str(tmp_path / 'trefoil0')!r})\n"
        f"seq2seq = AutoModelForSeq2SeqLM.from_pretrained({str(tmp_path / 'trefoil1')!r})\n"
        "ids = torch.tensor([[5, 6, 7]])\n"
        "for model in (decoder, seq2seq):\n"
        "    model(input_ids=ids, labels=ids).loss.backward()\n"
        "    model.generate(ids, max_new_tokens=3)\n"
        f"stock = {sorted(ARCHITECTURES)!r}\n"
        "print([name for name in sys.modules for one in stock if name == f'transformers.models.{one}.modeling_{one}'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- what is refused on the way in


def test_an_unknown_architecture(tmp_path):
    transformers.ElectraConfig().save_pretrained(tmp_path / "stock")
    message = refusal(import_stock, tmp_path / "stock", tmp_path / "out")
    assert "'electra' is not one of bert, roberta" in message


def test_a_head_without_counterpart(tmp_path, stock_folder):
    folder = stock_folder("bert", architectures=["BertForMultipleChoice"])
    assert "no counterpart of BertForMultipleChoice; there is one of BertModel" in refusal(
        import_stock, folder, tmp_path / "out"
    )


@pytest.mark.parametrize(
    ("architecture", "field", "value"),
    [
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("bert", "is_decoder", True),
        ("bert", "add_cross_attention", True),
        ("roberta", "is_decoder", True),
    ],
)
def test_a_setting_without_counterpart(tmp_path, stock_folder, architecture, field, value):
    message = refusal(import_stock, stock_folder(architecture, **{field: value}), tmp_path / "out")
    assert f"{field}={value} cannot be expressed" in message
    assert not (tmp_path / "out").exists()


def test_missing_weights_are_named(tmp_path, stock_folder):
    folder = stock_folder("llama")
    change_weights(folder, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    message = refusal(import_stock, folder, tmp_path / "out")
    assert "weights are missing: model.layers.1.mlp.up_proj.weight" in message


def test_weights_of_another_shape_are_named(tmp_path, stock_folder):
    folder = stock_folder("llama", vocab_size=70)
    message = refusal(import_stock, folder, tmp_path / "out")
    assert "shapes do not fit config.json" in message
    assert "model.embed_tokens.weight" in message


def test_unknown_weights_are_named(tmp_path, stock_folder):
    folder = stock_folder("llama")
    change_weights(folder, lambda weights: weights.update({"model.layers.0.self_attn.rotor.weight": torch.ones(1)}))
    message = refusal(import_stock, folder, tmp_path / "out")
    assert "LlamaForCausalLM does not have: model.layers.0.self_attn.rotor.weight" in message


def test_nothing_is_unpickled(tmp_path, stock_folder):
    folder = stock_folder("llama")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "safetensors" in refusal(import_stock, folder, tmp_path / "out")


def test_a_tokenizer_with_more_tokens_than_the_model(tmp_path, stock_folder):
    folder = stock_folder("llama")
    tokenizer = tiny_tokenizer()
    assert len(tokenizer) > 67
    tokenizer.save_pretrained(folder)
    message = refusal(import_stock, folder, tmp_path / "out")
    assert f"the tokenizer has {len(tokenizer)} tokens, but the model's embedding only 67" in message


def test_a_source_that_is_not_there(tmp_path):
    assert str(tmp_path / "nowhere") in refusal(import_stock, tmp_path / "nowhere", tmp_path / "out")


def test_a_full_folder_is_not_overwritten(tmp_path, stock_folder):
    folder, out = stock_folder("llama"), tmp_path / "out"
    import_stock(folder, out)
    assert "is not empty" in refusal(import_stock, folder, out)
    import_stock(folder, out, overwrite=True)
    (out / "notes.txt").write_text("mine")
    assert "holds other files too" in refusal(import_stock, folder, out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


# --- what is refused on the way out


@pytest.mark.parametrize(
    ("option", "value", "has"),
    [
        ("norm_type", "layer_norm", "rms_norm"),
        ("position_embedding_type", "alibi", "rotary"),
        ("qk_norm", True, False),
        ("is_gated_act", False, True),
        ("norm_position", "post", "pre"),
        ("sliding_window", 4, None),
        ("scale_attention", False, True),
        ("attention_output_bias", True, False),
    ],
)
def test_options_that_llama_does_not_have(option, value, has):
    model = tiny_model("decoder", **{option: value})
    assert f"llama cannot express {option}={value!r}; it has {has!r}" in refusal(to_stock, model, "llama")


def test_options_that_do_not_count_are_no_obstacle():
    to_stock(tiny_model("decoder", relative_attention_num_buckets=8, norm_bias=False), "llama")


def test_halves_that_bart_does_not_have():
    half = {"norm_type": "layer_norm", "norm_eps": 1e-5, "norm_position": "post", "position_embedding_type": "learned",
            "embedding_norm": True, "is_gated_act": False, "hidden_act": "gelu", "attention_bias": True,
            "mlp_bias": True, "num_key_value_heads": 4, "position_offset": 2}  # fmt: skip
    config = tiny_config("encoder-decoder", **half)
    config.decoder.lm_head_bias = True
    torch.manual_seed(0)
    model = trefoil.TrefoilEncoderDecoderForConditionalGeneration(config)
    to_stock(model, "bart")
    model.config.encoder.hidden_act = "relu"
    assert "bart cannot express encoder.hidden_act='relu'; it has 'gelu'" in refusal(to_stock, model, "bart")


def test_an_architecture_of_another_family():
    assert "llama has no counterpart of TrefoilEncoderForMaskedLM; there is one in bert" in refusal(
        to_stock, tiny_model("encoder"), "llama"
    )


def test_a_misspelt_architecture(tmp_path):
    tiny_model("decoder").save_pretrained(tmp_path / "model")
    message = refusal(export_stock, tmp_path / "model", tmp_path / "out", "lama")
    assert "unknown architecture 'lama'; did you mean llama?" in message


def test_imported_models_can_share_embeddings_without_tying_the_output():
    case = next(case for case in CASES if "output not tied" in case.says)
    model = to_trefoil(stock_model(case)).model
    assert model.model.decoder.embed_tokens.weight is model.model.encoder.embed_tokens.weight
    assert model.lm_head.weight is not model.model.encoder.embed_tokens.weight
    model.resize_token_embeddings(80)
    assert model.model.decoder.embed_tokens.weight is model.model.encoder.embed_tokens.weight
    assert model.lm_head.weight.shape[0] == 80
