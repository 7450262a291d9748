"""A TensorFlow checkpoint of version 2 without TensorFlow: which tensors it has, and each of them, checked.

`PREFIX.index` is a table (`tf_table.py`) whose values are protocol messages of tensor_bundle.proto: a header under the
empty key, then one entry a tensor. The numbers are in `PREFIX.data-00000-of-00001`, or in several such files. Called
by recipes/import_tf.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manylabel.errors import EncoderError, Finding
from manylabel.modeling.weights.tf_table import DAMAGED, Damage, masked_crc32c, read_table, read_varint

INDEX_SUFFIX = ".index"
LITTLE_ENDIAN = 0
KNOWN_VERSION = 1
"""kTensorBundleVersion of tensor_bundle.cc; a file says the oldest version that can read it."""
CHUNK_BYTES = 1 << 24
"""16 MiB at a time through the checksum, which wants bytes of its own."""

BFLOAT16 = "bfloat16"
FLOATING = {1: "float32", 2: "float64", 14: BFLOAT16, 19: "float16"}
"""Numbers of types.proto that can be weights."""
OTHER_TYPES = {
    3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64", 10: "bool", 17: "uint16",
    22: "uint32", 23: "uint64",
}  # fmt: skip
BYTES = {"float32": 4, "float64": 8, BFLOAT16: 2, "float16": 2}
WHOLE_WEIGHTS = "use a checkpoint whose weights are whole floating point tensors"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""A key that only checkpoints of TensorFlow 2's tf.train.Checkpoint have."""

Fields = Mapping[int, list[int | bytes]]


