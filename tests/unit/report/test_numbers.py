import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from manylabel.report.numbers import fixed, grouped, listed, percent, shown, signed, span, wilson


# What JavaScript's toFixed gives (ECMA-262 Number.prototype.toFixed): of two nearest, the larger.
@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.5, 0, "1"),
        (2.5, 0, "3"),
        (0.125, 2, "0.13"),
        (1.005, 2, "1.00"),
        (0.0, 1, "0.0"),
        (1e-9, 3, "0.000"),
    ],
)
def test_rounds_as_the_script_does(value, digits, text):
    assert fixed(value, digits) == text


@given(st.floats(0, 1e9), st.integers(0, 6))
def test_fixed_is_the_nearest(value, digits):
    assert abs(float(fixed(value, digits)) - value) <= 0.5000001 * 10**-digits + value * 1e-15


def test_forms():
    assert grouped(1234567.25, 1) == "1,234,567.3"
    assert percent(0.1234) == "12.3\N{NO-BREAK SPACE}%"
    assert percent(None) == "undefined"
    assert (signed(-0.02), signed(0.02), signed(-0.0001), signed(None)) == (
        "−0.020",
        "+0.020",
        "0.000",
        "undefined",
    )
    assert span((0.1, 0.25)) == "0.100 to 0.250"
    assert span((-0.1, 0.25), is_signed=True) == "−0.100 to +0.250"
    assert span(None) == ""
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"


def test_hidden_and_long_words():
    assert shown("\u202eevil\x1b[31m\nred\u2066") == "\ufffdevil\ufffd[31m red\ufffd"
    assert shown("x" * 300, 80) == "x" * 79 + "…"
    assert shown("ключ שלום") == "ключ שלום"
    assert "\ud800" not in shown("lone \ud800")


@given(st.integers(1, 500).flatmap(lambda rows: st.tuples(st.integers(0, rows), st.just(rows))))
def test_wilson_is_scipys(counts):
    hits, rows = counts
    reference = binomtest(hits, rows).proportion_ci(0.95, method="wilson")
    low, high = wilson(hits, rows)
    assert math.isclose(low, reference.low, abs_tol=1e-12)
    assert math.isclose(high, reference.high, abs_tol=1e-12)


def test_no_rows_no_interval():
    assert wilson(0, 0) is None
