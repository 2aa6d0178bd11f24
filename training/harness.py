"""Any language model under lm-evaluation-harness, EleutherAI's lm_eval."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable

from ..configuration.errors import UserError, reason
from ..data.formats.reading import READING_ERRORS
from ..tasks import CAUSAL_LM
from ..tasks.reader import shortened
from ..tasks.sentence_scorer import SentenceScorer
from .run import make_accelerator
from .scoring import load_preprocessor, load_scorer, recipe_for


def run_harness(
    folder: Path | str, tasks: Sequence[str], overrides: Sequence[str] = (), keep_answers: bool = False
) -> dict[str, Any]:
    """Scores of a model on tasks of the harness.

    Args:
        folder: A folder with a model and its tokenizer, or a Hub id.
        tasks: Names of tasks that come with the harness, and YAML files of one's own.
        overrides: `key.sub=value` for the recipe.
        keep_answers: Tell of each answer, too.

    Returns:
        All that the harness tells, as it can be written in JSON; under `results` the scores of each task. Nothing but on the main
        process.

    Raises:
        UserError: An unknown task, one whose data does not load, or one that asks what the model cannot answer.
    """
    recipe = recipe_for(folder, overrides)
    manager, loaded = _load_tasks(tasks)
    accelerator = make_accelerator(recipe)
    model: LM
    if recipe.task == CAUSAL_LM.name:
        preprocessor = load_preprocessor(folder, recipe)
        model = HFLM(
            str(folder),
            backend="causal",
            tokenizer=preprocessor.tokenizer,
            prefix_token_id=preprocessor.before_first[0],
            max_length=preprocessor.max_source_length,
            batch_size=max(1, recipe.evaluation.tokens_per_batch // preprocessor.max_source_length),
            device=str(accelerator.device),
            trust_remote_code=False,
            use_safetensors=True,
        )
    else:
        model = ScoringLM(load_scorer(folder, recipe, accelerator))
        for name, task in loaded.items():
            if task.OUTPUT_TYPE == "generate_until":
                raise model.cannot_generate(name)
    found = simple_evaluate(model, tasks=list(tasks), task_manager=manager, log_samples=keep_answers)
    if found is None or not accelerator.is_main_process:
        return {"results": {}}
    return json.loads(json.dumps(found, ensure_ascii=False, default=handle_non_serializable))


def _load_tasks(names: Sequence[str]) -> tuple[TaskManager, dict[str, Any]]:
    """What knows the tasks, and each by its name."""
    # to look through those that come with it takes it half a minute
    manager = TaskManager(include_defaults=not all(Path(name).is_file() for name in names))
    for name in names:
        if not Path(name).is_file() and name not in manager.all_tasks:
            raise UserError(
                f"--harness {name}: neither a YAML file nor a task of lm_eval; `lm-eval ls tasks` lists them"
            )
    try:
        loaded = manager.load(list(names))
    except (*READING_ERRORS, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--harness {','.join(names)}: does not load: {reason(error)}") from error
    manager.load = lambda _: loaded  # type: ignore[method-assign]  # else they are loaded again
    return manager, loaded["tasks"]


class ScoringLM(LM):
    """What the harness asks of a model, answered by a scorer of sentences: pseudo-log-likelihoods, where it gives those."""

    def __init__(self, scorer: SentenceScorer) -> None:
        super().__init__()
        self.scorer = scorer

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        return self._answers([request.args for request in requests])

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        return [score for score, _ in self._answers([("", *request.args) for request in requests])]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        raise self.cannot_generate(requests[0].task_name)

    def cannot_generate(self, task: str | None) -> UserError:
        kind = self.scorer.preprocessor.reader.task.name
        return UserError(
            f"--harness {task}: asks for generated text, which a model of the task {kind} does not continue"
        )

    def _answers(self, pairs: list[tuple[str, str]]) -> list[tuple[float, bool]]:
        contexts = [context.rstrip() for context, _ in pairs]  # a space belongs to the word behind it
        texts = [
            context[len(bare) :] + continuation for (context, continuation), bare in zip(pairs, contexts, strict=True)
        ]
        sentences = self.scorer.encode(texts, contexts)
        for pair, sentence in zip(pairs, sentences, strict=True):
            if problem := self.scorer.problem(sentence):
                raise UserError(f"{shortened(''.join(pair))!r}: {problem}")
        scores, greedy = self.scorer.score(sentences)
        return list(zip(scores.tolist(), greedy.tolist(), strict=True))