@dataclass(frozen=True)
class TensorEntry:
    """What the index says of a tensor: where its `size` bytes are, and their masked CRC32C."""

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    is_sliced: bool

    @property
    def count(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class TensorflowCheckpoint:
    """The index of a checkpoint; `prefix` is its path without `.index`."""

    prefix: Path
    num_shards: int
    entries: Mapping[str, TensorEntry] = field(repr=False)

    @property
    def is_object_based(self) -> bool:
        """Whether TensorFlow 2 wrote it with names of objects, not of variables."""
        return OBJECT_GRAPH in self.entries

    def shard_path(self, shard: int) -> Path:
        """The file of one shard, counted from 0."""
        name = f"{self.prefix.name}.data-{shard:05d}-of-{self.num_shards:05d}"
        return self.prefix.with_name(name)

    def require_readable(self, names: Iterable[str]) -> None:
        """Refuse before anything is written: shards that are missing or too short, tensors that are no weights.

        Raises `EncoderError` with every problem at once.
        """
        needed = {name: self.entries[name] for name in names}
        findings = [
            Finding("E157", f"{self.prefix}{INDEX_SUFFIX}", f"{name} {problem}", next_step=WHOLE_WEIGHTS)
            for name, entry in needed.items()
            if (problem := _problem(entry))
        ]
        ends: dict[int, int] = {}
        for entry in needed.values():
            ends[entry.shard] = max(ends.get(entry.shard, 0), entry.offset + entry.size)
        findings += [finding for shard, end in sorted(ends.items()) for finding in self._lacking(shard, end)]
        if findings:
            raise EncoderError(*findings)

    def _lacking(self, shard: int, end: int) -> Iterator[Finding]:
        path = self.shard_path(shard)
        if not path.is_file():
            found = f"no such file: shard {shard + 1} of {self.num_shards} is missing"
            yield Finding(
                "E158", str(path), found, next_step="put all files of the checkpoint into one folder"
            )
        elif (size := path.stat().st_size) < end:
            found = f"cut short: {size:,} bytes, the index asks for {end:,}"
            yield Finding("E158", str(path), found, next_step=DAMAGED)

    def read(self, name: str) -> npt.NDArray[np.float32]:
        """One tensor as fp32, after its checksum has been compared.

        Raises `EncoderError` where its bytes are damaged or a number is not finite.
        """
        entry = self.entries[name]
        path = self.shard_path(entry.shard)
        data = np.empty(entry.size, np.uint8)
        checksum = masked_crc32c(_chunks(path, entry, data))
        if checksum != entry.checksum:
            found = f"{name} at byte {entry.offset:,} is damaged: its CRC32C does not match"
            raise EncoderError(Finding("E159", str(path), found, next_step=DAMAGED))
        array = _as_float32(data, entry.dtype).reshape(entry.shape)
        # NaN and infinity survive in minimum or maximum: one pass each, and no array of booleans.
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            found = f"{name} has NaN or infinity"
            raise EncoderError(Finding("E160", str(path), found, next_step="use an undamaged checkpoint"))
        return array


def open_checkpoint(prefix: Path) -> TensorflowCheckpoint:
    """Read and check `PREFIX.index`; the shards are not touched.

    Raises `EncoderError` that names the damaged block or entry, or what of the format is not read.
    """
    path = prefix.with_name(prefix.name + INDEX_SUFFIX)
    table = read_table(path)
    try:
        num_shards = _read_header(table.pop(b"", None))
        entries = {}
        for key, value in table.items():
            name = key.decode("utf-8", "backslashreplace")  # Keys of slices are no text.
            entries[name] = _read_entry(name, value, num_shards)
    except Damage as damage:
        raise damage.at(str(path)) from None
    return TensorflowCheckpoint(prefix, num_shards, entries)


def _read_header(value: bytes | None) -> int:
    """The number of shards, from BundleHeaderProto: num_shards 1, endianness 2, version 3 with min_consumer 2."""
    if value is None:
        raise Damage(
            "a table without the header of a checkpoint", code="E156", next_step="give the .index of one"
        )
    header = read_message(value)
    if _integer(header, 2) != LITTLE_ENDIAN:
        next_step = "save the checkpoint on a little-endian machine"
        raise Damage("written on a big-endian machine, which is not read", code="E156", next_step=next_step)
    oldest = _integer(read_message(_bytes(header, 3)), 2)
    if oldest > KNOWN_VERSION:
        next_step = "save the checkpoint with an older TensorFlow"
        raise Damage(
            f"its format asks for version {oldest}, known is {KNOWN_VERSION}",
            code="E156",
            next_step=next_step,
        )
    num_shards = _integer(header, 1)
    if not 0 < num_shards < 100_000:  # Five digits in the files' names.
        raise Damage(f"{num_shards:,} shards", code="E156")
    return num_shards


def _read_entry(name: str, value: bytes, num_shards: int) -> TensorEntry:
    """BundleEntryProto: dtype 1, shape 2, shard_id 3, offset 4, size 5, crc32c 6, slices 7."""
    fields = read_message(value)
    number = _integer(fields, 1)
    entry = TensorEntry(
        dtype=FLOATING.get(number) or OTHER_TYPES.get(number) or f"type {number}",
        shape=_read_shape(_bytes(fields, 2)),
        shard=_integer(fields, 3),
        offset=_integer(fields, 4),
        size=_integer(fields, 5),
        checksum=_integer(fields, 6),
        is_sliced=7 in fields,
    )
    sizes = (*entry.shape, entry.offset, entry.size, entry.shard)
    if min(sizes) < 0 or entry.shard >= num_shards:
        raise Damage(f"the entry of {name} has an impossible size, place or shard", code="E157")
    return entry


def _read_shape(value: bytes) -> tuple[int, ...]:
    """TensorShapeProto: dim 2, each with size 1."""
    return tuple(
        _integer(read_message(_as_bytes(dimension)), 1) for dimension in read_message(value).get(2, [])
    )


def _problem(entry: TensorEntry) -> str:
    """Why a tensor cannot be a weight, in words after its name; empty where it can."""
    if entry.is_sliced:
        return "is stored in slices, which are not read"
    if entry.dtype not in BYTES:
        return f"has the type {entry.dtype}, a weight has {', '.join(BYTES)}"
    if entry.size != entry.count * BYTES[entry.dtype]:
        return f"has {entry.size:,} bytes, its shape {list(entry.shape)} asks for another number"
    return ""


def _chunks(path: Path, entry: TensorEntry, into: npt.NDArray[np.uint8]) -> Iterator[bytes]:
    """The bytes of a tensor piece by piece, each also copied to its place in `into`.

    Read and not memory-mapped: a file that becomes shorter meanwhile would end the process, and mapped pages count as
    memory.
    """
    at = 0
    with path.open("rb") as file:
        file.seek(entry.offset)
        while at < entry.size and (chunk := file.read(min(CHUNK_BYTES, entry.size - at))):
            into[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
            at += len(chunk)
            yield chunk


def _as_float32(data: npt.NDArray[np.uint8], dtype: str) -> npt.NDArray[np.float32]:
    """Little-endian bytes as fp32; a float64 beyond its range becomes infinite."""
    if dtype == BFLOAT16:  # The upper half of an fp32.
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return data.view(np.dtype(dtype).newbyteorder("<")).astype(np.float32, copy=False)


def read_message(data: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a protocol message by number: integers, or bytes for strings and messages inside.

    Wire types of protobuf's encoding document: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes. Raises
    `Damage`.
    """
    fields: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        value: int | bytes
        if wire_type == 0:
            value, at = read_varint(data, at)
        else:
            if wire_type == 2:
                size, at = read_varint(data, at)
            elif wire_type in (1, 5):
                size = 8 if wire_type == 1 else 4
            else:
                raise Damage("an entry is no protocol message", code="E157")
            piece, at = data[at : at + size], at + size
            value = piece if wire_type == 2 else int.from_bytes(piece, "little")
        if at > len(data):
            raise Damage("an entry is cut short", code="E157")
        fields.setdefault(number, []).append(value)
    return fields


def _integer(fields: Fields, number: int) -> int:
    """The last value of a field as a signed 64-bit integer; 0 where it is absent, as protobuf has it."""
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise Damage("an entry has bytes where a number belongs", code="E157")
    return value - (1 << 64) if value >= 1 << 63 else value


def _bytes(fields: Fields, number: int) -> bytes:
    return _as_bytes(fields.get(number, [b""])[-1])


def _as_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise Damage("an entry has a number where a message belongs", code="E157")
    return value
