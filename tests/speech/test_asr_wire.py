"""Messages between the recogniser and its child."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_speech.asr import wire
from parley_speech.asr.wire import Kind, Message, Reader, WireError, encode

messages = st.builds(
    Message,
    st.sampled_from(Kind),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=300),
)


@given(st.lists(messages, max_size=8), st.integers(1, 50))
def test_messages_survive_being_cut_anywhere(sent: list[Message], piece: int):
    data = b"".join(encode(m.kind, m.stream, m.payload) for m in sent)
    reader = Reader()
    got = [m for i in range(0, len(data), piece) for m in reader.feed(data[i : i + piece])]
    assert got == sent


def test_fields_survive():
    (message,) = Reader().feed(encode(Kind.HEARD, 7, text="it's “ö”", words=[["a", 0, 20, 0.5]]))
    assert message.stream == 7
    assert message.fields == {"text": "it's “ö”", "words": [["a", 0, 20, 0.5]]}


def test_no_payload_has_no_fields():
    assert Message(Kind.CLOSE, 1).fields == {}


@pytest.mark.parametrize(
    "data",
    [wire.HEADER.pack(99, 0, 0), wire.HEADER.pack(Kind.AUDIO, 0, wire.MAX_PAYLOAD + 1)],
)
def test_lost_step_is_noticed(data: bytes):
    with pytest.raises(WireError, match="none of ours"):
        Reader().feed(data)


def test_a_message_too_long_to_be_read_is_not_sent():
    with pytest.raises(WireError, match="at most"):
        encode(Kind.AUDIO, 0, bytes(wire.MAX_PAYLOAD + 1))


def test_a_payload_that_is_no_object_is_an_error():
    with pytest.raises(ValueError, match="expected a JSON object"):
        _ = Message(Kind.HEARD, 0, b"[1]").fields
