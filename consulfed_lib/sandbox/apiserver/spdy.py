"""SPDY/3.1 frames, as kubectl sends them through a WebSocket for `port-forward`.

Only what that needs: streams that the client opens, data, half-close, reset, ping, goaway. There is no flow
control, because the client's library has none.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 1
_VERSION = 3
_LARGEST_FRAME = 1 << 20

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges "
    "age allow authorization cache-control connection content-base content-encoding content-language "
    "content-length content-location content-md5 content-range content-type date etag expect expires from "
    "host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location "
    "max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer "
    "transfer-encoding upgrade user-agent vary via warning www-authenticate method get status"
)
_MORE_WORDS = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 "
    "Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 "
    "Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr "
    "May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,"
    "image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.encode() for word in (*_WORDS.split(), *_MORE_WORDS))
    + _TAIL.encode()
)
"""The dictionary with which SPDY/3 compresses headers (draft-mbelshe-httpbis-spdy-00, section 2.6.10.1)."""


class SpdyError(Exception):
    """The peer sent something that is no SPDY/3.1."""


@dataclass(frozen=True)
class Frame:
    """One frame. `kind` is 0 for data; `headers` is set for SYN_STREAM, SYN_REPLY and HEADERS."""

    kind: int
    stream: int
    flags: int = 0
    data: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Codec:
    """Both directions of one SPDY connection: headers are compressed over its whole life."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with this data."""
        self._buffer += data
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            size = second & 0xFFFFFF
            if size > _LARGEST_FRAME:
                raise SpdyError(f"a frame of {size} bytes")
            if len(self._buffer) < 8 + size:
                return
            payload = bytes(self._buffer[8 : 8 + size])
            del self._buffer[: 8 + size]
            flags = second >> 24
            if not first >> 31:
                yield Frame(0, first & 0x7FFFFFFF, flags, payload)
                continue
            if (first >> 16) & 0x7FFF != _VERSION:
                raise SpdyError(f"version {(first >> 16) & 0x7FFF}")
            yield self._control(first & 0xFFFF, flags, payload)

    def _control(self, kind: int, flags: int, payload: bytes) -> Frame:
        stream = struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF if len(payload) >= 4 else 0
        if kind in (SYN_STREAM, SYN_REPLY, HEADERS):
            start = 10 if kind == SYN_STREAM else 4
            return Frame(kind, stream, flags, headers=self._headers(payload[start:]))
        return Frame(kind, stream, flags, payload)

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            data = self._inflate.decompress(block)
            (count,) = struct.unpack_from(">I", data)
            found, position = {}, 4
            for _ in range(count):
                name, position = _text(data, position)
                value, position = _text(data, position)
                found[name.lower()] = value.partition("\0")[0]
        except (zlib.error, struct.error) as error:
            raise SpdyError(f"headers: {error}") from None
        return found

    def syn_reply(self, stream: int, headers: dict[str, str] | None = None) -> bytes:
        pairs = headers or {}
        block = struct.pack(">I", len(pairs))
        for name, value in pairs.items():
            for text in (name.encode(), value.encode()):
                block += struct.pack(">I", len(text)) + text
        packed = self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control_frame(SYN_REPLY, 0, struct.pack(">I", stream) + packed)


def _text(data: bytes, position: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">I", data, position)
    position += 4
    return data[position : position + size].decode(errors="replace"), position + size


def _control_frame(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack(">II", 1 << 31 | _VERSION << 16 | kind, flags << 24 | len(payload)) + payload


def data_frame(stream: int, data: bytes, end: bool = False) -> bytes:
    return struct.pack(">II", stream, (FIN if end else 0) << 24 | len(data)) + data


def reset(stream: int, status: int = 5) -> bytes:
    """RST_STREAM; status 5 is CANCEL."""
    return _control_frame(RST_STREAM, 0, struct.pack(">II", stream, status))


def ping(payload: bytes) -> bytes:
    return _control_frame(PING, 0, payload[:4])
