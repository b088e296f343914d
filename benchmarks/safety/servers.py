"""Database servers of one's own, which may be restarted and crashed at will."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from glob import glob
from pathlib import Path
from typing import Any

from benchmarks.safety.processes import die_with_parent

# Seconds in which a server has to answer after it was started, and to end when it is asked to.
PATIENCE = 60
CONNECTIONS = 300


class Server:
    """A server in ``folder``, reached by a socket there and from nowhere else.

    Nothing is forced to the disk: it is the processes that crash here, not the machine.
    """

    user = ""
    # What a clean shutdown and a crash are.
    shutdown = signal.SIGTERM
    crash = signal.SIGKILL

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def programs(cls) -> list[str | None]:
        """Return the paths of the programs that it needs, ``None`` for each that is missing."""
        raise NotImplementedError

    def initialise(self) -> Sequence[str]:
        """Return the command that makes the data folder."""
        raise NotImplementedError

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def connect(self) -> Any:
        """Open a connection, or raise."""
        raise NotImplementedError

    @property
    def environment(self) -> dict[str, str]:
        """What the settings of the benchmarks have to know."""
        raise NotImplementedError

    def prepare(self) -> None:
        # Servers refuse to run as root.
        if os.getuid() == 0:
            shutil.chown(self.folder, self.user, pwd.getpwnam(self.user).pw_gid)
        with open(self.folder / "initialise.log", "wb") as log:
            command = self.initialise()
            done = subprocess.run(  # noqa: S603
                command, stdout=log, stderr=log, cwd=self.folder, check=False, **self._as_user()
            )
        if done.returncode:
            raise RuntimeError(self._log("initialise.log"))

    def start(self) -> None:
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                # Ctrl-C is for those who use it first.
                start_new_session=True,
                preexec_fn=partial(die_with_parent, signal.SIGQUIT),
                **self._as_user(),
            )
        self._wait()

    def stop(self, *, crashing: bool = False) -> None:
        if self.process is None:
            return
        self.process.send_signal(self.crash if crashing else self.shutdown)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self, *, crashing: bool) -> None:
        self.stop(crashing=crashing)
        self.start()

    def _as_user(self) -> dict[str, Any]:
        options: dict[str, Any] = {"env": {**os.environ, "TMPDIR": str(self.folder)}}
        if os.getuid() == 0:
            entry = pwd.getpwnam(self.user)
            options |= {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        return options

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect().close()
                return
            except Exception:
                ended = self.process is None or self.process.poll() is not None
                if ended or time.monotonic() > end:
                    raise RuntimeError(self._log("server.log")) from None
            time.sleep(0.05)

    def _log(self, name: str) -> str:
        lines = (self.folder / name).read_text(errors="replace").splitlines()
        return "\n".join([f"{type(self).__name__} does not start:", *lines[-20:]])


class PostgreSQL(Server):
    user = "postgres"
    shutdown = signal.SIGINT
    crash = signal.SIGQUIT

    @classmethod
    def programs(cls) -> list[str | None]:
        return [cls._program("initdb"), cls._program("postgres")]

    @staticmethod
    def _program(name: str) -> str | None:
        found = sorted(glob(f"/usr/lib/postgresql/*/bin/{name}"))
        return shutil.which(name) or (found[-1] if found else None)

    def initialise(self) -> Sequence[str]:
        data, (initdb, _) = self.folder / "data", self.programs()
        options = ["--auth=trust", "--username=lock_tokens", "--encoding=UTF8", "--no-sync"]
        return [str(initdb), f"--pgdata={data}", "--no-locale", *options]

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.folder,
            "max_connections": CONNECTIONS,
            "fsync": "off",
            "log_min_messages": "log",
        }
        options = [item for name, value in settings.items() for item in ("-c", f"{name}={value}")]
        return [str(self.programs()[1]), "-D", str(self.folder / "data"), *options]

    def connect(self) -> Any:
        import psycopg

        return psycopg.connect(host=str(self.folder), user="lock_tokens", dbname="postgres")

    @property
    def environment(self) -> dict[str, str]:
        return {"LOCK_TOKENS_DB_HOST": str(self.folder)}


class MariaDB(Server):
    user = "mysql"

    @classmethod
    def programs(cls) -> list[str | None]:
        places = f"{os.environ.get('PATH', '')}:/usr/sbin"
        names = ("mariadb-install-db", "mariadbd")
        return [shutil.which(name, path=places) for name in names]

    def initialise(self) -> Sequence[str]:
        data, (install, _) = self.folder / "data", self.programs()
        options = ["--no-defaults", "--auth-root-authentication-method=normal"]
        return [str(install), *options, f"--datadir={data}", "--skip-test-db"]

    def command(self) -> Sequence[str]:
        settings = {
            "datadir": self.folder / "data",
            "socket": self.socket,
            "pid-file": self.folder / "pid",
            "skip-networking": 1,
            # Whoever reaches the socket may do anything.
            "skip-grant-tables": 1,
            "max-connections": CONNECTIONS,
            # Written at each commit, but to the system only.
            "innodb-flush-log-at-trx-commit": 2,
            # For those who look into a failure.
            "innodb-print-all-deadlocks": 1,
            "character-set-server": "utf8mb4",
            "tmpdir": self.folder,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self.programs()[1]), "--no-defaults", *options]

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def connect(self) -> Any:
        import MySQLdb  # type: ignore[import-untyped]

        return MySQLdb.connect(unix_socket=str(self.socket), user="lock_tokens")

    @property
    def environment(self) -> dict[str, str]:
        return {"LOCK_TOKENS_DB_HOST": str(self.socket)}


KINDS: dict[str, type[Server]] = {"postgresql": PostgreSQL, "mariadb": MariaDB}


def can_be_private(database: str) -> bool:
    """Tell whether a server of one's own can be started here."""
    return database in KINDS and None not in KINDS[database].programs()


@contextmanager
def private(database: str, folder: Path) -> Iterator[Server]:
    """Have a new server inside, which the settings of the benchmarks will use."""
    # A socket's path may have a hundred characters at most.
    home = Path(tempfile.mkdtemp(prefix="server_", dir=folder))
    server = KINDS[database](home)
    before = {name: os.environ.get(name) for name in server.environment}
    try:
        server.prepare()
        server.start()
        os.environ.update(server.environment)
        yield server
    finally:
        server.stop(crashing=True)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        shutil.rmtree(home, ignore_errors=True)
