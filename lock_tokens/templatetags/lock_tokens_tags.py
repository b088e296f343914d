"""Template tags."""

from __future__ import annotations

from typing import Any

from django import template
from django.apps import apps
from django.contrib.admin.utils import quote
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Model
from django.forms.utils import flatatt
from django.http import HttpRequest
from django.template.base import FilterExpression, Parser, Token
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from lock_tokens import pages, settings
from lock_tokens.banner import Banner
from lock_tokens.sessions import get_session_key
from lock_tokens.statuses import request_in, status_in
from lock_tokens.targets import target_for
from lock_tokens.tokens import token_of_form

PAGE_SCRIPT = "lock_tokens/page.js"

register = template.Library()


@register.simple_tag(takes_context=True)
def lock_token_field(context: template.Context, obj: Model) -> SafeString:
    """Render the hidden field that presents the session's token for ``obj`` with a form.

    A form that is shown again keeps the token it was sent with: a stale one must stay stale,
    whatever lock the session has taken since.
    """
    request = _request_of(context, "lock_token_field")
    if not isinstance(obj, Model):
        raise TypeError(f"{{% lock_token_field %}} needs an object of a model, not {obj!r}.")
    return _field(token_of_form(request, _session_token(request, obj)))


def _field(token: str) -> SafeString:
    name = settings.current.TOKEN_FIELD
    return format_html('<input type="hidden" name="{}" value="{}">', name, token)


def _request_of(context: template.Context, tag: str) -> HttpRequest:
    request = request_in(context)
    if request is None:
        raise ImproperlyConfigured(
            f"{{% {tag} %}} needs the request in its context: render the template with "
            "the request and the context processor django.template.context_processors.request."
        )
    return request


def _session_token(request: HttpRequest, obj: Model) -> str:
    if not hasattr(request, "session"):
        raise ImproperlyConfigured(
            "{% lock_token_field %} renders the token in the session: add "
            "django.contrib.sessions.middleware.SessionMiddleware to MIDDLEWARE."
        )
    try:
        token = request.session.get(get_session_key(obj), "")
    except ValueError:
        # Unsaved: a form that creates an object may share its template with the one that edits it.
        return ""
    return token if isinstance(token, str) else ""


class LockStatusNode(template.Node):
    """Renders or stores the status of the lock on an object."""

    def __init__(self, obj: FilterExpression, name: str | None) -> None:
        self.obj = obj
        self.name = name

    def render(self, context: template.Context) -> str:
        obj = self.obj.resolve(context)
        if not isinstance(obj, Model):
            raise TypeError(f"{{% lock_status %}} needs an object of a model, not {obj!r}.")
        # That inside a lazy object, such as request.user.
        status = status_in(context, getattr(obj, "_wrapped", obj))
        if self.name is not None:
            context[self.name] = status
            return ""
        page: Any = context.template.engine.get_template("lock_tokens/status.html")  # type: ignore[union-attr]
        with context.push(lock=status):
            return str(page.render(context)).strip()


@register.tag
def lock_status(parser: Parser, token: Token) -> LockStatusNode:
    """Say who has an object locked, and until when; nothing while it is free.

    ``{% lock_status obj %}`` renders ``lock_tokens/status.html``. ``{% lock_status obj as lock %}``
    stores a ``LockStatus``: ``is_locked``, ``by``, ``since``, ``until``, ``seconds`` (until it
    lapses) and ``mine`` (the session holds it).

    Statements: 1 for all objects that are in the same list, tuple, page or evaluated queryset of
    the context; another for the names of the holders where users are in another database.
    """
    words = token.split_contents()
    if len(words) == 2 or (len(words) == 4 and words[2] == "as"):
        name = words[3] if len(words) == 4 else None
        return LockStatusNode(parser.compile_filter(words[1]), name)
    raise template.TemplateSyntaxError(
        'lock_status takes an object, and may be followed by "as" and the name of a variable.'
    )


