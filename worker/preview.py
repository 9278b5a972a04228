"""A first answer within seconds: the source's layers as they are, and a head in closed form on what they make of the job's own clips.

It can be asked before training has begun, under the same alias, and is replaced by what training makes where that is no worse.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.artifact import save_artifact
from models.config import LineageEntry, ModelManifest, TransferRecord
from models.dataset import PackedDataset
from models.evaluation import evaluate_split, evaluation_document
from models.golden_making import examples_of
from models.inputs import Inputs
from models.linear_head import LinearHead, fit_linear_head
from models.network import Network
from models.norm_statistics import re_estimate, statistics_batches
from models.predicting import embed_items, predict_items
from models.selection import thinned
from models.training_state import TrainingData
from worker.foundations import Foundation, build_on

_MOST_ITEMS = 1000  # more would take longer than they are worth: the answer is to be there within seconds


@dataclasses.dataclass(frozen=True)
class FirstAnswer:
    """A network that has not been trained on the job's items, but can answer."""

    network: Network
    record: TransferRecord
    accuracy: float  # of training items, each left out of the fit in turn


def first_answer(foundation: Foundation, dataset: PackedDataset, data: TrainingData, device: torch.device) -> FirstAnswer | None:
    """Return a network on the foundation's carried layers; None where none are carried, or its head is more than one linear layer.

    Batch-norm statistics of pictures and of this dataset's sounds are both tried, and what leaves more items right is taken.
    """
    network, record = build_on(foundation, dataset, data, device)
    layer = network.head
    if not record.shared_layers or not isinstance(layer, nn.Linear):
        return None
    network = network.to(device).eval()
    items = thinned(data.train, data.truth, _MOST_ITEMS, np.random.default_rng(foundation.spec.seed))
    inputs = Inputs(data.items, network.config.modality, network.config.features, device=device)
    head = _fit(network, inputs, items, data)
    carried = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    re_estimate(network, statistics_batches(inputs, items), layers=record.shared_layers)
    network.eval()
    adapted = _fit(network, inputs, items, data)
    if adapted.accuracy < head.accuracy:
        network.load_state_dict(carried)
    else:
        head = adapted
    _put(layer, head)
    frozen = record.model_copy(update={"frozen_layers": record.shared_layers})
    return FirstAnswer(network, frozen, head.accuracy)


def save_first_answer(
    answer: FirstAnswer, folder: Path, foundation: Foundation, data: TrainingData, *, lineage: tuple[LineageEntry, ...]
) -> dict[str, Any]:
    """Write the artifact into `folder`; return what the supervisor publishes: manifest, evaluation and metrics.

    Validation items alone are measured: the answer is to be there within seconds.
    """
    network = answer.network
    splits, metrics = {}, {"left_out_accuracy": answer.accuracy}
    if len(data.validation):
        inputs = Inputs(data.items, network.config.modality, network.config.features, device=next(network.parameters()).device)
        groups = data.groups[data.validation] if data.group_names else None
        probabilities = predict_items(network, inputs, data.validation)
        splits["validation"] = evaluate_split(
            probabilities, data.truth[data.validation], data.labels, groups=groups, group_names=data.group_names
        )
        metrics["validation_accuracy"] = float(splits["validation"]["accuracy"])
    evaluation = evaluation_document(splits)
    manifest = ModelManifest(
        network=network.config, transfer=answer.record, lineage=lineage, training=foundation.spec, metrics=metrics
    )  # fmt: skip
    manifest = save_artifact(folder, network, manifest=manifest, evaluation=evaluation, examples=examples_of(data))
    return {"manifest": manifest.model_dump(mode="json"), "evaluation": evaluation, "metrics": metrics}


def _fit(network: Network, inputs: Inputs, items: NDArray[np.int64], data: TrainingData) -> LinearHead:
    return fit_linear_head(embed_items(network, inputs, items), data.truth[items], len(data.labels))


def _put(layer: nn.Linear, head: LinearHead) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight))
        layer.bias.copy_(torch.from_numpy(head.bias))
