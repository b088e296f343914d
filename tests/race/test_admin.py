"""A save in the admin is in flight while its lock is taken over; the model is not enforced."""

import pytest
from django.contrib import admin
from django.contrib.admin.sites import all_sites
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.urls import path

from lock_tokens import locking
from lock_tokens.admin import LockableModelAdmin
from lock_tokens.models import LockToken
from tests.app.models import Article
from tests.race import players
from tests.race.players import interleaved

pytestmark = pytest.mark.django_db(transaction=True)


class ArticleAdmin(LockableModelAdmin):
    fields = ("title",)


site = admin.AdminSite()
site.register(Article, ArticleAdmin)
# What a site has registered the REST API may lock, but not in the tests of other modules.
all_sites.discard(site)
urlpatterns = [path("admin/", site.urls)]


@pytest.fixture(autouse=True)
def urls(settings):
    settings.ROOT_URLCONF = __name__


class Editor:
    """Appends to the title whatever it is, as a person does who has the page open."""

    def __init__(self, name, article):
        self.client = Client()
        self.client.force_login(get_user_model().objects.create_superuser(name))
        self.url = f"/admin/app/article/{article.pk}/"
        self.name = name
        self.saved = False

    def opens(self):
        page = self.client.get(f"{self.url}change/")
        form = page.context["adminform"].form
        token = form["lock_token"].value()
        self.form = {"title": f"{form['title'].value()} {self.name}", "lock_token": token}

    def saves(self):
        self.saved = self.client.post(f"{self.url}change/", self.form).status_code == 302

    def takes_over(self):
        lock = LockToken.objects.get()
        data = {"action": "take_over", "reason": "I am in a hurry.", "lock": lock.pk}
        assert self.client.post(f"{self.url}lock/", data).status_code == 302

    def takes_over_and_saves(self):
        self.takes_over()
        self.opens()
        self.saves()


@pytest.fixture
def play():
    article = Article.objects.create(title="Bridge")
    alice, bob = Editor("alice", article), Editor("bob", article)

    def play():
        alice.opens()
        errors = interleaved(alice.saves, bob.takes_over_and_saves, at="UPDATE app_article")
        assert errors == [None, None]
        return alice.saved, bob.saved, Article.objects.get().title

    return play


def test_a_take_over_waits_for_the_save_in_flight(play):
    assert play() == (True, True, "Bridge alice bob")


if connection.vendor != "sqlite":

    def test_without_the_row_lock_it_does_not_and_an_update_is_lost(play, monkeypatch):
        monkeypatch.setattr(players, "PATIENCE", players.TIME_ENOUGH)
        monkeypatch.setattr(locking, "hold", locking.read)
        assert play() == (True, True, "Bridge alice")
