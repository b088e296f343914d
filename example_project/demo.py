"""Play the newsroom's story, then open the newsroom: ``python -m example_project.demo``.

Sets up a database of its own, starts a server of its own, and leaves neither behind.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from example_project.stage import BOLD, RED, MismatchError, Stage

ROOT = Path(__file__).resolve().parent.parent
LOG_LINES = 25
# Things to see in two browsers that a story over HTTP cannot show.
TO_TRY = (
    "Both open the article. Bob sees who has it, and a countdown. Alice saves, or closes her tab: "
    "within ten seconds Bob is offered “Edit now”.",
    "Alice opens it in two tabs, saves the first, then the second: refused, with mine and theirs.",
    "Alice types; the chief opens the article and takes over. Alice's page says so at once, and "
    "keeps her text to be copied.",
    "Alice cuts the network, or logs out in another tab: her page says so, and tries again.",
)


class CannotServeError(Exception):
    """The server did not start."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m example_project.demo",
        description="Plays a story of two editors and one article over real HTTP, checks every "
        "step, and then serves the newsroom.",
    )
    parser.add_argument("--once", action="store_true", help="end after the story")
    parser.add_argument(
        "--port", type=int, help="serve on this port (8000; with --once, any free one)"
    )
    # Not DJANGO_SETTINGS_MODULE: that may name another project, and the demo writes.
    parser.add_argument(
        "--settings", default="example_project.settings", help="play it under other settings"
    )
    options = parser.parse_args(arguments)
    if options.port is None:
        options.port = 0 if options.once else 8000
    if not 0 <= options.port <= 65535:
        parser.error("a port is a number from 0 to 65535")
    return options


def main() -> int:
    options = parse()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    # Also where whoever started this, a script's "&" for example, has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, frame: sys.exit(128 + number))
    stage = Stage(sys.stdout)
    with TemporaryDirectory(prefix="newsroom-") as directory:
        log = Path(directory) / "server.log"
        try:
            return run(stage, options, Path(directory), log)
        except KeyboardInterrupt:
            stage.write()
            stage.write("Interrupted.")
            return 130
        except CannotServeError as error:
            stage.write(str(error), RED)
        except MismatchError as mismatch:
            stage.fail(mismatch)
            show_log(stage, log)
        except BrokenPipeError:
            # Nobody reads any more (``| head``); Python's own last flush must not complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (OSError, HTTPException) as error:
            stage.write(f"The story broke off: {error}", RED)
            show_log(stage, log)
        return 1


def run(stage: Stage, options: argparse.Namespace, directory: Path, log: Path) -> int:
    os.environ["DJANGO_SETTINGS_MODULE"] = options.settings
    os.environ["NEWSROOM_DATABASE"] = str(directory / "newsroom.sqlite3")
    with serving(options.port, log) as (server, port):
        play(stage, port)
        if options.once:
            return 0
        return keep_open(stage, server, port)


@contextmanager
def serving(port: int, log: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Run the server on ``port``, 0 for any free one; its log goes to the file ``log``."""
    with (
        log.open("wb") as stderr,
        subprocess.Popen(  # noqa: S603 - a program of our own
            [sys.executable, "-m", "example_project.server", str(port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as server,
    ):
        try:
            yield server, started(server, port, log)
        finally:
            stop(server)


def started(server: "subprocess.Popen[str]", port: int, log: Path) -> int:
    """Return the port that the server got, or raise ``CannotServeError``."""
    line = server.stdout.readline().strip()
    if line.isdigit():
        return int(line)
    server.wait()
    if line:
        raise CannotServeError(
            f"127.0.0.1:{port} cannot be used: {line}. Try another, for example --port "
            f"{port + 1 if 1023 < port < 65535 else 8001}."
        )
    raise CannotServeError(f"The server did not start.\n{log.read_text(errors='replace').rstrip()}")


def stop(server: "subprocess.Popen[str]") -> None:
    """End the server: it leaves when its standard input is closed."""
    try:
        server.stdin.close()
        server.wait(timeout=10)
    finally:
        if server.poll() is None:
            server.kill()


def play(stage: Stage, port: int) -> None:
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    from example_project.story import Story, set_up

    stage.title("The newsroom: two editors, one article, nothing lost")
    stage.tell(
        f"Real HTTP at 127.0.0.1:{port}, a new database, one browser each. "
        "What has a status or a tick was checked."
    )
    stage.write()
    call_command("migrate", verbosity=0)
    try:
        Story(stage, set_up(), port).play()
    finally:
        connections.close_all()
    stage.write()
    stage.write(f"Nothing was lost: {stage.scenes} scenes, {stage.checks} checks, all true.", BOLD)


def keep_open(stage: Stage, server: "subprocess.Popen[str]", port: int) -> int:
    """Serve until Ctrl-C; tell where and to whom."""
    from example_project.story import PEOPLE

    stage.write()
    stage.write(f"The newsroom is open: http://127.0.0.1:{port}/", BOLD)
    for name, password in PEOPLE.items():
        role = "the superuser" if name == "chief" else "editor"
        stage.write(f"   {name:<6} {password:<13} {role}")
    stage.write()
    stage.tell(
        "Log in as alice here and as bob in a private window, and put the windows side by side. "
        "Here or at /admin/, it is the same:"
    )
    for line in TO_TRY:
        stage.tell(f"- {line}")
    stage.write("Ctrl-C closes it.")
    try:
        server.wait()
    except KeyboardInterrupt:
        stage.write()
        stage.write("The newsroom is closed.")
        return 0
    stage.write("The server ended by itself.", RED)
    return 1


def show_log(stage: Stage, log: Path) -> None:
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []
    stage.write("   The server's last words:")
    for line in lines:
        stage.write(f"      {line}")


if __name__ == "__main__":
    sys.exit(main())
