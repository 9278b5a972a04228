"""The typed descriptions: frozen, strict, and the same after a trip through JSON."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.config import (
    SPLITS,
    AugmentationConfig,
    FeatureConfig,
    Frozen,
    Hyperparameters,
    JobSpec,
    ModelManifest,
    NetworkConfig,
    Normalization,
    TransferConfig,
    clean_text,
)

NETWORK = NetworkConfig(
    modality="audio",
    architecture="resnet_tiny",
    labels=("no", "yes"),
    features=FeatureConfig(clip_seconds=1.0),
    normalization=Normalization(mean=(0.0,), std=(1.0,)),
)


def kinds() -> list[type[Frozen]]:
    return sorted(Frozen.__subclasses__(), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", kinds())
def test_unknown_fields_are_refused(kind: type[Frozen]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind.model_validate({"no_such_field": 1})


@pytest.mark.parametrize("kind", [FeatureConfig, TransferConfig, Hyperparameters, AugmentationConfig])
def test_all_fields_have_defaults_and_nobody_can_change_them(kind: type[Frozen]) -> None:
    description = kind()
    name = next(iter(kind.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(description, name, getattr(description, name))
    assert hash(description) == hash(kind())


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (FeatureConfig, {"sample_rate": 7999}),
        (FeatureConfig, {"sample_rate": 48001}),
        (FeatureConfig, {"sample_rate": 16000.0}),
        (FeatureConfig, {"sample_rate": "16000"}),
        (FeatureConfig, {"sample_rate": True}),
        (FeatureConfig, {"n_mels": 15}),
        (FeatureConfig, {"window_ms": float("nan")}),
        (FeatureConfig, {"clip_seconds": 0.1}),
        (FeatureConfig, {"clip_seconds": "automatic"}),
        (FeatureConfig, {"clip_seconds": float("inf")}),
        (FeatureConfig, {"image_size": 513}),
        (TransferConfig, {"mode": "half"}),
        (TransferConfig, {"until": ""}),
        (Hyperparameters, {"epochs": 0}),
        (Hyperparameters, {"epochs": 1.0}),
        (Hyperparameters, {"batch_size": 4097}),
        (Hyperparameters, {"learning_rate": 0.0}),
        (Hyperparameters, {"learning_rate": "1e-3"}),
        (Hyperparameters, {"learning_rate": True}),
        (Hyperparameters, {"momentum": "0.5"}),
        (Hyperparameters, {"optimizer": "adamax"}),
        (Hyperparameters, {"momentum": 1.0}),
        (Hyperparameters, {"label_smoothing": 1.0}),
        (Hyperparameters, {"early_stopping_patience": 0}),
        (Hyperparameters, {"gradient_clip": 0.0}),
        (AugmentationConfig, {"mixup": 1.1}),
        (AugmentationConfig, {"noise": 1}),
        (AugmentationConfig, {"flip": "yes"}),
    ],
)
def test_values_out_of_range_or_of_another_type_name_their_field(kind: type[Frozen], change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(change)
    assert {error["loc"][0] for error in caught.value.errors()} == set(change)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (FeatureConfig, {"sample_rate": 8000, "n_mels": 256, "window_ms": 5, "hop_ms": 100, "clip_seconds": 30, "image_size": 16}),
        (FeatureConfig, {"sample_rate": 48000, "n_mels": 16, "clip_seconds": 0.2, "image_size": 512}),
        (Hyperparameters, {"epochs": 10000, "batch_size": 1, "learning_rate": 1, "momentum": 0, "early_stopping_patience": None}),
        (Hyperparameters, {"gradient_clip": None, "max_seconds": None, "weight_decay": 0}),
        (AugmentationConfig, {"mixup": 1, "flip": False}),
    ],
)
def test_the_limits_themselves_are_accepted_and_integers_do_for_real_numbers(kind: type[Frozen], change: dict[str, Any]) -> None:
    description = kind.model_validate(change)
    assert {name: getattr(description, name) for name in change} == change


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "1"},
        {"dataset": "ds_" + "a" * 41},
        {"dataset": "ds_A"},
        {"dataset": "ds_a\n"},
        {"alias": "Production"},
        {"alias": "-a"},
        {"alias": "a" * 64},
        {"name": ""},
        {"name": "a" * 201},
        {"name": "a\u202eb"},
        {"seed": -1},
        {"seed": 2**31},
        {"metadata": {"with space": "x"}},
        {"metadata": {"key": "x" * 501}},
        {"metadata": {"key": 1}},
        {"metadata": {f"key{number}": "" for number in range(17)}},
        {"type": "train"},
    ],
)
def test_a_job_that_is_not_described_well_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate({"dataset": "ds_1", **change})
    assert {error["loc"][0] for error in caught.value.errors()} == set(change)


def test_a_job_needs_a_dataset_and_nothing_else() -> None:
    assert JobSpec(dataset="ds_1").hyperparameters == Hyperparameters()
    with pytest.raises(ValidationError, match="dataset"):
        JobSpec.model_validate({})


def test_a_manifest_survives_json_bit_for_bit() -> None:
    job = JobSpec(dataset="ds_1", features=FeatureConfig(clip_seconds=0.1 + 0.2), metadata={"who": "Zoë"}, alias="production")
    manifest = ModelManifest(network=NETWORK, training=job, metrics={"accuracy": 1 / 3}, layers={"stem": 10}, files={"a": "b"})
    assert ModelManifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_a_manifest_of_another_format_is_refused() -> None:
    stored = json.loads(ModelManifest(network=NETWORK).model_dump_json())
    with pytest.raises(ValidationError, match="format"):
        ModelManifest.model_validate_json(json.dumps(stored | {"format": 2}))


@pytest.mark.parametrize("bad", ["a\x00", "a\nb", "\x7f", "\u202e", "\u200f", "\u061c", "\ud800"])
def test_characters_that_hide_or_break_are_named(bad: str) -> None:
    with pytest.raises(ValueError, match=r"U\+[0-9A-F]{4}"):
        clean_text(bad)


@given(st.text())
def test_clean_text_is_composed_and_stays_as_it_is(value: str) -> None:
    try:
        cleaned = clean_text(value)
    except ValueError:
        return
    assert cleaned == unicodedata.normalize("NFC", value)
    assert clean_text(cleaned) == cleaned


def test_two_spellings_of_a_letter_become_one() -> None:
    assert clean_text("e\u0301") == clean_text("é") == "é"


def test_the_splits_have_an_order_that_files_rely_on() -> None:
    assert SPLITS == ("train", "validation", "test")
