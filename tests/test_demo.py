"""The demo tells the truth, stops where it would not, and leaves nothing running behind."""

import io
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from example_project.browser import Browser
from example_project.stage import MismatchError, Stage

ROOT = Path(__file__).resolve().parent.parent
# Seconds; only a hanging demo takes so long.
PATIENCE = 150

UNENFORCED = """
from example_project.settings import *
LOCK_TOKENS = {"TIMEOUT": 600, "API_MODELS": ["news.Article"], "ENFORCED_MODELS": {}}
"""
UNPROTECTED = """
from unenforced import *
ROOT_URLCONF = "unprotected_urls"
"""
UNPROTECTED_URLS = """
from django.urls import path
from django.views.generic import UpdateView
from example_project.news.views import ArticleEdit
from example_project.urls import urlpatterns

class UncheckedEdit(ArticleEdit):
    post = UpdateView.post

urlpatterns = [path("articles/<int:pk>/edit/", UncheckedEdit.as_view()), *urlpatterns]
"""


def command(*arguments):
    return [sys.executable, "-m", "example_project.demo", *arguments]


def environment(tmp_path, **more):
    """Return an environment in which the demo's temporary files go to ``tmp_path``."""
    ours = {"DJANGO_SETTINGS_MODULE", "LOCK_TOKENS_DB", "LOCK_TOKENS_DB_NAME"}
    env = {name: value for name, value in os.environ.items() if name not in ours}
    return {**env, "TMPDIR": str(tmp_path), "PYTHONIOENCODING": "utf-8", **more}


def run(tmp_path, *arguments, **more):
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(tmp_path, **more),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
    )


