import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from manylabel.errors import EncoderError
from manylabel.modeling.weights.names import PRETRAINING_PARTS, tensorflow_table
from manylabel.modeling.weights.stream import write_float32
from manylabel.modeling.weights.tf_checkpoint import open_checkpoint, read_message
from manylabel.modeling.weights.tf_plan import plan_import
from manylabel.modeling.weights.tf_table import Damage, masked_crc32c, parse_table, read_varint

_SPEC = importlib.util.spec_from_file_location(
    "tensorflow_files", Path(__file__).parents[3] / "tensorflow_files.py"
)
files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(files)

CONFIG = {
    "model_type": "bert",
    "vocab_size": 7,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 6,
    "type_vocab_size": 2,
}


def bert_arrays():
    from transformers import BertConfig, BertForPreTraining

    return files.google_arrays(BertForPreTraining(BertConfig(**CONFIG)))


@pytest.fixture
def some_arrays():
    draw = np.random.default_rng(1)
    return {
        f"group_{index // 10}/tensor_{index}": draw.random((3, index % 4 + 1), np.float32)
        for index in range(90)
    }


def test_the_checksum_is_that_of_rfc_3720():
    # Appendix B.4: 32 bytes of zeros have 0x8A9136AA. Masking: rotate right by 15, add 0xA282EAD8.
    rotated = 0x8A9136AA >> 15 | (0x8A9136AA << 17) & 0xFFFFFFFF
    assert masked_crc32c([bytes(16), bytes(16)]) == (rotated + 0xA282EAD8) % 2**32
    assert files.masked_crc(bytes(32)) == masked_crc32c([bytes(32)])


@pytest.mark.parametrize(("number", "encoded"), [(0, b"\0"), (127, b"\x7f"), (300, b"\xac\x02")])
def test_varints(number, encoded):
    # 300 as AC 02 is the example of protobuf's encoding document.
    assert read_varint(b"x" + encoded + b"\x01", 1) == (number, 1 + len(encoded))
    with pytest.raises(Damage):
        read_varint(b"\x80" * 11, 0)
    with pytest.raises(Damage):
        read_varint(b"\x80", 0)


def test_fields_of_a_message_by_number():
    # Field 1 = 150 is 08 96 01, field 2 = "testing" is 12 07 74 65 73 74 69 6e 67 in the encoding document.
    message = bytes.fromhex("0896011207") + b"testing" + bytes.fromhex("1d01000000") + bytes.fromhex("0805")
    assert read_message(message) == {1: [150, 5], 2: [b"testing"], 3: [1]}
    for broken in (b"\x0b", b"\x12\x07test", b"\x1d\x01", b"\x08"):
        with pytest.raises(Damage):
            read_message(broken)


@pytest.mark.parametrize(("num_shards", "entries_a_block"), [(1, 40), (3, 7), (2, 1000)])
def test_what_was_written_is_read(tmp_path, some_arrays, num_shards, entries_a_block):
    prefix = tmp_path / "model.ckpt"
    files.write_checkpoint(prefix, some_arrays, num_shards=num_shards, entries_a_block=entries_a_block)
    checkpoint = open_checkpoint(prefix)
    checkpoint.require_readable(some_arrays)
    assert checkpoint.num_shards == num_shards
    assert list(checkpoint.entries) == sorted(some_arrays)
    for name, array in some_arrays.items():
        np.testing.assert_array_equal(checkpoint.read(name), array)


@pytest.mark.parametrize("data_type", ["float64", "float16", "bfloat16"])
def test_other_floating_types_become_fp32(tmp_path, data_type):
    array = np.array([[0.0, -1.5, 2.0**-9], [65280.0, 3.0, -0.25]], np.float32)  # Exact in all of them.
    files.write_checkpoint(tmp_path / "c", {"a": array}, types={"a": data_type})
    found = open_checkpoint(tmp_path / "c").read("a")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array)


def test_no_flipped_bit_of_the_index_changes_what_is_read(some_arrays, tmp_path):
    some = dict(list(some_arrays.items())[:6])
    files.write_checkpoint(tmp_path / "c", some, entries_a_block=3)
    content = (tmp_path / "c.index").read_bytes()
    right = parse_table(content)
    refused = 0
    for at in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[at] ^= 1 << bit
            try:
                assert parse_table(bytes(changed)) == right
            except Damage:
                refused += 1
    # What changes nothing: the zeros that fill the footer to 40 bytes, and a last number that goes on into one of them.
    assert refused == 8 * (len(content) - content[-48:-8].count(0, 6)) - 1


