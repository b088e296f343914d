"""What does a lock cost, beside what the ORM costs? ``python -m benchmarks.speed --help``

Every call is made once a round, in an order drawn anew for each round, so that whatever else the
machine does meets all of them alike. Only the ratios of one run mean anything.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import count
from statistics import median
from time import perf_counter_ns
from typing import Any, NamedTuple

from benchmarks import databases, results, settings

WARM_UP = 30
# Rows that the bulk update changes.
MANY = 1000


def nothing() -> None:
    return None


class Case(NamedTuple):
    """A call that is timed, and what has to be done before and after it."""

    name: str
    run: Callable[[], Any]
    before: Callable[[], Any] = nothing
    after: Callable[[], Any] = nothing


class Target(NamedTuple):
    """An aim: the median of ``case`` is at most ``most`` times that of ``base``."""

    case: str
    base: str
    # Or by the name of the database, where there is an aim for some of them.
    most: float | dict[str, float]

    def most_on(self, database: str) -> str:
        most = self.most.get(database) if isinstance(self.most, dict) else self.most
        return f"{most:g}" if most else "none"


TARGETS = (
    Target("acquire", "ORM create", 0.9),
    Target("refused", "ORM create", 0.6),
    Target("take over", "ORM create", 1.5),
    Target("renew", "ORM create", 0.8),
    Target("check", "ORM create", 0.4),
    Target("is_locked", "ORM create", 0.4),
    Target("release", "ORM create", 0.8),
    Target("guarded save", "save in atomic", 1.3),
    Target("guarded save in atomic", "save in atomic", 1.3),
    Target("guarded save", "save", {"postgresql": 2.0, "sqlite": 3.0}),
    Target(f"guarded update of {MANY}", f"update of {MANY}", 2.0),
    Target("usual request and ours", "usual request", 1.01),
    Target("bare request and ours", "bare request", 1.01),
    Target("save of what is not named", "save without the package", 1.0),
)


def verbs() -> Iterator[Case]:
    """Yield what a lock can do, and what the ORM does with a row like a lock's."""
    from django.contrib.contenttypes.models import ContentType
    from django.db import connection
    from django.utils import timezone

    from benchmarks.desk.models import Note, Twin
    from lock_tokens import locking
    from lock_tokens.exceptions import AlreadyLockedError
    from lock_tokens.models import LockableModel, LockToken

    free, locked, expired, held = (Note.objects.create() for _ in range(4))
    type_id = ContentType.objects.get_for_model(Note).pk
    keys = map(str, count(1))
    twin = Twin.objects.create(content_type_id=type_id, object_id="0")
    moment = connection.ops.adapt_datetimefield_value
    tokens = {"held": LockableModel.lock(held)["token"]}
    LockableModel.lock(locked)
    LockableModel.lock(expired)
    raw = (
        "INSERT INTO desk_twin (token_str, content_type_id, object_id, created, locked_at, "
        "timeout, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s)"
    )

    def create() -> None:
        Twin.objects.create(content_type_id=type_id, object_id=next(keys))

    def insert() -> None:
        now = moment(timezone.now())
        values = [locking.new_token(), type_id, next(keys), now, now, 3600, now]
        with connection.cursor() as cursor:
            cursor.execute(raw, values)

    def acquire() -> None:
        tokens["free"] = LockableModel.lock(free)["token"]

    def release() -> None:
        LockableModel.unlock(free, tokens["free"])

    def refused() -> None:
        try:
            LockableModel.lock(locked)
        except AlreadyLockedError:
            return
        raise AssertionError("It was not refused.")

    def expire() -> None:
        found = LockToken.objects.filter(locked_object_id=str(expired.pk))
        found.update(locked_at=timezone.now() - timedelta(days=1))

    yield Case("ORM create", create)
    yield Case("ORM get", lambda: Twin.objects.get(pk=twin.pk))
    yield Case("ORM update", lambda: Twin.objects.filter(pk=twin.pk).update(timeout=60))
    yield Case("one raw INSERT", insert)
    yield Case("acquire", acquire, after=release)
    yield Case("refused", refused)
    yield Case("take over", lambda: LockableModel.lock(expired), before=expire)
    yield Case("renew", lambda: LockableModel.lock(held, tokens["held"]))
    yield Case("check", lambda: LockableModel.check_lock(held, tokens["held"]))
    yield Case("is_locked", lambda: LockableModel.is_locked(held))
    yield Case("release", release, before=acquire)


