"""Cut the log-mel front off an exported graph, so that what is left takes log-mels.

The front in the graph is two matrix products, as ONNX has no quick Fourier transform; outside it costs half the time. The graph stays
whole in the artifact, for other runtimes; it is cut when an engine is opened. That is a few fields of a protocol buffer (the wire format:
protobuf.dev/programming-guides/encoding; the fields: onnx.proto3), and reading them so costs nothing, while the onnx package would
cost every serving process a quarter of a second and 40 MB.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.errors import ArtifactError
from models.manifest import GRAPH

FRONT = b"/log_mel/"  # the exporter names nodes by the module they come from
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INPUT, _GRAPH_VALUE_INFO = 1, 11, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME = 1, 2, 3
_FLOAT = 1  # TensorProto.DataType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class _Field:
    number: int
    whole: memoryview
    """key, length and content"""
    content: memoryview


def cut_front(graph: bytes, shape: Sequence[int]) -> tuple[str, bytes]:
    """Return the name of the new input, of shape (batch, *shape), and the graph behind the front.

    Raises ArtifactError where there is no such front, or where more leaves it than one tensor.
    """
    model = list(_fields(memoryview(graph)))
    inner = [field for part in model if part.number == _MODEL_GRAPH for field in _fields(part.content)]
    nodes = [field for field in inner if field.number == _GRAPH_NODE]
    front = {id(node) for node in nodes if any(bytes(name).startswith(FRONT) for name in _texts(node, _NODE_NAME))}
    made = {bytes(text) for node in nodes if id(node) in front for text in _texts(node, _NODE_OUTPUT)}
    used = {bytes(text) for node in nodes if id(node) not in front for text in _texts(node, _NODE_INPUT)}
    bridges = made & used
    if len(bridges) != 1:
        raise ArtifactError(f"{GRAPH} has no front that can be cut off: {len(bridges)} tensors leave it", param=GRAPH)
    (bridge,) = bridges
    dropped = (_GRAPH_INPUT, _GRAPH_VALUE_INFO)
    kept = [field.whole for field in inner if field.number not in dropped and id(field) not in front]
    body = b"".join([*kept, _message(_GRAPH_INPUT, _value_info(bridge, shape))])
    parts = [_message(_MODEL_GRAPH, body) if part.number == _MODEL_GRAPH else bytes(part.whole) for part in model]
    return bridge.decode("utf-8", "replace"), b"".join(parts)


def _texts(message: _Field, number: int) -> Iterator[memoryview]:
    return (field.content for field in _fields(message.content) if field.number == number)


def _fields(message: memoryview) -> Iterator[_Field]:
    """Yield a message's fields. Raises ArtifactError where it is none."""
    at = 0
    while at < len(message):
        begin = at
        key, at = _varint(message, at)
        start, end = _extent(message, at, key & 7)
        if end > len(message):
            raise _broken()
        yield _Field(key >> 3, message[begin:end], message[start:end])
        at = end


def _extent(message: memoryview, at: int, wire_type: int) -> tuple[int, int]:
    """Return where the content of a field begins and ends whose key ends at `at`."""
    if wire_type == _VARINT:
        return at, _varint(message, at)[1]
    if wire_type == _BYTES:
        length, start = _varint(message, at)
        return start, start + length
    sizes = {_FIXED64: 8, _FIXED32: 4}
    if wire_type not in sizes:
        raise _broken()
    return at, at + sizes[wire_type]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number of variable length and where it ends."""
    value = 0
    for shift in itertools.count(0, 7):
        if at >= len(message) or shift > 63:
            raise _broken()
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return value, at


def _value_info(name: bytes, shape: Sequence[int]) -> bytes:
    """Return a ValueInfoProto: a float tensor of shape ("batch", *shape)."""
    sizes = b"".join(_message(1, _number(1, size)) for size in shape)
    tensor = _number(1, _FLOAT) + _message(2, _message(1, _message(2, b"batch")) + sizes)
    return _message(1, name) + _message(2, _message(1, tensor))


def _message(number: int, content: bytes) -> bytes:
    return _encoded(number << 3 | _BYTES) + _encoded(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _encoded(number << 3 | _VARINT) + _encoded(value)


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _broken() -> ArtifactError:
    return ArtifactError(f"{GRAPH} is not a graph", param=GRAPH)
