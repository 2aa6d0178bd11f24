"""What a run comes to that is killed, stopped, damaged or left without room, beside one that nothing happens to.

    python -m benchmarks.reliability docs/reliability.md [--kills 20] [--seed 0] [kills signals damage room publish checksums soak anchors]

renews the tables there. Runs are tiny ones of each task, on the processor; what is compared is every logged loss, every score,
the results and the weights of the best model, to the bit.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import datasets
import httpx
import numpy as np
import psutil
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    pipeline,
)
from transformers.trainer_utils import get_last_checkpoint

from tests.training_runs import WORDS, content_of_task, ended, losses
from trefoil.cli import main as trefoil
from trefoil.hub.publish import publish
from trefoil.predict import load
from trefoil.recipes.schema import Recipe, build, validate
from trefoil.serving.app import Service
from trefoil.serving.limits import Limits
from trefoil.tasks import TASKS
from trefoil.training.checkpoints import (
    checkpoint_folders,
    latest_checkpoint,
    load_state,
    require_whole,
)
from trefoil.training.manifest import write_manifest

FORK = get_context("fork")
SIZES = {"train": 60, "validation": 6, "test": 4}
TRAINING = {"max_steps": 30, "evaluate_every": 5, "save_every": 4, "average_checkpoints": 2}
DAMAGED_FILES = (
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
    "config.json",
    "tokenizer.json",
)


def write_recipe(task: str, folder: Path, **changes: Any) -> Path:
    """A recipe of a tiny run of a task, in a folder of its own."""
    folder.mkdir(parents=True)
    training = {"training": TRAINING | changes.pop("training", {})}
    content = content_of_task(task, folder, SIZES, **training, **changes)
    recipe = build(Recipe, content, task)
    validate(recipe, task)
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    return folder


class Life:
    """One life of a run, in a process of its own and a group of its own.

    Args:
        prepare: What is done in that process before.
    """

    def __init__(self, folder: Path, prepare: Callable[[], object] = lambda: None, *overrides: str) -> None:
        read, write = os.pipe()  # a file would need room
        self.process = FORK.Process(target=self._live, args=(folder, prepare, overrides, write))
        self.process.start()
        os.close(write)
        self.said = b""
        self.listener = threading.Thread(target=self._listen, args=(read,), daemon=True)
        self.listener.start()

    def _listen(self, read: int) -> None:
        with os.fdopen(read, "rb", buffering=0) as said:
            while part := said.read(2**16):
                self.said += part

    def _live(self, folder: Path, prepare: Callable[[], object], overrides: tuple[str, ...], write: int) -> None:
        os.setpgid(0, 0)
        for state in (AcceleratorState, PartialState, GradientState):  # of what was trained here before
            state._shared_state.clear()
        for number in (1, 2):
            os.dup2(write, number)
        os.close(write)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        prepare()
        os._exit(self._work(folder, overrides))

    def _work(self, folder: Path, overrides: tuple[str, ...]) -> int:
        return trefoil(["train", str(folder / "recipe.yaml"), *overrides])

    def within(self, seconds: float) -> bool:
        """Whether it has ended by itself within some seconds."""
        self.process.join(seconds)
        return self.process.exitcode is not None

    def signal(self, number: int) -> float:
        """Send a signal to its whole group; the seconds until it has ended."""
        started = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        self.process.join()
        return time.monotonic() - started

    def end(self) -> int:
        self.process.join()
        return self.process.exitcode

    @property
    def lines(self) -> list[str]:
        self.listener.join(10)
        return self.said.decode(errors="replace").splitlines()


def whole(task: str, folder: Path, **changes: Any) -> tuple[Any, float]:
    """What a run comes to that nothing happens to, and its seconds."""
    write_recipe(task, folder, **changes)
    started = time.monotonic()
    life = Life(folder)
    assert life.end() == 0, life.lines
    return ended(folder / "run"), time.monotonic() - started


def differences(expected: Any, found: Any) -> str:
    names = ("losses", "scores", "results", "weights")
    differing = [name for name, one, other in zip(names, expected, found, strict=True) if one != other]
    return " and ".join(differing) or "none"


def table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def interrupted(task: str, folder: Path, kills: int, number: int, **changes: Any) -> list[Any]:
    """A run of a task that gets a signal again and again until it has had so many, at random instants, as often anew as it takes."""
    expected, seconds = whole(task, folder / "whole", **changes)
    given = runs = lost = unheard = 0
    slowest, found = 0.0, set()
    while given < kills:
        runs += 1
        run = write_recipe(task, folder / f"run-{runs}", **changes)
        while True:
            life = Life(run)
            # often after the work of a life has begun, and sometimes before it
            if given >= kills or life.within(random.uniform(0.05, 1.1) * seconds):
                assert life.end() == 0, life.lines
                break
            slowest = max(slowest, life.signal(number))
            given += 1
            if number != signal.SIGKILL:
                code = life.process.exitcode
                assert code in (0, 130, -number), (code, life.lines)  # the last before it trains, or when all is done
                unheard += code == 0
                logged = [*losses(run / "run")] if (run / "run" / "log.jsonl").exists() else []
                checkpoint = latest_checkpoint(run / "run" / "checkpoints")
                lost += bool(logged) and (checkpoint is None or load_state(checkpoint)["step"] < logged[-1])
        found.add(differences(expected, ended(run / "run")))
    cells = [task, given, runs]
    if number != signal.SIGKILL:
        cells += [f"{slowest:.1f}", lost, unheard]
    return [*cells, ", ".join(sorted(found))]


def table_of_kills(folder: Path, kills: int) -> str:
    rows = [interrupted(task, folder / task, kills, signal.SIGKILL) for task in TASKS]
    return table(["task", "killed", "in so many runs", "differences from the run that nothing happened to"], rows)


def table_of_signals(folder: Path, kills: int) -> str:
    rows = []
    for number, workers in ((signal.SIGTERM, 0), (signal.SIGTERM, 2), (signal.SIGINT, 0)):
        name = f"{number.name}, {workers} workers"
        cells = interrupted("translation", folder / name, kills, number, batches={"workers": workers})
        rows.append([name, *cells[1:]])
    head = [
        "signal to the whole group",
        "sent",
        "in so many runs",
        "seconds to the end, at most",
        "steps lost",
        "came to its end all the same",
        "differences",
    ]
    return table(head, rows)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit is another": _flip,
    "cut": lambda file: os.truncate(file, random.randrange(1, file.stat().st_size)),
    "empty": lambda file: os.truncate(file, 0),
    "missing": Path.unlink,
}


def table_of_damage(folder: Path, tries: int) -> str:
    expected, _ = whole("translation", folder / "whole")
    rows = []
    for damage, apply in DAMAGES.items():
        for name in DAMAGED_FILES:
            named, found = 0, set()
            for number in range(tries):
                run = shutil.copytree(folder / "whole", folder / f"{damage}-{name}-{number}")
                recipe = (run / "recipe.yaml").read_text(encoding="utf-8")
                (run / "recipe.yaml").write_text(recipe.replace(str(folder / "whole"), str(run)), encoding="utf-8")
                newest = checkpoint_folders(run / "run" / "checkpoints")[-1]
                apply(newest / name)
                life = Life(run)
                assert life.end() == 0, life.lines
                named += any(f"{newest}: " in line and "going on from the one before" in line for line in life.lines)
                found.add(differences(expected, ended(run / "run")))
                shutil.rmtree(run)
            rows.append([damage, name, tries, named, ", ".join(sorted(found))])
    head = ["damage to the newest checkpoint", "file", "tries", "named, and the one before taken", "differences"]
    return table(head, rows)


def _leave_room(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def table_of_room(folder: Path, tries: int) -> str:
    """Files can have only so many bytes; then there is room."""
    expected, _ = whole("translation", folder / "whole")
    sizes = [file.stat().st_size for file in (folder / "whole" / "run").rglob("*") if file.is_file()]
    refused, found, places = 0, set(), set()
    for number in range(tries):
        run = write_recipe("translation", folder / f"run-{number}")
        size = int(np.exp(random.uniform(np.log(10), np.log(max(sizes)))))
        life = Life(run, lambda size=size: _leave_room(size))
        life.end()
        errors = [line for line in life.lines if line.startswith("error: ")]
        if (
            len(errors) == 1
            and "GB are free there" in errors[0]
            and not any("Traceback" in line for line in life.lines)
        ):
            refused += 1
            places.add(Path(errors[0].removeprefix("error: ").partition(": ")[0]).name.partition("-0")[0])
        life = Life(run)
        assert life.end() == 0, life.lines
        found.add(differences(expected, ended(run / "run")))
    head = ["tries", "ended in one line with the place and the room", "places", "differences once there was room"]
    return table(head, [[tries, refused, ", ".join(sorted(places)), ", ".join(sorted(found))]])


def _again_and_again(source: Path, target: Path) -> None:
    with contextlib.redirect_stderr(io.StringIO()):
        while True:
            publish(source, target, overwrite=True)


def table_of_publishing(folder: Path, kills: int) -> str:
    whole("translation", folder / "whole")
    source, target = folder / "whole" / "run", folder / "out" / "model"
    publish(source, target)
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    there = left = 0
    for _ in range(kills):
        process = FORK.Process(target=_again_and_again, args=(source, target))
        process.start()
        process.join(random.uniform(0.05, 1.0))
        process.kill()
        process.join()
        there += target.is_dir() and before == {file.name: file.read_bytes() for file in target.iterdir()}
        publish(source, target, overwrite=True)
        left += len([*target.parent.iterdir()]) > 1
    head = ["killed", "the published folder was there and whole", "leftovers after the next `publish`"]
    return table(head, [[kills, there, left]])


def table_of_checksums(folder: Path, gigabytes: float = 0.25) -> str:
    """Of files that the system has in memory, where others may be at work beside."""
    folder.mkdir()
    part = torch.zeros(int(gigabytes * 1e9) // 8, dtype=torch.float32)
    for name in ("model.safetensors", "optimizer.safetensors"):
        save_file({"part": part}, folder / name)
    (folder / "state.json").write_text(json.dumps({"step": 1, "optimizer": []}), encoding="utf-8")
    seconds = []
    for work in (write_manifest, require_whole):
        times = []
        for _ in range(5):
            started = time.process_time()
            work(folder)
            times.append(time.process_time() - started)
        seconds.append(f"{sorted(times)[2] / gigabytes:.2f}")
    return table(["seconds of one core", "written beside training", "read where a run goes on"], [["a GB", *seconds]])


class Watched:
    """A process at work, and what it holds meanwhile.

    Args:
        done: How much of the work is done.
    """

    def __init__(self, process: Any, done: Callable[[], int]) -> None:
        self.held: list[tuple[int, int, int, int]] = []  # done, bytes of memory, open files, threads
        watched = psutil.Process(process.pid)
        while process.exitcode is None:
            with contextlib.suppress(psutil.Error), watched.oneshot():
                self.held.append((done(), watched.memory_info().rss, watched.num_fds(), watched.num_threads()))
            process.join(0.02)
        assert process.exitcode == 0, process.exitcode

    def cells(self, count: int) -> list[str]:
        """Memory (MB), open files and threads, after a tenth of the work, after half of it, and where it ends."""
        columns = []
        for part in (10, 50, 95):  # percent
            there = [held for held in self.held if part * count <= 100 * held[0] < (part + 5) * count]
            assert there, f"nothing was seen of the work between {part} and {part + 5} %"
            columns.append([np.median(values) for values in zip(*there, strict=True)][1:])
        memory, files, threads = zip(*columns, strict=True)
        return [
            *(f"{value / 1e6:.1f}" for value in memory),
            *(" ".join(f"{n:.0f}" for n in n) for n in (files, threads)),
        ]


def _last_step(log: Path) -> int:
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    return json.loads(lines[-1]).get("step", 0) if lines else 0


def _call_pipeline(folder: Path, texts: list[str], done: Any, count: int) -> None:
    translate = pipeline("translation", str(folder), trust_remote_code=False)
    for number in range(count):
        translate(texts[number % len(texts)], max_new_tokens=8)
        done.value = number


def _request(folder: Path, texts: list[str], done: Any, count: int) -> None:
    async def request() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app), base_url="http://here") as client:
            for number in range(count):
                answer = await client.post("/predict", json={"inputs": [texts[number % len(texts)]]})
                assert answer.status_code == 200, answer.text
                done.value = number

    service = Service(load(folder), "tiny", Limits())
    asyncio.run(request())
    service.stop()


def table_of_soak(folder: Path, count: int = 5_000) -> str:
    """Much work in one process, and what that holds meanwhile."""
    often = {
        "max_steps": count,
        "evaluate_every": count // 10,
        "save_every": count // 10,
        "log_every": max(1, count // 200),
    }
    run = write_recipe("translation", folder / "training", training=often)
    life = Life(run)
    rows = [
        ["steps of training", count, *Watched(life.process, lambda: _last_step(run / "run" / "log.jsonl")).cells(count)]
    ]
    published = publish(run / "run", folder / "published")
    texts = [" ".join(random.choices(WORDS, k=number % 40 + 1)) for number in range(997)]
    for what, work in (("calls of a pipeline", _call_pipeline), ("requests to a server", _request)):
        done = FORK.Value("i", 0)
        process = FORK.Process(target=work, args=(published, texts, done, count))
        process.start()
        rows.append([what, count, *Watched(process, lambda done=done: done.value).cells(count)])
    memory = [f"memory, MB: {part}" for part in ("after a tenth", "after half", "at the end")]
    return table(["work in one process", "how much", *memory, "open files then", "threads then"], rows)


# --- what transformers' Trainer comes to, beside which this stands

DAMAGED_BY_TRAINER = ("model.safetensors", "optimizer.pt", "trainer_state.json", "rng_state.pth")
STOPPED_AT, SAVED_AT = 18, 20  # two steps behind a checkpoint, and where the next is written


class _Killer(TrainerCallback):
    """Kills its process a while after a step has ended; of a process that it lets live, knows how long saving took."""

    def __init__(self, step: int | None = None, seconds: float = 0.0) -> None:
        self.step, self.seconds, self.saving = step, seconds, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.since = time.monotonic()
        if state.global_step == self.step:
            timer = threading.Timer(self.seconds, os.kill, (os.getpid(), signal.SIGKILL))
            timer.start()
            if not self.seconds:
                timer.join()

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == SAVED_AT:
            self.saving = time.monotonic() - self.since


class TrainersLife(Life):
    """One life of a training of a tiny BERT with what the Trainer has for it: checkpoints every four steps, in safetensors, of
    which it takes up the last."""

    def __init__(self, folder: Path, killer: _Killer | None = None) -> None:
        self.killer = killer or _Killer()
        super().__init__(folder)

    def _work(self, folder: Path, overrides: tuple[str, ...]) -> int:
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = BertForSequenceClassification(BertConfig(vocab_size=300, max_position_embeddings=32, **sizes))
        rows = [{"input_ids": torch.randint(1, 300, (24,)), "labels": number % 2} for number in range(SIZES["train"])]
        options = TrainingArguments(
            str(folder / "run"), max_steps=TRAINING["max_steps"], save_steps=TRAINING["save_every"], logging_steps=1,
            learning_rate=3e-3, use_cpu=True, report_to=[], disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model, options, train_dataset=rows, callbacks=[self.killer])
        last = get_last_checkpoint(options.output_dir) if Path(options.output_dir).is_dir() else None
        trainer.train(resume_from_checkpoint=last)
        trainer.save_model(folder / "best")
        logged = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
        (folder / "ended.json").write_text(json.dumps([logged, self.killer.saving]), encoding="utf-8")
        return 0


def _ended_by_trainer(folder: Path) -> tuple[Any, bytes]:
    logged, _ = json.loads((folder / "ended.json").read_text(encoding="utf-8"))
    # of a run that was at its end, it trains one step more, with a rate of zero
    logged.pop(str(TRAINING["max_steps"] + 1), None)
    return logged, (folder / "best" / "model.safetensors").read_bytes()


def _outcome(what: str, file: str, expected: Any, lives: list[tuple[TrainersLife, Path]]) -> list[Any]:
    errors, same, told = [], 0, 0
    for life, folder in lives:
        if life.end() != 0:
            errors.append(life.lines[-1].partition(":")[0].rpartition(".")[2])
        elif _ended_by_trainer(folder) == expected:
            same += 1
        elif file:
            told += any(file.removesuffix(".pt") in line.lower() for line in life.lines)
    other = len(lives) - len(errors) - same
    return [what, f"`{file}`" if file else "", len(lives), len(errors), ", ".join(sorted({*errors})), same, other, told]


def table_of_anchors(folder: Path, kills: int, tries: int) -> str:
    (folder / "whole").mkdir(parents=True)
    started = time.monotonic()
    life = TrainersLife(folder / "whole")
    assert life.end() == 0, life.lines
    seconds = time.monotonic() - started
    expected = _ended_by_trainer(folder / "whole")
    saving = json.loads((folder / "whole" / "ended.json").read_text(encoding="utf-8"))[1]

    def begun(name: str, killer: _Killer) -> Path:
        (folder / name).mkdir()
        TrainersLife(folder / name, killer).end()
        return folder / name

    rows = []
    for what in ("killed at any instant", "killed while it writes a checkpoint"):
        lives = []
        for number in range(kills):
            step, within = random.randint(1, TRAINING["max_steps"]), seconds / TRAINING["max_steps"]
            if "writes" in what:
                step, within = SAVED_AT, saving
            run = begun(f"{what} {number}", _Killer(step, random.uniform(0, within)))
            lives.append((TrainersLife(run), run))
        rows.append(_outcome(what, "", expected, lives))
    stopped = begun("stopped", _Killer(STOPPED_AT))
    for damage, apply in DAMAGES.items():
        for name in DAMAGED_BY_TRAINER:
            lives = []
            for number in range(tries):
                run = shutil.copytree(stopped, folder / f"{damage}-{name}-{number}")
                apply(Path(get_last_checkpoint(run / "run"), name))
                lives.append((TrainersLife(run), run))
            rows.append(_outcome(damage, name, expected, lives))
    ends = ["ended in an error", "which", "went on to the same end", "went on to another", "and named the file"]
    head = ["what happens", "file", "tries", *ends]
    return table(head, rows)


def main() -> None:
    tables: dict[str, Callable[[Path, int], str]] = {
        "kills": table_of_kills,
        "signals": table_of_signals,
        "damage": lambda folder, kills: table_of_damage(folder, max(1, kills // 10)),
        "room": table_of_room,
        "publish": lambda folder, kills: table_of_publishing(folder, 5 * kills),
        "checksums": lambda folder, kills: table_of_checksums(folder),
        "soak": lambda folder, kills: table_of_soak(folder),
        "anchors": lambda folder, kills: table_of_anchors(folder, max(1, kills // 5), max(1, kills // 10)),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("tables", nargs="*", default=[*tables], metavar="TABLE", help=", ".join(tables))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.tables:
            made = tables[name](Path(folder, name), arguments.kills)
            print(f"{name}\n{made}\n", flush=True)
            text = arguments.page.read_text(encoding="utf-8")
            before, start, rest = text.partition(f"<!-- table {name} -->\n")
            _, end, after = rest.partition("<!-- end -->\n")
            arguments.page.write_text(f"{before}{start}{made}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
