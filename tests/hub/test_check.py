import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from fuzzing import FEW, MANY, hypothesis, times
from hypothesis import strategies as st

from trefoil.configuration.errors import UserError
from trefoil.hub import check as check_module
from trefoil.hub.check import Check, check_published, print_checks
from trefoil.hub.publish import publish
from trefoil.training.manifest import write_manifest


@pytest.fixture
def whole(published, tmp_path):
    return shutil.copytree(published, tmp_path / "tiny")


@pytest.fixture
def copy(whole):
    """Without checksums, beside which nothing else could fail alone."""
    (whole / "manifest.json").unlink()
    return whole


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
    (broken / "manifest.json").unlink()
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


def compared(folder):
    return check_module._check_checksums(folder)


def flip(file, at, mask):
    content = bytearray(file.read_bytes())
    content[at % len(content)] ^= mask
    file.write_bytes(content)


def is_noticed(folder, name):
    """Whether it is said that a file is not what was published, which is no failure where the card, or its checksum, is other."""
    check = compared(folder)
    of_card = name in ("README.md", "manifest.json") and "README.md was changed since" in check.message
    return of_card or not check.ok


@pytest.mark.parametrize("count", [FEW, MANY])
def test_any_byte_that_is_another_is_noticed(whole, count):
    files = st.sampled_from(sorted(path.name for path in whole.iterdir()))

    @hypothesis.given(files, st.integers(0, 2**40), st.integers(1, 255))
    def another_byte_is_noticed(name, at, mask):
        flip(whole / name, at, mask)
        noticed = is_noticed(whole, name)
        flip(whole / name, at, mask)
        assert noticed

    times(another_byte_is_noticed, 60, count)
    assert compared(whole) == Check("checksums", True, f"{len(list(whole.iterdir())) - 1} files as they were published")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["manifest.json", "config.json", "README.md"])
def test_so_is_each_of_a_file_s_bytes(whole, name):
    for at in range((whole / name).stat().st_size):
        mask = 1 << at % 8
        flip(whole / name, at, mask)
        assert is_noticed(whole, name), (at, mask)
        flip(whole / name, at, mask)


def test_what_was_changed_and_what_is_missing_is_named(whole, unloaded):
    with (whole / "tokenizer.json").open("a") as file:
        file.write("\n")
    (whole / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes()[:-1] + b"x")
    (whole / "curve.png").unlink()
    found = failures(whole)
    assert found["checksums"] == (
        "model.safetensors, tokenizer.json: not what was published; curve.png: missing; "
        "fetch it anew, or publish again what you changed on purpose"
    )
    assert found.keys() == {"checksums", "loading"}


def test_a_card_may_be_changed_and_files_may_be_added(whole, unloaded):
    with (whole / "README.md").open("a") as file:
        file.write("Of use to nobody.\n")
    (whole / "LICENSE").write_text("Apache-2.0")
    assert failures(whole) == {}
    said = f"{len(list(whole.iterdir())) - 3} files as they were published; README.md was changed since, as a card may be; "
    assert compared(whole).message == f"{said}LICENSE came later, and nothing is known of it"


def test_what_was_changed_on_purpose_is_published_again(whole, tmp_path):
    settings = json.loads((whole / "generation_config.json").read_text())
    (whole / "generation_config.json").write_text(json.dumps(settings | {"num_beams": 3}))
    assert compared(whole).message.startswith("generation_config.json: not what was published; ")
    assert compared(publish(whole, tmp_path / "again")).ok


def test_a_template_in_its_folder_counts(whole):
    (whole / "additional_chat_templates").mkdir()
    template = whole / "additional_chat_templates" / "tools.jinja"
    template.write_text("{{ messages }}")
    write_manifest(whole)
    assert compared(whole).ok
    template.write_text("{{ message }}")
    assert compared(whole).message.startswith("additional_chat_templates/tools.jinja: not what was published; ")


def test_a_manifest_names_files_of_its_folder_and_no_others(whole, tmp_path):
    (tmp_path / "secret").write_text("mine")
    checksums = json.loads((whole / "manifest.json").read_text()) | {"../secret": "0", "/dev/zero": "0"}
    (whole / "manifest.json").write_text(json.dumps(checksums, indent=0))
    assert compared(whole).message.startswith("../secret, /dev/zero: missing; ")


def test_without_a_manifest_it_is_said_that_nobody_can_tell(copy, unloaded):
    with (copy / "tokenizer.json").open("a") as file:
        file.write("\n")
    assert failures(copy) == {}
    assert compared(copy).message.startswith(
        "manifest.json is not there, so nobody can tell whether files were damaged"
    )


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
