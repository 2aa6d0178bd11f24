"""What translation and summarization through `pipeline()` have in common: a text in, a generated text out."""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, Pipeline

from .pipeline_like_lengths import lengths_of, predict_in_batches

logger = logging.getLogger(__name__)


class TextToTextPipeline(Pipeline):
    """Generates a text from a text, with any encoder-decoder that has a language-modelling head.

    A pipeline of this kind says what its records are called (`record`) and what it does (`verb`).

    Where neither the call nor the model's `generation_config.json` says otherwise, it searches with 4 beams for up to
    256 new tokens, as transformers 4 did (fewer where the decoder has fewer positions). What `config.json` lists for
    the task under `task_specific_params`, as T5's prefix and lengths, counts where they are silent, too.

    Raises:
        ValueError: The model cannot do it: it is no encoder-decoder, or has no head to generate with.
    """

    record: str  # "translation": the answers' keys are `translation_text` and `translation_token_ids`
    verb: str  # "translate", for messages

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
                f"{type(self.model).__name__} cannot {self.verb}: this pipeline needs an encoder-decoder with a "
                "language-modelling head, one that AutoModelForSeq2SeqLM loads"
            )

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(inputs, Sequence) or isinstance(inputs, str):
            return super().__call__(inputs, *args, **kwargs)
        if len(inputs) == 0:
            return []
        if not (args or self._says_how_many(inputs, **kwargs)):
            return predict_in_batches(self, inputs, lengths_of(self, inputs), **kwargs)
        results = super().__call__(list(inputs), *args, **kwargs)
        if all(len(sequences) == 1 for sequences in results):
            return [sequences[0] for sequences in results]
        return results

    def _says_how_many(self, inputs: Sequence[Any], **options: Any) -> bool:
        """Whether the call or the pipeline says how many texts are read at a time; so do texts that cannot be in one batch."""
        return bool(
            options.get("batch_size")
            or self._batch_size
            or self.tokenizer.pad_token_id is None
            or not all(isinstance(each, str) for each in inputs)
        )

    def _sanitize_parameters(
        self,
        *,
        return_tensors: bool | None = None,
        return_text: bool | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        truncation: bool | str | None = None,
        return_scores: bool | None = None,
        **generate_kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if return_scores:
            generate_kwargs |= {"return_dict_in_generate": True, "output_scores": True}
        postprocess = {
            "return_tensors": return_tensors,
            "return_text": return_text,
            "clean_up_tokenization_spaces": clean_up_tokenization_spaces,
        }
        return given({"truncation": truncation}), generate_kwargs, given(postprocess)

    def preprocess(self, input_: str, truncation: bool | str | None = None, **options: Any) -> dict[str, Any]:
        if not isinstance(input_, str):
            raise TypeError(f"{self.record} needs texts, but an input is of type {type(input_).__name__}: {input_!r}")
        inputs = self._tokenize(input_, **options)
        length, limit = inputs["input_ids"].shape[1], self._longest_source()
        if length > limit and truncation not in (False, "do_not_truncate"):
            if truncation is None:
                logger.warning(
                    f"a source of {length} tokens is cut to the {limit} that the model reads: {input_[:40]!r}... "
                    "(truncation=True cuts without this warning, truncation=False does not cut)"
                )
            inputs = self._tokenize(input_, **options, truncation=truncation or True, max_length=limit)
        if length == 0:
            inputs["input_ids"] = torch.full((1, 1), self._any_token_id())
            inputs["attention_mask"] = torch.ones(1, 1, dtype=torch.long)
        inputs["is_blank"] = torch.tensor([length == 0 or not input_.strip()])
        return inputs

    def _tokenize(self, text: str, **options: Any) -> dict[str, Any]:
        # `verbose=False`: the tokenizer would warn of long sources too, without saying what becomes of them.
        inputs = self._encode(self._prefix() + text, return_tensors="pt", verbose=False, **options)
        return {name: value for name, value in inputs.items() if name != "token_type_ids"}

    def _encode(self, text: str, **options: Any) -> Any:
        return self.tokenizer(text, **options)

    def _prefix(self) -> str:
        return self._task_params().get("prefix") or getattr(self.model.config, "prefix", None) or ""

    def _task_params(self) -> dict[str, Any]:
        params = getattr(self.model.config, "task_specific_params", None) or {}
        return params.get(self.task) or {}

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
        options = self._with_defaults(generate_kwargs)
        generated = self.model.generate(**inputs, **options)
        sequences = generated if isinstance(generated, torch.Tensor) else generated.sequences
        outputs = {"output_ids": sequences.unflatten(0, (len(is_blank), -1)), "is_blank": is_blank}
        if options.get("output_scores"):
            outputs["scores"] = self._sequence_scores(generated, options).unflatten(0, (len(is_blank), -1))
        return outputs

    def _sequence_scores(self, generated: Any, options: dict[str, Any]) -> torch.Tensor:
        """`(sequences,)`, float32: what beam search ranks by, also where it was another search: the log-probability of the
        tokens after the start, the end among them, over their number to the power of `length_penalty`."""
        if getattr(generated, "sequences_scores", None) is not None:
            return generated.sequences_scores
        tokens = generated.sequences[:, -len(generated.scores) :]
        chosen = [
            step.float().log_softmax(dim=-1).gather(1, ids[:, None])[:, 0]
            for step, ids in zip(generated.scores, tokens.T, strict=True)
        ]
        settings = self._chosen(options)
        ends = torch.as_tensor(settings.get("eos_token_id", []), device=tokens.device).flatten()
        is_end = torch.isin(tokens, ends)
        is_written = is_end.cumsum(dim=1) - is_end.long() == 0
        total = torch.where(is_written, torch.stack(chosen, dim=1), 0.0).sum(dim=1)
        return total / is_written.sum(dim=1) ** settings.get("length_penalty", 1.0)

    def _with_defaults(self, generate_kwargs: dict[str, Any]) -> dict[str, Any]:
        config = generate_kwargs.get("generation_config")
        chosen = self._chosen(generate_kwargs)
        defaults = {}
        if config is None:
            settings = GenerationConfig().to_dict()  # `generate` takes more: what runs code, or begins with `prefix`
            is_free = {name: name in settings and name not in chosen for name in self._task_params()}
            is_free["max_length"] = not {"max_length", "max_new_tokens"} & chosen.keys()
            defaults = {name: value for name, value in self._task_params().items() if is_free[name]}
            chosen |= defaults
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

    def _chosen(self, generate_kwargs: dict[str, Any]) -> dict[str, Any]:
        """What the model's files and the call say of generating: not what `generate` takes where both are silent."""
        chosen = self.model.generation_config.to_diff_dict() | generate_kwargs
        config = generate_kwargs.get("generation_config")
        return chosen if config is None else chosen | config.to_diff_dict()

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
        records: list[dict[str, Any]] = []
        for token_ids in model_outputs["output_ids"][0]:
            record: dict[str, Any] = {}
            if "scores" in model_outputs:
                record["score"] = None if is_blank else float(model_outputs["scores"][0, len(records)])
            if return_tensors:
                record[f"{self.record}_token_ids"] = token_ids[:0] if is_blank else token_ids
            if return_text:
                record[f"{self.record}_text"] = (
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


def _positions(config: Any, half: str) -> int | None:
    return getattr(getattr(config, half, config), "max_position_embeddings", None)


def given(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters that are not None."""
    return {name: value for name, value in parameters.items() if value is not None}
