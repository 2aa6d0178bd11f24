"""Recipes of tiny runs, a second or two each, how to read their logs, and how to kill them."""

import ctypes
import json
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState

from benchmarks.on_cpu import ranks
from trefoil.recipes.schema import Recipe, build, validate
from trefoil.tasks import TASKS
from trefoil.training.loop import TrainingLoop
from trefoil.training.run import train

TINY_MODEL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 96, "hidden_dropout": 0.1,
}  # fmt: skip


def merged(content, changes):
    """Nested mappings, those of `changes` put over those of `content`."""
    return content | {
        key: merged(content.get(key) or {}, value) if isinstance(value, dict) else value
        for key, value in changes.items()
    }


def tiny_content(output_dir, **changes):
    """A recipe of 20 steps of Korean to English, as it stands in YAML."""
    steps = changes.get("training", {}).get("max_steps") or 20
    content = {
        "language": ["ko", "en"],
        "output_dir": str(output_dir),
        "data": {
            "embedded": True, "columns": {"source": "ko", "target": "en"},
            "embedded_sizes": {"train": 120, "validation": 10, "test": 6},
        },
        "tokenizer": {"vocab_size": 300},
        "model": {"preset": "encoder-decoder-tiny", "config": dict(TINY_MODEL)},
        "batches": {"tokens_per_batch": 1200},
        "optimization": {"learning_rate": 3e-3, "warmup_steps": min(4, steps)},
        "training": {
            "max_steps": 20, "log_every": 1, "evaluate_every": 1000, "save_every": 6, "trackers": [],
        },
        "evaluation": {"metric": "chrf", "num_beams": 1, "max_new_tokens": 8},
    }  # fmt: skip
    return merged(content, changes)


def tiny_recipe(output_dir, **changes) -> Recipe:
    recipe = build(Recipe, tiny_content(output_dir, **changes), "tiny.yaml")
    validate(recipe, "tiny.yaml")
    return recipe


