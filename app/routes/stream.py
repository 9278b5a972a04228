"""Sound that comes while it is spoken. The protocol is described in docs/streaming.md, as OpenAPI has no web sockets."""

import json

from fastapi import APIRouter
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from app.dependencies import possible_model
from app.errors import EXPECTED, ValidationError, problem_body, status_of, translate
from app.gate_socket import agreed_subprotocol, refuse_socket
from app.listening import Conversation, Listeners
from models.errors import SynesthesiaError

# RFC 6455, 7.4.1, and the registry of close codes. By code first, then by status.
_CLOSE_CODES = {"media_type_unsupported": 1003, "body_too_large": 1009, "stream_idle": 1008, "state_conflict": 1008}
_BUSY, _FAILED, _BAD_DATA = 1013, 1011, 1007


async def stream(socket: WebSocket) -> None:
    """Hear words in sound that comes in pieces: `WS /predict/stream?model=`."""
    listeners: Listeners = socket.app.state.listeners
    try:
        name = _model_name(socket)
        with listeners.room():
            model_id, engine = await listeners.engine(name)
            await socket.accept(agreed_subprotocol(socket.scope))
            await Conversation(socket, listeners, model_id, engine).run()
            await socket.close()
    except WebSocketDisconnect:
        pass  # the client is gone, there is nobody to tell
    except EXPECTED as error:
        await _end(socket, translate(error))


def _model_name(socket: WebSocket) -> str | None:
    """Return the model that the address asks for. Raises ValidationError for other parameters, NotFoundError for an impossible name."""
    pairs = socket.query_params.multi_items()
    if [name for name, _ in pairs] not in ([], ["model"]):
        raise ValidationError([{"pointer": "/query", "detail": "the only parameter of this address is model, once"}])
    return possible_model(pairs[0][1]) if pairs else None


async def _end(socket: WebSocket, error: SynesthesiaError) -> None:
    """Tell the problem, as an HTTP answer before the socket is accepted, as a message and a close code after."""
    if socket.application_state is WebSocketState.CONNECTING:
        await refuse_socket(socket.scope, socket.send, error)
        return
    problem = problem_body(error, instance=socket.scope["path"], request_id=socket.scope["request_id"])
    try:
        await socket.send_text(json.dumps({**problem, "type": "error", "problem": problem["type"]}))
        await socket.close(_close_code(error), error.code)
    except WebSocketDisconnect:
        pass  # gone meanwhile


def _close_code(error: SynesthesiaError) -> int:
    if error.code in _CLOSE_CODES:
        return _CLOSE_CODES[error.code]
    status = status_of(error)
    return _BAD_DATA if status < 500 else _BUSY if status in (503, 507) else _FAILED


router = APIRouter(routes=[WebSocketRoute("/predict/stream", stream)])
