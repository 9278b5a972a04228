"""Every limit in force, in one place for people and clients."""

from typing import Any

from app import batches, filebody, inference, jsonbody, lanes, listening, predictors, streaming, uploads
from app.body import BODY_RATE
from models.audio import AudioLimits
from worker import quotes
from worker.generated import MAX_LABEL_PIXELS
from worker.settings import Settings

_SETTINGS = (
    "max_json_bytes",
    "max_sound_bytes",
    "max_sound_seconds",
    "max_batch_bytes",
    "max_inference_bytes",
    "max_streams",
    "max_image_bytes",
    "max_image_pixels",
    "max_image_side",
    "max_archive_bytes",
    "max_expanded_bytes",
    "max_member_bytes",
    "max_members",
    "max_archive_ratio",
    "max_generated_items",
    "max_queued_jobs",
    "auth_failures_a_minute",
    "max_owner_jobs",
    "max_owner_datasets",
    "max_owner_bytes",
    "owner_predictions_a_second",
    "max_models_bytes",
    "predict_wait_seconds",
    "max_failures",
    "job_seconds",
    "body_seconds",
    "min_free_fraction",
    "collect_free_fraction",
    "idempotency_seconds",
)


def limits_in_force(settings: Settings) -> dict[str, Any]:
    """Return name → limit; sizes in bytes, times in seconds, rates in Hz."""
    sound = AudioLimits()
    return {name: getattr(settings, name) for name in _SETTINGS} | {
        "body_bytes_per_second": BODY_RATE,
        "max_json_depth": jsonbody.MAX_DEPTH,
        "max_form_fields": filebody.MAX_FIELDS,
        "max_form_field_bytes": filebody.MAX_FIELD_BYTES,
        "max_file_name": filebody.MAX_NAME,
        "min_sound_seconds": sound.min_seconds,
        "min_sound_rate": sound.min_rate,
        "max_sound_rate": sound.max_rate,
        "max_sound_channels": sound.max_channels,
        "max_label_pixels": MAX_LABEL_PIXELS,
        "max_uploads": uploads.MAX_UPLOADS,
        "max_batches": batches.MAX_BATCHES,
        "max_batch_files": batches.MAX_BATCH_FILES,
        "max_inference_items": inference.MAX_ITEMS,
        "max_event_streams": streaming.MAX_STREAMS,
        "max_stream_message_bytes": listening.MAX_MESSAGE_BYTES,
        "max_stream_behind_seconds": listening.MAX_BEHIND_SECONDS,
        "stream_idle_seconds": listening.IDLE_SECONDS,
        "max_quotes": quotes.MAX_QUOTES,
        "max_quote_seconds": quotes.QUOTE_SECONDS,
        "max_lane_wait_seconds": lanes.MAX_WAIT_SECONDS,
        "max_waiting_sound_bytes": predictors.MAX_WAITING_BYTES,
    }
