"""The contract's schemas as typed dictionaries, made from openapi.json by `make contract`: do not edit."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class Alias(TypedDict):
    """A name that points at a model and can be moved."""

    model: str
    name: str
    object: Literal['alias']
    updated_at: str


class AliasList(TypedDict):
    """Aliases by name."""

    data: list[Alias]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class AliasTarget(TypedDict):
    """Body of `PUT /aliases/{name}`."""

    model: str


class AuditEntry(TypedDict):
    """One change, or one that was refused."""

    action: str
    created_at: str
    id: str
    key: str
    object: Literal['audit']
    object_id: str | None
    outcome: Literal['done', 'refused']
    request_id: str


class AuditList(TypedDict):
    """Who changed what, newest first."""

    data: list[AuditEntry]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class AugmentationConfig(TypedDict):
    """Random changes of training items; validation and test items are never changed."""

    crop: NotRequired[bool]
    echo: NotRequired[bool]
    erase: NotRequired[bool]
    flip: NotRequired[Literal['auto'] | bool]
    mixup: NotRequired[float]
    noise: NotRequired[bool]
    spec_augment: NotRequired[bool]
    speed: NotRequired[bool]
    tempo: NotRequired[bool]
    time_shift: NotRequired[bool]
    warp: NotRequired[bool]


class Backbone(TypedDict):
    """Something that `base_model` accepts."""

    architecture: str
    id: str
    kind: Literal['architecture', 'timm', 'model', 'bundled']
    layers: list[Layer]
    object: Literal['backbone']


class BackboneList(TypedDict):
    """Backbones: architectures, timm weights at hand, own image models."""

    data: list[Backbone]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class BatchCounts(TypedDict):
    """How the files of a batch fared."""

    answered: int
    failed: int


class BatchError(TypedDict):
    """Why one file of a batch has no answer."""

    error: Problem
    index: int
    name: str | None
    object: Literal['error']


class BatchPrediction(TypedDict):
    """What was heard in one file of a batch."""

    duration_seconds: float
    index: int
    label: str | None
    model: str
    name: str | None
    object: Literal['prediction']
    probability: float
    rejected: bool
    segments: NotRequired[list[Segment] | None]
    timings_ms: Timings
    top_k: list[Score]
    warnings: list[str]


class Calibration(TypedDict):
    """What probabilities were mended by."""

    items: int
    not_fitted: NotRequired[str | None]
    temperature: float


class Candidate(TypedDict):
    """One source and its place."""

    architecture: str
    better_than_random: bool | None
    candidate: str
    gain: float | None
    has_seen_dataset: bool
    kind: Literal['model', 'bundled', 'timm', 'random']
    knn_interval_95: list[Any]
    layers: list[LayerScore]
    random_knn: float
    rank: int
    scores: Scores
    seconds: float
    statistics: Literal['source', 'target']
    until: str | None


class Check(TypedDict):
    """The state of one thing that the service needs."""

    detail: str
    status: Literal['ok', 'degraded', 'unavailable']


class CheckpointList(TypedDict):
    """Kept checkpoints, each with its metrics and the id of its model."""

    data: list[dict[str, Any]]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class ConditionResult(TypedDict):
    """Accuracy when the recording is worse in one way."""

    accuracy: float
    n: int
    name: str


class Control(TypedDict):
    """A job that tells what another one's transfer was worth."""

    job: str
    name: Literal['scratch', 'frozen', 'repeat']
    status: Literal['queued', 'running', 'pausing', 'paused', 'cancelling', 'succeeded', 'failed', 'cancelled']


class ControlResult(TypedDict):
    """What a control came to."""

    accuracy: NotRequired[float | None]
    job: NotRequired[str | None]
    model: NotRequired[str | None]
    name: str
    seconds: NotRequired[float | None]
    seed: NotRequired[int | None]
    share: NotRequired[float | None]
    status: NotRequired[str | None]
    steps: NotRequired[int | None]


