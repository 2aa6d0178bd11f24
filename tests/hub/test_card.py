import re

import pytest
from huggingface_hub import ModelCard
from transformers import AutoConfig

import trefoil
from trefoil.configuration.errors import UserError
from trefoil.hub.card import CardFields, read_results, render_card
from trefoil.hub.uses import USES
from trefoil.modeling.auto import AUTO_CLASSES
from trefoil.recipes.schema import Recipe, build
from trefoil.tasks import TASKS

ENTRY = {
    "name": "chrF",
    "type": "chrf",
    "value": 41.256789,
    "dataset": "Korean expressions",
    "signature": "nrefs:1|nc:6",
}


@pytest.fixture(scope="module")
def config():
    half = {"hidden_size": 32, "num_attention_heads": 2, "max_position_embeddings": 24, "norm_type": "layer_norm"}
    return trefoil.TrefoilEncoderDecoderConfig(encoder=dict(half), decoder=dict(half))


def render(config, **options):
    options = {"model_id": "me/tiny", "version": "1.2.3", **options}
    return render_card(config, "AutoModelForSeq2SeqLM", **options)


def test_metadata_is_what_the_hub_reads(config):
    fields = CardFields(
        title="Tiny",
        language=["ko", "en"],
        license="apache-2.0",
        datasets=["me/data"],
        base_model="me/base",
        tags=["x"],
    )
    card = ModelCard(render(config, fields=fields, results=read_results([ENTRY], "results.json")))
    data = card.data
    assert (data.language, data.license, data.datasets) == (["ko", "en"], "apache-2.0", ["me/data"])
    assert (data.library_name, data.pipeline_tag, data.tags) == ("transformers", "translation", ["trefoil", "x"])
    assert (data.base_model, data.metrics, data.model_name) == ("me/base", ["chrf"], "Tiny")
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.metric_name) == ("chrf", 41.256789, "chrF")
    assert (result.dataset_name, result.dataset_type) == ("Korean expressions", "Korean-expressions")
    assert result.metric_args == {"signature": "nrefs:1|nc:6"}


def test_results_are_a_table_with_signatures(config):
    text = render(config, results=read_results([ENTRY], "results.json"))
    assert r"| chrF | 41.26 | Korean expressions |  | `nrefs:1\|nc:6` |" in text


def test_what_is_unknown_is_left_out(config):
    text = render(config)
    assert not re.search(r"None|\{\{|\{%|\[\]|TODO|More information", text)
    assert not re.search(r"\n\n\n", text)
    for heading in ("## Training", "## Results"):
        assert heading not in text
    data = ModelCard(text).data.to_dict()
    assert data.keys() == {"library_name", "pipeline_tag", "tags", "widget"}


def test_training_is_told_by_the_recipe(config):
    text = render(
        config, recipe=build(Recipe, {"seed": 7}, "r"), has_curve=True, fields=CardFields(limitations=["It is small."])
    )
    assert re.search(r"```yaml\n(.*\n)*seed: 7\n(.*\n)*```", text)
    assert "](curve.png)" in text
    assert "- It is small.\n- The encoder is made for sequences of up to 24 tokens" in text
    assert "| norm | layer norm | layer norm |" in text


def test_the_recipe_tells_languages_and_data(config):
    recipe = build(Recipe, {"language": ["en", "de"], "data": {"name": "me/data"}}, "r")
    data = ModelCard(render(config, recipe=recipe)).data
    assert (data.language, data.datasets) == (["en", "de"], ["me/data"])
    data = ModelCard(render(config, recipe=recipe, fields=CardFields(language=["ko"]))).data
    assert (data.language, data.datasets) == (["ko"], ["me/data"])


@pytest.mark.parametrize(
    ("recipe", "field", "tag", "call"),
    [
        (None, None, "translation", "translate("),
        ("translation", None, "translation", "translate("),
        ("summarization", None, "summarization", "summarize("),
        ("masked-lm", None, "translation", "translate("),  # of other weights
        ("translation", "summarization", "summarization", "summarize("),
        ("summarization", "text-to-speech", "text-to-speech", None),
        ("denoising", None, "text-generation", None),
    ],
)
def test_the_task_is_the_field_s_then_the_recipe_s_then_the_head_s(config, recipe, field, tag, call):
    results = read_results([ENTRY], "results.json")
    recipe = build(Recipe, {"task": recipe}, "r") if recipe else None
    text = render(config, recipe=recipe, fields=CardFields(task=field, language=["en"]), results=results)
    data = ModelCard(text).data
    assert data.pipeline_tag == data.eval_results[0].task_type == tag
    assert (call or "pipeline(") in text if call else "pipeline(" not in text


