"""gptme-server's own `serve` command, with options for voice: `gptme-voice serve`."""

from __future__ import annotations

import importlib

import click

__all__ = ["ENVIRONMENT", "ServeCommand"]

ENVIRONMENT = {
    "voice": "GPTME_VOICE",
    "voice_backend": "GPTME_VOICE_BACKEND",
    "voice_model": "GPTME_VOICE_MODEL",
    "voice_name": "GPTME_VOICE_VOICE",
}
"""Our options, and the variable each one sets."""


class ServeCommand(click.Command):
    """A command with its own options and those of gptme's `serve`, whatever they are.

    gptme is imported when the options are first asked for: it takes a second, which the help of
    other commands need not wait for.
    """

    _adopted: click.Command | None = None

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """See `click.Command.get_params`."""
        self.adopted()
        return super().get_params(ctx)

    def adopted(self) -> click.Command:
        """Return gptme's command, after its options have been added to this one.

        Raises:
            ClickException: gptme's server is not installed.
        """
        if self._adopted is None:
            self._adopted = _gptme_serve()
            self.params = [*self.params, *self._adopted.params]
        return self._adopted

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write our options first, under a heading of their own."""
        ours: list[tuple[str, str]] = []
        others: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                (ours if param.name in ENVIRONMENT else others).append(record)
        for title, records in (("Voice options", ours), ("Options of gptme-server", others)):
            with formatter.section(title):
                formatter.write_dl(records)


def _gptme_serve() -> click.Command:
    try:
        # gptme 0.35 imports it late, and would leave its absence to a traceback.
        importlib.import_module("flask")
        serve: click.Command = importlib.import_module("gptme.server.cli").serve
    except ImportError as error:
        raise click.ClickException(
            f"gptme's server cannot be loaded ({error}); install gptme with its server extra: "
            "pip install 'gptme[server]'"
        ) from None
    return serve
