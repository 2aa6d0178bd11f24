"""The lines of `predictions.jsonl`."""

import json
from types import SimpleNamespace

import pytest
from datasets import Dataset

from trefoil.configuration.errors import UserError
from trefoil.training.measured import Measured, predictions_of, require_own_file, scores_in, write_predictions


def measured(predictions, details=None, references=None, is_main_process=True):
    rows = Dataset.from_dict({"text": ["a", "b"], "score": ["x", "y"], "other": [1, 2]})
    reader = SimpleNamespace(columns=lambda: ["text", "score"], shown=lambda row: row)
    evaluator = SimpleNamespace(
        reader=reader,
        split=SimpleNamespace(rows=rows),
        references=lambda: references,
        accelerator=SimpleNamespace(is_main_process=is_main_process),
    )
    return Measured(evaluator, {}, predictions, details)


def test_a_line_is_what_was_read_said_and_right(tmp_path):
    found = measured(["x", "z"], [{"score": 0.9, "margin": 2}, {"score": 0.5, "margin": 1}], ["x", "y"])
    lines = [
        {"text": "a", "score": "x", "prediction": "x", "reference": "x", "predicted_score": 0.9, "margin": 2},
        {"text": "b", "score": "y", "prediction": "z", "reference": "y", "predicted_score": 0.5, "margin": 1},
    ]
    assert predictions_of(found) == lines
    write_predictions(tmp_path / "said.jsonl", found)
    assert [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()] == lines


def test_a_file_is_replaced_only_where_predictions_were(tmp_path):
    require_own_file(None)
    file = tmp_path / "said.jsonl"
    require_own_file(str(file))
    file.touch()
    require_own_file(str(file))
    write_predictions(file, measured(["x", "z"]))
    require_own_file(str(file))
    for content in ("text,label\na,b\n", '{"text": "a"}\n', "[]\n", "\ufeff", b"\xff"):
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError, match=r"said\.jsonl: holds something else than predictions; name another file"):
            require_own_file(str(file))
    with pytest.raises(UserError, match="is a folder; name a file in it"):
        require_own_file(str(tmp_path))
    with pytest.raises(UserError, match="its folder does not exist"):
        require_own_file(str(tmp_path / "no" / "file"))


def test_columns_of_the_data_that_are_called_as_what_is_said_keep_their_values(capsys):
    found = measured(["x", "z"], references=["x", "y"])
    found.evaluator.split.rows = found.evaluator.split.rows.rename_columns({"text": "prediction", "score": "reference"})
    found.evaluator.reader.columns = lambda: ["prediction", "reference"]
    assert predictions_of(found)[1] == {
        "given_prediction": "b", "given_reference": "y", "prediction": "z", "reference": "y",
    }  # fmt: skip
    assert predictions_of(found) == predictions_of(found)
    assert capsys.readouterr().err.splitlines() == [
        "'prediction' of the data is called 'given_prediction' beside what the model says",
        "'reference' of the data is called 'given_reference' beside what the model says",
    ]


def test_a_task_need_not_tell_more():
    assert predictions_of(measured(["x", "z"]))[1] == {"text": "b", "score": "y", "prediction": "z"}


def test_nothing_is_written_of_a_language_model_or_by_other_processes(tmp_path):
    assert predictions_of(measured(None)) == []
    write_predictions(tmp_path / "said.jsonl", measured(None))
    write_predictions(tmp_path / "said.jsonl", measured(["x", "z"], is_main_process=False))
    assert not (tmp_path / "said.jsonl").exists()


def test_scores_are_without_what_was_said_of_rows():
    assert scores_in({"f1": 1.0, "predictions": [], "details": []}) == {"f1": 1.0}
