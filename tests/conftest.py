"""Small models of every family, a tiny run, files to read, and a cache of data sets of one's own; shared by all tests."""

import gc
import os
from functools import cache

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import pytest
import torch
from PIL import Image
from training_runs import tiny_recipe

import trefoil
from trefoil.training import run, throughput
from trefoil.training.run import train

torch.set_num_threads(1)


def pytest_collection_finish():
    """Each run collects garbage at its end, and need not look through all modules for it."""
    gc.collect()
    gc.freeze()


SMALL = {
    "vocab_size": 67, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip

# every kind of position, norm, feed-forward and mask, over all families
VARIANTS = {
    "modern": {},
    "vaswani": {
        "norm_type": "layer_norm", "norm_position": "post", "position_embedding_type": "sinusoidal",
        "scale_embedding": True, "is_gated_act": False, "hidden_act": "relu", "mlp_bias": True,
    },
    "bert": {
        "norm_type": "layer_norm", "norm_position": "post", "position_embedding_type": "learned",
        "embedding_norm": True, "is_gated_act": False, "hidden_act": "gelu", "attention_bias": True, "mlp_bias": True,
        "num_key_value_heads": 4,
    },
    "t5": {
        "position_embedding_type": "relative", "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 12, "query_pre_attn_scalar": 1, "is_gated_act": False, "hidden_act": "relu",
        "freeze_padding_embedding": False, "num_key_value_heads": 4,
    },
    "windows": {
        "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"], "qk_norm": "head",
        "attention_bias": True, "attention_output_bias": False,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
        },
    },
    "olmo": {"norm_position": "output", "qk_norm": "projection"},
    "gemma": {
        "norm_position": "sandwich", "norm_type": "zero_centered_rms_norm", "qk_norm": "head",
        "query_pre_attn_scalar": 12, "scale_embedding": True, "hidden_act": "gelu_pytorch_tanh",
    },
}  # fmt: skip

FAMILIES = {
    "encoder": (trefoil.TrefoilEncoderConfig, trefoil.TrefoilEncoderForMaskedLM),
    "decoder": (trefoil.TrefoilDecoderConfig, trefoil.TrefoilDecoderForCausalLM),
    "encoder-decoder": (
        trefoil.TrefoilEncoderDecoderConfig,
        trefoil.TrefoilEncoderDecoderForConditionalGeneration,
    ),
}


def tiny_config(family, variant="modern", **overrides):
    fields = SMALL | VARIANTS[variant] | overrides
    config_class, _ = FAMILIES[family]
    if "layer_types" in fields:
        fields["layer_types"] = (fields["layer_types"] * 2)[: fields["num_hidden_layers"]]
    if family != "encoder-decoder":
        return config_class(**fields)
    decoder = fields
    if variant == "windows":  # not with cross-attention
        decoder = {name: fields[name] for name in fields.keys() - {"sliding_window", "layer_types", "rope_parameters"}}
    return config_class(encoder=fields, decoder=decoder, tie_word_embeddings=fields.get("tie_word_embeddings", True))


def tiny_model(family, variant="modern", seed=0, attn_implementation="sdpa", **overrides):
    """A randomly initialised model whose weights are large enough for its outputs to depend on every input."""
    torch.manual_seed(seed)
    config = tiny_config(family, variant, initializer_range=0.2, **overrides)
    config._attn_implementation = attn_implementation
    return FAMILIES[family][1](config).eval()


# all else is tried with the slow tests
OFTEN = {
    "encoder": ("modern", "bert", "olmo"),
    "decoder": ("modern", "windows", "gemma"),
    "encoder-decoder": ("modern", "vaswani", "t5"),
}


def seldom(values, *often):
    """Values to parametrize with; all but those named are slow."""
    return [value if value in often else pytest.param(value, marks=pytest.mark.slow) for value in values]


def pairs(*families):
    """Family and variant, to parametrize with."""
    return [
        pytest.param(
            family, variant, id=f"{family}-{variant}", marks=[] if variant in OFTEN[family] else pytest.mark.slow
        )
        for family in families
        for variant in VARIANTS
    ]


@pytest.fixture(params=[pytest.param(pair.values, id=pair.id, marks=pair.marks) for pair in pairs(*FAMILIES)])
def family_and_variant(request):
    return request.param


@pytest.fixture
def token_ids():
    return torch.randint(3, SMALL["vocab_size"], (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True, scope="session")
def _own_cache_of_data_sets(tmp_path_factory):
    """A file that a test writes is never taken for one that an earlier test run left in the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(autouse=True, scope="session")
def _drawing():
    """Drawing takes a third of a tiny run, so most only say where they would."""
    draw = run.plot_run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "plot_run", lambda log, metric, picture, **_: Image.new("1", (1, 1)).save(picture))
        yield draw


@pytest.fixture(autouse=True, scope="session")
def _speed_of_the_machine():
    """Measuring it takes a tenth of a tiny run, so it is measured once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput, "matmul_speed", cache(throughput.matmul_speed))
        yield


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, _drawing):
    """A tiny run that nothing interrupted; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "plot_run", _drawing)
        train(tiny_recipe(folder))
    return folder


@pytest.fixture
def write(tmp_path):
    """Write a file of a data folder: text as UTF-8, bytes as they are; returns the file."""

    def write_file(name, content):
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write_file
