"""What an import and an export carry along, and what they refuse."""

import json
import subprocess
import sys
from fnmatch import fnmatch

import pytest
import torch
import transformers
from conftest import tiny_config, tiny_model
from exported_models import TEXTS, exported, small_preset, trained_tokenizer
from safetensors.torch import load_file, save_file
from stock_checkpoints import CASES, SMALL, stock_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import trefoil
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
    llama = exported(tiny_model("decoder", vocab_size=len(tokenizer)), tokenizer, "llama", tmp_path / "other")
    assert AutoTokenizer.from_pretrained(llama).unk_token is None
    config = small_preset("gpt2", tokenizer)
    folder = exported(trefoil.TrefoilDecoderForCausalLM(config), tokenizer, "gpt2", tmp_path)
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_sinusoids_of_a_model_in_half_precision(dtype, tmp_path, stock_folder):
    folder = stock_folder("m2m_100")
    transformers.M2M100ForConditionalGeneration.from_pretrained(folder, dtype=dtype).save_pretrained(folder)
    converted = import_stock(folder, tmp_path / "trefoil")
    assert converted.model.dtype == dtype
    assert converted.difference < 1e-5
    ids = torch.tensor([[5, 6, 7, 8]])
    stock = transformers.M2M100ForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    logits = [model(ids, decoder_input_ids=ids).logits for model in (converted.model, stock)]
    torch.testing.assert_close(*logits, atol=0.1, rtol=0)


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
        sizes |= {"bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    model = getattr(trefoil, head)(trefoil.preset_config(preset, **sizes))
    converted = to_stock(model, to)
    assert converted.difference < 1e-5
    assert converted.model.config.model_type == to


def test_a_usual_width_that_is_said(token_ids):
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=67, n_embd=32, n_layer=1, n_head=2, n_positions=16, n_inner=128)
    stock = transformers.GPT2LMHeadModel(config).eval()
    ours = to_trefoil(stock).model
    assert torch.equal(ours(token_ids).logits, stock(token_ids).logits)


@pytest.mark.slow
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
    transformers.AlbertConfig().save_pretrained(tmp_path / "stock")
    message = refusal(import_stock, tmp_path / "stock", tmp_path / "out")
    assert "'albert' is not one of bert, roberta" in message


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
        ("electra", "add_cross_attention", True),
        ("gemma3_text", "use_bidirectional_attention", True),
    ],
)
def test_a_setting_without_counterpart(tmp_path, stock_folder, architecture, field, value):
    message = refusal(import_stock, stock_folder(architecture, **{field: value}), tmp_path / "out")
    assert f"Trefoil's {architecture} cannot express {field}={value} (it has False)" in message
    assert not (tmp_path / "out").exists()


def test_missing_weights_are_named(tmp_path, stock_folder):
    folder = stock_folder("llama")
    change_weights(folder, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    message = refusal(import_stock, folder, tmp_path / "out")
    assert "weights are missing: model.layers.1.mlp.up_proj.weight" in message


def test_weights_of_another_shape_are_named(tmp_path, stock_folder):
    folder = stock_folder("llama", vocab_size=70)
    message = refusal(import_stock, folder, tmp_path / "out")
    assert message == f"{folder / 'config.json'}: vocab_size is 70, but the weights have no tensor wider than 67"
    (folder / "config.json").write_text(
        (folder / "config.json").read_text().replace('"vocab_size": 70', '"vocab_size": 66')
    )
    message = refusal(import_stock, folder, tmp_path / "out")
    assert "shapes do not fit config.json" in message
    assert "model.embed_tokens.weight" in message


@pytest.mark.parametrize("architecture", ["marian", pytest.param("pegasus", marks=pytest.mark.slow)])
def test_computed_weights_may_be_missing_but_not_be_others(architecture, tmp_path, stock_folder):
    folder, name = stock_folder(architecture), "model.encoder.embed_positions.weight"
    change_weights(folder, lambda weights: weights.pop(name, None))
    import_stock(folder, tmp_path / "trefoil")
    change_weights(folder, lambda weights: weights.update({name: torch.randn(64, 32)}))
    message = refusal(import_stock, folder, tmp_path / "out")
    assert f"{name} are not the sinusoids that {architecture} computes" in message


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
        ("qk_norm", "head", "none"),
        ("is_gated_act", False, True),
        ("norm_position", "post", "pre"),
        ("sliding_window", 4, None),
        ("query_pre_attn_scalar", 1, 8),
        ("attention_output_bias", True, False),
    ],
)
def test_options_that_llama_does_not_have(option, value, has):
    model = tiny_model("decoder", **{option: value})
    assert f"llama cannot express {option}={value!r} (it has {has!r})" in refusal(to_stock, model, "llama")


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
    assert "bart cannot express encoder.hidden_act='relu' (it has 'gelu')" in refusal(to_stock, model, "bart")


