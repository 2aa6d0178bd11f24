"""The claims' measurements: what is exchanged is exchanged, what is computed by hand agrees, and figures find their place."""

import importlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from conftest import tiny_model

from benchmarks.claims import (
    alignment,
    captioning,
    context,
    cost,
    depth,
    draw,
    length,
    masking,
    positions,
    runs,
    scores,
    texts,
)
from benchmarks.claims.__main__ import CLAIMS
from trefoil.configuration.errors import UserError
from trefoil.data.embedded import shapes
from trefoil.recipes.schema import load_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for module in (runs, texts):
        monkeypatch.setattr(module, "RUNS", tmp_path)
    monkeypatch.setattr(texts, "TEXTS", tmp_path / "texts")
    made = (texts.pairs, texts.english, texts.flies)
    for one in made:
        one.cache_clear()
    yield tmp_path
    for one in made:
        one.cache_clear()


@pytest.mark.slow
def test_every_run_is_a_recipe_that_loads(folders):
    for name in CLAIMS:
        claim = importlib.import_module(f"benchmarks.claims.{name}")
        for run in claim.runs("some/data"):
            file = runs.HERE / f"{run.recipe}.yaml"
            load_recipe(file if file.is_file() else run.recipe, run.overrides)
            if run.exchange != "-":
                assert callable(runs.exchange_part(run.exchange))


@pytest.mark.slow
def test_models_that_are_compared_are_equally_large(folders):
    from transformers import AutoModelForSeq2SeqLM

    import trefoil

    for data, vocab_size in (("embedded", 1500), ("multi30k", 3000)):
        sizes = []
        for run in length.translation_runs(length.WIDTHS, "some/data"):
            if data in run.name:
                recipe = load_recipe(runs.HERE / f"{run.recipe}.yaml", run.overrides)
                config = trefoil.preset_config(recipe.model.preset, vocab_size=vocab_size, **recipe.model.config)
                with torch.device("meta"):
                    sizes.append(AutoModelForSeq2SeqLM.from_config(config).num_parameters())
        assert len(sizes) == 6
        assert max(sizes) < 1.02 * min(sizes)


def test_texts_do_not_hold_what_is_asked(folders):
    lines = [row["text"] for file in sorted(texts.flies().glob("*.jsonl")) for row in runs.read_lines(file)]
    assert not set(lines) & set(texts.TIME_AND_FRUIT)
    assert len(lines) == len(set(lines)) > 4000
    with_flies = [line for line in lines if "flies" in line.split()]
    assert {context._is_verb(line) for line in with_flies} == {True, False}
    assert context._is_verb("the bird flies like a dream")
    assert not context._is_verb("small flies like sugar at night")


@pytest.mark.slow
def test_pairs_have_the_clauses_that_they_are_tested_by(folders):
    rows = runs.read_lines(texts.pairs(1, 2) / "test.jsonl")
    assert [int(length._bucket("embedded", row["ko"])) for row in rows] == [row["clauses"] for row in rows]


@pytest.mark.slow
def test_no_clause_that_is_scored_was_learned(folders, monkeypatch):
    monkeypatch.setattr(length, "TRAINED_CLAUSES", 1)
    monkeypatch.setattr(length, "TESTED_CLAUSES", 2)
    rows = runs.read_lines(texts.pairs(1, 2) / "test.jsonl")
    learned = runs.read_lines(texts.pairs(1, 2) / "train.jsonl")[0]["ko"]
    seen = {"ko": f"{rows[0]['ko']} 그리고 {learned}"}
    kept = length._unseen([*rows, seen])
    assert seen not in kept
    assert len(kept) > len(rows) / 2


def test_scores_by_hand():
    rows = [
        {"ko": "하나 둘", "en": "one two", "prediction": "one two"},
        {"ko": "셋", "en": "three", "prediction": "three three"},
    ]
    found = length._scores(rows, "ko", "en")
    assert (found["sentences"], found["words"], found["exact_match"]) == (2, 1.5, 50)
    assert found["length"] == pytest.approx(18 / 12)


def test_copied_numbers_are_found():
    written, source = ["␣7", "3", "3", "won", "␣65"], ["65", "␣65", "␣7", "3", "원"]
    weights = torch.arange(50.0).view(1, 2, 5, 5)
    one = alignment.AttentionMap(alignment.CROSS, weights, written, source)
    assert alignment._copies(one) == [(0, 2), (4, 1)]
    assert [part.tolist() for part in alignment._weights_of_copies(one, weights.flatten(0, 1))] == [[2, 27], [21, 46]]


def test_mean_distances_leave_a_vector_and_itself_out():
    left = torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])
    right = torch.tensor([[[0.0, 1.0], [0.0, 3.0]]])
    assert context._mean_distance(left, left) == pytest.approx([0])
    assert context._mean_distance(left, right) == pytest.approx([1])


