"""The report of a model and the job that made it: one HTML page with everything inside, no script, nothing that is fetched."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.client import Json
from app.reporting.plots import bar_plot, line_plot, matrix_plot, text_of

MATRIX_LABELS = 40  # beyond it a matrix can't be read, and the pairs that are mixed up most are listed
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#0f172a;background:#fff}"
    "h1{margin-bottom:0}h2{margin-top:2.2rem;border-bottom:1px solid #cbd5e1}table{border-collapse:collapse;margin:.6rem 0}"
    "td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top;overflow-wrap:anywhere}td.n{text-align:right}"
    "pre{background:#f1f5f9;padding:.8rem;white-space:pre-wrap;overflow-wrap:anywhere}svg{max-width:100%;height:auto;font:12px sans-serif}"
    ".verdict{font-size:1.1rem}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_SETTINGS = ("transfer", "hyperparameters", "features", "augmentation", "evaluation", "search", "seed")


@dataclass(frozen=True)
class Subject:
    """What a report is about: a model, or a job that has made none yet."""

    job: Json | None = None
    model: Json | None = None
    evaluation: Json = field(default_factory=dict)
    curves: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    """whose → data of its metrics events: the job's own under its name, its controls' under theirs"""


def report_page(subject: Subject) -> str:
    """Return the page."""
    model, job = subject.model or {}, subject.job or {}
    title = model.get("name") or job.get("name") or model.get("id") or job.get("id")
    parts = [_summary(model, job), _learning(subject.curves)]
    parts += [_transfer(subject.evaluation.get("transfer") or {})]
    for split, found in (subject.evaluation.get("splits") or {}).items():
        if split != "train":
            parts += _split(split, found)
    parts += [_robustness(subject.evaluation.get("robustness") or []), _unknown(subject.evaluation.get("unknown") or {})]
    parts += [_suspects(subject.evaluation.get("suspects") or []), _lineage(model.get("lineage") or []), _settings(model, job)]
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}"><title>{text_of(title)}</title>'
    body = f"<h1><bdi>{text_of(title)}</bdi></h1>" + "".join(parts)
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>\n'


def _summary(model: Json, job: Json) -> str:
    facts = {
        "model": model.get("id"),
        "job": job.get("id"),
        "status": job.get("status"),
        "error": (job.get("error") or {}).get("message"),
        "architecture": model.get("architecture"),
        "parameters": f"{model['parameters']:,}" if model.get("parameters") else None,
        "dataset": model.get("dataset") or job.get("dataset"),
        "base model": model.get("base_model") or job.get("base_model"),
        "labels": ", ".join(model.get("labels") or ()),
        "aliases": ", ".join(model.get("aliases") or ()),
        "made": model.get("created_at") or job.get("created_at"),
        "sha256": model.get("sha256"),
    }
    return _table((), [(name, value) for name, value in facts.items() if value not in (None, "")])


def _learning(curves: Mapping[str, Sequence[Json]]) -> str:
    plots = []
    for name, span in (("validation_accuracy", (0.0, 1.0)), ("validation_loss", None), ("train_loss", None)):
        drawn = {whose: _points(rows, name) for whose, rows in curves.items()}
        drawn = {whose: points for whose, points in drawn.items() if points}
        if drawn:
            plots.append(f"<h3>{name.replace('_', ' ')}</h3>" + line_plot(drawn, x="epoch", y=name.replace("_", " "), span=span))
    return _section("Learning", *plots)


def _points(rows: Sequence[Json], name: str) -> list[tuple[float, float]]:
    """Return (epoch, value) of rows that have the value; their place where a row has no epoch."""
    return [(float(row.get("epoch") or place), float(row[name])) for place, row in enumerate(rows, 1) if row.get(name) is not None]


def _transfer(transfer: Json) -> str:
    if not transfer:
        return ""
    sentence = transfer.get("sentence") or transfer.get("reason") or ""
    parts = [f'<p class="verdict"><strong>{text_of(transfer.get("verdict"))}</strong> {text_of(sentence)}</p>']
    arms: dict[str, tuple[float, tuple[float, float] | None]] = {}
    if transfer.get("accuracy") is not None:
        arms["with the transfer"] = (transfer["accuracy"], None)
    for control in transfer.get("controls") or []:
        if control.get("accuracy") is not None:
            arms[f"{control['name']} (seed {control.get('seed')})"] = (control["accuracy"], None)
    if arms:
        parts.append(bar_plot(arms, unit="accuracy of each arm"))
    if transfer.get("gain") is not None and transfer.get("interval_95"):
        low, high = transfer["interval_95"]
        parts.append(f"<p>Gain {transfer['gain'] * 100:+.1f} points, 95 % interval {low * 100:+.1f} to {high * 100:+.1f}.</p>")
    return _section("What the transfer was worth", *parts)


def _split(name: str, found: Json) -> list[str]:
    low, high = found["interval_95"]
    head = f"<p>Accuracy {found['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}) on {found['n']} items"
    head += f"; calibration error {found['ece']:.3f}.</p>" if found.get("ece") is not None else ".</p>"
    scores = ("precision", "recall", "f1", "support")
    rows = [(label, *(one.get(score) for score in scores)) for label, one in (found.get("per_label") or {}).items()]
    groups = found.get("by_group") or {}
    speakers = [(group, one.get("accuracy"), one.get("n")) for group, one in groups.items()]
    return [
        _section(f"On {name} items", head, _confusion(found), _table(("label", *scores), rows)),
        _section(f"Calibration, {name}", _reliability(found), _reject(found)),
        _section(f"By group, {name}", _table(("group", "accuracy", "items"), speakers)) if speakers else "",
    ]


def _confusion(found: Json) -> str:
    matrix = found.get("confusion_matrix")
    if matrix and len(matrix["labels"]) <= MATRIX_LABELS:
        return matrix_plot(matrix["labels"], matrix["counts"])
    rows = [tuple(pair.get(name) for name in ("label", "predicted", "count")) for pair in found.get("confused") or []]
    return _table(("label", "taken for", "items"), rows)


def _reliability(found: Json) -> str:
    points = [(one["confidence"], one["accuracy"]) for one in found.get("reliability") or []]
    return line_plot({"model": points}, x="confidence", y="accuracy", span=(0.0, 1.0), diagonal=True) if points else ""


def _reject(found: Json) -> str:
    rows = found.get("reject_curve") or []
    points = [(float(row["answered"]), float(row["accuracy"])) for row in rows if row.get("accuracy") is not None]
    return line_plot({"model": points}, x="share of items answered", y="accuracy of the answers", span=(0.0, 1.0)) if points else ""


def _robustness(conditions: Sequence[Json]) -> str:
    bars: dict[str, tuple[float, tuple[float, float] | None]] = {str(one["name"]): (float(one["accuracy"]), None) for one in conditions}
    return _section("When the recording is worse", bar_plot(bars, unit="accuracy by condition")) if bars else ""


def _unknown(unknown: Json) -> str:
    return _section("Sounds that are none of the labels", _table((), list(unknown.items()))) if unknown else ""


def _suspects(suspects: Sequence[Json]) -> str:
    columns = ("file_name", "split", "label", "predicted", "probability")
    rows = [tuple(one.get(name) for name in columns) for one in suspects]
    return _section("Labels that are probably wrong", _table(columns, rows)) if rows else ""


def _lineage(lineage: Sequence[Json]) -> str:
    columns = ("model", "dataset", "modality", "architecture")
    return _section("Lineage, oldest first", _table(columns, [tuple(step.get(name) for name in columns) for step in lineage]))


def _settings(model: Json, job: Json) -> str:
    chosen = {name: job[name] for name in _SETTINGS if job.get(name) not in (None, {})} or {"features": model.get("features")}
    chosen |= {"carried over": model["transfer"]} if model.get("transfer") else {}
    return _section("Settings", f"<pre>{text_of_lines(json.dumps(chosen, indent=1, ensure_ascii=False))}</pre>")


def text_of_lines(text: str) -> str:
    """Return foreign text of several lines, escaped."""
    return "\n".join(text_of(line) for line in text.split("\n"))


def _section(title: str, *parts: str) -> str:
    """Return a section, nothing where it would be empty."""
    inside = "".join(parts)
    return f"<section><h2>{text_of(title)}</h2>{inside}</section>" if inside else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    head = "<tr>" + "".join(f"<th>{text_of(name)}</th>" for name in columns) + "</tr>" if columns else ""
    return f"<table>{head}{body}</table>" if body else ""


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f'<td class="n">{value:.4g}</td>'
    if isinstance(value, int):
        return f'<td class="n">{value}</td>'
    return f"<td><bdi>{'' if value is None else text_of(value)}</bdi></td>"
