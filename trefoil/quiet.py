"""What the command line does not repeat: torchao, where it is installed, tells every process of kernels for other
processors, as soon as transformers imports it; and transformers tells that it divides a text that is tagged at its spaces."""

import logging
import sys
import warnings
from itertools import pairwise
from pathlib import Path

MODULES = ("trefoil", "trefoil.doctor")  # that are commands
UNHEARD = {
    "torchao": "Failed to load ",
    "torch.utils._pytree": "%s is an Enum subclass and is now natively supported",
}


def is_command(program: str, words: list[str]) -> bool:
    """Whether a process is a `trefoil` command, rather than one that imports the package and may want to hear all."""
    return Path(program).stem == "trefoil" or any(("-m", name) in pairwise(words) for name in MODULES)


def is_heard(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(UNHEARD[record.name])


def quiet() -> None:
    for name in UNHEARD:
        logging.getLogger(name).addFilter(is_heard)
    warnings.filterwarnings("ignore", "Tokenizer does not support real words")


if is_command(sys.argv[0], sys.orig_argv):
    quiet()
