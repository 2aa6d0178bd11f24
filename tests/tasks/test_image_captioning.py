"""Captions: a run learns to say what is in pictures that combine what it never saw together; bad pictures are named."""

import json
import shutil
from io import BytesIO
from itertools import combinations
from random import Random

import datasets
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from task_parts import reader_for
from training_runs import losses, merged
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, ViTConfig, ViTModel

import trefoil
from trefoil.cli import main
from trefoil.configuration.errors import UserError
from trefoil.data.embedded.shapes import COLUMN, ROW, THINGS, Scene, draw_picture, png
from trefoil.data.tokenizer import train_tokenizer
from trefoil.hub.publish import publish
from trefoil.modeling.vision_encoder_decoder import TrefoilVisionEncoderDecoderModel
from trefoil.recipes.schema import Recipe, build, validate
from trefoil.runs import summary
from trefoil.tasks.image_captioning import IMAGE_CAPTIONING
from trefoil.training.models import Told, make_model, pretrained_tokenizer
from trefoil.training.run import evaluate, train

# circles in six colours, two in a picture; three of the fifteen pairs are never shown in training
WORLD = [thing for thing in THINGS if thing.size.en == "large" and thing.shape.en == "circle"]
PAIRS = list(combinations(WORLD, 2))
UNSEEN = [PAIRS[3], PAIRS[7], PAIRS[11]]


def recipe_of(output_dir, **changes):
    content = {
        "task": "image-captioning",
        "output_dir": str(output_dir),
        "options": {"image_mean": [0.87, 0.87, 0.87], "image_std": [1, 1, 1]},
        "data": {"path": "data"},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 67},
        "model": {
            "preset": "vision-encoder-decoder-tiny",
            "config": {
                "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
                "max_position_embeddings": 32, "encoder": {"image_size": 48, "patch_size": 8},
            },
        },
        "batches": {"tokens_per_batch": 2000},
        "optimization": {"optimizer": "muon", "learning_rate": 3e-3, "warmup_steps": 20, "schedule": "linear"},
        "training": {"max_steps": 240, "log_every": 1, "evaluate_every": 1000, "trackers": []},
        "evaluation": {"num_beams": 1, "max_new_tokens": 8},
    }  # fmt: skip
    recipe = build(Recipe, merged(content, changes), "tiny.yaml")
    validate(recipe, "tiny.yaml")
    return recipe