def saves(stack: ExitStack) -> Iterator[Case]:
    """Yield saves of an enforced model, whose token is in hand, and of one that is not."""
    from django.db import transaction

    from benchmarks.desk.models import Note, Story
    from lock_tokens.enforcement import holding, receivers
    from lock_tokens.models import LockableModel

    story, note = Story.objects.create(), Note.objects.create()
    stack.enter_context(holding(LockableModel.lock(story)["token"]))

    def in_atomic(obj: Any) -> None:
        with transaction.atomic():
            obj.save()

    def connect() -> None:
        receivers.connect()
        # What is worked out once and kept is worked out now.
        story.save()

    yield Case("save", note.save)
    yield Case("save in atomic", lambda: in_atomic(note))
    yield Case("guarded save", story.save)
    yield Case("guarded save in atomic", lambda: in_atomic(story))
    yield Case("save of what is not named", note.save)
    yield Case("save without the package", note.save, receivers.disconnect, after=connect)


def updates(stack: ExitStack) -> Iterator[Case]:
    """Yield an update of many rows, all of whose tokens are in hand, and one of as many free."""
    from benchmarks.desk.models import Note, Story
    from lock_tokens.enforcement import holding
    from lock_tokens.models import LockableModel

    numbers = count()
    Story.objects.bulk_create(Story(title="many") for _ in range(MANY))
    Note.objects.bulk_create(Note(title="many") for _ in range(MANY))
    many = Story.objects.filter(title="many")
    stack.enter_context(holding(*[LockableModel.lock(story)["token"] for story in many]))

    def update(model: Any) -> None:
        model.objects.filter(title="many").update(counter=next(numbers))

    yield Case(f"update of {MANY}", lambda: update(Note))
    yield Case(f"guarded update of {MANY}", lambda: update(Story))


OURS = "lock_tokens.enforcement.middleware.LockTokenMiddleware"
# Those that startproject writes, but for that of the messages.
USUAL = (
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
)


def requests() -> Iterator[Case]:
    """Yield requests to a view that does nothing, behind few middlewares and behind many."""
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import RequestFactory, override_settings

    environ = RequestFactory().get("/").environ

    def request(name: str, *middleware: str) -> Case:
        with override_settings(MIDDLEWARE=middleware):
            handler = WSGIHandler()
        return Case(name, lambda: handler(dict(environ), lambda status, headers: None).close())

    yield request("bare request")
    yield request("bare request and ours", OURS)
    yield request("usual request", *USUAL)
    yield request("usual request and ours", *USUAL, OURS)


def play(cases: list[Case], rounds: int) -> dict[str, float]:
    """Play ``cases``, interleaved; return the median time of each, in microseconds."""
    times: dict[str, list[int]] = {case.name: [] for case in cases}
    gc.disable()
    for number in range(-WARM_UP, rounds):
        random.shuffle(cases)
        for case in cases:
            case.before()
            begun = perf_counter_ns()
            case.run()
            took = perf_counter_ns() - begun
            case.after()
            if number >= 0:
                times[case.name].append(took)
        gc.collect(0)
    gc.enable()
    return {name: median(some) / 1000 for name, some in times.items()}


def benchmark(rounds: int) -> dict[str, Any]:
    medians: dict[str, float] = {}
    with databases.database():
        medians |= play(list(verbs()), rounds)
        for group in (saves, updates):
            with ExitStack() as stack:
                # A thousand rows at once are worth more than one.
                few = rounds if group is saves else max(20, rounds // 20)
                medians |= play(list(group(stack)), few)
        medians |= play(list(requests()), rounds * 10)
        about = {**databases.describe(), "name": settings.DATABASE, "rounds": rounds}
        return {**about, "microseconds": medians}


def ratio(medians: dict[str, float], case: str, base: str) -> float:
    return medians[case] / medians[base]


def tables(result: dict[str, Any]) -> Iterator[str]:
    """Yield the tables of one database: what is aimed at, and what each call took."""
    medians = result["microseconds"]
    aims = [
        (
            target.case,
            target.base,
            f"{ratio(medians, target.case, target.base):.2f}",
            target.most_on(result["name"]),
        )
        for target in TARGETS
    ]
    yield results.table(("call", "beside", "ratio", "aim"), aims)
    yield results.table(("call", "µs"), [(name, f"{took:.0f}") for name, took in medians.items()])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--database", choices=databases.DATABASES, action="append")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="store the result for the docs")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    wanted = options.database or databases.DATABASES
    if not options.child:
        rest = [f"--rounds={options.rounds}", f"--seed={options.seed}"]
        rest += ["--keep"] if options.keep else []
        return max(databases.in_own_process("benchmarks.speed", name, rest) for name in wanted)
    databases.set_up()
    random.seed(options.seed)
    result = benchmark(options.rounds)
    print("", result["database"], *tables(result), sep="\n\n")
    if options.keep:
        results.keep("speed", wanted[0], result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
