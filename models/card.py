"""MODEL_CARD.md: what a person wants to know of a model before using it, from its manifest and evaluation."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models.config import ModelManifest
from models.evaluation import MEASURED_ITEMS

# Judged by the test items where there are any; validation items have chosen the weights, so their figures are a little too good.
_JUDGES = ("test", "validation", "train")
# Labels, names and metadata come from other people's files: what markdown or HTML would read as more than text gets a backslash.
# An underscore within a word, as in resnet_tiny, is none of that.
_SPECIAL = re.compile(r"([\\`*\[\]<>|~&#!$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
# Controls, line ends among them, invisible direction marks and lone surrogates, which no file can hold.
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_USE_AUDIO = """\
On a service that holds the model (`<model>` is its id or an alias):

```sh
curl --data-binary @clip.wav -H 'Content-Type: audio/wav' "$SYNESTHESIA_URL/predict?model=<model>"
```

Without the service, from `model.onnx` alone; a sound has {rate} samples a second, mono, -1 to 1, and {samples} samples a clip:

```python
import json
import numpy as np
import onnxruntime

labels = json.load(open("model.json", encoding="utf-8"))["network"]["labels"]
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
waveform = np.zeros((1, {samples}), np.float32)  # your clips here, one a row
(probabilities,) = session.run(["probabilities"], {{"waveform": waveform}})
label = labels[int(probabilities[0].argmax())]
```"""
_USE_IMAGE = """\
As `base_model` of a fine-tuning job, or from `model.onnx` alone; a picture is RGB, {side} by {side}, 0 to 1:

```python
import json
import numpy as np
import onnxruntime

labels = json.load(open("model.json", encoding="utf-8"))["network"]["labels"]
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
pixels = np.zeros((1, 3, {side}, {side}), np.float32)  # your pictures here
(probabilities,) = session.run(["probabilities"], {{"pixels": pixels}})
label = labels[int(probabilities[0].argmax())]
```"""


def model_card(manifest: ModelManifest, evaluation: Mapping[str, Any]) -> str:
    """Return the card in markdown; `evaluation` is evaluation.json's content."""
    splits: Mapping[str, Any] = evaluation.get("splits", {})
    sections = {
        "What it does": _purpose(manifest),
        "Accuracy": _accuracy(splits),
        "Can its answers be believed?": _belief(manifest, evaluation),
        "Transfer": _transfer(manifest, evaluation.get("transfer", {})),
        "Lineage": _lineage(manifest),
        "Training": _training(manifest),
        "Features": _pairs(manifest.network.features.model_dump()),
        "Limits": _limits(splits),
        "What is stored with it": _stored(manifest),
        "How to use it": _use(manifest),
        "Made with": _pairs(manifest.versions | {"created": manifest.created_at}),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)
    return f"# Model: {_title(manifest)}\n\n{body}\n"


def escaped(value: object) -> str:
    """Return a foreign text in one line that markdown shows as it is, in a sentence or in a table's cell."""
    return _SPECIAL.sub(r"\\\1", " ".join(_UNWRITABLE.sub(" ", str(value)).split()))


def _title(manifest: ModelManifest) -> str:
    name = manifest.training.name if manifest.training else None
    return escaped(name or f"{manifest.network.architecture}, {manifest.network.modality}")


def _purpose(manifest: ModelManifest) -> str:
    network = manifest.network
    seen = f"sounds of {network.features.clip_seconds} s" if network.modality == "audio" else f"pictures, {network.features.image_size} px"
    what = "Hears which of these words or classes is in" if network.modality == "audio" else "Sees which of these classes is in"
    size = f"{manifest.parameters:,} parameters in a {escaped(network.architecture)}."
    others = "what it does not believe is rejected" if manifest.thresholds else "anything else is taken for one of them"
    return f"{what} {seen}; {others}. {size}\n\nLabels: {_joined(network.labels)}"


def _accuracy(splits: Mapping[str, Any]) -> str:
    judge = _judge(splits)
    if judge is None:
        return "Not measured: there was nothing to measure it on."
    columns = ("split", "items", "accuracy", "95 % interval", "macro F1", "calibration error")
    rows = [
        (name, found["n"], _share(found["accuracy"]), _interval(found["interval_95"]), _share(found["macro_f1"]), _share(found["ece"]))
        for name, found in splits.items()
    ]
    labels = [
        (label, *(_share(scores[key]) for key in ("precision", "recall", "f1")), scores["support"])
        for label, scores in splits[judge]["per_label"].items()
    ]
    tables = [_table(columns, rows), f"By label, {judge} items:", _table(("label", "precision", "recall", "F1", "items"), labels)]
    groups = splits[judge].get("by_group", {})
    if groups:
        by_group = [(name, found["n"], _share(found["accuracy"]), _interval(found["interval_95"])) for name, found in groups.items()]
        tables += [f"By group (speaker), {judge} items:", _table(("group", "items", "accuracy", "95 % interval"), by_group)]
    return "\n\n".join(tables)


def _belief(manifest: ModelManifest, evaluation: Mapping[str, Any]) -> str:
    """Return what is known beyond accuracy: calibration, rejected sounds, worse recordings, labels that look wrong."""
    parts = [_calibration(evaluation.get("calibration") or {}), _unknown(manifest, evaluation.get("unknown") or {})]
    rows = [(row["name"], _share(row["accuracy"]), row["n"]) for row in evaluation.get("robustness") or ()]
    parts += ["When the recording is worse:", _table(("recording", "accuracy", "items"), rows)] if rows else []
    suspects = evaluation.get("suspects") or ()
    parts += [f"{len(suspects)} validation and test items look wrongly labelled; evaluation.json names them."] if suspects else []
    return "\n\n".join(part for part in parts if part)