class Dataset(TypedDict):
    """A dataset, uploaded or generated; what was found in it stands here once it is `ready`."""

    created_at: str
    duration_seconds: NotRequired[float | None]
    error: NotRequired[DatasetError | None]
    generator: NotRequired[FormulaConfig | None]
    groups: NotRequired[int | None]
    id: str
    items: NotRequired[int | None]
    labels: NotRequired[list[str] | None]
    modality: Literal['image', 'audio'] | None
    name: str
    object: Literal['dataset']
    parent: NotRequired[str | None]
    per_label: NotRequired[dict[str, Any] | None]
    progress: NotRequired[dict[str, Any] | None]
    rejected: NotRequired[int | None]
    sha256: str
    size_bytes: int
    splits: NotRequired[dict[str, int] | None]
    status: Literal['processing', 'ready', 'failed', 'deleted']
    warnings: NotRequired[list[Any] | None]


class DatasetError(TypedDict):
    """Why a dataset failed."""

    code: str
    message: str
    param: NotRequired[str | None]


class DatasetList(TypedDict):
    """Datasets, newest first."""

    data: list[Dataset]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class DatasetRequest(TypedDict):
    """Body of `POST /datasets` that asks for pictures by formula instead of sending an archive."""

    generator: Literal['fractals', 'contours', 'gratings', 'textures', 'tracks', 'formants', 'mixed']
    image_size: NotRequired[int]
    items_per_label: NotRequired[int]
    labels: NotRequired[int]
    name: NotRequired[str | None]
    seed: NotRequired[int]


class Deleted(TypedDict):
    """What was deleted."""

    deleted: Literal[True]
    id: str
    object: str


class Delivery(TypedDict):
    """A message about a job's end, and what became of it."""

    answer: int | None
    attempts: int
    created_at: str
    delivered_at: str | None
    error: str | None
    id: str
    job: str
    next_at: str | None
    object: Literal['delivery']
    receiver: str
    status: Literal['pending', 'delivered', 'failed']


class DeliveryList(TypedDict):
    """Messages about a job's end: one an address."""

    data: list[Delivery]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class Doubt(TypedDict):
    """A model that takes an item for another label, with confidence."""

    model: str
    predicted: str
    probability: float


class Durations(TypedDict):
    """How long the sounds are, seconds."""

    counts: list[int]
    edges: list[float]
    longest: float
    median: float
    shortest: float


class Embedding(TypedDict):
    """What the backbone makes of a sound, before the head turns it into labels."""

    dimensions: int
    duration_seconds: float
    embedding: list[float]
    model: str
    object: Literal['embedding']
    timings_ms: Timings
    warnings: list[str]


class Evaluation(TypedDict):
    """How a model did on each split that it was judged on."""

    calibration: NotRequired[Calibration | None]
    model: str
    object: Literal['evaluation']
    promotion_refused: NotRequired[str | None]
    robustness: NotRequired[list[ConditionResult]]
    splits: NotRequired[dict[str, Any]]
    suspects: NotRequired[list[SuspectedItem]]
    transfer: NotRequired[TransferWorth | None]
    unknown: NotRequired[UnknownResult | None]


class EvaluationConfig(TypedDict):
    """What is measured beside the model's own accuracy."""

    controls: NotRequired[Literal['none', 'auto', 'full']]
    seeds: NotRequired[int]
    unknown_false_accept: NotRequired[float | None]


class Event(TypedDict):
    """Something that happened to a job."""

    created_at: str
    data: dict[str, Any]
    id: str
    level: Literal['info', 'warning', 'error']
    message: str
    object: Literal['event']
    type: Literal['status', 'message', 'metrics', 'checkpoint']


