"""What a stranger's folder may say: nothing is loaded by it before this is asked."""

import json
import os
import re
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from training_runs import tiny_recipe

from trefoil.configuration.errors import UserError
from trefoil.recipes.schema import load_recipe
from trefoil.training import strangers
from trefoil.training.run_folder import RunFolder, is_own_model
from trefoil.training.strangers import data_of_folder, least_bytes, require_loadable, require_own_files

SIZES = {"vocab_size": 30, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
WEIGHTS = {
    "embed_tokens.weight": torch.zeros(30, 8),
    **{f"layers.{layer}.{name}.weight": torch.zeros(16, 8) for layer in (0, 1) for name in ("up", "down")},
}


@pytest.fixture
def folder(tmp_path):
    """A model of which only names and shapes are true."""
    home = tmp_path / "model"
    home.mkdir()
    (home / "config.json").write_text(json.dumps(SIZES))
    save_file(WEIGHTS, home / "model.safetensors")
    return home


def refused(action, *arguments):
    with pytest.raises(UserError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- whose files they are


@pytest.mark.parametrize("name", ["vocab.txt", "README.md", "additional_chat_templates/x.jinja"])
@pytest.mark.parametrize("is_relative", [True, False], ids=["relative", "absolute"])
def test_a_link_that_leads_out_is_refused_by_name(folder, tmp_path, name, is_relative):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    link = folder / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(os.path.relpath(secret, link.parent) if is_relative else secret)
    assert refused(require_own_files, folder).startswith(f"{link}: is a link that leads out of the folder")


def test_links_within_the_folder_and_a_link_to_it_are_its_own(folder, tmp_path):
    (folder / "vocab.txt").symlink_to("config.json")
    (tmp_path / "latest").symlink_to(folder)
    require_own_files(tmp_path / "latest")


def test_a_link_over_another_link_is_followed_to_its_end(folder, tmp_path):
    (tmp_path / "secret").write_text("mine")
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("../secret")
    assert refused(require_own_files, folder).startswith(f"{folder / 'a'}: is a link that leads out")


def test_a_snapshot_of_the_hub_s_cache_links_to_its_own_blobs_and_nowhere_else(folder, tmp_path):
    repository = tmp_path / "hub" / "models--a--b"
    snapshot = shutil.copytree(folder, repository / "snapshots" / "0123")
    (repository / "blobs").mkdir()
    shutil.move(snapshot / "config.json", repository / "blobs" / "abc")
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    require_own_files(snapshot)
    shutil.rmtree(repository / "blobs")
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "abc").write_text("mine")
    (repository / "blobs").symlink_to(tmp_path / "others")
    assert "leads out of the folder" in refused(require_own_files, snapshot)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path.name)], ids=["pipe", "circle"])
def test_what_is_no_file_is_refused(folder, make):
    make(folder / "vocab.txt")
    assert refused(require_own_files, folder) == f"{folder / 'vocab.txt'}: is neither a file nor a folder; remove it"


# --- weights


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "sub/model.safetensors", "..", "", 7, None, "a\\b"]
)
def test_an_index_names_files_beside_it_only(folder, name):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"x": name}}))
    assert refused(require_loadable, folder) == (
        f"{folder / 'model.safetensors.index.json'}: names {name!r}, which is no file beside it"
    )


@pytest.mark.parametrize("content", [[], {}, {"weight_map": []}])
def test_an_index_that_is_none(folder, content):
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    assert refused(require_loadable, folder).startswith(str(folder / "model.safetensors.index.json"))


