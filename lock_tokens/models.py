"""LockToken, the row that is a lock, and LockableModel, an object's methods to lock itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.contrib.contenttypes.models import ContentType
from django.db import models, router
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from model_utils.fields import AutoCreatedField

from lock_tokens import locking
from lock_tokens.exceptions import (
    InvalidToken,
    LockExpiredWarning,
    NoLockWarning,
    UnlockForbiddenError,
)
from lock_tokens.fields import ExactCharField, LockedObject, SecondsLater
from lock_tokens.managers import LockableModelManager, LockTokenManager
from lock_tokens.settings import current
from lock_tokens.targets import MAX_KEY_LENGTH, Target, key_from_text, target_for, target_of

if TYPE_CHECKING:
    from typing_extensions import Self


def get_random_token() -> str:
    """Return a new token; the migrations name this function."""
    return locking.new_token()


def get_default_timeout() -> int:
    """Return the TIMEOUT setting; the locks of 0.2.5 get it when they are migrated."""
    return current.TIMEOUT


class LockToken(models.Model):
    """The lock of one object; whoever knows ``token_str`` holds it as long as the row is there."""

    id = models.BigAutoField(primary_key=True)
    token_str = ExactCharField(max_length=32, unique=True, editable=False, default=get_random_token)
    locked_object_content_type = models.ForeignKey(
        ContentType, on_delete=models.CASCADE, db_index=False
    )
    locked_object_id = ExactCharField(max_length=MAX_KEY_LENGTH)
    locked_object = LockedObject("locked_object_content_type", "locked_object_id")
    created = AutoCreatedField()
    locked_at = models.DateTimeField(editable=False, default=timezone.now)
    # Seconds.
    timeout = models.PositiveIntegerField(editable=False, default=get_default_timeout)
    # Without a constraint, so that a lock may live beside its object in a database without users.
    locked_by = models.ForeignKey(
        django_settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    expires_at = models.GeneratedField(
        expression=SecondsLater("locked_at", "timeout"),
        output_field=models.DateTimeField(),
        db_persist=True,
        db_index=True,
    )

    objects: ClassVar[LockTokenManager] = LockTokenManager()

    class Meta:
        unique_together = (("locked_object_content_type", "locked_object_id"),)
        permissions = (("break_lock", "Can break the lock of somebody else"),)
        verbose_name = _("lock")
        verbose_name_plural = _("locks")

    def __str__(self) -> str:
        return f"{self.locked_object_content_type} {self.locked_object_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Take the lock this row describes, or move it if it is taken already.

        Raises ``AlreadyLockedError`` when another live lock is on the object, ``InvalidToken``
        when this lock was replaced or removed meanwhile.
        """
        using = kwargs.get("using") or self._alias()
        if self._state.adding:
            self._insert(using)
        else:
            self._update(using, kwargs.get("update_fields"))

    def delete(self, using: str | None = None, keep_parents: bool = False) -> Any:
        """Remove the row. ``unlock`` and ``break_lock`` tell others of it, this does not."""
        return super().delete(using or self._alias(), keep_parents)

    def _alias(self) -> str:
        """Return the database of the lock, which is that of its object.

        What a router says of LockToken may be true of another database's locks.
        """
        return self._state.db or router.db_for_write(type(self), instance=self)

    def get_locked_model(self, using: str | None = None) -> type[models.Model] | None:
        """Return the model of the locked object, ``None`` when it is not installed any more."""
        content_type_id: int | None = self.locked_object_content_type_id
        if content_type_id is None:
            return None
        types = ContentType.objects.db_manager(using or self._alias())
        return types.get_for_id(content_type_id).model_class()

    def get_target(self, using: str | None = None) -> Target:
        """Return what the lock is on; ``ValueError`` when that model is not installed any more."""
        using = using or self._alias()
        model = self.get_locked_model(using)
        if model is None:
            raise ValueError(f"{self.locked_object_content_type} names no installed model.")
        return target_for(model, key_from_text(model, self.locked_object_id), using)

    def _insert(self, using: str) -> None:
        target = self.get_target(using)
        new = locking.NewLock(
            self.token_str, self.locked_at, self.timeout, self.locked_by_id, self.created
        )
        self._take_over(target, locking.insert(target, new))

    def _update(self, using: str, update_fields: Iterable[str] | None) -> None:
        fields = [
            field
            for field in self._meta.concrete_fields
            if not field.primary_key
            and not field.generated
            and (update_fields is None or field.name in update_fields)
        ]
        values = {field.name: getattr(self, field.attname) for field in fields}
        # Never an insert: a lock that is gone must stay gone.
        if not LockToken.objects.using(using).filter(pk=self.pk).update(**values):
            raise InvalidToken(model_label=self._label(), pk=self.locked_object_id)

    def _take_over(self, target: Target, lock: locking.Lock) -> None:
        """Become the saved instance of ``lock``."""
        self.pk = lock.id
        self.token_str = lock.token
        self.locked_object_content_type_id = target.content_type_id
        self.locked_object_id = target.key
        self.locked_at = lock.locked_at
        self.timeout = lock.timeout
        self.locked_by_id = lock.locked_by_id
        self._state.adding = False
        self._state.db = target.using

    @classmethod
    def from_lock(cls, target: Target, lock: locking.Lock) -> Self:
        """Return ``lock``, a row that was just written, as a saved instance."""
        instance = cls()
        instance._take_over(target, lock)
        return instance

    def _label(self) -> str:
        model = self.get_locked_model()
        return model._meta.label if model else str(self.locked_object_content_type)

    def has_expired(self) -> bool:
        """Tell whether somebody else may take the lock over."""
        return self._lease().has_expired()

    def get_expiration_datetime(self) -> datetime:
        """Return the instant from which the lock is expired."""
        return self._lease().expires_at

    def _lease(self) -> locking.Lease:
        return locking.Lease(self.locked_at, self.timeout)

    def renew(self) -> None:
        """Start the lease anew. Raises ``InvalidToken`` when the lock was replaced or removed."""
        lease = locking.renew(self.get_target(), self.token_str, timeout=self.timeout)
        self.locked_at = lease.locked_at

    def serialize(self) -> dict[str, str]:
        """Return ``{"token": …, "expires": …}``, the expiry formatted by DATEFORMAT."""
        return self._lease().serialize(self.token_str)


