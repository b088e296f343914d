"""Template tags."""

from __future__ import annotations

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from lock_tokens import settings
from lock_tokens.sessions import get_session_key
from lock_tokens.tokens import form_tokens

register = template.Library()


@register.simple_tag(takes_context=True)
def lock_token_field(context: template.Context, obj: Model) -> SafeString:
    """Render the hidden field that presents the session's token for ``obj`` with a form.

    A form that is shown again keeps the token it was sent with: a stale one must stay stale,
    whatever lock the session has taken since.
    """
    request = context.get("request")
    if not isinstance(request, HttpRequest):
        raise ImproperlyConfigured(
            "{% lock_token_field %} needs the request in its context: render the template with "
            "the request and the context processor django.template.context_processors.request."
        )
    if not isinstance(obj, Model):
        raise TypeError(f"{{% lock_token_field %}} needs an object of a model, not {obj!r}.")
    token = _session_token(request, obj)
    sent = form_tokens(request)
    if sent and token not in sent:
        token = sent[0] if len(sent) == 1 else ""
    name = settings.current.TOKEN_FIELD
    return format_html('<input type="hidden" name="{}" value="{}">', name, token)


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
