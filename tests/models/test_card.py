"""MODEL_CARD.md: that it says what matters, and that other people's words can't change its form."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.card import escaped, model_card
from models.config import FeatureConfig, JobSpec, LineageEntry, ModelManifest, NetworkConfig, Normalization, TransferRecord
from models.evaluation import evaluate_split, evaluation_document

SHA = "3f" * 32


def manifest_of(labels: tuple[str, ...] = ("no", "yes", "stop"), **changes: object) -> ModelManifest:
    network = NetworkConfig(
        modality="audio",
        architecture="resnet_tiny",
        labels=labels,
        features=FeatureConfig(clip_seconds=1.5, image_size=28),
        normalization=Normalization(mean=(0.0,) * 40, std=(1.0,) * 40),
    )
    lineage = LineageEntry(model="mdl_1", job="job_1", dataset="ds_1", dataset_sha256=SHA, modality="image", architecture="resnet_tiny")
    manifest = ModelManifest(
        network=network,
        transfer=TransferRecord(mode="partial", base_model="mdl_1", shared_layers=("stem", "layer1"), frozen_layers=("stem",)),
        lineage=(lineage,),
        training=JobSpec(dataset="ds_2", type="finetune", name="digits"),
        parameters=885_000,
        versions={"torch": "2.11.0"},
    )
    return manifest.model_copy(update=changes)


def evaluation_of(labels: tuple[str, ...], splits: tuple[str, ...] = ("train", "test")) -> dict[str, object]:
    """Each split: four items of the first label, one of the second, by two speakers; all right."""
    truth = np.array([0, 0, 0, 0, 1])
    probabilities = np.eye(len(labels), dtype=np.float32)[truth]
    found = evaluate_split(probabilities, truth, labels, np.array([0, 0, 1, 1, 1]), ("ann", "bob"))
    return evaluation_document(dict.fromkeys(splits, found))


def test_what_matters_is_there() -> None:
    manifest = manifest_of()
    card = model_card(manifest, evaluation_of(manifest.network.labels))
    expected = [
        "# Model: digits",
        "sounds of 1.5 s",
        "885,000 parameters",
        "Labels: no, yes, stop",
        "| test | 5 | 100.0% | 56.6% to 100.0% |",  # 5 of 5: Wilson's interval begins at 5 / (5 + z²)
        "| no | 100.0% | 100.0% | 100.0% | 4 |",
        "| yes | not measured | not measured | not measured | 1 |",
        "| stop | not measured | not measured | not measured | 0 |",
        "| ann | 2 | 100.0% |",
        "| layers carried over | stem, layer1 |",
        "| layers held frozen | stem |",
        "unmeasured",
        SHA,
        "| optimizer | adamw |",
        "| n_mels | 40 |",
        "Trained on 5 items.",
        "Fewer than 3 test items, which counts as unmeasured: yes (1), stop (0).",
        "| torch | 2.11.0 |",
        "24000 samples a clip",
        "onnxruntime.InferenceSession",
        "curl",
    ]
    assert [text for text in expected if text not in card] == []


def test_the_snippet_runs_as_it_stands() -> None:
    for modality in ("audio", "image"):
        manifest = manifest_of()
        network = manifest.network.model_copy(update={"modality": modality})
        card = model_card(manifest.model_copy(update={"network": network}), {})
        (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        compile(code, "card", "exec")


def test_the_judge_is_named() -> None:
    labels = ("a", "b")
    assert "have also chosen the weights" in model_card(manifest_of(labels), evaluation_of(labels, ("train", "validation")))
    assert "its own training items" in model_card(manifest_of(labels), evaluation_of(labels, ("train",)))
    assert "Not measured" in model_card(manifest_of(labels), evaluation_document({}))


def test_nothing_carried_over_is_said() -> None:
    assert "began with random weights" in model_card(manifest_of(transfer=TransferRecord()), {})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a|b", r"a\|b"),
        ("# head\n\n- x", r"\# head - x"),
        ("<img src=x>", r"\<img src=x\>"),
        ("![a](b)", r"\!\[a\](b)"),
        ("resnet_tiny _x_ __", r"resnet_tiny \_x\_ \_\_"),
        ("`x`", r"\`x\`"),
        ("back\\slash", r"back\\slash"),
        ("a\u202eb\x00c", "a b c"),
        ("\ud800", ""),
        ("über 7", "über 7"),
    ],
)
def test_foreign_text_is_shown_as_it_is(value: str, shown: str) -> None:
    assert escaped(value) == shown


@given(label=st.text(min_size=1, max_size=30).filter(lambda text: text != "b"))
def test_no_label_changes_the_cards_form(label: str) -> None:
    plain, foreign = (model_card(manifest_of((name, "b")), evaluation_of((name, "b"))) for name in ("plain", label))
    foreign.encode()
    assert foreign.count("\n") == plain.count("\n")
    # As many cells in each line, once what is escaped is taken out.
    cells = [[re.sub(r"\\.", "", line).count("|") for line in card.splitlines()] for card in (plain, foreign)]
    assert cells[0] == cells[1]
    bare = re.sub(r"\\.", "", foreign)
    assert bare.count("`") == plain.count("`")
    assert bare.count("<") == plain.count("<")


def test_a_verdict_is_told_with_its_controls() -> None:
    manifest = manifest_of()
    worth = {
        "verdict": "positive", "gain": 0.2, "split": "test", "sentence": "The layers from my_model helped | <b>.",
        "controls": [{"name": "scratch", "seed": 3, "status": "succeeded", "accuracy": 0.5, "seconds": 9.5, "steps": 80, "model": "mdl_9"}],
    }  # fmt: skip
    card = model_card(manifest, {**evaluation_of(manifest.network.labels), "transfer": worth})
    assert "| verdict against training from scratch | positive, gain 20.0% |" in card
    assert r"The layers from my_model helped \| \<b\>." in card
    assert "| scratch | 3 | succeeded | 50.0% | 9.5 | 80 | mdl_9 |" in card
    assert "accuracy, test items" in card