class LockableModel(models.Model):
    """Gives a model methods to lock its objects; adds no column.

    Each method works on an instance of any other model too: ``LockableModel.lock(obj)``.
    """

    objects = LockableModelManager()

    class Meta:
        abstract = True

    def lock(
        self, token: str | None = None, timeout: int | None = None, *, by: Any = None
    ) -> dict[str, str]:
        """Take the object's lock, or renew it with its ``token``, for ``timeout`` seconds.

        ``by`` is the user who takes it. Returns ``{"token": …, "expires": …}``. Raises
        ``AlreadyLockedError`` when somebody else's lock is live, ``InvalidToken`` when ``token``
        is not the one of the object's lock, ``ValueError`` when the object is unsaved.
        Statements: 1; refused 2; taking over an expired lock 3.
        """
        target = target_of(self)
        if token is not None:
            return locking.renew(target, token, timeout=timeout).serialize(token)
        if self._state.adding:
            raise ValueError(
                f"This {self._meta.label} is unsaved, so it cannot be locked. Save it first."
            )
        lock = locking.acquire(target, timeout=timeout, by=getattr(by, "pk", None))
        return lock.serialize(lock.token)

    def unlock(self, token: str) -> None:
        """Remove the object's lock; ``UnlockForbiddenError`` if ``token`` is not its token."""
        target = target_of(self)
        if not locking.release(target, token):
            raise UnlockForbiddenError(model_label=target.label, pk=target.pk)

    def is_locked(self) -> bool:
        """Tell whether the object has a live lock."""
        return locking.is_locked(target_of(self))

    def check_lock(self, token: str | None) -> bool:
        """Tell whether ``token`` is the valid token of the object's lock.

        Warns with ``LockExpiredWarning`` when it is but the lock has expired, and with
        ``NoLockWarning`` when there is no lock. Never raises for a token.
        """
        lock = locking.read(target_of(self))
        if lock is None:
            warnings.warn("The object is not locked.", NoLockWarning, stacklevel=2)
            return False
        if not lock.matches([token]):
            return False
        if lock.has_expired():
            warnings.warn("The lock has expired.", LockExpiredWarning, stacklevel=2)
        return True

    check_lock_token = check_lock

    async def alock(
        self, token: str | None = None, timeout: int | None = None, *, by: Any = None
    ) -> dict[str, str]:
        """As ``lock``."""
        return await sync_to_async(LockableModel.lock)(self, token, timeout, by=by)

    async def aunlock(self, token: str) -> None:
        """As ``unlock``."""
        await sync_to_async(LockableModel.unlock)(self, token)

    async def ais_locked(self) -> bool:
        """As ``is_locked``."""
        return await sync_to_async(LockableModel.is_locked)(self)

    async def acheck_lock(self, token: str | None) -> bool:
        """As ``check_lock``."""
        return await sync_to_async(LockableModel.check_lock)(self, token)

    @classmethod
    def get_and_lock(cls, **lookup: Any) -> tuple[Self, dict[str, str]]:
        """Lock the one object that matches ``lookup``, then read it; return it and its token dict.

        Raises ``DoesNotExist``, ``MultipleObjectsReturned`` or ``AlreadyLockedError``.
        Statements: 3.
        """
        return LockableModelManager.get_and_lock(cls._default_manager, **lookup)
