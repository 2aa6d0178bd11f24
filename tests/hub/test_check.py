import json
import shutil

import pytest
import torch

from trefoil.configuration.errors import UserError
from trefoil.hub import check as check_module
from trefoil.hub.check import Check, check_published, print_checks


@pytest.fixture
def copy(published, tmp_path):
    return shutil.copytree(published, tmp_path / "tiny")


@pytest.fixture
def unloaded(monkeypatch):
    """Checks all but loading, which takes seconds."""
    monkeypatch.setattr(check_module, "_check_loading", lambda folder, config: [])


def failures(folder):
    return {check.name: check.message for check in check_published(folder) if not check.ok}


def test_a_published_folder_passes_and_every_way_of_loading_is_tried(published, capsys):
    checks = check_published(published)
    assert [check for check in checks if not check.ok] == []
    loading = {check.name: check.message for check in checks if " from " in check.name}
    pipelines = ["pipeline translation", "pipeline summarization"]
    things = ["AutoConfig", "AutoModel", "AutoModelForSeq2SeqLM", "tokenizer", *pipelines]
    assert loading.keys() == {f"{thing} from {place}" for thing in things for place in ("folder", "Hub cache")}
    assert "logits" in loading["AutoModelForSeq2SeqLM from Hub cache"]
    assert "equal bit for bit" in loading["AutoModelForSeq2SeqLM from Hub cache"]
    assert print_checks(checks) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(checks)


def test_a_tampered_file_is_reported_and_not_run(copy, tmp_path):
    with (copy / "modeling_layer.py").open("a") as file:
        file.write(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    failed = failures(copy)
    assert failed.keys() == {"code", "loading"}
    assert failed["code"].startswith("modeling_layer.py: not what trefoil-transformers")
    assert not (tmp_path / "ran").exists()


def test_another_version_is_a_note(copy, unloaded):
    (copy / "modeling_layer.py").write_text("")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"trefoil_version": "0.0.1"}))
    code = next(check for check in check_published(copy) if check.name == "code")
    assert code.ok
    assert "note: published by trefoil-transformers 0.0.1" in code.message
    assert "modeling_layer.py" in code.message


@pytest.mark.parametrize(
    ("name", "content", "failed"),
    [
        ("pytorch_model.bin", b"", {"files", "weights"}),
        ("vocab.txt", b"PK\x03\x04", {"weights"}),
        ("merges.txt", b"\x80\x04\x95", {"weights"}),
        ("notes.txt", b"mine", {"files"}),
        ("modeling_more.py", b"", {"code", "loading"}),
        ("model-00001-of-00002.safetensors", b"", {"weights"}),
    ],
)
def test_files_that_should_not_be_there(copy, unloaded, name, content, failed):
    (copy / name).write_bytes(content)
    found = failures(copy)
    assert found.keys() == failed
    assert any(name in message for message in found.values()) or name.endswith(".safetensors")


def test_a_folder_in_it_is_reported_but_not_the_download_cache(copy, unloaded):
    (copy / ".cache").mkdir()
    assert failures(copy) == {}
    (copy / "checkpoint").mkdir()
    assert failures(copy)["files"].startswith("checkpoint/")


def test_broken_weights_metadata_and_card(copy, unloaded):
    (copy / "model.safetensors").rename(copy / "model-00001-of-00001.safetensors")
    config = json.loads((copy / "config.json").read_text())
    del config["auto_map"]["AutoModel"]
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "README.md").unlink()
    assert failures(copy).keys() == {"weights", "config", "card", "loading"}


def test_the_last_bit_counts():
    here = {"logits": torch.ones(2, 3)}
    there = {"logits": torch.ones(2, 3)}
    assert check_module._compare("x", here, there).ok
    there["logits"][1, 2] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    assert "differs" in check_module._compare("x", here, there).message
    assert not check_module._compare("x", here, {"logits": here["logits"].double()}).ok
    assert not check_module._compare("x", here, {}).ok


def test_failures_are_printed_and_counted(capsys):
    assert print_checks([Check("files", True, "2"), Check("weights", False, "x.bin: remove it")]) == 1
    assert capsys.readouterr().out == "ok      files: 2\nFAILED  weights: x.bin: remove it\n"


def test_what_is_no_published_folder_is_said_so(tmp_path):
    with pytest.raises(UserError, match=r"has no config\.json"):
        check_published(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="model_type 'bert'"):
        check_published(tmp_path)
