"""What the cuts say of rows that cannot judge a label."""

import pytest

from manylabel.decisions.cuts import why_unjudged


@pytest.mark.parametrize(
    ("positives", "rows", "told"),
    [
        (1, 100, "1 positive row, at least 5 needed"),
        (0, 100, "0 positive rows, at least 5 needed"),
        (99, 100, "1 negative row, at least 5 needed"),
        (5, 10, None),
    ],
)
def test_one_row_is_one_row(positives, rows, told):
    assert why_unjudged(positives, rows, 5) == told
