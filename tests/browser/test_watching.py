"""Nothing that a page complains of goes unheard; what the other tests build on."""

import django
import pytest

from tests.browser.driver import expect

pytestmark = pytest.mark.browser

INLINE_STYLE = """
document.querySelector("h1").outerHTML = '<h1 style="color: red">Red</h1>';
"""
THROW = """
new Promise((resolve) => {
  setTimeout(() => { throw new Error("no such lock") });
  setTimeout(resolve);
})
"""
PICTURE = """
(url) => new Promise((resolve) => {
  const image = new Image();
  image.onerror = resolve;
  image.src = url;
})
"""


@pytest.fixture
def page(visit):
    page = visit().new_page()
    page.goto("/")
    return page


@pytest.fixture
def taken(page, complaints):
    """Return what was complained of until now, and take it off."""

    def take():
        page.evaluate("0")
        found = list(complaints)
        complaints.clear()
        return found

    return take


def test_an_error_in_the_console_is_heard(page, taken):
    page.evaluate("console.error('no such lock')")
    [complaint] = taken()
    assert complaint.endswith("no such lock")


def test_an_exception_is_heard(page, taken, newsroom):
    page.evaluate(THROW)
    assert taken() == [f"{newsroom.url}/: no such lock"]


def test_a_violation_of_the_content_security_policy_is_heard(page, taken):
    page.evaluate(INLINE_STYLE)
    assert "Content Security Policy: style-src-attr inline" in " ".join(taken())


# Django 5.2 sends no policy.
if django.VERSION < (6, 0):
    del test_a_violation_of_the_content_security_policy_is_heard


def test_a_missing_file_of_the_site_is_heard(page, taken, newsroom):
    page.evaluate(PICTURE, "/static/news/no-such-picture.png")
    assert taken() == [f"{newsroom.url}/static/news/no-such-picture.png: 404"]


def test_a_page_that_is_refused_is_no_complaint(page, taken):
    assert page.goto("/articles/0/").status == 404
    assert taken() == []


def test_a_barrier_is_found(page, check_accessible):
    page.evaluate("document.querySelector('h1').insertAdjacentHTML('afterend', '<img src=\"\">')")
    with pytest.raises(AssertionError, match=r"must have alternative text \(image-alt\)"):
        check_accessible(page)


def test_two_people_have_two_sessions(alice, bob):
    for person, name in ((alice, "alice"), (bob, "bob")):
        page = person.new_page()
        page.goto("/")
        expect(page.get_by_role("navigation")).to_contain_text(name)
