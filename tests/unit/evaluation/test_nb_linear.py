"""The linear member: its features and its fit against scikit-learn's, its formula by hand, refusals."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import normalize

from manylabel.errors import BundleError
from manylabel.evaluation import nb_linear
from manylabel.evaluation.baseline import fit_baseline
from manylabel.evaluation.nb_linear import NbLinear, fit_nb_linear, log_count_ratios
from manylabel.evaluation.ngrams import NUM_COLUMNS, WORD_BITS, count_ngrams, folded

TEXTS = [
    "I was charged twice for one order, please refund me.",
    "Où est mon colis ? Où, où ?",
    "",
    "   \n\t ",
    "a",
    "The parcel is late and the parcel is damaged!!! :-(",
    "请 退款, 我 的 包裹 在哪里",
    "snake_case and x2 = 3.14 naïve Straße",
    "\U0001f600 emoji \U0001f600",
    "\ud800 lone",
]
LABELS = ("refund", "parcel")


def counted(texts, limit=5000):
    return scipy.sparse.vstack(list(count_ngrams(texts, character_limit=limit))).tocsr()


def references():
    words = CountVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", lowercase=False)
    pieces = CountVectorizer(ngram_range=(2, 5), analyzer="char_wb", lowercase=False)
    return words, pieces


def test_counts_are_those_of_scikit_learns_vectorisers():
    found = counted(TEXTS)
    normal = [folded(text) for text in TEXTS]
    for reference, columns in zip(
        references(), (slice(0, 2**WORD_BITS), slice(2**WORD_BITS, None)), strict=True
    ):
        expected = reference.fit_transform(normal)
        ours = found[:, columns].tocsc()
        ours = ours[:, np.flatnonzero(np.diff(ours.indptr))]
        assert ours.shape == expected.shape  # No two of them share a column.
        # The same columns in another order.
        as_sets = [sorted(map(tuple, matrix.toarray().T.tolist())) for matrix in (ours, expected)]
        assert as_sets[0] == as_sets[1]


def test_a_text_has_the_same_counts_whatever_its_neighbours(monkeypatch):
    together = counted(TEXTS)
    monkeypatch.setattr("manylabel.evaluation.ngrams.TEXTS_PER_CHUNK", 1)
    assert (together != counted(TEXTS)).nnz == 0
    assert together.shape == (len(TEXTS), NUM_COLUMNS)
    assert (counted(TEXTS[5:6])[0] != together[5]).nnz == 0


def test_the_character_limit_leaves_words_alone():
    limited, whole = counted(TEXTS, limit=10), counted(TEXTS)
    words = slice(0, 2**WORD_BITS)
    assert (limited[:, words] != whole[:, words]).nnz == 0
    assert limited[0].nnz < whole[0].nnz
    assert limited[4].nnz == whole[4].nnz


def test_ratios_by_hand():
    # Ten texts, two with the label. Column 0: in both of them and in none other; 1: in one and four; 2: in no text.
    dense = np.zeros((10, 3), np.float32)
    dense[:2, 0] = 1
    dense[[0, 3, 4, 5, 6], 1] = 1
    positives = np.arange(10) < 2
    a = nb_linear.SMOOTHING
    expected = [
        np.log((2 + 0.2 * a) / (0 + 0.8 * a) * 0.8 / 0.2),
        np.log((1 + 0.2 * a) / (4 + 0.8 * a) * 0.8 / 0.2),
        0.0,
    ]
    assert log_count_ratios(scipy.sparse.csr_matrix(dense), positives) == pytest.approx(expected)
    assert expected[1] == pytest.approx(0.0)  # Equally frequent with and without the label.


@pytest.fixture(scope="module")
def mails():
    generator = np.random.default_rng(1)
    fillers = ["the", "a", "we", "you", "order", "shop", "day", "please", "thanks", "mail", "time", "never"]
    cues = {"refund": ["refund", "money", "charged", "back"], "parcel": ["parcel", "late", "courier", "lost"]}
    texts, targets = [], []
    for _ in range(400):
        carried = generator.random(2) < 0.3
        words = list(generator.choice(fillers, 8))
        for column, label in enumerate(LABELS):
            words += list(generator.choice(cues[label], 2)) if carried[column] else []
        generator.shuffle(words)
        texts.append(" ".join(words))
        targets.append(carried)
    return texts, np.array(targets, np.int8)


def test_the_model_is_scikit_learns_regression_on_ratio_weighted_tf_idf(mails, monkeypatch):
    texts, targets_NL = mails
    monkeypatch.setattr(nb_linear, "RELATIVE_GAIN", 1e-13)
    monkeypatch.setattr(nb_linear, "MAX_ITERATIONS", 2000)
    model = fit_nb_linear(texts, targets_NL, LABELS)
    normal, blocks = [folded(text) for text in texts], []
    for reference in references():
        reference.set_params(min_df=nb_linear.MIN_TEXTS_PER_COLUMN)
        tf_idf = TfidfTransformer(sublinear_tf=True, smooth_idf=True, norm=None)
        blocks.append(normalize(tf_idf.fit_transform(reference.fit_transform(normal))))
    features = scipy.sparse.hstack(blocks).tocsr()
    for label in range(2):
        positives = targets_NL[:, label] == 1
        weighted = features.multiply(log_count_ratios(features, positives)[None, :]).tocsr()
        regression = LogisticRegression(C=nb_linear.INVERSE_REGULARIZATION, tol=1e-8, max_iter=5000)
        expected = regression.fit(weighted, positives).decision_function(weighted)
        assert model.logits(texts)[:, label] == pytest.approx(expected, abs=5e-3)


def test_rare_cues_are_found_better_than_by_the_baseline():
    """The letters of a word say what the whole word, never seen before, cannot."""
    generator = np.random.default_rng(2)
    stem, rest = "grumpf", "abcdefghijklmnop"

    def made(count):
        texts, targets = [], []
        for _ in range(count):
            positive = generator.random() < 0.4
            words = ["".join(generator.choice(list(rest), 6)) for _ in range(6)]
            if positive:
                words.append(stem + "".join(generator.choice(list(rest), 3)))
            texts.append(" ".join(words))
            targets.append([positive])
        return texts, np.array(targets, np.int8)

    train, (test, truth) = made(300), made(200)
    ours = fit_nb_linear(*train, ("x",)).probabilities(test)
    base = fit_baseline(*train, ("x",)).probabilities(test)
    scores = [average_precision_score(truth[:, 0], found[:, 0]) for found in (ours, base)]
    assert scores[0] > 0.95 > scores[1]


def test_cells_without_annotation_are_left_out(mails):
    texts, targets_NL = mails
    unknown = targets_NL.copy()
    unknown[::2, 0] = -1
    found = fit_nb_linear(texts, unknown, LABELS)
    whole = fit_nb_linear(texts, targets_NL, LABELS)
    assert np.array_equal(found.coefficients_KL[:, 1], whole.coefficients_KL[:, 1])
    assert not np.array_equal(found.coefficients_KL[:, 0], whole.coefficients_KL[:, 0])


@pytest.mark.parametrize("value", [0, 1, -1])
def test_a_label_of_one_class_has_one_finite_logit(mails, value):
    texts, targets_NL = mails
    targets_NL = targets_NL.copy()
    targets_NL[:, 0] = value
    found = fit_nb_linear(texts, targets_NL, LABELS).logits([*texts[:5], "", "never seen"])
    assert len(np.unique(found[:, 0])) == 1
    assert np.isfinite(found).all()
    assert (
        found[0, 0] == {0: pytest.approx(-6.685, abs=0.01), 1: pytest.approx(6.685, abs=0.01), -1: 0.0}[value]
    )


def test_arrays_give_back_the_same_model(mails):
    texts, targets_NL = mails
    model = fit_nb_linear(texts, targets_NL, LABELS)
    arrays = model.to_arrays()
    assert np.array_equal(NbLinear.from_arrays(arrays, LABELS).logits(texts), model.logits(texts))
    again = fit_nb_linear(texts, targets_NL, LABELS, seed=7)
    assert all(np.array_equal(arrays[name], again.to_arrays()[name]) for name in arrays)
    assert not any(array.dtype.kind in "OUS" for array in arrays.values())
    for name, wrong in {
        "columns_K": arrays["columns_K"][::-1],
        "prevalence_L": arrays["prevalence_L"] * 0,
        "coefficients_KL": arrays["coefficients_KL"] * np.float32(np.nan),
        "intercepts_L": arrays["intercepts_L"][:1],
        "character_limit": arrays["character_limit"] * 0,
    }.items():
        with pytest.raises(BundleError, match=f"B472.*{name}"):
            NbLinear.from_arrays({**arrays, name: wrong}, LABELS)
    with pytest.raises(BundleError, match="columns_K is missing"):
        NbLinear.from_arrays({}, LABELS)


def test_no_texts_and_no_common_words_are_borne():
    nothing = fit_nb_linear([], np.zeros((0, 2), np.int8), LABELS)
    assert nothing.probabilities(["x"]).tolist() == [[0.5, 0.5]]
    assert nothing.logits([]).shape == (0, 2)
    strange = fit_nb_linear(["aa", "bb"], np.array([[1, 0], [0, 1]], np.int8), LABELS)
    assert strange.probabilities(["aa", "cc"]).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    with pytest.raises(ValueError, match="expected"):
        fit_nb_linear(["x"], np.zeros((2, 2), np.int8), LABELS)


def test_memory_is_bounded_by_reading_less_of_each_text(monkeypatch):
    texts = ["word " * 200] * 10
    monkeypatch.setattr(nb_linear, "MAX_NUMBERS", 4000)
    model = fit_nb_linear(texts, np.array([[0], [1]] * 5, np.int8), ("x",))
    assert int(model.character_limit[0]) == 75
    monkeypatch.setattr(nb_linear, "MAX_COEFFICIENTS", 7)
    assert len(fit_nb_linear(texts, np.array([[0], [1]] * 5, np.int8), ("x",)).columns_K) == 7
