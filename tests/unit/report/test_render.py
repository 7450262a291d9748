"""The page as text: what is in it and what is not; how it behaves is tested in a browser."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from manylabel.decisions.thresholds import Thresholds
from manylabel.report.contents import contents_of
from manylabel.report.inputs import ReportInputs
from manylabel.report.render import render_comparison, render_report, script_json

pytestmark = pytest.mark.slow  # many seconds together

VOID = {"meta", "input", "link", "br", "img"}


class Outline(HTMLParser):
    """Elements with their attributes; complains about what is not closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.problems = [], [], []
        self.feed(html)
        self.problems += self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(tag)


@pytest.fixture(scope="module")
def page(inputs):
    return render_report(inputs)


def test_equal_inputs_give_equal_bytes(inputs, page):
    assert render_report(inputs) == page


def test_elements_are_closed_and_ids_unique(page):
    outline = Outline(page)
    assert outline.problems == []
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_nothing_is_requested(page):
    for tag, attributes in Outline(page).elements:
        assert tag not in {"img", "iframe", "object", "embed", "form", "base", "link", "audio", "video"}, tag
        for name, value in attributes.items():
            assert name not in {"src", "srcset", "style", "action", "data", "poster"}, (tag, name)
            assert not name.startswith("on"), (tag, name)
            if name in {"href", "xlink:href"}:
                assert value.startswith("#")
    assert "url(" not in page
    assert "@import" not in page


def test_every_anchor_exists(page):
    elements = Outline(page).elements
    ids = {attributes.get("id") for _, attributes in elements}
    for tag, attributes in elements:
        for name in ("href", "for", "aria-labelledby"):
            if name in attributes:
                assert attributes[name].lstrip("#") in ids, (tag, attributes)


def test_the_policy_names_the_hashes_of_style_and_script(page):
    import base64
    import hashlib

    def digest(pattern):
        (content,) = re.findall(pattern, page, re.DOTALL)
        return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()

    policy = next(
        attributes["content"] for _, attributes in Outline(page).elements if "http-equiv" in attributes
    )
    assert policy == (
        f"default-src 'none'; style-src '{digest(r'<style>(.*?)</style>')}'; "
        f"script-src '{digest(r'<script>(.*?)</script>')}'; base-uri 'none'; form-action 'none'"
    )


def test_28_labels_and_100_000_rows_stay_under_a_megabyte(make_inputs):
    few = make_inputs(2000, 28)

    def repeated(table_NL):
        return np.tile(table_NL, (50, 1))

    noise_NL = np.random.default_rng(4).normal(size=(100_000, 28)) * 1e-3
    scores_NL = np.clip(repeated(few.probabilities_NL) + noise_NL, 0.0, 1.0)
    many = replace(
        few,
        targets_NL=repeated(few.targets_NL),
        probabilities_NL=scores_NL,
        uncalibrated_NL=scores_NL**2,
        baseline_probabilities_NL=1.0 - scores_NL,
        ids=tuple(f"a rather long identifier of row {row}" for row in range(100_000)),
    )
    html = render_report(many)
    assert "100,000" in html
    assert len(html.encode()) < 1_000_000


def test_300_labels_stay_under_a_megabyte(make_inputs):
    html = render_report(make_inputs(400, 300))
    assert len(html.encode()) < 1_000_000
    assert "200 have none" in html
    assert "260 are not" in html


def test_texts_are_absent_unless_given(make_inputs):
    texts = tuple(f"secret{row:05d}" for row in range(400))
    assert "secret" not in render_report(make_inputs(400, 5))
    shown = set(re.findall(r"secret\d{5}", render_report(make_inputs(400, 5, texts=texts))))
    assert 1 <= len(shown) <= 52


