"""The story: two editors, one article, and every other road to it. Each line is checked."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.utils import timezone
from django.utils.formats import date_format

from example_project.browser import Browser
from example_project.news.models import Article
from example_project.stage import Stage
from lock_tokens.models import LockableModel, LockToken

MANAGE = Path(__file__).resolve().parent / "manage.py"
# Who works here, and the passwords. The chief is the superuser.
PEOPLE = {"alice": "alice-writes", "bob": "bob-writes", "chief": "chief-reads"}

TITLE = "The old bridge reopens"
DRAFT = "The old bridge reopens on Monday, says the council."
ALICE = "The old bridge reopens on Monday at noon, with a brass band."
BOB = "The old bridge stays shut: the engineers have found a second crack."
FORCED = "The old bridge is no news at all."
MERGED = f"{BOB} No brass band."
BY_REST = f"{MERGED} More at six."
BY_SCRIPT = f"{MERGED} More at seven."
REWRITTEN = "Overwritten by a program."
LOOKED = "I have looked: save mine"

SCRIPT = """
from example_project.news.models import Article
article = Article.objects.get(pk={pk})
article.body = {body!r}
article.save()
"""
LOCKED_SCRIPT = """
from example_project.news.models import Article
from lock_tokens.enforcement import locked
article = Article.objects.get(pk={pk})
with locked(article):
    article.refresh_from_db()
    article.body = {body!r}
    article.save()
