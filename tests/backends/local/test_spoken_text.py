"""What is spoken of a text model's answer, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptme_voice_plugin.backends.local.spoken_text import (
    CODE_NOTICE,
    MAX_SENTENCE,
    TABLE_NOTICE,
    Sentence,
    SpokenText,
)


def spoken(*pieces: str) -> list[str]:
    """Return all that is spoken of an answer that comes in these pieces."""
    return [sentence.text for sentence in sentences_of(*pieces)]


def sentences_of(*pieces: str) -> list[Sentence]:
    """Return the same, with where in the answer each of them ends."""
    text = SpokenText()
    return [sentence for piece in pieces for sentence in text.push(piece)] + text.finish()


def texts(sentences: list[Sentence]) -> list[str]:
    """Return what is spoken of them."""
    return [sentence.text for sentence in sentences]


@pytest.mark.parametrize(
    ("answer", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It costs 3.50 euros. Yes.", ["It costs 3.50 euros.", "Yes."]),
        ("See Dr. Smith, e.g. today. Fine.", ["See Dr. Smith, e.g. today.", "Fine."]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("Is it in main.py? No.", ["Is it in main.py?", "No."]),
        ("一つ。二つ。", ["一つ。", "二つ。"]),
        ("One line\ngoes on. Next.", ["One line goes on.", "Next."]),
        ("One paragraph\n\nAnother", ["One paragraph", "Another"]),
        ("This is **very *much*** so.", ["This is very much so."]),
        ("Call `main()` in `a_b.py`.", ["Call main() in a_b.py."]),
        ("2 * 3 is 6, and a_b_c a name.", ["2 * 3 is 6, and a_b_c a name."]),
        ("See [the manual](https://a.example/x_y).", ["See the manual."]),
        ("It is at https://a.example/b?c=d.", ["It is at a link."]),
        ("# A heading\nText.", ["A heading", "Text."]),
        ("- one\n- two\n", ["one", "two"]),
        ("1. one\n2) two\n", ["one", "two"]),
        ("> quoted.\n", ["quoted."]),
        ("Before.\n\n---\n\nAfter.", ["Before.", "After."]),
        ("Done! 🎉🎉", ["Done!"]),
        ("a <b>bold</b> word.", ["a bold word."]),
        ("<think>Hm. Well.</think>Yes.", ["Yes."]),
        ("<think>\nHm.\n\nWell.\n</think>\n\nYes.", ["Yes."]),
        ("", []),
        ("  \n\n ", []),
    ],
)
def test_text(answer: str, sentences: list[str]) -> None:
    """Sentences as a person would read them out."""
    assert spoken(answer) == sentences


def test_code_is_left_out_with_a_word() -> None:
    """Once, however many blocks there are; what stands around them is spoken."""
    answer = "Here it is:\n```python\nprint('a. b.')\n```\nAnd:\n~~~\nmore\n~~~\nThat is all."
    assert spoken(answer) == ["Here it is:", CODE_NOTICE, "And:", "That is all."]
    assert spoken("```\nnever closed") == [CODE_NOTICE]
    assert spoken("````\n```\nstill code\n````\nAfter.") == [CODE_NOTICE, "After."]


def test_tables_are_left_out_with_a_word() -> None:
    """Each of them."""
    answer = "See:\n| a | b |\n|---|---|\n| 1 | 2 |\n\nAnd:\n\n| c |\n|---|\n"
    assert spoken(answer) == ["See:", TABLE_NOTICE, "And:", TABLE_NOTICE]


def test_speech_begins_with_the_first_clause() -> None:
    """Only the first: the others sound better whole."""
    text = SpokenText()
    assert texts(text.push("As far as I can see from here, ")) == ["As far as I can see from here,"]
    assert texts(text.push("it is one, two, or three, as far as I know. And")) == [
        "it is one, two, or three, as far as I know."
    ]
    assert texts(text.finish()) == ["And"]


def test_a_sentence_is_given_out_as_soon_as_it_is_known() -> None:
    """With the space behind it: the next character might have belonged to it."""
    text = SpokenText()
    assert texts(text.push("It is 3.")) == []
    assert texts(text.push("5. ")) == ["It is 3.5."]


def test_a_sentence_without_end() -> None:
    """It is cut at a space, so that speech and memory go on."""
    sentences = spoken("word " * 500)
    assert all(len(sentence) <= MAX_SENTENCE + 5 for sentence in sentences)
    assert " ".join(sentences).split() == ["word"] * 500


PARTS = st.sampled_from(
    [
        "Hello there. ",
        "one, two, ",
        "**bold** ",
        "`code` ",
        "[a link](http://x.example) ",
        "\n\n",
        "\n",
        "- item\n",
        "```\ncode. more.\n```\n",
        "| a | b |\n",
        "<think>hm. </think>",
        "3.5 ",
        "e.g. ",
        "# Title\n",
        "https://a.example/b ",
        "* ",
        "_",
        "<",
    ]
)


@given(st.lists(PARTS, max_size=12).map("".join), st.data())
def test_how_it_is_cut_does_not_matter(answer: str, data: st.DataObject) -> None:
    """Whole, in two, or character by character: the same is spoken."""
    whole = spoken(answer)
    at = data.draw(st.integers(0, len(answer)))
    assert spoken(answer[:at], answer[at:]) == whole
    assert spoken(*answer) == whole


@given(st.text(max_size=200))
def test_anything(answer: str) -> None:
    """Whatever a model writes, what is spoken are lines with something to say in them."""
    for sentence in spoken(answer):
        assert "\n" not in sentence and any(c.isalnum() for c in sentence)


def test_where_in_the_answer_a_sentence_ends() -> None:
    """What is spoken is a part of the answer; the parts follow each other, to its end."""
    answer = "Here it **is**: a file.\n\n```sh\nls. -l\n```\nOne. Two.\n- a point\n\nThat is all."
    told = sentences_of(*answer)
    parts, before = [], 0
    for sentence in told:
        parts.append(answer[before : sentence.end])
        before = sentence.end
    assert "".join(parts) == answer
    assert parts[0] == "Here it **is**: a file.\n"
    assert parts[1] == "\n```sh\n" and told[1].text == CODE_NOTICE
    assert parts[2] == "ls. -l\n```\nOne. "
    assert parts[-1] == "\nThat is all."


@given(st.text(alphabet="ab. \n`-*#|", max_size=80))
def test_ends_only_go_forward(answer: str) -> None:
    """Whatever the answer: an end is never before the one of the sentence before."""
    ends = [sentence.end for sentence in sentences_of(answer)]
    assert ends == sorted(ends)
    assert not ends or 0 < ends[-1] <= len(answer)