def test_hostile_words_make_no_element_and_no_control_character(make_inputs, hostile):
    texts = tuple(hostile[row % len(hostile)] for row in range(400))
    names = dict.fromkeys(hostile, "platt")
    inputs = make_inputs(400, len(hostile), names=hostile, texts=texts, title=hostile[0], command=hostile[1])
    inputs = replace(
        inputs,
        ids=tuple(f"{hostile[row % len(hostile)]}{row}" for row in range(400)),
        provenance={hostile[1]: {hostile[2]: hostile[0]}},
        evaluation={
            **inputs.evaluation,
            "calibration": {"method": names, "ece_before": 0.1, "ece_after": 0.1},
            "robustness": [{"attack": name, "micro": {"f1": 0.1}} for name in ("clean", *hostile)],
            "slices": [{"column": name, "value": name, "rows": 90, "macro": {"f1": 0.1}} for name in hostile],
            "seen_in_training": dict.fromkeys(hostile, 1),
        },
    )
    plain = render_report(make_inputs(400, len(hostile), texts=texts))
    html = render_report(inputs)
    outline = Outline(html)
    assert outline.problems == []

    def count(page, *tags):
        return [sum(tag == wanted for tag, _ in Outline(page).elements) for wanted in tags]

    assert count(html, "script", "style", "img", "input") == count(plain, "script", "style", "img", "input")
    assert not any(name.startswith("on") for _, attributes in outline.elements for name in attributes)
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html
    )
    assert "49" not in re.findall(r"<title>(.*?)</title>", html)[0]
    data = json.loads(re.search(r'id="explorer-data">(.*?)</script>', html).group(1))
    assert [label["name"] for label in data["labels"]] == list(hostile)


def test_script_json_is_inert_and_means_the_same(hostile):
    for text in (*hostile, "\u2028\u2029", "<!--", "]]>", "\ud800"):
        written = str(script_json({text: [text, 1.5]}))
        assert written.isascii()
        assert not set("<>&") & set(written)
        assert json.loads(written) == {text: [text, 1.5]}


def test_a_number_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json([float("nan")])


def bare(targets_NL, probabilities_NL, labels):
    num_labels = len(labels)
    return ReportInputs(
        title="bare",
        targets_NL=np.asarray(targets_NL, dtype=np.int8),
        probabilities_NL=np.asarray(probabilities_NL, dtype=float),
        thresholds=Thresholds(
            labels, np.full(num_labels, 0.5), np.ones(num_labels, bool), (None,) * num_labels
        ),
        ids=tuple(map(str, range(len(targets_NL)))),
        evaluation={},
    )


@pytest.mark.parametrize(
    "inputs",
    [
        bare(np.zeros((0, 2)), np.zeros((0, 2)), ("a", "b")),
        bare([[1]], [[0.5]], ("only",)),
        bare([[-1, -1]] * 3, [[0.5, 0.5]] * 3, ("a", "b")),
        bare([[0, 1]] * 3, [[0.0, 1.0]] * 3, ("never", "always")),
    ],
    ids=["no rows", "one row", "nothing annotated", "one class"],
)
def test_pages_of_almost_nothing(inputs):
    html = render_report(inputs)
    assert Outline(html).problems == []
    assert "NaN" not in html
    assert ">nan" not in html


def test_a_label_without_positives_is_undefined_and_says_why():
    html = render_report(bare([[0, 1], [0, 0]], [[0.1, 0.9], [0.2, 0.1]], ("never", "some")))
    row = re.search(r"<bdi>never</bdi></th>.*?</tr>", html).group(0)
    assert row.count("undefined") == 5
    assert "0 positives" in row


def test_undefined_is_not_zero(inputs):
    """The figures of the page are those of the evaluation."""
    contents = contents_of(inputs)
    for row, name in zip(contents.labels.rows, inputs.labels, strict=True):
        figures = inputs.evaluation["labels"][name]
        assert row[0].text == name
        assert row[3].text == f"{figures['average_precision']:.3f}"
        low, high = inputs.evaluation["intervals"]["labels"][name]["average_precision"]
        assert row[3].below[0] == f"{low:.3f}–{high:.3f}"
        assert (
            row[3].below[1]
            == f"words {inputs.evaluation['baseline']['labels'][name]['average_precision']:.3f}"
        )


