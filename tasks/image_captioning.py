"""Image captioning: pictures and what they show. A vision encoder of transformers, and a decoder that looks at its patches."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pyarrow.compute as pc
import torch
from datasets.fingerprint import Hasher
from huggingface_hub.dataclasses import strict
from transformers import AutoImageProcessor, PreTrainedConfig, PreTrainedTokenizerBase, ViTImageProcessorPil

from ..configuration.errors import UserError
from ..data.encoded import list_lengths
from ..data.tokenizer import TEXT_TO_TEXT, padding_id
from ..modeling.vision_encoder_decoder import TrefoilVisionEncoderDecoderModel
from ..recipes.schema import Recipe
from .metrics.paired import EXACT_MATCH
from .metrics.translation import TranslationQuality
from .preprocessor import INTS, Split, pad
from .reader import Reader, Rows
from .task import Task
from .text_to_text import TextToTextEvaluator, TextToTextPreprocessor

COARSE = 16  # tokens; the length of a caption counts as the next multiple


@strict
@dataclass
class ImageCaptioningOptions:
    """`image_mean` and `image_std` normalise pictures for a model that starts from nothing; a pretrained one brings its own."""

    image_mean: list[float | int] = field(default_factory=lambda: [0.5, 0.5, 0.5])  # red, green, blue, in [0, 1]
    image_std: list[float | int] = field(default_factory=lambda: [0.5, 0.5, 0.5])
    word_dropout: float = 0.0  # share of the tokens before the next one that training hides


class ImageCaptioningReader(Reader):
    """Pairs of `image` and `text`. Files of pictures are looked at before training, and decoded when a batch needs them."""

    template = TEXT_TO_TEXT
    predicts_tokens = True
    needed_tokens = ("eos_token", "pad_token")  # the model shifts labels with it

    def __init__(self, task: Task, recipe: Recipe) -> None:
        super().__init__(task, recipe)
        for name in ("image_mean", "image_std"):
            values = getattr(self.options, name)
            if len(values) != 3 or (name == "image_std" and min(values) <= 0):
                raise UserError(
                    f"options.{name}={values}: must be three numbers, for red, green and blue, deviations positive"
                )
        if not 0 <= self.options.word_dropout < 1:
            raise UserError(f"options.word_dropout={self.options.word_dropout} must lie in [0, 1)")

    def text_roles(self) -> tuple[str, ...]:
        return ("text",)

    def prepared(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        """The examples with pictures as the bytes of their files, or their places.

        Raises:
            UserError: The column is of another kind.
        """
        column = str(self.column("image"))
        feature = examples.features[column]
        kind = feature.dtype if isinstance(feature, datasets.Value) else type(feature).__name__
        if kind == "large_string":
            examples = examples.cast_column(column, datasets.Value("string"))
        elif kind not in ("Image", "string", "binary", "large_binary") and not (kind == "dict" and "bytes" in feature):
            raise UserError(
                f"{where}: column {column!r} is of type {kind}; it must hold pictures (datasets.Image) or the names of "
                "their files"
            )
        examples = examples.cast_column(column, datasets.Image(decode=False))
        # what is stored of the rows is of these files
        examples._fingerprint = Hasher.hash([examples._fingerprint, self._file_times(examples, column)])
        return examples

    def _file_times(self, examples: datasets.Dataset, column: str) -> list[int | None]:
        """When each file that a picture is in was changed; None for one that is not there."""
        pictures = examples.data.column(column)
        paths = pc.struct_field(pictures, "path").filter(pc.is_null(pc.struct_field(pictures, "bytes"))).drop_null()
        files = [Path(self._placed({"bytes": None, "path": path})["path"]) for path in paths.to_pylist()]
        return [file.stat().st_mtime_ns if file.is_file() else None for file in files]

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

    def problems(self, rows: Rows) -> list[str | None]:
        pictures = map(self.picture_problem, rows["image"])
        return [picture or text for picture, text in zip(pictures, super().problems(rows), strict=True)]

    def shown(self, row: dict[str, Any]) -> dict[str, Any]:
        column = str(self.column("image"))
        return row | {column: row[column]["path"]}


class ImageCaptioningPreprocessor(TextToTextPreprocessor):
    """A caption's own words tell much of the next one. Word dropout (Bowman et al. 2016, §3.1) makes the decoder look at the
    picture instead, which matters where that shows what was never seen together."""

    reader: ImageCaptioningReader
    features = {"labels": INTS}
    hides_tokens = False
    encoded_as = {"text": "labels"}
    sides = ("labels",)

    def __init__(self, reader: Reader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
        super().__init__(reader, tokenizer, config)
        encoder = config.encoder
        # of weights that come from somewhere, it says how they saw pictures
        if source := config.name_or_path or encoder.name_or_path:
            try:
                self.image_processor: Any = AutoImageProcessor.from_pretrained(
                    source, backend="pil", trust_remote_code=False
                )
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

    def finished(self, split: Split, encoded: datasets.Dataset) -> Split:
        """With the pictures of the rows, undecoded, beside their labels."""
        column = str(self.reader.column("image"))
        pictures = split.rows.select_columns([column]).rename_columns({column: "image"} if column != "image" else {})
        return replace(split, examples=datasets.concatenate_datasets([split.examples, pictures], axis=1))

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.image_processor.save_pretrained(folder)

    def lengths(self, examples: Any) -> np.ndarray:
        """`(examples, 2)`: patches of the picture, and tokens of the caption, rounded up. The length of a caption tells what is
        in the picture; in batches sorted by it, all pictures would show alike things, and each step pull another way."""
        captions = -(-list_lengths(examples, "labels") // COARSE) * COARSE
        return np.stack([np.full(len(examples), self.patches), captions], axis=1)

    def pixel_values(self, pictures: list[dict[str, Any]]) -> torch.Tensor:
        """`(B, channels, height, width)`, of the size that the model reads."""
        return self.image_processor([self.reader.picture(each) for each in pictures], return_tensors="pt")[
            "pixel_values"
        ]

    def randomize(self, rows: Rows, indices: np.ndarray, epoch: int) -> Rows:
        """With `decoder_input_ids`: the labels, one token later, some hidden behind the unknown token."""
        if not self.options.word_dropout:
            return rows
        hidden = padding_id(self.tokenizer) if self.tokenizer.unk_token_id is None else self.tokenizer.unk_token_id
        inputs = []
        for index, labels in zip(indices, rows["labels"], strict=True):
            random = np.random.default_rng([self.recipe.seed, epoch, int(index)])
            dropped = random.random(len(labels) - 1) < self.options.word_dropout
            inputs.append([self.start, *np.where(dropped, hidden, labels[:-1])])
        return rows | {"decoder_input_ids": inputs}

    def collate(self, rows: Rows) -> dict[str, torch.Tensor]:
        batch = {"pixel_values": self.pixel_values(rows["image"]), "labels": pad(rows["labels"], -100)}
        if "decoder_input_ids" in rows:
            batch["decoder_input_ids"] = pad(rows["decoder_input_ids"], padding_id(self.tokenizer))
        return batch

    def tokens(self, batch: dict[str, torch.Tensor]) -> int:
        return len(batch["labels"]) * self.patches + batch["labels"].numel()


class ImageCaptioningEvaluator(TextToTextEvaluator):
    preprocessor: ImageCaptioningPreprocessor
    quality = TranslationQuality

    def sources(self) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, torch.Tensor]]]:
        examples: Any = self.split.examples
        pictures = examples.select_columns(["image"])
        return (
            np.full(len(pictures), self.preprocessor.patches),
            lambda indices: {"pixel_values": self.preprocessor.pixel_values(pictures[indices]["image"])},
        )


IMAGE_CAPTIONING = Task(
    name="image-captioning",
    also_called=("captioning", "caption", "image-to-text"),
    pipeline_tag="image-to-text",
    auto_class=TrefoilVisionEncoderDecoderModel,
    families=("trefoil_vision_encoder_decoder", "vision-encoder-decoder"),
    roles=("image", "text"),
    options=ImageCaptioningOptions,
    metrics=("exact_match", "bleu", "chrf"),
    measure=lambda *_: EXACT_MATCH,
    reader=ImageCaptioningReader,
    preprocessor=ImageCaptioningPreprocessor,
    evaluator=ImageCaptioningEvaluator,
    joined_class=TrefoilVisionEncoderDecoderModel,
    text_halves=("decoder",),
)


def _name(value: dict[str, Any]) -> str:
    """Of a picture's file; the end of a long one."""
    name = value["path"] or "a picture without a name"
    return name if len(name) <= 60 else f"…{name[-60:]}"


def _both(size: Any) -> tuple[int, int]:
    """A side of a square, or the height and the width."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
