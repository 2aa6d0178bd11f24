"""What holds the house together: imports run one way, and what users can name is written down."""

import ast
import dataclasses
import re
import sys
from graphlib import TopologicalSorter

import pytest
from product import FILES, IMPORTS, ROOT

import trefoil
from trefoil.cli import make_parser
from trefoil.recipes.schema import Recipe, load_recipe

# a module, and those that it knows by their types alone: a task names what reads its rows, makes batches of them and scores,
# or says how likely sentences are, each of which holds its task
BY_TYPE_ALONE = {
    "trefoil.tasks.task": {
        "trefoil.tasks.reader",
        "trefoil.tasks.preprocessor",
        "trefoil.tasks.evaluator",
        "trefoil.tasks.sentence_scorer",
    }
}

# what a published repository may rely on
PUBLISHED = ("configuration", "modeling", "pipelines")
DEPENDENCIES = {"torch", "transformers", "huggingface_hub"}  # transformers depends on the last

NAMES = """
    PRESETS TrefoilConfig TrefoilDecoderConfig TrefoilDecoderForCausalLM TrefoilDecoderForSequenceClassification
    TrefoilDecoderForTokenClassification TrefoilDecoderModel TrefoilEncoderConfig TrefoilEncoderDecoderConfig
    TrefoilEncoderDecoderForConditionalGeneration TrefoilEncoderDecoderModel TrefoilEncoderForMaskedLM
    TrefoilEncoderForQuestionAnswering TrefoilEncoderForSequenceClassification TrefoilEncoderForTokenClassification
    TrefoilEncoderModel TrefoilRecurrentConfig TrefoilRecurrentForConditionalGeneration TrefoilRecurrentModel
    TrefoilVisionEncoderDecoderConfig TrefoilVisionEncoderDecoderModel
    attention_maps continuous_batching load predict_by_length preset_config train
"""

PRESETS = """
    bart-base bert-base decoder-base decoder-small decoder-tiny encoder-base encoder-decoder-base
    encoder-decoder-small encoder-decoder-tiny encoder-small encoder-tiny gpt2 llama-like recurrent-base recurrent-small recurrent-tiny
    vaswani-base vision-encoder-decoder-base vision-encoder-decoder-small vision-encoder-decoder-tiny
"""

COMMANDS = {
    "new": "--data --minutes -o overrides task",
    "recipes": "name",
    "debug": "overrides recipe",
    "train": "--dry-run --json --quiet --stopped-code overrides recipe",
    "launch": "-o name",
    "evaluate": "--column --data --harness --json --minimal-pairs --predictions --split --task --trust-recipe -o folder overrides",
    "compare": "--column --data --json --task one other overrides",
    "publish": """
        --base-model --check --dtype --example --license --max-shard-size --merge --overwrite --private --push-to-hub --question --quiet
        --space --title --trust-remote-code output source
    """,
    "demo": "--folder --host --port model",
    "serve": """
        --batch-rows --batch-tokens --grace --host --key-file --max-body --max-waiting --name --port --task --timeout model
    """,
    "import": "--overwrite --quiet output source",
    "export": "--overwrite --quantization --quiet --to output source",
    "attend": "--quiet --to -o folder source target",
    "doctor": "--json",
    "completion": "shell",
    "predict": """
        --alignments --batch-size --chat --column --context --format --max-new-tokens --n-best --num-beams --question --quiet
        --scores --seed --task --temperature --to --top-k --top-p --truncate -i -o model texts
    """,
    "translate": """
        --alignments --batch-size --column --format --max-new-tokens --n-best --num-beams --quiet --scores --to --truncate -i -o
        model texts
    """,
}

RECIPE = {
    "": "language options output_dir overwrite seed task",
    "data": """
        columns config delimiter embedded embedded_sizes encoding header invalid_examples max_train_examples name path revision
        shuffle_buffer sources split streaming test_split train_split validation_split
    """,
    "tokenizer": "kind lowercase min_frequency path special_tokens stream_examples vocab_size",
    "model": "attn_implementation config init_from preset",
    "adapter": "alpha dropout kind load_in r targets",
    "batches": "max_source_length max_target_length token_dropout tokens_per_batch tokens_per_device truncate workers",
    "optimization": """
        beta1 beta2 epsilon label_smoothing learning_rate max_grad_norm optimizer schedule schedule_options
        warmup_steps weight_decay z_loss
    """,
    "training": """
        average_checkpoints compile evaluate_every gradient_checkpointing keep_every log_every max_epochs max_loss_sigmas
        max_minutes max_skipped_steps max_steps mixed_precision patience save_every save_minutes trackers
    """,
    "evaluation": """
        length_penalty max_examples max_new_tokens metric num_beams num_beams_while_training tokens_per_batch
    """,
}