def test_positions_that_m2m_100_and_marian_do_not_have():
    model = to_trefoil(stock_model(FIRST["m2m_100"])).model
    message = refusal(to_stock, model, "marian")
    for option in ("encoder.inclusive_sinusoids=True", "decoder.position_offset=2", "encoder.norm_position='pre'"):
        assert option in message
    model.config.decoder.position_offset = 0
    assert "m2m_100 cannot express decoder.position_offset=0 (it has 2)" in refusal(to_stock, model, "m2m_100")


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


# --- what is easily lost


@pytest.mark.parametrize("name", ["GPT2", "Llama"])
def test_classifiers_whose_padding_is_the_end(name):
    fields = dict(SMALL[name.lower()], pad_token_id=2, eos_token_id=2, num_labels=3)
    torch.manual_seed(0)
    stock = getattr(transformers, f"{name}ForSequenceClassification")(getattr(transformers, f"{name}Config")(**fields))
    ours = to_trefoil(stock.eval()).model
    ids = torch.tensor([[5, 6, 7, 2], [8, 2, 2, 2]])
    for mask in (None, torch.ones_like(ids), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])):
        torch.testing.assert_close(
            ours(input_ids=ids, attention_mask=mask).logits, stock(input_ids=ids, attention_mask=mask).logits
        )


def test_what_pipelines_read_goes_both_ways(tmp_path, stock_folder):
    tasks = {"translation_en_to_de": {"prefix": "translate English to German: ", "num_beams": 4}}
    import_stock(stock_folder("t5", task_specific_params=tasks, prefix="say: "), tmp_path / "trefoil")
    export_stock(tmp_path / "trefoil", tmp_path / "out", "t5")
    for name in ("trefoil", "out"):
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert (config["task_specific_params"], config["prefix"]) == (tasks, "say: ")


def test_what_is_left_behind_is_noted(tmp_path, stock_folder):
    folder = stock_folder("bert")
    transformers.BertForPreTraining(transformers.BertConfig.from_pretrained(folder)).save_pretrained(folder)
    (note,) = import_stock(folder, tmp_path / "trefoil").notes
    assert note.startswith("left behind, since BertForMaskedLM does not have them: ")
    assert "cls.seq_relationship.weight" in note


def test_an_electra_discriminator_is_an_encoder(tmp_path, stock_folder):
    folder = stock_folder("electra")
    stock = transformers.ElectraForPreTraining(transformers.ElectraConfig.from_pretrained(folder)).eval()
    stock.save_pretrained(folder)
    converted = import_stock(folder, tmp_path / "trefoil")
    assert type(converted.model) is trefoil.TrefoilEncoderModel
    (note,) = converted.notes
    assert note.startswith("left behind, since ElectraModel does not have them: discriminator_predictions.")
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(converted.model(ids)[0], stock.electra(ids)[0])


def test_weights_of_the_own_head_are_never_left_behind(tmp_path, stock_folder):
    folder = stock_folder("llama")
    change_weights(folder, lambda weights: weights.update({"lm_head.bias": torch.ones(67)}))
    assert "LlamaForCausalLM does not have: lm_head.bias" in refusal(import_stock, folder, tmp_path / "out")


