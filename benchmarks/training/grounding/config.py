"""The YAML file of a training of Grounding DINO."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ovd_bench.benchmarks.data.strict_model import StrictModel
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.training.config import Positive, TrainingConfig
from ovd_bench.benchmarks.training.grounding.settings import GroundingSettings
from ovd_bench.grounding_dino_jt.config import SIZES, Config
from ovd_bench.grounding_dino_jt.training.denoising import DenoisingConfig
from ovd_bench.grounding_dino_jt.training.recipe import ENCODER_RATES, Recipe, Schedule
from ovd_bench.metrics.errors import DataError

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Decay = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
_Number = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
_Rates = dict[str, _Number]


class ModelSettings(StrictModel):
    """What is trained.

    Attributes:
        size: of a model with random initial weights.
        weights: initial weights instead: a file or folder of any layout that ``convert-weights`` reads. ``size`` is
            then the file's.
        backbone: where a model that starts from random numbers has its image backbone from: a ``.pth`` of
            microsoft/Swin-Transformer, a folder in the layout of transformers, or ``drawn`` for random numbers that are
            the same for every detector with this seed, whatever its framework; None = the model's own random numbers.
        text_encoder: where a model that starts from random numbers has its text encoder from: a folder in the layout
            of transformers, ``packaged`` for the all-MiniLM-L6-v2 that is installed with the suite, or ``classes`` for
            none: each class has vectors of its own (see ``grounding_dino_jt.closed_set``), which must learn.
        phrase_frame, centred: how phrases are read, see ``grounding_dino_jt.config.TextConfig``. None = ``framed`` and
            centred where a pretrained text encoder does not learn, ``bare`` and not centred where it does, and what
            the file has with ``weights``. The mean is that of the training vocabulary.
        options: values of ``grounding_dino_jt.config.Config`` other than those of the size, such as
            ``fusion_drop_path: 0.0`` or ``backbone: {drop_path_rate: 0.0}``.
    """

    size: Literal["tiny", "base", "nano"] = "tiny"
    weights: str | None = None
    backbone: str | None = None
    text_encoder: str = "packaged"
    phrase_frame: Literal["bare", "framed"] | None = None
    centred: bool | None = None
    options: dict[str, Any] = Field(default={})

    def config(self, base: Config | None = None) -> Config:
        """The model's configuration: ``base``, or that of the size, with the options.

        Raises:
            ValueError: an option that does not exist or does not fit.
        """
        text = self.options.get("text")
        if isinstance(text, dict) and (twice := {"phrase_frame", "centred"} & text.keys()):
            raise ValueError(f"text.{min(twice)} is not an option: write model.{min(twice)}")
        fields = json.loads((base or SIZES[self.size]).to_json())
        for key, value in self.options.items():
            fields[key] = {**fields[key], **value} if isinstance(value, dict) and key in fields else value
        return Config.from_json(json.dumps(fields))


class ScheduleSettings(StrictModel):
    """Learning rate schedule; see ``grounding_dino_jt.training.recipe.Schedule``.

    Attributes:
        kind, gamma, final, warm_up_from: as there.
        milestones: in the unit of the training's length, epochs or steps.
        warm_up: steps.
    """

    kind: Literal["steps", "cosine"] = "steps"
    milestones: Annotated[tuple[_Number, ...], Field(strict=False)] = ()
    gamma: _Share = 0.1
    final: _Share = 0.0
    warm_up: Annotated[int, Field(ge=0)] = 0
    warm_up_from: _Share = 0.1


class OptimizerSettings(StrictModel):
    """AdamW; see ``grounding_dino_jt.training.recipe.Recipe``, whose default values are the paper's."""

    lr: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1e-4
    rates: _Rates = ENCODER_RATES
    weight_decay: _Number = 1e-4
    decay_vectors: bool = True
    betas: Annotated[tuple[_Decay, _Decay], Field(strict=False)] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0, le=1)] = 1e-8
    clip: _Number = 0.1
    average: _Share = 0.0
    schedule: ScheduleSettings = ScheduleSettings()


