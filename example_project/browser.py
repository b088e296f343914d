"""A browser small enough for a story: keeps cookies, reads forms, fills them in and sends them."""

import json
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPResponse
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

PAGE = "text/html,application/xhtml+xml,*/*;q=0.8"
TIMEOUT = 30


class Reader(HTMLParser):
    """Reads a page as its visitor does: the words, and the forms with what is in their fields."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.forms: list[dict[str, str]] = []
        # By what they say, what they add to their form.
        self.buttons: dict[str, dict[str, str]] = {}
        self._textarea: str | None = None
        self._button: dict[str, str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        name = attributes.get("name")
        if tag == "form":
            self.forms.append({})
        elif tag == "input" and name and self.forms:
            self.forms[-1][name] = attributes.get("value") or ""
        elif tag == "textarea" and name and self.forms:
            self._textarea = name
            self.forms[-1][name] = ""
        elif tag == "button":
            self._button = {name: attributes.get("value") or ""} if name else {}

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._textarea:
            # The line break right after the tag is not part of the text.
            form, name = self.forms[-1], self._textarea
            form[name] = form[name].removeprefix("\r").removeprefix("\n")
            self._textarea = None
        elif tag == "button":
            self._button = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._button is not None and data.strip():
            self.buttons[data.strip()] = self._button
        if self._textarea:
            self.forms[-1][self._textarea] += data


class Page:
    """An answer: status, headers, text, and the forms in it."""

    def __init__(self, method: str, path: str, response: HTTPResponse) -> None:
        self.method = method
        self.path = path
        self.status = response.status
        self.reason = response.reason
        self.headers = response.headers
        self.content = response.read().decode()
        reader = Reader()
        if response.headers.get_content_type() == "text/html":
            reader.feed(self.content)
            reader.close()
        self.forms = reader.forms
        self.buttons = reader.buttons
        self.text = " ".join(" ".join(reader.words).split()) or self.content

    @property
    def json(self) -> Any:
        """The content as JSON; ``None`` if it is none."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None

    def form_with(self, name: str) -> dict[str, str]:
        """Return the fields of the form that has a field ``name``; nothing in it, without one."""
        return dict(next((form for form in self.forms if name in form), {}))


class Browser:
    """One visitor of the site at ``127.0.0.1:port``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: dict[str, str] = {}

    def get(self, path: str, accept: str = PAGE) -> Page:
        return self.send("GET", path, {"Accept": accept})

    def post(
        self,
        path: str,
        form: dict[str, str],
        button: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Page:
        """Send ``form``, as a click on its ``button`` does; redirects are not followed."""
        content = "application/x-www-form-urlencoded"
        fields = [*form.items(), *(button or {}).items()]
        sent = {"Accept": PAGE, "Content-Type": content, **(headers or {})}
        return self.send("POST", path, sent, urlencode(fields).encode())

    def send_json(self, method: str, path: str, value: Any = None, **headers: str) -> Page:
        """Send ``value`` as a page's script would, with the CSRF token of the cookie."""
        return self.send(
            method,
            path,
            {
                "Accept": "application/json",
                "Content-Type": "application/json",
                "X-CSRFToken": self.cookies.get("csrftoken", ""),
                **{name.replace("_", "-"): text for name, text in headers.items()},
            },
            b"" if value is None else json.dumps(value).encode(),
        )

    def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Page:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        try:
            connection.request(method, path, body, {**headers, "Cookie": cookies})
            page = Page(method, path, connection.getresponse())
        finally:
            connection.close()
        self._keep(page.headers.get_all("Set-Cookie", []))
        return page

    def _keep(self, lines: list[str]) -> None:
        for line in lines:
            for name, cookie in SimpleCookie(line).items():
                self.cookies.pop(name, None)
                if cookie["max-age"] != "0":
                    self.cookies[name] = cookie.value

    def log_in(self, path: str, username: str, password: str) -> Page:
        form = self.get(path).form_with("username")
        return self.post(path, {**form, "username": username, "password": password})
