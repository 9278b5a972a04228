"""The typed descriptions that travel through the whole system.

One frozen object is the REST body, the job's payload and the artifact's metadata. No torch here: the serving process reads these.
`"auto"` values are replaced by models/recipes.py when a job starts; the resolved object has the same type.
"""

import unicodedata
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

Modality = Literal["image", "audio"]
JobType = Literal["pretrain", "finetune"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
OptimizerName = Literal["adamw", "adam", "sgd", "gd", "adagrad", "rmsprop"]
ScheduleName = Literal["one_cycle", "cosine", "step", "constant"]
Auto = Literal["auto"]
AUTO: Final = "auto"

# Bidirectional controls can make a name read as another one (CVE-2021-42574).
_BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


def clean_text(value: str) -> str:
    """Return `value` in NFC. Raises ValueError on surrogates, control characters and bidirectional controls."""
    value = unicodedata.normalize("NFC", value)
    for character in value:
        if unicodedata.category(character) in ("Cc", "Cs") or character in _BIDI:
            raise ValueError(f"contains the character U+{ord(character):04X}, which is not allowed in a name")
    return value


# `clean_text` as a pattern, for those who read the schema: no control character, no bidirectional control.
_CLEAN_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]*$"


def _text_schema(min_length: int, max_length: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "minLength": min_length, "maxLength": max_length, "pattern": _CLEAN_PATTERN})


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(clean_text), _text_schema(1, 200)]
AliasName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
METADATA_KEY = r"[A-Za-z0-9_.-]{1,64}"
MetadataKey = Annotated[str, Field(pattern=f"^{METADATA_KEY}$")]
MetadataValue = Annotated[str, Field(max_length=500), AfterValidator(clean_text), _text_schema(0, 500)]