def module_name(file):
    place = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(place if place[0] == "trefoil" else ("trefoil", *place)).removesuffix(".__init__")


def imported_names(file):
    """The absolute names of what a file of the package imports, also inside its functions and for a type checker only."""
    package = module_name(file.parent / "__init__.py").split(".")
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            start += [node.module] if node.module else []
            yield from (".".join([*start, alias.name]) for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_run_one_way(file):
    folder = file.relative_to(ROOT).parts[0]
    for name in imported_names(file):
        top, *inside = name.split(".")
        if top == "trefoil":
            other = inside[0] if inside and inside[0] in IMPORTS else "trefoil"
            assert other == folder or other in IMPORTS[folder], f"{name} from {folder}"
        elif folder == "visualization":
            of_page = (
                {"gradio", "huggingface_hub", "safetensors", "yaml"}
                if file.stem in ("app", "answers", "asking")
                else set()
            )
            known = {"torch", "transformers", "matplotlib"} | of_page
            assert top in known or top in sys.stdlib_module_names, name
        elif folder in PUBLISHED:
            assert top in DEPENDENCIES or top in sys.stdlib_module_names, name


def test_no_imports_run_in_a_circle():
    """Nor inside of functions or for a type checker, where Python lets them pass."""
    modules = {module_name(file): file for file in FILES}
    imports = {
        module: {name if name in modules else name.rpartition(".")[0] for name in imported_names(file)} & modules.keys()
        for module, file in modules.items()
    }
    for module, known in BY_TYPE_ALONE.items():
        assert known <= imports[module]
        imports[module] -= known
    TopologicalSorter(imports).prepare()  # raises an error that names a circle


def test_public_names():
    assert sorted(trefoil.__all__) == NAMES.split()
    assert all(getattr(trefoil, name).__module__.startswith("trefoil.") for name in NAMES.split() if name != "PRESETS")
    assert set(trefoil.__all__) < set(dir(trefoil))
    with pytest.raises(AttributeError, match="module 'trefoil' has no attribute 'TrefoilModle'"):
        _ = trefoil.TrefoilModle


def test_presets():
    assert sorted(trefoil.PRESETS) == PRESETS.split()


def test_commands_and_options():
    (commands,) = (action.choices for action in make_parser()._actions if action.dest == "command")
    options = {
        name: sorted((action.option_strings or [action.dest])[0] for action in parser._actions if action.dest != "help")
        for name, parser in commands.items()
    }
    assert options == {name: words.split() for name, words in COMMANDS.items()}


def test_recipe_keys():
    sections = {field.name: field.type for field in dataclasses.fields(Recipe) if dataclasses.is_dataclass(field.type)}
    keys = {name: sorted(field.name for field in dataclasses.fields(kind)) for name, kind in sections.items()}
    keys[""] = sorted({field.name for field in dataclasses.fields(Recipe)} - sections.keys())
    assert keys == {name: words.split() for name, words in RECIPE.items()}


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_recipe_loads_and_says_how_it_is_run(recipe):
    assert load_recipe(recipe) == load_recipe(recipe.stem)
    assert f"trefoil train {recipe.stem}" in recipe.read_text(encoding="utf-8")


def test_no_file_names_a_place_on_a_machine():
    place = re.compile(r"(?<![\w.])/(?:home/(?!me/)|Users/|root/|tmp/|mnt/|work/|workspace/)\w")
    kinds = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".json", ".cfg", ""}
    folders = {*IMPORTS, "benchmarks", "tests", "docs", ".ci"}
    files = [*ROOT.glob("*"), *(file for folder in folders for file in (ROOT / folder).rglob("*"))]
    texts = {
        file: file.read_text(encoding="utf-8")
        for file in files
        if file.is_file() and file.suffix in kinds and file.name != ".git"
    }
    assert {str(file) for file, text in texts.items() if place.search(text)} == set()
