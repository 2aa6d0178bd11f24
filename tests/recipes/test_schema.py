import dataclasses
import re
from importlib import resources
from pathlib import Path

import pytest
from transformers import SchedulerType

from trefoil import recipes
from trefoil.configuration.errors import UserError
from trefoil.recipes.schema import OTHER_NAMES, SCHEDULES, Recipe, load_recipe

MINIMAL = """\
data:
  embedded: true
model:
  preset: encoder-decoder-tiny
training:
  max_steps: 10
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(MINIMAL)
    return path


def refused(path, *overrides):
    with pytest.raises(UserError) as error:
        load_recipe(path, overrides)
    message = str(error.value)
    assert "\n" not in message
    return message


# --- what is read


def test_sections_are_nested_and_the_rest_is_default(file):
    recipe = load_recipe(file)
    assert recipe.data.embedded is True
    assert recipe.model.preset == "encoder-decoder-tiny"
    assert recipe.training.max_steps == 10
    assert recipe.batches == Recipe().batches
    assert recipe.optimization.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("optimization.learning_rate=1e-4", "optimization", "learning_rate", 1e-4),
        ("optimization.learning_rate=1", "optimization", "learning_rate", 1.0),
        ("optimization.max_grad_norm=null", "optimization", "max_grad_norm", None),
        ("optimization.max_grad_norm=5e-1", "optimization", "max_grad_norm", 0.5),
        ("training.max_steps=20", "training", "max_steps", 20),
        ("training.trackers=[]", "training", "trackers", []),
        ("training.trackers=[tensorboard, wandb]", "training", "trackers", ["tensorboard", "wandb"]),
        ("data.embedded_sizes={train: 100, test: 5}", "data", "embedded_sizes", {"train": 100, "test": 5}),
        ("data.embedded_sizes.train=100", "data", "embedded_sizes", {"train": 100}),
        ("model.config.hidden_dropout=0.3", "model", "config", {"hidden_dropout": 0.3}),
        ("model.config={encoder: {num_hidden_layers: 6}}", "model", "config", {"encoder": {"num_hidden_layers": 6}}),
        ("model.config.encoder.num_hidden_layers=6", "model", "config", {"encoder": {"num_hidden_layers": 6}}),
        ("data.revision=a=b", "data", "revision", "a=b"),
        ("data.columns.source=한국어", "data", "columns", {"source": "한국어"}),
        ("training.gradient_checkpointing=true", "training", "gradient_checkpointing", True),
        ("training.gradient_checkpointing=24", "training", "gradient_checkpointing", 24.0),
    ],
)
def test_overrides_are_yaml(file, override, section, key, value):
    found = getattr(getattr(load_recipe(file, [override]), section), key)
    assert found == value
    assert type(found) is type(value)


def test_the_last_override_wins_and_the_top_level_is_reached(file):
    recipe = load_recipe(file, ["seed=1", "seed=2", "language=[ko, en]", "output_dir=runs/x"])
    assert (recipe.seed, recipe.language, recipe.output_dir) == (2, ["ko", "en"], "runs/x")


def test_a_value_put_under_an_empty_key(file):
    file.write_text(MINIMAL.replace("  embedded: true", "  embedded: true\n  embedded_sizes:"))
    assert load_recipe(file, ["data.embedded_sizes.test=7"]).data.embedded_sizes == {"test": 7}


def test_a_value_in_a_list(file):
    file.write_text(MINIMAL.replace("  embedded: true", "  sources: [{path: a}, {path: b, tag: bt}]"))
    recipe = load_recipe(file, ["data.sources[1].path=c", "data.sources.0.columns.source=ko"])
    assert [(one.path, one.tag, one.columns) for one in recipe.data.sources] == [
        ("a", None, {"source": "ko"}), ("c", "bt", {}),
    ]  # fmt: skip
    for override in ("data.sources[2].path=c", "data.sources.path=c", "data.sources[2]=c"):
        assert refused(file, override).endswith("is no place in a list of 2; they count from 0")


@pytest.mark.parametrize("path", sorted(Path(str(resources.files(recipes))).glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_of_the_package_are_found_by_name(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(path.stem)
    assert recipe == load_recipe(path)
    assert recipe == load_recipe(path.name)
    assert recipe.output_dir == f"runs/{path.stem}"
    assert path.stem in path.read_text().split("\n\n")[0].split("task:")[0]


def test_a_local_file_is_preferred_to_a_recipe_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("encoder-decoder-translation-multi30k.yaml").write_text(MINIMAL)
    assert load_recipe("encoder-decoder-translation-multi30k.yaml").data.embedded


def test_saved_and_read_again_it_is_the_same(file, tmp_path):
    overrides = ["optimization.epsilon=1e-9", "language=[ko]", "data.columns.source=원문", "model.config.hidden_dropout=0.1",
                 "training.max_minutes=2.5", "optimization.max_grad_norm=null"]  # fmt: skip
    recipe = load_recipe(file, overrides)
    (tmp_path / "saved.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(tmp_path / "saved.yaml") == recipe
    assert "원문" in (tmp_path / "saved.yaml").read_text(encoding="utf-8")


def test_a_mapping_is_a_recipe_too_and_stays_as_it_is():
    content = {"data": {"embedded": True}, "model": {"preset": "encoder-decoder-tiny"}, "training": {"max_steps": 10}}
    assert load_recipe(content, ["training.max_steps=3"]).training.max_steps == 3
    assert content["training"] == {"max_steps": 10}
    with pytest.raises(UserError, match=r"^the recipe: unknown key sed; did you mean seed\?$"):
        load_recipe(content | {"sed": 1})


def test_the_schedules_are_those_of_transformers():
    assert set(SCHEDULES) == {kind.value for kind in SchedulerType} - {"reduce_lr_on_plateau", "greedy"}


# --- what is refused


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainin.max_steps=3", "unknown key trainin; did you mean training?"),
        ("training.max_step=3", "unknown key training.max_step; did you mean max_steps?"),
        ("optimization.lerning_rate=1", "unknown key optimization.lerning_rate; did you mean learning_rate?"),
        ("xyzzy=1", "unknown key xyzzy; there are task, options, language, seed"),
        ("training.max_steps=ten", "training.max_steps='ten' is not int | None"),
        ("training.max_steps=1.5", "training.max_steps=1.5 is not int | None"),
        ("training.max_steps=true", "training.max_steps=True is not int | None"),
        ("optimization.learning_rate=fast", "optimization.learning_rate='fast' is not of type float"),
        ("optimization.learning_rate=true", "optimization.learning_rate=True is not of type float"),
        ("optimization.optimizer=adam", "optimization.optimizer='adam' is not one of 'adamw', 'muon'"),
        (
            "training.mixed_precision=bf8",
            "training.mixed_precision='bf8' is not one of 'no', 'auto', 'tf32', 'bf16', 'fp16', 'fp8'",
        ),
        ("language=ko", "language='ko' is not list[str]"),
        ("language=[no]", "language=[False] is not list[str]"),
        ("data.embedded_sizes={train: many}", "data.embedded_sizes={'train': 'many'} is not dict[str, int] | None"),
        ("data=5", "data must be a mapping, not 5"),
        ("data=null", "data must be a mapping, not None"),
        ("optimization.learning_rate=0", "optimization.learning_rate=0.0 must be positive"),
        ("optimization.learning_rate=nan", "optimization.learning_rate=nan must be positive"),
        ("optimization.learning_rate=inf", "optimization.learning_rate=inf must be positive"),
        ("optimization.warmup_steps=-1", "optimization.warmup_steps=-1 must not be negative"),
        ("optimization.weight_decay=-0.1", "optimization.weight_decay=-0.1 must not be negative"),
        ("optimization.label_smoothing=1", "optimization.label_smoothing=1.0 must lie in [0, 1)"),
        ("optimization.beta2=1.5", "optimization.beta2=1.5 must lie in [0, 1)"),
        ("training.max_steps=0", "training.max_steps=0 must be positive"),
        ("training.average_checkpoints=0", "training.average_checkpoints=0 must be positive"),
        (
            "training.gradient_checkpointing=-1",
            "training.gradient_checkpointing=-1.0 must be true, false, or the GB of activations to keep",
        ),
        ("training.gradient_checkpointing=much", "training.gradient_checkpointing='much' is not bool | float"),
        ("batches.tokens_per_batch=-5", "batches.tokens_per_batch=-5 must be positive"),
        ("batches.workers=-1", "batches.workers=-1 must not be negative"),
        ("seed=-1", "seed=-1 must lie in [0, 2**32)"),
        ("optimization.schedule=liner", "optimization.schedule='liner' is no schedule; did you mean linear?"),
        ("optimization.schedule=reduce_lr_on_plateau", "optimization.schedule='reduce_lr_on_plateau' is no schedule"),
        (
            "model.preset=encoder-decoder-tinny",
            "model.preset='encoder-decoder-tinny' is no preset; did you mean encoder-decoder-tiny?",
        ),
        ("model.preset=null", "model needs preset (to start from nothing) or init_from (to start from weights)"),
        ("training.max_steps=null", "training needs max_steps, max_epochs or max_minutes, or it would never end"),
        (
            "data.embedded=false",
            "data needs one of name (a Hub data set), path (local files), sources (several of them) or",
        ),
        ("data.sources=[{path: x}]", "data.embedded excludes data.sources; set one of them"),
        ("data={sources: [{path: x, name: y}]}", "data.sources[0] needs one of name (a Hub data set) and path"),
        ("data={sources: [{path: x, weight: 2}]}", "data.sources[0].weight is for a stream"),
        ("data.path=x", "data.embedded excludes data.path; set one of them"),
        (
            "training.mixed_precision=1",
            "training.mixed_precision=1 is not one of 'no', 'auto', 'tf32', 'bf16', 'fp16', 'fp8'",
        ),
        ("model.init_from=5", "model.init_from=5 is not str | dict[str, str] | None"),
        (
            "model.init_from={encoder: a}",
            "model.init_from={'encoder': 'a'} must name one encoder and one decoder, or be the place of one model",
        ),
        (
            "model.init_from=runs/a",
            "model.preset='encoder-decoder-tiny' starts from nothing and model.init_from='runs/a' from weights; set one of "
            "them (on the command line model.preset=null)",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named(file, override, message):
    assert refused(file, override).startswith(f"{file}: {message}")


READY = {
    "model.init_from": ["model={init_from: runs/a}"],
    "tokenizer.path": ["tokenizer.path=runs/a"],
}


@pytest.mark.parametrize("source", READY)
@pytest.mark.parametrize(
    "key", ["vocab_size=8000", "vocab_size=300", "kind=byte_bpe", "lowercase=false", "min_frequency=2"]
)
def test_keys_of_a_tokenizer_that_is_not_trained_are_refused_also_where_they_say_the_default(file, source, key):
    name, kept = key.partition("=")[0], "path: runs/a" if source == "tokenizer.path" else ""
    message = refused(file, *READY[source], f"tokenizer.{key}")
    assert message.startswith(f"{file}: tokenizer.{name}=")
    assert message.endswith(
        f" does nothing, because {source} brings a tokenizer; leave it out (on the command line tokenizer='{{{kept}}}')"
    )
    cleared = f"tokenizer={{{kept}}}"
    assert load_recipe(file, [*READY[source], f"tokenizer.{key}", cleared]).ready_tokenizer() == source


@pytest.mark.parametrize("source", READY)
def test_a_recipe_with_a_ready_tokenizer_is_the_same_read_again(file, tmp_path, source):
    recipe = load_recipe(file, READY[source])
    saved = tmp_path / "saved.yaml"
    saved.write_text(recipe.to_yaml())
    assert load_recipe(saved) == recipe
    assert "vocab_size" not in recipe.to_yaml()


def test_what_was_given_is_remembered(file):
    recipe = load_recipe(file, ["optimization.beta1=0.9"])
    assert recipe.given == {"data", "model", "training", "optimization"}
    assert recipe.optimization.given == {"beta1"}
    assert recipe.batches.given == set()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.max_steps", "'training.max_steps': an override is key=value, for example training.max_steps=100"),
        ("seed.x=1", "'seed.x=1': seed is a value, it has no keys"),
        ("data.embedded_sizes=[1", "'data.embedded_sizes=[1': '[1' is not a YAML value"),
    ],
)
def test_a_wrong_override_is_quoted(file, override, message):
    file.write_text("seed: 3\n" + MINIMAL)
    assert refused(file, override) == message


def test_not_yaml(file):
    file.write_text(MINIMAL + "seed: [1\nlanguage: ]\n")
    assert refused(file).startswith(f"{file}: line 8: not YAML: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "a recipe is a mapping of keys to values, not a list"),
        (b"just words", "a recipe is a mapping of keys to values, not a str"),
        (b"task: \xff", "not UTF-8 at byte 6; save the recipe as UTF-8"),
        (b"\ttask: x", "line 1: not YAML: found character '\\t' that cannot start any token"),
        (b"7: x", "unknown key 7; "),
    ],
)
def test_a_file_that_is_no_recipe(file, content, message):
    file.write_bytes(content)
    assert refused(file).startswith(f"{file}: {message}")


def test_no_such_file(tmp_path):
    message = refused(tmp_path / "none.yaml")
    assert re.search(
        r"none.yaml: no such recipe; give a YAML file or one of .*encoder-decoder-translation-multi30k", message
    )
    assert refused(tmp_path) == f"{tmp_path}: a folder, not a recipe; give a YAML file"
    (tmp_path / "data.csv").touch()
    data = tmp_path / "data.csv"
    assert refused(data) == f"{data}: is data, not a recipe; `trefoil new TASK --data {data}` writes one for it"
    through = tmp_path / "data.csv" / "my.yaml"
    assert refused(through) == f"{through}: cannot be read (Not a directory)"


def test_no_is_a_word_where_a_word_is_wanted(tmp_path):
    recipe = load_recipe("encoder-decoder-translation-multi30k", ["training.mixed_precision=no"])
    assert recipe.training.mixed_precision == "no"


def test_all_mistakes_are_told_at_once(file):
    file.write_text("taks: x\ntraining: {max_steps: -1, max_epochs: 1.5}\nbatches: []\n")
    with pytest.raises(UserError) as error:
        load_recipe(file)
    assert str(error.value).splitlines() == [
        f"{file}: unknown key taks; did you mean task?",
        f"{file}: training.max_steps=-1 must be positive",
        f"{file}: training.max_epochs=1.5 is not int | None",
        f"{file}: batches must be a mapping, not []",
    ]
    file.write_text("")
    with pytest.raises(UserError) as error:
        load_recipe(file)
    assert [line.split(": ", 1)[1].split(" ")[0] for line in str(error.value).splitlines()] == [
        "data",
        "training",
        "model",
    ]


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("learning_rate=1e-4", "optimization.learning_rate"),
        ("learing_rate=1e-4", "optimization.learning_rate"),
        ("training.learning_rate=1e-4", "optimization.learning_rate"),
        ("batch_size=32", "batches.tokens_per_batch"),
        ("lr=1", "optimization.learning_rate"),
        ("epochs=3", "training.max_epochs"),
        ("path=x.csv", "data.path"),
        ("optimisation.learning_rate=1", "optimization"),
    ],
)
def test_a_key_without_its_section_or_by_another_name(override, meant):
    with pytest.raises(UserError, match=rf"did you mean {meant}\?"):
        load_recipe("encoder-text-classification-embedded", [override])


def test_other_names_are_of_keys_that_there_are():
    known = {f"{section.name}.{key.name}" for section in dataclasses.fields(Recipe) if dataclasses.is_dataclass(section.type)
             for key in dataclasses.fields(section.type)}  # fmt: skip
    assert {meant for meant in OTHER_NAMES.values() if not meant.startswith(("model.config.", "options."))} <= known


@pytest.mark.parametrize(
    "key",
    [
        "data.encoding=base64",
        "data.encoding=rot13",
        "data.encoding=no-such",
        'data.delimiter="\\n"',
        "data.delimiter='\"'",
    ],
)
def test_what_no_table_can_have_is_refused(key):
    with pytest.raises(UserError, match=key.partition("=")[0]):
        load_recipe("encoder-text-classification-sst2", [key])