class Frozen(BaseModel):
    """Base of all descriptions: immutable, unknown fields refused, no NaN, no coercion from other types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FeatureConfig(Frozen):
    """How a sound becomes the picture that the network sees.

    40 bands every 20 ms: on 20 words by unheard speakers they did as well as 64 bands every 10 ms (98.3 against 98.2 %), at a third
    of the work; finer ones show a voice's harmonics, which tell speakers apart and not words.
    """

    sample_rate: int = Field(16000, ge=8000, le=48000, description="Hz; sounds are resampled to it")
    n_mels: int = Field(40, ge=16, le=256, description="mel bands, the picture's height")
    window_ms: float = Field(25.0, ge=5, le=200, description="length of the analysis window, milliseconds")
    hop_ms: float = Field(20.0, ge=2, le=100, description="distance of two frames, milliseconds")
    clip_seconds: Auto | Annotated[float, Field(ge=0.2, le=30)] = Field(
        "auto", description="length of sound the network sees; auto: the 95th percentile of the training clips, 0.5 to 4 s"
    )
    image_size: Auto | Annotated[int, Field(ge=16, le=512)] = Field(
        "auto", description="pixels a side, image jobs only; auto: the median shorter side, 28 to 64"
    )


class TransferConfig(Frozen):
    """Which layers of `base_model` are carried over, and whether they may move."""

    mode: Literal["auto", "full", "partial", "none"] = Field(
        "auto",
        description="full: every source layer; partial: up to and including `until`; none: random weights; "
        "auto: a short race decides between full and none (finetune); full where a pretrain names a trained base_model",
    )
    until: Text | None = Field(None, description="the last layer carried over, partial only; default: all but the last stage")
    freeze: Literal["none", "shared", "gradual"] = Field(
        "none",
        description="shared: carried layers keep the source's weights; gradual: they begin to move one after another (arXiv 1801.06146)",
    )
    thaw_from: Literal["head", "input"] = Field(
        "head", description="gradual: which carried layer moves first, the last one or, for inputs of another kind, the first (2210.11466)"
    )
    probe_first: bool = Field(False, description="train what isn't carried alone first, then everything (LP-FT, arXiv 2202.10054)")
    regularize: Literal["none", "l2_sp"] = Field(
        "none", description="l2_sp: carried layers are pulled to the source's weights (1802.01483)"
    )
    regularize_strength: float = Field(0.01, gt=0, le=100, description="l2_sp: strength / 2 · squared distance from the source's weights")
    interpolate: Auto | Annotated[float, Field(ge=0, le=1)] = Field(
        1.0,
        description="share of the trained weights in the carried layers, the rest is the source's (WiSE-FT, arXiv 2109.01903); "
        "auto: the share that does best on validation items",
    )
    statistics: Literal["source", "target"] = Field(
        "source", description="target: the carried layers' batch-norm statistics are measured anew on training items before training"
    )
    input_rule: Literal["auto", "sum", "mean", "replicate"] = Field(
        "auto", description="how color channels become a spectrogram's one; auto: sum, and replicate from one channel to three"
    )


class Hyperparameters(Frozen):
    """How the weights are found."""

    epochs: Auto | Annotated[int, Field(ge=1, le=10000)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] = "auto"
    learning_rate: Auto | Annotated[float, Field(gt=0, le=100)] = Field("auto", description="peak of the schedule")
    optimizer: OptimizerName = "adamw"
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd and rmsprop")
    weight_decay: Auto | Annotated[float, Field(ge=0, le=1)] = "auto"
    schedule: ScheduleName = "one_cycle"
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    early_stopping_patience: int | None = Field(
        10, ge=1, le=10000, description="epochs without a better validation loss; null: never stop early"
    )
    gradient_clip: float | None = Field(1.0, gt=0, le=1e6, description="largest gradient norm; null: unbounded")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on CUDA, fp32 on CPU; bf16 needs CUDA")
    balance_classes: bool = Field(True, description="weigh the loss by inverse label frequency")
    max_seconds: float | None = Field(None, gt=0, le=1e7, description="training stops here and keeps the best checkpoint")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="each layer learns at this share of the rate of the next one towards the head (arXiv 1801.06146)",
    )
    average: Literal["none", "ema"] = Field("none", description="ema: an exponential moving average of the weights is validated and kept")


class AugmentationConfig(Frozen):
    """Random changes of training items; validation and test items are never changed."""

    time_shift: bool = Field(True, description="sounds: up to 100 ms either way")
    spec_augment: bool = Field(True, description="sounds: mask bands and frames (arXiv 1904.08779)")
    noise: bool = Field(True, description="sounds: white to brown noise at 5 to 40 dB below the signal")
    speed: bool = Field(True, description="sounds: 0.9 to 1.1 times as fast")
    tempo: bool = Field(True, description="sounds: said in 0.7 to 1.4 times the time, unevenly, at the same pitch")
    # Off unless asked for: from 5 to 10 clips a word, a warp gained 1.2 to 2.3 points on recorded voices and cost 4 on synthetic ones;
    # where tempo is on, too, it cost 4 on recorded digits of unheard speakers.
    echo: bool = Field(False, description="sounds: two in five ring as in a room, 0.1 to 0.5 s")
    warp: bool = Field(False, description="sounds: frequencies 0.85 to 1.18 times as high, as other throats have them (Jaitly 2013)")
    mixup: float = Field(0.0, ge=0, le=1, description="alpha of the Beta distribution, 0: off (arXiv 1710.09412)")
    flip: Auto | bool = Field(
        "auto", description="pictures: mirrored left to right; auto: colour sets only, as a mirrored glyph is another glyph"
    )
    crop: bool = Field(True, description="pictures: padded by an eighth and cropped at random")
    erase: bool = Field(False, description="pictures: two bands of rows and two of columns hidden, as spec_augment does to sounds")


class SearchConfig(Frozen):
    """A search for hyper-parameters before the training itself; only fields that are left at auto or at their defaults are tried."""

    trials: int = Field(
        20, ge=1, le=100, description="short trainings, each with other values; the first has those that would be used anyway"
    )
    seconds: float | None = Field(None, gt=0, le=1e7, description="the search ends after this time; null: after its last trial")


class EvaluationConfig(Frozen):
    """What is measured beside the model's own accuracy."""

    controls: Literal["none", "auto", "full"] = Field(
        "none",
        description="finetune: jobs that follow and tell whether the transfer paid; full: the same network from scratch and with carried "
        "layers frozen, each in the job's own budget; auto: from scratch in a quarter of the job's training time",
    )
    seeds: int = Field(1, ge=1, le=10, description="controls full: so many seeds of each arm, the transferred one too")
    unknown_false_accept: float | None = Field(
        None,
        ge=0.0001,
        le=0.5,
        description="sounds only: at most this share of sounds that are none of the labels may be taken for one; null: nothing is rejected",
    )


