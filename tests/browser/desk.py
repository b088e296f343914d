"""What a test does in the newsroom's database: each function runs in the desk's own process.

The tests' process has other settings and another database, so models are imported inside.
"""

from datetime import timedelta

ARTICLE = "news.Article"


def open_up(settings, database):
    """Set the newsroom up in the new file ``database``, and hire its people; all use the admin."""
    import os

    import django
    from django.core.management import call_command

    os.environ.update(DJANGO_SETTINGS_MODULE=settings, NEWSROOM_DATABASE=database)
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    from django.contrib.auth import get_user_model

    from example_project.story import set_up

    set_up()
    get_user_model().objects.update(is_staff=True)


def passwords():
    """Return the people's names and passwords."""
    from example_project.story import PEOPLE

    return PEOPLE


def write_article(**fields):
    from example_project.news.models import Article

    return Article.objects.create(**fields).pk


def article(pk):
    """Return what the article says, ``None`` if there is none."""
    from example_project.news.models import Article

    return Article.objects.filter(pk=pk).values("title", "body").first()


def holder(pk, model=ARTICLE):
    """Return the name of who has the article's live lock, ``None`` if nobody has it."""
    found = _locks(pk, model).select_related("locked_by").first()
    return found.locked_by.get_username() if found and not found.has_expired() else None


def lock_id(pk):
    """Return what tells the article's lock from others; ``None`` if nobody has one."""
    return _locks(pk).values_list("pk", flat=True).first()


def seconds_left(pk):
    """Return for how many seconds the article's lock is live, 0 if it is not."""
    from django.utils import timezone

    moments = [lock.get_expiration_datetime() - timezone.now() for lock in _locks(pk)]
    return max([0, *(moment.total_seconds() for moment in moments)])


def end(pk):
    """Return when the article's lock ends or has ended, in seconds since the epoch."""
    [found] = _locks(pk)
    return found.get_expiration_datetime().timestamp()


def leave_seconds(pk, seconds, model=ARTICLE):
    """Let the article's lock end in so many seconds, as if it had not been renewed for a while."""
    from django.utils import timezone

    [found] = _locks(pk, model)
    found.locked_at = timezone.now() + timedelta(seconds=seconds - found.timeout)
    found.save(update_fields=["locked_at"])


def history(pk):
    """Return what the admin's history of the article says, the latest first."""
    from django.contrib.admin.models import LogEntry

    entries = LogEntry.objects.filter(content_type__model="article", object_id=str(pk))
    return [f"{entry.user}: {entry.get_change_message()}" for entry in entries]


def _locks(pk, model=ARTICLE):
    from django.apps import apps

    from lock_tokens.models import LockToken

    rows = apps.get_model(model).objects.filter(pk=pk)
    found = LockToken.objects.for_objects(rows).values()
    return LockToken.objects.filter(pk__in=[lock.pk for lock in found])
