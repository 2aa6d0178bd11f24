import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
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


def test_a_published_folder_passes_and_every_way_of_loading_is_tried(published, monkeypatch, capsys):
    monkeypatch.setattr(check_module, "SOON", 0.0)
    checks = check_published(published)
    assert "loading in a clean process: " in capsys.readouterr().err
    assert [check for check in checks if not check.ok] == []
    loading = {check.name: check.message for check in checks if " from " in check.name}
    pipelines = ["pipeline translation", "pipeline summarization"]
    things = ["AutoConfig", "AutoModel", "AutoModelForSeq2SeqLM", "tokenizer", *pipelines]
    assert loading.keys() == {f"{thing} from {place}" for thing in things for place in ("folder", "Hub cache")}
    assert "logits" in loading["AutoModelForSeq2SeqLM from Hub cache"]
    assert "equal bit for bit" in loading["AutoModelForSeq2SeqLM from Hub cache"]
    assert print_checks(checks) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(checks)
    assert print_checks([*checks, Check("code", False, "other")], only_failed=True) == 1
    assert capsys.readouterr().out == "FAILED  code: other\n"


@pytest.mark.slow
def test_a_captioner_passes_and_captions_in_the_clean_process(published_captioner, tmp_path):
    checks = check_published(published_captioner)
    assert [check for check in checks if not check.ok] == []
    loading = {check.name: check.message for check in checks if " from " in check.name}
    things = ["AutoConfig", "AutoModelForImageTextToText", "tokenizer", "captions"]
    assert loading.keys() == {f"{thing} from {place}" for thing in things for place in ("folder", "Hub cache")}
    assert "equal bit for bit" in loading["AutoModelForImageTextToText from Hub cache"]
    broken = shutil.copytree(published_captioner, tmp_path / "broken")
    (broken / "preprocessor_config.json").write_text('{"image_processor_type": "NoneOfThese"}')
    assert failures(broken).keys() == {"captions from folder", "captions from Hub cache"}


def test_a_tampered_file_is_reported_and_not_run(copy, tmp_path):
    with (copy / "modeling_layer.py").open("a") as file:
        file.write(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    failed = failures(copy)
    assert failed.keys() == {"code", "loading"}
    assert failed["code"].startswith("modeling_layer.py: not what trefoil-transformers")
    assert not (tmp_path / "ran").exists()


def test_another_version_is_checked_with_that_one(copy, unloaded):
    (copy / "modeling_layer.py").write_text("")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"trefoil_version": "0.0.1"}))
    assert failures(copy)["code"].startswith("modeling_layer.py: not what trefoil-transformers")
    assert failures(copy)["code"].endswith("config.json says that 0.0.1 has, so check with that one")
    assert all(check.ok for check in check_published(copy, trust_remote_code=True))


@pytest.mark.parametrize(
    ("name", "content", "failed"),
    [
        ("pytorch_model.bin", b"", {"files", "weights", "loading"}),
        ("vocab.txt", b"PK\x03\x04", {"weights", "loading"}),
        ("merges.txt", b"\x80\x04\x95", {"weights", "loading"}),
        ("notes.txt", b"mine", {"files", "loading"}),
        ("modeling_more.py", b"", {"code", "loading"}),
        ("model-00001-of-00002.safetensors", b"", {"weights", "loading"}),
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


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["../evil.Mine", None]}}, "auto_map"),
        ("generation_config.json", {"custom_generate": "."}, "custom_generate"),
        ("config.json", {"task_specific_params": {"translation": [{"trust_remote_code": 1}]}}, "trust_remote_code"),
        ("config.json", {"encoder": {"custom_pipelines": {}}}, "custom_pipelines"),
    ],
)
def test_a_key_that_names_code_is_reported(copy, unloaded, name, content, key):
    before = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps(before | content))
    found = failures(copy)
    assert found["config"] == f"{name}: has {key}, which names code to run; remove it"
    assert found["loading"].startswith("not tried, as config failed; mend that")


def test_templates_may_lie_in_their_folder_and_nothing_else(copy, unloaded):
    (copy / "additional_chat_templates").mkdir()
    (copy / "additional_chat_templates" / "tools.jinja").write_text("{{ messages }}")
    assert failures(copy) == {}
    (copy / "additional_chat_templates" / "tools.py").write_text("")
    assert failures(copy)["files"].startswith("additional_chat_templates/tools.py: ")


STARTS = """
import subprocess, sys
from pathlib import Path
from trefoil.hub import check

class Told(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        print(self.pid, flush=True)

subprocess.Popen = Told
check._run_clean_process(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_the_clean_process_ends_with_its_parent(tmp_path):
    folder, scratch = tmp_path / "folder", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    os.mkfifo(folder / "config.json")  # reading it never ends
    arguments = [sys.executable, "-c", STARTS, str(folder), str(scratch)]
    parent = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
