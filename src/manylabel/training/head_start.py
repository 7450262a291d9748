"""How a fresh head begins; called by recipes/train.py just before the loop.

A sentence encoder's features are small (standard deviation 0.1 to 0.25 a dimension) and its pooler was never
trained, so BERT's own head starts out nearly deaf. The table of what was tried stands in
docs/decisions/0005-two-heads.md.
"""

from __future__ import annotations

import numpy as np
import torch

from manylabel.modeling.classifier import Classifier
from manylabel.modeling.heads import ClsHead
from manylabel.modeling.packed import to_device
from manylabel.text.buckets import epoch_order, plan_batches
from manylabel.training.examples import LabelledTexts

TEXTS_LOOKED_AT = 256
TOKENS_PER_PASS = 4096


@torch.no_grad()
def start_head(classifier: Classifier, data: LabelledTexts, *, seed: int, keep_pooler: bool) -> None:
    """Give the head the labels' prevalence; unless `keep_pooler`, the pooler inputs of mean 0 and deviation 1.

    Looks at the first 256 texts of the first epoch, in fp32, without gradient.
    """
    annotated_L = (data.targets_NL >= 0).sum(axis=0)
    prevalence_L = np.maximum(data.targets_NL, 0).sum(axis=0, dtype=np.float64) / np.maximum(annotated_L, 1)
    head = classifier.head
    head.set_prior(torch.from_numpy(prevalence_L))
    if not isinstance(head, ClsHead) or keep_pooler:
        return
    order = epoch_order(len(data.ids), seed=seed, epoch=0)[:TEXTS_LOOKED_AT]
    if len(order) < 2:
        return
    was_training = classifier.training
    classifier.eval()
    device = next(classifier.parameters()).device
    features = [
        classifier.encoder(to_device(data.batch(order[part]), device), first_only=True)
        for part in plan_batches(data.lengths_N[order], TOKENS_PER_PASS)
    ]
    head.initialise_from(torch.cat(features))
    classifier.train(was_training)
