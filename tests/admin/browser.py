"""A person at the admin, whose browser sends what the form of the page has, and what was typed."""

from html.parser import HTMLParser

from django.contrib.auth import get_user_model
from django.contrib.messages import get_messages
from django.test import Client

from lock_tokens.sessions import get_session_key

BUTTONS = ("submit", "button", "reset", "file", "image")


class Forms(HTMLParser):
    """The fields of the POST forms in a page, as a browser would send them."""

    def __init__(self, html):
        super().__init__()
        self.fields = {}
        self._inside = False
        self._select = self._textarea = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "form":
            self._inside = given.get("method") == "post" and "logout" not in given.get("action", "")
        if not self._inside:
            return
        if tag == "input" and "name" in given and given.get("type") not in BUTTONS:
            self._add_input(given)
        elif tag == "select":
            self._select = given["name"]
        elif tag == "option" and self._select and "selected" in given:
            self._add(self._select, given.get("value", ""))
        elif tag == "textarea":
            self._textarea = given["name"]
            self._add(self._textarea, "")

    def _add_input(self, given):
        checkable = given.get("type") in ("checkbox", "radio")
        if not checkable or "checked" in given:
            self._add(given["name"], given.get("value") or ("on" if checkable else ""))

    def _add(self, name, value):
        self.fields.setdefault(name, []).append(value)

    def handle_data(self, data):
        if self._textarea:
            self.fields[self._textarea][-1] += data

    def handle_endtag(self, tag):
        if tag == "textarea":
            # HTML drops the first line break.
            text = self.fields[self._textarea].pop()
            self._add(self._textarea, text.removeprefix("\r\n").removeprefix("\n"))
            self._textarea = None
        elif tag == "select":
            self._select = None
        elif tag == "form":
            self._inside = False


def fields_of(response):
    """Return the fields of the forms in a page, with the line breaks that browsers send."""
    found = Forms(text(response)).fields
    return {
        name: [value.replace("\r\n", "\n").replace("\n", "\r\n") for value in values]
        for name, values in found.items()
    }


def text(response):
    return response.content.decode()


def told(response):
    """Return what the page, or the one it redirects to, says at its top."""
    return [str(message) for message in get_messages(response.wsgi_request)]


class Browser:
    def __init__(self, name, **client):
        users = get_user_model()
        self.user = users.objects.create_superuser(name, password="-")
        self.client = Client(**client)
        self.client.force_login(self.user)

    def open(self, url):
        response = self.client.get(url)
        assert response.status_code == 200, response
        return response

    def send(self, page, typed=(), *, without=(), url=None):
        """Send the form of ``page`` with what was ``typed``."""
        fields = {**fields_of(page), **dict(typed)}
        kept = {name: value for name, value in fields.items() if name not in without}
        return self.client.post(url or page.wsgi_request.get_full_path(), kept)

    def act(self, url, action, *rows, **more):
        """Choose an action for ``rows`` of the list at ``url``."""
        chosen = {"action": action, "index": 0, "_selected_action": [row.pk for row in rows]}
        return self.client.post(url, {**chosen, **more})

    def token(self, obj):
        return self.client.session.get(get_session_key(obj))
