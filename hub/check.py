"""Whether a published folder keeps its promise: loads anywhere, gives the same outputs, holds nothing but what it says."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import ModelCard
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import PreTrainedConfig
from transformers.utils import logging

from ..configuration.errors import UserError, reason
from ..configuration.version import __version__
from ..data.progress import SOON, progress_bar
from ..modeling.auto import AUTO_CLASSES
from ..training.manifest import MANIFEST_FILE, damage, read_manifest
from ..training.run_folder import ModelFolder
from ..training.strangers import TEMPLATES, require_loadable, require_own_files
from . import clean_process
from .bundle import PACKAGE, auto_map, bundle_code, custom_pipelines
from .folders import config_file, unexpected_files
from .space import APP, PAGE_ENDINGS, space_fields, space_files

# How files begin that Python unpickles: a zip archive of torch's, and the pickle protocols 2 to 5.
PICKLE_STARTS = (b"PK\x03\x04", *(bytes([0x80, protocol]) for protocol in range(2, 6)))
# what the head of a card makes its reader raise
CARD_ERRORS = (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, yaml.YAMLError)
CODE_ENDINGS = (".py", *PAGE_ENDINGS)
TIME_LIMIT = 900
CARD = "README.md"
_ANEW = "fetch it anew, or publish again what you changed on purpose"
NAMES_CODE = ("auto_map", "custom_pipelines", "custom_generate", "trust_remote_code")
_REPO_ID = "trefoil/published"
_COMMIT = "0" * 40
_OWN_CACHES = ("HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "HF_ENDPOINT")


@dataclass(frozen=True)
class Check:
    """One thing that was checked. `message` says what was found and, if it failed, what would be right."""

    name: str
    ok: bool
    message: str

    def __str__(self) -> str:
        return f"ok      {self.name}: {self.message}" if self.ok else f"FAILED  {self.name}: {self.message}"


def print_checks(checks: Iterable[Check], only_failed: bool = False) -> int:
    """Prints one line a check; returns the exit code: 1 if any failed."""
    failed = False
    for check in checks:
        if not (check.ok and only_failed):
            print(check)
        failed |= not check.ok
    return int(failed)


def check_published(folder: str | os.PathLike, trust_remote_code: bool = False) -> list[Check]:
    """Checks a published folder, or one downloaded from the Hub.

    First all files are judged. Only where each is what the installed package would have written, the folder is loaded
    in a process of its own, and its code runs. Of an adapter, whose base lies elsewhere, nothing is loaded.

    Args:
        folder: The folder.
        trust_remote_code: Load it also where its files are others, and let whatever code it has run.

    Raises:
        UserError: It is no published folder at all.
    """
    folder = Path(os.path.abspath(folder))
    file = config_file(folder)
    config = _read_config(file)
    families = {config_class.model_type: config_class for config_class in AUTO_CLASSES}
    if str(config.get("model_type")) not in families:
        raise UserError(f"{file}: model_type {config.get('model_type')!r} is not one of {', '.join(families)}")
    config_class = families[config["model_type"]]
    is_adapter = ModelFolder(folder).is_adapter
    names = {"auto_map": auto_map(config_class), "custom_pipelines": custom_pipelines(config_class)}
    checks = [
        _check_files(folder),
        _check_weights(folder),
        _check_card(folder),
        _check_config(folder, config, {} if is_adapter else names),
        _check_code(folder, config, {} if is_adapter else _code(folder, config_class), trust_remote_code),
        _check_checksums(folder),
        *([_check_space(folder)] if (folder / APP).is_file() and not is_adapter else []),
    ]
    if is_adapter:
        note = "not tried, as nothing of the adapter's base lies here; what publish --merge writes is loaded, too"
        return [*checks, Check("loading", True, note)]
    failed = [check.name for check in checks if not check.ok]
    if not failed or trust_remote_code:
        return checks + _check_loading(folder, config)
    message = (
        f"not tried, as {', '.join(failed)} failed; mend that, or let the folder's code run with --trust-remote-code"
    )
    return [*checks, Check("loading", False, message)]


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file.parent}: has no {file.name}; name a folder that `trefoil publish` wrote") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: is not JSON: {reason(error)}") from error
    return config if isinstance(config, dict) else {}


def _check_files(folder: Path) -> Check:
    unexpected = unexpected_files(folder)
    if unexpected:
        return Check("files", False, f"{', '.join(unexpected)}: nothing that publishing writes; remove it")
    try:
        require_own_files(folder)
    except UserError as error:
        return Check("files", False, str(error))
    return Check("files", True, f"{sum(1 for path in folder.iterdir() if path.is_file())}, all of them expected")


def _check_weights(folder: Path) -> Check:
    pickles = [path.name for path in sorted(folder.iterdir()) if path.is_file() and _is_pickle(path)]
    if pickles:
        message = f"{', '.join(pickles)}: can run code when loaded; publish safetensors only"
        return Check("weights", False, message)
    try:
        require_loadable(folder)
    except UserError as error:
        return Check("weights", False, str(error))
    weights = sorted(folder.glob("*.safetensors"))
    names, index = {path.name for path in weights}, folder / "model.safetensors.index.json"
    files = ModelFolder(folder)
    try:
        expected = {files.adapter_weights.name if files.is_adapter else "model.safetensors"}
        if index.is_file():
            expected = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        count = sum(len(_tensor_names(path)) for path in weights)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        return Check("weights", False, f"a file cannot be read: {reason(error)}; publish again")
    if names != expected:
        wrong = sorted(names ^ expected)
        return Check("weights", False, f"{', '.join(wrong)}: files and index disagree; publish again")
    return Check("weights", True, f"safetensors, {count} tensors in {', '.join(sorted(names))}")


def _is_pickle(path: Path) -> bool:
    if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"):
        return True
    with path.open("rb") as file:
        return file.read(4).startswith(PICKLE_STARTS)


def _tensor_names(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _check_card(folder: Path) -> Check:
    try:
        data = ModelCard.load(folder / "README.md").data
    except CARD_ERRORS as error:
        return Check("card", False, f"README.md: {' '.join(str(error).split())}; publish again")
    library = "peft" if ModelFolder(folder).is_adapter else "transformers"
    if data.library_name != library or not data.pipeline_tag:
        return Check("card", False, f"README.md: the Hub needs library_name: {library} and a pipeline_tag in its head")
    return Check("card", True, f"{data.pipeline_tag}, {len(data.eval_results or [])} results")


def _check_config(folder: Path, config: dict[str, Any], expected: dict[str, Any]) -> Check:
    for key, right in expected.items():
        if config.get(key, {}) != right:
            return Check("config", False, f"config.json: {key} is {config.get(key)}; right would be {right}")
    rest = {name: value for name, value in config.items() if name not in expected}
    for path in sorted(folder.glob("*.json")):
        try:
            content = rest if path == config_file(folder) else json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            return Check("config", False, f"{path.name}: cannot be read: {reason(error)}; publish again")
        if found := next(_keys_that_name_code(content), None):
            return Check("config", False, f"{path.name}: has {found}, which names code to run; remove it")
    return Check("config", True, f"auto_map names {', '.join(config['auto_map'])}" if expected else "names no code")


def _keys_that_name_code(content: Any) -> Iterator[str]:
    """Keys by which transformers finds code, or takes it as allowed, wherever in a file they stand."""
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from (key for key in one if key in NAMES_CODE)
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def _code(folder: Path, config_class: type[PreTrainedConfig]) -> dict[str, bytes]:
    """What a published model's files of code hold."""
    code = bundle_code(config_class)
    if (folder / APP).is_file():
        code |= {name: content for name, content in space_files().items() if name.endswith(CODE_ENDINGS)}
    return code


def _check_code(folder: Path, config: dict[str, Any], right: dict[str, bytes], trust_remote_code: bool) -> Check:
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name.endswith(CODE_ENDINGS)}
    wrong = sorted(name for name in right.keys() | found.keys() if right.get(name) != found.get(name))
    version = config.get("trefoil_version")
    if not wrong:
        return Check(
            "code", True, f"{len(found)} files, the same bytes as trefoil-transformers {__version__} publishes"
        )
    differ = f"{', '.join(wrong)}: not what trefoil-transformers {__version__} publishes"
    if version is None or version == __version__:
        return Check("code", False, f"{differ}; publish again")
    note = f"{differ}; config.json says that {version} has, so check with that one"
    return Check("code", trust_remote_code, note)


def _check_checksums(folder: Path) -> Check:
    if not (folder / MANIFEST_FILE).is_file():
        then = (
            f"{MANIFEST_FILE} is not there, so nobody can tell whether files were damaged; publishing again writes one"
        )
        return Check("checksums", True, then)
    try:
        published = read_manifest(folder)
    except UserError as error:
        return Check("checksums", False, f"{error}; {_ANEW}")
    files = [*folder.iterdir(), *(folder / TEMPLATES).glob("*")]
    there = {
        file.relative_to(folder).as_posix(): file for file in files if file.is_file() and file.name != MANIFEST_FILE
    }
    missing = sorted(published.keys() - there.keys())  # also what is no name of a file in this folder
    shared = sorted(published.keys() & there.keys())
    compared = progress_bar(shared, "comparing checksums", first_after=SOON)
    changed = [name for name in compared if damage(there[name], published[name])]
    wrong = [name for name in changed if name != CARD]
    if missing or wrong:
        differ = [f"{', '.join(wrong)}: not what was published"] if wrong else []
        lack = [f"{', '.join(missing)}: missing"] if missing else []
        return Check("checksums", False, f"{'; '.join(differ + lack)}; {_ANEW}")
    since = [f"{CARD} was changed since, as a card may be"] if changed else []
    if added := sorted(there.keys() - published.keys()):
        since.append(f"{', '.join(added)} came later, and nothing is known of it")
    return Check("checksums", True, "; ".join([f"{len(shared) - len(changed)} files as they were published", *since]))