class WebhookConfig(Frozen):
    """Who is told of a job's end."""

    url: str = Field(
        pattern=r"^https?://[!-~]{1,1980}$", description="gets one signed POST, whatever the end; nothing that stands on a private network"
    )


class JobSpec(Frozen):
    """Body of `POST /jobs`."""

    dataset: str = Field(pattern=r"^ds_[0-9a-z]{1,40}$")
    type: JobType | None = Field(None, description="default: pretrain for images, finetune for audio")
    base_model: Text | None = Field(
        AUTO,
        description="model id, alias, bundled, architecture, timm/<name>; null: random weights; "
        "auto: bundled or an image model of yours, whichever does best (finetune), random weights (pretrain)",
    )
    transfer: TransferConfig = TransferConfig()
    hyperparameters: Hyperparameters = Hyperparameters()
    features: FeatureConfig = FeatureConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    search: SearchConfig | None = Field(None, description="null: no search; needs the extra `search`")
    name: Text | None = None
    alias: AliasName | None = None
    seed: int = Field(0, ge=0, le=2**31 - 1)
    webhook: WebhookConfig | None = Field(None, description="needs a service with a secret to sign with")
    metadata: dict[MetadataKey, MetadataValue] = Field({}, max_length=16, json_schema_extra={"additionalProperties": False})


class Normalization(Frozen):
    """Statistics of the training items: (value - mean) / std, one number a band (audio) or a channel (image)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class TransferRecord(Frozen):
    """What was carried over, as done: written by models/transfer.py, kept in the artifact."""

    mode: Literal["full", "partial", "none"] = "none"
    base_model: str | None = None
    shared_layers: tuple[str, ...] = ()
    frozen_layers: tuple[str, ...] = ()
    input_rule: Literal["same", "sum", "mean", "replicate"] = "same"
    thaw: dict[str, float] = Field({}, description="layer → share of the updates before it moved, for those that stood still at first")
    penalty: float = Field(0.0, ge=0, description="l2_sp: strength of the pull to the source's weights; 0: none")
    interpolation: float = Field(1.0, ge=0, le=1, description="share of the trained weights in carried layers, the rest is the source's")
    statistics: Literal["source", "target"] = Field("source", description="which items the carried batch-norm statistics began with")


class NetworkConfig(Frozen):
    """All that is needed to rebuild a network before its weights are read."""

    modality: Modality
    architecture: str = Field(description="a registered backbone's name, or timm/<name>")
    labels: tuple[str, ...]
    features: FeatureConfig = Field(description="resolved: no auto left")
    normalization: Normalization
    source_classes: int | None = Field(None, description="seed_cnn's speech model only: outputs of the image classifier that it stands on")
    temperature: float = Field(1.0, gt=0, description="logits are divided by it on the way to probabilities, not in training")


class LineageEntry(Frozen):
    """One step on the way to a model, oldest first."""

    model: str | None
    job: str | None
    dataset: str
    dataset_sha256: str
    modality: Modality
    architecture: str


class GoldenRecord(Frozen):
    """What is told of a model's golden clips: inputs stored with the answers that it gave when it was made."""

    clips: int = Field(ge=1, le=8)
    made_with: dict[str, str] = Field(description="library → version, of those that a served answer depends on")


class ModelManifest(Frozen):
    """model.json: what an artifact says of itself."""

    format: Literal[1] = 1
    network: NetworkConfig
    transfer: TransferRecord = TransferRecord()
    lineage: tuple[LineageEntry, ...] = ()
    training: JobSpec | None = Field(None, description="the job, with every auto resolved")
    parameters: int = Field(0, ge=0, description="trainable and frozen numbers in the network")
    layers: dict[str, int] = Field({}, description="backbone layer → parameters, from input to output")
    metrics: dict[str, float] = {}
    thresholds: dict[str, float] = Field({}, description="label → least probability to be believed; none: the likeliest label always is")
    golden: GoldenRecord | None = Field(None, description="null: made by an older version, without golden clips")
    files: dict[str, str] = Field({}, description="file name → sha256 of the other files")
    created_at: str = ""
    versions: dict[str, str] = Field({}, description="library → version that made it")
