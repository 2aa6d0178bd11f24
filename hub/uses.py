"""How a published model is used: the calls that a model card shows, for every head and task."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedConfig

from ..configuration.errors import UserError
from ..pipelines.translation import language_tag
from ..recipes.schema import Recipe
from ..tasks import TASKS
from ..tasks.reader import first_words
from ..tasks.translation import usual_direction


def pipeline_tag(task: str) -> str:
    """The Hub's name of a recipe's task; any other name as it is."""
    return TASKS[task].pipeline_tag if task in TASKS else task


@dataclass(frozen=True)
class Use:
    """A task that a head does.

    Args:
        task: The Hub's name of it, which is also the pipeline's, where there is one.
        name: What the pipeline is called in code.
        example: Which of `EXAMPLES` it is shown with.
        model_call: What follows the tokenizer or the image processor, which makes `inputs`.
        call: The pipeline's arguments; empty where no pipeline does it. In it and in `inputs` stand `{example}` and
            `{second}`.
        inputs: The tokenizer's or the image processor's arguments.
        reader: Which of the two it is: `tokenizer` or `image_processor`.
        parameters: What else the pipeline is called with.
        tags: What else the Hub knows it by.
    """

    task: str
    name: str
    example: str
    model_call: Sequence[str]
    call: str = "{example}"
    inputs: str = "{example}"
    reader: str = "tokenizer"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()


_GENERATE = (
    "output = model.generate(inputs.input_ids, attention_mask=inputs.attention_mask)",
    "print(tokenizer.decode(output[0], skip_special_tokens=True))",
)
_CAPTION = (
    "output = model.generate(inputs.pixel_values)",
    "print(tokenizer.decode(output[0], skip_special_tokens=True))",
)
_MEND = (*_GENERATE[:1], "print(tokenizer.decode(output[0]))")  # what stands for gaps is special
_CLASSIFY = ("label = model(**inputs).logits.argmax().item()", "print(model.config.id2label[label])")

# Auto class -> what its head does, the usual first
USES: dict[str, tuple[Use, ...]] = {
    "AutoModel": (Use("feature-extraction", "encode", "text", ("print(model(inputs.input_ids).last_hidden_state)",)),),
    "AutoModelForSeq2SeqLM": (
        Use("translation", "translate", "text", _GENERATE),
        Use("summarization", "summarize", "article", _GENERATE),
        # the Hub counts text2text-generation among it; transformers 5 has no pipeline of that name, and that of this one
        # is for decoders
        Use("text-generation", "mend", "text", _MEND, call="", tags=("text2text-generation",)),
    ),
    "AutoModelForCausalLM": (Use("text-generation", "write", "prompt", _GENERATE),),
    "AutoModelForImageTextToText": (
        # transformers 5 has no pipeline for it
        Use(
            "image-to-text",
            "caption",
            "picture",
            _CAPTION,
            call="",
            inputs='Image.open({example}).convert("RGB")',
            reader="image_processor",
        ),
    ),
    "AutoModelForMaskedLM": (
        Use(
            "fill-mask",
            "fill",
            "masked",
            (
                "logits = model(**inputs).logits[inputs.input_ids == tokenizer.mask_token_id]",
                "print(tokenizer.decode(logits.argmax(-1)))",
            ),
        ),
    ),
    "AutoModelForSequenceClassification": (Use("text-classification", "classify", "text", _CLASSIFY),),
    "AutoModelForTokenClassification": (
        Use(
            "token-classification",
            "tag",
            "text",
            (
                "labels = model(**inputs).logits[0].argmax(-1).tolist()",
                "print([(token, model.config.id2label[label]) for token, label in zip(inputs.tokens(), labels)])",
            ),
        ),
    ),
    "AutoModelForQuestionAnswering": (
        Use(
            "question-answering",
            "answer",
            "context",
            (
                "output = model(**inputs)",
                "start, end = output.start_logits.argmax(), output.end_logits.argmax()",
                "print(tokenizer.decode(inputs.input_ids[0, start : end + 1]))",
            ),
            call="question={second}, context={example}",
            inputs="{second}, {example}",
        ),
    ),
}
_OF_PAIRS = Use(
    "text-classification",
    "classify",
    "pair",
    _CLASSIFY,
    call='{{"text": {example}, "text_pair": {second}}}',
    inputs="{example}, {second}",
)
_ZERO_SHOT = Use(
    "zero-shot-classification",
    "choose",
    "topic",
    (),
    call="{example}, candidate_labels={second}, hypothesis_template={third}",
)

# language -> kind -> the example, and what goes with it
EXAMPLES: dict[str, dict[str, tuple[Any, ...]]] = {
    "ko": {
        "text": ("회의는 삼월 십오일 오후 두 시 반에 시작해요.",),
        "article": (
            "시는 내년 봄부터 시내버스 노선 열두 개를 새로 운행한다고 밝혔다. 새 노선은 지하철역과 주택가를 잇는다. "
            "요금은 오르지 않는다.",
        ),
        "prompt": ("오늘 아침에",),
        "picture": ("picture.png",),
        "masked": ("오늘 오후에 {mask} 만나요.",),
        "spans": ("오늘 오후에 <extra_id_0> 만나요.",),
        "ul2": ("[R] 오늘 오후에 <extra_id_0> 만나요.",),
        "context": ("회의는 삼월 십오일 오후 두 시 반에 시작해요.", "회의는 몇 시에 시작해요?"),
        "pair": ("민수는 사과를 먹었다.", "민수는 과일을 먹었다."),
        "topic": ("어제 축구 경기는 두 골 차로 끝났다.", ["운동", "음식"], "이 글은 {}에 관한 것이다."),
    },
    "en": {
        "text": ("The meeting is at half past two on the fifteenth of March.",),
        "article": (
            "The city will open twelve new bus lines next spring. They connect suburbs with the underground. "
            "Fares will stay the same.",
        ),
        "prompt": ("This morning",),
        "picture": ("picture.png",),
        "masked": ("We will meet at {mask} today.",),
        "spans": ("We will meet at <extra_id_0> today.",),
        "ul2": ("[R] We will meet at <extra_id_0> today.",),
        "context": ("The meeting is at half past two on the fifteenth of March.", "When is the meeting?"),
        "pair": ("A man eats an apple.", "A man eats a fruit."),
        "topic": ("Yesterday's match ended with two goals.", ["sports", "food"], "This text is about {}."),
    },
}

# objective of denoising -> the example, where it is called otherwise
_CORRUPTED = {"infilling": "masked", "prefix": "prompt"}
# what stands for a word that the model is to find, and before the text
_HIDDEN = {"masked": ("{mask}", ""), "spans": ("<extra_id_0>", ""), "ul2": ("<extra_id_0>", "[R] ")}
PROMPT = 30  # characters that a model is to go on from


@dataclass(frozen=True)
class Call:
    """A pipeline's task, what it is called in code, and how it is called."""

    task: str
    name: str
    call: str


