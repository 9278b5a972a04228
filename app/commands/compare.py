"""`synesthesia compare A B`: two models side by side, and whether the difference is more than chance."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import typer
from rich.console import Group

from app.client import Client, Json, RefusedError
from app.commands.options import JsonFlag, client_of
from app.commands.output import details_of, emit, plain, table_of
from models.paired import SIGNIFICANT, difference_interval, mcnemar

_MAX_CELLS = 200  # of a confusion matrix, asked for one by one
_CELL_ITEMS = 100  # the most that the service lists of one cell
_FACTS = ("id", "name", "architecture", "parameters", "dataset", "base_model", "job")
_Ref = Annotated[str, typer.Argument(help="mdl_…, an alias, or a job_… for its model.")]


def compare(
    context: typer.Context,
    first: _Ref,
    second: _Ref,
    split: Annotated[Literal["test", "validation"], typer.Option(help="The items that both are judged on.")] = "test",
    as_json: JsonFlag = False,
) -> None:
    """Put two models, or two jobs, side by side, and say whether they can be told apart.

    By a paired test where both were judged on the same items and their answers are kept, else by the intervals of their accuracies.
    """
    with client_of(context) as client:
        comparison = compared(client, first, second, split)
    emit(comparison, as_json=as_json, table=_described(comparison))


def compared(client: Client, first: str, second: str, split: str) -> Json:
    """Return the comparison as JSON. Raises RefusedError; ValueError where one has not been judged on the split."""
    models = [client.get(f"/models/{model_of(client, name)}") for name in (first, second)]
    splits = [_judged(client, model, split) for model in models]
    sides: list[Json] = [
        {
            **{name: model.get(name) for name in _FACTS},
            **{name: found.get(name) for name in ("accuracy", "interval_95", "macro_f1", "n", "ece")},
        }
        for model, found in zip(models, splits, strict=True)
    ]
    outcome = _paired(client, models, splits, split) or _unpaired(*splits)
    return {
        "object": "comparison",
        "split": split,
        "first": sides[0],
        "second": sides[1],
        "difference": sides[0]["accuracy"] - sides[1]["accuracy"],
        **outcome,
        "per_label": list(_labels(*splits)),
        "sentence": _sentence(sides, outcome),
    }


def model_of(client: Client, name: str) -> str:
    """Return the name of a model, for a job that of the model which it made. Raises ValueError where it has made none."""
    if not name.startswith("job_"):
        return name
    job = client.get(f"/jobs/{name}")
    if not job.get("model"):
        raise ValueError(f"job {name} is {job['status']} and has made no model")
    return str(job["model"])


def _judged(client: Client, model: Json, split: str) -> Json:
    found: Json | None = client.get(f"/models/{model['id']}/evaluation").get("splits", {}).get(split)
    if not found:
        raise ValueError(f"model {model['id']} was judged on no {split} items")
    return found


def _paired(client: Client, models: list[Json], splits: list[Json], split: str) -> Json | None:
    """Return the outcome of the paired test, None where there is nothing to pair."""
    first, second = models
    if first["dataset"] is None or first["dataset"] != second["dataset"] or splits[0]["n"] != splits[1]["n"]:
        return None
    try:
        wrong = [_wrong_items(client, str(model["id"]), found, split) for model, found in zip(models, splits, strict=True)]
    except RefusedError as error:
        if error.status not in (404, 409, 410):  # answers that were not kept, of a dataset that is gone
            raise
        return None
    if wrong[0] is None or wrong[1] is None:
        return None
    only_first, only_second = len(wrong[0] - wrong[1]), len(wrong[1] - wrong[0])
    p_value = mcnemar(only_first, only_second)
    counts = {"only_first_wrong": only_first, "only_second_wrong": only_second}
    return {"test": "mcnemar", "p_value": p_value, **counts, "told_apart": p_value < SIGNIFICANT}


def _wrong_items(client: Client, model: str, found: Json, split: str) -> set[str] | None:
    """Return the ids of items that a model took for something else; None where they are too many to be asked for."""
    matrix = found.get("confusion_matrix")
    if matrix is None:
        return None
    labels, counts = matrix["labels"], matrix["counts"]
    cells = [(true, told, count) for true, row in enumerate(counts) for told, count in enumerate(row) if count and true != told]
    if len(cells) > _MAX_CELLS or any(count > _CELL_ITEMS for *_, count in cells):
        return None
    wrong: set[str] = set()
    for true, told, _ in cells:
        where = f"/models/{model}/evaluation/items"
        page = client.get(where, label=labels[true], predicted=labels[told], split=split, limit=_CELL_ITEMS)
        wrong |= {str(row["id"]) for row in page["data"]}
    return wrong


def _unpaired(first: Json, second: Json) -> Json:
    low, high = difference_interval(first["accuracy"], tuple(first["interval_95"]), second["accuracy"], tuple(second["interval_95"]))
    return {"test": "intervals", "interval_95": [low, high], "told_apart": not low <= 0.0 <= high}


def _labels(first: Json, second: Json) -> Iterator[Json]:
    """Yield the labels of both, those whose F1 differs most first; scores are None where too few items measure them."""
    names = list(dict.fromkeys([*first["per_label"], *second["per_label"]]))
    rows = []
    for label in names:
        one, other = ((found["per_label"].get(label) or {}).get("f1") for found in (first, second))
        gap = None if one is None or other is None else one - other
        rows.append({"label": label, "first_f1": one, "second_f1": other, "difference": gap})
    yield from sorted(rows, key=lambda row: -abs(row["difference"] or 0.0))


def _sentence(sides: list[Json], outcome: Json) -> str:
    gap = sides[0]["accuracy"] - sides[1]["accuracy"]
    better, worse = (sides[0], sides[1]) if gap >= 0 else (sides[1], sides[0])
    if outcome["test"] == "mcnemar":
        only = (outcome["only_first_wrong"], outcome["only_second_wrong"])
        basis = (
            f"alone they err on {only[0]} and {only[1]} of {sides[0]['n']} items; by chance so far apart with p = {outcome['p_value']:.3g}"
        )
    else:
        low, high = outcome["interval_95"]
        basis = f"95 % interval of the difference {low * 100:+.1f} to {high * 100:+.1f} points; by accuracies alone, not item by item"
    if outcome["told_apart"]:
        return f"{better['id']} is better than {worse['id']}, by {abs(gap) * 100:.1f} points ({basis})"
    return f"They can't be told apart: {abs(gap) * 100:.1f} points ({basis})"


def _described(comparison: Json) -> Group:
    first, second = comparison["first"], comparison["second"]
    rows: list[list[Any]] = [
        [name, first.get(name), second.get(name)] for name in (*_FACTS, "accuracy", "interval_95", "macro_f1", "ece", "n")
    ]
    labels = [[row[name] for name in ("label", "first_f1", "second_f1", "difference")] for row in comparison["per_label"]]
    facts = table_of(("", "first", "second"), [[name, _shown(one), _shown(other)] for name, one, other in rows])
    table = table_of(("label", "first F1", "second F1", "difference"), labels, title="\nlabels, the most different first")
    return Group(facts, plain(f"\n{comparison['sentence']}"), table, details_of({"split": comparison["split"]}))


def _shown(value: Any) -> Any:
    return " to ".join(f"{part:.1%}" for part in value) if isinstance(value, list) else value
