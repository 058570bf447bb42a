"""The browser protocol: every message, both dialects, and anything else that may come."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptme_voice_plugin.errors import BadMessage
from gptme_voice_plugin.voice import wire
from gptme_voice_plugin.voice.wire import (
    Dialect,
    encode,
    parse_client_message,
    parse_server_message,
)

# The messages of gptme.voice.v1: type, fields, and which of them may be left out.
CLIENT = {
    "hello": (
        ["client", "conversation_id", "input_sample_rates", "resume", "test", "chat_model"],
        ["conversation_id", "input_sample_rates", "resume", "test", "chat_model"],
    ),
    "played": (["samples"], []),
    "interrupt": ([], []),
    "mute": (["on"], []),
    "commit": ([], []),
    "text": (["text"], []),
    "end": ([], []),
}
SERVER = {
    "preparing": ["what", "share"],
    "ready": [
        "session_id",
        "input_sample_rate",
        "output_sample_rate",
        "backend",
        "model",
        "features",
        "recording",
        "hint",
    ],
    "state": ["state"],
    "speech_started": [],
    "speech_stopped": [],
    "transcript": ["role", "item_id", "text", "final"],
    "reply": ["item_id", "from_sample"],
    "clear": ["at_sample"],
    "usage": ["input_audio_ms", "output_audio_ms", "input_tokens", "output_tokens", "cost_usd"],
    "conversation": ["conversation_id", "name"],
    "tool": ["name", "status", "text"],
    "session_ending": ["reason", "seconds"],
    "error": ["code", "message", "fatal"],
}

# Positions and words as a wire can carry them: UTF-8 has no lone surrogates.
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
counts = st.integers(0, 2**53)
rates = st.lists(st.integers(8000, 192_000), max_size=16).map(tuple)
client_messages = st.one_of(
    st.builds(wire.Hello, words, st.none() | words, rates, st.none() | words, st.booleans()),
    st.builds(wire.Played, counts),
    st.just(wire.Interrupt()),
    st.builds(wire.Mute, st.booleans()),
    st.just(wire.Commit()),
    st.builds(wire.Text, words),
    st.just(wire.End()),
)
server_messages = st.one_of(
    st.builds(wire.Preparing, words, st.none() | st.floats(0, 1)),
    st.builds(
        wire.Ready,
        words,
        counts,
        counts,
        words,
        words,
        st.lists(words).map(tuple),
        st.booleans(),
        st.none() | words,
    ),
    st.builds(wire.StateMessage, words),
    st.just(wire.SpeechStarted()),
    st.just(wire.SpeechStopped()),
    st.builds(wire.Transcript, st.sampled_from(["user", "assistant"]), words, words, st.booleans()),
    st.builds(wire.Reply, words, counts),
    st.builds(wire.Clear, counts),
    st.builds(wire.Usage, counts, counts, counts, counts, st.none() | st.floats(0, 1e6)),
    st.builds(wire.Conversation, words, words),
    st.builds(wire.ToolStatus, words, st.sampled_from(["working", "confirm", "done"]), words),
    st.builds(wire.SessionEnding, words, counts),
    st.builds(wire.ErrorMessage, words, words, st.booleans()),
)


def kinds(union: Any) -> dict[str, type]:
    """Return the message classes of a union by their type."""
    return {kind.type: kind for kind in union.__args__}


def test_client_messages_are_the_documented_ones() -> None:
    """Each documented client message exists with exactly its fields, and no other does."""
    found = {
        name: (
            [f.name for f in fields(kind)],
            [f.name for f in fields(kind) if f.default is not MISSING],
        )
        for name, kind in kinds(wire.ClientMessage).items()
    }
    assert found == CLIENT


def test_server_messages_are_the_documented_ones() -> None:
    """Each documented server message exists with exactly its fields, and no other does."""
    found = {
        name: [f.name for f in fields(kind)] for name, kind in kinds(wire.ServerMessage).items()
    }
    assert found == SERVER


@given(client_messages)
def test_client_round_trip(message: wire.ClientMessage) -> None:
    """What a client encodes, the server parses to the same."""
    text = encode(message)
    assert text is not None
    assert json.loads(text)["type"] == message.type
    assert parse_client_message(text) == message


@given(server_messages)
def test_server_round_trip(message: wire.ServerMessage) -> None:
    """What the server encodes, a client parses to the same, and all fields are there.

    All but what is not known, such as a cost.
    """
    text = encode(message)
    assert text is not None
    known = [name for name in SERVER[message.type] if getattr(message, name) is not None]
    assert list(json.loads(text)) == ["type", *known]
    assert {*SERVER[message.type]} - {*known} <= {"cost_usd", "share", "hint"}
    assert parse_server_message(text) == message


def test_encoding_is_compact_and_readable() -> None:
    """JSON as it is on the wire."""
    assert encode(wire.Transcript("user", "u1", "grüß dich 👋", True)) == (
        '{"type":"transcript","role":"user","item_id":"u1","text":"grüß dich 👋","final":true}'
    )
    assert encode(wire.Hello("web/1")) == (
        '{"type":"hello","client":"web/1","input_sample_rates":[],"test":false}'
    )
    # What a provider does not tell is left out, which is not the same as having cost nothing.
    assert encode(wire.Usage(1, 2, 3, 4)) == (
        '{"type":"usage","input_audio_ms":1,"output_audio_ms":2,"input_tokens":3,"output_tokens":4}'
    )
    assert '"cost_usd":0.0}' in str(encode(wire.Usage(cost_usd=0.0)))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            wire.Ready("id", 16_000, 24_000, "echo", "echo", ("text",)),
            '{"type":"ready","input_sample_rate":16000,"output_sample_rate":24000}',
        ),
        (wire.Clear(480), '{"type":"audio_end"}'),
        (wire.Preparing("Fetching", 0.5), None),
        (wire.StateMessage("listening"), None),
        (wire.SpeechStarted(), None),
        (wire.SpeechStopped(), None),
        (wire.Transcript("user", "u", "hi", True), None),
        (wire.Reply("a", 0), None),
        (wire.Usage(), None),
        (wire.SessionEnding("limit", 60), None),
        (wire.ErrorMessage("code", "Words.", True), None),
    ],
    ids=lambda value: getattr(value, "type", ""),
)
def test_stock_dialect_to_the_client(message: wire.ServerMessage, text: str | None) -> None:
    """A stock client gets `ready`, and `audio_end` where it is to fall silent; nothing else."""
    assert encode(message, Dialect.STOCK) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"commit"}', wire.Commit()),
        ('{"type":"commit","more":1}', wire.Commit()),
        ('{"type":"end"}', None),
        ('{"type":"hello"}', None),
        ('{"type":"text","text":"hi"}', None),
        ("{}", None),
        ("[]", None),
        ("not JSON", None),
        ("", None),
    ],
)
def test_stock_dialect_from_the_client(text: str, message: wire.ClientMessage | None) -> None:
    """From a stock client only `commit` is understood; anything else is ignored."""
    assert parse_client_message(text, Dialect.STOCK) == message


@pytest.mark.parametrize("parse", [parse_client_message, parse_server_message])
def test_unknown_types_and_fields_are_ignored(parse: Any) -> None:
    """Newer peers may say more."""
    assert parse('{"type":"telepathy","on":true}') is None
    assert parse_client_message('{"type":"mute","on":true,"for":"ever"}') == wire.Mute(True)
    assert parse_server_message('{"type":"clear","at_sample":1,"why":""}') == wire.Clear(1)


def test_empty_optional_fields() -> None:
    """null is the same as nothing."""
    text = '{"type":"hello","client":"c","resume":null,"input_sample_rates":null,"test":null}'
    assert parse_client_message(text) == wire.Hello("c")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "null",
        "3",
        "[]",
        '"hello"',
        "{}",
        '{"type":null}',
        '{"type":["hello"]}',
        '{"type":"played","samples":NaN}',
        '{"type":"telepathy","strength":Infinity}',
        "{'type':'end'}",
        '{"type":"end"} {"type":"end"}',
        "[" * 100_000,
        '{"type":' * 100_000,
        '{"type":"played","samples":' + "9" * 5_000 + "}",
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_message(text: str) -> None:
    """Not JSON, not an object, without a type, nested too deep: all the same error."""
    for parse in (parse_client_message, parse_server_message):
        with pytest.raises(BadMessage, match=r"^A text frame must|^'samples' of 'played'"):
            parse(text)
            parse_client_message(text)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ({"type": "hello"}, "'client' of 'hello' must be a text of 1 to 200 characters."),
        ({"type": "hello", "client": ""}, "'client'"),
        ({"type": "hello", "client": "x" * 201}, "'client'"),
        ({"type": "hello", "client": "\ud800"}, "'client'"),
        ({"type": "hello", "client": "c", "resume": 3}, "'resume'"),
        ({"type": "hello", "client": "c", "test": 1}, "'test' of 'hello' must be true or false."),
        ({"type": "hello", "client": "c", "conversation_id": ""}, "'conversation_id'"),
        ({"type": "hello", "client": "c", "input_sample_rates": 48000}, "'input_sample_rates'"),
        ({"type": "hello", "client": "c", "input_sample_rates": [True]}, "'input_sample_rates'"),
        ({"type": "hello", "client": "c", "input_sample_rates": [7999]}, "'input_sample_rates'"),
        ({"type": "hello", "client": "c", "input_sample_rates": [192001]}, "'input_sample_rates'"),
        ({"type": "hello", "client": "c", "input_sample_rates": [4e4]}, "'input_sample_rates'"),
        ({"type": "hello", "client": "c", "input_sample_rates": [8000] * 17}, "at most 16 rates"),
        ({"type": "played"}, "'samples' of 'played' must be a whole number that is not negative."),
        ({"type": "played", "samples": -1}, "'samples'"),
        ({"type": "played", "samples": 1.0}, "'samples'"),
        ({"type": "played", "samples": 1e300}, "'samples'"),
        ({"type": "played", "samples": "1"}, "'samples'"),
        ({"type": "played", "samples": True}, "'samples'"),
        ({"type": "played", "samples": 2**53 + 1}, "'samples'"),
        ({"type": "played", "samples": 10**300}, "'samples'"),
        ({"type": "mute"}, "'on' of 'mute' must be true or false."),
        ({"type": "mute", "on": 1}, "'on'"),
        ({"type": "text"}, "'text' of 'text' must be a text of 1 to 100000 characters."),
        ({"type": "text", "text": ""}, "'text'"),
        ({"type": "text", "text": "x" * 100_001}, "'text'"),
        ({"type": "text", "text": "half \udc00 a pair"}, "'text'"),
    ],
    ids=lambda value: str(value)[:60].encode(errors="replace").decode(),
)
def test_fields_that_do_not_fit(message: dict[str, Any], complaint: str) -> None:
    """A field of a wrong type or range is named, with what it must be."""
    with pytest.raises(BadMessage) as caught:
        parse_client_message(json.dumps(message))
    assert complaint in caught.value.message


def test_pairs_of_surrogates_are_one_character() -> None:
    """JSON may spell a character as a pair; that is a text like any other."""
    assert parse_client_message('{"type":"text","text":"\\ud83d\\ude00"}') == wire.Text("😀")


def test_lone_surrogates_do_not_leave_the_server() -> None:
    """A model's partial text that ends within a character can still be written to a socket."""
    text = encode(wire.Transcript("assistant", "a", "hi \ud83d", False))
    assert text is not None
    assert json.loads(text.encode())["text"] == "hi ?"