class DenoisingSettings(StrictModel):
    """See ``grounding_dino_jt.training.denoising.DenoisingConfig``."""

    queries: Annotated[int, Field(ge=0, le=10_000)] = 100
    label_noise: _Share = 0.5
    box_noise: _Number = 1.0
    labels: Annotated[int, Field(ge=1, le=100_000)] = 256

    def config(self) -> DenoisingConfig:
        """As the trainer takes it."""
        return DenoisingConfig(**self.model_dump())


class CaptionedTraining(TrainingConfig):
    """What every training on captioned batches has, whatever the model.

    Attributes:
        epochs, steps: length; exactly one of the two.
        needs: data sets of the suite in ``data``; they are rendered, or the error says how to get them.
        watch: data set that is evaluated during the training; None = none.
        data: see there; its paths are relative to the folder of the data sets.
    """

    epochs: Annotated[float, Field(gt=0, le=1e6)] | None = None
    steps: Positive | None = None
    needs: Annotated[tuple[str, ...], Field(strict=False)] = ()
    watch: str | None = None
    data: GroundingSettings

    @model_validator(mode="after")
    def _one_length(self) -> CaptionedTraining:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps, not both")
        return self

    def length(self, batches_per_epoch: int) -> int:
        """Optimisation steps."""
        return self.steps or max(1, round((self.epochs or 0) * batches_per_epoch))


class GroundingDinoTraining(CaptionedTraining):
    """The YAML file of a training of Grounding DINO.

    Attributes:
        parts: how many pieces a batch is gone through in, to save memory; the result is the same.
        recompute: whether layers are computed once more in the backward pass instead of being kept: much less memory,
            and a step takes a fifth to two fifths longer.
        precision: of the products with large matrices; ``bfloat16``, on CUDA only, has the weights, their gradients and
            everything that says where a box is in float32.
        model, optimizer, denoising: see there.
        losses: divisors of the losses and weights of the matching, as in mmdetection or in Open-GroundingDino.
        interpolate: share of the start weights that is mixed into the result (Wortsman et al. 2022, "Robust fine-tuning
            of zero-shot models"): this restores part of what fine-tuning forgot about other classes. 0 = none.
        half: whether the weights file holds float16.
    """

    parts: Annotated[int, Field(ge=1, le=4096)] = 1
    recompute: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    model: ModelSettings = ModelSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    losses: Literal["mmdetection", "open-groundingdino"] = "mmdetection"
    denoising: DenoisingSettings = DenoisingSettings()
    interpolate: _Share = 0.0
    half: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> GroundingDinoTraining:
        if self.batch % self.parts:
            raise ValueError(f"batch is {self.batch}, not divisible by parts, {self.parts}")
        if self.interpolate and not self.model.weights:
            raise ValueError("interpolate mixes in the weights that the training starts from: give model.weights")
        return self

    def resolved(self) -> dict[str, Any]:
        """All values; ``model.options`` with those of the size, but for the text encoder's, which has its own.

        Raises:
            DataError: an option that does not exist or does not fit.
        """
        document = self.model_dump(mode="json")
        if self.model.weights is None:  # else the file has the others
            try:
                options = json.loads(self.model.config().to_json())
            except ValueError as error:
                raise DataError(printable(f"model.options: {error}")) from error
            document["model"]["options"] = {key: value for key, value in options.items() if key != "text"}
        return document

    def recipe(self, batches_per_epoch: int) -> Recipe:
        """The optimisation, in steps."""
        unit = 1 if self.steps else batches_per_epoch
        given = self.optimizer.schedule
        milestones = tuple(round(milestone * unit) for milestone in given.milestones)
        fields = self.optimizer.model_dump()
        return Recipe(
            **{
                **fields,
                "steps": self.length(batches_per_epoch),
                "seed": self.seed,
                "schedule": Schedule(**{**given.model_dump(), "milestones": milestones}),
            }
        )
