"""Translation through `pipeline()`: the call and the answers of transformers 4, which transformers 5 has no more."""

import copy
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers import Pipeline

logger = logging.getLogger(__name__)


class TranslationPipeline(Pipeline):
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

    _load_tokenizer = True
    _load_processor = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    # What `Pipeline.__init__` prepares for pipelines that generate differs between minor releases of transformers 5,
    # so generation arguments are handled here, and the base class need not know that there are any.
    _pipeline_calls_generate = False

    default_num_beams = 4
    default_max_new_tokens = 256

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not (self.model.config.is_encoder_decoder and self.model.can_generate()):
            raise ValueError(
                f"{type(self.model).__name__} cannot translate: this pipeline needs an encoder-decoder with a "
                "language-modelling head, one that AutoModelForSeq2SeqLM loads"
            )

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Translates a text, or each of many.

        Args:
            inputs: A text, a list of texts, or a generator or dataset that yields texts.
            batch_size (`int`, *optional*): Texts translated at a time. Default: 1.
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
        if not isinstance(inputs, Sequence) or isinstance(inputs, str):
            return super().__call__(inputs, *args, **kwargs)
        if len(inputs) == 0:
            return []
        results = super().__call__(list(inputs), *args, **kwargs)
        if all(len(sequences) == 1 for sequences in results):
            return [sequences[0] for sequences in results]
        return results

    def _sanitize_parameters(
        self,
        return_tensors: bool | None = None,
        return_text: bool | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        truncation: bool | str | None = None,
        **generate_kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess = {"src_lang": src_lang, "tgt_lang": tgt_lang, "truncation": truncation}
        postprocess = {
            "return_tensors": return_tensors,
            "return_text": return_text,
            "clean_up_tokenization_spaces": clean_up_tokenization_spaces,
        }
        return _given(preprocess), generate_kwargs, _given(postprocess)

    def preprocess(
        self,
        input_: str,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        truncation: bool | str | None = None,
    ) -> dict[str, Any]:
        if not isinstance(input_, str):
            raise TypeError(f"translation needs texts, but an input is of type {type(input_).__name__}: {input_!r}")
        task_src_lang, task_tgt_lang = languages_of_task(self.task)
        tokenize = partial(self._tokenize, input_, src_lang or task_src_lang, tgt_lang or task_tgt_lang)
        inputs = tokenize()
        length, limit = inputs["input_ids"].shape[1], self._longest_source()
        if length > limit and truncation not in (False, "do_not_truncate"):
            if truncation is None:
                logger.warning(
                    f"a source of {length} tokens is cut to the {limit} that the model reads: {input_[:40]!r}... "
                    "(truncation=True cuts without this warning, truncation=False does not cut)"
                )
            inputs = tokenize(truncation=truncation or True, max_length=limit)
        if length == 0:
            inputs["input_ids"] = torch.full((1, 1), self._any_token_id())
            inputs["attention_mask"] = torch.ones(1, 1, dtype=torch.long)
        inputs["is_blank"] = torch.tensor([length == 0 or not input_.strip()])
        return inputs

    def _tokenize(self, text: str, src_lang: str | None, tgt_lang: str | None, **options: Any) -> dict[str, Any]:
        # `verbose=False`: the tokenizer would warn of long sources too, without saying what becomes of them.
        options = {"return_tensors": "pt", "verbose": False, **options}
        text = (getattr(self.model.config, "prefix", None) or "") + text
        if build := getattr(self.tokenizer, "_build_translation_inputs", None):
            inputs = build(text, src_lang=src_lang, tgt_lang=tgt_lang, **options)
        else:
            inputs = self.tokenizer(text, **options)
        return {name: value for name, value in inputs.items() if name != "token_type_ids"}

    def _longest_source(self) -> int:
        return min(self.tokenizer.model_max_length, _positions(self.model.config, "encoder") or 10**30)

    def _any_token_id(self) -> int:
        candidates = (self.tokenizer.eos_token_id, self.tokenizer.pad_token_id, 0)
        return next(token_id for token_id in candidates if token_id is not None)

    def _forward(self, input_tensors: dict[str, Any], **generate_kwargs: Any) -> dict[str, torch.Tensor]:
        inputs = dict(input_tensors)
        is_blank = inputs.pop("is_blank")
        if isinstance(forced := inputs.get("forced_bos_token_id"), list):
            inputs["forced_bos_token_id"] = forced[0]
        generated = self.model.generate(**inputs, **self._with_defaults(generate_kwargs))
        sequences = generated if isinstance(generated, torch.Tensor) else generated.sequences
        return {"output_ids": sequences.unflatten(0, (len(is_blank), -1)), "is_blank": is_blank}

    def _with_defaults(self, generate_kwargs: dict[str, Any]) -> dict[str, Any]:
        chosen = self.model.generation_config.to_diff_dict() | generate_kwargs
        config = generate_kwargs.get("generation_config")
        if config is not None:
            chosen |= config.to_diff_dict()
        defaults = {}
        if "num_beams" not in chosen:
            defaults["num_beams"] = self.default_num_beams
        if "max_new_tokens" not in chosen and "max_length" not in chosen:
            room = (_positions(self.model.config, "decoder") or 10**30) - 1
            defaults["max_new_tokens"] = min(self.default_max_new_tokens, room)
        if config is None:
            return generate_kwargs | defaults
        config = copy.deepcopy(config)
        config.update(**defaults)
        return generate_kwargs | {"generation_config": config}

    def postprocess(
        self,
        model_outputs: dict[str, torch.Tensor],
        return_tensors: bool = False,
        return_text: bool | None = None,
        clean_up_tokenization_spaces: bool = False,
    ) -> list[dict[str, Any]]:
        return_text = not return_tensors if return_text is None else return_text
        if not (return_text or return_tensors):
            raise ValueError("return_text=False and return_tensors=False leave nothing to return: set one of them")
        is_blank = bool(model_outputs["is_blank"].all())
        records = []
        for token_ids in model_outputs["output_ids"][0]:
            record: dict[str, Any] = {}
            if return_tensors:
                record["translation_token_ids"] = token_ids[:0] if is_blank else token_ids
            if return_text:
                record["translation_text"] = (
                    ""
                    if is_blank
                    else self.tokenizer.decode(
                        token_ids,
                        skip_special_tokens=True,
                        clean_up_tokenization_spaces=clean_up_tokenization_spaces,
                    )
                )
            records.append(record)
        return records


def languages_of_task(task: str) -> tuple[str | None, str | None]:
    """`translation_xx_to_yy` → `("xx", "yy")`; any other task → `(None, None)`."""
    parts = task.split("_")
    if len(parts) == 4 and parts[0] == "translation" and parts[2] == "to":
        return parts[1], parts[3]
    return None, None


def _positions(config: Any, half: str) -> int | None:
    return getattr(getattr(config, half, config), "max_position_embeddings", None)


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}
