"""A long reply that its provider makes in a moment is heard whole in the stock web UI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.test_stock_button import attempts, phrases, ready_to_talk, talk
from tests.fakes.openai_realtime import FakeOpenAI
from tests.fakes.script import Reply
from tests.support.browser import chromium
from tests.support.hearing import compare, worklet_copy
from tests.support.pulse import PulseAudio, write_wav
from tests.support.server import GptmeServer
from tests.support.speech import resampled
from tests.support.stock_ui import StockUi

pytestmark = pytest.mark.browser

RATE = 48_000


@pytest.mark.soak
def test_a_reply_faster_than_real_time_is_heard_whole(tmp_path: Path, artifacts: Path) -> None:
    """Ten seconds of speech that come in about one are played for ten seconds."""
    reply = Reply(seconds=10.0)
    expected = reply.samples(24_000)
    with (
        FakeOpenAI(replies=reply, speed=9).in_thread() as fake,
        GptmeServer(
            tmp_path,
            config=f'backend = "openai"\nopenai_base_url = "{fake.url}"',
            env={"OPENAI_API_KEY": "test"},
        ) as server,
        PulseAudio(RATE) as pulse,
        chromium(pulse.env) as context,
    ):
        ui = StockUi(context, server, plain_microphone=True)
        ready_to_talk(ui, server, artifacts)
        question = phrases(RATE, 2.0)
        for attempt in attempts():
            heard = talk(ui, pulse, question, artifacts)
            ui.end_session()
            write_wav(artifacts / f"{attempt}-speakers.wav", heard, RATE)
            asked = compare(worklet_copy(question, RATE, 16_000), ui.wire.sent(), 16_000)
            match = compare(resampled(expected, 24_000, RATE), heard, RATE)
            print(f"attempt {attempt}: {match}; captured {asked}")
            if asked.good:
                # With a hole in it the question is two, and the second interrupts.
                assert ui.wire.reply().tobytes() == expected.tobytes(), "the server spoils nothing"
                assert ui.wire.interruptions == 0
                if match.good:
                    break
        assert asked.good, f"the browser lost what was said: {asked}"
        assert match.good, f"the speakers: {match}"
        assert not ui.errors