class EventList(TypedDict):
    """Events, oldest first."""

    data: list[Event]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class Explanation(TypedDict):
    """What is heard in the loudest clip of a sound, and which part of it decided."""

    duration_seconds: float
    explained: str
    label: str | None
    milliseconds: float
    model: str
    object: Literal['explanation']
    occlusion: OcclusionMap
    probability: float
    rejected: bool
    spectrogram: Spectrogram
    top_k: list[Score]
    warnings: list[str]


class FeatureConfig(TypedDict):
    """How a sound becomes the picture that the network sees."""

    clip_seconds: NotRequired[Literal['auto'] | float]
    hop_ms: NotRequired[float]
    image_size: NotRequired[Literal['auto'] | int]
    n_mels: NotRequired[int]
    sample_rate: NotRequired[int]
    window_ms: NotRequired[float]


class FormulaConfig(TypedDict):
    """Body of `POST /datasets` that asks for pictures by formula."""

    generator: Literal['fractals', 'contours', 'gratings', 'textures', 'tracks', 'formants', 'mixed']
    image_size: NotRequired[int]
    items_per_label: NotRequired[int]
    labels: NotRequired[int]
    seed: NotRequired[int]


class GoldenRecord(TypedDict):
    """What is told of a model's golden clips: inputs stored with the answers that it gave when it was made."""

    clips: int
    made_with: dict[str, str]


class GroupCount(TypedDict):
    """A speaker, or another group."""

    duration_seconds: float | None
    group: str
    items: int
    splits: dict[str, int]


class Health(TypedDict):
    """The process is alive."""

    status: Literal['ok']


class Hyperparameters(TypedDict):
    """How the weights are found."""

    average: NotRequired[Literal['none', 'ema']]
    balance_classes: NotRequired[bool]
    batch_size: NotRequired[Literal['auto'] | int]
    early_stopping_patience: NotRequired[int | None]
    epochs: NotRequired[Literal['auto'] | int]
    gradient_clip: NotRequired[float | None]
    label_smoothing: NotRequired[float]
    layer_decay: NotRequired[float]
    learning_rate: NotRequired[Literal['auto'] | float]
    max_seconds: NotRequired[float | None]
    momentum: NotRequired[float]
    optimizer: NotRequired[Literal['adamw', 'adam', 'sgd', 'gd', 'adagrad', 'rmsprop']]
    precision: NotRequired[Literal['auto', 'fp32', 'bf16']]
    schedule: NotRequired[Literal['one_cycle', 'cosine', 'step', 'constant']]
    weight_decay: NotRequired[Literal['auto'] | float]


class InferenceRequest(TypedDict):
    """Body of `POST /v2/models/{name}/infer`."""

    id: NotRequired[str | None]
    inputs: list[RequestInput]
    outputs: NotRequired[list[RequestOutput] | None]
    parameters: NotRequired[dict[str, Any]]


class InferenceResponse(TypedDict):
    """The answer to an inference request."""

    id: NotRequired[str | None]
    model_name: str
    model_version: str
    outputs: list[ResponseOutput]


class InferenceServer(TypedDict):
    """Which server this is."""

    extensions: list[str]
    name: str
    version: str


class Item(TypedDict):
    """One file of a dataset, and what became of it."""

    doubt: NotRequired[Doubt | None]
    duplicate_of: str | None
    duration_seconds: NotRequired[float | None]
    file_name: str
    group: str | None
    height: NotRequired[int | None]
    id: str
    kept: bool
    label: str | None
    object: Literal['item']
    reasons: list[str]
    split: Literal['train', 'validation', 'test'] | None
    status: Literal['accepted', 'rejected', 'suspect']
    width: NotRequired[int | None]


