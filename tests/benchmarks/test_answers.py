"""Questions answered without a model."""

import json

from benchmarks.answers import answer, candidates, main

TEXT = "서울에 비가 왔다. 김민수는 부산에서 1998년에 태어났다. 눈도 왔다."


def test_candidates_are_words_in_a_row_with_and_without_a_particle():
    found = {TEXT[start:end] for *_, start, end in candidates(TEXT)}
    assert {"부산에서", "부산에", "서울에 비가 왔다.", "서울에 비가 왔다. 김민수는"} <= found
    assert "서울에 비가 왔다. 김민수는 부산에서" not in found


def test_an_answer_stands_nearest_to_the_question_s_words_and_is_none_of_them():
    weights = dict.fromkeys(["김민", "민수", "수는", "태어", "어났"], 1.0)
    assert answer("김민수는 몇 년에 태어났는가?", f"{'가 ' * 30}{TEXT}", weights) == "부산에서 1998년에"


def test_of_a_recipe(tmp_path, monkeypatch, capsys):
    answers = [{"text": "1998년", "answer_start": TEXT.index("1998년")}]
    content = {"data": [{"paragraphs": [{"context": TEXT, "qas": [{"question": "언제?", "answers": answers}] * 10}]}]}
    (tmp_path / "KorQuAD_v1.0_dev.json").write_text(json.dumps(content))
    monkeypatch.setattr("sys.argv", ["answers", "encoder-question-answering-korquad", f"data.path={tmp_path}"])
    main()
    assert "'character_f1': " in capsys.readouterr().out