@register.simple_tag(takes_context=True)
def lock_tokens_api_client(context: template.Context) -> SafeString:
    """Load the JavaScript client of the REST API, configured by data attributes."""
    csrf = str(context.get("csrf_token") or "")
    attributes = {
        "src": static("lock_tokens/client.js"),
        "defer": True,
        "data-url": _api_root(),
        "data-header": settings.current.TOKEN_HEADER,
        # What Django renders where the context has no request.
        "data-csrf": csrf if csrf not in ("", "NOTPROVIDED") else None,
        **pages.csrf_attributes(),
        "nonce": _nonce(context),
    }
    return format_html("<script{}></script>", flatatt(attributes))


def _api_root() -> str:
    parts = ("app", "model", "id")
    try:
        return reverse("lock-tokens:list-view", args=parts).removesuffix("/".join(parts) + "/")
    except NoReverseMatch:
        raise ImproperlyConfigured(
            "{% lock_tokens_api_client %} needs the REST API: add "
            'path("lock_tokens/", include("lock_tokens.urls")) to the URLs.'
        ) from None


def _nonce(context: template.Context) -> str | None:
    """Return the nonce of the content security policy, if there is one for this response."""
    nonce = context.get("csp_nonce")
    if nonce is None:
        nonce = getattr(request_in(context), "csp_nonce", None)
    return None if nonce is None else str(nonce)


@register.simple_tag(takes_context=True)
def lock_page_media(context: template.Context, banner: Banner | None = None) -> SafeString:
    """Load the styles of notices about locks, and the script that keeps the page of ``banner``.

    Without one the script only puts the times of ``{% lock_status %}`` into the reader's time zone.
    """
    return _page_media(context, banner.attributes if banner else None)


def _page_media(context: template.Context, attributes: dict[str, Any] | None) -> SafeString:
    more = {"nonce": _nonce(context)}
    style = {"rel": "stylesheet", "href": static("lock_tokens/page.css"), **more}
    client = {"src": static("lock_tokens/client.js"), "defer": True, **more}
    page = {"src": static(PAGE_SCRIPT), "defer": True, **more, **(attributes or {})}
    scripts = [flatatt(script) for script in ([client, page] if attributes else [page])]
    loaded = format_html_join("\n", "<script{}></script>", ((script,) for script in scripts))
    return format_html("<link{}>\n{}", flatatt(style), loaded)


@register.simple_tag(takes_context=True)
def admin_lock_handler(
    context: template.Context, app_label: str, model_name: str, object_id: Any, token: str
) -> SafeString:
    """Keep the lock with ``token`` while a page of one's own in the admin is open.

    Place it in the page's form, which then presents the token. It renders nothing without a
    token, and on the pages of a ``LockableModelAdmin``, which do all of this by themselves.
    Statements: 1.
    """
    if not token or PAGE_SCRIPT in str(context.get("media", "")):
        return SafeString("")
    request = _request_of(context, "admin_lock_handler")
    model, url = _lock_in_admin(request, app_label, model_name, object_id)
    target = target_for(model, object_id, router.db_for_write(model))
    attributes = pages.look(request, target, token).attributes(url, idle=pages.IDLE)
    return format_html("{}\n{}", _field(token), _page_media(context, attributes))


def _lock_in_admin(
    request: HttpRequest, app_label: str, model_name: str, object_id: Any
) -> tuple[type[Model], str]:
    """Return the model, and the URL of the lock on its object in the admin."""
    name = f"admin:{app_label}_{model_name}_lock".lower()
    site = getattr(request, "current_app", None)
    try:
        model = apps.get_model(app_label, model_name)
        return model, reverse(name, args=[quote(object_id)], current_app=site)
    except (LookupError, NoReverseMatch):
        raise ImproperlyConfigured(
            f"{{% admin_lock_handler %}} finds no page for the lock on {app_label}.{model_name}: "
            "register the model in the admin with lock_tokens.admin.LockableModelAdmin, and add "
            "admin.site.urls to the URLs."
        ) from None
