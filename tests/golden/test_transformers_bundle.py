"""A `cls` bundle is an ordinary transformers model: same probabilities through its classes and its pipeline."""

import numpy as np
import pytest

from manylabel.inference.load import load_model

TEXTS = [
    "the parcel is late",
    "thanks, great team!",
    "",
    "refund my money [SEP] please",
    "ｌａｔｅ parcel",
    "a " * 300,
]


def check(folder):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    expected = load_model(folder).predictor.predict(TEXTS).probabilities_BL
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.problem_type == "multi_label_classification"
    inputs = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        through_class = torch.sigmoid(model(**inputs).logits).double().numpy()
    assert np.abs(through_class - expected).max() <= 1e-5
    classify = pipeline(
        "text-classification", model=model, tokenizer=tokenizer, top_k=None, function_to_apply="sigmoid"
    )
    labels = load_model(folder).bundle.labels
    for row, scores in enumerate(classify(TEXTS, truncation=True, batch_size=4)):
        by_name = {score["label"]: score["score"] for score in scores}
        assert np.abs(np.array([by_name[name] for name in labels]) - expected[row]).max() <= 1e-5


def test_tiny_cls_bundle(tiny_cls_model):
    check(tiny_cls_model)


@pytest.mark.encoder
@pytest.mark.slow
def test_cls_bundle_of_the_default_encoder(default_encoder, tiny_mails, train_tiny, tmp_path):
    check(train_tiny(tiny_mails, default_encoder, tmp_path / "model", model__head="cls", training__epochs=1))


def test_the_card_of_a_mean_bundle_says_that_transformers_cannot_load_it(tiny_model, tiny_cls_model):
    assert "cannot represent it" in (tiny_model / "README.md").read_text()
    assert "cannot represent it" not in (tiny_cls_model / "README.md").read_text()


def test_transformers_refuses_a_head_it_cannot_represent(tiny_model):
    """Better a refusal than a random classifier with a warning."""
    from transformers import AutoModelForSequenceClassification

    with pytest.raises(ValueError, match="manylabel"):
        AutoModelForSequenceClassification.from_pretrained(tiny_model)
