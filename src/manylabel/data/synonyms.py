"""English synonyms from the WordNet that the user has installed for NLTK. Called by recipes/augment.py.

Nothing is downloaded here. A word gets the other words of its most frequent sense only (by WordNet's own counts), since
a synonym of a rare sense changes what a text says. NLTK says where WordNet lies; its files are read here, because
NLTK's reader takes longer and leaves them open. Their format is described in wndb(5WN) and cntlist(5WN).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from manylabel.errors import ConfigError, Finding

PARTS_OF_SPEECH = {"noun": "1", "verb": "2", "adj": "3", "adv": "4"}
"""Endings of the file names, and how sense keys call them; of senses that are as frequent the first one counts."""
SATELLITE = "5"
"""How sense keys call adjectives that are grouped around another one; they are numbered with all adjectives."""
MARKER = re.compile(r"\([a-z]+\)$")
"""Where an adjective may stand, written behind it."""
SHORTEST = 3
"""Letters of the shortest word that has synonyms: WordNet knows "he" as helium and "in" as an inch."""


def wordnet_synonyms() -> Callable[[str], tuple[str, ...]]:
    """A function from a word in lower case to its synonyms: single words in lower case, sorted.

    Inflected words ("refunds"), words with little content ("have") and unknown ones have none. Raises ConfigError
    (D198) when NLTK or its WordNet is not installed or cannot be read.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    folder = _folder()
    try:
        senses = _most_frequent_senses(folder)
    except (OSError, ValueError, IndexError, KeyError) as error:
        found = f"NLTK's WordNet cannot be read ({type(error).__name__})"
        raise _missing(found, "python -m nltk.downloader --force wordnet") from error
    found_synonyms = {
        word: tuple(sorted(name for name in names if name != word and name.isalpha() and name.islower()))
        for word, names in senses.items()
        if len(word) >= SHORTEST and word not in ENGLISH_STOP_WORDS
    }
    return lambda word: found_synonyms.get(word, ())


def _most_frequent_senses(folder: Any) -> dict[str, tuple[str, ...]]:  # noqa: ANN401 - NLTK has no types
    """For each word all words of the sense in which it occurs most often."""
    counts = _counts_of_first_senses(folder)
    best: dict[str, tuple[int, tuple[str, ...]]] = {}
    for part, number in PARTS_OF_SPEECH.items():
        words_at = _words_by_offset(folder, part)
        for fields in _records(folder, f"index.{part}"):
            # lemma, part of speech, senses, pointers, each pointer, senses again, counted senses, each offset
            word, names = fields[0], words_at[fields[6 + int(fields[3])]]
            count = counts.get((word, number), 0)
            if word in names and (word not in best or count > best[word][0]):
                best[word] = count, names
    return {word: names for word, (_, names) in best.items()}


def _words_by_offset(folder: Any, part: str) -> dict[str, tuple[str, ...]]:  # noqa: ANN401
    """The words of every sense of a part of speech, by where the sense stands in its file."""
    found = {}
    for fields in _records(folder, f"data.{part}"):
        # offset, file number, part of speech, number of words (hexadecimal), each word and its number
        words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        found[fields[0]] = tuple(MARKER.sub("", word) for word in words)
    return found


def _counts_of_first_senses(folder: Any) -> dict[tuple[str, str], int]:  # noqa: ANN401
    """How often each word occurs in its first sense, by word and number of the part of speech."""
    counts = {}
    for key, number, count in _records(folder, "cntlist.rev"):
        if number == "1":
            word, _, lexical = key.partition("%")
            part = lexical[:1]
            counts[word, PARTS_OF_SPEECH["adj"] if part == SATELLITE else part] = int(count)
    return counts


def _records(folder: Any, name: str) -> Iterator[list[str]]:  # noqa: ANN401
    """The fields of each line, without the licence at the beginning, whose lines start with two spaces."""
    with folder.join(name).open() as file:
        content = file.read().decode("utf-8")
    return (line.split() for line in content.split("\n") if line and not line.startswith("  "))


def _folder() -> Any:  # noqa: ANN401
    """Where WordNet lies: unpacked, or in the archive that the downloader may leave packed."""
    try:
        find = import_module("nltk.data").find
    except ImportError as error:
        command = "pip install nltk && python -m nltk.downloader wordnet"
        raise _missing("NLTK is not installed", command) from error
    for place in ("corpora/wordnet", "corpora/wordnet.zip/wordnet/"):
        try:
            return find(place)
        except LookupError:
            continue
    raise _missing("NLTK's WordNet is not installed", "python -m nltk.downloader wordnet")


def _missing(found: str, command: str) -> ConfigError:
    next_step = f"run `{command}`, or leave out augmentation.synonyms"
    return ConfigError(Finding("D198", "setting augmentation.synonyms", found, "WordNet for NLTK", next_step))
