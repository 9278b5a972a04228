from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import MediaContentError, MediaError, MediaTypeError
from models.webm_stream import MAX_ELEMENT_BYTES, WebmPackets

PRIVATE = b"OpusHead" + bytes(11)


def element(identity: int, content: bytes, *, size: int | None = None) -> bytes:
    """An element with a length of eight bytes; `size` -1: unknown."""
    length = len(content) if size is None else size
    name = identity.to_bytes((identity.bit_length() + 7) // 8, "big")
    return name + (b"\x01" + b"\xff" * 7 if length < 0 else b"\x01" + length.to_bytes(7, "big")) + content


def entry(codec: bytes = b"A_OPUS", number: int = 1, private: bytes = PRIVATE) -> bytes:
    return element(0xAE, element(0xD7, bytes([number])) + element(0x86, codec) + element(0x63A2, private))


def block(packet: bytes, number: int = 1, flags: int = 0x80) -> bytes:
    return bytes([0x80 | number]) + b"\0\0" + bytes([flags]) + packet


HEAD = element(0x1A45DFA3, element(0x4282, b"webm"))
TRACKS = element(0x1654AE6B, entry())
PACKETS = [bytes([index]) * (1 + 13 * index) for index in range(6)]
LIVE = (
    HEAD
    + element(0x18538067, b"", size=-1)  # a recorder knows no length in advance
    + element(0x1549A966, b"info, skipped")
    + TRACKS
    + element(0x1F43B675, element(0xE7, b"\0"), size=-1)
    + b"".join(element(0xA3, block(packet)) for packet in PACKETS[:3])
    + element(0xA3, block(b"a picture", number=2))
    + element(0x1F43B675, element(0xA0, element(0xA1, block(PACKETS[3])) + element(0x75A2, b"\1")))
    + element(0x1F43B675, b"".join(element(0xA3, block(packet)) for packet in PACKETS[4:]))
)


def test_packets_come_out_in_order_without_those_of_other_tracks() -> None:
    stream = WebmPackets()
    assert stream.feed(LIVE) == PACKETS
    assert stream.track is not None
    assert (stream.track.number, stream.track.codec, stream.track.private) == (1, "A_OPUS", PRIVATE)


@given(st.lists(st.integers(0, len(LIVE)), max_size=12))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    stream = WebmPackets()
    edges = [0, *sorted(cuts), len(LIVE)]
    assert [packet for start, end in pairwise(edges) for packet in stream.feed(LIVE[start:end])] == PACKETS


def test_each_packet_comes_with_its_last_byte() -> None:
    stream = WebmPackets()
    first = LIVE.index(block(PACKETS[0])) + len(block(PACKETS[0]))
    assert stream.feed(LIVE[: first - 1]) == []
    assert stream.feed(LIVE[first - 1 : first]) == PACKETS[:1]


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"RIFF....WAVE", MediaTypeError, "no WebM"),
        (b"\x1aXYZ\x80", MediaTypeError, "no WebM"),
        (HEAD + element(0x18538067, element(0x1654AE6B, entry(b"A_VORBIS")), size=-1), MediaTypeError, "A_VORBIS"),
        (HEAD + element(0x18538067, element(0x1F43B675, element(0xA3, block(b"x"))), size=-1), MediaContentError, "before its description"),
        (HEAD + element(0x18538067, TRACKS + element(0xA3, b"\x81\0"), size=-1), MediaContentError, "too short"),
        (HEAD + element(0x18538067, TRACKS + element(0xA3, block(b"x", flags=0x02)), size=-1), MediaContentError, "several packets"),
        (HEAD + element(0x18538067, element(0xA3, b"", size=MAX_ELEMENT_BYTES + 1), size=-1), MediaContentError, "at most"),
        (HEAD + element(0x1549A966, b"", size=-1), MediaContentError, "no length"),
        (HEAD + b"\0", MediaContentError, "eight bytes"),
        (HEAD + b"\x08aaaa", MediaContentError, "is none"),
        (HEAD + element(0x18538067, element(0x1654AE6B, element(0xAE, b"\x86\x87A_OP")), size=-1), MediaContentError, "cut short"),
    ],
)
def test_what_is_broken_is_told(data: bytes, kind: type[MediaError], words: str) -> None:
    with pytest.raises(kind, match=words):
        WebmPackets().feed(data)


@given(st.lists(st.tuples(st.integers(0, len(LIVE) - 1), st.integers(0, 255)), min_size=1, max_size=8), st.integers(1, 60))
def test_damaged_streams_raise_nothing_but_our_own_errors(damage: list[tuple[int, int]], size: int) -> None:
    data = bytearray(LIVE)
    for at, value in damage:
        data[at] = value
    stream = WebmPackets()
    try:
        for start in range(0, len(data), size):
            stream.feed(bytes(data[start : start + size]))
    except MediaError:
        pass
    assert len(stream._buffer) <= MAX_ELEMENT_BYTES + 12


def test_what_is_skipped_is_not_kept() -> None:
    stream = WebmPackets()
    stream.feed(HEAD + element(0x18538067, element(0x1549A966, b"", size=2**40), size=-1))
    for _ in range(100):
        assert stream.feed(bytes(65536)) == []
    assert len(stream._buffer) == 0
