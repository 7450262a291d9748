"""What `predict` says of texts on the command line."""

from manylabel.cli.commands.predict import _tell_of_empty_texts


def test_empty_texts_are_told(capsys):
    _tell_of_empty_texts(["", "hello", "\u200b"], quiet=False)
    assert "2 of 3 rows have no text" in capsys.readouterr().err
    _tell_of_empty_texts(["", "hello"], quiet=True)
    _tell_of_empty_texts(["hello"], quiet=False)
    assert not capsys.readouterr().err
