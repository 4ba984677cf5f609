"""What the search index is told must make the same index as the texts themselves: its own tokenizer is the oracle."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lunaroute._fast.words import words_once


def terms(told: str) -> tuple[list[str], list[str]]:
    """The index's words of a text, and those left after it was taken out again; the index as in stores/schema.py."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    try:
        memory.execute(
            "CREATE VIRTUAL TABLE search USING fts5(text, content='', detail=none, columnsize=0, tokenize='unicode61')"
        )
        memory.execute("CREATE VIRTUAL TABLE words USING fts5vocab(search, 'row')")
        memory.execute("INSERT INTO search (rowid, text) VALUES (1, ?)", (told,))
        found = [term for (term,) in memory.execute("SELECT term FROM words ORDER BY term").fetchall()]
        memory.execute("INSERT INTO search (search, rowid, text) VALUES ('delete', 1, ?)", (told,))
        memory.execute("INSERT INTO search (search) VALUES ('optimize')")
        return found, [term for (term,) in memory.execute("SELECT term FROM words").fetchall()]
    finally:
        memory.close()


SIGNS = st.one_of(
    st.sampled_from("aAbB01 \n\t_-.\"\\/\0\x7f"),
    # combining marks, letters with and without capitals, signs that are none, scripts without blanks, private use
    st.sampled_from("\u00e9\u00c9e\u0301\u0131\u0130\u00df\u1e9e\u2014\u20ac\u4f60\u0e01\ue000\U0001f600\u200d\u00a0"),
    st.characters(exclude_categories=["Cs"]),
)
TEXTS = st.lists(st.text(SIGNS, max_size=60), max_size=4)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_the_same_index(texts: list[str]) -> None:
    assert terms(words_once(texts)) == (terms("\n".join(texts))[0], [])


def test_each_word_once() -> None:
    assert words_once(["The cat and THE Cat;", "a_cat, (the) 12 cats 12"]) == "the cat and a 12 cats "


def test_of_many_words_none_is_lost() -> None:
    """Also where the table is crowded: the shortest words there can be, and all different."""
    words = [f"{number:x}" for number in range(50_000)]
    assert set(words_once([" ".join(words)]).split()) == set(words)


@pytest.mark.parametrize("texts", [[], [""], ["", " \n"], ["--"]])
def test_nothing(texts: list[str]) -> None:
    assert words_once(texts) == ""


def test_half_a_pair() -> None:
    with pytest.raises(UnicodeEncodeError):
        words_once(["a", "\ud83d"])
