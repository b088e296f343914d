"""Managers: finding locks, and locking what is found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib.contenttypes.models import ContentType
from django.db import models, router

from lock_tokens import locking
from lock_tokens.exceptions import AlreadyLockedError
from lock_tokens.targets import Target, target_for, target_of

if TYPE_CHECKING:
    from lock_tokens.models import LockToken


class LockTokenQuerySet(models.QuerySet["LockToken"]):
    if TYPE_CHECKING:
        _db: str | None
        _hints: dict[str, Any]

    @property
    def db(self) -> str:
        """The database to ask: never a replica, which does not know yet what it is asked."""
        return self._db or router.db_for_write(self.model, **self._hints)

    def create(self, **kwargs: Any) -> LockToken:
        """Take the lock that ``kwargs`` describe, beside its object; as ``LockToken.save``."""
        lock = self.model(**kwargs)
        lock.save(force_insert=True, using=self._db)
        return lock

    def live(self) -> LockTokenQuerySet:
        """Keep the locks that nobody else may take over now."""
        return self.filter(expires_at__gt=locking.now())

    def expired(self) -> LockTokenQuerySet:
        """Keep the locks that anybody may take over now."""
        return self.filter(expires_at__lte=locking.now())

    def for_objects(self, objects: Iterable[models.Model]) -> dict[models.Model, LockToken]:
        """Return the lock of each of ``objects`` that has one, live or expired.

        Statements: 1 a model.
        """
        groups: dict[tuple[str, int], dict[str, list[models.Model]]]
        groups = defaultdict(lambda: defaultdict(list))
        for obj in objects:
            target = target_of(obj)
            groups[target.using, target.content_type_id][target.key].append(obj)
        found = {}
        for (using, content_type_id), by_key in groups.items():
            locks = self.using(using).filter(
                locked_object_content_type=content_type_id, locked_object_id__in=by_key
            )
            for lock in locks:
                found.update(dict.fromkeys(by_key[lock.locked_object_id], lock))
        return found


if TYPE_CHECKING:

    class _Manager(models.Manager["LockToken"]):
        def get_queryset(self) -> LockTokenQuerySet: ...
        def using(self, alias: str | None) -> LockTokenQuerySet: ...
        def live(self) -> LockTokenQuerySet: ...
        def expired(self) -> LockTokenQuerySet: ...
        def for_objects(self, objects: Iterable[models.Model]) -> dict[models.Model, LockToken]: ...
else:
    _Manager = models.Manager.from_queryset(LockTokenQuerySet)


class LockTokenManager(_Manager):
    """Finds locks by the objects they are on."""

    def get_for_object(self, obj: models.Model, allow_expired: bool = True) -> LockToken:
        """Return the lock of ``obj``; ``LockToken.DoesNotExist`` if it has none (or no live one).

        Statements: 1.
        """
        return self._get(target_of(obj), allow_expired)

    def get_for_contenttype_and_id(
        self, contenttype: ContentType, object_id: Any, allow_expired: bool = True
    ) -> LockToken:
        """Return the lock of the object with key ``object_id``; as ``get_for_object``."""
        model = contenttype.model_class()
        if model is None:
            raise self.model.DoesNotExist(f"{contenttype} names no installed model.")
        try:
            target = target_for(model, object_id, self._db or router.db_for_write(model))
        except ValueError as error:
            raise self.model.DoesNotExist(str(error)) from None
        return self._get(target, allow_expired)

    def _get(self, target: Target, allow_expired: bool) -> LockToken:
        locks = self.get_queryset() if allow_expired else self.live()
        return locks.using(target.using).get(
            locked_object_content_type=target.content_type_id, locked_object_id=target.key
        )

    def get_or_create_for_object(self, obj: models.Model) -> tuple[LockToken, bool]:
        """Return the live lock of ``obj``, taken now if there was none, and whether it was.

        Statements: 1 when it is taken, 3 when it was live.
        """
        target = target_of(obj)
        try:
            return self.model.from_lock(target, locking.acquire(target)), True
        except AlreadyLockedError:
            return self._get(target, allow_expired=True), False

    def break_lock(self, obj: models.Model, by: Any = None, reason: str = "") -> bool:
        """Remove the lock of ``obj`` whoever holds it; tell whether there was one.

        ``by`` is the user who breaks it; it and ``reason`` go out with ``lock_broken``.
        Statements: 1.
        """
        return locking.break_lock(target_of(obj), by=by, reason=reason) is not None


class LockableModelManager(models.Manager[Any]):
    """For the ``objects`` of models that want ``objects.get_and_lock()``."""

    def get_and_lock(self, **lookup: Any) -> tuple[Any, dict[str, str]]:
        """Lock the one object that matches ``lookup``, then read it; return it and its token dict.

        Raises ``DoesNotExist``, ``MultipleObjectsReturned`` or ``AlreadyLockedError``.
        Statements: 3.
        """
        model = self.model
        objects: Any = self.get_queryset()
        # Of related objects, the hints say whose they are.
        using = self._db or router.db_for_write(model, **objects._hints)
        objects = objects.using(using)
        pk = objects.values_list("pk", flat=True).get(**lookup)
        target = target_for(model, pk, using)
        lock = locking.acquire(target)
        try:
            # Again with the whole lookup: what was read before the lock may be out of date.
            obj = objects.get(pk=pk, **_without_pk(lookup))
        except BaseException:
            locking.release(target, lock.token)
            raise
        return obj, lock.serialize(lock.token)


def _without_pk(lookup: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in lookup.items() if name != "pk"}


def written(queryset: Any) -> Any:
    """Return ``queryset`` in the database where its objects are written, unless it names one."""
    return queryset.using(queryset._db or router.db_for_write(queryset.model, **queryset._hints))
