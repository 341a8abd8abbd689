"""``cutray``: the command line. Each verb lives in ``cutray.commands`` and is loaded when it is called."""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys

import click

from cutray import __version__
from cutray.console.own_packages import prefer_own_packages
from cutray.console.run import run

# Verb → module:attribute, and its one line in the list. Loading only the one that is called keeps --help fast.
_VERBS = {
    "remove": ("cutray.commands.remove:remove", "Cut the subject out of photos."),
    "batch": ("pipelines.batch_remove:batch", "Cut out whole collections, here or on a Ray cluster."),
    "templates": ("cutray.commands.templates:templates", "List named canvases, such as square-white."),
    "models": ("cutray.commands.models:models", "List, fetch, show and verify model weights."),
    "doctor": ("cutray.commands.doctor:doctor", "Show what this machine offers, and what is used of it."),
    "serve": ("serve_apps.serve:serve", "Serve the HTTP endpoint and its page."),
    "rollout": ("serve_apps.rollout.command:rollout", "Try a new model on a running endpoint, by rules."),
    "train": ("pipelines.train:train", "Train U²-Net on your photos, here or on a Ray cluster."),
    "train-ensemble": ("pipelines.train_ensemble:train_ensemble", "Put several networks together as one model."),
    "tune": ("pipelines.tune:tune", "Search for better settings, for training or for the mask."),
    "export": ("pipelines.export:export", "Turn weights into files that every engine runs."),
    "register": ("pipelines.register:register", "Register a model; the better one is champion."),
    "drift": ("pipelines.drift.cli:drift", "Tell whether photos are still like the training data."),
    "evaluate": ("pipelines.evaluate:evaluate", "Measure a model on photos with known masks."),
    "bench": ("pipelines.bench.cli:bench", "Measure speed, side by side with other tools."),
}

# The verbs of rembg, which some type from habit, and what does the same here.
_REMBG_VERBS = {
    "i": "cutray remove photo.jpg -o out.png",
    "p": "cutray remove photos/ -o cutouts/",
    "s": "cutray serve",
    "d": "cutray models pull u2net",
    "b": "cat photo.jpg | cutray remove - > out.png",
}


class _LazyGroup(click.Group):
    """A group of verbs that imports only the one in use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Name the verbs in the order above."""
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's signature)
        """Import a verb."""
        if cmd_name not in _VERBS:
            return None
        module_name, attribute = _VERBS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module_name), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's signature)
        """List the verbs without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the right verb to whoever gives a photo, a verb of rembg or a misspelt one."""
        if args and args[0] not in _VERBS:
            hint = _hint(args[0])
            if hint:
                ctx.fail(f"{args[0]!r} is no command. Did you mean: {hint}")
        return super().resolve_command(ctx, args)


def _hint(word: str) -> str | None:
    """Say what was probably meant by a word that is no verb."""
    if word in _REMBG_VERBS:
        return f"{_REMBG_VERBS[word]} (rembg's `{word}`)"
    if os.path.exists(word):
        return f"cutray remove {word}"
    close = difflib.get_close_matches(word, _VERBS, n=1)
    return f"cutray {close[0]}" if close else None


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cutray")
def cli() -> None:
    """Isolate subjects from their backgrounds with U²-Net.

    \b
    Examples:
      cutray remove photo.jpg                          writes photo-cutout.png
      cutray remove photo.jpg -o out.webp --background white
      cutray remove photos/ -o cutouts/                a folder, its tree mirrored
      cat photo.jpg | cutray remove - > cutout.png     a pipe
      cutray models list                               what there is, and what is here
      cutray doctor                                    what this machine can do
    """


def entry_point() -> None:
    """Run as the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may hold what the terminal cannot show
    prefer_own_packages()
    sys.exit(run(cli))


if __name__ == "__main__":
    entry_point()
