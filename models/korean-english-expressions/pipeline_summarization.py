"""Summarization through `pipeline()`: the call and the answers of transformers 4, which transformers 5 has no more."""

import logging
from typing import Any

import torch

from .pipeline_text_to_text import TextToTextPipeline

logger = logging.getLogger(__name__)


class SummarizationPipeline(TextToTextPipeline):
    """Summarizes with any encoder-decoder that has a language-modelling head.

    ```python
    summarize = pipeline("summarization", model=folder)
    summarize(article)                                        # [{"summary_text": ...}]
    summarize([article, another], max_new_tokens=40)          # [{"summary_text": ...}, {"summary_text": ...}]
    ```

    Where neither the call nor the model's `generation_config.json` says otherwise, it searches with 4 beams for up to
    256 new tokens, as transformers 4 did (fewer where the decoder has fewer positions). It warns of settings that
    force a summary to be as long as its source.

    Raises:
        ValueError: The model cannot summarize: it is no encoder-decoder, or has no head to generate with.
    """

    record = "summary"
    verb = "summarize"

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Summarizes a text, or each of many.

        Args:
            inputs: A text, a list of texts, or a generator or dataset that yields texts.
            batch_size (`int`, *optional*): Texts summarized at a time. Default: those of like length together, as
                many as have 2,048 tokens.
            return_text (`bool`, *optional*): Answer with `summary_text`. Default: not `return_tensors`.
            return_tensors (`bool`, *optional*): Answer with `summary_token_ids`, shape `(length,)`.
            clean_up_tokenization_spaces (`bool`, *optional*): Passed to the tokenizer's `decode`.
            truncation (*optional*): `True` (or a strategy of the tokenizer's) cuts a source that is longer than the
                model reads, `False` lets it through. By default it is cut with a warning.
            kwargs: Passed to `model.generate`: `num_beams`, `max_new_tokens`, `min_new_tokens`, ...

        Returns:
            For a text, a list of one dict per returned sequence. For a list of texts, a list of such dicts, one a text
            (of such lists, where `num_return_sequences` asks for more). For a generator or dataset, an iterator over
            such lists. A blank text has a blank summary: models make up text from nothing.

        Raises:
            TypeError: An input is not a text.
            ValueError: Neither text nor tensors are to be returned.
        """
        return super().__call__(inputs, *args, **kwargs)

    def _forward(self, input_tensors: dict[str, Any], **generate_kwargs: Any) -> dict[str, torch.Tensor]:
        chosen = self._chosen(self._with_defaults(generate_kwargs))
        at_least = max(chosen.get("min_length") or 0, chosen.get("min_new_tokens") or 0)
        source = int(input_tensors["attention_mask"].sum(dim=-1).min())
        if at_least >= source and not input_tensors["is_blank"].all():
            logger.warning(
                f"a source of {source} tokens is to have a summary of at least {at_least} (min_length, min_new_tokens): "
                "choose less for short texts"
            )
        return super()._forward(input_tensors, **generate_kwargs)
