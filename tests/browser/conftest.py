"""The newsroom, served, and browsers in which its people are logged in.

Whatever a page complains of fails the test: errors in its console, exceptions, violations of the
Content Security Policy, files of the site that are missing, answers of 500.
"""

import time
from contextlib import ExitStack, closing

import pytest

from example_project.demo import ROOT
from tests.browser import desk
from tests.browser.newsroom import opened

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
# Chromium's own words for an answer with an error status, or none; judged by ``watch`` instead.
NETWORK = "Failed to load resource"
LOOKS = (
    ("light", 1280, "ltr"),
    ("dark", 1280, "ltr"),
    ("light", 360, "rtl"),
    ("dark", 360, "ltr"),
)
TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`Content Security Policy: ${event.effectiveDirective} ${event.blockedURI}`);
});
"""
# A page that changes its colours gently has neither the old nor the new ones for a while.
SETTLED = "Promise.all(document.getAnimations().map((animation) => animation.finished))"
AXE_RUN = "(exclude) => axe.run({ exclude }, { resultTypes: ['violations'] })"


@pytest.fixture(scope="package")
def chromium():
    from tests.browser.driver import driving

    with driving() as launch:
        yield launch


@pytest.fixture(scope="package")
def newsroom(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("newsroom"), "example_project.settings") as newsroom:
        yield newsroom


@pytest.fixture
def within():
    """Wait until ``condition()`` is true; it has to be within so many seconds."""

    def wait(seconds, condition):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} seconds"
            time.sleep(0.1)

    return wait


@pytest.fixture
def article(newsroom):
    """The key of an article that nobody else has heard of."""
    return newsroom.run(desk.write_article, title="The old bridge", body="It reopens on Monday.")


@pytest.fixture
def complaints():
    """What the pages have complained of; a test that provokes some takes them off."""
    found = []
    yield found
    assert not found, "The pages complain:\n" + "\n".join(found)


@pytest.fixture
def visit(chromium, newsroom, complaints):
    """Open a browser of its own; the person named, if any, is logged in there."""
    with ExitStack() as stack:

        def visit(name=None, bfcache=False, **options):
            context = chromium(bfcache).new_context(base_url=newsroom.url, **options)
            stack.enter_context(closing(context))
            stack.callback(hear_out, context)
            watch(context, complaints)
            if name:
                log_in(context, name, newsroom.passwords[name])
            return context

        yield visit


@pytest.fixture
def alice(visit):
    return visit("alice")


@pytest.fixture
def bob(visit):
    return visit("bob")


@pytest.fixture
def chief(visit):
    return visit("chief")


@pytest.fixture(params=["ADMIN", "NEWSROOM"])
def place(request):
    from tests.browser import pages

    return getattr(pages, request.param)


@pytest.fixture
def open_form(place, article):
    def open_form(person, pk=article):
        page = person.new_page()
        page.goto(place.path.format(pk))
        return page

    return open_form


@pytest.fixture
def saved(place):
    """Assert that a page says that what was sent from the one before is saved."""
    from tests.browser.driver import expect

    return lambda page: expect(page.get_by_text(place.saved)).to_be_visible()


@pytest.fixture
def idle(alice, place, article):
    """A page on which nobody has done anything for a while."""
    from tests.browser.driver import expect
    from tests.browser.pages import notice

    page = alice.new_page()
    page.clock.install()
    page.goto(place.path.format(article))
    page.clock.fast_forward(901_000)
    expect(notice(page)).to_contain_text("You have been away for a while, so your lock is not")
    return page


@pytest.fixture
def holder(newsroom, article):
    return lambda: newsroom.run(desk.holder, article)


@pytest.fixture
def lock_id(newsroom, article):
    return lambda: newsroom.run(desk.lock_id, article)


@pytest.fixture
def seconds_left(newsroom, article):
    return lambda: newsroom.run(desk.seconds_left, article)


@pytest.fixture
def stored(newsroom, article):
    return lambda: newsroom.run(desk.article, article)["body"]


def watch(context, complaints):
    """Note whatever the pages of ``context`` complain of."""
    context.add_init_script(TELL_VIOLATIONS)
    context.on("console", lambda message: hear(message, complaints))
    context.on("weberror", lambda error: complaints.append(f"{error.page.url}: {error.error}"))
    context.on("response", lambda response: judge(response, complaints))


def hear(message, complaints):
    if message.type in ("error", "assert") and not message.text.startswith(NETWORK):
        complaints.append(f"{message.location['url']}: {message.text}")


def judge(response, complaints):
    missing = response.status >= 400 and "/static/" in response.url
    if missing or response.status >= 500:
        complaints.append(f"{response.url}: {response.status}")


def hear_out(context):
    """Wait for what the open pages have said already; it comes before the answer to this."""
    for page in context.pages:
        page.title()


def log_in(context, name, password):
    context.request.get("/login/")
    [token] = [c["value"] for c in context.cookies() if c["name"] == "csrftoken"]
    form = {"username": name, "password": password, "csrfmiddlewaretoken": token}
    answer = context.request.post("/login/", form=form, max_redirects=0)
    assert answer.status == 302, f"{name} cannot log in"


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, which looks for what keeps people from using a page."""
    from tests.browser.driver import do_without

    if not AXE.exists():
        do_without("no axe-core: npm ci --ignore-scripts")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture
def check_accessible(axe):
    """Assert that axe finds nothing on a page, in any look of it, outside ``exclude``."""

    def check(page, exclude=()):
        page.evaluate(axe)
        found = [line for look in LOOKS for line in barriers(page, look, exclude)]
        show(page, *LOOKS[0])
        assert not found, f"{page.url} is hard to use:\n" + "\n".join(found)

    return check


def show(page, scheme, width, direction):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("(direction) => { document.documentElement.dir = direction }", direction)
    page.evaluate(SETTLED)


def barriers(page, look, exclude):
    show(page, *look)
    for violation in page.evaluate(AXE_RUN, [[selector] for selector in exclude])["violations"]:
        for node in violation["nodes"]:
            yield f"{look}: {violation['help']} ({violation['id']}): {node['html']}"
    if (width := page.evaluate("document.documentElement.scrollWidth")) > look[1]:
        yield f"{look}: {width} pixels wide"
