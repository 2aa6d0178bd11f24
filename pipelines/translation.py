"""Translation through `pipeline()`: the call and the answers of transformers 4, which transformers 5 has no more."""

from typing import Any

from .text_to_text import TextToTextPipeline, given


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

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Translates a text, or each of many.

        Args:
            inputs: A text, a list of texts, or a generator or dataset that yields texts.
            batch_size (`int`, *optional*): Texts translated at a time. Default: those of like length together, as
                many as have 2,048 tokens.
            return_text (`bool`, *optional*): Answer with `translation_text`. Default: not `return_tensors`.
            return_tensors (`bool`, *optional*): Answer with `translation_token_ids`, shape `(length,)`.
            clean_up_tokenization_spaces (`bool`, *optional*): Passed to the tokenizer's `decode`.
            src_lang, tgt_lang (`str`, *optional*): For tokenizers of many languages (NLLB, mBART, M2M100); others
                ignore them. Default: those of a task named `translation_xx_to_yy`.
            truncation (*optional*): `True` (or a strategy of the tokenizer's) cuts a source that is longer than the
                model reads, `False` lets it through. By default it is cut with a warning.
            kwargs: Passed to `model.generate`: `num_beams`, `max_new_tokens`, `num_return_sequences`, ...

        Returns:
            For a text, a list of one dict per returned sequence. For a list of texts, a list of such dicts, one a text
            (of such lists, where `num_return_sequences` asks for more). For a generator or dataset, an iterator over
            such lists. A blank text has a blank translation: models make up text from nothing.

        Raises:
            TypeError: An input is not a text.
            ValueError: Neither text nor tensors are to be returned.
        """
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(
        self, *, src_lang: str | None = None, tgt_lang: str | None = None, **parameters: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess, forward, postprocess = super()._sanitize_parameters(**parameters)
        return preprocess | given({"src_lang": src_lang, "tgt_lang": tgt_lang}), forward, postprocess

    def _encode(self, text: str, src_lang: str | None = None, tgt_lang: str | None = None, **options: Any) -> Any:
        build = getattr(self.tokenizer, "_build_translation_inputs", None)
        if build is None:
            return self.tokenizer(text, **options)
        task_src_lang, task_tgt_lang = languages_of_task(self.task)
        return build(text, src_lang=src_lang or task_src_lang, tgt_lang=tgt_lang or task_tgt_lang, **options)


def languages_of_task(task: str) -> tuple[str | None, str | None]:
    """`translation_xx_to_yy` → `("xx", "yy")`; any other task → `(None, None)`."""
    parts = task.split("_")
    if len(parts) == 4 and parts[0] == "translation" and parts[2] == "to":
        return parts[1], parts[3]
    return None, None