"""


def set_up() -> Article:
    """Hire everybody and write the article; return it."""
    users = get_user_model().objects
    editors = Group.objects.create(name="Editors")
    editors.permissions.set(Permission.objects.filter(content_type__app_label="news"))
    for name in ("alice", "bob"):
        # Staff may use the admin too, with the permissions of an editor.
        users.create_user(name, password=PEOPLE[name], is_staff=True).groups.add(editors)
    users.create_superuser("chief", password=PEOPLE["chief"])
    return Article.objects.create(title=TITLE, body=DRAFT)


class Story:
    """The scenes, in order; ``play`` plays them all."""

    def __init__(self, stage: Stage, article: Article, port: int) -> None:
        self.stage = stage
        self.article = article
        self.alice, self.bob, self.chief, self.reader = (Browser(port) for _ in range(4))
        self.page = f"/articles/{article.pk}/"
        self.edit = f"{self.page}edit/"
        self.api = f"/api/articles/{article.pk}/"
        self.lock_api = f"/lock_tokens/news/article/{article.pk}/"
        self.admin = f"/admin/news/article/{article.pk}/change/"

    def play(self) -> None:
        self.everybody_logs_in()
        self.alice_takes_the_article()
        self.bob_is_told()
        self.bob_insists()
        self.alice_goes_to_lunch()
        self.bob_takes_over()
        self.alice_comes_back()
        self.alice_looks_at_both()
        self.the_chief_takes_over()
        self.programs_need_the_lock_too()
        self.scripts_need_the_lock_too()

    def body(self) -> str:
        return Article.objects.values_list("body", flat=True).get(pk=self.article.pk)

    def lock(self) -> LockToken | None:
        """Return the article's lock, live or expired, or ``None``."""
        return LockToken.objects.for_objects([self.article]).get(self.article)

    def check_body(self, wanted: str, claim: str) -> None:
        self.stage.check(f"{claim}: “{wanted}”", wanted=wanted, got=self.body())

    def check_released(self, claim: str) -> None:
        self.stage.check(claim, wanted=None, got=self.lock())

    def everybody_logs_in(self) -> None:
        for browser, name in ((self.alice, "alice"), (self.bob, "bob")):
            self.stage.request(name, browser.log_in("/login/", name, PEOPLE[name]), wanted=302)
        self.stage.request(
            "chief", self.chief.log_in("/admin/login/", "chief", PEOPLE["chief"]), wanted=302
        )
        self.check_body(DRAFT, "the article in the database")

    def alice_takes_the_article(self) -> None:
        self.stage.scene("Alice takes the article")
        page = self.alice.get(self.edit)
        self.stage.request("alice", page, wanted=200)
        self.alices_form = page.form_with("lock_token")
        self.alices_lock = lock = self.lock()
        self.stage.check(
            "opening the form took the lock, in her name",
            wanted="alice",
            got=lock and lock.locked_by and lock.locked_by.get_username(),
        )
        self.stage.check(
            "the form carries its token, in a hidden field",
            wanted=lock.token_str,
            got=self.alices_form.get("lock_token"),
        )
        self.until = lock.get_expiration_datetime()
        words = "Yours while this page is open"
        self.stage.check_says(f"she reads: “{words}”", page.text, words)
        self.stage.tell(f"She types, and does not save yet: “{ALICE}”")

    def clock(self) -> str:
        return date_format(self.until, "DATETIME_FORMAT")

    def bob_is_told(self) -> None:
        self.stage.scene("Bob is told who has it, and until when")
        page = self.bob.get(self.edit)
        self.stage.request("bob", page, wanted=423)
        claim = f"he reads: “alice is editing this … until {self.clock()}”"
        self.stage.check_says(claim, page.text, "alice is editing this", self.clock())
        self.stage.check("and gets no form", wanted={}, got=page.form_with("title"))
        lease = self.alices_lock.timeout
        seconds = int(page.headers.get("Retry-After", 0))
        self.stage.check(f"Retry-After: {seconds} seconds", wanted=True, got=0 < seconds <= lease)

        page = self.bob.get(self.edit, accept="application/json")
        self.stage.request("bob", page, wanted=423)
        told = (page.json or {}).get("lock", {})
        self.stage.check(
            f"his program reads: {json.dumps(told)}",
            wanted={
                "since": self.alices_lock.locked_at.isoformat(),
                "until": self.until.isoformat(),
                "by": "alice",
            },
            got=told,
        )
        token = self.alices_lock.token_str
        self.stage.check("neither shows him the token", wanted=False, got=token in page.content)

        page = self.reader.get(self.page)
        self.stage.request("reader", page, wanted=200)
        views = Article.objects.values_list("view_count", flat=True).get(pk=self.article.pk)
        claim = "anybody may read; counting the reader needs no lock (an exempt field)"
        self.stage.check(claim, wanted=1, got=views)

    def bob_insists(self) -> None:
        self.stage.scene("Bob insists, and posts a form of his own making")
        token = self.bob.cookies.get("csrftoken", "")
        forced = {"csrfmiddlewaretoken": token, "title": TITLE, "body": FORCED}
        page = self.bob.post(self.edit, forced)
        self.stage.request("bob", page, wanted=423)
        self.check_body(DRAFT, "the article still says")
        self.stage.check_says("he reads why", page.text, "Nothing was saved", "alice is editing")
        kept = page.form_with("title").get("body")
        self.stage.check("his typing is shown back to him", wanted=FORCED, got=kept)

    def alice_goes_to_lunch(self) -> None:
        self.stage.scene("Alice goes to lunch, and her lock expires")
        self.stage.tell(
            "A lock here lasts ten minutes. So that nobody has to wait for them, the demo moves "
            "locked_at in the lock's row ten minutes back; nothing else is touched."
        )
        lock = self.alices_lock
        lock.locked_at -= timedelta(seconds=lock.timeout)
        lock.save()
        gone = self.lock().get_expiration_datetime()
        self.stage.check("the lock has expired", wanted=True, got=gone <= timezone.now())
        claim = "the article counts as free, though the row is still there and still hers"
        self.stage.check(claim, wanted=False, got=LockableModel.is_locked(self.article))

    def bob_takes_over(self) -> None:
        self.stage.scene("Bob takes over, and saves")
        page = self.bob.get(self.edit)
        self.stage.request("bob", page, wanted=200)
        lock, old = self.lock(), self.alices_lock
        holder = lock and lock.locked_by and lock.locked_by.get_username()
        self.stage.check("the lock is his now", wanted="bob", got=holder)
        self.stage.check(
            f"it is a new row, {lock.pk} after {old.pk}, with a new token",
            wanted=(True, True),
            got=(lock.pk > old.pk, lock.token_str != old.token_str),
        )
        page = self.bob.post(self.edit, {**page.form_with("lock_token"), "body": BOB})
        self.stage.request("bob", page, wanted=302)
        self.check_body(BOB, "the article now says")
        self.check_released("saving gave the lock back")

    def alice_comes_back(self) -> None:
        self.stage.scene("Alice comes back, and presses Save")
        self.stage.tell("There is no lock in her way now. But her form shows a text long gone.")
        page = self.alice.post(self.edit, {**self.alices_form, "body": ALICE})
        self.stage.request("alice", page, wanted=412)
        self.check_body(BOB, "the article still says what Bob wrote")
        self.refused = page
        kept = page.form_with("lock_token").get("body")
        self.stage.check("her typing is shown back to her", wanted=ALICE, got=kept)
        claim = "with why, and both texts side by side, mine and theirs"
        self.stage.check_says(claim, page.text, "older than your lock", "Theirs", ALICE, BOB)

    def alice_looks_at_both(self) -> None:
        self.stage.scene("Alice presses Save again without looking, then looks at both")
        form = {**self.refused.form_with("lock_token"), "body": ALICE}
        page = self.alice.post(self.edit, form)
        self.stage.request("alice", page, wanted=423)
        self.check_body(BOB, "the old form stays old; the article still says")
        self.stage.tell(f"She makes one text of the two, and presses “{LOOKED}”")
        form = {**page.form_with("lock_token"), "body": MERGED}
        button = page.buttons.get(LOOKED, {})
        page = self.alice.post(self.edit, form, button)
        self.stage.request("alice", page, wanted=302)
        self.check_body(MERGED, "she saved what she had looked at, and nothing was lost")
        self.check_released("saving gave the lock back")
        page = self.alice.post(self.edit, form, button)
        self.stage.request("alice", page, wanted=412)
        self.check_body(MERGED, "the token has ended with the save; sent once more it is refused")
        self.stage.request("alice", self.alice.post(f"{self.page}leave/", form), wanted=302)

    def the_chief_takes_over(self) -> None:
        self.stage.scene("Alice edits again, and the chief takes over")
        form = self.alice.get(self.edit).form_with("lock_token")
        self.stage.check("the article is hers", wanted=form.get("lock_token"), got=self.token())
        page = self.bob.get(self.edit)
        self.stage.request("bob", page, wanted=423)
        self.stage.check("bob may only wait", wanted=False, got="Take it over" in page.text)
        page = self.chief.get(self.edit)
        self.stage.request("chief", page, wanted=423)
        self.stage.check_says("the chief is offered more", page.text, "Take it over")
        lock = f"{self.edit}?lock_tokens"
        page = self.chief.get(lock)
        self.stage.request("chief", page, wanted=200)
        sent = {**page.form_with("reason"), "reason": "It has to go out now."}
        self.stage.request("chief", self.chief.post(lock, sent), wanted=302)
        stale = form["lock_token"]
        self.stage.check("alice's token is stale", wanted=True, got=self.token() != stale)
        csrf = self.alice.cookies.get("csrftoken", "")
        headers = {
            "Accept": "application/json",
            "X-Lock-Token": stale,
            "X-CSRFToken": csrf,
        }
        page = self.alice.post(lock, {"action": "renew"}, headers=headers)
        self.stage.request("alice", page, wanted=200)
        told = page.json or {}
        self.stage.check("her open page asks every 5 seconds", wanted="lost", got=told.get("state"))
        # Her browser puts the moment into her own time zone and words.
        message = told.get("message", "").replace("{since}", told.get("since") or "")
        self.stage.check_says(f"she reads: “{message}”", message, "chief took the lock over")
        token = {"csrfmiddlewaretoken": self.chief.cookies.get("csrftoken", "")}
        self.stage.request("chief", self.chief.post(f"{self.page}leave/", token), wanted=302)
        self.check_released("the chief has changed nothing, and gave the lock back")

    def token(self) -> str | None:
        lock = self.lock()
        return lock and lock.token_str

    def programs_need_the_lock_too(self) -> None:
        self.stage.scene("Programs need the lock too")
        write = {"body": BY_REST}
        page = self.bob.send_json("PATCH", self.api, write)
        self.stage.request("bob", page, wanted=428)
        self.check_body(MERGED, "logged in is not enough; the article still says")
        page = self.bob.send_json("POST", self.lock_api)
        self.stage.request("bob", page, wanted=201)
        token = (page.json or {}).get("token", "")
        lock = self.lock()
        self.stage.check(
            f"locked over REST, for its token; Timeout: {page.headers.get('Timeout')}",
            wanted=lock and lock.token_str,
            got=token,
        )
        page = self.alice.send_json("PATCH", self.api, {"body": REWRITTEN})
        self.stage.request("alice", page, wanted=423)
        by = (page.json or {}).get("lock", {}).get("by")
        self.stage.check("without its token: refused, and told by whom", wanted="bob", got=by)
        page = self.chief.get(self.admin)
        self.stage.request("chief", page, wanted=200)
        self.stage.check_says("the admin shows it, and who writes", page.text, "bob is editing")
        self.stage.check("with nothing to fill in", wanted={}, got=page.form_with("title"))
        form = page.form_with("csrfmiddlewaretoken") | {"title": TITLE, "body": REWRITTEN}
        page = self.chief.post(self.admin, form)
        self.stage.request("chief", page, wanted=403)
        self.check_body(MERGED, "nor is the admin a way round, not for the superuser either")
        page = self.bob.send_json("PATCH", self.api, write, X_Lock_Token=token)
        self.stage.request("bob", page, wanted=200)
        self.check_body(BY_REST, "with the token in X-Lock-Token the article says")
        page = self.bob.send_json("DELETE", self.lock_api, X_Lock_Token=token)
        self.stage.request("bob", page, wanted=204)
        self.check_released("and Bob's program gave the lock back")

    def scripts_need_the_lock_too(self) -> None:
        self.stage.scene("Scripts need the lock too")
        done = self.run(SCRIPT.format(pk=self.article.pk, body=REWRITTEN))
        said = done.stderr.strip().splitlines() or [""]
        refused = (done.returncode != 0, "LockRequired" in said[-1])
        self.stage.check(said[-1], wanted=(True, True), got=refused)
        self.check_body(BY_REST, "the article still says")
        done = self.run(LOCKED_SCRIPT.format(pk=self.article.pk, body=BY_SCRIPT))
        self.stage.check("no complaint", wanted=(0, ""), got=(done.returncode, done.stderr))
        self.check_body(BY_SCRIPT, "inside `with locked(article)` the article says")
        self.check_released("and the lock is given back")

    def run(self, script: str) -> "subprocess.CompletedProcess[str]":
        self.stage.tell("$ python manage.py shell -c '…'")
        self.stage.code(script)
        return subprocess.run(  # noqa: S603 - a program of our own
            [sys.executable, MANAGE, "shell", "-v0", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
