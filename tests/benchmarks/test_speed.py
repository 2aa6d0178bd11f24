"""What is timed are the runs of a pair, in turns; tables and picture hold what was measured."""

import json
import time

import numpy as np
import pytest
import torch

from benchmarks.speed import contest, generate, growth, load, models, padding, report, texts, train
from benchmarks.speed.contest import Contest, Done, Outcome, chosen, measure, peak_of

CPU = torch.device("cpu")


def test_ratios_are_of_pairs_in_turns():
    order = []

    def run(name, seconds):
        order.append(name)
        time.sleep(seconds)

    made = Contest("work", "peer", lambda device: (lambda: run("ours", 0.01), lambda: run("theirs", 0.02), 100))
    outcome = measure(made, CPU, rounds=4)
    assert order[-8:] == ["ours", "theirs", "theirs", "ours"] * 2
    low, middle, high = outcome.quartiles
    assert 1.3 < low <= middle <= high < 2.1
    assert outcome.speed == pytest.approx(100 / outcome.seconds[0], rel=0.2)


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
    assert {str(each) for each in chosen(train.contests(), "gpt2")} == {"causal-LM step, 8k words, GPT2"}
    assert len(chosen(generate.contests(), "")) == 8


@pytest.mark.slow
@pytest.mark.parametrize("each", [*train.contests(), *generate.contests()], ids=str)
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
    return models.pair(name, CPU, 64, models.Shape(width=16, layers=1, heads=2))


@pytest.mark.parametrize("name", ["Bert", "ModernBert", "Llama", "GPT2", "Marian", "Bart", "T5"])
def test_ours_computes_what_the_stock_model_does(name):
    ours, stock = contest_models(name)
    made = {"Bert": train.masked_lm, "ModernBert": train.masked_lm, "Llama": train.causal_lm, "GPT2": train.causal_lm}
    batch = made.get(name, train.text_to_text)(64, 2, 8)
    with torch.no_grad():
        torch.testing.assert_close(ours(**batch).loss, stock.eval()(**batch).loss, atol=1e-5, rtol=1e-5)


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


def test_outputs_that_differ_are_refused():
    texts.same([{"label": "a", "score": 0.50001}], [{"label": "a", "score": 0.50002}])
    with pytest.raises(ValueError, match="the outputs differ"):
        texts.same([{"label": "a", "score": 0.5}], [{"label": "b", "score": 0.5}])


@pytest.mark.slow
def test_a_checkpoint_is_loaded_without_a_second_copy():
    assert 0.5 < load.copies_of_a_checkpoint(0.3) < 1.5  # on a busy machine, the last of it may go unseen


@pytest.mark.slow
def test_memory_is_measured_in_processes_of_their_own():
    [each] = chosen(train.contests(), "causal-LM step, 32k words")
    ours, theirs = contest.in_processes_of_their_own(each, CPU)
    assert ours < 0.6 * theirs


def test_an_unknown_part(benchmark):
    benchmark("-m", "benchmarks.speed", "trian", code=2)