def test_every_cut_index_is_refused(tmp_path, some_arrays):
    files.write_checkpoint(tmp_path / "c", some_arrays)
    content = (tmp_path / "c.index").read_bytes()
    for length in range(0, len(content), 13):
        with pytest.raises(Damage):
            parse_table(content[:length])


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"compression": 1}, "E155", "snappy"),
        ({"compression": 4}, "E155", "unknown way"),
        ({"header_bytes": files.header(endianness=1)}, "E156", "big-endian"),
        ({"header_bytes": files.header(min_consumer=2)}, "E156", "version 2"),
        ({"header_bytes": files.header(num_shards=0)}, "E156", "0 shards"),
        ({"header_bytes": b"\x0a\x01"}, "E157", "cut short"),
        ({"header_bytes": b"\x12\x01a"}, "E157", "bytes where a number belongs"),
    ],
)
def test_foreign_formats_are_refused_by_name(tmp_path, some_arrays, change, code, words):
    files.write_checkpoint(tmp_path / "c", some_arrays, **change)
    with pytest.raises(EncoderError, match=rf"{code} .*c\.index: .*{words}"):
        open_checkpoint(tmp_path / "c")


def table_of(pairs):
    return files.table([(b"", files.header()), *pairs])


@pytest.mark.parametrize(
    "described",
    [
        files.entry(1, (2, -1), 0, 0, b""),
        files.entry(1, (2,), 3, 0, bytes(8)),
        files.entry(1, (2,), 0, -8, bytes(8)),
    ],
)
def test_impossible_entries_are_refused(tmp_path, described):
    (tmp_path / "c.index").write_bytes(table_of([(b"a", described)]))
    with pytest.raises(EncoderError, match=r"E157 .*the entry of a"):
        open_checkpoint(tmp_path / "c")


def test_keys_out_of_order_and_a_table_without_header_are_refused(tmp_path):
    (tmp_path / "c.index").write_bytes(table_of([(b"b", b""), (b"a", b"")]))
    with pytest.raises(EncoderError, match="not in order"):
        open_checkpoint(tmp_path / "c")
    (tmp_path / "c.index").write_bytes(files.table([(b"a", b"")]))
    with pytest.raises(EncoderError, match="E156"):
        open_checkpoint(tmp_path / "c")


def test_all_problems_of_the_shards_are_said_at_once(tmp_path, some_arrays):
    some_arrays["counted"] = np.arange(4, dtype=np.int64)
    files.write_checkpoint(tmp_path / "c", some_arrays, num_shards=3, sliced=["group_0/tensor_1"])
    (tmp_path / "c.data-00001-of-00003").unlink()
    last = tmp_path / "c.data-00002-of-00003"
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(EncoderError) as caught:
        open_checkpoint(tmp_path / "c").require_readable(some_arrays)
    found = [(finding.code, Path(finding.place).name, finding.found) for finding in caught.value.findings]
    assert [code for code, _, _ in found] == ["E157", "E157", "E158", "E158"]
    assert "slices" in found[0][2] + found[1][2]
    assert "int64" in found[0][2] + found[1][2]
    assert found[2][1:] == ("c.data-00001-of-00003", "no such file: shard 2 of 3 is missing")
    assert found[3][1] == "c.data-00002-of-00003"


def test_a_size_that_contradicts_the_shape_is_refused(tmp_path):
    (tmp_path / "c.index").write_bytes(table_of([(b"a", files.entry(1, (3,), 0, 0, bytes(8)))]))
    (tmp_path / "c.data-00000-of-00001").write_bytes(bytes(8))
    with pytest.raises(EncoderError, match=r"a has 8 bytes, its shape \[3\]"):
        open_checkpoint(tmp_path / "c").require_readable(["a"])


def test_damaged_numbers_are_named(tmp_path, some_arrays):
    files.write_checkpoint(tmp_path / "c", some_arrays)
    shard = tmp_path / "c.data-00000-of-00001"
    content = bytearray(shard.read_bytes())
    checkpoint = open_checkpoint(tmp_path / "c")
    content[checkpoint.entries["group_2/tensor_25"].offset] ^= 1
    shard.write_bytes(content)
    with pytest.raises(EncoderError, match=r"E159 .*data-00000-of-00001: group_2/tensor_25 at byte"):
        checkpoint.read("group_2/tensor_25")
    assert checkpoint.read("group_2/tensor_24").shape == (3, 1)
    shard.write_bytes(content[:5])  # Cut short between the check and the read.
    with pytest.raises(EncoderError, match="E159"):
        checkpoint.read("group_2/tensor_24")


@pytest.mark.parametrize(
    ("value", "data_type"), [(np.nan, "float32"), (-np.inf, "float32"), (1e300, "float64")]
)
def test_numbers_that_are_not_finite_in_fp32_are_refused(tmp_path, value, data_type):
    array = np.array([1.0, value], data_type)
    files.write_checkpoint(tmp_path / "c", {"a": array})
    with pytest.raises(EncoderError, match=r"E160 .*a has NaN or infinity"):
        open_checkpoint(tmp_path / "c").read("a")