def test_incomplete_server_message() -> None:
    """A client is told which message lacks a field."""
    with pytest.raises(BadMessage, match="'clear' message is incomplete"):
        parse_server_message('{"type":"clear"}')


# Values of all kinds, including what only Python's JSON reader takes.
numbers = st.integers() | st.integers(min_value=2**60) | st.floats()
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
keys = st.sampled_from(
    sorted({name for names, _ in CLIENT.values() for name in names}.union(*SERVER.values()))
)
objects = st.builds(
    lambda kind, rest: rest | {"type": kind},
    st.sampled_from([*CLIENT, *SERVER]) | values,
    st.dictionaries(keys, values, max_size=5),
)
texts = st.one_of(
    st.text(st.characters()),
    values.map(json.dumps),
    objects.map(json.dumps),
    objects.map(lambda data: json.dumps(data)[:-1]),
)


@given(texts, st.sampled_from(Dialect))
def test_only_bad_message_escapes(text: str, dialect: Dialect) -> None:
    """Whatever comes, a parser returns a message, None, or raises BadMessage."""
    try:
        message = parse_client_message(text, dialect)
    except BadMessage as error:
        assert dialect is Dialect.V1
        assert error.message.isprintable()
    else:
        if message is not None:
            assert type(message) in wire.ClientMessage.__args__
            hash(message)
            encoded = encode(message)
            assert encoded is not None
            assert parse_client_message(encoded) == message
    try:
        answer = parse_server_message(text)
    except BadMessage:
        return
    assert answer is None or type(answer) in wire.ServerMessage.__args__
