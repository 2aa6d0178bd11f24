"""Translation through `pipeline()`: the call and the answers of transformers 4, which transformers 5 has no more."""

import re
from typing import Any

from .pipeline_text_to_text import TextToTextPipeline, given

LANGUAGE = r"[A-Za-z]{2,8}([_-][A-Za-z0-9]{2,8})*"


def is_language(value: Any) -> bool:
    """Whether a value has the form of a language's code: `ko`, `zh-Hant`, `kor_Hang`."""
    return isinstance(value, str) and re.fullmatch(LANGUAGE, value) is not None


def language_tag(language: str) -> str:
    """The special token that begins a source which is to be translated into a language (Johnson et al. 2017)."""
    return f"<2{language}>"


def languages_of(tokenizer: Any) -> list[str]:
    """The languages that a model translates into, as far as its tokenizer has tags for them."""
    found = (re.fullmatch(f"<2({LANGUAGE})>", token) for token in tokenizer.all_special_tokens)
    return [match[1] for match in found if match]


def with_language(tokenizer: Any, text: str, src_lang: str | None = None, tgt_lang: str | None = None) -> str:
    """A text behind the tag of the language into which it is to be translated, where the tokenizer has tags.

    Args:
        tgt_lang: Default: what the text's own tag says, else the only language that is not `src_lang`.

    Raises:
        ValueError: There is no such language, or it is not said which of several.
    """
    languages = languages_of(tokenizer)
    if not languages or (tgt_lang is None and text.startswith(tuple(map(language_tag, languages)))):
        return text
    left = [language for language in languages if language != src_lang]
    if tgt_lang is None and len(left) == 1:
        tgt_lang = left[0]
    if tgt_lang not in languages:
        wrong = "is needed" if tgt_lang is None else f"{tgt_lang!r} is unknown"
        raise ValueError(f"the language to translate into {wrong}: tgt_lang must be one of {', '.join(languages)}")
    return language_tag(tgt_lang) + text


class TranslationPipeline(TextToTextPipeline):
    """Translates with any encoder-decoder that has a language-modelling head.

    ```python
    translate = pipeline("translation", model=folder)
    translate("안녕하세요")                                   # [{"translation_text": ...}]
    translate(["하나", "둘"], batch_size=2, num_beams=5)      # [{"translation_text": ...}, {"translation_text": ...}]
    ```

    Where neither the call nor the model's `generation_config.json` says otherwise, it searches with 4 beams for up to
    256 new tokens, as transformers 4 did (fewer where the decoder has fewer positions).

    Raises:
        ValueError: The model cannot translate: it is no encoder-decoder, or has no head to generate with.
    """

    record = "translation"
    verb = "translate"

    @property
    def languages(self) -> list[str]:
        """Those that `tgt_lang` must name one of, where the tokenizer has tags for them."""
        return languages_of(self.tokenizer)

    def with_language(self, text: str, tgt_lang: str) -> str:
        """What the model reads of a text."""
        return with_language(self.tokenizer, text, tgt_lang=tgt_lang)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Translates a text, or each of many.

        Args:
            inputs: A text, a list of texts, or a generator or dataset that yields texts.
            batch_size (`int`, *optional*): Texts translated at a time. Default: those of like length together, as
                many as have 2,048 tokens.
            return_text (`bool`, *optional*): Answer with `translation_text`. Default: not `return_tensors`.
            return_tensors (`bool`, *optional*): Answer with `translation_token_ids`, shape `(length,)`.
            return_scores (`bool`, *optional*): Answer with `score` too: the log-probability of the tokens, over their
                number to the power of `length_penalty`, as beam search ranks by it. None of a blank text.
            clean_up_tokenization_spaces (`bool`, *optional*): Passed to the tokenizer's `decode`.
            src_lang, tgt_lang (`str`, *optional*): For models of several languages, whose tokenizers have tags such as
                `<2en>` or know languages themselves (NLLB, mBART, M2M100); others ignore them. Default: those of a task
                named `translation_xx_to_yy`; where there are tags, as of `with_language`.
            truncation (*optional*): `True` (or a strategy of the tokenizer's) cuts a source that is longer than the
                model reads, `False` lets it through. By default it is cut with a warning.
            kwargs: Passed to `model.generate`: `num_beams`, `max_new_tokens`, `num_return_sequences`, ...

        Returns:
            For a text, a list of one dict per returned sequence. For a list of texts, a list of such dicts, one a text
            (of such lists, where `num_return_sequences` asks for more). For a generator or dataset, an iterator over
            such lists. A blank text has a blank translation: models make up text from nothing.

        Raises:
            TypeError: An input is not a text.
            ValueError: Neither text nor tensors are to be returned; or a language is unknown, or needed.
        """
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(
        self, *, src_lang: str | None = None, tgt_lang: str | None = None, **parameters: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess, forward, postprocess = super()._sanitize_parameters(**parameters)
        return preprocess | given({"src_lang": src_lang, "tgt_lang": tgt_lang}), forward, postprocess

    def _encode(self, text: str, src_lang: str | None = None, tgt_lang: str | None = None, **options: Any) -> Any:
        task_src_lang, task_tgt_lang = languages_of_task(self.task)
        languages = {"src_lang": src_lang or task_src_lang, "tgt_lang": tgt_lang or task_tgt_lang}
        build = getattr(self.tokenizer, "_build_translation_inputs", None)
        if build is None:
            return self.tokenizer(with_language(self.tokenizer, text, **languages), **options)
        return build(text, **languages, **options)


def languages_of_task(task: str) -> tuple[str | None, str | None]:
    """`translation_xx_to_yy` → `("xx", "yy")`; any other task → `(None, None)`."""
    parts = task.split("_")
    if len(parts) == 4 and parts[0] == "translation" and parts[2] == "to":
        return parts[1], parts[3]
    return None, None
