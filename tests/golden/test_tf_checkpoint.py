"""Files that real TensorFlow wrote (see the README of the public data), and the vocabularies of Google's models.

The expected numbers of `test_numbers...` were read from the checkpoint with tf.train.load_checkpoint of TensorFlow
2.21.0. The tokenizers are compared with transformers' on the original vocab.txt.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from manylabel.modeling.packed import to_device
from manylabel.modeling.weights.hugging_face import load_pretrained
from manylabel.modeling.weights.names import tensorflow_table
from manylabel.modeling.weights.tf_checkpoint import open_checkpoint
from manylabel.modeling.weights.tf_plan import OPTIMIZER_NAMES
from manylabel.recipes.import_tf import import_tensorflow
from manylabel.text.tokenizer import TextTokenizer
from manylabel.text.wordpiece_files import decide_casing, read_vocabulary, write_word_piece_files
from manylabel.values import Batch

pytestmark = pytest.mark.data
SCRIPT = Path(__file__).parents[2] / "scripts" / "tf_table.py"
NUM_TEXTS = 500


@pytest.fixture(scope="module")
def checkpoint_folder(data_folder):
    return data_folder / "tf_checkpoint"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("tf_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_numbers_of_a_real_checkpoint_are_those_that_tensorflow_reads(checkpoint_folder, tmp_path):
    import_tensorflow(checkpoint_folder, tmp_path / "encoder")
    weights = load_file(tmp_path / "encoder" / "model.safetensors")
    expected = json.loads(EXPECTED)
    for name, values in expected.items():
        np.testing.assert_array_equal(weights[name].ravel()[: len(values)], np.array(values, np.float32))


EXPECTED = """{"bert.embeddings.word_embeddings.weight": [-0.0062598074, 0.020772612, 0.025258726, 0.022320498,
0.03411336, 0.016048113, 0.0059562763, 0.009298148], "bert.encoder.layer.1.intermediate.dense.weight":
[-0.030754386, -0.009818455, -0.0051560136, 0.026605163, -0.0131320385, 0.01723392, 0.025411157,
-0.0017266008], "bert.encoder.layer.0.attention.self.value.weight": [0.020327402, -0.012287071,
0.006143593, 0.027778903, -0.013410309, -0.0218798, 0.0070521752, -0.012613255, 0.022887776, 0.02190886,
-0.025098935, -0.009236582, -0.012989303, -0.0019384628, 0.0074123857, -0.0036335692],
"bert.encoder.layer.1.output.LayerNorm.weight": [0.99999416, 1.0000058, 1.0000052, 1.0000036],
"bert.pooler.dense.weight": [0.0111345, 0.0061131865, 0.017287642, 0.00081474445],
"cls.predictions.bias": [-6.131351e-06, -6.129386e-06, -6.128428e-06, -6.128766e-06],
"cls.seq_relationship.weight": [0.003098902, 0.012806277, 0.029687872, -0.0044445177, -0.031231007,
0.016842373, -0.0055575427, -0.028137598]}"""


def test_a_real_checkpoint_loads_in_transformers_and_in_ours_alike(checkpoint_folder, tmp_path):
    from transformers import BertForPreTraining

    result = import_tensorflow(checkpoint_folder, tmp_path / "encoder")
    assert (result.num_tensors, result.optimizer_tensors_left_out) == (46, 93)  # 139 in all.
    model, info = BertForPreTraining.from_pretrained(tmp_path / "encoder", output_loading_info=True)
    assert not any(info.values())
    ids = np.arange(30).reshape(2, 15) % 15
    batch = Batch(ids.ravel(), np.zeros(30, np.int64), np.tile(np.arange(15), 2), np.array([0, 15, 30]))
    classifier = load_pretrained(tmp_path / "encoder", num_labels=2, head="mean").eval()
    with torch.inference_mode():
        ours = classifier.encoder(to_device(batch, "cpu"), first_only=False).view(2, 15, 4)
        theirs = model.eval().bert(input_ids=torch.from_numpy(ids)).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "num_layers", "width", "vocab_size"),
    [("chinese_wwm_L-12_H-768", 12, 768, 21_128), ("uncased_L-8_H-512_A-8", 8, 512, 30_522)],
)
def test_real_indexes_have_the_names_and_shapes_of_the_table(
    checkpoint_folder, name, num_layers, width, vocab_size
):
    checkpoint = open_checkpoint(checkpoint_folder / name)
    table = tensorflow_table(num_layers)
    weights = {key for key in checkpoint.entries if not OPTIMIZER_NAMES.fullmatch(key)}
    assert weights == {variable.name for variable in table.values()}
    embeddings = checkpoint.entries["bert/embeddings/word_embeddings"]
    assert embeddings.shape == (vocab_size, width)
    assert checkpoint.entries["bert/encoder/layer_0/intermediate/dense/kernel"].shape == (width, 4 * width)


@pytest.mark.parametrize(
    ("name", "lowercase"),
    [
        ("bert-base-uncased", True),
        ("bert-base-cased", False),
        ("bert-base-multilingual-cased", False),
        ("bert-base-chinese", True),
    ],
)
def test_tokenizers_of_the_four_vocabularies_are_those_of_transformers(
    data_folder, tmp_path, script, name, lowercase
):
    from transformers import BertTokenizer

    path = data_folder / "vocabs" / f"{name}-vocab.txt"
    vocabulary = read_vocabulary(path)
    assert decide_casing(vocabulary, flag=None, configs={}, names=()).lowercase is lowercase
    write_word_piece_files(tmp_path, vocabulary, lowercase=lowercase, max_length=512)
    texts = list(script.texts(list(vocabulary)))[:NUM_TEXTS]
    theirs = BertTokenizer(vocab=str(path), do_lower_case=lowercase, split_special_tokens=True)
    ours = TextTokenizer.from_folder(tmp_path, max_length=512).encode(texts)
    found = [part.tolist() for part in np.split(ours.ids_T, ours.offsets_N1[1:-1])]
    assert found == [theirs(text, truncation=True, max_length=512)["input_ids"] for text in texts]
