"""The commands: sweeping up, listing and breaking locks."""

from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from io import StringIO
from threading import Barrier, Event

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models.signals import post_delete
from freezegun import freeze_time

from lock_tokens import locking, signals
from lock_tokens.enforcement import holding
from lock_tokens.exceptions import AlreadyLockedError
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.targets import target_of
from tests.app.models import Article, Bistro, Line, Slug, Uuid
from tests.race.players import TIME_ENOUGH, before, interleaved, outcomes, play

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)


def run(*args, **options):
    """Run a command and return what it printed."""
    out = StringIO()
    call_command(*args, stdout=out, no_color=True, **options)
    return out.getvalue()


@pytest.fixture(autouse=True)
def clock():
    with freeze_time(NOON) as frozen:
        yield frozen


@pytest.fixture
def articles(clock, lock):
    """Twenty articles whose locks expired 1 to 20 seconds ago, and five with live locks."""
    articles = [Article.objects.create(title=str(number)) for number in range(25)]
    for seconds, article in enumerate(articles[:20], 1):
        lock(article, timeout=21 - seconds)
    clock.tick(20)
    for article in articles[20:]:
        lock(article)
    clock.tick(1)
    return articles


def locked(articles):
    locked = LockToken.objects.for_objects(articles)
    return [article for article in articles if article in locked]


class TestRemoveExpiredLocks:
    @pytest.mark.parametrize("size", [1, 3, 20, 1000])
    def test_the_expired_ones_go_and_the_live_ones_stay(self, articles, size):
        out = run("remove_expired_locks", "--batch-size", str(size))
        assert out == "Successfully removed 20 expired locks.\n"
        assert locked(articles) == articles[20:]

    def test_a_lock_goes_at_the_instant_it_expires(self, article, lock, clock):
        lock(article, timeout=60)
        clock.tick(timedelta(seconds=60) - timedelta(microseconds=1))
        assert run("remove_expired_locks") == "Successfully removed 0 expired locks.\n"
        clock.tick(timedelta(microseconds=1))
        assert run("remove_expired_locks") == "Successfully removed 1 expired locks.\n"

    def test_those_that_expired_lately_can_be_spared(self, articles):
        out = run("remove_expired_locks", "--older-than", "11")
        assert out == "Successfully removed 10 expired locks.\n"
        assert locked(articles) == [*articles[:10], *articles[20:]]

    def test_a_dry_run_only_counts(self, articles):
        out = run("remove_expired_locks", "--dry-run", "--older-than", "11")
        assert out == "10 expired locks would be removed.\n"
        assert locked(articles) == articles

    def test_without_locks_there_is_nothing_to_do(self):
        assert run("remove_expired_locks") == "Successfully removed 0 expired locks.\n"

    def test_locks_that_expired_at_the_same_instant_go_in_several_batches(self, lock, clock):
        articles = [Article.objects.create(title=str(number)) for number in range(25)]
        for article in articles:
            lock(article, timeout=60)
        clock.tick(60)
        out = run("remove_expired_locks", "--batch-size", "10")
        assert out == "Successfully removed 25 expired locks.\n"

    @pytest.mark.parametrize("size", [1, 7])
    def test_what_was_broken_off_can_be_done_again(self, articles, size):
        def break_off(execute, sql, params, many, context):
            if sql.startswith("DELETE") and LockToken.objects.count() < 15:
                raise KeyboardInterrupt
            return execute(sql, params, many, context)

        with connection.execute_wrapper(break_off), pytest.raises(KeyboardInterrupt):
            run("remove_expired_locks", "--batch-size", str(size))
        left = LockToken.objects.count()
        assert 5 < left < 15
        out = run("remove_expired_locks")
        assert out == f"Successfully removed {left - 5} expired locks.\n"
        assert locked(articles) == articles[20:]

    def test_rows_are_not_loaded_even_if_somebody_listens_to_every_deletion(
        self, articles, django_assert_max_num_queries
    ):
        deleted = []

        def receiver(**kwargs):
            deleted.append(kwargs)

        post_delete.connect(receiver)
        try:
            with django_assert_max_num_queries(17) as captured:
                run("remove_expired_locks", "--batch-size", "10")
        finally:
            post_delete.disconnect(receiver)
        assert deleted == []
        assert not any("token_str" in query["sql"] for query in captured)
        assert locked(articles) == articles[20:]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--batch-size", "0"], "argument --batch-size: 0 is not 1 or more"),
            (["--batch-size", "-5"], "argument --batch-size: -5 is not 1 or more"),
            (["--batch-size", "x"], "argument --batch-size: x is not a whole number"),
            (["--older-than", "-1"], "argument --older-than: -1 is not 0 or more"),
            (["--older-than", "1.5"], "argument --older-than: 1.5 is not a whole number"),
            (
                ["--older-than", "99999999999999"],
                "argument --older-than: 99999999999999 is more than 2147483647",
            ),
            (
                ["--database", "nowhere"],
                "argument --database: invalid choice: 'nowhere' (choose from {default})",
            ),
        ],
    )
    def test_wrong_arguments_are_a_command_error(self, arguments, message):
        with pytest.raises(CommandError) as caught:
            run("remove_expired_locks", *arguments)
        # Whether choices are quoted depends on Python.
        text = str(caught.value).replace("'default'", "default")
        assert text == f"Error: {message}".format(default="default")