class ItemList(TypedDict):
    """Items of a dataset, in the order of the archive."""

    data: list[Item]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class Job(TypedDict):
    """One piece of training, or a ranking of sources, which has no transfer, hyperparameters and augmentation: they are empty."""

    alias: str | None
    attempt: int
    augmentation: dict[str, Any]
    base_model: str | None
    control: Literal['scratch', 'frozen', 'repeat'] | None
    control_of: str | None
    controls: list[Control]
    created_at: str
    dataset: str
    error: JobError | None
    evaluation: dict[str, Any]
    features: dict[str, Any]
    finished_at: str | None
    hyperparameters: dict[str, Any]
    id: str
    metadata: dict[str, str]
    metrics: dict[str, float | None]
    model: str | None
    name: str | None
    object: Literal['job']
    progress: JobProgress
    result: Transferability | None
    search: dict[str, Any] | None
    seed: int
    started_at: str | None
    status: Literal['queued', 'running', 'pausing', 'paused', 'cancelling', 'succeeded', 'failed', 'cancelled']
    transfer: dict[str, Any]
    type: Literal['pretrain', 'finetune', 'transferability']
    worker: str | None


class JobError(TypedDict):
    """Why a job failed."""

    code: str
    message: str
    param: NotRequired[str | None]


class JobList(TypedDict):
    """Jobs, newest first."""

    data: list[Job]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class JobProgress(TypedDict):
    """How far a job is."""

    epoch: int | None
    epochs: int | None
    eta_seconds: float | None
    fraction: float
    phase: str
    step: int | None
    steps: int | None


class JobSpec(TypedDict):
    """Body of `POST /jobs`."""

    alias: NotRequired[str | None]
    augmentation: NotRequired[AugmentationConfig]
    base_model: NotRequired[str | None]
    dataset: str
    evaluation: NotRequired[EvaluationConfig]
    features: NotRequired[FeatureConfig]
    hyperparameters: NotRequired[Hyperparameters]
    metadata: NotRequired[dict[str, str]]
    name: NotRequired[str | None]
    search: NotRequired[SearchConfig | None]
    seed: NotRequired[int]
    transfer: NotRequired[TransferConfig]
    type: NotRequired[Literal['pretrain', 'finetune'] | None]
    webhook: NotRequired[WebhookConfig | None]


class JudgedItem(TypedDict):
    """An item that a model was judged on, and what it took it for."""

    doubt: NotRequired[Doubt | None]
    duplicate_of: str | None
    duration_seconds: NotRequired[float | None]
    file_name: str
    group: str | None
    height: NotRequired[int | None]
    id: str
    kept: bool
    label: str | None
    object: Literal['item']
    predicted: str
    reasons: list[str]
    split: Literal['train', 'validation', 'test'] | None
    status: Literal['accepted', 'rejected', 'suspect']
    width: NotRequired[int | None]


class JudgedItemList(TypedDict):
    """Items of one cell of the confusion matrix, in the order of the dataset."""

    data: list[JudgedItem]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class Layer(TypedDict):
    """One layer of a backbone, as `transfer.until` names it."""

    name: str
    parameters: int


class LayerScore(TypedDict):
    """What one layer's means tell."""

    knn: float
    name: str
    random_knn: float


class Limits(TypedDict):
    """Every limit in force; sizes in bytes, times in seconds."""

    limits: dict[str, Any]
    object: Literal['limits']


class LineageEntry(TypedDict):
    """One step on the way to a model, oldest first."""

    architecture: str
    dataset: str
    dataset_sha256: str
    job: str | None
    modality: Literal['image', 'audio']
    model: str | None


class MeasuredAccuracy(TypedDict):
    """A share of right answers."""

    accuracy: float
    interval_95: list[float]


class MeasuredTransfer(TypedDict):
    """Whether a model's transfer paid, and how many items there were to learn from."""

    dataset: str
    gain: float
    interval_95: list[float]
    items_per_label: float
    model: str
    n: int
    name: str | None
    own: MeasuredAccuracy
    scratch: MeasuredAccuracy
    split: str
    verdict: Literal['positive', 'neutral', 'negative']


