"""Writes TensorFlow checkpoints of version 2 for tests, from the format's description and not from our reader.

Slow and small: the CRC32C is one table and one loop. Tests load this file by its path.
"""

import struct

import numpy as np

MAGIC = 0xDB4775248B80FB57
DATA_TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "bfloat16": 14, "float16": 19}


def _table_of_crc32c():
    table = []
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
        table.append(remainder)
    return table


CRC_TABLE = _table_of_crc32c()


def masked_crc(content):
    crc = 0xFFFFFFFF
    for byte in content:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17) & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def varint(number):
    number %= 2**64
    encoded = bytearray()
    while number >= 128:
        encoded.append(number % 128 + 128)
        number //= 128
    return bytes([*encoded, number])


def number_field(field, value):
    return varint(field * 8) + varint(value) if value else b""


def bytes_field(field, value):
    return varint(field * 8 + 2) + varint(len(value)) + value


def fixed32_field(field, value):
    return varint(field * 8 + 5) + struct.pack("<I", value)


def header(num_shards=1, endianness=0, min_consumer=0):
    version = number_field(1, 1) + number_field(2, min_consumer)
    return number_field(1, num_shards) + number_field(2, endianness) + bytes_field(3, version)


def entry(data_type, shape, shard, offset, content, sliced=False):
    dimensions = b"".join(bytes_field(2, number_field(1, size)) for size in shape)
    encoded = number_field(1, data_type) + bytes_field(2, dimensions) + number_field(3, shard)
    encoded += number_field(4, offset) + number_field(5, len(content)) + fixed32_field(6, masked_crc(content))
    return encoded + (bytes_field(7, b"") if sliced else b"")


def block(pairs, restart_every=16):
    content, restarts, last = b"", [], b""
    for index, (key, value) in enumerate(pairs):
        shared = 0
        if index % restart_every == 0:
            restarts.append(len(content))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return content + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(pairs, entries_a_block=40, compression=0):
    """The bytes of a table of sorted pairs."""
    file, index = b"", []

    def append(content):
        nonlocal file
        handle = varint(len(file)) + varint(len(content))
        content += bytes([compression])
        file += content + struct.pack("<I", masked_crc(content))
        return handle

    for start in range(0, len(pairs), entries_a_block):
        some = pairs[start : start + entries_a_block]
        index.append((some[-1][0], append(block(some))))
    meta = append(block([]))
    footer = meta + append(block(index, restart_every=1))
    return file + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def encoded(array, data_type):
    if data_type == "bfloat16":  # Cut off, which is exact for arrays made for this type.
        return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return array.astype(np.dtype(data_type).newbyteorder("<")).tobytes()


def write_checkpoint(prefix, arrays, *, num_shards=1, types=None, sliced=(), header_bytes=None, **of_table):
    """Write PREFIX.index and its shards; `types` names the type of a tensor where it is not that of its array."""
    shards = [b""] * num_shards
    pairs = [(b"", header(num_shards) if header_bytes is None else header_bytes)]
    for index, name in enumerate(sorted(arrays)):
        data_type = (types or {}).get(name, str(arrays[name].dtype))
        content, shard = encoded(arrays[name], data_type), index % num_shards
        described = entry(
            DATA_TYPES[data_type],
            arrays[name].shape,
            shard,
            len(shards[shard]),
            content,
            sliced=name in sliced,
        )
        pairs.append((name.encode(), described))
        shards[shard] += content
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(pairs, **of_table))
    for shard, content in enumerate(shards):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{num_shards:05d}").write_bytes(content)


def google_name(name):
    """The variable of google-research/bert for a parameter of transformers' BertForPreTraining, and if transposed.

    Written from the two models' sources: dense kernels are [in, out] there and weights [out, in] here.
    """
    fixed = {
        "cls.predictions.bias": "cls/predictions/output_bias",
        "cls.seq_relationship.weight": "cls/seq_relationship/output_weights",
        "cls.seq_relationship.bias": "cls/seq_relationship/output_bias",
    }
    if name in fixed:
        return fixed[name], False
    *path, parameter = name.split(".")
    joined = "/".join(path).replace("layer/", "layer_")
    if path[-1].endswith("_embeddings"):
        return joined, False
    if path[-1] == "LayerNorm":
        return f"{joined}/{'gamma' if parameter == 'weight' else 'beta'}", False
    return f"{joined}/{'kernel' if parameter == 'weight' else 'bias'}", parameter == "weight"


def google_arrays(model):
    """The weights of a BertForPreTraining under Google's names; the tied output layer is left out."""
    arrays = {}
    for name, parameter in model.named_parameters():
        if name.startswith("cls.predictions.decoder"):
            continue
        google, is_transposed = google_name(name)
        array = parameter.detach().numpy()
        arrays[google] = np.ascontiguousarray(array.T if is_transposed else array)
    return arrays
