"""Does a lock cost more when there are more locks? ``python -m benchmarks.scale --help``

There is one database for each size, all at once, and every verb is run once a round in each of
them, in an order drawn anew: whatever else the machine does meets all sizes alike. The objects
are drawn at random from the whole table.
"""

from __future__ import annotations

import argparse
import gc
import random
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from statistics import median
from time import perf_counter_ns
from typing import Any, NamedTuple

from benchmarks import databases

SIZES = {"postgresql": [1000, 100_000], "sqlite": [1000, 100_000], "mariadb": [1000, 100_000]}
# So many stories exist, of those that are locked, in each database.
STORIES = 5000
WARM_UP = 300

Act = Callable[[], Any]


class Verb(NamedTuple):
    """What is timed on an object with a key of some sort; what has to be done before and after."""

    name: str
    key: Callable[[Desk], int]
    run: Callable[[Desk, Any], Any]
    after: Callable[[Desk, Any], Any] | None = None


class Desk:
    """The objects of one database, drawn at random."""

    def __init__(self, alias: str, locks: int) -> None:
        from benchmarks import rows

        self.alias, self.locks = alias, locks
        live = (n for n in range(1, locks + 1) if n % rows.EXPIRED)
        stride = max(1, locks // STORIES)
        self.stories = [n * rows.STEP for n in live if n % stride == 1 % stride][:STORIES]

    def free(self) -> int:
        return 2 * random.randint(1, self.locks) - 1

    def expired(self) -> int:
        return 20 * random.randint(1, self.locks // 10)

    def live(self) -> int:
        while (number := random.randint(1, self.locks)) % 10 == 0:
            pass
        return 2 * number

    def written(self) -> int:
        return random.choice(self.stories)

    def story(self, key: int) -> Any:
        from benchmarks import rows

        return rows.story(self.alias, key)

    def target(self, key: int) -> Any:
        from lock_tokens.targets import target_of

        return target_of(self.story(key))


@databases.contextmanager
def desks(sizes: list[int]) -> Iterator[list[Desk]]:
    """Have one database a size."""
    from benchmarks import rows

    with databases.database(), ExitStack() as stack:
        made = []
        for size in sizes:
            alias = f"of_{size}"
            stack.enter_context(rows.another_database(alias))
            rows.fill(alias, size)
            desk = Desk(alias, size)
            filling = (2 * (size + n) for n in range(1, STORIES - len(desk.stories) + 1))
            rows.add_stories(alias, [*desk.stories, *filling])
            made.append(desk)
            print(f"{size} locks are there", file=sys.stderr)
        yield made


def refused(desk: Desk, key: int) -> None:
    from lock_tokens.exceptions import AlreadyLockedError
    from lock_tokens.models import LockableModel

    try:
        LockableModel.lock(desk.story(key))
    except AlreadyLockedError:
        return
    raise AssertionError(f"{key} was free")


def remove(desk: Desk, key: int) -> None:
    from lock_tokens import locking

    assert locking.remove(desk.target(key))


def put_back(desk: Desk, key: int) -> None:
    """Lock the object again as ``fill`` did."""
    from benchmarks import rows
    from lock_tokens import locking
    from lock_tokens.locking import NewLock

    ten_days = 10 * rows.DAY
    locking.insert(desk.target(key), NewLock(rows.token_of(key), locking.now(), ten_days))


def expire(desk: Desk, key: int) -> None:
    from django.db import connections

    from benchmarks import rows
    from lock_tokens import locking
    from lock_tokens.statements import OBJECT, TABLE

    connection, target = connections[desk.alias], desk.target(key)
    moment = connection.ops.adapt_datetimefield_value(
        locking.now() - locking.timedelta(seconds=rows.DAY)
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {TABLE} SET locked_at = %s, timeout = 60 WHERE {OBJECT}",  # noqa: S608
            [moment, target.content_type_id, target.key],
        )


def verbs() -> list[Verb]:
    from benchmarks.rows import token_of
    from lock_tokens.enforcement import holding
    from lock_tokens.models import LockableModel

    lock, check = LockableModel.lock, LockableModel.check_lock

    def save(desk: Desk, key: int) -> None:
        with holding(token_of(key)):
            desk.story(key).save()

    return [
        Verb("acquire", Desk.free, lambda d, key: lock(d.story(key)), remove),
        Verb("refused", Desk.live, refused),
        Verb("take over", Desk.expired, lambda d, key: lock(d.story(key)), expire),
        Verb("check", Desk.live, lambda d, key: check(d.story(key), token_of(key))),
        Verb("is_locked", Desk.live, lambda d, key: LockableModel.is_locked(d.story(key))),
        Verb("renew", Desk.live, lambda d, key: lock(d.story(key), token_of(key), 10 * 86400)),
        Verb(
            "release",
            Desk.live,
            lambda d, key: LockableModel.unlock(d.story(key), token_of(key)),
            put_back,
        ),
        Verb("guarded save", Desk.written, save),
    ]


def play(verb: Verb, desk: Desk) -> int:
    """Run the verb once; return how many nanoseconds it took."""
    key = verb.key(desk)
    begun = perf_counter_ns()
    verb.run(desk, key)
    took = perf_counter_ns() - begun
    if verb.after:
        verb.after(desk, key)
    return took


def measure(made: list[Desk], rounds: int) -> dict[str, dict[str, float]]:
    """Return the median of each verb at each size, in microseconds."""
    cases = [(verb, desk) for verb in verbs() for desk in made]
    for verb, desk in cases * WARM_UP:
        play(verb, desk)
    times: dict[tuple[str, int], list[int]] = {(v.name, d.locks): [] for v, d in cases}
    gc.disable()
    for _ in range(rounds):
        random.shuffle(cases)
        for verb, desk in cases:
            times[verb.name, desk.locks].append(play(verb, desk))
    gc.enable()
    return {
        verb.name: {
            str(desk.locks): round(median(times[verb.name, desk.locks]) / 1000, 1) for desk in made
        }
        for verb in verbs()
    }


# How the indexes are called here, whatever the database calls them: by their columns.
COLUMNS_OF = {
    "primary key": "id",
    "token": "token_str",
    "object": "locked_object_content_type_id, locked_object_id",
    "expiry": "expires_at",
}
# PostgreSQL gets a second one from Django for each unique text, for LIKE.
LIKE = "token for LIKE"


def index_names(alias: str) -> dict[str, str]:
    """Return what the database calls each of the indexes, by what they are called here."""
    called = {columns: said for said, columns in COLUMNS_OF.items()}
    found: dict[str, str] = {}
    for name, columns in indexes_of(alias):
        said = called[", ".join(columns)]
        found[LIKE if name.endswith("_like") else said] = name
    return found


def indexes_of(alias: str) -> Iterator[tuple[str, list[str]]]:
    from django.db import connections

    from lock_tokens.statements import TABLE

    connection = connections[alias]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            # Django cannot parse the generated column here.
            cursor.execute(f"PRAGMA index_list({TABLE})")
            for name in [row[1] for row in cursor.fetchall()]:
                cursor.execute(f"PRAGMA index_info({name})")
                yield name, [row[2] for row in cursor.fetchall()]
            return
        constraints = connection.introspection.get_constraints(cursor, TABLE)
    for name, facts in constraints.items():
        if facts["unique"] or facts["index"]:
            yield name, facts["columns"]


class Statement(NamedTuple):
    """A statement as it was executed."""

    verb: str
    sql: str
    params: Any


def executed(desk: Desk) -> list[Statement]:
    """Return the statements of each verb on the locks, and of the others who read the table."""
    from django.db import connections

    found: list[Statement] = []

    def note(run: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "lock_tokens_locktoken" in sql and not noting.get(sql):
            noting[sql] = True
            found.append(Statement(name, sql, params))
        return run(sql, params, many, context)

    for each, act, after in acts(desk):
        name, noting = each, dict[str, bool]()
        with connections[desk.alias].execute_wrapper(note):
            act()
        after()
    return found


def acts(desk: Desk) -> Iterator[tuple[str, Act, Act]]:
    """Yield everything that reads or writes locks, and what is to be done after it."""
    from django.db import transaction

    from benchmarks.rows import token_of
    from lock_tokens import batches
    from lock_tokens.management.commands import remove_expired_locks as command
    from lock_tokens.models import LockToken

    def bulk(act: Callable[..., Any]) -> None:
        with transaction.atomic(desk.alias):
            act([desk.target(desk.live()) for _ in range(3)])

    def renew(targets: list[Any]) -> None:
        batches.renew(batches.hold(targets))

    for verb in verbs():
        keys: list[int] = []
        yield verb.name, partial(begin, verb, desk, keys), partial(end, verb, desk, keys)
    yield "hold many", lambda: bulk(batches.hold), nothing
    yield "reserve many", lambda: bulk(batches.reserve), nothing
    yield "renew many", lambda: bulk(renew), nothing
    locks = LockToken.objects.using(desk.alias)
    tokens = [token_of(desk.live())]
    yield "whose token", lambda: list(locks.filter(token_str__in=tokens)), nothing
    yield "remove expired", lambda: remove_some(desk, command), nothing


def nothing() -> None:
    return None


def begin(verb: Verb, desk: Desk, keys: list[int]) -> None:
    keys.append(verb.key(desk))
    verb.run(desk, keys[-1])


def end(verb: Verb, desk: Desk, keys: list[int]) -> None:
    if verb.after:
        verb.after(desk, keys.pop())


def remove_some(desk: Desk, command: Any) -> None:
    """Remove a batch, and undo it."""
    from django.db import connections, transaction

    from lock_tokens import locking

    connection = connections[desk.alias]
    moment = connection.ops.adapt_datetimefield_value
    with transaction.atomic(desk.alias):
        oldest = moment(locking.now() - locking.timedelta(days=7))
        place, now = command.Place(oldest), moment(locking.now())
        count, _ = command.remove_some(connection, place, now, 100)
        assert count == 100
        transaction.set_rollback(True, desk.alias)


def plans(desk: Desk) -> list[dict[str, str]]:
    """Return how the database goes about each statement."""
    names = index_names(desk.alias)
    found = []
    for verb, sql, params in executed(desk):
        plan = explain(desk.alias, sql, params)
        for said, name in names.items():
            plan = re.sub(rf"\b{re.escape(name)}\b", f"<{said}>", plan)
        found.append({"verb": verb, "sql": sql, "plan": plan})
    return found


EXPLAIN = {"postgresql": "EXPLAIN (COSTS OFF)", "sqlite": "EXPLAIN QUERY PLAN", "mysql": "EXPLAIN"}


def explain(alias: str, sql: str, params: Any) -> str:
    from django.db import connections

    connection = connections[alias]
    with connection.cursor() as cursor:
        # What is set for one statement only stands in front of EXPLAIN.
        setting, statement = re.fullmatch(r"(SET STATEMENT .*? FOR )?(.*)", sql, re.DOTALL).groups(
            ""
        )
        cursor.execute(f"{setting}{EXPLAIN[connection.vendor]} {statement}", params)
        rows = cursor.fetchall()
    if connection.vendor == "sqlite":
        return "\n".join(row[3] for row in rows)
    if connection.vendor == "mysql":
        # table, type, key and Extra.
        return "\n".join(" ".join(str(row[c]) for c in (2, 3, 5, 9) if row[c]) for row in rows)
    return "\n".join(row[0] for row in rows)


# How often something is tried without an index, unless that takes so many nanoseconds.
TRIES, ENOUGH = 15, 3_000_000_000


def without_indexes(desk: Desk) -> dict[str, dict[str, Any]]:
    """Return what each verb takes when one index is missing, as a ratio to what it takes."""
    with_all = {name: seconds(act, after) for name, act, after in acts(desk)}
    found = {}
    # The one of the objects last: without it, objects may have got several locks.
    for index, name in sorted(index_names(desk.alias).items(), key=lambda i: i[0] == "object"):
        if undo := drop(desk.alias, index, name):
            print(f"without the index of the {index}", file=sys.stderr)
            found[index] = {
                verb: ratio(seconds(act, after), with_all[verb]) for verb, act, after in acts(desk)
            }
            if index != "object":
                undo()
    return found


def ratio(took: float | str, with_all: Any) -> float | str:
    return took if isinstance(took, str) else float(f"{took / with_all:.2g}")


def seconds(act: Act, after: Act) -> float | str:
    """Return the median, or why there is none."""
    from django.db import DatabaseError

    times = []
    for _ in range(TRIES):
        begun = perf_counter_ns()
        try:
            act()
            times.append(perf_counter_ns() - begun)
            after()
        except (DatabaseError, AssertionError) as error:
            return f"fails: {type(error).__name__}"
        if sum(times) > ENOUGH:
            break
    return median(times) / 1e9


def drop(alias: str, index: str, name: str) -> Act | None:
    """Drop an index; return what makes it anew, or ``None`` where it is part of the table."""
    from django.db import connections

    from lock_tokens.statements import TABLE

    connection = connections[alias]
    if index == "primary key" or name.startswith("sqlite_"):
        return None
    unique = "UNIQUE " if index in ("token", "object") else ""
    columns = COLUMNS_OF.get(index, "token_str varchar_pattern_ops")
    make = f"CREATE {unique}INDEX {name} ON {TABLE} ({columns})"
    on = f" ON {TABLE}" if connection.vendor == "mysql" else ""
    first = [f"DROP INDEX {name}{on}"]
    if connection.vendor == "postgresql" and unique:
        first = [f"ALTER TABLE {TABLE} DROP CONSTRAINT {name}"]
    if connection.vendor == "mysql":
        first.insert(0, "SET foreign_key_checks = 0")
    with connection.cursor() as cursor:
        for statement in first:
            cursor.execute(statement)

    def undo() -> None:
        with connection.cursor() as cursor:
            cursor.execute(make)

    return undo


def sizes_of_indexes(alias: str) -> dict[str, int]:
    """Return the bytes of each index, where the database tells."""
    from django.db import connections

    if connections[alias].vendor != "postgresql":
        return {}
    with connections[alias].cursor() as cursor:
        sizes = {}
        for said, name in index_names(alias).items():
            cursor.execute("SELECT pg_relation_size(%s)", [name])
            sizes[said] = cursor.fetchone()[0]
        return sizes


def benchmark(sizes: list[int], rounds: int, of_indexes: bool) -> dict[str, Any]:
    random.seed(1)
    with desks(sizes) as made:
        result: dict[str, Any] = {**databases.describe(), "rounds": rounds, "sizes": sizes}
        result["microseconds"] = measure(made, rounds)
        desk = max((d for d in made if d.locks <= 1_000_000), key=lambda d: d.locks)
        result["plans_at"], result["plans"] = desk.locks, plans(desk)
        if of_indexes:
            result["index_bytes"] = sizes_of_indexes(desk.alias)
            result["without"] = without_indexes(desk)
    return result


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=databases.DATABASES, action="append")
    parser.add_argument("--sizes", type=int, nargs="+", help="locks, several numbers")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--indexes", action="store_true", help="also without each index in turn")
    parser.add_argument(
        "--memory", type=int, metavar="MB", help="for the cache of MariaDB and SQLite"
    )
    parser.add_argument("--keep", action="store_true", help="store the result for the docs")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    names = options.database or databases.DATABASES
    if not options.child:
        passed = without(arguments, "--database")
        return max(databases.in_own_process("benchmarks.scale", name, passed) for name in names)
    databases.set_up()
    tidy_up_when_ended()
    from benchmarks import plots, results, rows

    (name,) = names
    with rows.memory(options.memory):
        result = benchmark(options.sizes or SIZES[name], options.rounds, options.indexes)
    print("", result["database"], *plots.scale_tables(result), sep="\n\n")
    if options.keep:
        results.keep("scale", name, result)
    return 0


def tidy_up_when_ended() -> None:
    """Let SIGTERM end this process as Ctrl-C does: its databases are removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def without(arguments: list[str], option: str) -> list[str]:
    """Return ``arguments`` without ``option`` and its value."""
    values = iter(arguments)
    return [each for each in values if each != option or not next(values, "")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