@contextmanager
def demo_that_serves(tmp_path):
    """Start the demo and yield its process and what it said until the newsroom was open."""
    process = subprocess.Popen(
        command("--port", "0"),
        cwd=ROOT,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ctrl-C"):
                break
        assert said, process.stderr.read()
        assert said[-1] == "Ctrl-C closes it.\n", "".join(said)
        yield process, "".join(said)
    finally:
        process.kill()
        process.communicate()


def port_in(said):
    return int(said.partition("The newsroom is open: http://127.0.0.1:")[2].partition("/")[0])


def logins_in(said):
    lines = said.partition("The newsroom is open: ")[2].splitlines()[1:4]
    return dict(line.split()[:2] for line in lines)


def left_in(tmp_path):
    return [path.name for path in tmp_path.glob("newsroom-*")]


def test_the_story_is_told_to_its_end(tmp_path):
    done = run(tmp_path, "--once")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    said = " ".join(done.stdout.split())
    for line in [
        "1. Alice takes the article alice GET /articles/1/edit/ → 200 OK",
        "2. Bob is told who has it, and until when bob GET /articles/1/edit/ → 423 Locked",
        "3. Bob insists, and posts a form of his own making bob POST /articles/1/edit/ → 423",
        "4. Alice goes to lunch, and her lock expires",
        "5. Bob takes over, and saves bob GET /articles/1/edit/ → 200 OK",
        "bob POST /articles/1/edit/ → 302 Found",
        "alice POST /articles/1/edit/ → 412 Precondition Failed",
        "✓ the article still says what Bob wrote: “The old bridge stays shut",
        "✓ her typing is shown back to her",
        "✓ with why, and both texts side by side, mine and theirs",
        "7. Alice presses Save again without looking, then looks at both alice POST "
        "/articles/1/edit/ → 423 Locked",
        "✓ she saved what she had looked at, and nothing was lost",
        "chief POST /articles/1/edit/?lock_tokens → 302 Found",
        "✓ she reads: “At",
        "bob PATCH /api/articles/1/ → 428 Precondition Required",
        "alice PATCH /api/articles/1/ → 423 Locked",
        "chief POST /admin/news/article/1/change/ → 403 Forbidden",
        "bob PATCH /api/articles/1/ → 200 OK",
        "✓ lock_tokens.exceptions.LockRequired: news.Article 1 was not written",
        "✓ inside `with locked(article)` the article says",
    ]:
        assert line in said
    last = done.stdout.splitlines()[-1]
    assert last.startswith("Nothing was lost: 10 scenes, ")
    assert last.endswith(" checks, all true.")
    assert "\033" not in done.stdout
    assert left_in(tmp_path) == []


def test_another_projects_settings_in_the_environment_are_left_alone(tmp_path):
    done = run(tmp_path, "--once", DJANGO_SETTINGS_MODULE="somebody_elses.settings")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.parametrize(
    ("settings", "claim", "expected", "came"),
    [
        ("unenforced", "bob PATCH /api/articles/1/", "status 428", "status 200: "),
        ("unprotected", "bob POST /articles/1/edit/", "status 423", "status 302: "),
    ],
)
def test_the_story_breaks_off_where_the_protection_is_missing(
    tmp_path, settings, claim, expected, came
):
    (tmp_path / "unenforced.py").write_text(UNENFORCED)
    (tmp_path / "unprotected.py").write_text(UNPROTECTED)
    (tmp_path / "unprotected_urls.py").write_text(UNPROTECTED_URLS)
    done = run(tmp_path, "--once", "--settings", settings, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    told = (
        f"     ✗ {claim}\n\nThe story does not hold here.\n   expected: {expected}\n   came:     "
    )
    assert told + came.rstrip() in done.stdout
    assert "Nothing was lost" not in done.stdout
    assert left_in(tmp_path) == []


def test_a_reader_who_has_heard_enough_is_no_error_to_show(tmp_path):
    with subprocess.Popen(
        command("--once"),
        cwd=ROOT,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout.readline().startswith("The newsroom")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
    assert left_in(tmp_path) == []


def test_a_taken_port_is_told_before_the_story_begins(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(tmp_path, "--port", str(port))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(f"127.0.0.1:{port} cannot be used: Address already in use. ")
    assert "for example --port " in done.stdout
    assert "Alice" not in done.stdout
    assert left_in(tmp_path) == []


def test_the_newsroom_stays_open_until_ctrl_c_and_then_is_gone(tmp_path):
    with demo_that_serves(tmp_path) as (process, said):
        port = port_in(said)
        logins = logins_in(said)
        assert set(logins) == {"alice", "bob", "chief"}
        for name, password in logins.items():
            assert Browser(port).log_in("/login/", name, password).status == 302
        assert Browser(port).get("/static/news/newsroom.css").status == 200
        process.send_signal(signal.SIGINT)
        rest, complaints = process.communicate(timeout=PATIENCE)
    assert (process.returncode, complaints) == (0, "")
    assert rest == "\nThe newsroom is closed.\n"
    assert left_in(tmp_path) == []
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with pytest.raises(ConnectionRefusedError):
        connection.connect()


@pytest.mark.parametrize(("sent", "returned"), [("SIGTERM", 128 + 15), ("SIGKILL", -9)])
def test_the_server_does_not_outlive_a_demo_that_is_ended(tmp_path, sent, returned):
    with (
        demo_that_serves(tmp_path) as (process, said),
        socket.create_connection(("127.0.0.1", port_in(said)), timeout=PATIENCE) as line,
    ):
        process.send_signal(getattr(signal, sent))
        # The line is cut when the server's process ends, and not before.
        try:
            heard = line.recv(1)
        except ConnectionResetError:
            heard = b""
        assert heard == b""
        process.communicate(timeout=PATIENCE)
    assert process.returncode == returned


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "no_color", "coloured"),
    [(Terminal, None, True), (Terminal, "1", False), (io.StringIO, None, False)],
)
def test_only_a_terminal_gets_colours(monkeypatch, stream, no_color, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    stage = Stage(stream())
    stage.scene("Alice takes the article")
    stage.check("it is hers", wanted=1, got=1)
    assert ("\033[" in stage.stream.getvalue()) is coloured


def test_a_check_that_fails_tells_nothing_as_true():
    stage = Stage(io.StringIO())
    with pytest.raises(MismatchError):
        stage.check("it is hers", wanted="alice", got="bob")
    with pytest.raises(MismatchError):
        stage.check_says("she reads why", "Saved.", "Not saved")
    assert (stage.checks, stage.stream.getvalue()) == (0, "")
