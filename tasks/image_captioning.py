"""Image captioning: pictures and what they show. A vision encoder of transformers, and a decoder that looks at its patches."""

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import evaluate
import numpy as np
import PIL.Image
import torch
import transformers
from huggingface_hub.dataclasses import strict
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    ViTImageProcessorPil,
)

from ..configuration.errors import UserError
from ..configuration.presets import attend_to, reads_patches
from ..data.loading import list_lengths
from ..modeling.losses import token_cross_entropy
from .base import INTS, pad, text_problem
from .metrics.translation import TranslationQuality
from .text_to_text import TextToTextTask

COARSE = 16  # tokens; the length of a caption counts as the next multiple


@strict
@dataclass
class ImageCaptioningOptions:
    """`image_mean` and `image_std` normalise pictures for a model that starts from nothing; a pretrained one brings its own."""

    image_mean: list[float | int] = field(default_factory=lambda: [0.5, 0.5, 0.5])  # red, green, blue, in [0, 1]
    image_std: list[float | int] = field(default_factory=lambda: [0.5, 0.5, 0.5])
    word_dropout: float = 0.0  # share of the tokens before the next one that training hides


class VisionEncoderDecoderModel(transformers.VisionEncoderDecoderModel):
    """transformers' model with the loss that the loop asks for: summed over labels, divided by those of the whole global batch,
    and smoothed; transformers' own is the mean over the labels here. What is saved is transformers' model, by its name."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.freeze_unseen()

    def freeze_unseen(self) -> None:
        """Freeze what does not reach the decoder and has no gradient: what comes after the last hidden states."""
        for name, parameter in self.encoder.named_parameters():
            if name.startswith(("pooler.", "head.", "post_layernorm.")) or name.endswith("mask_token"):
                parameter.requires_grad_(False)

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        loaded = super().from_pretrained(*arguments, **options)
        model = loaded[0] if options.get("output_loading_info") else loaded
        model.freeze_unseen()  # loaded weights replace those that were frozen
        return loaded

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **options: Any) -> PreTrainedModel:
        """As of the Auto classes."""
        return cls._from_config(config, **options)

    @classmethod
    def from_encoder_decoder_pretrained(  # type: ignore[override]
        cls, encoder: str, decoder: str, output_loading_info: bool = False, **fields: Any
    ) -> Any:
        """A vision encoder and a decoder that were trained apart; the decoder's cross-attention is new.

        Raises:
            ValueError: The encoder does not read pictures in patches.
        """
        loading = {"output_loading_info": True, "use_safetensors": True, "dtype": torch.float32}
        seeing, seen = AutoModel.from_pretrained(encoder, **loading)
        if seeing.main_input_name != "pixel_values" or not reads_patches(seeing.config):
            raise ValueError(f"{encoder} is a {seeing.config.model_type}, which does not read pictures in patches")
        config = AutoConfig.from_pretrained(decoder)
        config.is_decoder = True
        attend_to(config, seeing.config)
        saying, said = AutoModelForCausalLM.from_pretrained(decoder, config=config, **loading)
        joined = cls.config_class(encoder=seeing.config.to_dict(), decoder=saying.config.to_dict(), **fields)
        model = cls(config=joined, encoder=seeing, decoder=saying)
        model.config.encoder.name_or_path = encoder
        report = {
            kind: {f"{half}.{name}" for half, info in (("encoder", seen), ("decoder", said)) for name in info[kind]}
            for kind in ("missing_keys", "unexpected_keys")
        }
        return (model, report) if output_loading_info else model

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        label_smoothing: float = 0.0,
        **options: Any,
    ) -> Any:
        """
        Args:
            pixel_values: `(B, channels, height, width)`.
            labels: `(B, T)` token ids, -100 where none counts; `decoder_input_ids (B, T)` are made of them if not given.
        """
        if labels is not None:
            options["use_cache"] = False
            if decoder_input_ids is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = super().forward(pixel_values=pixel_values, decoder_input_ids=decoder_input_ids, **options)
        if labels is not None:
            size = self.config.decoder.vocab_size
            outputs.loss = token_cross_entropy(outputs.logits, labels, size, num_items_in_batch, label_smoothing)
        return outputs


class ImageCaptioningTask(TextToTextTask):
    """Pairs of `image` and `text`. Files of pictures are looked at before training, and decoded when a batch needs them.

    A caption's own words tell much of the next one. Word dropout (Bowman et al. 2016, §3.1) makes the decoder look at the
    picture instead, which matters where that shows what was never seen together.
    """

    name = "image-captioning"
    auto_class = joined_class = VisionEncoderDecoderModel
    family = ("vision-encoder-decoder",)
    text_halves = ("decoder",)
    roles = ("image", "text")
    features = {"labels": INTS}
    encoded_as = {"text": "labels"}
    sides = ("labels",)
    metrics = ("exact_match", "bleu", "chrf")
    options_class = ImageCaptioningOptions
    image_processor: Any = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for name in ("image_mean", "image_std"):
            values = getattr(self.options, name)
            if len(values) != 3 or (name == "image_std" and min(values) <= 0):
                raise UserError(
                    f"options.{name}={values}: must be three numbers, for red, green and blue, deviations positive"
                )
        if not 0 <= self.options.word_dropout < 1:
            raise UserError(f"options.word_dropout={self.options.word_dropout} must lie in [0, 1)")

    def quality(self) -> evaluate.Metric:
        return TranslationQuality(keep_in_memory=True)

    def text_roles(self) -> tuple[str, ...]:
        return ("text",)

    def prepare_config(self, config: PreTrainedConfig) -> None:
        super().prepare_config(config)
        encoder = config.encoder
        self.start = config.decoder_start_token_id
        # of weights that come from somewhere, it says how they saw pictures
        if source := config.name_or_path or encoder.name_or_path:
            try:
                self.image_processor = AutoImageProcessor.from_pretrained(source, backend="pil")
            except (OSError, ValueError):
                raise UserError(
                    f"{source}: no image processor to load; preprocessor_config.json must be there"
                ) from None
        else:
            options = self.options
            height, width = _both(encoder.image_size)
            self.image_processor = ViTImageProcessorPil(
                size={"height": height, "width": width}, image_mean=options.image_mean, image_std=options.image_std
            )
        pixel_values = self.image_processor([PIL.Image.new("RGB", (64, 64))], return_tensors="pt")["pixel_values"]
        down, right = _both(encoder.patch_size)
        self.patches = (pixel_values.shape[-2] // down) * (pixel_values.shape[-1] // right)

    def save_preprocessing(self, folder: Path) -> None:
        super().save_preprocessing(folder)
        self.image_processor.save_pretrained(folder)

    def undecoded(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        """The examples with pictures as the bytes of their files, or their places.

        Raises:
            UserError: The column is of another kind.
        """
        column = self.column("image")
        feature = examples.features[column]
        kind = feature.dtype if isinstance(feature, datasets.Value) else type(feature).__name__
        if kind == "large_string":
            examples = examples.cast_column(column, datasets.Value("string"))
        elif kind not in ("Image", "string", "binary", "large_binary") and not (kind == "dict" and "bytes" in feature):
            raise UserError(
                f"{where}: column {column!r} is of type {kind}; it must hold pictures (datasets.Image) or the names of "
                "their files"
            )
        return examples.cast_column(column, datasets.Image(decode=False))

    def picture(self, value: dict[str, Any]) -> PIL.Image.Image:
        """An RGB picture.

        Raises:
            UserError: Its file is damaged.
        """
        try:
            picture = datasets.Image().decode_example(self._placed(value))
        # what Pillow raises for a damaged file depends on its kind
        except Exception:
            raise UserError(f"{_name(value)} cannot be read as a picture; mend it or leave it out") from None
        if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255
            picture = PIL.Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
        return picture.convert("RGB")

    def _placed(self, value: dict[str, Any]) -> dict[str, Any]:
        """With a file's name counted from the folder of the data."""
        if value["bytes"] is not None or self.recipe.data.path is None:
            return value
        folder = Path(self.recipe.data.path)
        return {"bytes": None, "path": str((folder.parent if folder.is_file() else folder) / value["path"])}

    def picture_problem(self, value: dict[str, Any] | None) -> str | None:
        """Why a value is no picture to learn from, as far as can be told without decoding it."""
        column = self.column("image")
        if value is None:
            return f"column {column!r} holds None, not a picture"
        placed = self._placed(value)
        try:
            with PIL.Image.open(placed["path"] if placed["bytes"] is None else BytesIO(placed["bytes"])) as picture:
                picture.verify()
        except FileNotFoundError:
            return f"column {column!r}: {_name(value)}: no such file"
        except Exception:
            return f"column {column!r}: {_name(value)} cannot be read as a picture"
        return None

    def scoring_problems(self, rows: dict[str, list]) -> list[str | None]:
        return [
            self.picture_problem(picture) or text_problem(self.column("text"), text)
            for picture, text in zip(rows["image"], rows["text"], strict=True)
        ]

    def scorable(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        return super().scorable(self.undecoded(examples, where), where)

    def encode(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        examples = self.undecoded(examples, where)
        encoded = super().encode(examples, where)
        column = str(self.column("image"))
        pictures = examples.select_columns([column]).rename_columns({column: "image"} if column != "image" else {})
        if len(encoded) < len(examples):
            pictures = pictures.select(encoded["example"])
        return datasets.concatenate_datasets([encoded, pictures], axis=1)

    def lengths(self, encoded: datasets.Dataset) -> np.ndarray:
        """`(examples, 2)`: patches of the picture, and tokens of the caption, rounded up. The length of a caption tells what is
        in the picture; in batches sorted by it, all pictures would show alike things, and each step pull another way."""
        captions = -(-list_lengths(encoded, "labels") // COARSE) * COARSE
        return np.stack([np.full(len(encoded), self.patches), captions], axis=1)

    def pixel_values(self, pictures: list[dict[str, Any]]) -> torch.Tensor:
        """`(B, channels, height, width)`, of the size that the model reads."""
        return self.image_processor([self.picture(each) for each in pictures], return_tensors="pt")["pixel_values"]

    def randomize(self, rows: dict[str, list], indices: np.ndarray, epoch: int) -> dict[str, list]:
        """With `decoder_input_ids`: the labels, one token later, some hidden behind the unknown token."""
        if not self.options.word_dropout:
            return rows
        hidden = self.tokenizer.pad_token_id if self.tokenizer.unk_token_id is None else self.tokenizer.unk_token_id
        inputs = []
        for index, labels in zip(indices, rows["labels"], strict=True):
            random = np.random.default_rng([self.recipe.seed, epoch, int(index)])
            dropped = random.random(len(labels) - 1) < self.options.word_dropout
            inputs.append([self.start, *np.where(dropped, hidden, labels[:-1])])
        return rows | {"decoder_input_ids": inputs}

    def collate(self, rows: dict[str, list]) -> dict[str, torch.Tensor]:
        batch = {"pixel_values": self.pixel_values(rows["image"]), "labels": pad(rows["labels"], -100)}
        if "decoder_input_ids" in rows:
            batch["decoder_input_ids"] = pad(rows["decoder_input_ids"], self.tokenizer.pad_token_id)
        return batch

    def tokens(self, batch: dict[str, torch.Tensor]) -> int:
        return len(batch["labels"]) * self.patches + batch["labels"].numel()

    def sources(self, examples: datasets.Dataset) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, torch.Tensor]]]:
        column = str(self.column("image"))
        pictures = examples.select_columns([column])

        def batch_of(indices: np.ndarray) -> dict[str, torch.Tensor]:
            return {"pixel_values": self.pixel_values(pictures[indices][column])}

        return np.full(len(examples), self.patches), batch_of

    def shown(self, row: dict[str, Any]) -> dict[str, Any]:
        column = str(self.column("image"))
        return row | {column: row[column]["path"]}


def _name(value: dict[str, Any]) -> str:
    """Of a picture's file; the end of a long one."""
    name = value["path"] or "a picture without a name"
    return name if len(name) <= 60 else f"…{name[-60:]}"


def _both(size: Any) -> tuple[int, int]:
    """A side of a square, or the height and the width."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