def labels_of(auto_class: str, config: PreTrainedConfig) -> list[str]:
    """The labels that a classification head tells apart, in the order of its outputs; none of other heads."""
    is_classifier = auto_class in ("AutoModelForSequenceClassification", "AutoModelForTokenClassification")
    if not is_classifier or config.problem_type == "regression":
        return []
    return [config.id2label[number] for number in sorted(config.id2label)]


def find_use(auto_class: str, config: PreTrainedConfig, task: str | None, recipe: Recipe | None) -> Use:
    """What a head is used for: the task where it does it, else the recipe's, else what it usually does.

    Args:
        task: Of the Hub, or as recipes call it.
        recipe: It knows whether texts are classified in pairs, and how tokens were labelled.

    Raises:
        UserError: The task is the recipe's, and has no name on the Hub.
    """
    names = [pipeline_tag(task)] if task is not None else []
    if recipe is not None and not names and recipe.task not in TASKS:
        raise UserError(f"task={recipe.task!r}: has no name on the Hub; there are {', '.join(TASKS)}")
    if recipe is not None:
        names.append(pipeline_tag(recipe.task))
    uses = [use for name in names for use in USES[auto_class] if use.task == name]
    use = (uses or USES[auto_class])[0]
    if use.task == "text-classification":
        if recipe is not None and recipe.data.columns.get("text_pair"):
            use = _OF_PAIRS
        if config.problem_type not in (None, "single_label_classification") or config.num_labels == 1:
            use = replace(use, model_call=("print(model(**inputs).logits)",))
    if recipe is not None and recipe.task == "denoising" and use.task == "text-generation":
        objective = recipe.options.get("objective", "spans")
        use = replace(use, example=_CORRUPTED.get(objective, objective))
    if recipe is not None and use.task == recipe.task == "translation" and (direction := usual_direction(recipe)):
        source, target = direction
        tagged = f'"{language_tag(target)}" + {{example}}'
        use = replace(use, parameters={"src_lang": source, "tgt_lang": target}, inputs=tagged)
    if recipe is not None and use.task == recipe.task == "token-classification":
        # what is not the first sub-word of its word may never have been trained
        all_subwords = recipe.options.get("label_all_subwords")
        use = replace(use, parameters={"aggregation_strategy": "simple" if all_subwords else "first"})
    return use


