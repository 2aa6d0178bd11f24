"""Templates of conversations make the ids that they always do, and those that do not end are ended."""

import sys
import threading
import time

import pytest

from tests.hub.conftest import tiny_tokenizer
from trefoil.visualization import conversations
from trefoil.visualization.conversations import conversation_ids

CONVERSATION = [{"role": "user", "content": "세 개의 사과"}]
USUAL = "{% for message in messages %}{{ message.content }}{% endfor %}"
ENDLESS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}"
    "{% macro g(n) %}{% if n %}{{ g(n - 1) }}{{ g(n - 1) }}{% endif %}{% endmacro %}{{ g(40) }}",
    "a filter in Python": "{{ lipsum(10 ** 7) }}",
    "a test of each": "{% for a in range(99999) %}{{ range(99999)|select('even')|list|length }}{% endfor %}",
}


def with_template(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def test_ids_are_those_of_the_tokenizer():
    tokenizer = with_template(USUAL)
    expected = tokenizer("세 개의 사과", add_special_tokens=False)["input_ids"]
    assert conversation_ids(tokenizer, CONVERSATION) == expected


@pytest.mark.parametrize("template", ENDLESS.values(), ids=list(ENDLESS))
def test_a_template_that_does_not_end_is_ended(template, monkeypatch):
    monkeypatch.setattr(conversations, "SECONDS", 0.2)
    tracer, started = sys.gettrace(), time.monotonic()
    with pytest.raises(TimeoutError, match=r"it takes longer than 0\.2 s"):
        conversation_ids(with_template(template), CONVERSATION)
    assert time.monotonic() - started < 20
    assert sys.gettrace() is tracer


def test_it_is_ended_in_its_own_thread_only(monkeypatch):
    monkeypatch.setattr(conversations, "SECONDS", 0.2)
    found = []

    def convert():
        with pytest.raises(TimeoutError) as error:
            conversation_ids(with_template(ENDLESS["loops"]), CONVERSATION)
        found.append(str(error.value))

    thread = threading.Thread(target=convert)
    thread.start()
    count = 0
    while thread.is_alive():  # this goes on
        count += 1
    assert found == ["it takes longer than 0.2 s"]
    assert count
