"""The sorted table of keys and values in which TensorFlow keeps the index of a checkpoint; read by `tf_checkpoint.py`.

The format is LevelDB's, as TensorFlow's core/lib/io/table_builder.cc and format.cc write it: data blocks, an index
block that says where they are, a footer that says where that is. In a block every key repeats the beginning of the
one before it. Every block ends with its kind of compression and a CRC32C. Nothing in the file is trusted: each length
is held against what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from google_crc32c import extend

from manylabel.errors import EncoderError, Finding

MAGIC = 0xDB4775248B80FB57
"""The last eight bytes of such a file, little-endian (format.h)."""
FOOTER_BYTES = 48
TRAILER_BYTES = 5
"""After each block: one byte of compression, four of CRC32C."""
UNCOMPRESSED, SNAPPY = 0, 1
MASK_DELTA = 0xA282EAD8
"""Stored checksums are rotated by 15 bits and moved by this (crc32c.h)."""
MAX_VARINT_BYTES = 10
MAX_TABLE_BYTES = 1 << 26
"""64 MiB, for the file and for its keys and values written out; the index of a BERT-Large has 0.1 MB."""

DAMAGED = "fetch the checkpoint again"


class Damage(ValueError):
    """What is wrong with bytes, as the words of a `Finding`; the readers of files turn it into an `EncoderError`."""

    def __init__(self, found: str, *, code: str = "E153", next_step: str = DAMAGED) -> None:
        """Say what was found."""
        super().__init__(found)
        self.code, self.found, self.next_step = code, found, next_step

    def at(self, place: str) -> EncoderError:
        """The error a user sees, with the file's name."""
        return EncoderError(Finding(self.code, place, self.found, next_step=self.next_step))


@dataclass(frozen=True)
class BlockHandle:
    """Where a block is: its first byte and its length without the trailer."""

    offset: int
    size: int


def read_table(path: Path) -> dict[bytes, bytes]:
    """All keys and values of a table file, in the file's order, which is that of the keys.

    Raises `EncoderError` that says which block is damaged or compressed; OSError where the file cannot be read.
    """
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise Damage(f"larger than {MAX_TABLE_BYTES >> 20} MiB, which no index of BERT is")
        return parse_table(path.read_bytes())
    except Damage as damage:
        raise damage.at(str(path)) from None


def parse_table(content: bytes) -> dict[bytes, bytes]:
    """The keys and values of a table's bytes; raises `Damage`."""
    meta, index = _footer(content)
    _block(content, meta, "meta block")
    result: dict[bytes, bytes] = {}
    last, total = b"", 0
    for number, (_, value) in enumerate(_entries(_block(content, index, "index block"), "index block"), 1):
        name = f"data block {number}"
        handle, _ = _handle(value, 0)
        for key, entry in _entries(_block(content, handle, name), name):
            if result and key <= last:
                raise Damage(f"{name}: its keys are not in order")
            total += len(key) + len(entry)
            if total > MAX_TABLE_BYTES:  # Shared beginnings let a small file hold very long keys.
                raise Damage(f"{name}: more names than any BERT has")
            result[key] = entry
            last = key
    return result


def _footer(content: bytes) -> tuple[BlockHandle, BlockHandle]:
    """Handles of the meta block and the index block."""
    footer = content[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or int.from_bytes(footer[-8:], "little") != MAGIC:
        raise Damage("no index of a TensorFlow checkpoint, or cut short: its last bytes are not the format's")
    meta, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    return meta, index


def _handle(data: bytes, at: int) -> tuple[BlockHandle, int]:
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return BlockHandle(offset, size), at


def _block(content: bytes, handle: BlockHandle, name: str) -> bytes:
    """A block's bytes, whole by their checksum and not compressed."""
    end = handle.offset + handle.size
    if end + TRAILER_BYTES > len(content) - FOOTER_BYTES:
        raise Damage(
            f"{name} would end at byte {end + TRAILER_BYTES:,} of {len(content):,}: damaged or cut short"
        )
    stored = int.from_bytes(content[end + 1 : end + TRAILER_BYTES], "little")
    if masked_crc32c([content[handle.offset : end + 1]]) != stored:
        raise Damage(f"{name} at byte {handle.offset:,} is damaged: its CRC32C does not match", code="E154")
    kind = content[end]
    if kind != UNCOMPRESSED:
        how = "with snappy" if kind == SNAPPY else f"in an unknown way ({kind})"
        next_step = "save the checkpoint with TensorFlow's own Saver, which does not compress"
        raise Damage(f"{name} is compressed {how}, which is not read", code="E155", next_step=next_step)
    return content[handle.offset : end]


def _entries(block: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block: shared bytes with the key before, own bytes, and the value's."""
    num_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (num_restarts + 1)
    if len(block) < 4 or end < 0:
        raise Damage(f"{name}: its list of restarts is longer than the block")
    at, key = 0, b""
    while at < end:
        num_shared, at = read_varint(block, at)
        num_own, at = read_varint(block, at)
        num_value, at = read_varint(block, at)
        if num_shared > len(key) or at + num_own + num_value > end:
            raise Damage(f"{name}: an entry is longer than the block")
        key = key[:num_shared] + block[at : at + num_own]
        at += num_own + num_value
        yield key, block[at - num_value : at]


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at byte `at`, seven bits a byte with the lowest first, and the place after it; raises `Damage`."""
    value = 0
    for index, byte in enumerate(data[at : at + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise Damage("a number is cut short or too long")


def masked_crc32c(chunks: Iterable[bytes]) -> int:
    """The checksum of `chunks` one after the other, as TensorFlow stores it (32 bits)."""
    crc = 0
    for chunk in chunks:
        crc = extend(crc, chunk)
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF
