"""The commands of docs/tutorial.md are typed as they stand there, and print what stands there.

`make tutorial` writes the page's transcripts anew.
"""

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tutorial_data import write_names, write_pairs, write_tickets

from trefoil.cli import make_parser
from trefoil.recipes.reading import override_mapping
from trefoil.recipes.schema import Recipe, build

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
SECTION = re.compile(r"^## (.*?)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
TRANSCRIPT = re.compile(r"```console\n\$ (.*?)\n(.*?)```", re.DOTALL)
MENTIONED = re.compile(r"`(trefoil [^`]+)`")
MOST = 4  # commands from a file to an answer

# lines that come many times while a model is trained: the first of each is shown
REPEATED = re.compile(r"(step \d|validation at step)")
OF_LONG_WORK = re.compile(r".*: [\d,]+ of [\d,]+")  # only where it takes long
# what differs from machine to machine
VARIES = (
    (
        re.compile(
            r"^(step \d|validation at step|validation, step|test: \w+ (?=[\d.]+,)|steps of|the run takes|memory).*"
        ),
        r"\1 …",
    ),
    (re.compile(r"\d+:\d\d(:\d\d)?"), "0:00"),
    (re.compile(r"\t\S+ 0\.0\d"), ""),  # of labels that are hardly likely any may be the likeliest
    (re.compile(r"\b[01]\.\d\d\b"), "0.00"),
)


def sections():
    """Heading -> command -> what it prints, of those sections that have commands."""
    found = {heading: dict(TRANSCRIPT.findall(text)) for heading, text in SECTION.findall(PAGE.read_text("utf-8"))}
    return {heading: transcripts for heading, transcripts in found.items() if transcripts}


def typed(command, folder):
    """What somebody sees who types a command into a terminal, but for bars."""
    words = shlex.split(command)
    if words[0] == "trefoil":
        words[:1] = [sys.executable, "-m", "trefoil"]
    settings = {"HF_DATASETS_CACHE": str(folder / ".cache"), "HF_HUB_OFFLINE": "1", "COLUMNS": "500"}
    terminal, other_end = pty.openpty()
    said = folder / ".said"
    with said.open("wb") as errors:
        process = subprocess.Popen(
            words if "|" not in words else ["sh", "-c", command],
            cwd=folder, env=os.environ | settings, stdin=subprocess.DEVNULL, stdout=other_end, stderr=errors,
        )  # fmt: skip
    os.close(other_end)
    printed = b""
    while True:
        try:
            printed += os.read(terminal, 2**16)
        except OSError:  # the other end is closed
            break
    os.close(terminal)
    text = said.read_text("utf-8") + printed.decode().replace("\r\n", "\n")
    assert process.wait() == 0, f"{command}\n{text}"
    return text


def shortened(text):
    """Of lines that come many times the first, and then an ellipsis; of those that tell how far work has come none."""
    seen, lines = set(), []
    for line in text.splitlines():
        if OF_LONG_WORK.fullmatch(line):
            continue
        kind = REPEATED.match(line)
        if kind is None or kind[1][:5] not in seen:
            lines.append(line)
        elif lines[-1] != "…":
            lines.append("…")
        if kind is not None:
            seen.add(kind[1][:5])
    return "".join(f"{line}\n" for line in lines)


def masked(text):
    lines = text.splitlines()
    for pattern, instead in VARIES:
        lines = [pattern.sub(instead, line) for line in lines]
    return lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tutorial")
    write_tickets(folder / "tickets.csv")
    write_names(folder / "names.conll")
    write_pairs(folder / "notes.de", folder / "notes.en")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("heading", sections())
def test_the_commands_print_what_stands_in_the_page(folder, heading):
    transcripts = sections()[heading]
    found = {command: shortened(typed(command, folder)) for command in transcripts}
    if os.environ.get("TREFOIL_WRITE_TUTORIAL"):
        text = PAGE.read_text("utf-8")
        for command, printed in found.items():
            before = f"```console\n$ {command}\n{transcripts[command]}```"
            text = text.replace(before, f"```console\n$ {command}\n{printed}```")
        PAGE.write_text(text, "utf-8")
        return
    for command, printed in found.items():
        assert masked(printed) == masked(transcripts[command]), f"{command}: run `make tutorial`"


@pytest.mark.parametrize("heading", sections())
def test_from_a_file_to_an_answer_it_takes_four_commands_that_there_are(heading):
    commands = [command for command in sections()[heading] if command.startswith("trefoil ")]
    assert 0 < len(commands) <= MOST
    for command in commands:
        require_parsed(command)


@pytest.mark.parametrize("command", MENTIONED.findall(PAGE.read_text("utf-8")))
def test_a_command_that_is_only_named_is_one_too(command):
    require_parsed(command)


def require_parsed(command):
    arguments = make_parser().parse_args(shlex.split(command)[1:])
    content = {}
    override_mapping(content, getattr(arguments, "overrides", []))
    build(Recipe, content, command)


def test_what_is_printed_many_times_is_shown_once():
    lines = [
        "a",
        "encoding tickets.csv: 1,000 of 2,400",
        "step 1/9  loss 2",
        "step 2/9  loss 1",
        "validation at step 2: 3",
        "step 3/9",
        "validation at step 4: 3",
        "b",
    ]
    assert shortened("\n".join(lines)).splitlines() == ["a", lines[2], "…", lines[4], "…", "b"]


def test_only_what_differs_between_machines_may_differ():
    assert masked("2,400 rows, encoded in 0:07\nRechnung 0.98") == masked("2,400 rows, encoded in 1:10\nRechnung 0.77")
    assert masked("2,400 rows") != masked("2,401 rows")
    assert masked("test: f1 99.00, recall 98.00") == masked("test: f1 98.00, recall 97.00")
    assert masked("validation: 300 rows") != masked("validation: 301 rows")
    assert masked("Rechnung 0.98\tKonto 0.01") == masked("Rechnung 0.99\tLieferung 0.01")
    assert masked("Rechnung 0.98") != masked("Konto 0.98")
