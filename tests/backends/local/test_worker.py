"""Worker processes: requests in turn, and every way in which one can end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from gptme_voice_plugin.backends.base import Preparing
from gptme_voice_plugin.backends.local import packets, worker
from gptme_voice_plugin.backends.local.worker import Worker
from gptme_voice_plugin.errors import ModelMissing, SpeechFailed, VoiceError

MODULE = "tests.fakes.worker_for_tests"
ROOT = Path(__file__).parents[3]
ECHO = {"do": "echo"}


@pytest.fixture(autouse=True)
def _said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine: what has not changed is not told again."""
    monkeypatch.setattr(worker, "REPEAT_SECONDS", 3600)


def ignore(_: Preparing) -> None:
    """Take progress that nobody wants to know of."""


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test that must leave neither task nor process behind."""

    async def whole() -> None:
        await asyncio.wait_for(test(), 60)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not workers()

    asyncio.run(whole())


def workers() -> list[psutil.Process]:
    """Return the processes of these tests that are still there, also as zombies."""
    found = []
    for each in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # one that is waited for just now
            if each.status() == psutil.STATUS_ZOMBIE or MODULE in each.cmdline():
                found.append(each)
    return found


def a_worker(**opening: Any) -> Worker:
    """Return a worker that is not started yet."""
    return Worker(MODULE, {"do": "open", **opening})


async def until(what: Callable[[], Any]) -> None:
    """Wait for something to be so."""
    while not what():
        await asyncio.sleep(0.005)


async def freeze(worker: Worker) -> None:
    """Stop the process, as by a debugger."""
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    process = psutil.Process(worker.pid)
    await until(lambda: process.status() == psutil.STATUS_STOPPED)


async def failure(work: Coroutine[Any, Any, Any]) -> VoiceError:
    """Return how something fails, which must be in a sentence."""
    with pytest.raises(VoiceError) as caught:
        await work
    message = caught.value.message
    assert message.endswith(".") and "\n" not in message
    return caught.value


def test_answers_come_in_order_to_those_who_asked() -> None:
    """Several ask at once, each gets its own answer, with its bytes."""

    async def test() -> None:
        worker = a_worker()
        assert await worker.open(ignore) == {"sample_rate": 16_000}
        order: list[int] = []

        async def ask(number: int) -> None:
            answer, data = await worker.ask({**ECHO, "say": number}, bytes([number]) * number)
            assert (answer["said"], data) == (number, bytes([number]) * number)
            order.append(number)

        await asyncio.gather(*map(ask, range(20)))
        assert order == list(range(20)) and not worker.busy
        _, data = await worker.ask({"do": "large", "size": 5_000_000})
        assert len(data) == 5_000_000
        await worker.close()

    run(test)


def test_whoever_is_cancelled_while_waiting_leaves_the_line(tmp_path: Path) -> None:
    """What is not begun is not done; what is begun does not spoil the next answer."""

    async def test() -> None:
        worker = a_worker()
        begun, go = tmp_path / "begun", tmp_path / "go"
        wait = {"do": "wait", "begun": str(begun), "until": str(go)}
        first = asyncio.create_task(worker.ask(wait))
        await until(begun.exists)
        second = asyncio.create_task(worker.ask({"do": "die"}))
        third = asyncio.create_task(worker.ask({**ECHO, "say": "third"}))
        await asyncio.sleep(0)
        assert worker.busy
        second.cancel()
        first.cancel()
        await asyncio.wait([first, second])
        assert first.cancelled() and second.cancelled() and not third.done()
        go.touch()
        answer, _ = await third
        assert answer["said"] == "third" and not worker.busy
        await worker.close()

    run(test)


@pytest.mark.parametrize("how", ["kill", "die", "garble"])
def test_one_that_dies_is_started_again(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The request that it was at fails, the next one is answered by another process."""

    async def test() -> None:
        worker = a_worker()
        await worker.open(ignore)
        pid = worker.pid
        assert pid is not None
        begun = tmp_path / "begun"
        request = {"do": "hang", "begun": str(begun)} if how == "kill" else {"do": how}
        asked = asyncio.create_task(worker.ask(request))
        line = asyncio.create_task(worker.ask(ECHO))
        if how == "kill":
            await until(begun.exists)
            os.kill(pid, signal.SIGKILL)
        error = await failure(asyncio.wait_for(asked, 30))
        assert type(error) is SpeechFailed and "ended unexpectedly" in error.message
        answer, _ = await line
        assert answer["pid"] == worker.pid != pid
        await worker.close()

    run(test)
    status = {"kill": -9, "die": 7, "garble": 0}[how]
    [record] = [r for r in caplog.records if r.name.startswith("gptme_voice")]
    assert record.getMessage() == f"{MODULE} ended with status {status}."
    assert not [r for r in caplog.records if r.name == "asyncio" and r.levelname != "DEBUG"]