def test_worst_rows_are_wrong_and_sorted(inputs):
    misses, alarms = contents_of(inputs).worst
    for table, sign, given in ((misses, 1, 1), (alarms, -1, 0)):
        scores = []
        for identifier, name, score, _ in ((cell.text for cell in row) for row in table.rows):
            row, column = int(identifier.removeprefix("mail-")), inputs.labels.index(name)
            assert inputs.targets_NL[row, column] == given
            assert bool(inputs.decisions_NL[row, column]) != bool(given)
            scores.append(sign * float(score))
        assert scores == sorted(scores)
        assert len(scores) == 20


def test_pairs_are_counted_on_complete_rows(inputs):
    gone = inputs.targets_NL.copy()
    gone[::2, 0] = -1
    pairs = contents_of(replace(inputs, targets_NL=gone)).pairs
    first, second = pairs.pairs.rows[0][0].text.split(" + ")
    a, b = inputs.labels.index(first), inputs.labels.index(second)
    complete = gone[1::2]
    assert pairs.pairs.rows[0][1].text == str(int(((complete[:, a] == 1) & (complete[:, b] == 1)).sum()))
    decided = inputs.decisions_NL[1::2]
    assert pairs.pairs.rows[0][2].text == str(int((decided[:, a] & decided[:, b]).sum()))


def test_rows_that_chose_something_are_said_above_all_figures(inputs):
    warned = replace(inputs, evaluation={**inputs.evaluation, "roles": {"calibration": 1500}})
    html = render_report(warned)
    assert html.index("used to choose calibration and thresholds: the figures on this page") < html.index(
        "Macro average"
    )
    assert "the figures on this page are better" not in render_report(inputs)


def test_what_is_uncertain_has_its_interval(inputs):
    contents = contents_of(inputs)
    overall, bias = contents.bias
    assert bias.rows[0][4].text == "0.600"
    assert bias.rows[0][4].below == ("0.512–0.688",)
    assert overall.rows[0][2].below == ("0.777–0.866",)
    clean, leet = contents.robustness.rows
    assert clean[1].below == ()
    assert leet[1].below == ("\N{MINUS SIGN}0.100", "\N{MINUS SIGN}0.123 to \N{MINUS SIGN}0.077")
    assert leet[3].below == ("\N{MINUS SIGN}0.140",)
    assert contents.slices.rows[0][2].below == ("26 of 28 labels",)
    assert contents.slices.rows[0][3].below[1] == "27 of 28 labels"


def test_zones_show_the_work_and_the_rest(inputs):
    zones = contents_of(inputs).zones
    assert [cell.text for cell in zones.rows[0]][:3] == [
        "label 1",
        "0.3000 to 0.7000",
        "2.0\N{NO-BREAK SPACE}%",
    ]
    assert zones.rows[1][0].text == "All cells"
    assert "150 of 1,500 rows have a label for a human: 10.0" in zones.note
    without = {name: part for name, part in inputs.evaluation.items() if name != "zones"}
    assert "This model has no zones" in render_report(replace(inputs, evaluation=without))


def test_what_holds_without_the_rows_that_made_the_model_is_repeated(inputs):
    contents = contents_of(inputs)
    assert (
        "Without the rows that made the model: This model is better without them." in contents.averages.note
    )
    (check,) = (each for each in contents.verdict.checks if each.name == "Better than the baseline")
    assert "without the rows that made the model the difference is +0.099, interval +0.070" in check.sentence


def test_suspected_labels_are_listed_and_what_was_left_out_is_said(inputs, make_inputs):
    found = contents_of(inputs).label_errors
    assert found.columns == ("Row id", "Label", "Given", "Probability")
    assert [cell.text for cell in found.rows[1]] == ["mail-1", "label 2", "carries it", "0.020"]
    assert found.note == "Left out: 3 of other rows or labels."
    texts = tuple(f"secret{row:05d}" for row in range(400))
    assert contents_of(make_inputs(400, 5, texts=texts)).label_errors.rows[1][-1].text == "secret00001"


