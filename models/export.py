"""A network → its ONNX graph, which counts only once ONNX Runtime agrees with torch.

torch's tracing exporter, not the newer one built on torch.export: for the backbones here it takes 0.1 to 0.6 seconds where the other
takes 1.4 to 9, writes the same bytes each time and no path of this machine into the graph; both graphs are equally quick. Every size in
the networks is fixed but the batch, so a trace holds for all inputs; the check below runs another batch size than the trace. The
exporter folds batch normalization into the convolutions.
"""

import contextlib
import copy
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.engine import EMBEDDING, OUTPUT, RUNTIME_ERRORS, Floats, graph_input, open_session
from models.errors import ArtifactError
from models.files import write_durably
from models.manifest import GRAPH
from models.network import Network, picture_model, waveform_model

TOLERANCE = 1e-4  # in probability
VECTOR_TOLERANCE = 1e-3  # of the backbone's vector, relative to the largest of its numbers: they have no scale of their own
_OPSET = 18  # understood by every ONNX Runtime since 1.14
_TRACE_BATCH = 2  # one would tempt the tracer to take the batch axis for a constant
# What the exporter says of itself each time; nothing that could be done about it.
_KNOWN_WARNINGS: tuple[tuple[type[Warning], str], ...] = (
    (DeprecationWarning, "You are using the legacy TorchScript-based ONNX export"),
    (DeprecationWarning, "The feature will be removed"),
    (UserWarning, "Constant folding - Only steps=1 can be constant folded"),
    # Sizes that attention layers compare: constants here, see the module's docstring.
    (Warning, "Converting a tensor to a Python"),
)


def export_onnx(network: Network, path: Path) -> None:
    """Write the graph: `waveform` or `pixels` in; `probabilities` (batch, classes) and `embedding` (batch, features) out; fsynced.

    `network` stays as it is, on whatever device. The same network gives the same bytes. Raises ArtifactError, and writes nothing:
    export_failed where the exporter can't express an operation, export_mismatch where the graph's answers are not torch's.
    """
    model = _on_cpu(network)
    name, shape = graph_input(network.config)
    graph = _trace(model, name, torch.zeros(_TRACE_BATCH, *shape))
    _check(graph, model, name, sample_inputs(shape))
    write_durably(path, graph)


def sample_inputs(shape: tuple[int, ...]) -> Floats:
    """Return what the graph is checked on, shape (3, *shape), float32: noise, silence, a loud sine; for pictures noise, black, stripes."""
    count = int(np.prod(shape))
    low = 0.0 if len(shape) == 3 else -1.0
    noise = np.random.default_rng(0).uniform(low, 1, count)
    sine = 0.99 * np.sin(np.arange(count) * 0.2)
    return np.stack([noise, np.zeros(count), np.abs(sine) if len(shape) == 3 else sine]).astype(np.float32).reshape(3, *shape)


def answers_of(network: Network, inputs: Floats) -> Floats:
    """Return the network's own probabilities, shape (batch, classes), for what its graph takes; computed on the CPU, `network` stays."""
    # In plain order: kernels for channels-last ones round otherwise, and the same weights are to give the same answers.
    model = _on_cpu(network)
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()
    with torch.no_grad():
        probabilities: Floats = model(torch.from_numpy(np.ascontiguousarray(inputs)))[0].numpy()
    return probabilities


def _on_cpu(network: Network) -> nn.Module:
    """Return a copy for export, in evaluation mode: tracing must not touch a network that may still be trained."""
    if not network.config.labels:
        raise ArtifactError("a network without labels has no probabilities to export", code="export_failed", param=GRAPH)
    twin = copy.deepcopy(network).cpu()
    return waveform_model(twin) if network.config.modality == "audio" else picture_model(twin)


def _trace(model: nn.Module, name: str, example: torch.Tensor) -> bytes:
    """Return the serialized graph; `example` has shape (batch, *input)."""
    axes = {tensor: {0: "batch"} for tensor in (name, OUTPUT, EMBEDDING)}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / GRAPH
        try:
            with _without_known_warnings(), torch.no_grad():
                torch.onnx.export(
                    model,
                    (example,),
                    path,
                    input_names=[name],
                    output_names=[OUTPUT, EMBEDDING],
                    dynamic_axes=axes,
                    opset_version=_OPSET,
                    dynamo=False,
                )
        except RuntimeError as error:  # torch.onnx's own errors among them
            reason = str(error).strip().partition("\n")[0][:200]
            raise ArtifactError(f"the network can't be written as ONNX: {reason}", code="export_failed", param=GRAPH) from error
        return path.read_bytes()


def _check(graph: bytes, model: nn.Module, name: str, inputs: Floats) -> None:
    """Compare graph and model on `inputs`, shape (3, *input): all at once, and one by one."""
    session = open_session(graph)
    for batch in (inputs, *(row[None] for row in inputs)):
        with torch.no_grad():
            expected, vectors = (output.numpy() for output in model(torch.from_numpy(batch)))
        try:
            found, embedding = session.run([OUTPUT, EMBEDDING], {name: batch})
        except RUNTIME_ERRORS as error:
            raise ArtifactError("the exported graph does not run", code="export_mismatch", param=GRAPH) from error
        _compare(found, expected, TOLERANCE, "in probability")
        _compare(embedding, vectors, VECTOR_TOLERANCE * max(1.0, float(np.abs(vectors).max())), "in its embedding")


def _compare(found: Floats, expected: Floats, limit: float, where: str) -> None:
    """Raise ArtifactError (export_mismatch) where two arrays of the same shape, whatever it is, differ by `limit` or more."""
    difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    if not difference < limit:  # NaN compares false
        raise ArtifactError(
            f"the exported graph differs from torch by {difference:.2g} {where}, {limit:g} is the limit",
            code="export_mismatch",
            param=GRAPH,
        )


@contextlib.contextmanager
def _without_known_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        for category, message in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=message, category=category)
        yield