def _calibration(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    if found.get("not_fitted"):
        return f"Probabilities are not calibrated: {escaped(found['not_fitted'])}."
    return f"Logits are divided by {found['temperature']:.3g}, fitted on {found['items']} validation items, so that probabilities hold."


def _unknown(manifest: ModelManifest, found: Mapping[str, Any]) -> str:
    if not manifest.thresholds:
        return "Nothing is rejected: noise and words that it never learnt are answered with one of the labels."
    asked = f" Asked for: {_share(found.get('asked'))} of noise." if found else ""
    measured = {
        "noise taken for a label": _share(found.get("accepted_noise")),
        "other words taken for a label": _share(found.get("accepted_words")),
        "right answers no longer given, points": _points(found.get("known_lost_points")),
        "wrong answers no longer given, points": _points(found.get("known_mended_points")),
    }
    said = f"An answer counts where its probability reaches the label's threshold in model.json; below it the label is null.{asked}"
    return f"{said}\n\n{_pairs(measured)}"


def _transfer(manifest: ModelManifest, worth: Mapping[str, Any]) -> str:
    record = manifest.transfer
    if record.mode == "none":
        return "Nothing was carried over: training began with random weights."
    gain = "" if worth.get("gain") is None else f", gain {_share(worth['gain'])}"
    what = {
        "mode": record.mode,
        "from": record.base_model,
        "layers carried over": ", ".join(record.shared_layers),
        "layers held frozen": ", ".join(record.frozen_layers) or "none",
        "layers that moved later": ", ".join(f"{name} after {share:.0%}" for name, share in record.thaw.items()) or "none",
        "pull to the source's weights": record.penalty or "none",
        "share of the trained weights in carried layers": f"{record.interpolation:.0%}",
        "batch-norm statistics at the start": record.statistics,
        "input channels": record.input_rule,
        "verdict against training from scratch": f"{worth.get('verdict', 'unmeasured')}{gain}",
    }
    return "\n\n".join(part for part in (_pairs(what), escaped(worth.get("sentence") or ""), _controls(worth)) if part)


def _controls(worth: Mapping[str, Any]) -> str:
    """Return what each control came to, on the items that the verdict was made on."""
    columns = ("control", "seed", "ended", f"accuracy, {worth.get('split') or 'no'} items", "training seconds", "steps", "model")
    rows = [
        (
            row.get("name"),
            row.get("seed"),
            row.get("status"),
            _share(row.get("accuracy")),
            row.get("seconds"),
            row.get("steps"),
            row.get("model"),
        )
        for row in worth.get("controls") or ()
    ]
    return _table(columns, rows) if rows else ""


def _lineage(manifest: ModelManifest) -> str:
    columns = ("step", "model", "job", "modality", "architecture", "dataset", "dataset sha256")
    rows = [
        (step, entry.model, entry.job, entry.modality, entry.architecture, entry.dataset, entry.dataset_sha256)
        for step, entry in enumerate(manifest.lineage, start=1)
    ]
    return _table(columns, rows) if rows else ""


def _training(manifest: ModelManifest) -> str:
    job = manifest.training
    if job is None:
        return ""
    return _pairs(
        {"type": job.type, "dataset": job.dataset, "seed": job.seed, **job.hyperparameters.model_dump()}
        | {f"augmentation: {name}": value for name, value in job.augmentation.model_dump().items()}
        | {f"metadata: {name}": value for name, value in job.metadata.items()}
    )


def _limits(splits: Mapping[str, Any]) -> str:
    trained = splits.get("train", {})
    limits = [f"Trained on {trained.get('n_trained', trained['n'])} items."] if trained else []
    judge = _judge(splits)
    if judge is None:
        limits.append("No label is measured.")
    else:
        few = [f"{label} ({s['support']})" for label, s in splits[judge]["per_label"].items() if s["support"] < MEASURED_ITEMS]
        limits += [f"Fewer than {MEASURED_ITEMS} {judge} items, which counts as unmeasured: {_joined(few)}."] if few else []
        limits += ["There were no test items; the validation items have also chosen the weights."] if judge == "validation" else []
        limits += ["There were neither test nor validation items: the figures are those of its own training items."] * (judge == "train")
    limits.append(
        "The figures hold for recordings or pictures like those of its dataset; other microphones, rooms and voices may do worse."
    )
    return "\n".join(f"- {limit}" for limit in limits)


def _stored(manifest: ModelManifest) -> str:
    if manifest.golden is None:
        return ""
    kind = "recordings" if manifest.network.modality == "audio" else "pictures"
    return (
        f"golden.safetensors holds {manifest.golden.clips} inputs with the answers that the model gave when it was made: noise and the "
        "like, and where they were at hand one item a label of the dataset, of its validation split if it has one. They may be "
        f"{kind} of people: who is given this artifact is given them. Without that file, and without its lines in model.json, the model "
        "works as before, but nobody notices when it begins to answer otherwise."
    )


def _use(manifest: ModelManifest) -> str:
    features = manifest.network.features
    if manifest.network.modality == "image":
        return _USE_IMAGE.format(side=features.image_size)
    samples = round(float(features.clip_seconds) * features.sample_rate)
    return _USE_AUDIO.format(rate=features.sample_rate, samples=samples)


def _judge(splits: Mapping[str, Any]) -> str | None:
    return next((name for name in _JUDGES if name in splits), None)


def _pairs(values: Mapping[str, object]) -> str:
    return _table(("", ""), [(name, "none" if value is None else value) for name, value in values.items()])


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *([escaped("–" if cell is None else cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(map(escaped, texts))


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1%}"


def _points(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f}"


def _interval(bounds: Sequence[float]) -> str:
    return f"{bounds[0]:.1%} to {bounds[1]:.1%}"
