import logging
import warnings

import pytest

from trefoil import quiet


@pytest.mark.parametrize(
    ("program", "words", "expected"),
    [
        ("/env/bin/trefoil", ["/env/bin/python", "/env/bin/trefoil", "train"], True),
        ("-m", ["python", "-m", "trefoil", "train"], True),
        ("-m", ["python", "-u", "-m", "trefoil", "train"], True),
        ("-m", ["python", "-m", "trefoil.doctor"], True),
        ("my_trefoil.py", ["python", "my_trefoil.py", "trefoil"], False),
        ("-m", ["python", "-m", "pytest", "trefoil"], False),
        ("", ["python"], False),
    ],
)
def test_what_is_a_command(program, words, expected):
    assert quiet.is_command(program, words) is expected


def test_these_messages_and_no_others(monkeypatch, caplog):
    for name in quiet.UNHEARD:
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    with warnings.catch_warnings(record=True) as warned:
        quiet.quiet()
        warnings.warn("Tokenizer does not support real words, using fallback heuristic", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(one.message) for one in warned] == ["something else"]
    for name, beginning in quiet.UNHEARD.items():
        logging.getLogger(name).warning(beginning, *["x"] * beginning.count("%s"))
        logging.getLogger(name).warning("something else")
    heard = [record.getMessage() for record in caplog.records]
    assert heard == ["something else"] * len(quiet.UNHEARD)
