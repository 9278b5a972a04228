"""The file of a request, raw or as a part of a form, or its files, as a stream of chunks: nothing is kept here but small fields."""

from collections.abc import AsyncIterator, Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from app.errors import MalformedError, UnsupportedTypeError, ValidationError

FORM_TYPE = "multipart/form-data"
FILE_PART = "file"
MAX_FIELDS = 8
MAX_FIELD_BYTES = 4096
MAX_BOUNDARY = 70  # RFC 2046, 5.1.1
MAX_NAME = 255  # characters of a file's name: it is only given back


class FileBody:
    """Iterate it to get the file's bytes; afterwards `fields` holds the form's other parts and `names` what the files are called.

    Raises MalformedError for a form that is broken or ends early, UnsupportedTypeError for a body of another type,
    ValidationError for unknown, repeated, too long or too many parts and for a form without a file.
    """

    def __init__(
        self, request: Request, *, fields: frozenset[str], takes: Callable[[str], bool], expected: str, most_files: int = 1
    ) -> None:
        """`fields` may stand beside the file; `takes` judges the media type of a raw body; `expected` names those for people.

        A form may hold up to `most_files` files, all of them parts with the same name.
        """
        self.fields: dict[str, str] = {}
        self.names: list[str | None] = []
        self.media_type, options = _media_type(request)
        self.is_form = self.media_type == FORM_TYPE
        self._chunks = request.stream()
        self._form: _Form | None = None
        if self.is_form:
            self._form = _Form(options.get(b"boundary", b""), fields, self.fields)
            self._form.take_files(self.names, most_files)
        elif not takes(self.media_type):
            raise UnsupportedTypeError(
                f"the body is {self.media_type}, which is not taken here",
                hint=f"send {expected}, or {FORM_TYPE} with a part named {FILE_PART}",
            )

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what is there of the file, as it comes."""
        async for _, piece in self.numbered():
            yield piece

    async def numbered(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the files' bytes as they come, each piece with the number of its file in `names`; empty files have no pieces."""
        if self._form is None:
            self.names.append(None)
        async for chunk in self._chunks:
            for number, piece in self._form.feed(chunk) if self._form else ((0, chunk),):
                if piece:
                    yield number, piece
        if self._form is not None:
            self._form.finish()


def sound_body(request: Request) -> FileBody:
    """Return the body of a request that brings one sound. Raises UnsupportedTypeError for any other type."""
    return FileBody(request, fields=frozenset(), takes=_is_sound, expected="audio/wav or another audio type")


def _is_sound(media_type: str) -> bool:
    return media_type.startswith("audio/") or media_type == "application/octet-stream"


class _Form:
    """The parser's callbacks, and the limits that it does not have."""

    def __init__(self, boundary: bytes, allowed: frozenset[str], fields: dict[str, str]) -> None:
        if not 0 < len(boundary) <= MAX_BOUNDARY:
            raise MalformedError(
                f"a form needs a boundary of 1 to {MAX_BOUNDARY} characters in its Content-Type", code="malformed_multipart"
            )
        self._allowed = allowed
        self._fields = fields
        self._pieces: list[tuple[int, bytes]] = []  # of the files, in the chunk that is being parsed
        self._header = [b"", b""]  # name and value, as they come
        self._disposition = b""
        self._name: str | None = None  # of the part that is being read
        self._value = bytearray()
        self._names: list[str | None] = []  # of the files that have begun
        self._most_files = 1
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_content,
                "on_part_data": self._content,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def take_files(self, names: list[str | None], most: int) -> None:
        """Write down in `names` what files are called, and take `most` of them."""
        self._names, self._most_files = names, most

    def feed(self, chunk: bytes) -> list[tuple[int, bytes]]:
        """Parse on; return the files' bytes in `chunk`, each piece with its file's number."""
        self._pieces = []
        if chunk:
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise MalformedError(f"the form is broken: {error}", code="malformed_multipart") from None
        return self._pieces

    def finish(self) -> None:
        """Judge the form as a whole."""
        if not self._ended:
            raise MalformedError("the form ends before its last boundary", code="malformed_multipart")
        if not self._names:
            raise ValidationError([{"pointer": f"/{FILE_PART}", "detail": "this part is missing"}])

    def _begin_part(self) -> None:
        self._disposition = b""
        self._value = bytearray()
        self._header = [b"", b""]

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _end_header(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]
        self._header = [b"", b""]

    def _begin_content(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("latin-1")
        if name == FILE_PART:
            problem = self._begin_file(options.get(b"filename"))
        elif name not in self._allowed:
            problem = f"not a part that is taken here; known: {', '.join(sorted(self._allowed | {FILE_PART}))}"
        elif len(self._fields) >= MAX_FIELDS:
            problem = f"more than {MAX_FIELDS} fields"
        else:
            problem = "this part stands twice" if name in self._fields else None
        if problem:
            raise ValidationError([{"pointer": f"/{name[:80]}", "detail": problem}])
        self._name = name

    def _begin_file(self, file_name: bytes | None) -> str | None:
        """Write down one more file; return what is wrong with that."""
        self._names.append(None if file_name is None else file_name.decode("utf-8", "replace")[:MAX_NAME])
        if len(self._names) <= self._most_files:
            return None
        return "this part stands twice" if self._most_files == 1 else f"more than {self._most_files} files"

    def _content(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE_PART:
            self._pieces.append((len(self._names) - 1, data[start:end]))
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise ValidationError([{"pointer": f"/{self._name}", "detail": f"longer than {MAX_FIELD_BYTES} bytes"}])

    def _end_part(self) -> None:
        if self._name is not None and self._name != FILE_PART:
            try:
                self._fields[self._name] = self._value.decode("utf-8")
            except UnicodeDecodeError:
                raise MalformedError(f"the field {self._name} is not UTF-8", code="malformed_multipart") from None
        self._name = None

    def _end(self) -> None:
        self._ended = True


def _media_type(request: Request) -> tuple[str, dict[bytes, bytes]]:
    """Return the body's type in lower case, octet-stream where none is named, and the parameters of the header."""
    kind, options = parse_options_header(request.headers.get("content-type", "application/octet-stream"))
    return kind.decode("latin-1"), options