def compared(inputs, **parts):
    figures = {
        "macro/average_precision": {
            "a": 0.5,
            "b": 0.52,
            "difference": 0.02,
            "low": 0.01,
            "high": 0.03,
            "p": 0.0002,
        }
    }
    labels = {
        "label 1": {
            "f1": {"a": 0.4, "b": 0.3, "difference": -0.1, "low": -0.15, "high": -0.05, "p_corrected": 0.01}
        },
        "label 2": {
            "f1": {"a": 0.4, "b": 0.5, "difference": 0.1, "low": 0.05, "high": 0.15, "p_corrected": 0.2}
        },
    }
    return {"conclusion": "Model B is better.", "figures": figures, "labels": labels, **parts}


def test_the_comparison_says_who_is_shown_to_be_better(make_inputs):
    a, b = make_inputs(300, 4, title="model A"), make_inputs(300, 4, title="model B")
    html = render_comparison(a, b, compared(a, rows_seen_in_training={"a": 12, "b": 0}))
    assert Outline(html).problems == []
    assert html.index("Model B is better.") < html.index("Averages over labels")
    macro = re.search(r"Macro average precision</bdi></th>(.*?)</tr>", html).group(1)
    assert re.findall(r"<bdi>([^<]*)</bdi>", macro) == ["0.500", "0.520", "+0.020", "&lt; 0.001", "model B"]
    assert "<small>+0.010 to +0.030</small>" in macro
    of_labels = html[html.index("F1 by label") :]
    worse, same = (re.search(rf"<bdi>label {n}</bdi></th>(.*?)</tr>", of_labels).group(1) for n in (1, 2))
    assert worse.endswith("<bdi>model A</bdi></td>")
    assert same.endswith("<bdi>neither</bdi></td>")
    assert "12 of the rows made model A" in html
    unseen = {"rows": 288, "conclusion": "Nobody is better.", "b_against_baseline": {"conclusion": "B wins."}}
    html = render_comparison(a, b, compared(a, without_seen_rows=unseen))
    for sentence in ("Nobody is better.", "B wins."):
        assert f"Without the rows that made either model (288 left): {sentence}" in html


def test_a_low_loss_is_better(make_inputs):
    a = make_inputs(300, 4, title="A")
    figures = {"macro/brier": {"a": 0.2, "b": 0.1, "difference": -0.1, "low": -0.2, "high": -0.05, "p": 0.01}}
    html = render_comparison(a, replace(a, title="B"), {"figures": figures})
    row = re.search(r"Macro Brier score \(0 is best\)</bdi></th>(.*?)</tr>", html).group(1)
    assert row.endswith("<bdi>B</bdi></td>")


def test_figures_without_a_title_of_their_own_are_readable(make_inputs):
    figures = {
        path: {"a": 0.1, "b": 0.2} for path in ("weighted/roc_auc", "samples/recall", "overall/recall_at_5")
    }
    html = render_comparison(make_inputs(300, 4), make_inputs(300, 4), {"figures": figures})
    for title in ("Weighted ROC-AUC", "Samples recall", "Recall at 5"):
        assert f"<bdi>{title}</bdi></th>" in html


def test_a_comparison_without_tests_or_common_rows(make_inputs):
    a, b = make_inputs(300, 4, title="A"), make_inputs(200, 4, title="B")
    html = render_comparison(a, b, {})
    assert "were not tested against each other" in html
    assert "which are not the same" in html
    assert "There are no common rows to draw" in html
    assert render_comparison(a, b, {"conclusion": "<b>x</b>"}).count("&lt;b&gt;x&lt;/b&gt;") == 1


def test_shapes_are_checked(inputs):
    with pytest.raises(ValueError, match="probabilities_NL is"):
        replace(inputs, probabilities_NL=inputs.probabilities_NL[:, :-1])
    with pytest.raises(ValueError, match="one text an id"):
        replace(inputs, texts=("one",))