def header(content):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**40) + b"{}",
        header(b"[" * 100_000),
        header({"a": TENSOR, "b": TENSOR | {"data_offsets": [4, 12]}}) + bytes(12),
        header({"a": TENSOR | {"shape": [2**40, 2**40]}}) + bytes(8),
        header({"a": TENSOR | {"data_offsets": [0, 2**50]}}) + bytes(8),
        header({"a": TENSOR | {"dtype": "pickle"}}) + bytes(8),
    ],
    ids=["empty", "2**63", "2**40", "nested", "overlapping", "shape", "offset", "dtype"],
)
def test_weights_whose_head_lies(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    assert refused(require_loadable, folder).startswith(f"{folder / 'model.safetensors'}: cannot be read: ")


# --- sizes


def test_sizes_that_the_weights_have_are_fine(folder):
    require_loadable(folder)


@pytest.mark.parametrize("part", [None, "encoder", "text_config"])
@pytest.mark.parametrize(
    ("name", "value", "has"),
    [
        ("num_hidden_layers", 10_000_000, "5 tensors"),
        ("num_hidden_layers", 6, "5 tensors"),
        ("n_layer", 1e12, "5 tensors"),
        ("vocab_size", 10**12, "no tensor wider than 30"),
        ("hidden_size", 31, "no tensor wider than 30"),
        ("intermediate_size", 10**9, "no tensor wider than 30"),
        ("num_attention_heads", 2**40, "no tensor wider than 30"),
        ("num_labels", 10**9, "no tensor wider than 30"),
        ("max_position_embeddings", 10**12, "no tensor wider than 30"),
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_anything_is_made(folder, part, name, value, has):
    fields = SIZES | {name: value}
    (folder / "config.json").write_text(json.dumps(fields if part is None else {part: fields}))
    message = refused(require_loadable, folder)
    start, _, memory = message.partition("; ")
    assert start == f"{folder / 'config.json'}: {name} is {int(value):,}, but the weights have {has}"
    assert bool(memory) == (value > 100 and name != "num_labels")
    assert not memory or re.fullmatch(r"such a model would take [\d,.]+ GB of memory at least", memory)


@pytest.mark.parametrize("value", ["1" * 400, "1e400", "-1e400", "NaN", "-7"])
@pytest.mark.parametrize("name", ["vocab_size", "num_hidden_layers", "max_new_tokens"])
@pytest.mark.parametrize("has_weights", [True, False])
def test_numbers_of_any_kind(folder, name, value, has_weights):
    if not has_weights:
        (folder / "model.safetensors").unlink()
    (folder / "config.json").write_text(json.dumps(SIZES)[:-1] + f', "{name}": {value}}}')
    if value.startswith("1" * 9) or (value == "1e400" and name == "max_new_tokens"):
        assert "above 1e+30" in refused(require_loadable, folder)
    else:  # what is no whole number is for the class to refuse
        require_loadable(folder)


def test_positions_that_are_computed_may_be_many(folder):
    for fields in ({"rope_theta": 1e6}, {"position_embedding_type": "alibi"}):
        (folder / "config.json").write_text(json.dumps(SIZES | fields | {"max_position_embeddings": 10**9}))
        require_loadable(folder)


def test_without_weights_the_machine_s_memory_is_the_bound(folder, monkeypatch):
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(strangers, "machine_memory", lambda: 10**9)
    require_loadable(folder)
    (folder / "config.json").write_text(json.dumps(SIZES | {"vocab_size": 10**9}))
    message = refused(require_loadable, folder)
    assert message.startswith(f"{folder / 'config.json'}: a model with vocab_size=1,000,000,000, hidden_size=8, ")
    assert message.endswith("takes 32.0 GB of memory at least, and this machine has 1.0 GB")
    monkeypatch.setattr(strangers, "machine_memory", lambda: None)
    require_loadable(folder)


def test_the_memory_that_is_told_is_less_than_what_a_model_takes():
    import trefoil

    fields = SIZES | {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 1000, "max_position_embeddings": 100}
    for kind in (trefoil.TrefoilEncoderModel, trefoil.TrefoilDecoderModel):
        for positions in ("learned", "rotary"):
            config = kind.config_class(**fields, position_embedding_type=positions)
            model = kind(config)
            taken = 4 * model.num_parameters() + config.num_hidden_layers * strangers.LAYER_BYTES
            assert 0 < least_bytes(config.to_dict()) <= taken


@pytest.mark.parametrize("content", [b"[]", b"7", b"[" * 100_000, b"\xff", b'{"a": ' + b"1" * 5000 + b"}"])
def test_a_configuration_that_is_none(folder, content):
    (folder / "config.json").write_bytes(content)
    assert refused(require_loadable, folder).startswith(f"{folder / 'config.json'}: is ")


# --- generation


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        (
            "generation_config.json",
            {"min_new_tokens": 10**9},
            "min_new_tokens is 1,000,000,000, and more than 1,048,576 tokens",
        ),
        (
            "generation_config.json",
            {"max_length": 1e12},
            "max_length is 1,000,000,000,000, and more than 1,048,576 tokens",
        ),
        ("generation_config.json", {"num_beams": 1_000_000}, "num_beams is 1,000,000, and more than 64 beams"),
        (
            "generation_config.json",
            {"cache_implementation": "static", "max_cache_len": 10**9},
            "max_cache_len is 1,000,000,000, and more than 1,048,576 tokens",
        ),
        ("config.json", SIZES | {"num_return_sequences": 65}, "num_return_sequences is 65, and more than 64 beams"),
        (
            "config.json",
            SIZES | {"task_specific_params": {"summarization": {"max_new_tokens": 10**9}}},
            "max_new_tokens is 1,000,000,000, and more than",
        ),
    ],
)
def test_texts_that_nobody_waits_for_are_refused(folder, file, settings, message):
    (folder / file).write_text(json.dumps(settings))
    found = refused(require_loadable, folder)
    assert found.startswith(f"{folder / file}: {message}")
    assert re.search(r"the cache alone would take [\d,.]+ GB$", found)


@pytest.mark.parametrize("kind", ["offloaded", "offloaded_static", "quantized"])
def test_caches_that_need_a_machine_of_their_own_are_refused(folder, kind):
    (folder / "generation_config.json").write_text(json.dumps({"cache_implementation": kind}))
    said = f"{folder / 'generation_config.json'}: cache_implementation={kind} is no matter of a model but of a machine"
    assert refused(require_loadable, folder) == f"{said}; leave it out"


def test_a_cache_that_is_made_at_once_fits_into_the_machine(folder, monkeypatch):
    monkeypatch.setattr(strangers, "machine_memory", lambda: 10**9)
    settings = {"cache_implementation": "static", "max_new_tokens": 2**20, "num_beams": 8}
    (folder / "generation_config.json").write_text(json.dumps(settings))  # 2 layers * 8 * 2 * 4 bytes of each token
    said = f"{folder / 'generation_config.json'}: cache_implementation=static takes 1.1 GB of memory before a token is written"
    assert refused(require_loadable, folder).startswith(said)
    for fine in ({"num_beams": 7}, {"cache_implementation": "dynamic"}):
        (folder / "generation_config.json").write_text(json.dumps(settings | fine))
        require_loadable(folder)
    monkeypatch.setattr(strangers, "machine_memory", lambda: None)
    require_loadable(folder)


def test_texts_as_models_write_them_are_fine(folder):
    settings = {
        "max_new_tokens": 131_072,
        "num_beams": 12,
        "min_length": None,
        "max_length": 2.5,
        "early_stopping": True,
    }
    (folder / "generation_config.json").write_text(json.dumps(settings))
    require_loadable(folder)


# --- data that its recipe names


def recipe_of(folder, data, *overrides):
    content = f"data: {json.dumps(data)}\nmodel: {{preset: encoder-tiny}}\ntraining: {{max_steps: 1}}\n"
    (folder / "recipe.yaml").write_text(content)
    return load_recipe(folder / "recipe.yaml", overrides)


ELSEWHERE = {
    "absolute": ({"path": "/etc"}, "data.path='/etc' lies neither in that folder nor in this one"),
    "upwards": ({"path": "data/../../x"}, "data.path='data/../../x' lies neither in"),
    "home": ({"path": "~/x"}, f"data.path='{Path.home()}/x' lies neither in"),
    "Hub": ({"name": "glue", "config": "sst2"}, "data.name='glue' is a data set of the Hub"),
    "path of the Hub": ({"name": "../x"}, "data.name='../x' is a data set of the Hub"),
    "source": ({"sources": [{"path": "a"}, {"path": "/etc"}]}, "data.sources[1].path='/etc' lies neither in"),
}


@pytest.mark.parametrize(("data", "message"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_data_elsewhere_is_read_where_the_user_says_so(folder, tmp_path, monkeypatch, data, message):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    recipe = recipe_of(folder, data)
    found = refused(list, data_of_folder(recipe, folder, [], is_trusted=False))
    assert found.startswith(f"{folder / 'recipe.yaml'}: {message}")
    assert "; let the folder's recipe read it with --trust-recipe, or name the data yourself: data." in found
    assert all(line.startswith(f"{folder}: ") for line in data_of_folder(recipe, folder, [], is_trusted=True))


def test_data_in_the_folder_or_the_working_directory_is_read_and_told(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for data, told in [
        ({"path": "data"}, ["reads data, as data.path says"]),
        ({"path": str(folder / "data")}, [f"reads {folder / 'data'}, as data.path says"]),
        ({"embedded": True}, []),
    ]:
        lines = data_of_folder(recipe_of(folder, data), folder, [], is_trusted=False)
        assert list(lines) == [f"{folder}: {line}" for line in told]


def test_a_link_to_data_is_followed(folder, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("data").symlink_to("/etc")
    assert "lies neither in" in refused(list, data_of_folder(recipe_of(folder, {"path": "data"}), folder, [], False))


@pytest.mark.parametrize(
    ("data", "override"),
    [
        ({"path": "/etc"}, "data.path=/usr"),
        ({"name": "glue"}, "data={path: /usr}"),
        ({"sources": [{"path": "/etc"}]}, "data.sources[0].path=/usr"),
        ({"sources": [{"path": "/etc"}]}, "data.sources.0.path=/usr"),
    ],
)
def test_data_that_the_user_names_is_read(folder, data, override):
    recipe = recipe_of(folder, data, override)
    assert len(list(data_of_folder(recipe, folder, [override], is_trusted=False))) == 1
    assert "lies neither" in refused(list, data_of_folder(recipe, folder, ["data.columns.text=x"], is_trusted=False))


def test_a_run_of_this_machine_is_the_user_s_own(tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run")
    run.best.path.mkdir(parents=True)
    assert not is_own_model(run.best.path)
    shutil.rmtree(run.path)
    with run.claimed(tiny_recipe(run.path)):
        run.best.path.mkdir()
    assert is_own_model(run.best.path)
    assert not is_own_model(run.path)
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert not is_own_model(run.best.path)
