"""The JavaScript client against the REST API of the newsroom, under its policy."""

from datetime import datetime, timedelta, timezone

import pytest

from tests.browser import desk
from tests.browser.pages import FULL, SOON

pytestmark = pytest.mark.browser

LOAD = """
() => new Promise((resolve) => {
  document.addEventListener("lock_tokens.clientready", () => resolve(), { once: true });
  const script = document.createElement("script");
  script.src = "/static/lock_tokens/client.js";
  document.head.append(script);
})
"""
HEAR = """
() => {
  window.heard = [];
  for (const name of ["renewed", "lost", "offline"]) {
    document.addEventListener(`lock_tokens.${name}`, ({ detail }) => {
      window.heard.push([name, detail.reason]);
    });
  }
}
"""
LOCK = "(pk) => LockTokens.lock('news', 'article', pk).then((token) => token && String(token))"
HOLD = "(pk) => LockTokens.hold_lock('news', 'article', pk).then((token) => token !== null)"
UNLOCK = "(pk) => LockTokens.unlock('news', 'article', pk)"


@pytest.fixture
def open_client():
    """Open a page with the client; its clock may be wrong."""

    def open_client(person, time=None):
        page = person.new_page()
        page.clock.install(time=time)
        page.goto("/login/")
        page.evaluate(LOAD)
        page.evaluate(HEAR)
        return page

    return open_client


@pytest.fixture
def page(alice, open_client):
    return open_client(alice)


def heard(page):
    return [tuple(event) for event in page.evaluate("window.heard")]


def test_what_one_locks_another_cannot(page, bob, open_client, article, holder):
    assert page.evaluate(LOCK, article) == f"news.article {article}"
    assert holder() == "alice"
    assert open_client(bob).evaluate(LOCK, article) is None
    assert page.evaluate(UNLOCK, article) is True
    assert holder() is None
    assert page.evaluate(UNLOCK, article) is False


def test_a_callback_gets_what_the_promise_gets(page, article):
    script = """
    async (pk) => {
      const heard = [];
      const token = await LockTokens.lock("news", "article", pk, (token) => heard.push(token));
      const done = await LockTokens.unlock("news", "article", pk, (done) => heard.push(done));
      return heard[0] === token && token !== null && heard[1] === done && done;
    }
    """
    assert page.evaluate(script, article) is True


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_wrong_clock_does_not_matter(hours, alice, open_client, article):
    wrong = datetime.now(timezone.utc) + timedelta(hours=hours)
    script = """
    async (pk) => {
      const token = await LockTokens.lock("news", "article", pk);
      return [token.seconds_left(), (token.get_expiration_date() - Date.now()) / 1000];
    }
    """
    for seconds in open_client(alice, wrong).evaluate(script, article):
        assert FULL - 60 < seconds <= FULL


def test_a_token_is_not_shown_by_accident(page, article):
    script = """
    async (pk) => {
      const token = await LockTokens.lock("news", "article", pk);
      const shown = `${token} ${JSON.stringify(token)} ${Object.values(token)}`;
      return shown.includes(token.get_token());
    }
    """
    assert page.evaluate(script, article) is False


def test_a_held_lock_is_renewed_before_it_ends(page, article, newsroom, seconds_left, within):
    assert page.evaluate(HOLD, article)
    newsroom.run(desk.leave_seconds, article, 60)
    page.clock.fast_forward(FULL * 500)
    within(SOON, lambda: ("renewed", "renewed") in heard(page))
    assert seconds_left() > FULL / 2


def test_a_held_lock_that_was_taken_over_is_told(page, bob, open_client, article, newsroom, within):
    assert page.evaluate(HOLD, article)
    newsroom.run(desk.leave_seconds, article, 0)
    assert open_client(bob).evaluate(LOCK, article) is not None
    page.clock.fast_forward(FULL * 500)
    within(SOON, lambda: ("lost", "forbidden") in heard(page))


def test_without_a_network_it_tries_again(alice, page, article, newsroom, within):
    assert page.evaluate(HOLD, article)
    alice.set_offline(True)
    page.clock.fast_forward(FULL * 500)
    within(SOON, lambda: heard(page) == [("offline", "network")])
    alice.set_offline(False)
    page.clock.fast_forward(60_000)
    within(SOON, lambda: heard(page) == [("offline", "network"), ("renewed", "renewed")])


def test_everything_can_be_unlocked_at_once(page, article, newsroom):
    another = newsroom.run(desk.write_article, title="Another", body="Another.")
    for pk in (article, another):
        page.evaluate(HOLD, pk)
    assert [newsroom.run(desk.holder, pk) for pk in (article, another)] == ["alice", "alice"]
    page.evaluate("LockTokens.clear_all_locks()")
    assert [newsroom.run(desk.holder, pk) for pk in (article, another)] == [None, None]