def test_names_of_all_parameters_are_those_of_google_and_reversible():
    from transformers import BertConfig, BertForPreTraining

    table = tensorflow_table(2)
    parameters = dict(BertForPreTraining(BertConfig(**CONFIG)).named_parameters())
    expected = {name: files.google_name(name) for name in parameters if "decoder" not in name}
    assert {name: (variable.name, variable.is_transposed) for name, variable in table.items()} == expected
    assert len({variable.name for variable in table.values()}) == len(table)
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for variable in table.values():
        np.testing.assert_array_equal(variable.turned(variable.turned(array)), array)


def test_the_plan_takes_every_part_and_counts_the_rest(tmp_path):
    arrays = bert_arrays()
    slots = {f"{name}/{slot}": array for name, array in arrays.items() for slot in ("adam_m", "adam_v")}
    others = {"global_step": np.array(7, np.int64), "output_bias": np.zeros(2, np.float32)}
    files.write_checkpoint(tmp_path / "c", {**arrays, **slots, **others})
    plan = plan_import(open_checkpoint(tmp_path / "c"), CONFIG)
    assert {tensor.variable.name for tensor in plan.tensors} == set(arrays)
    assert plan.parts == tuple(PRETRAINING_PARTS)
    assert plan.architecture == "BertForPreTraining"
    assert plan.num_optimizer == len(slots) + 1
    assert plan.other_names == ("output_bias",)


@pytest.mark.parametrize(
    ("left_out", "parts", "architecture"),
    [
        ("cls/seq", ("pooler", "masked language model head"), "BertModel"),
        ("cls/", ("pooler",), "BertModel"),
        ("bert/pooler|cls/seq", ("masked language model head",), "BertForMaskedLM"),
        ("bert/pooler|cls/", (), "BertModel"),
    ],
)
def test_parts_that_are_not_there_are_left_out(tmp_path, left_out, parts, architecture):
    arrays = {name: array for name, array in bert_arrays().items() if not re.match(left_out, name)}
    files.write_checkpoint(tmp_path / "c", arrays)
    plan = plan_import(open_checkpoint(tmp_path / "c"), CONFIG)
    assert plan.parts == parts
    assert plan.architecture == architecture


@pytest.mark.parametrize(
    "name",
    ["bert/pooler/dense/bias", "cls/predictions/output_bias", "bert/encoder/layer_0/output/dense/kernel"],
)
def test_a_missing_tensor_is_named(tmp_path, name):
    arrays = bert_arrays()
    del arrays[name]
    files.write_checkpoint(tmp_path / "c", arrays)
    with pytest.raises(EncoderError, match=rf"E161 .*without 1 of 46 tensors: {name}\."):
        plan_import(open_checkpoint(tmp_path / "c"), CONFIG)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"vocab_size": 8},
            r"bert/embeddings/word_embeddings is \[7, 4\], it says \[8, 4\] \(vocab_size, hidden_size\)",
        ),
        (
            {"intermediate_size": 6},
            r"dense/kernel is \[4, 8\], it says \[4, 6\] \(hidden_size, intermediate_size\)",
        ),
        ({"max_position_embeddings": 512}, "1 tensors contradict"),
        ({"type_vocab_size": 3}, "type_vocab_size"),
        ({"hidden_size": 8}, "42 tensors contradict.* and 34 more"),
        ({"num_hidden_layers": 1}, r"2 layers \(the highest is layer_1\), bert_config.json says 1"),
        ({"num_hidden_layers": 3}, "bert_config.json says 3"),
    ],
)
def test_a_config_that_contradicts_the_shapes_is_refused(tmp_path, change, words):
    files.write_checkpoint(tmp_path / "c", bert_arrays())
    with pytest.raises(EncoderError, match=f"E162 .*{words}"):
        plan_import(open_checkpoint(tmp_path / "c"), CONFIG | change)


def test_object_based_checkpoints_are_told_apart(tmp_path):
    arrays = {"_CHECKPOINTABLE_OBJECT_GRAPH": np.zeros(1, np.float32)}
    files.write_checkpoint(tmp_path / "c", arrays)
    with pytest.raises(EncoderError, match="E168"):
        plan_import(open_checkpoint(tmp_path / "c"), CONFIG)


def test_streamed_tensors_are_what_safetensors_reads(tmp_path):
    draw = np.random.default_rng(2)
    arrays = {
        "b": draw.random((3, 5), np.float32).T,
        "a.weight": draw.random(7, np.float32),
        "none": np.zeros((0, 4), np.float32),
    }
    path = tmp_path / "m.safetensors"
    write_float32(path, [(name, array.shape) for name, array in arrays.items()], arrays.__getitem__)
    found = load_file(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(ValueError, match="announced"):
        write_float32(path, [("b", (3, 5))], arrays.__getitem__)