NASTY = "a ``` b\n</details><script>x</script> ![](http://x/y.png) | [z](http://x) `"


def test_texts_of_others_are_only_texts(config):
    entry = ENTRY | {"name": NASTY, "dataset": NASTY, "split": NASTY, "signature": NASTY}
    recipe = build(Recipe, {"options": {"note": NASTY}, "data": {"columns": {"source": NASTY}}}, "r")
    text = render(config, recipe=recipe, results=read_results([entry], "r"), fields=CardFields(datasets=[NASTY]))
    body = ModelCard(text).text
    (fence,) = re.findall(r"^(`{4,})yaml$", body, re.MULTILINE)
    before, _, rest = body.partition(f"{fence}yaml\n")
    recipe_shown, _, after = rest.partition(f"\n{fence}\n")
    assert "<script>" in recipe_shown
    assert after.startswith("\n</details>\n")
    outside = re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", before + after)  # without code
    assert not re.search(r"(?<!\\)<script|(?<!\\)!?\[[^\]]*(?<!\\)\]\(http://x", outside)
    (row,) = [line for line in after.splitlines() if "41.26" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == 6


def test_labels_of_others_are_only_labels():
    labels = ["plain", "a`b", "x``y`", "</p><script>x</script>\nz"]
    fields = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    config = trefoil.TrefoilEncoderConfig(hidden_size=32, num_attention_heads=2, **fields)
    text = render_card(config, "AutoModelForSequenceClassification", model_id="me/tiny", version="1")
    assert "4 labels: `plain`, `` a`b ``, ``` x``y` ```, `</p><script>x</script> z`.\n" in text


def test_results_of_a_run_are_under_metrics():
    assert read_results({"weights": "step 5", "metrics": [ENTRY]}, "r") == read_results([ENTRY], "r")


def test_the_code_in_it_runs(published, capsys):
    text = render(
        AutoConfig.from_pretrained(published), model_id=str(published), fields=CardFields(example='say "세 개"')
    )
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    first, _, third = capsys.readouterr().out.splitlines()
    assert first == third
    assert "translation_text" in first


def test_every_registered_head_has_a_card():
    for config_class, auto_classes in AUTO_CLASSES.items():
        for auto_class in auto_classes:
            assert USES[auto_class.__name__]
            for has_tokenizer in (True, False):
                text = render_card(
                    config_class(), auto_class.__name__, model_id="m", version="1", has_tokenizer=has_tokenizer
                )
                assert f"import {auto_class.__name__}" in text
                for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
                    compile(block, "README.md", "exec")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"bleu": 1}, "results.json: the results must be a list, or an object with a list `metrics`"),
        ([1], "results.json, entry 1: must be an object"),
        ([ENTRY, {"name": "BLEU", "type": "bleu"}], "results.json, entry 2: has no value, dataset"),
        ([ENTRY | {"value": "41"}], "results.json, entry 1: value must be a number, not '41'"),
        ([ENTRY | {"dataset": {"type": "x"}}], "results.json, entry 1: dataset has no name"),
    ],
)
def test_results_that_lack_something_are_refused(entries, message):
    with pytest.raises(UserError, match=re.escape(message)):
        read_results(entries, "results.json")


def test_a_task_without_a_name_on_the_hub_is_refused_unless_one_is_given(config):
    recipe = build(Recipe, {"task": "paraphrasing"}, "r")
    with pytest.raises(UserError, match="task='paraphrasing': has no name on the Hub; there are masked-lm, "):
        render(config, recipe=recipe)
    data = ModelCard(render(config, recipe=recipe, fields=CardFields(task="summarization"))).data
    assert data.pipeline_tag == "summarization"


def test_every_task_has_a_name_on_the_hub():
    assert {name: task.pipeline_tag for name, task in TASKS.items()}["masked-lm"] == "fill-mask"
    assert all(task.pipeline_tag for task in TASKS.values())


def test_a_recurrent_model_is_told_in_its_own_terms():
    text = render(trefoil.TrefoilRecurrentConfig(cell_type="gru", attention_type="concat"))
    assert "A Trefoil recurrent encoder-decoder" in text
    for row in ("| cell | gru |", "| attention scores | concat |", "| bidirectional | True |"):
        assert row in text