def test_one_that_has_died_while_nobody_asked_is_started_again() -> None:
    """It is noticed without a failure."""

    async def test() -> None:
        worker = a_worker()
        await worker.open(ignore)
        pid = worker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: worker.pid is None)
        answer, _ = await worker.ask(ECHO)
        assert answer["pid"] != pid
        await worker.close()

    run(test)


def test_an_opening_that_fails_says_why_and_is_tried_again(tmp_path: Path) -> None:
    """The class and the sentence are those of the process; nothing of it is left."""
    there = tmp_path / "model"

    async def test() -> None:
        worker = a_worker(unless=str(there))
        for _ in range(2):
            error = await failure(worker.open(ignore))
            assert (type(error), error.message) == (ModelMissing, "There is no model; fetch it.")
            assert worker.pid is None and not worker.busy
        there.touch()
        await worker.open(ignore)
        await worker.close()

    run(test)


def test_all_who_wait_for_it_are_told_how_far_it_is(tmp_path: Path) -> None:
    """One process is started for all, and who comes later is told where it stands."""
    log, go = tmp_path / "log", tmp_path / "go"

    async def test() -> None:
        worker = a_worker(steps=4, log=str(log), until=str(go))
        told: list[list[Preparing]] = [[], [], []]
        first = asyncio.create_task(worker.open(told[0].append))
        second = asyncio.create_task(worker.open(told[1].append))
        await until(lambda: len(told[0]) == 4)
        third = asyncio.create_task(worker.open(told[2].append))
        await asyncio.sleep(0)
        second.cancel()  # it goes on for the others
        await asyncio.wait([second])
        go.touch()
        await asyncio.gather(first, third)
        steps = [Preparing("Getting ready", share / 4) for share in range(4)]
        assert told == [steps, steps, steps[-1:]]
        assert len(log.read_text().split()) == 1
        told[0].clear()
        await worker.open(told[0].append)
        assert not told[0]
        await worker.close()

    run(test)


def test_what_takes_long_goes_on_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits gives up if nothing is said for long: also of a step that says nothing."""
    monkeypatch.setattr(worker, "REPEAT_SECONDS", 0.02)
    log, go = tmp_path / "log", tmp_path / "go"

    async def test() -> None:
        for steps, first in ((1, Preparing("Getting ready", 0.0)), (0, None)):
            slow = a_worker(steps=steps, log=str(log), until=str(go))
            told: list[Preparing] = []
            opening = asyncio.create_task(slow.open(told.append))
            await until(lambda told=told: len(told) >= 10)  # type: ignore[misc]
            go.touch()
            await opening
            # Before the process says anything, it is only known that it starts.
            assert told[-1] == (first or Preparing("Starting the local backend"))
            count = len(told)
            await asyncio.sleep(0.1)
            assert len(told) == count
            await slow.close()
            go.unlink()

    run(test)


def test_whoever_waited_for_the_opening_may_leave(tmp_path: Path) -> None:
    """The process gets ready all the same."""
    log, go = tmp_path / "log", tmp_path / "go"

    async def test() -> None:
        worker = a_worker(log=str(log), until=str(go))
        opening = asyncio.create_task(worker.open(ignore))
        await until(log.exists)
        opening.cancel()
        await asyncio.wait([opening])
        go.touch()
        await worker.open(ignore)
        assert len(log.read_text().split()) == 1
        await worker.close()

    run(test)


def test_what_libraries_print_breaks_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """It goes to the log, also if it is C that prints."""

    async def test() -> None:
        worker = a_worker()
        for _ in range(2):
            answer, _ = await worker.ask({"do": "print"})
            assert answer == {"said": "printed"}
        await worker.close()

    run(test)
    assert "A library greets you." in capfd.readouterr().err


def test_a_defect_in_it_is_told_in_a_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    """Details are for the log, and the process goes on."""

    async def test() -> None:
        worker = a_worker()
        await worker.open(ignore)
        pid = worker.pid
        error = await failure(worker.ask({"do": "fail"}))
        assert type(error) is SpeechFailed
        assert "RuntimeError" in error.message and "secret" not in error.message
        assert worker.pid == pid
        await worker.close()

    run(test)
    assert "a secret reason" in capfd.readouterr().err


@pytest.mark.parametrize("opening", [False, True])
def test_one_that_never_answers_is_ended(
    opening: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for ever, and the next request is answered."""
    begun, go = tmp_path / "begun", tmp_path / "go"

    async def test() -> None:
        if opening:
            worker = Worker(MODULE, {"do": "open", "until": str(go)}, opening_patience=1.5)
            error = await failure(worker.open(ignore))
        else:
            worker = Worker(MODULE, {"do": "open"}, patience=0.5)
            error = await failure(worker.ask({"do": "hang", "begun": str(begun)}))
        assert type(error) is SpeechFailed and "did not answer" in error.message
        assert worker.pid is None
        go.touch()
        worker._opening_patience = worker._patience = 60.0
        answer, _ = await worker.ask({**ECHO, "say": 1})
        assert answer["said"] == 1
        await worker.close()

    run(test)
    assert "has not answered" in caplog.text