def test_a_thing_in_a_picture_is_found_by_its_colour():
    for number, order in enumerate((shapes.ROW, shapes.COLUMN) * 10):
        scene = shapes.Scene(tuple(Random(number).sample(shapes.THINGS, 2)), order)
        picture = shapes.draw_picture(scene, Random(number))
        first, second = captioning.patches_of_things(picture, scene.en, 8)
        assert first.shape == second.shape == (6, 6)
        axis = 1 if order == shapes.ROW else 0
        assert first.nonzero()[axis].max() <= second.nonzero()[axis].min()
        assert 1 <= first.sum() < 18
    (alone,) = captioning.patches_of_things(
        shapes.draw_picture(shapes.Scene(scene.things[:1], order), Random(0)), "a", 8
    )
    assert alone.any()


def test_words_that_describe_a_thing():
    text = "a large red circle left of a small blue star"
    found = [(kind, text.split()[word], thing) for kind, word, thing in captioning.named(text)]
    assert found == [
        ("size", "large", 0), ("colour", "red", 0), ("shape", "circle", 0),
        ("size", "small", 1), ("colour", "blue", 1), ("shape", "star", 1),
    ]  # fmt: skip


def test_figures_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(draw, "PICTURES", tmp_path)
    losses = {str(layers): None if layers == 24 else 1.5 for layers in depth.DEPTHS}
    depth.draw(dict.fromkeys(depth.VARIANTS, losses))
    assert "| no norms | 1.50 | 1.50 | 1.50 | diverged |" in str(depth.tables({"no norms": losses})["depth"])
    words = ["a", "circle"]
    captioning.draw({"shown": [{"picture": [[[9, 9, 9]] * 4] * 4, "words": words, "maps": [[[0.5, 0.5]] * 2] * 2}]})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["captioning.png", "depth.png"]


def test_attention_is_drawn_with_its_tokens_and_a_bar(tmp_path, monkeypatch):
    monkeypatch.setattr(draw, "PICTURES", tmp_path)
    monkeypatch.setattr(draw.plt, "close", lambda figure: None)
    weights = {"map": [[1.0, 0.0], [0.5, 0.5]], "tokens": ["a", "$b"], "curve": [[1, 7.0], [2, 6.0]]}
    masking.draw({"causal": weights, "full": weights})
    *_, shown, bar_before, bar = draw.plt.gcf().axes
    monkeypatch.undo()
    draw.plt.close("all")
    assert [label.get_text() for label in shown.get_xticklabels()] == ["a", r"\$b"]
    assert bar.get_ylabel() == bar_before.get_ylabel() == "weight"
    assert bar.get_ylim() == (0, 1)


def test_what_is_longer_than_in_training_is_shaded(tmp_path, monkeypatch):
    monkeypatch.setattr(draw, "PICTURES", tmp_path)
    monkeypatch.setattr(draw.plt, "close", lambda figure: None)
    positions.draw({"losses": {"alibi": [1.0, 1.0, 1.1], "none": [1.0, 2.0, 3.0]}})
    (axes,) = draw.plt.gcf().axes
    monkeypatch.undo()
    draw.plt.close("all")
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    assert [*named] == ["ALiBi", "no positions", "longer than in training"]
    shade = named["longer than in training"]
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == (positions.TRAINED, axes.get_xlim()[1])


