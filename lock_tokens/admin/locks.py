"""LockToken in the admin: who has locked what, and a way to release it. Tokens are never shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME, ActionForm
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from lock_tokens import locking, settings
from lock_tokens.admin.descriptions import describe, model_of
from lock_tokens.managers import LockTokenQuerySet
from lock_tokens.models import LockToken
from lock_tokens.targets import target_for

if TYPE_CHECKING:
    Admin = admin.ModelAdmin[LockToken]
else:
    # Django's classes can be subscripted by type checkers only.
    Admin = admin.ModelAdmin

MASK = "••••"
# How many released locks a message names before it only counts them.
NAMED = 10


class ModelFilter(admin.SimpleListFilter):
    """By the model of what is locked; offers those of which something is."""

    title = _("model")
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        using = model_admin.get_queryset(request).db
        locks = LockToken.objects.using(using).filter(locked_object_content_type=OuterRef("pk"))
        types = ContentType.objects.using(using).filter(Exists(locks))
        return sorted(((str(each.pk), str(each)) for each in types), key=lambda pair: pair[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        if value not in dict(self.lookup_choices):
            return queryset.none()
        return queryset.filter(locked_object_content_type=value)


class StateFilter(admin.SimpleListFilter):
    """By whether the lock keeps others out, or may be taken over."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("live", _("Live")), ("expired", _("Expired"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Any]:
        choices = {"live": queryset.live, "expired": queryset.expired, None: queryset.all}
        return choices.get(self.value(), queryset.none)()  # type: ignore[no-any-return]


class ReleaseForm(ActionForm):
    """Asks beside the action why."""

    reason = forms.CharField(label=_("Reason:"), max_length=200, required=False)


