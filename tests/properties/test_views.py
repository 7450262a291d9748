"""Every window of every text is a run of its tokens between special tokens, and no longer than allowed."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manylabel.text.tokenizer import TextTokenizer
from manylabel.text.views import encode_view

MAX_LENGTH = 9
TEXTS = st.text(st.sampled_from(string.ascii_lowercase + " .\u00e9\u0430\u65e5\ud800"), max_size=60)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """One that cuts and one that does not."""
    folder = tmp_path_factory.mktemp("vocabulary")
    pieces = [*string.ascii_lowercase, ".", *(f"##{letter}" for letter in string.ascii_lowercase)]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *pieces]) + "\n")
    return [TextTokenizer.from_folder(folder, max_length=length) for length in (MAX_LENGTH, 512)]


@pytest.mark.parametrize("view", ["head", "tail", "middle"])
@given(text=TEXTS)
def test_a_window_is_a_run_of_the_text_between_special_tokens(tokenizers, view, text):
    short, long = tokenizers
    found = encode_view(short, view, [text])
    whole = long.encode([text]).ids_T.tolist()
    ids = found.ids_T.tolist()
    assert len(ids) == min(len(whole), MAX_LENGTH)
    assert (ids[0], ids[-1]) == (whole[0], whole[-1])
    body, own = ids[1:-1], whole[1:-1]
    starts = [start for start in range(len(own) - len(body) + 1) if own[start : start + len(body)] == body]
    spare = len(own) - len(body)
    assert {"head": 0, "tail": spare, "middle": spare // 2}[view] in starts
    assert bool(found.truncated_N[0]) == (len(whole) > MAX_LENGTH)


@pytest.mark.parametrize("view", ["tail", "middle"])
@given(text=TEXTS, pair=TEXTS)
def test_of_a_pair_a_window_keeps_as_much_of_each_as_head(tokenizers, view, text, pair):
    short, long = tokenizers
    window, head = encode_view(short, view, [text], [pair]), short.encode([text], [pair])
    assert window.segments_T.tolist() == head.segments_T.tolist()
    assert window.truncated_N.tolist() == head.truncated_N.tolist()
    whole = long.encode([text], [pair])
    for segment in (0, 1):
        kept = window.ids_T[window.segments_T == segment].tolist()
        own = whole.ids_T[whole.segments_T == segment].tolist()
        special = 1 if segment == 0 else 0
        kept_body, own_body = kept[special:-1], own[special:-1]
        runs = range(len(own_body) - len(kept_body) + 1)
        assert any(own_body[start : start + len(kept_body)] == kept_body for start in runs)