def losses(run_folder):
    """Step -> loss, as logged; a step that was logged twice is an error."""
    entries = [json.loads(line) for line in (Path(run_folder) / "log.jsonl").read_text().splitlines()]
    found = [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
    assert len(dict(found)) == len(found)
    return dict(found)


def ended(run_folder):
    """What a run comes to, whatever happened on the way: what it logged, its results, and its model to the bit."""
    lines = map(json.loads, (Path(run_folder) / "log.jsonl").read_text().splitlines())
    scores = [
        {key: entry[key] for key in sorted(entry) if not key.endswith("seconds")}
        for entry in lines
        if "validation_loss" in entry
    ]
    results = json.loads((Path(run_folder) / "best" / "results.json").read_text())
    del results["training_seconds"]
    return losses(run_folder), scores, results, (Path(run_folder) / "best" / "model.safetensors").read_bytes()


# where the embedded data has rows for a task, and under which names
EMBEDDED = {
    "translation": {"source": "ko", "target": "en"},
    "summarization": {"source": "document", "target": "summary"},
    "text-classification": {},
    "token-classification": {"tags": "ner_tags"},
    "question-answering": {},
    "image-captioning": {},
}
PICTURES = {
    "num_hidden_layers": 1,
    "encoder": {"image_size": 48, "patch_size": 16},
    "decoder": {"max_position_embeddings": 96},
}


def content_of_task(task, folder, sizes, **changes):
    """A recipe of any task, as it stands in YAML.

    Args:
        folder: Gets the run and, of a language model, its data.
        sizes: Rows of each split.
    """
    data = {"embedded": True, "embedded_sizes": sizes, "columns": EMBEDDED.get(task, {})}
    if task not in EMBEDDED:  # of language models
        place = folder / "data"
        place.mkdir(exist_ok=True)
        for split, size in sizes.items():
            rows = [
                {"text": " ".join(WORDS[number * step % len(WORDS)] for step in range(1, 9))} for number in range(size)
            ]
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            (place / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        data = {"path": str(place)}
    family = TASKS[task].families[0].removeprefix("trefoil_").replace("_", "-")
    content = tiny_content(folder / "run", **changes)
    config = PICTURES if task == "image-captioning" else TINY_MODEL | {"max_position_embeddings": 256}
    model = {"preset": f"{family}-tiny", "config": config}
    return content | {
        "task": task, "data": data, "evaluation": {"max_new_tokens": 8}, "tokenizer": {"kind": "characters"}, "model": model
    }  # fmt: skip


WORDS = [
    "하나",
    "둘",
    "셋",
    "넷",
    "다섯",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "사과",
    "배",
    "시간",
    "오늘",
    "내일",
]

# weights so large, and a rate so small, that the outputs of the barely trained model differ from row to row
TALKATIVE = {
    "model": {"config": {"hidden_dropout": 0.0, "initializer_range": 0.3}},
    "optimization": {"learning_rate": 1e-3},
}


def start(script, *arguments, processes=1):
    """Run a Python file to its end, in processes that know of each other where there are several. They are forked from this
    one, so what is imported is not imported again; where one fails, the others are killed."""
    words = [str(word) for word in (script, *arguments)]
    context = get_context("fork")
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        children = [context.Process(target=_run, args=(words, known, out, err)) for known in ranks(processes)]
        for child in children:
            child.start()
        while running := [child for child in children if child.exitcode is None]:
            wait([child.sentinel for child in running])
            if any(child.exitcode for child in children):
                break
        code = next((child.exitcode for child in children if child.exitcode), 0)
        for child in children:
            child.kill()
            child.join()
        return subprocess.CompletedProcess(words, code, *(_read(file) for file in (out, err)))


def _run(words, environment, out, err):
    os.environ.update(environment, ACCELERATE_USE_CPU="true")
    for state in (AcceleratorState, PartialState, GradientState):  # of what was trained here before
        state._shared_state.clear()
    for file, number in ((out, 1), (err, 2)):
        os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


def _read(file):
    file.seek(0)
    return file.read()


def start_by_torchrun(script, *arguments, processes):
    """The same by torch's launcher, which has words of its own for what fails."""
    # `accelerate launch` starts only one process on a CPU, whatever it is asked for
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [sys.executable, *launcher, *map(str, (script, *arguments))],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=False,
    )


def bind_to_permissions():
    """Root, too, writes from now on only where the bits of files and folders let their owner."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    capabilities = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, capabilities) == 0
    capabilities[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, capabilities) == 0


def set_writable(folder, files, is_writable):
    """A folder and those in it, perhaps with their files."""
    for place in [Path(folder), *Path(folder).rglob("*")]:
        if files or place.is_dir():
            mode = place.stat().st_mode
            place.chmod(mode | 0o200 if is_writable else mode & ~0o222)


# trains, and in each life but the last one process kills itself: lines of the plan are its rank, whether the time counts
# from the process's start, its first step, when a checkpoint begins to be written, or the end of the last step, and the
# seconds; the file `kills` counts the lives
KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
recipe, plan, kills = sys.argv[1:]
plan = [line.split() for line in Path(plan).read_text().splitlines()]
rank, since, seconds = (plan + [("none", "start", 0)])[Path(kills).read_text().count("x")]
def die():
    with open(kills, "a") as file:
        file.write("x")
    if "WITH_THE_MACHINE" in os.environ:  # and its launcher
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
timer = threading.Timer(float(seconds), die)
timer.daemon = True
def arm(now):
    if now == since and os.environ["RANK"] == rank and not timer.ident:
        timer.start()
arm("start")
from trefoil.cli import main
from trefoil.training import run
from trefoil.training.checkpoint_writer import CheckpointWriter
from trefoil.training.engine import Engine
from trefoil.tasks import TASKS
from trefoil.training.loop import TrainingLoop
def hooked(where, name, moment):
    usual = getattr(where, name)
    def hook(*arguments):
        arm(moment)
        return usual(*arguments)
    setattr(where, name, hook)
hooked(TrainingLoop, "step", "step")
hooked(CheckpointWriter, "begin", "writing")
hooked(run, "_finish", "end")
if since == "writing":
    save = Engine.save
    def save_slowly(*arguments):  # half of it is there meanwhile
        time.sleep(0.3)
        save(*arguments)
    Engine.save = save_slowly
sys.exit(main(["train", recipe]))
"""


def spoiled(step, factor, bad, rank=0):
    """A step that, at those that are `bad`, multiplies the loss of one process."""

    def step_and_spoil(self, micro_batches):
        hook = None
        if self.position.step + 1 in bad and self.share.rank == rank:

            def spoil(module, arguments, output):
                output.loss = output.loss * factor
                return output

            hook = self.model.register_forward_hook(spoil)
        try:
            return step(self, micro_batches)
        finally:
            if hook is not None:
                hook.remove()

    return step_and_spoil


def skipped(run_folder):
    """Step -> loss of those that were left out."""
    entries = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
    return {entry["step"]: entry["skipped_loss"] for entry in entries if "skipped_loss" in entry}


class KilledError(BaseException):
    """Stands for the end of the process: nothing catches it."""


def train_and_die(monkeypatch, recipe, *patches, death=KilledError):
    """Start a run that dies by what the patches (object, attribute, value) put into it."""
    with monkeypatch.context() as patch:
        for where, name, value in patches:
            patch.setattr(where, name, value)
        with pytest.raises(death):
            train(recipe)


def after_step(number):
    """Death right after a step, when the checkpoints begun before it are whole."""

    def step_and_die(self, micro_batches, step=TrainingLoop.step):
        values = step(self, micro_batches)
        if self.position.step == number:
            self.writer.finish()
            raise KilledError
        return values

    return TrainingLoop, "step", step_and_die
