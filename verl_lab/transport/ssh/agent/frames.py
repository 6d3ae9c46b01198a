"""How both sides of the channel talk: JSON for what is said, bytes for what is carried."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO, Dict, Tuple  # noqa: UP035  Python 3.8 runs this

MARK = b"\0verl-lab agent 1\0"
"""Written once before the first frame: whatever came before it was said by the host's own start files."""

Head = Dict[str, Any]  # noqa: UP006  as above
Frame = Tuple[Head, bytes]  # noqa: UP006  as above

SIZES = struct.Struct(">II")
LARGEST_HEAD_BYTES = 2**26
LARGEST_BODY_BYTES = 2**30


def encode(head: Head, body_bytes: int = 0) -> bytes:
    """Return one frame up to its body. Names that are no UTF-8 travel as lone surrogates, escaped."""
    said = json.dumps(head, separators=(",", ":")).encode("ascii")
    return SIZES.pack(len(said), body_bytes) + said


def decode_sizes(content: bytes) -> Tuple[int, int]:  # noqa: UP006  as above
    """Return the sizes of a frame's two parts, from its first eight bytes."""
    head, body = SIZES.unpack(content)
    if head > LARGEST_HEAD_BYTES or body > LARGEST_BODY_BYTES:
        raise ValueError("what came is no frame")
    return head, body


def read_frame(source: BinaryIO) -> Frame | None:
    """Return the next frame, or None at the end, also if that is in the middle of one."""
    sizes = source.read(SIZES.size)
    if len(sizes) < SIZES.size:
        return None
    head_bytes, body_bytes = decode_sizes(sizes)
    said = source.read(head_bytes)
    body = source.read(body_bytes)
    if len(said) < head_bytes or len(body) < body_bytes:
        return None
    return json.loads(said), body
