"""The example project, served to the browsers, and its database."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from example_project.demo import serving
from tests.browser import desk

# Seconds; only a desk that hangs takes so long.
PATIENCE = 60


class Newsroom(NamedTuple):
    """The example project at ``url``; ``run`` does what ``desk`` can, in its database."""

    url: str
    passwords: dict[str, str]
    office: ProcessPoolExecutor

    def run(self, task, *args, **kwargs):
        return self.office.submit(task, *args, **kwargs).result(PATIENCE)


@contextmanager
def opened(directory, settings):
    """Serve it under ``settings``, with a new database in ``directory``."""
    database = str(directory / "newsroom.sqlite3")
    spawn = multiprocessing.get_context("spawn")
    with (
        pytest.MonkeyPatch.context() as environment,
        ProcessPoolExecutor(1, spawn, desk.open_up, (settings, database)) as office,
    ):
        environment.setenv("DJANGO_SETTINGS_MODULE", settings)
        environment.setenv("NEWSROOM_DATABASE", database)
        passwords = office.submit(desk.passwords).result(PATIENCE)
        with serving(0, directory / "server.log") as (_server, port):
            yield Newsroom(f"http://127.0.0.1:{port}", passwords, office)