def _check_space(folder: Path) -> Check:
    if not (folder / "requirements.txt").is_file():
        return Check("space", False, "there is no requirements.txt; publish again with --space")
    try:
        data = ModelCard.load(folder / "README.md").data
    except CARD_ERRORS:
        return Check("space", False, "README.md: has no head that the Hub can read; publish again with --space")
    missing = [name for name in space_fields("") if data.get(name) is None]
    if missing or data.get("app_file") != APP:
        wrong = f"lacks {', '.join(missing)}" if missing else f"names app_file {data.get('app_file')}, not {APP}"
        return Check("space", False, f"README.md: its head {wrong}; publish again with --space")
    return Check("space", True, f"{data.get('sdk')} {data.get('sdk_version')} runs {APP}")


def _check_loading(folder: Path, config: dict[str, Any]) -> list[Check]:
    with tempfile.TemporaryDirectory(prefix="trefoil-check-") as scratch:
        report, tensors = _run_clean_process(folder, Path(scratch))
    if isinstance(report, str):
        return [Check("clean process", False, report)]
    checks = [Check("clean process", True, f"{PACKAGE} hidden, no network, caches of its own")]
    with _quiet():
        outputs_here = {
            auto_class: clean_process.load_and_run(auto_class, str(folder), trust_remote_code=False)
            for auto_class in config["auto_map"]
            if auto_class != "AutoConfig"
        }
    for name, error in report.items():
        auto_class = name.split(" from ")[0]
        if error is not None:
            checks.append(Check(name, False, f"{error}; publish again with a version that passes its own check"))
        elif auto_class in outputs_here:
            prefix = f"{name}: "
            there = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            checks.append(_compare(name, outputs_here[auto_class], there))
        else:
            checks.append(Check(name, True, "loads" if auto_class in ("AutoConfig", "tokenizer") else "runs"))
    return checks


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers reports at length on heads that a checkpoint has no weights for; here that is no news."""
    verbosity, shows_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_progress:
            logging.enable_progress_bar()


def _compare(name: str, here: dict[str, torch.Tensor], there: dict[str, torch.Tensor]) -> Check:
    if here.keys() != there.keys():
        return Check(name, False, f"returns {', '.join(there)}; the installed code returns {', '.join(here)}")
    for key, tensor in here.items():
        if tensor.dtype != there[key].dtype or tensor.shape != there[key].shape:
            shapes = f"{tuple(there[key].shape)} {there[key].dtype}, not {tuple(tensor.shape)} {tensor.dtype}"
            return Check(name, False, f"{key} is {shapes}, as the installed code has it")
        if not torch.equal(tensor.view(torch.uint8), there[key].view(torch.uint8)):
            difference = (tensor - there[key]).abs().max().item()
            return Check(name, False, f"{key} differs from the installed code's by up to {difference:.3g}, not 0")
    return Check(name, True, f"{', '.join(here)} equal bit for bit with the installed code's")


def _run_clean_process(folder: Path, scratch: Path) -> tuple[dict[str, str | None] | str, dict[str, torch.Tensor]]:
    """The report and the outputs, or a sentence that says why there are none."""
    home = scratch / "home"
    _lay_out_as_hub_cache(folder, home / "hub")
    environment = {key: value for key, value in os.environ.items() if key not in _OWN_CACHES}
    environment |= {"HF_HOME": str(home), "HF_MODULES_CACHE": str(scratch / "modules"), "HF_HUB_OFFLINE": "1"}
    arguments = [PACKAGE, str(folder), _REPO_ID, str(scratch), str(torch.get_num_threads())]
    errors = scratch / "errors.txt"
    with errors.open("wb") as stderr:
        # the pipe closes with this process, however it ends, and the other one ends with the pipe
        process = subprocess.Popen(
            [sys.executable, "-I", clean_process.__file__, *arguments],
            env=environment, cwd=scratch, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
        try:
            loaded = _loaded(process, scratch / clean_process.LOADED)
            deque(progress_bar(loaded, "loading in a clean process", first_after=SOON), maxlen=0)
        except subprocess.TimeoutExpired:
            return f"did not end within {TIME_LIMIT} s", {}
        finally:
            process.kill()
            process.communicate()
    if (code := process.returncode) != 0:
        last = (errors.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["without a word"])[-1]
        return f"ended with code {code}: {last}", {}
    report = json.loads((scratch / "report.json").read_text(encoding="utf-8"))
    return report, load_file(scratch / "outputs.safetensors")


def _loaded(process: subprocess.Popen, file: Path) -> Iterator[str]:
    """The things that a process has loaded, as it tells of each in a line of a file, until it ends."""
    told, deadline = 0, time.monotonic() + TIME_LIMIT
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(process.args, TIME_LIMIT)
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        yield from lines[told:]
        told = len(lines)
        time.sleep(0.1)


def _lay_out_as_hub_cache(folder: Path, cache: Path) -> None:
    repository = cache / f"models--{_REPO_ID.replace('/', '--')}"
    snapshot = repository / "snapshots" / _COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(_COMMIT, encoding="utf-8")
    for path in folder.iterdir():
        if path.is_file():
            (snapshot / path.name).symlink_to(path.resolve())