@pytest.mark.parametrize("architecture", ["llama", pytest.param("t5", marks=pytest.mark.slow)])
def test_weights_keep_the_type_that_they_are_stored_in(architecture, tmp_path, stock_folder):
    folder = stock_folder(architecture, dtype="bfloat16")  # says one thing, holds another
    assert import_stock(folder, tmp_path / "trefoil").model.dtype == torch.float32
    halves = {name: weight.half() for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    assert import_stock(folder, tmp_path / "half").model.dtype == torch.float16
    export_stock(tmp_path / "half", tmp_path / "out", architecture)
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert written.keys() == halves.keys()
    assert all(torch.equal(written[name], weight) for name, weight in halves.items())


def test_weights_of_several_types_are_kept_in_the_widest(tmp_path, stock_folder):
    folder = stock_folder("llama")
    change_weights(folder, lambda weights: weights.update({"lm_head.weight": weights["lm_head.weight"].bfloat16()}))
    converted = import_stock(folder, tmp_path / "trefoil")
    assert converted.model.dtype == torch.float32
    assert converted.notes == ["weights of several types (BF16, F32) are all kept as torch.float32"]


def test_further_chat_templates_stay_readable(tmp_path, stock_folder):
    folder = stock_folder("llama", vocab_size=120)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**dict(SMALL["llama"], vocab_size=120)))
    model.save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    tokenizer.save_pretrained(folder)
    import_stock(folder, tmp_path / "trefoil")
    templates = tmp_path / "trefoil" / "additional_chat_templates"
    assert templates.stat().st_mode & 0o777 == 0o755
    assert AutoTokenizer.from_pretrained(tmp_path / "trefoil").chat_template == tokenizer.chat_template
    import_stock(folder, tmp_path / "trefoil", overwrite=True)


def test_two_vocabularies_can_be_overwritten(tmp_path, stock_folder):
    import_stock(stock_folder("llama"), tmp_path / "out")
    (tmp_path / "out" / "target_vocab.json").write_text("{}")
    import_stock(tmp_path / "stock", tmp_path / "out", overwrite=True)


def test_few_positions_are_enough(tmp_path, stock_folder):
    config = transformers.GPT2Config(**dict(SMALL["gpt2"], n_positions=4))
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "stock")
    import_stock(tmp_path / "stock", tmp_path / "out")


@pytest.mark.parametrize("to", ["distilbert", "modernbert"])
def test_heads_without_a_dropout_of_their_own(to):
    source = to_trefoil(stock_model(FIRST[to])).model
    source.config.classifier_dropout = None
    source.config.hidden_dropout = 0.0
    assert "classifier_dropout" not in str(to_stock(source, to).notes)


# --- what else is refused


def test_every_option_that_does_not_fit_is_named():
    message = refusal(to_stock, tiny_model("decoder", qk_norm="head", query_pre_attn_scalar=1), "llama")
    assert "query_pre_attn_scalar=1 (it has 8), qk_norm='head' (it has 'none')" in message


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}, "with a partial_rotary_factor"),
        ({"full_attention": {"rope_type": "default", "rope_theta": 1e4}}, "that differ between layer types"),
    ],
)
def test_rotary_settings_that_llama_does_not_have(rope, message):
    model = tiny_model("decoder", rope_parameters=rope)
    assert f"llama cannot express rope_parameters {message}" in refusal(to_stock, model, "llama")


def test_embeddings_of_another_width():
    model = tiny_model("encoder", "bert", type_vocab_size=2, embedding_size=16)
    assert "bert cannot express embedding_size=16 (it has 32)" in refusal(to_stock, model, "bert")


def test_an_encoder_without_segments():
    model = tiny_model("encoder", "bert", type_vocab_size=0)
    assert "bert cannot express type_vocab_size=0 (it has 1)" in refusal(to_stock, model, "bert")