class MeasuredTransferList(TypedDict):
    """Transfers, those with the fewest items first; ids are those of the models."""

    data: list[MeasuredTransfer]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class Model(TypedDict):
    """A trained model."""

    aliases: list[str]
    architecture: str
    base_model: str | None
    created_at: str
    dataset: str | None
    features: dict[str, Any]
    golden: GoldenRecord | None
    id: str
    job: str | None
    labels: list[str]
    layers: list[Layer]
    lineage: list[LineageEntry]
    metrics: dict[str, float]
    modality: Literal['image', 'audio']
    name: str | None
    object: Literal['model']
    parameters: int
    sha256: str
    size_bytes: int
    transfer: TransferRecord


class ModelList(TypedDict):
    """Models, newest first."""

    data: list[Model]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class OcclusionMap(TypedDict):
    """How much less probable the answer is without a part of the sound."""

    hertz: list[float]
    losses: list[list[float]]
    seconds: list[float]


class PointedError(TypedDict):
    """One field that is wrong."""

    detail: str
    pointer: str


class Prediction(TypedDict):
    """What was heard."""

    duration_seconds: float
    label: str | None
    model: str
    object: Literal['prediction']
    probability: float
    rejected: bool
    segments: NotRequired[list[Segment] | None]
    timings_ms: Timings
    top_k: list[Score]
    warnings: list[str]


class PredictionBatch(TypedDict):
    """An answer for each file of a batch."""

    counts: BatchCounts
    data: list[BatchPrediction | BatchError]
    model: str
    object: Literal['prediction_batch']


class Problem(TypedDict):
    """An error as RFC 9457 describes it."""

    code: Literal['alias_not_found', 'answers_not_kept', 'architecture_mismatch', 'archive_ambiguous', 'archive_duplicate_name', 'archive_format', 'archive_member_type', 'archive_method_unsupported', 'archive_overlap', 'archive_path_unsafe', 'archive_ratio', 'archive_size_mismatch', 'archive_structure', 'archive_too_large', 'archive_too_many_members', 'archive_unreadable', 'artifact_invalid', 'audio_channels', 'audio_empty', 'audio_not_finite', 'audio_rate', 'audio_too_large', 'audio_too_long', 'audio_too_short', 'audio_truncated', 'audio_unreadable', 'backbone_input', 'backbone_unknown', 'bad_request', 'base_model_not_found', 'blob_damaged', 'blob_missing', 'body_incomplete', 'body_timeout', 'body_too_large', 'checkpoint_mismatch', 'config_invalid', 'conflict', 'dataset_damaged', 'dataset_deleted', 'dataset_empty', 'dataset_in_use', 'dataset_invalid', 'dataset_not_found', 'dataset_not_ready', 'dataset_quota', 'deleted', 'dependency_unavailable', 'device_unavailable', 'embedding_unavailable', 'export_failed', 'export_mismatch', 'file_not_found', 'forbidden', 'freeze_without_transfer', 'header_invalid', 'idempotency_in_progress', 'idempotency_mismatch', 'image_too_large', 'image_too_small', 'image_unreadable', 'insufficient_storage', 'internal', 'interrupted', 'invalid_input', 'item_not_found', 'item_not_kept', 'job_not_cancellable', 'job_not_found', 'job_not_pausable', 'job_not_resumable', 'key_not_found', 'label_empty', 'layer_unknown', 'loss_not_finite', 'malformed_json', 'malformed_multipart', 'media_invalid', 'media_type_unsupported', 'media_unreadable', 'metadata_ambiguous', 'metadata_invalid', 'metadata_too_large', 'metadata_unreadable', 'method_not_allowed', 'modality_ambiguous', 'modality_mismatch', 'model_deleted', 'model_in_use', 'model_not_found', 'model_unavailable', 'model_version_not_found', 'no_default_model', 'not_acceptable', 'not_found', 'not_ready', 'origin_not_allowed', 'out_of_memory', 'overloaded', 'parent_incompatible', 'prediction_quota', 'promotion_refused', 'queue_full', 'queue_quota', 'quota', 'quote_failed', 'quote_timeout', 'range_not_satisfiable', 'route_not_found', 'scope_insufficient', 'search_unavailable', 'stalled', 'state_conflict', 'storage_quota', 'stream_idle', 'tensor_invalid', 'time_limit', 'too_few_labels', 'too_many_failures', 'train_empty', 'training_failed', 'transfer_without_source', 'unauthorized', 'unavailable', 'unsupported_media_type', 'until_without_partial', 'validation_error', 'weights_unavailable', 'worker_lost']
    detail: str
    error: NotRequired[str | None]
    errors: NotRequired[list[PointedError] | None]
    hint: NotRequired[str | None]
    instance: str
    request_id: str
    status: int
    title: str
    type: str


