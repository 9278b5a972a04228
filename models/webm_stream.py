"""The sound packets of a WebM stream, told apart while its bytes come: what a browser's recorder sends has no end and no lengths.

WebM is EBML (RFC 8794) with Matroska's elements (RFC 9559): an id, a length, a content; some contain others. Of the tree only the way to
the packets is walked, everything else is skipped as it comes by, so no more than one element of the allowed size is ever held.
"""

from dataclasses import dataclass

from models.errors import MediaContentError, MediaTypeError

OPUS = "A_OPUS"
MAX_ELEMENT_BYTES = 65536  # an Opus packet of 120 ms has at most 7,662 bytes (RFC 6716, 3.4); descriptions are smaller still
_EBML, _SEGMENT, _CLUSTER, _BLOCK_GROUP, _TRACKS, _TRACK = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xA0, 0x1654AE6B, 0xAE
_BLOCK, _SIMPLE_BLOCK = 0xA1, 0xA3
_NUMBER, _CODEC, _PRIVATE = 0xD7, 0x86, 0x63A2
_ENTERED = frozenset({_SEGMENT, _CLUSTER, _BLOCK_GROUP, _TRACKS})
_READ = frozenset({_TRACK, _BLOCK, _SIMPLE_BLOCK})
_LACING = 0x06  # of a block's flags: several frames in one block


@dataclass(frozen=True)
class Track:
    """The first sound of the stream."""

    number: int
    codec: str
    private: bytes
    """the codec's own header"""


class WebmPackets:
    """Bytes in, packets out. Not for several threads at once."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.track: Track | None = None
        self._buffer = bytearray()
        self._skip = 0
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes, return the packets that they complete.

        Raises MediaTypeError (media_type_unsupported) for bytes that are no WebM or a track that isn't Opus, MediaContentError
        (audio_unreadable) for broken ones. After an error nothing more can be read.
        """
        self._buffer += data
        packets: list[bytes] = []
        while self._advance(packets):
            pass
        return packets

    def _advance(self, packets: list[bytes]) -> bool:
        """Consume one element, or the beginning of one that is entered; return False when more bytes are needed."""
        if self._skip:
            skipped = min(self._skip, len(self._buffer))
            del self._buffer[:skipped]
            self._skip -= skipped
            return not self._skip
        head = _head(self._buffer, begun=self._begun)
        if head is None:
            return False
        element, size, length = head
        if not self._begun and element != _EBML:
            raise _no_webm()
        self._begun = True
        if element in _ENTERED:
            del self._buffer[:size]
            return True
        if length is None:
            raise _broken(f"the element {element:X} has no length")
        if element not in _READ:
            del self._buffer[:size]
            self._skip = length
            return True
        return self._read(element, size, length, packets)

    def _read(self, element: int, size: int, length: int, packets: list[bytes]) -> bool:
        if length > MAX_ELEMENT_BYTES:
            raise _broken(f"the element {element:X} has {length} bytes, at most {MAX_ELEMENT_BYTES} are read")
        if len(self._buffer) < size + length:
            return False
        content = bytes(self._buffer[size : size + length])
        del self._buffer[: size + length]
        if element == _TRACK:
            self.track = self.track or _track(content)
        else:
            packets += self._packet(content)
        return True

    def _packet(self, block: bytes) -> list[bytes]:
        if self.track is None:
            raise _broken("sound comes before its description")
        number, width = _number(block, 0, keep_marker=False)
        if number is None or len(block) < width + 3:
            raise _broken("a block is too short")
        if number != self.track.number:
            return []  # of another track
        if block[width + 2] & _LACING:
            raise _broken("a block holds several packets, which recorders don't make")
        return [block[width + 3 :]]  # behind the number: two bytes of time and the flags


def _head(buffer: bytearray, *, begun: bool) -> tuple[int, int, int | None] | None:
    """Return an element's id, the bytes of its head and the length of its content, None for an unknown one; None while it is incomplete."""
    if buffer and not begun and buffer[0] != _EBML >> 24:
        raise _no_webm()
    element, id_width = _number(buffer, 0, keep_marker=True)
    if id_width > 4:
        raise _broken("what should be an element is none")
    length, width = _number(buffer, id_width, keep_marker=False) if element is not None else (None, 0)
    if element is None or length is None:
        return None
    unknown = length == (1 << 7 * width) - 1
    return element, id_width + width, None if unknown else length


def _number(data: bytes | bytearray, at: int, *, keep_marker: bool) -> tuple[int | None, int]:
    """Return a number of variable size (RFC 8794, 4) at `at` and its width in bytes; None for the number where bytes are missing."""
    if at >= len(data):
        return None, 0
    width = 9 - data[at].bit_length()  # leading zeros tell how many bytes there are
    if width > 8:
        raise _broken("a number has more than eight bytes")
    if len(data) < at + width:
        return None, width
    value = int.from_bytes(data[at : at + width], "big")
    return value if keep_marker else value & ((1 << 7 * width) - 1), width


def _track(content: bytes) -> Track:
    """Return the track that an entry describes."""
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(content):
        element, id_width = _number(content, at, keep_marker=True)
        length, width = _number(content, at + id_width, keep_marker=False)
        start = at + id_width + width
        if element is None or length is None or start + length > len(content):
            raise _broken("the description of a track is cut short")
        fields[element] = content[start : start + length]
        at = start + length
    codec = fields.get(_CODEC, b"").rstrip(b"\0").decode("latin-1")
    if codec != OPUS:
        raise MediaTypeError(f"The track is {codec[:40]!r}, only {OPUS} is read as it comes.", hint="Record audio/webm;codecs=opus.")
    return Track(int.from_bytes(fields.get(_NUMBER, b"\1"), "big"), codec, fields.get(_PRIVATE, b""))


def _no_webm() -> MediaTypeError:
    return MediaTypeError("The bytes are no WebM.", hint="Send what a recorder of audio/webm;codecs=opus gives, from its first byte.")


def _broken(what: str) -> MediaContentError:
    return MediaContentError(f"The WebM stream can't be read: {what}.", code="audio_unreadable")
