"""The pretraining heads against transformers' BertForPreTraining, with and without heads in the checkpoint."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from manylabel.errors import EncoderError
from manylabel.modeling.packed import to_device
from manylabel.modeling.weights.hugging_face import read_config
from manylabel.modeling.weights.pretraining_names import PARTS, load_pretraining, to_hugging_face
from manylabel.training.pretraining import PretrainingObjective, PretrainingPass
from manylabel.training.pretraining_examples import PretrainingTargets
from manylabel.values import Batch

# Two pairs and a text alone; -1 has no label for its second segment, which it does not have.
LENGTHS, FIRSTS, NEXT = (9, 6, 5), (5, 3, 5), (0, 1, -1)
PLACES = torch.tensor([1, 4, 7, 10, 16])


@pytest.fixture(scope="module")
def reference(tmp_path_factory, tiny_encoder):
    """transformers' model with random heads, and the folder it saved."""
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(3)
    model = BertForPreTraining(BertConfig(**read_config(tiny_encoder))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("pretrained")
    model.save_pretrained(folder)
    return model, folder


def batch_of():
    choose = np.random.default_rng(4)
    ids_T = choose.integers(5, 100, size=sum(LENGTHS))
    positions_T = np.concatenate([np.arange(length) for length in LENGTHS])
    segments_T = np.concatenate(
        [np.arange(n) >= first for n, first in zip(LENGTHS, FIRSTS, strict=True)]
    ).astype(np.int64)
    return Batch(ids_T, segments_T, positions_T, np.array([0, *np.cumsum(LENGTHS)]))


def targets_of():
    words_M = torch.from_numpy(np.random.default_rng(5).integers(5, 100, size=len(PLACES)))
    return PretrainingTargets(PLACES, words_M, torch.tensor(NEXT))


def padded(values_T, fill):
    rows = torch.full((len(LENGTHS), max(LENGTHS)), fill)
    for row, part in enumerate(torch.as_tensor(values_T).split(LENGTHS)):
        rows[row, : len(part)] = part
    return rows


def theirs(model):
    """Their logits, and their loss of the same targets: the mean over masked tokens plus the mean over pairs."""
    batch, targets = batch_of(), targets_of()
    labels_T = torch.full((sum(LENGTHS),), -100)
    labels_T[PLACES] = targets.words_M
    return model(
        input_ids=padded(batch.ids_T, 0),
        token_type_ids=padded(batch.segments_T, 0),
        attention_mask=padded(torch.ones(sum(LENGTHS), dtype=torch.int64), 0),
        labels=padded(labels_T, -100),
        next_sentence_label=torch.where(targets.next_B < 0, -100, targets.next_B),
    )


def ours(folder, **options):
    loaded = load_pretraining(folder, **options)
    return loaded.model.eval(), loaded.found


def test_logits_and_loss_are_those_of_transformers(reference):
    model, folder = reference
    own, found = ours(folder)
    assert found == set(PARTS)
    expected, targets = theirs(model), targets_of()
    logits = own(to_device(batch_of(), "cpu"), PLACES)
    of_all_TV = torch.cat(
        [row[:length] for row, length in zip(expected.prediction_logits, LENGTHS, strict=True)]
    )
    torch.testing.assert_close(logits.masked_MV, of_all_TV[PLACES], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits.next_B2, expected.seq_relationship_logits, atol=1e-5, rtol=1e-5)
    objective = PretrainingObjective()
    loss = objective.loss(logits, targets, objective.counts(targets))
    torch.testing.assert_close(loss, expected.loss, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_all_positions(reference):
    """transformers computes the decoder at every position; the tied matrix gets both of its gradients."""
    model, folder = reference
    own, _ = ours(folder)
    model.zero_grad()
    theirs(model).loss.backward()
    objective, targets = PretrainingObjective(), targets_of()
    loss, rows = PretrainingPass().backward(
        own, to_device(batch_of(), "cpu"), targets, objective=objective, counts=objective.counts(targets)
    )
    assert not loss.requires_grad
    assert rows.shape == (3, 2)
    expected = dict(model.named_parameters())
    pairs = {
        "encoder.embeddings.word.weight": "bert.embeddings.word_embeddings.weight",
        "encoder.embeddings.segment.weight": "bert.embeddings.token_type_embeddings.weight",
        "encoder.layers.0.up.weight": "bert.encoder.layer.0.intermediate.dense.weight",
        "head.dense.weight": "cls.predictions.transform.dense.weight",
        "head.norm.weight": "cls.predictions.transform.LayerNorm.weight",
        "head.bias": "cls.predictions.bias",
        "head.pooler.weight": "bert.pooler.dense.weight",
        "head.relation.bias": "cls.seq_relationship.bias",
    }
    found = dict(own.named_parameters())
    for name, other in pairs.items():
        torch.testing.assert_close(found[name].grad, expected[other].grad, atol=1e-5, rtol=1e-4)


def test_without_masked_tokens_or_pairs_the_loss_is_0(reference):
    own, _ = ours(reference[1])
    nothing = torch.zeros(0, dtype=torch.int64)
    targets = PretrainingTargets(nothing, nothing, torch.full((3,), -1))
    objective = PretrainingObjective()
    logits = own(to_device(batch_of(), "cpu"), nothing)
    assert objective.loss(logits, targets, objective.counts(targets)).item() == 0.0


def test_what_is_written_loads_in_transformers_and_again_here(reference, tmp_path):
    from transformers import BertForPreTraining

    model, folder = reference
    own, _ = ours(folder)
    config, tensors = to_hugging_face(own, read_config(folder))
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    again, report = BertForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    state = load_pretraining(tmp_path).model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in own.state_dict().items())


def test_heads_that_are_missing_begin_fresh_and_by_seed(tiny_encoder):
    first, found = ours(tiny_encoder, seed=1)
    assert found == {"pooler"}
    weights = load_file(tiny_encoder / "model.safetensors")
    assert torch.equal(first.head.pooler.weight, weights["pooler.dense.weight"])
    assert torch.equal(first.head.dense.weight, ours(tiny_encoder, seed=1)[0].head.dense.weight)
    assert not torch.equal(first.head.dense.weight, ours(tiny_encoder, seed=2)[0].head.dense.weight)
    assert 0.015 < first.head.dense.weight.std() < 0.025


def test_a_fresh_head_begins_with_the_frequencies_of_tokens(tiny_encoder):
    """With no other weight than the bias, the probabilities are the smoothed shares."""
    model, _ = ours(tiny_encoder)
    size = model.encoder.vocabulary_size
    counts = np.random.default_rng(0).integers(0, 50, size=size)
    model.head.set_prior(counts)
    with torch.no_grad():
        logits = model.head.decode(torch.randn(3, 32), torch.zeros(size, 32))
    expected = torch.from_numpy((counts + 1) / (counts.sum() + size)).float()
    torch.testing.assert_close(logits.softmax(dim=1), expected.expand(3, -1))


def test_without_next_sentence_its_head_is_left_alone(reference):
    own, _ = ours(reference[1], learns_next=False)
    assert own(to_device(batch_of(), "cpu"), PLACES).next_B2 is None
    still = {name for name, parameter in own.named_parameters() if not parameter.requires_grad}
    assert still == {f"head.{part}.{kind}" for part in ("pooler", "relation") for kind in ("weight", "bias")}
    objective, targets = PretrainingObjective(), targets_of()
    loss, rows = PretrainingPass().backward(
        own, to_device(batch_of(), "cpu"), targets, objective=objective, counts=objective.counts(targets)
    )
    expected = theirs(reference[0]).prediction_logits[padded(torch.arange(20), -1) >= 0][PLACES]
    torch.testing.assert_close(
        loss, functional.cross_entropy(expected, targets.words_M).detach(), atol=1e-5, rtol=1e-5
    )
    assert len(rows) == 0


def copy_with(folder, target, change):
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_what_cannot_be_adapted_is_refused(reference, tmp_path):
    folder = reference[1]

    def untie(tensors):
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"] + 1

    with pytest.raises(EncoderError, match="E182"):
        load_pretraining(copy_with(folder, tmp_path / "untied", untie))
    name = "bert.encoder.layer.1.output.dense.bias"
    with pytest.raises(EncoderError, match=r"E121.*layer\.1"):
        load_pretraining(copy_with(folder, tmp_path / "missing", lambda tensors: tensors.pop(name)))
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "config.json").write_text(json.dumps({**read_config(folder), "model_type": "roberta"}))
    with pytest.raises(EncoderError, match="E181"):
        load_pretraining(other)