class ProblemList(TypedDict):
    """All codes that a problem may have."""

    data: list[PublishedCode]
    first_id: str | None
    has_more: bool
    last_id: str | None
    object: Literal['list']


class PublishedCode(TypedDict):
    """One of the published codes."""

    id: str
    object: Literal['problem']
    title: str


class Quote(TypedDict):
    """What a job would take. Nothing was queued."""

    device: str
    disk_bytes: int
    estimated_seconds: Seconds
    object: Literal['quote']
    peak_memory_bytes: int
    resolved: dict[str, Any]
    stages: list[QuoteStage]
    steps: int
    total_parameters: int
    trainable_parameters: int
    warnings: list[str]


class QuoteStage(TypedDict):
    """One part of the job, in order."""

    name: str
    seconds: Seconds
    steps: int


class Readiness(TypedDict):
    """Whether requests can be answered. Without a broker jobs are taken and run later: ready, but degraded."""

    checks: dict[str, Check]
    status: Literal['ready', 'degraded']


class RequestInput(TypedDict):
    """A tensor that is sent."""

    data: NotRequired[list[Any] | None]
    datatype: str
    name: str
    parameters: NotRequired[dict[str, Any]]
    shape: list[int]


class RequestOutput(TypedDict):
    """A tensor that is wanted."""

    name: str
    parameters: NotRequired[dict[str, Any]]


class ResponseOutput(TypedDict):
    """A tensor that is given."""

    data: NotRequired[list[float] | list[str] | None]
    datatype: str
    name: str
    parameters: NotRequired[dict[str, Any] | None]
    shape: list[int]


class Score(TypedDict):
    """A label and its probability."""

    label: str
    probability: float


class Scores(TypedDict):
    """How well a source's vectors tell the labels apart, untrained; larger is better."""

    h_score: float
    knn: float
    linear_probe: float
    logme: float


class SearchConfig(TypedDict):
    """A search for hyper-parameters before the training itself; only fields that are left at auto or at their defaults are tried."""

    seconds: NotRequired[float | None]
    trials: NotRequired[int]


class Seconds(TypedDict):
    """An interval; most jobs end within it, on a machine that is as busy as it was when it was quoted."""

    expected: float
    high: float
    low: float


class Segment(TypedDict):
    """What was heard in one stretch of a sound."""

    end: float
    label: str | None
    probability: float
    rejected: bool
    start: float


class ServedModel(TypedDict):
    """A model as this protocol sees it."""

    inputs: list[TensorMetadata]
    name: str
    outputs: list[TensorMetadata]
    parameters: ServedModelParameters
    platform: str
    versions: list[str]


class ServedModelParameters(TypedDict):
    """What this protocol has no place for."""

    alternative_inputs: list[TensorMetadata]
    labels: list[str]
    sample_rate: int


class ServedModelReady(TypedDict):
    """The model is loaded and answers."""

    name: str
    ready: bool


class ServerLive(TypedDict):
    """The process is alive."""

    live: bool


class ServerReady(TypedDict):
    """Requests can be answered."""

    ready: bool


class Skipped(TypedDict):
    """A candidate that could not be judged."""

    candidate: str
    code: str
    message: str


