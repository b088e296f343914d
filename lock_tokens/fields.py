"""Model fields that mean the same on every database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.db import models, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler

from lock_tokens.targets import key_for

if TYPE_CHECKING:
    TextField = models.CharField[str, str]
else:
    # Django's fields can be subscripted by type checkers only.
    TextField = models.CharField


class ExactCharField(TextField):
    """Text that is equal only to itself: case and trailing spaces count on MariaDB too."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_nopad_bin"
        return parameters


class SecondsLater(models.Func):
    """``moment`` plus ``seconds``, exact to the microsecond, as a generated column may have it."""

    arity = 2
    output_field = models.DateTimeField()

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        # Adding to a timestamptz depends on the session's time zone, so a generated column may
        # not do it; adding to the same moment without a zone does not.
        template = (
            "((%(moment)s AT TIME ZONE 'UTC') + (%(seconds)s * interval '1 second')) "
            "AT TIME ZONE 'UTC'"
        )
        return self._compile(compiler, template)

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        return self._compile(compiler, "(%(moment)s + INTERVAL %(seconds)s SECOND)")

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra_context: Any
    ) -> Any:
        # A moment is text here, and the date functions would round its microseconds.
        template = (
            "(strftime('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%S', substr(%(moment)s, 1, 19), "
            "%(seconds)s || ' seconds') || substr(%(moment)s, 20))"
        )
        return self._compile(compiler, template)

    def _compile(self, compiler: SQLCompiler, template: str) -> tuple[str, list[Any]]:
        moment, seconds = (compiler.compile(part)[0] for part in self.get_source_expressions())
        return template % {"moment": moment, "seconds": seconds}, []


class _CompositeAware:
    """Follows composite keys too, which Django's own generic relations do not."""

    def __init__(self, field: GenericForeignKey, descriptor: Any) -> None:
        self._field = field
        self._descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._descriptor, name)

    def __set__(self, instance: models.Model, value: models.Model | None) -> None:
        if value is not None and instance._state.adding:
            # A lock lives beside its object, whatever else it was given before.
            instance._state.db = router.db_for_write(type(value), instance=value)
        self._descriptor.__set__(instance, value)

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        if instance is None:
            return self._descriptor.__get__(instance, cls)
        model = instance.get_locked_model()
        if model is None:
            return None
        if len(model._meta.pk_fields) == 1:
            return self._descriptor.__get__(instance, cls)
        key = getattr(instance, self._field.fk_field)
        obj = self._field.get_cached_value(instance, default=None)
        if obj is not None and key_for(model, obj.pk) == key_for(model, key):
            return obj
        pk = model._meta.pk.to_python(key)
        obj = model._base_manager.using(instance._state.db).filter(pk=pk).first()
        self._field.set_cached_value(instance, obj)
        return obj


class LockedObject(GenericForeignKey):
    """The generic relation from a lock to its object."""

    def contribute_to_class(
        self, cls: type[models.Model], name: str, private_only: bool = True, **kwargs: Any
    ) -> None:
        super().contribute_to_class(cls, name, **kwargs)
        setattr(cls, self.attname, _CompositeAware(self, cls.__dict__[self.attname]))