def test_closing_ends_what_it_is_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Who waits is told, also who is in line, and nothing is wrong in the log."""
    begun = tmp_path / "begun"

    async def test() -> None:
        worker = a_worker()
        asked = asyncio.create_task(worker.ask({"do": "hang", "begun": str(begun)}))
        line = [asyncio.create_task(worker.ask(ECHO)) for _ in range(3)]
        await until(begun.exists)
        await worker.close()
        for task in (asked, *line):
            error = await failure(asyncio.wait_for(task, 5))
            assert error.message == "The local backend has ended; start the session again."
        assert "has ended" in (await failure(worker.open(ignore))).message
        await worker.close()

    run(test)
    assert not caplog.records and not capfd.readouterr().err


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 50])
def test_closing_while_it_starts(turns: int, caplog: pytest.LogCaptureFixture) -> None:
    """At whatever moment: no process, no task is left."""

    async def test() -> None:
        worker = a_worker()
        opening = asyncio.create_task(worker.open(ignore))
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.gather(worker.close(), worker.close())
        await failure(asyncio.wait_for(opening, 5))

    run(test)
    assert not caplog.records


def test_closing_one_that_is_not_started() -> None:
    """It may be done, and more than once."""

    async def test() -> None:
        worker = a_worker()
        await worker.close()
        await worker.close()
        await failure(worker.ask(ECHO))

    run(test)


@pytest.mark.parametrize("asked_before", [True, False])
def test_one_that_does_not_end_by_itself_is_killed(
    asked_before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it is stopped; who waits for it is told."""
    monkeypatch.setattr(worker, "CLOSE_SECONDS", 0.2)
    begun = tmp_path / "begun"

    async def test() -> None:
        stopped = a_worker()
        await stopped.open(ignore)
        hang = {"do": "hang", "begun": str(begun)}
        if asked_before:
            asked = asyncio.create_task(stopped.ask(hang))
            await until(begun.exists)
        await freeze(stopped)
        if not asked_before:
            asked = asyncio.create_task(stopped.ask(hang))
            await asyncio.sleep(0)
        await stopped.close()
        assert "has ended" in (await failure(asyncio.wait_for(asked, 5))).message

    run(test)