def example_of_row(use: Use, row: Mapping[str, str]) -> tuple[str, str | None] | None:
    """An example, and what goes with it, that is made of a row of the data: of a text that is to be continued its first words,
    of one in which a word is to be found all others.

    Args:
        row: What a model is asked, as the folder of its run has it.

    Returns:
        None where the row is not of this use.
    """
    second = {"context": row.get("question"), "pair": row.get("text_pair")}.get(use.example)
    first = row.get("context" if use.example == "context" else "text", "")
    if not first.strip() or use.example == "picture" or (second is None and use.example in ("context", "pair")):
        return None
    if use.example == "prompt":
        first = first_words(first, PROMPT)
    elif use.example in _HIDDEN:
        hidden, before = _HIDDEN[use.example]
        words = first.split()
        words[len(words) // 2] = hidden
        first = before + " ".join(words)
    return first, second


def example_calls(
    use: Use,
    labels: Sequence[str],
    language: str | None,
    example: str | None = None,
    question: str | None = None,
    mask_token: str | None = None,
) -> tuple[list[Call], list[str]]:
    """Calls of pipelines, and lines of code that use the model itself, with an example.

    Args:
        language: Of the example, if there is none: `ko`, or else English.
        example: Stands for the text, prompt, article or context, or names the file of a picture.
        question: Stands for the question or the second text of a pair.
        mask_token: The tokenizer's; fill-mask puts it behind an example that has none, and needs it.
    """
    first, second = _example(use, language, example, question, mask_token)
    calls = [_call(use, first, second)] if use.call else []
    if use.example == "masked" and mask_token is None:
        calls, first = [], first.replace("{mask}", "")
    if any(label.lower().startswith("entail") for label in labels):
        calls.append(_call(_ZERO_SHOT, *EXAMPLES.get(language or "en", EXAMPLES["en"])[_ZERO_SHOT.example]))
    inputs = use.inputs.format(example=_literal(first), second=_literal(second))
    return calls, [f'inputs = {use.reader}({inputs}, return_tensors="pt")', *use.model_call]


def widget_of(
    use: Use,
    language: str | None,
    example: str | None = None,
    question: str | None = None,
    mask_token: str | None = None,
) -> dict[str, Any]:
    """What a page on the Hub tries the model with, as a card's metadata says it: an example under `widget`, and the
    pipeline's arguments under `inference`.

    Args: as of `example_calls`.
    """
    first, second = _example(use, language, example, question, mask_token)
    fields: dict[str, Any] = {"widget": [{"text": first}]}
    if use.task == "question-answering":
        fields["widget"] = [{"text": second, "context": first}]
    elif use.example == "pair":
        fields["widget"] = [{"text": first, "text_pair": second}]
    elif use.example == "picture" or (use.example == "masked" and mask_token is None):
        return {}  # a page on the Hub would need the address of a picture
    return fields | ({"inference": {"parameters": dict(use.parameters)}} if use.parameters else {})


def _example(
    use: Use, language: str | None, example: str | None, question: str | None, mask_token: str | None
) -> tuple[str, str | None]:
    first, *rest = EXAMPLES.get(language or "en", EXAMPLES["en"])[use.example]
    first, second = example or first, question or (rest[0] if rest else None)
    if use.example == "masked" and mask_token is not None:
        first = first.replace("{mask}", mask_token)
        first = first if mask_token in first else f"{first} {mask_token}"
    return first, second


def _call(use: Use, first: Any, second: Any, third: Any = None) -> Call:
    arguments = [use.call.format(example=_literal(first), second=_literal(second), third=_literal(third))]
    arguments += [f"{name}={_literal(value)}" for name, value in use.parameters.items()]
    return Call(use.task, use.name, f"{use.name}({', '.join(arguments)})")


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