# Where the command decides which locks it removes.
DECIDES = r"DELETE|\(?SELECT .* FOR UPDATE"


def remove_what_was_expired_before():
    """Do what the command must not: decide by what was read some time before."""
    expired = list(LockToken.objects.expired().values_list("pk", flat=True))
    with transaction.atomic():
        LockToken.objects.filter(pk__in=expired)._raw_delete("default")
    return f"Successfully removed {len(expired)} expired locks.\n"


@pytest.mark.django_db(transaction=True)
class TestRemoveExpiredLocksAmidOthers:
    """What others do at the same time, on connections of their own."""

    @pytest.fixture(params=["renewed", "taken over"])
    def saved(self, request, articles):
        """Save one of the articles from removal, in the nick of time."""

        def save():
            article = articles[7]
            token = LockToken.objects.get_for_object(article).token_str
            LockableModel.lock(article, token if request.param == "renewed" else None)

        return save

    def test_a_lock_that_is_taken_or_renewed_after_it_was_found_stays(self, articles, saved):
        with before(DECIDES, lambda: play(saved)):
            out = run("remove_expired_locks")
        assert out == "Successfully removed 19 expired locks.\n"
        assert locked(articles) == [articles[7], *articles[20:]]

    def test_a_decision_made_any_earlier_would_remove_it(self, articles):
        token = LockToken.objects.get_for_object(articles[7]).token_str
        renewal = partial(LockableModel.lock, articles[7], token)
        with before("DELETE", lambda: play(renewal)):
            remove_what_was_expired_before()
        assert locked(articles) == articles[20:]

    # Elsewhere only one can write at a time.
    if connection.features.has_select_for_update:

        @pytest.mark.parametrize("size", [1, 5, 1000])
        def test_a_lock_that_a_writer_holds_is_passed_over_and_not_waited_for(self, articles, size):
            holding, removed = Event(), Event()

            def write():
                with transaction.atomic():
                    for article in articles[3:12]:
                        locking.hold(target_of(article))
                    holding.set()
                    assert removed.wait(TIME_ENOUGH), "the command waits for a writer"

            def remove():
                assert holding.wait(TIME_ENOUGH)
                out.append(run("remove_expired_locks", "--batch-size", str(size)))
                removed.set()

            out = []
            assert outcomes(write, remove) == [None, None]
            assert out == ["Successfully removed 11 expired locks.\n"]
            assert locked(articles) == [*articles[3:12], *articles[20:]]
            assert run("remove_expired_locks") == "Successfully removed 9 expired locks.\n"

    def test_a_save_that_is_in_flight_keeps_its_lock(self, articles, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
        article = articles[7]
        token = LockToken.objects.get_for_object(article).token_str

        def save():
            with holding(token):
                article.save()

        found = interleaved(save, partial(run, "remove_expired_locks"), at="UPDATE app_article")
        assert found == [None, None]
        assert locked(articles) == [article, *articles[20:]]
        assert LockableModel.check_lock(article, token)

    @pytest.mark.parametrize("rounds", [200])
    def test_take_overs_never_deadlock_with_it(self, clock, rounds):
        """On MariaDB they do if the command locks the rows by their expiry."""
        articles = [Article.objects.create(title=str(number)) for number in range(12)]
        ContentType.objects.get_for_model(Article)
        barrier = Barrier(4)

        def each_round(work):
            def run_all():
                for _ in range(rounds):
                    if barrier.wait(TIME_ENOUGH) == 0:
                        clock.tick(61)
                    barrier.wait(TIME_ENOUGH)
                    work()

            return run_all

        def take_over(some):
            for article in some:
                with suppress(AlreadyLockedError):
                    LockableModel.lock(article, timeout=60)

        def take_over_in_a_transaction():
            with transaction.atomic():
                take_over(articles[:4])

        works = [
            partial(take_over, articles),
            partial(take_over, articles[::-1]),
            take_over_in_a_transaction,
            partial(run, "remove_expired_locks"),
        ]
        assert outcomes(*map(each_round, works)) == [None] * 4


class TestListLocks:
    def test_each_line_is_a_lock_without_its_token(self, clock, lock, alice):
        lock(Article.objects.create(pk=7, title="a"), by=alice, timeout=60)
        clock.tick(30)
        lock(Slug.objects.create(slug="A/b c"))
        clock.tick(30)

        out = run("list_locks")

        assert out == (
            "app.Article 7\texpired\t2026-03-01 12:00:00+00:00\t2026-03-01 12:01:00+00:00\talice\n"
            "app.Slug A/b c\tlive\t2026-03-01 12:00:30+00:00\t2026-03-01 13:00:30+00:00\t-\n"
        )
        tokens = LockToken.objects.values_list("token_str", flat=True)
        assert not any(token in out for token in tokens)

    def test_the_expired_ones_can_be_left_out(self, articles):
        assert len(run("list_locks").splitlines()) == 25
        assert len(run("list_locks", "--live").splitlines()) == 5

    def test_a_lock_of_a_model_that_is_gone_is_listed_too(self, article, lock):
        lock(article)
        gone = ContentType.objects.create(app_label="gone", model="thing")
        LockToken.objects.update(locked_object_content_type=gone)
        assert f"thing {article.pk}\tlive\t" in run("list_locks")

    def test_it_costs_one_statement_however_many_there_are(self, articles, assert_statements):
        ContentType.objects.get_for_model(Article)
        with assert_statements(1):
            run("list_locks")

    def test_without_locks_it_prints_nothing(self):
        assert run("list_locks") == ""


class TestBreakLock:
    @pytest.mark.parametrize(
        ("make", "label", "key"),
        [
            (lambda: Article.objects.create(pk=7, title="a"), "app.Article", "7"),
            (lambda: Slug.objects.create(slug="A/b c"), "app.Slug", "A/b c"),
            (lambda: Line.objects.create(order=1, number=2), "app.Line", '["1", "2"]'),
        ],
    )
    def test_the_lock_is_gone_and_its_token_stale(self, make, label, key, lock):
        obj = make()
        token = lock(obj)
        out = run("break_lock", label, key, "--reason", "He is ill.")
        assert out == f"Broke the lock of {label} {key}.\n"
        lock(obj)
        assert LockableModel.check_lock(obj, token) is False

    @pytest.mark.parametrize(
        ("make", "label"),
        [
            (lambda: Uuid.objects.create(name="a"), "app.uuid"),
            (lambda: Bistro.objects.create(name="a"), "app.Bistro"),
            (lambda: Bistro.objects.create(name="a"), "app.Place"),
            (lambda: Article.objects.create(title="a"), "app.ArticleProxy"),
        ],
    )
    def test_the_object_may_be_named_by_each_of_its_classes(self, make, label, lock):
        obj = make()
        lock(obj)
        run("break_lock", label, str(obj.pk), "--reason", "He is ill.")
        assert not LockToken.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_it_is_logged_and_announced_with_the_reason(self, article, lock, caplog):
        heard = []

        def receiver(**kwargs):
            heard.append((kwargs["sender"], kwargs["reason"], kwargs["by"]))

        caplog.set_level("INFO", "lock_tokens")
        lock(article)
        signals.lock_broken.connect(receiver)
        try:
            run("break_lock", "app.Article", str(article.pk), "--reason", "He is ill.")
        finally:
            signals.lock_broken.disconnect(receiver)
        assert heard == [(Article, "He is ill.", None)]
        assert caplog.messages == [
            f"The lock of app.Article {article.pk} was broken by None: He is ill."
        ]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nowhere.Article", "7"], "No installed app with label 'nowhere'."),
            (["app.Nothing", "7"], "App 'app' doesn't have a 'Nothing' model."),
            (["Article", "7"], "'Article' is no model; name one such as news.Article."),
            (["a.b.Article", "7"], "'a.b.Article' is no model; name one such as news.Article."),
            (["app.Article", "seven"], "'seven' is not a key of app.Article."),
            (["app.Line", "7"], "'7' is not a key of app.Line."),
            (["app.Article", "7"], "app.Article 7 is not locked."),
            (["app.Bistro", "7"], "app.Place 7 is not locked."),
        ],
    )
    def test_what_cannot_be_broken_is_a_command_error(self, arguments, message):
        with pytest.raises(CommandError) as caught:
            run("break_lock", *arguments, "--reason", "He is ill.")
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "Error: the following arguments are required: --reason"),
            (["--reason", ""], "--reason must say why."),
            (["--reason", "  "], "--reason must say why."),
        ],
    )
    def test_no_reason_is_a_command_error_and_breaks_nothing(
        self, article, lock, arguments, message
    ):
        token = lock(article)
        with pytest.raises(CommandError) as caught:
            run("break_lock", "app.Article", str(article.pk), *arguments)
        assert str(caught.value) == message
        assert LockableModel.check_lock(article, token)