def test_closing_that_is_cancelled_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes has no time left, say."""
    monkeypatch.setattr(worker, "CLOSE_SECONDS", 60.0)

    async def test() -> None:
        stopped = a_worker()
        await stopped.open(ignore)
        await freeze(stopped)
        closing = asyncio.create_task(stopped.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()

    run(test)


def test_a_loop_that_ends_leaves_no_process(tmp_path: Path) -> None:
    """Even if nobody has closed anything."""
    begun = tmp_path / "begun"

    async def test() -> None:
        worker = a_worker()
        asyncio.ensure_future(worker.ask({"do": "hang", "begun": str(begun)}))
        await until(begun.exists)

    asyncio.run(test())
    assert not workers()


def test_it_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is told in a sentence."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    async def test() -> None:
        worker = a_worker()
        error = await failure(worker.open(ignore))
        assert "cannot be started (No such file or directory)" in error.message
        await worker.close()

    run(test)


def test_a_workspace_cannot_stand_in_for_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process finds its modules wherever its parent runs."""
    (tmp_path / "json.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "gptme_voice_plugin").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)

    async def test() -> None:
        worker = a_worker()
        await worker.open(ignore)
        await worker.close()

    run(test)


def start_alone() -> subprocess.Popen[bytes]:
    """Start a worker process with a pipe, and have it ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(packets.pack({"do": "open"}))
    process.stdin.flush()
    assert packets.read(process.stdout) == ({"sample_rate": 16_000}, b"")
    return process


@pytest.mark.parametrize("at_work", [False, True])
def test_it_ends_when_its_parent_has_gone(at_work: bool, tmp_path: Path) -> None:
    """Also if it is at something that would never end."""
    begun = tmp_path / "begun"
    with start_alone() as process:
        assert process.stdin is not None
        if at_work:
            process.stdin.write(packets.pack({"do": "hang", "begun": str(begun)}))
            process.stdin.flush()
            while not begun.exists():
                assert process.poll() is None
        process.stdin.close()
        assert process.wait(120) == 0


def test_ctrl_c_is_not_for_it() -> None:
    """What is asked is answered all the same."""
    with start_alone() as process:
        assert process.stdin is not None and process.stdout is not None
        process.send_signal(signal.SIGINT)
        process.stdin.write(packets.pack({"do": "echo", "say": 1}, b"abc"))
        process.stdin.flush()
        answer = packets.read(process.stdout)
        assert answer is not None and answer[1] == b"abc"
        process.stdin.close()
        assert process.wait(120) == 0


STRICT = """
import asyncio, sys
from gptme_voice_plugin.backends.local.worker import Worker

async def main(how):
    asyncio.get_running_loop().slow_callback_duration = 60  # the machine's affair
    worker = Worker("tests.fakes.worker_for_tests", {"do": "open"})
    if how == "starting":
        opening = asyncio.create_task(worker.open(lambda _: None))
        await asyncio.sleep(0.001)
        await worker.close()
        await asyncio.wait([opening])
        opening.exception()
        return
    await worker.open(lambda _: None)
    if how == "large":
        asked = asyncio.create_task(worker.ask({"do": "large", "size": 10**7}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await worker.close()
        await asyncio.wait([asked])
        asked.exception()
    elif how == "dies":
        await asyncio.gather(worker.ask({"do": "die"}), return_exceptions=True)
        await worker.ask({"do": "echo"})
    await worker.close()

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("how", ["starting", "large", "dies", "closed"])
def test_nothing_is_left_open(how: str) -> None:
    """Python's own checks find nothing."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", STRICT, how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    unexpected = [line for line in done.stderr.splitlines() if "ended with status" not in line]
    assert (done.returncode, done.stdout, unexpected) == (0, "", [])


# Packets


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_a_packet_that_is_cut_off_is_the_end(cut: int, tmp_path: Path) -> None:
    """A parent that dies may leave half of one."""
    file = tmp_path / "packet"
    packet = packets.pack({"a": 1}, b"bytes")
    file.write_bytes(packet)
    with file.open("rb") as stream:
        assert packets.read(stream) == ({"a": 1}, b"bytes")
    file.write_bytes(packet[:-cut])
    with file.open("rb") as stream:
        assert packets.read(stream) is None


@pytest.mark.parametrize(
    "header", [b"", b"{", b"[]", b"{}", b'{"bytes": -1}', b'{"bytes": "1"}', b"\xff"]
)
def test_what_is_no_packet_is_a_value_error(header: bytes) -> None:
    """Whatever it is."""
    with pytest.raises(ValueError):
        packets.parse(header)
    with pytest.raises(ValueError):
        packets.header_size(b"Hell")
