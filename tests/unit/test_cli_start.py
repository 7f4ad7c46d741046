"""What the command guesses from its words before it can parse them."""

from __future__ import annotations

import pytest

from paddock.cli.start import put_source


@pytest.mark.parametrize(
    ("words", "source"),
    [
        ("put data@main folder", "folder"),
        ("--home h put data@main folder more", "folder"),
        ("--home=h put --mirror data@main folder --json", "folder"),
        ("put --concurrency 3 data --project p folder", "folder"),
        ("put data@main", None),
        ("put data --extract folder.tar", None),
        ("put --help", None),
        ("map /folder -o small -- convert {in}", "/folder"),
        ("map -o small -j 2 /folder", "/folder"),
        ("map -- put data /folder", None),
        ("--home put get data folder", None),
        ("repo list", None),
        ("repo put data folder", None),
        ("", None),
    ],
)
def test_the_source_of_a_put_is_known_before_the_words_are_parsed(words: str, source: str | None) -> None:
    assert put_source(words.split()) == source