def write_pictures(folder, train):
    """Pictures as files, named in JSON lines."""
    (folder / "pictures").mkdir()
    seen = [pair for pair in PAIRS if pair not in UNSEEN]
    for split, pairs, number in (("train", seen, train), ("validation", seen, 30), ("test", UNSEEN, 60)):
        rng, lines = Random(split), []
        for index in range(number):
            scene = Scene(tuple(rng.sample(rng.choice(pairs), 2)), rng.choice((ROW, COLUMN)))
            name = f"pictures/{split}-{index}.png"
            (folder / name).write_bytes(png(draw_picture(scene, rng)))
            caption = f" {scene.order.en} ".join(thing.colour.en for thing in scene.things)  # red above blue
            lines.append(json.dumps({"image": name, "text": caption}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("shapes"), train=200)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    run_folder = tmp_path_factory.mktemp("captions") / "run"
    return run_folder, train(recipe_of(run_folder, data={"path": str(folder)}, training={"max_steps": 30}))


def rows_of(folder, split="test"):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_it_captions_what_it_never_saw(tmp_path):
    folder = write_pictures(tmp_path, train=2000)
    results = train(recipe_of(tmp_path / "run", data={"path": str(folder)}))
    assert results["test"]["exact_match"] > 60  # by chance, with six colours in any order in either direction: 2
    found = losses(tmp_path / "run")
    assert found[240] < 0.1 * found[1]


def test_a_run_leaves_its_captions_and_scores(run, folder):
    run_folder, results = run
    assert {entry["name"] for entry in results["metrics"]} == {"exact_match", "bleu", "chrf"}
    lines = [json.loads(line) for line in (run_folder / "predictions.jsonl").read_text().splitlines()]
    assert [{"image": line["image"], "text": line["text"]} for line in lines] == rows_of(folder)
    matches = [line["prediction"] == line["text"] for line in lines]
    assert results["test"]["exact_match"] == pytest.approx(100 * sum(matches) / len(matches))
    assert (run_folder / "best" / "curve.png").is_file()
    assert evaluate(run_folder / "best") == results["test"]


def test_the_folder_loads_and_says_the_same(run, folder):
    run_folder, _ = run
    best = run_folder / "best"
    model, report = AutoModelForImageTextToText.from_pretrained(best, output_loading_info=True)
    assert not any(report.values())
    assert type(model) is TrefoilVisionEncoderDecoderModel
    assert type(model.decoder) is trefoil.TrefoilDecoderForCausalLM
    processor, tokenizer = AutoImageProcessor.from_pretrained(best), AutoTokenizer.from_pretrained(best)
    pictures = [Image.open(folder / row["image"]).convert("RGB") for row in rows_of(folder)]
    pixel_values = processor(pictures, return_tensors="pt").pixel_values
    said = [json.loads(line)["prediction"] for line in (run_folder / "predictions.jsonl").read_text().splitlines()]
    cached, plain = (model.generate(pixel_values, use_cache=use_cache) for use_cache in (True, False))
    assert torch.equal(cached, plain)
    assert tokenizer.batch_decode(cached, skip_special_tokens=True) == said
    beams = [model.generate(pixel_values[:8], num_beams=3, use_cache=use_cache) for use_cache in (True, False)]
    assert torch.equal(*beams)


def test_the_words_look_at_the_patches(run, folder):
    model = AutoModelForImageTextToText.from_pretrained(run[0] / "best", attn_implementation="eager")
    labels = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        output = model(pixel_values=torch.randn(1, 3, 48, 48), labels=labels, output_attentions=True)
    assert [weights.shape for weights in output.cross_attentions] == [(1, 2, 3, 37)] * 2
    for weights in output.cross_attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 3))


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (
            ["attend", "a text", "-o", "map.html"],
            "a trefoil_vision_encoder_decoder does not read text, which the maps are of",
        ),
        (["translate", "a text"], "the head of the model is for image-to-text, not for translation"),
    ],
)
def test_commands_for_text_say_that_it_reads_none(run, command, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name, *rest = command
    assert main([name, str(run[0]), *rest]) != 0
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {run[0] / 'best'}: {problem}"
    assert not list(tmp_path.iterdir())


def as_saved_before(best, folder):
    """A run's model by the names of transformers, with which it was saved once."""
    shutil.copytree(best, folder)
    config = json.loads((folder / "config.json").read_text())
    former = {"model_type": "vision-encoder-decoder", "architectures": ["VisionEncoderDecoderModel"]}
    (folder / "config.json").write_text(json.dumps(config | former))
    return folder


def test_a_published_run_says_the_same_also_one_saved_by_the_names_of_transformers(run, folder, tmp_path):
    pictures = [str(folder / row["image"]) for row in rows_of(folder)[:5]]
    said = [json.loads(line)["prediction"] for line in (run[0] / "predictions.jsonl").read_text().splitlines()[:5]]
    assert summary(run[1], run[0])[2].endswith(" picture.png")
    published = publish(run[0], tmp_path / "now")
    former = as_saved_before(run[0] / "best", tmp_path / "former")
    assert evaluate(former, trust_recipe=True) == run[1]["test"]
    again = publish(former, tmp_path / "again" / "now")
    for one in (published, again):
        assert [answer["caption"] for answer in trefoil.load(one)(pictures)] == said
    assert (again / "config.json").read_bytes() == (published / "config.json").read_bytes()


def short(folder, output_dir, **changes):
    """A few steps, whose length does not depend on how many there are."""
    few = {"training": {"max_steps": 6, "save_every": 3}, "optimization": {"schedule": "constant"}}
    changes = merged(few | {"model": {"config": {"max_position_embeddings": 64}}}, changes)
    data = {"path": str(folder), "max_train_examples": 100}
    return recipe_of(output_dir, data=data, tokenizer={"kind": "characters"}, **changes)


@pytest.mark.slow
def test_it_goes_on_to_the_same_losses(folder, tmp_path):
    options = {"options": {"word_dropout": 0.5}}
    train(short(folder, tmp_path / "whole", **options))
    train(short(folder, tmp_path / "parts", training={"max_steps": 3}, **options))
    train(short(folder, tmp_path / "parts", **options))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 6


def ready(**changes):
    """What makes batches, with a tokenizer of the letters of "a red circle", and its model."""
    recipe = recipe_of("runs/captions", **merged({"tokenizer": {"kind": "characters"}}, changes))
    reader = reader_for(recipe)
    tokenizer = train_tokenizer([["a red circle"]], recipe.tokenizer, reader.template)
    model = make_model(Told(reader, tokenizer, {}), checkpoint=None)
    return IMAGE_CAPTIONING.preprocessor(reader, tokenizer, model.config), model


def told(recipe):
    return Told(reader_for(recipe), pretrained_tokenizer(recipe, IMAGE_CAPTIONING), {})


def example(**changes):
    picture = png(draw_picture(Scene((WORLD[0],), ROW), Random(0)))
    return {"image": {"bytes": picture, "path": None}, "text": "a red circle"} | changes


def of(*rows):
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    return datasets.Dataset.from_list(list(rows), features=features)


def test_a_batch():
    task, _ = ready()
    encoded = task.encode(of(example(), example(text="a red")), "train").examples
    assert encoded.features["image"] == datasets.Image(decode=False)
    assert task.lengths(encoded).tolist() == [[36, 16], [36, 16]]  # 6 x 6 patches; the caption rounded up
    batch = task.collate(encoded[:2])
    assert batch["pixel_values"].shape == (2, 3, 48, 48)
    assert batch["labels"].shape == (2, 13)
    assert (batch["labels"][1, 6:] == -100).all()
    assert task.tokens(batch) == 2 * (36 + 13)
    pixels = np.asarray(Image.open(BytesIO(example()["image"]["bytes"])), dtype=np.float32)
    expected = torch.from_numpy(pixels / 255 - 0.87).permute(2, 0, 1)
    torch.testing.assert_close(batch["pixel_values"][0], expected)


def test_word_dropout_hides_a_share_of_the_words_before_and_nothing_else():
    task, model = ready(options={"word_dropout": 0.5})
    rows = task.encode(of(*[example()] * 60), "train").examples[:60]
    indices = np.arange(60)
    batch = task.collate(task.randomize(rows, indices, epoch=0))
    shifted = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    hidden = batch["decoder_input_ids"] != shifted
    assert (batch["decoder_input_ids"][hidden] == task.tokenizer.unk_token_id).all()
    assert not hidden[:, 0].any()
    assert 0.4 < hidden[:, 1:].float().mean() < 0.6
    again, later = (task.collate(task.randomize(rows, indices[::-1], epoch=epoch)) for epoch in (0, 1))
    assert torch.equal(again["decoder_input_ids"], batch["decoder_input_ids"].flip(0))
    assert not torch.equal(later["decoder_input_ids"], again["decoder_input_ids"])
    assert "decoder_input_ids" not in task.collate(rows)
    assert model(**batch).loss != model(**task.collate(rows)).loss
    with pytest.raises(UserError, match=r"options\.word_dropout=1\.0 must lie in \[0, 1\)"):
        ready(options={"word_dropout": 1.0})


def test_the_loss_is_the_sum_over_the_labels_of_the_whole_batch():
    task, model = ready()
    batch = task.collate(task.encode(of(example(), example(text="a red")), "train").examples[:2])
    model.eval()
    mean = model(**batch).loss
    logits = model(**batch).logits
    torch.testing.assert_close(
        mean, torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)
    )
    torch.testing.assert_close(transformers.VisionEncoderDecoderModel.forward(model, **batch).loss, mean)
    torch.testing.assert_close(model(**batch, num_items_in_batch=7).loss, mean * 19 / 7)
    smoothed = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100, label_smoothing=0.5
    )
    torch.testing.assert_close(model(**batch, label_smoothing=0.5).loss, smoothed)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"image": None}, "column 'image' holds None, not a picture"),
        ({"image": {"bytes": b"no picture", "path": "a.png"}}, "column 'image': a.png cannot be read as a picture"),
        ({"image": {"bytes": example()["image"]["bytes"][:200], "path": None}},
         "column 'image': a picture without a name cannot be read as a picture"),
        ({"image": {"bytes": None, "path": "none.png"}}, "column 'image': none.png: no such file"),
        ({"text": " "}, "column 'text' is empty"),
        ({"text": None}, "column 'text' holds None, not a text"),
        ({"text": "a red circle, a red circle, a red"},
         "column 'text' has 34 tokens, more than the model's 32 (batches.truncate=true cuts)"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_or_skipped_and_counted(change, problem):
    examples = of(example(), example(**change), example(text="a red"))
    with pytest.raises(UserError) as error:
        ready()[0].encode(examples, "train.jsonl")
    assert str(error.value) == f"train.jsonl example 2: {problem}; mend it or set data.invalid_examples=skip"
    task, _ = ready(data={"invalid_examples": "skip"})
    split = task.encode(examples, "train.jsonl")
    encoded = split.examples
    assert (encoded["example"][:], len(encoded["image"])) == ([0, 2], 2)
    assert (split.skipped, split.first_skipped) == (1, f"example 2, {problem}")


def test_pixel_values_are_normalised_as_the_options_say():
    task, _ = ready(options={"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 2]})
    plain, _ = ready(options={"image_mean": [0, 0, 0], "image_std": [1, 1, 1]})
    pictures = [example()["image"]]
    shift, scale = (torch.tensor(values)[:, None, None] for values in ([0.1, 0.2, 0.3], [0.5, 0.5, 2]))
    torch.testing.assert_close(task.pixel_values(pictures), (plain.pixel_values(pictures) - shift) / scale)
    for wrong in ({"image_mean": [0.5]}, {"image_std": [0.5, 0.5, 0]}):
        with pytest.raises(UserError, match="must be three numbers, for red, green and blue"):
            ready(options=wrong)
    with pytest.raises(UserError, match=r"options\.image_mean"):
        ready(options={"image_mean": "grey"})


def test_a_column_without_pictures_is_refused():
    examples = datasets.Dataset.from_list([{"image": 3, "text": "a"}])
    with pytest.raises(UserError, match="train: column 'image' is of type int64; it must hold pictures"):
        ready()[0].encode(examples, "train")


def test_a_picture_that_turns_out_damaged_is_named():
    file = BytesIO()
    draw_picture(Scene((WORLD[0],), ROW), Random(0)).resize((300, 300)).save(file, format="JPEG")
    damaged = {"bytes": file.getvalue()[:3000], "path": "/a/long/way/to/" + "the/" * 20 + "half.jpg"}
    task, _ = ready()
    encoded = task.encode(of(example(image=damaged)), "train").examples
    with pytest.raises(UserError, match=r"^….*/the/half\.jpg cannot be read as a picture; mend it or leave it out$"):
        task.collate(encoded[:1])


def test_sixteen_bits_a_pixel_are_not_cut_off(tmp_path):
    Image.fromarray(np.full((48, 48), 30000, dtype=np.uint16)).save(tmp_path / "grey.png")
    task, _ = ready(data={"path": str(tmp_path)})
    assert task.reader.picture({"bytes": None, "path": "grey.png"}).getpixel((5, 5)) == (117, 117, 117)


ENCODERS = {
    "vit": {}, "deit": {}, "dinov2": {}, "beit": {"use_mask_token": True}, "clip_vision_model": {}, "siglip_vision_model": {},
}  # fmt: skip


@pytest.mark.parametrize("model_type", ENCODERS)
def test_every_weight_of_any_encoder_is_trained_or_frozen(model_type):
    fields = {"model_type": model_type, "image_size": 48, "patch_size": 8, **ENCODERS[model_type]}
    task, model = ready(model={"config": {"encoder": fields}})
    model(**task.collate(task.encode(of(example()), "train").examples[:1])).loss.backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert not idle
    frozen = {name.split(".")[1] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen <= {"pooler", "head", "post_layernorm", "embeddings"}


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_pictures_of_every_kind_and_size_are_read(mode, tmp_path):
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new("RGB", (31, 70), "red").convert(mode).save(tmp_path / f"one.{suffix}")
    examples = datasets.Dataset.from_list([{"image": f"one.{suffix}", "text": "a red circle"}])
    task, _ = ready(data={"path": str(tmp_path)})
    assert task.collate(task.encode(examples, "train").examples[:1])["pixel_values"].shape == (1, 3, 48, 48)


@pytest.mark.slow
def test_a_folder_of_pictures_with_metadata_and_parquet_give_the_same(folder, tmp_path):
    rows = rows_of(folder)[:4]
    for split in ("train", "validation", "test"):
        (tmp_path / "folder" / split).mkdir(parents=True)
        lines = []
        for number, row in enumerate(rows):
            (tmp_path / "folder" / split / f"{number}.png").write_bytes((folder / row["image"]).read_bytes())
            lines.append(json.dumps({"file_name": f"{number}.png", "text": row["text"]}) + "\n")
        (tmp_path / "folder" / split / "metadata.jsonl").write_text("".join(lines))
        whole = [{"image": {"bytes": (folder / row["image"]).read_bytes()}, "text": row["text"]} for row in rows]
        (tmp_path / "parquet").mkdir(exist_ok=True)
        datasets.Dataset.from_list(whole).to_parquet(tmp_path / "parquet" / f"{split}.parquet")
        (tmp_path / "lines").mkdir(exist_ok=True)
        named = [{"image": str(folder / row["image"]), "text": row["text"]} for row in rows]
        (tmp_path / "lines" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
    found = []
    for kind in ("folder", "parquet", "lines"):
        run_folder = tmp_path / f"run-{kind}"
        train(short(tmp_path / kind, run_folder, training={"max_steps": 2}))
        found.append(losses(run_folder))
    assert found[0] == found[1] == found[2]


def test_a_pretrained_vision_encoder_and_a_pretrained_decoder_are_joined(folder, tmp_path, capsys):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(1)
    encoder = ViTModel(ViTConfig(**sizes, intermediate_size=64, image_size=24, patch_size=8))
    encoder.bfloat16().save_pretrained(tmp_path / "vit")
    processor = transformers.ViTImageProcessorPil(size={"height": 24, "width": 24}, image_mean=[0.1, 0.2, 0.3])
    processor.save_pretrained(tmp_path / "vit")
    task, _ = ready()
    config = trefoil.preset_config("decoder-tiny", vocab_size=len(task.tokenizer), **sizes | {"hidden_size": 48})
    decoder = trefoil.TrefoilDecoderForCausalLM(config)
    decoder.save_pretrained(tmp_path / "decoder")
    task.tokenizer.pad_token = None  # as GPT-2's
    task.tokenizer.save_pretrained(tmp_path / "decoder")
    halves = {"encoder": str(tmp_path / "vit"), "decoder": str(tmp_path / "decoder")}
    content = {
        "task": "image-captioning", "output_dir": str(tmp_path / "run"), "model": {"init_from": halves},
        "data": {"path": str(folder), "max_train_examples": 40}, "evaluation": {"max_new_tokens": 2},
        "training": {"max_steps": 2, "trackers": []},
    }  # fmt: skip
    recipe = build(Recipe, content, "tiny.yaml")
    model = make_model(told(recipe), checkpoint=None)
    assert torch.equal(model.encoder.layers[0].mlp.fc1.weight, encoder.layers[0].mlp.fc1.weight.float())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.decoder.model.embed_tokens.weight, decoder.model.embed_tokens.weight)
    assert "new weights" in capsys.readouterr().err
    train(recipe)
    best = tmp_path / "run" / "best"
    assert AutoImageProcessor.from_pretrained(best).image_mean == (0.1, 0.2, 0.3)
    saved, report = TrefoilVisionEncoderDecoderModel.from_pretrained(best, output_loading_info=True)
    assert not any(report.values())
    tokenizer = AutoTokenizer.from_pretrained(best)
    assert tokenizer.pad_token is None
    assert saved.config.pad_token_id == tokenizer.eos_token_id  # with which it shifts labels
    wrong = build(Recipe, merged(content, {"model": {"init_from": {"encoder": halves["decoder"]}}}), "tiny.yaml")
    with pytest.raises(UserError, match="decoder is a trefoil_decoder, which does not read pictures in patches"):
        make_model(Told(reader_for(wrong), task.tokenizer, {}), checkpoint=None)


def test_a_picture_that_was_mended_is_seen_again(tmp_path):
    examples = datasets.Dataset.from_list(
        [{"image": f"{name}.png", "text": "a red circle"} for name in ("here", "late")]
    )
    Image.new("RGB", (48, 48), "red").save(tmp_path / "here.png")
    task, _ = ready(data={"path": str(tmp_path), "invalid_examples": "skip"})
    assert task.encode(examples, "train").skipped == 1
    Image.new("RGB", (48, 48), "red").save(tmp_path / "late.png")
    assert task.encode(examples, "train").skipped == 0
