import json

import pytest

from trefoil.hub.check import check_published
from trefoil.hub.clean_process import run_pipeline, tasks_of
from trefoil.pipelines.question_answering import QuestionAnsweringPipeline

TASKS = {
    "masked-lm": ["fill-mask"],
    "text-classification": ["text-classification"],
    "entailment": ["text-classification", "zero-shot-classification"],
    "token-classification": ["token-classification"],
    "question-answering": ["question-answering"],
    "causal-lm": ["text-generation"],
    "bare": ["feature-extraction"],
}


def tasks(folder):
    return tasks_of(json.loads((folder / "config.json").read_text()))


@pytest.mark.parametrize("head", TASKS)
def test_pipelines_that_fit_the_head_run(published_head, head):
    folder = published_head(head)
    assert tasks(folder) == TASKS[head]
    for task in tasks(folder):
        run_pipeline(task, str(folder))


def test_both_pipelines_of_text_to_text_run(published):
    assert sorted(tasks(published)) == ["summarization", "translation"]


@pytest.mark.slow
def test_question_answering_runs_where_the_package_is_not(published_head):
    folder = published_head("question-answering")
    code = {path.name for path in folder.glob("*.py")}
    assert "pipeline_question_answering.py" in code
    assert "pipeline_translation.py" not in code
    config = json.loads((folder / "config.json").read_text())
    assert config["custom_pipelines"] == {
        "question-answering": {
            "impl": f"pipeline_question_answering.{QuestionAnsweringPipeline.__name__}",
            "pt": ["AutoModelForQuestionAnswering"],
            "type": "text",
        }
    }
    checks = check_published(folder)
    assert [check for check in checks if not check.ok] == []
    assert {check.name for check in checks if "pipeline" in check.name} == {
        f"pipeline question-answering from {place}" for place in ("folder", "Hub cache")
    }
