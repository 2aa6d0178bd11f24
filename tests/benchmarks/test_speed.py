"""What is timed are the runs of a pair, in turns; tables and picture hold what was measured."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import trefoil
from benchmarks.speed import contest, generate, growth, libraries, load, models, padding, refill, report, texts, train
from benchmarks.speed.contest import Contest, Done, Outcome, chosen, measure, peak_of
from trefoil.configuration.presets import preset_config
from trefoil.hub.architectures import ARCHITECTURES
from trefoil.hub.stock_config import our_config

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TINY = models.Shape(width=16, layers=1, heads=2)


def test_ratios_are_of_pairs_in_turns():
    order = []

    def run(name, seconds):
        order.append(name)
        time.sleep(seconds)

    made = Contest("work", "peer", lambda device: (lambda: run("ours", 0.05), lambda: run("theirs", 0.1), 100))
    outcome = measure(made, CPU, rounds=4)
    assert order[-8:] == ["ours", "theirs", "theirs", "ours"] * 2
    low, middle, high = outcome.quartiles
    assert 1.3 < low <= middle <= high < 2.1
    assert outcome.speed == pytest.approx(100 / outcome.seconds[0], rel=0.2)


def test_one_pair_has_quartiles_too():
    made = Contest("work", "peer", lambda device: (lambda: Done(300, 1.0), lambda: Done(200, 2.0), 0))
    assert measure(made, CPU, rounds=1).quartiles == (3.0, 3.0, 3.0)


def test_runs_that_differ_say_what_they_did():
    made = Contest("work", "peer", lambda device: (lambda: Done(300, 1.0), lambda: Done(200, 2.0), 0))
    outcome = measure(made, CPU, rounds=3)
    assert (outcome.ratios, outcome.seconds, outcome.speed) == ([3.0] * 3, (1.0, 2.0), 300.0)


def test_the_peak_is_that_of_the_run():
    megabytes = 64

    def run():
        held = torch.ones(megabytes * 2**18)
        time.sleep(0.05)
        return held.sum()

    assert 0.9 * megabytes < peak_of(run, CPU) / 2**20 < 1.5 * megabytes


def test_some_are_chosen_by_their_names():
    assert {str(each) for each in chosen(train.contests(CPU), "gpt2")} == {"causal-LM step, 8k words, GPT2"}
    assert len(chosen(generate.contests(), "")) == 8


@pytest.mark.slow
@pytest.mark.parametrize("each", [*train.contests(CPU), *generate.contests(), *refill.contests()], ids=str)
def test_both_do_the_same_work(each):
    ours, theirs, tokens = each.make(CPU)
    assert tokens > 0
    ours()
    theirs()


def test_a_step_changes_the_weights():
    model, _ = contest_models("Bert")
    before = model.lm_head.weight.detach().clone()
    train.stepper(model, train.masked_lm(64, 2, 8), CPU)()
    assert not torch.equal(before, model.lm_head.weight)
    assert all(parameter.grad is None for parameter in model.parameters())


def contest_models(name):
    return models.pair(name, CPU, 64, TINY)


@pytest.mark.parametrize("name", ["Bert", "ModernBert", "Llama", "GPT2", "Marian", "Bart", "T5"])
def test_ours_computes_what_the_stock_model_does(name):
    ours, stock = contest_models(name)
    made = {"Bert": train.masked_lm, "ModernBert": train.masked_lm, "Llama": train.causal_lm, "GPT2": train.causal_lm}
    batch = made.get(name, train.text_to_text)(64, 2, 8)
    with torch.no_grad():
        torch.testing.assert_close(ours(**batch).loss, stock.eval()(**batch).loss, atol=1e-5, rtol=1e-5)


@pytest.fixture
def no_x_transformers(monkeypatch):
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)


def test_a_library_that_is_not_installed_is_left_out(no_x_transformers, capsys):
    assert not chosen(train.contests(CPU), "x-transformers")
    assert "x-transformers is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("kind", list(train.BATCHES))
@pytest.mark.parametrize("peer", list(libraries.PEERS))
def test_a_library_multiplies_as_many_matrices(peer, kind):
    if not libraries.is_installed(peer):
        pytest.skip(f"{peer} is not installed")
    ours, theirs = libraries.pair(peer, kind, CPU, 64, TINY)
    batch = train.BATCHES[kind](64, 2, 8)
    batch["labels"].clamp_(min=0)  # ours leaves out what has no label
    counts = []
    for model in (ours, theirs):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            output = model(**batch)
            assert 0 < float(output.loss) < 3 * np.log(64)
            counts.append(counter.get_total_flops())
    assert counts[0] == pytest.approx(counts[1], rel=0.05)
    sizes = [sum(weight.numel() for weight in model.parameters()) for model in (ours, theirs)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)
    train.stepper(theirs, batch, CPU)()


@pytest.mark.parametrize("kind", list(train.BATCHES))
@pytest.mark.parametrize("peer", list(libraries.PEERS))
def test_only_decoders_of_a_library_see_left_only(peer, kind):
    if not libraries.is_installed(peer):
        pytest.skip(f"{peer} is not installed")
    _, model = libraries.pair(peer, kind, CPU, 64, TINY)
    tokens = train.ids(64, 1, 8)
    others = torch.cat([tokens[:, :-1], 67 - tokens[:, -1:]], dim=1)
    options = [{"context": torch.ones(1, 4, 16)}] if kind == "text-to-text" else []
    for number, stack in enumerate(model.stacks):
        given = options[0] if number else {}
        first, second = (stack(each, **given)[0, 0] for each in (tokens, others))
        is_causal = kind == "causal-LM" or number == 1
        assert torch.allclose(first, second, atol=1e-6) is is_causal


PARAMETERS = {
    "GPT-2 124M": 124.5e6, "Llama 124M": 123.6e6, "BERT-base": 109.5e6, "Transformer-base": 63.6e6, "1B decoder": 1139e6,
}  # fmt: skip


@pytest.mark.parametrize("name", list(train.SIZES))
def test_sizes_are_those_that_they_are_named_after(name):
    size = train.SIZES[name]
    with torch.device("meta"):
        stock = models.stock_model(size.peer, size.vocab_size, size.shape)
        architecture = ARCHITECTURES[stock.config.model_type]
        [head] = [ours for ours, (theirs, _) in architecture.heads.items() if theirs == type(stock).__name__]
        ours = getattr(trefoil, head)(our_config(architecture, stock.config, {}, name))
    assert stock.num_parameters() == pytest.approx(PARAMETERS[name], rel=0.001)
    assert ours.num_parameters() == pytest.approx(PARAMETERS[name], rel=0.01)  # sinusoids are no parameters here
    assert size.length <= size.shape.positions


def test_a_gpu_trains_models_of_known_sizes(monkeypatch):
    of_gpu = {str(each) for each in train.contests(GPU)} - {str(each) for each in train.contests(CPU)}
    assert of_gpu == {
        "causal-LM step, GPT-2 124M, GPT2", "causal-LM step, Llama 124M, Llama", "masked-LM step, BERT-base, Bert",
        "text-to-text step, Transformer-base, Marian", "causal-LM step, 1B decoder, Llama",
        "causal-LM step, GPT-2 124M, both by torch.compile, GPT2",
        "causal-LM step, Llama 124M, both by torch.compile, Llama",
    }  # fmt: skip


def small(size):
    return replace(size, shape=TINY, vocab_size=64, rows=2, length=8)


@pytest.mark.parametrize("name", list(train.SIZES))
def test_models_of_known_sizes_take_steps(name, monkeypatch):
    monkeypatch.setitem(train.SIZES, name, small(train.SIZES[name]))
    ours, theirs, tokens = train.contest_of_size(name).make(CPU)
    assert tokens == 16
    ours()
    theirs()


@pytest.mark.slow
def test_what_is_compiled_is_counted_as_it_is_without(monkeypatch):
    usual = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda model: usual(model, backend="aot_eager"))  # no C++ compiler
    monkeypatch.setitem(train.SIZES, "GPT-2 124M", small(train.SIZES["GPT-2 124M"]))
    torch.compiler.reset()
    eager, compiled = (
        measure(train.contest_of_size("GPT-2 124M", is_compiled), CPU, rounds=1) for is_compiled in (False, True)
    )
    assert compiled.flops == eager.flops > 0
    assert torch._dynamo.utils.counters["frames"]["ok"] >= 2  # ours and theirs


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "question-answering"])
def test_a_stock_encoder_is_as_large_as_ours(task):
    config = trefoil.TrefoilEncoderConfig(
        vocab_size=64, hidden_size=16, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, hidden_dropout=0.2, id2label={0: "no", 1: "yes", 2: "perhaps"}, pad_token_id=3,
    )  # fmt: skip
    stock = models.counterpart(task, config)
    assert type(stock).__name__ == models.COUNTERPARTS[task]
    assert stock.config._attn_implementation == "sdpa"
    expected = {name: getattr(config, name) for name in (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "id2label",
        "pad_token_id",
    )}  # fmt: skip
    assert {name: getattr(stock.config, name) for name in expected} == expected
    assert (stock.config.hidden_dropout_prob, stock.config.attention_probs_dropout_prob) == (0.2, 0.0)
    assert numbers_in_feed_forward(stock) == numbers_in_feed_forward(trefoil.TrefoilEncoderModel(config))


def numbers_in_feed_forward(model):
    """Of the matrices whose one side is neither the width nor the vocabulary."""
    shapes = [tuple(weight.shape) for weight in model.parameters() if weight.ndim == 2]
    return sum(first * second for first, second in shapes if {first, second} & {48, 72})


@pytest.mark.parametrize("is_gated", [True, False])
def test_a_stock_encoder_decoder_is_as_large_as_ours(is_gated):
    config = preset_config(
        "encoder-decoder-tiny", vocab_size=64, hidden_size=16, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, hidden_dropout=0.2, is_gated_act=is_gated, pad_token_id=3, decoder_start_token_id=1,
    )  # fmt: skip
    stock = models.counterpart("translation", config)
    ours = trefoil.TrefoilEncoderDecoderForConditionalGeneration(config)
    assert numbers_in_feed_forward(stock) == numbers_in_feed_forward(ours)
    assert stock.config.dropout == 0.2
    ids = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
    assert [getattr(stock.config, name) for name in ids] == [getattr(config, name) for name in ids]
    assert stock(**train.text_to_text(64, 2, 8)).loss > 0


def test_the_share_of_a_published_peak_is_told_where_it_is_known(monkeypatch, capsys):
    found = report.Report(CPU)
    made = Outcome(Contest("a step", "Peer", None), [1.0], (0.5, 0.5), 5000.0, int(200e12))
    found.published_peak = report.PUBLISHED_PEAKS["NVIDIA H100 PCIe"]
    found.add_outcome("train", made)
    assert found.rows["train"][0].endswith("| 53% |")
    assert found.rows["train"][0].count("|") == found.speed_header.count("|")
    assert found.speed_header.endswith("| of published peak |")


def test_the_page_gets_its_tables_numbers_and_picture(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    page = tmp_path / "performance.md"
    page.write_text("# Speed\n<!-- table train -->\nold\n<!-- end -->\n<!-- table load -->\n<!-- end -->\nthe end\n")
    found = report.Report(CPU)
    made = Contest("a step", "Peer", None, target=1.2)
    found.add_outcome("train", Outcome(made, [1.0, 1.5, 2.0], (0.2, 0.3), 5000.0, int(found.matrix_speed * 0.1)))
    found.add_loading({"`import trefoil`": 0.05, "copies": 1.02})
    found.write(tmp_path)
    text = page.read_text()
    assert "| a step | Peer | 200.0 | 300.0 | **1.50** | 1.25 to 1.75 | 5,000 | 50% |" in text
    assert "| memory to load a checkpoint of 1 GB | 1.02 times its size |" in text
    assert "old" not in text
    assert text.endswith("the end\n")
    numbers = json.loads((tmp_path / "images" / "speed.json").read_text())
    assert numbers["found"][0]["ratios"] == [1.0, 1.5, 2.0]
    assert numbers["where"]["threads"] == torch.get_num_threads()
    assert (tmp_path / "images" / "speed.png").read_bytes()[:4] == b"\x89PNG"
    page.write_text("no places")
    with pytest.raises(ValueError, match="no place for the table 'train'"):
        found.write(tmp_path)


def test_growth_fits_a_power_of_what_changes(monkeypatch):
    monkeypatch.setattr(growth, "seconds_of", lambda length, width, layers, rows, device: 0.1 * width**2 * layers)
    found = growth.measure(CPU)
    assert {name: round(exponent, 6) for name, (_, exponent) in found.items()} == {
        "length": 0, "width": 2, "layers": 1, "rows": 0,
    }  # fmt: skip
    assert found["layers"][0][2] == 0.1 * growth.BASE["width"] ** 2 * 2


def test_a_step_that_grows_is_timed(monkeypatch):
    monkeypatch.setattr(growth, "VOCABULARY", 64)
    assert 0 < growth.seconds_of(length=8, width=64, layers=1, rows=2, device=CPU, steps=1) < 5


def test_the_share_of_padding_counts_each_side():
    lengths = np.array([[2, 1], [4, 1], [4, 3]])
    assert padding.share([np.array([0, 1, 2])], lengths) == pytest.approx(1 - 15 / (4 * 3 + 3 * 3))
    assert padding.share([np.array([0]), np.array([1]), np.array([2])], lengths) == 0


@pytest.mark.parametrize(("rows", "steps"), [(8, 80), (64, 10), (128, 5)])
def test_a_run_of_the_trainer_is_drawn_from_all_its_batches(rows, steps):
    lengths = np.arange(6000) % 50 + 1
    generator = torch.Generator().manual_seed(0)
    batches = texts.batches_of_trainer(lengths, "group_by_length", rows, generator)
    assert sorted(np.concatenate(batches)) == list(range(6000))
    drawn = texts.some(batches, lengths, generator)
    assert len(drawn) == 1 + steps  # the first is not timed
    assert {len(batch) for batch in drawn} == {rows}
    means = [lengths[batch].mean() for batch in drawn]
    assert max(means) - min(means) > 15
    assert len(texts.some(batches, lengths * 1000, generator)) == 2


def test_the_trainer_trains_a_stock_model(tmp_path, monkeypatch):
    rows = [{"text": f"{word} film {number}", "label": word} for number in range(40) for word in ("good", "bad")]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = [
        "options.names={}", "tokenizer.vocab_size=300", "model.config.hidden_size=16", "model.config.intermediate_size=48",
        "batches.tokens_per_batch=128", f"output_dir={tmp_path / 'run'}",
    ]  # fmt: skip
    monkeypatch.setitem(texts.RECIPES, "SST-2", ("encoder-text-classification-sst2", changes))
    monkeypatch.setattr(texts, "OF_TRAINER", {"rows": 16, "tokens": 1000})
    monkeypatch.setattr(texts, "STEPS", 2)
    made = {each.peer: each for each in texts.training({"SST-2": tmp_path})}
    assert list(made) == list(texts.PEERS)
    ours, theirs, _ = made["Trainer by length"].make(CPU)
    for run in (ours, theirs):
        done = run()
        assert done.tokens > 0
        assert done.seconds > 0
    shares = padding.measure({"SST-2": tmp_path})["SST-2"]
    assert len(shares) == 1 + len(texts.PEERS) == report.HEADERS["padding"].count("|") - 2


def test_outputs_that_differ_are_refused():
    texts.same([{"label": "a", "score": 0.50001}], [{"label": "a", "score": 0.50002}])
    with pytest.raises(ValueError, match="the outputs differ"):
        texts.same([{"label": "a", "score": 0.5}], [{"label": "b", "score": 0.5}])


@pytest.mark.slow
def test_a_checkpoint_is_loaded_without_a_second_copy():
    assert 0.5 < load.copies_of_a_checkpoint(0.3) < 1.5  # on a busy machine, the last of it may go unseen


@pytest.mark.slow
def test_memory_is_measured_in_processes_of_their_own():
    [each] = chosen(train.contests(CPU), "causal-LM step, 32k words")
    ours, theirs = contest.in_processes_of_their_own(each, CPU)
    assert ours < 0.6 * theirs


@pytest.mark.slow
def test_an_unknown_part(benchmark):
    benchmark("-m", "benchmarks.speed", "trian", code=2)