@pytest.mark.parametrize(
    ("option", "value", "has"),
    [
        ("classifier_crf", True, False),
        ("ngram_sizes", [2, 3], None),
        ("matched_ngram_sizes", [2, 3], None),
        ("classifier_ngram_sizes", [1, 2], None),
    ],
)
def test_what_no_stock_tagger_has(option, value, has):
    model = tiny_model("encoder", "bert", type_vocab_size=2)
    tagger = trefoil.TrefoilEncoderForTokenClassification(
        type(model.config).from_dict(model.config.to_dict() | {option: value, "num_labels": 3})
    )
    assert f"bert cannot express {option}={value!r} (it has {has!r})" in refusal(to_stock, tagger, "bert")


def test_n_grams_beside_the_layers():
    model = tiny_model("encoder", "bert", type_vocab_size=2)
    classifier = trefoil.TrefoilEncoderForSequenceClassification(
        type(model.config).from_dict(model.config.to_dict() | {"classifier_ngram_sizes": [1, 2]})
    )
    assert "bert cannot express classifier_ngram_sizes=[1, 2]" in refusal(to_stock, classifier, "bert")


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        ("llama", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "is quantised (gptq)"),
        ("llama", {"num_attention_heads": 0}, "config.json does not describe a llama"),
        ("llama", {"hidden_size": "wide"}, "config.json does not describe a llama"),
        ("llama", {"rope_parameters": {"rope_type": "spiral", "rope_theta": 1.0}}, "spiral"),
        ("roberta", {"pad_token_id": None}, "pad_token_id=None"),
        ("m2m_100", {"pad_token_id": None}, "pad_token_id=None"),
        ("bert", {"pad_token_id": 99}, "the model does not load"),
        ("bert", {"architectures": "BertForNextSentencePrediction"}, "no counterpart of BertForNextSentencePrediction"),
        ("bert", {"architectures": None}, "names no architecture"),
    ],
)
def test_configurations_that_make_no_model(architecture, fields, message, tmp_path, stock_folder):
    told = refusal(import_stock, stock_folder(architecture, **fields), tmp_path / "out")
    assert message in told
    assert not told.endswith(":")
    assert "\n" not in told


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("generation_config.json", "{bad", "is not JSON"),
        ("config.json", "[]", "is a JSON list; it must be an object"),
        ("config.json", "{bad", "is not JSON"),
        ("tokenizer_config.json", "[]", "no tokenizer to load"),
        ("tokenizer.json", "{}", "no tokenizer to load"),
        ("model.safetensors", "no weights", "cannot be read"),
    ],
)
def test_broken_files(name, content, message, tmp_path, stock_folder):
    folder = stock_folder("llama")
    (folder / name).write_text(content)
    assert message in refusal(import_stock, folder, tmp_path / "out")


def test_a_name_on_the_hub_may_be_the_name_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "nor can it be read from the Hub" in refusal(import_stock, "some-model", "some-model")


def test_a_place_that_cannot_be_written(tmp_path, stock_folder):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(import_stock, stock_folder("llama"), tmp_path / "file" / "out")


def test_a_hub_repository_is_read_without_what_could_be_run(tmp_path, stock_folder, monkeypatch):
    folder, asked = stock_folder("llama"), []

    def snapshot_download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr("trefoil.hub.stock_checkpoint.snapshot_download", snapshot_download)
    import_stock("somebody/some-llama", tmp_path / "trefoil")
    ((name, patterns),) = asked
    assert name == "somebody/some-llama"
    assert not any(fnmatch(file, pattern) for file in ("pytorch_model.bin", "modeling_x.py") for pattern in patterns)
    assert all(
        any(fnmatch(file, pattern) for pattern in patterns)
        for file in (
            "config.json",
            "model-00001-of-00002.safetensors",
            "vocab.txt",
            "source.spm",
            "spiece.model",
            "chat_template.jinja",
        )
    )