class Spectrogram(TypedDict):
    """A sound as a picture: what sounds when, and how high."""

    bands: int
    duration_seconds: float
    frames: int
    levels: str
    object: Literal['spectrogram']
    sample_rate: int


class Statistics(TypedDict):
    """How a dataset's items are spread."""

    dataset: str
    durations: Durations | None
    groups: list[GroupCount]
    object: Literal['statistics']


class SuspectedItem(TypedDict):
    """An item whose label is probably wrong."""

    file_name: str
    label: str
    predicted: str
    probability: float
    split: Literal['train', 'validation', 'test']


class TensorMetadata(TypedDict):
    """A tensor that a model takes or gives."""

    datatype: str
    name: str
    shape: list[int]


class Timings(TypedDict):
    """Where the time went, milliseconds."""

    decode: float
    features: float
    model: float
    total: float


class TransferConfig(TypedDict):
    """Which layers of `base_model` are carried over, and whether they may move."""

    freeze: NotRequired[Literal['none', 'shared', 'gradual']]
    input_rule: NotRequired[Literal['auto', 'sum', 'mean', 'replicate']]
    interpolate: NotRequired[Literal['auto'] | float]
    mode: NotRequired[Literal['auto', 'full', 'partial', 'none']]
    probe_first: NotRequired[bool]
    regularize: NotRequired[Literal['none', 'l2_sp']]
    regularize_strength: NotRequired[float]
    statistics: NotRequired[Literal['source', 'target']]
    thaw_from: NotRequired[Literal['head', 'input']]
    until: NotRequired[str | None]


class TransferRecord(TypedDict):
    """What was carried over, as done: written by models/transfer.py, kept in the artifact."""

    base_model: NotRequired[str | None]
    frozen_layers: NotRequired[list[str]]
    input_rule: NotRequired[Literal['same', 'sum', 'mean', 'replicate']]
    interpolation: NotRequired[float]
    mode: NotRequired[Literal['full', 'partial', 'none']]
    penalty: NotRequired[float]
    shared_layers: NotRequired[list[str]]
    statistics: NotRequired[Literal['source', 'target']]
    thaw: NotRequired[dict[str, float]]


class TransferWorth(TypedDict):
    """Whether the transfer paid."""

    accuracy: NotRequired[float | None]
    controls: NotRequired[list[ControlResult]]
    gain: NotRequired[float | None]
    interval_95: NotRequired[list[float] | None]
    n: NotRequired[int | None]
    reason: NotRequired[str | None]
    resampled: NotRequired[Literal['items', 'groups'] | None]
    seconds_to_match: NotRequired[float | None]
    seeds: NotRequired[list[int]]
    sentence: NotRequired[str | None]
    split: NotRequired[str | None]
    steps_to_match: NotRequired[int | None]
    verdict: Literal['positive', 'neutral', 'negative', 'unmeasured']


class Transferability(TypedDict):
    """A ranking of sources for one dataset: the result of a job of type transferability."""

    candidates: list[Candidate]
    chance: float
    clips: int
    dataset: str
    features: dict[str, Any]
    held_out: Literal['group', 'item']
    labels: int
    skipped: list[Skipped]


class TransferabilitySpec(TypedDict):
    """Body of `POST /transferability`."""

    candidates: NotRequired[list[str] | None]
    dataset: str
    features: NotRequired[FeatureConfig]
    metadata: NotRequired[dict[str, str]]
    name: NotRequired[str | None]
    seed: NotRequired[int]


class UnknownResult(TypedDict):
    """What the reject option does to sounds that its thresholds were not fitted on."""

    accepted_noise: NotRequired[float | None]
    accepted_words: NotRequired[float | None]
    asked: float
    known_lost_points: NotRequired[float | None]
    known_mended_points: NotRequired[float | None]


class Version(TypedDict):
    """Which program this is."""

    name: str
    python: str
    version: str


class WebhookConfig(TypedDict):
    """Who is told of a job's end."""

    url: str