class LockChangeList(ChangeList):
    """Describes the locks of a page at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.model_admin.describe(request, list(self.result_list))  # type: ignore[attr-defined]


class LockTokenAdmin(Admin):
    """Shows locks to those with the permission to view them, and releases them with break_lock."""

    class Media:
        css: ClassVar[dict[str, list[str]]] = {"all": ["lock_tokens/page.css"]}

    list_display = ("locked_object_link", "holder", "since", "until", "state")
    # The first column has a link of its own.
    list_display_links = ("since",)
    list_filter = (ModelFilter, StateFilter)
    # What it is searched by is said in get_search_results.
    search_fields = ("locked_object_id",)
    search_help_text = _("The key of an object")
    # The order in which they were taken, which an index has.
    ordering = ("-pk",)
    show_full_result_count = False

    fields = readonly_fields = (
        "locked_object_link",
        "holder",
        "since",
        "until",
        "state",
        "masked_token",
    )
    actions = ("release_locks",)
    action_form = ReleaseForm

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: LockToken | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LockToken | None = None) -> bool:
        return False

    def has_break_lock_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("lock_tokens.break_lock")

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Keep anybody from finding a token out letter by letter with ?token_str__startswith=."""
        if "token_str" in lookup.split("__"):
            return False
        return super().lookup_allowed(lookup, value, request)

    def get_queryset(self, request: HttpRequest) -> LockTokenQuerySet:
        # Not even read.
        locks: Any = super().get_queryset(request).defer("token_str")
        return locks.select_related("locked_object_content_type")  # type: ignore[no-any-return]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find the whole term, which may have spaces, as a key."""
        if search_term.strip():
            queryset = queryset.filter(locked_object_id=search_term.strip())
        return queryset, False

    def get_list_display(self, request: HttpRequest) -> Any:
        return _shown(self.list_display)

    def get_fields(self, request: HttpRequest, obj: LockToken | None = None) -> Any:
        return _shown(self.fields)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LockChangeList

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> LockToken | None:
        lock = super().get_object(request, object_id, from_field)
        if lock is not None:
            self.describe(request, [lock])
        return lock

    def describe(self, request: HttpRequest, locks: Sequence[LockToken]) -> None:
        """Give each of ``locks`` the description that the columns show."""
        descriptions = describe(self.admin_site, request, locks)
        for lock in locks:
            lock.description = descriptions[lock.pk]  # type: ignore[attr-defined]

    @admin.display(description=_("locked object"))
    def locked_object_link(self, lock: Any) -> str:
        """Return the name of the object, with a link where it has a page."""
        text, url = lock.description.object, lock.description.url
        return format_html('<a href="{}">{}</a>', url, text) if url else text

    @admin.display(description=_("holder"))
    def holder(self, lock: Any) -> str | None:
        """Return the user name of who took the lock."""
        name: str | None = lock.description.holder
        return name

    @admin.display(description=_("since"), ordering="created")
    def since(self, lock: LockToken) -> Any:
        """Return when it was taken."""
        return lock.created

    @admin.display(description=_("until"), ordering="expires_at")
    def until(self, lock: LockToken) -> Any:
        """Return from when on somebody else may take it over."""
        return lock.get_expiration_datetime()

    @admin.display(description=_("state"))
    def state(self, lock: LockToken) -> str:
        """Return whether somebody else may take it over now."""
        return gettext("Expired") if lock.has_expired() else gettext("Live")

    @admin.display(description=_("token"))
    def masked_token(self, lock: LockToken) -> str:
        """Return what stands for the token, which nobody but its holder may know."""
        return MASK

    @admin.action(
        permissions=["break_lock"], description=_("Release selected %(verbose_name_plural)s")
    )
    def release_locks(self, request: HttpRequest, queryset: LockTokenQuerySet) -> None:
        """Break the selected locks, for the reason that was given; tell which they were."""
        reason = request.POST.get("reason", "").strip()
        if not reason:
            text = gettext("Nothing was released: say why in the field “Reason” beside the action.")
            self.message_user(request, text, messages.ERROR)
            return
        with transaction.atomic(using=queryset.db):
            released = self._release(request, queryset, reason)
        self._report(request, released)

    def _release(self, request: HttpRequest, queryset: Any, reason: str) -> list[str]:
        """Break the locks of ``queryset``; return the names of their objects."""
        # Their rows are held until they are removed, so that no lock goes that somebody took
        # since the page was shown; in the order in which locks are taken everywhere.
        held = queryset.select_related(None).select_for_update()
        locks = list(held.order_by("locked_object_content_type", "locked_object_id"))
        self.describe(request, locks)
        for lock in locks:
            _break(lock, request.user, reason)
            _log(lock, request.user, reason)
        return [lock.description.object for lock in sorted(locks, key=lambda lock: lock.pk)]

    def _report(self, request: HttpRequest, released: Sequence[str]) -> None:
        count = len(released)
        if released:
            names = ", ".join(released[:NAMED]) + (", …" if count > NAMED else "")
            text = ngettext(
                "Released %(count)s lock: %(names)s.",
                "Released %(count)s locks: %(names)s.",
                count,
            )
            values = {"count": count, "names": names}
            self.message_user(request, text % values, messages.SUCCESS)
        across = request.POST.get("select_across", "0") != "0"
        gone = 0 if across else len(set(request.POST.getlist(ACTION_CHECKBOX_NAME))) - count
        if gone > 0:
            text = ngettext(
                "%(count)s selected lock is not there any more.",
                "%(count)s selected locks are not there any more.",
                gone,
            )
            self.message_user(request, text % {"count": gone}, messages.WARNING)


def _shown(names: Any) -> list[str]:
    """Return ``names`` without that of the holder where nobody is told it."""
    return [name for name in names if name != "holder" or settings.current.SHOW_HOLDER]


def _break(lock: Any, user: Any, reason: str) -> None:
    obj, using = lock.description.locked, lock._state.db
    try:
        # By the object, if there is one: its key is what is announced, not the text of it.
        target = target_for(type(obj), obj.pk, using) if obj else lock.get_target(using)
    except ValueError:
        # Of a model that is not installed any more there is nothing to announce.
        LockToken.objects.using(using).filter(pk=lock.pk).delete()
    else:
        locking.break_lock(target, by=user, reason=reason)


def _log(lock: Any, user: Any, reason: str) -> None:
    """Write into the history of the object who broke its lock, and why."""
    obj = lock.description.locked
    model = type(obj) if obj else model_of(lock.locked_object_content_type)
    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(model, for_concrete_model=False)
        if model
        else None,
        object_id=str(obj.pk) if obj else lock.locked_object_id,
        object_repr=lock.description.object[:200],
        action_flag=CHANGE,
        change_message=gettext("Released its lock: %(reason)s") % {"reason": reason},
    )
