"""What transformers and PEFT know of Trefoil, in whatever order they are imported; each in a process of its own."""

import subprocess
import sys

import pytest

KNOWN = """
config = AutoConfig.for_model("trefoil_decoder", vocab_size=67, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
assert type(AutoModelForCausalLM.from_config(config)).__module__ == "trefoil.modeling.decoder"
"""

ORDERS = {
    "ours first": "import trefoil; from transformers import AutoConfig, AutoModelForCausalLM" + KNOWN,
    "transformers first": "import transformers, trefoil; from transformers import AutoConfig, AutoModelForCausalLM"
    + KNOWN,
    "theirs imported before": "from transformers import AutoConfig, AutoModelForCausalLM; import trefoil" + KNOWN,
    "ours as a whole": "from trefoil.modeling import auto; from transformers import AutoConfig, AutoModelForCausalLM"
    + KNOWN,
    "ours in part": "import trefoil.modeling.layer; from transformers import AutoConfig, AutoModelForCausalLM" + KNOWN,
    "a configuration alone": (
        "import sys, trefoil; from transformers import AutoConfig; AutoConfig.for_model('trefoil_encoder'); "
        "assert 'trefoil.modeling.encoder' not in sys.modules"
    ),
    "pipelines": (
        "import trefoil; from transformers.pipelines import PIPELINE_REGISTRY; "
        "assert PIPELINE_REGISTRY.check_task('translation')[1]['impl'] is trefoil.pipelines.translation.TranslationPipeline"
    ),
}


def run(code):
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


@pytest.mark.slow  # tests/test_dependencies.py has ours first
@pytest.mark.parametrize("order", ORDERS)
def test_whoever_comes_first(order):
    run(ORDERS[order])


@pytest.mark.slow
def test_a_configuration_forgets_the_code_of_its_folder_whoever_loads_it(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "trefoil_decoder", "auto_map": {"AutoConfig": "x.y"}}')
    run(
        f"from trefoil import TrefoilDecoderConfig; config = TrefoilDecoderConfig.from_pretrained({str(tmp_path)!r}); "
        "assert not hasattr(config, 'auto_map')"
    )


@pytest.mark.slow
def test_modules_are_found_by_their_names():
    run("import trefoil; trefoil.visualization; trefoil.modeling.attention.MultiHeadAttention; trefoil.training")


@pytest.mark.slow
def test_threads_import_at_the_same_time():
    run(
        "import threading, trefoil; thread = threading.Thread(target=__import__, args=('trefoil.modeling.decoder',)); "
        "thread.start(); from transformers import AutoConfig, AutoModelForCausalLM; thread.join()" + KNOWN
    )


@pytest.mark.slow
def test_adapters():
    pytest.importorskip("peft")
    run(
        "import trefoil; from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as known; "
        "assert known['trefoil_encoder'] == known['llama']"
    )


def test_nobody_waits_for_what_is_not_used():
    run(
        "import sys, trefoil; from trefoil.cli import make_parser; make_parser(); "
        "assert trefoil.__version__; assert not sys.modules.keys() & {'torch', 'transformers', 'peft', 'numpy', 'datasets'}"
    )


def test_a_mistake_in_a_recipe_is_told_before_anything_large_is_imported():
    run(
        "import sys; from trefoil.cli import main; "
        "code = main(['train', 'encoder-token-classification-embedded', 'training.max_step=1', 'model.preset=huge']); "
        "assert code == 2; assert not sys.modules.keys() & {'torch', 'transformers', 'accelerate', 'datasets'}"
    )


@pytest.mark.slow
def test_looking_for_a_module_does_not_import_it():
    run(
        "import importlib.util, sys, trefoil; name = 'transformers.pipelines'; assert importlib.util.find_spec(name); "
        "assert 'trefoil.pipelines.registration' not in sys.modules; import transformers.pipelines; "
        "assert 'trefoil.pipelines.registration' in sys.modules; "
        "assert type(sys.modules[name].__spec__.loader).__name__ == 'SourceFileLoader'"
    )