def test_what_gets_no_weight_is_faded_out():
    picture = np.full((4, 4, 3), 51, dtype=np.uint8)
    assert captioning.faded(picture, np.ones((2, 2))) == pytest.approx(np.full((4, 4, 3), 0.2))
    half = captioning.faded(picture, np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert half[0, 0, 0] == pytest.approx(0.2, abs=0.05)
    assert half[0, -1, 0] == pytest.approx(captioning.FADED, abs=0.05)


def later_matters(model, token_ids):
    changed = token_ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 30 + 3
    difference = model(token_ids).logits[:, :-1] - model(changed).logits[:, :-1]
    return bool(difference.abs().max() > 1e-4)


def test_the_exchanged_mask_lets_later_tokens_in(monkeypatch, token_ids):
    decoder = masking.decoder
    assert not later_matters(tiny_model("decoder"), token_ids)
    monkeypatch.setattr(decoder, "causal_masks", decoder.causal_masks)
    monkeypatch.setattr(decoder.TrefoilDecoderModel, "is_causal", True)
    masking.see_everything()
    for implementation in ("sdpa", "eager"):
        assert later_matters(tiny_model("decoder", attn_implementation=implementation), token_ids)


def test_without_residuals_only_the_sublayers_are_left(monkeypatch, token_ids):
    layer = depth.layer.TransformerLayer
    monkeypatch.setattr(layer, "_residual", layer._residual)
    depth.without_residuals()
    model = tiny_model("encoder")
    for one in model.model.layers:
        one.mlp.down_proj.weight.data.zero_()
    assert model(token_ids, output_hidden_states=True).hidden_states[-1].abs().max() == 0


def test_without_norms_there_are_none(monkeypatch, token_ids):
    for module in (depth.layer, depth.stack):
        monkeypatch.setattr(module, "make_norm", module.make_norm)
    depth.without_norms()
    model = tiny_model("decoder")
    assert not [name for name, _ in model.named_parameters() if "norm" in name]
    assert model(token_ids).logits.isfinite().all()


def test_only_positions_break_equivariance():
    found = positions.equivariance()
    assert found.pop("none") < 1e-5
    assert min(found.values()) > 1e-2


def test_the_softmax_saturates_without_scale():
    wide, narrow = scores._softmax(256, scaled=False), scores._softmax(4, scaled=False)
    assert wide["largest"] > 0.8 > 0.3 > narrow["largest"]
    assert scores._softmax(256, scaled=True)["entropy"] == pytest.approx(math.log(64) - 0.5, abs=0.2)


def test_exponents_of_known_curves():
    points = {str(size): {"seconds": 3e-6 * size**2, "mebibytes": 0.5 * size} for size in (128, 256, 512, 1024)}
    assert cost._exponent(points, "seconds") == pytest.approx(2)
    assert cost._exponent(points, "mebibytes") == pytest.approx(1)


@pytest.mark.parametrize("name", cost.LAYERS)
def test_measured_layers_look_left_only(name):
    layer = cost.make_layer(*cost.LAYERS[name])
    states = torch.randn(1, 6, cost.WIDTH)
    changed = states.clone()
    changed[:, 4] += 1
    difference = (layer(states) - layer(changed)).abs().amax(dim=(0, 2))
    assert (difference[:4] == 0).all()
    assert (difference[4:] > 0).all()


@pytest.mark.slow
def test_memory_is_of_the_process_that_measures_not_of_the_one_that_started_it():
    held = np.ones(2**27)  # 1 GiB
    command = [sys.executable, "-m", "benchmarks.claims.cost", "attention", "512"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["mebibytes"] > 10
    assert held.any()


def test_a_grouped_cache_is_as_much_smaller_as_it_has_fewer_heads():
    sizes = cost._cache_sizes()
    assert sizes["attention"] == pytest.approx(sizes["grouped"] * cost.HEADS / cost.GROUPS)


def test_a_table_finds_its_place(tmp_path, monkeypatch):
    document = tmp_path / "attention.md"
    monkeypatch.setattr(draw, "DOCUMENT", document)
    document.write_text("before\n<!-- table one -->\nold\n<!-- end -->\nafter <!-- end -->\n", encoding="utf-8")
    for value in (1, 2):
        draw.write_table("one", draw.Table(["한글", "n"], [["가", value]]))
    expected = (
        "before\n<!-- table one -->\n| 한글 | n |\n| --- | ---: |\n| 가 | 2 |\n<!-- end -->\nafter <!-- end -->\n"
    )
    assert document.read_text(encoding="utf-8") == expected
    with pytest.raises(ValueError, match="no place for the table 'two'"):
        draw.write_table("two", draw.Table(["a"]))


@pytest.mark.slow
def test_a_run_is_trained_once_and_its_failure_said_in_a_line(folders, monkeypatch):
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    (folders / "data").mkdir()
    run = runs.Run("some/run", "language-model", (f"data.path={folders}/data", "training.max_steps=1"))
    with pytest.raises(UserError, match=r"some/run failed \(.*run\.log\): error: .*train") as failed:
        runs.train_all([run], jobs=1)
    assert "\n" not in str(failed.value)
    for split in ("train", "validation", "test"):
        texts.write_rows(folders / "data", split, [{"text": "오늘 🍎 three apples were sold at noon"}] * 30)
    small = runs.Run(
        "some/run", "language-model",
        (f"data.path={folders}/data", "training.max_steps=1", "optimization.warmup_steps=0", "tokenizer.kind=characters"),
    )  # fmt: skip
    assert set(runs.train_all([small, small], jobs=1)) == {"some/run"}
    assert small.is_finished()
    assert small.results()["steps"] == 1
    assert runs.train_all([small], jobs=1) == {}
    assert not run.is_finished()
    record = json.loads((folders / "some" / "run.run.json").read_text(encoding="utf-8"))
    assert record["overrides"] == list(small.overrides)


def test_the_tour_links_to_what_there_is():
    text = (ROOT / "docs" / "attention.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert not [link for link in links if not link.startswith("http") and not (ROOT / "docs" / link).exists()]
    code = "\n".join(
        file.read_text(encoding="utf-8")
        for folder in ("modeling", "configuration", "visualization", "tasks")
        for file in (ROOT / folder).glob("*.py")
    )
    names = {name for name in re.findall(r"`([A-Za-z_.]+)`", text) if "_" in name or name[:1].isupper()}
    assert len(names) > 10
    assert not [name for name in names if name.split(".")[-1] not in code and name not in text.split("```")[1]]


def test_a_run_that_diverges_is_a_result_where_that_is_asked(folders):
    run = runs.Run("some/run", "language-model", may_diverge=True)
    run.folder.parent.mkdir()
    log = run.folder.with_suffix(".log")
    assert not run.has_diverged()
    log.write_text("step 1\nerror: step 7: the loss is nan, so training stops here\n", encoding="utf-8")
    assert run.has_diverged()
    assert not runs.Run("some/run", "language-model").has_diverged()
    log.write_text("error: no such file\n", encoding="utf-8")
    assert not run.has_diverged()
