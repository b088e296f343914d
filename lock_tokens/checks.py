"""System checks: wrong settings, models, middleware, and what the API opens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, cast

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import connections, router
from django.db.models import ForeignKey, Model
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from lock_tokens import settings
from lock_tokens.permissions import default, is_lockable, is_open
from lock_tokens.settings import POLICIES, SPECS, via_path
from lock_tokens.targets import root_of

OPTIONS = ("POLICY", "REPORT_ONLY", "EXEMPT_FIELDS", "TIMEOUT", "VIA")
MIDDLEWARE = "lock_tokens.enforcement.middleware.LockTokenMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Check every key and value of LOCK_TOKENS (E001 to E007, E010)."""
    try:
        given = settings.raw()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="Write LOCK_TOKENS = {…}.", id="lock_tokens.E001")]
    return [*_check_keys(given), *_check_permission(given), *_check_models(given)]


def _check_keys(given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for key, value in given.items():
        spec = SPECS.get(key)
        if spec is None:
            yield _unknown(f"LOCK_TOKENS has no key {key!r}.", key, SPECS, "lock_tokens.E002")
        elif problem := spec.problem(value):
            yield Error(
                f"LOCK_TOKENS[{key!r}] {problem}, not {value!r}.",
                hint=f"Without it, {spec.default!r} applies.",
                id="lock_tokens.E003",
            )


def _unknown(message: str, word: object, known: Iterable[str], id: str) -> Error:
    return Error(message, hint=_nearest(word, known), id=id)


def _nearest(word: object, known: Iterable[str]) -> str | None:
    names = {name.lower(): name for name in known}
    close = get_close_matches(str(word).lower(), names, n=1, cutoff=0)
    return f"Did you mean {names[close[0]]!r}?" if close else None


def _check_permission(given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    path = given.get("API_PERMISSION", SPECS["API_PERMISSION"].default)
    if SPECS["API_PERMISSION"].problem(path):
        return
    try:
        found = import_string(path)
    except ImportError as error:
        found, problem = None, str(error)
    else:
        problem = f"{path} is not callable."
    if not callable(found):
        yield Error(
            f"LOCK_TOKENS['API_PERMISSION'] cannot be used: {problem}",
            hint="Name a function of (request, action, obj), such as "
            "'lock_tokens.permissions.is_authenticated'.",
            id="lock_tokens.E004",
        )


def _check_models(given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for key in ("API_MODELS", "ENFORCED_MODELS"):
        value = given.get(key, SPECS[key].default)
        if SPECS[key].problem(value) or value is None or isinstance(value, str):
            continue
        for label in value:
            model = _find_model(label)
            if model is None:
                labels = [model._meta.label for model in apps.get_models()]
                message = f"LOCK_TOKENS[{key!r}] names {label!r}, which is no installed model."
                yield _unknown(message, label, labels, "lock_tokens.E005")
            elif isinstance(value, Mapping):
                yield from _check_options(label, model, value[label])
        if isinstance(value, Mapping):
            yield from _check_circles(value)


def _find_model(label: str) -> type[Model] | None:
    try:
        return apps.get_model(label)
    except LookupError:
        return None


def _check_options(
    label: str, model: type[Model], options: Mapping[str, Any]
) -> Iterator[CheckMessage]:
    where = f"LOCK_TOKENS['ENFORCED_MODELS'][{label!r}]"
    for name, value in options.items():
        if name not in OPTIONS:
            yield _unknown(f"{where} has no option {name!r}.", name, OPTIONS, "lock_tokens.E006")
        elif problem := _option_problem(model, name, value):
            yield Error(
                f"{where}[{name!r}] {problem}, not {value!r}.",
                hint=_option_hint(model, name, value),
                id="lock_tokens.E007",
            )


def _option_problem(model: type[Model], name: str, value: Any) -> str | None:
    if name == "TIMEOUT":
        return SPECS["TIMEOUT"].problem(value)
    if name == "REPORT_ONLY":
        return None if isinstance(value, bool) else "must be True or False"
    if name == "POLICY":
        known = isinstance(value, str) and value in POLICIES
        return None if known else f"must be one of {', '.join(map(repr, POLICIES))}"
    if name == "VIA":
        return _via_problem(model, value)
    names = _exemptable(model)
    if _is_list(value) and all(isinstance(each, str) and each in names for each in value):
        return None
    return f"must be a list of names of fields of {model._meta.label}"


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset))


def _option_hint(model: type[Model], name: str, value: Any) -> str | None:
    """Return which name in ``value`` is wrong, and the nearest right one."""
    if name == "EXEMPT_FIELDS" and _is_list(value):
        known = _exemptable(model)
        for each in value:
            if isinstance(each, str) and each not in known:
                return f"{each!r} is none. {_nearest(each, sorted(known))}"
    if name == "VIA" and (wrong := _wrong_step(model, value)):
        end, step = wrong
        keys = [field.name for field in end._meta.concrete_fields if isinstance(field, ForeignKey)]
        hint = f"{step!r} is no foreign key of {end._meta.label}"
        return f"{hint}. {_nearest(step, keys)}" if keys else f"{hint}, which has none."
    return None


def _exemptable(model: type[Model]) -> set[str]:
    """Return the names that EXEMPT_FIELDS may have: of columns and many-to-many relations."""
    names = {name for f in model._meta.concrete_fields for name in (f.name, f.attname)}
    names |= {field.name for field in model._meta.many_to_many}
    for relation in model._meta.related_objects:
        accessor = relation.get_accessor_name() if relation.many_to_many else None
        if accessor is not None:
            names |= {relation.name, accessor}
    return names


def _via_problem(model: type[Model], value: object) -> str | None:
    """Return what is wrong with the option VIA of ``model``."""
    if not isinstance(value, str) or not value.strip() or _wrong_step(model, value):
        return "must be the name of a foreign key, or of several in turn such as 'order.customer'"
    if _end_of(model, value) is root_of(model):
        return f"must lead to another model than {model._meta.label} itself"
    return None


def _wrong_step(model: type[Model], value: object) -> tuple[type[Model], str] | None:
    """Return what is no foreign key in a value of VIA, and the model whose it is not."""
    for name in via_path(value) if isinstance(value, str) and value.strip() else ():
        field = _field_of(model, name)
        if not isinstance(field, ForeignKey):
            return model, name
        model = field.related_model
    return None


def _field_of(model: type[Model], name: str) -> Any:
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist:
        return None


def _check_circles(enforced: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """Check that no model is protected by way of itself."""
    via = {
        root_of(model): (label, _end_of(model, options["VIA"]))
        for label, options in enforced.items()
        if (model := _find_model(label)) is not None
        and isinstance(options, Mapping)
        and "VIA" in options
        and _via_problem(model, options["VIA"]) is None
    }
    for root, (label, end) in via.items():
        seen = [root]
        while end in via and end not in seen:
            seen.append(end)
            end = via[end][1]
        if end is root:
            way = ", ".join(each._meta.label for each in (*seen, root))
            yield Error(
                f"LOCK_TOKENS['ENFORCED_MODELS'][{label!r}]['VIA'] leads in a circle: {way}.",
                hint="Remove the VIA of one of them, which then has a lock of its own.",
                id="lock_tokens.E010",
            )


def _end_of(model: type[Model], via: str) -> type[Model]:
    for name in via_path(via):
        model = cast("ForeignKey[Any, Any]", model._meta.get_field(name)).related_model
    return root_of(model)


def check_databases(databases: Iterable[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the databases know the statements of locking (E009)."""
    return [
        Error(
            f"django-lock-tokens does not work on {problem}, the database {alias!r}.",
            hint="Use PostgreSQL, MariaDB 10.5 or newer, or SQLite 3.35 or newer.",
            id="lock_tokens.E009",
        )
        for alias in databases or ()
        if router.allow_migrate(alias, "lock_tokens")
        and (problem := _database_problem(connections[alias]))
    ]


def _database_problem(connection: Any) -> str | None:
    if connection.vendor == "postgresql":
        return None
    if connection.vendor == "sqlite":
        version = connection.Database.sqlite_version
        old = connection.Database.sqlite_version_info < (3, 35)
    elif connection.vendor == "mysql" and connection.mysql_is_mariadb:
        version = ".".join(map(str, connection.mysql_version))
        old = connection.mysql_version < (10, 5)
    else:
        return str(connection.display_name)
    return f"{connection.display_name} {version}" if old else None


def check_middleware(**kwargs: Any) -> list[CheckMessage]:
    """Check that the middleware is there, and after those it reads from (W001, E008)."""
    if SPECS["ENFORCED_MODELS"].problem(_enforced()) or not _enforced():
        return []
    installed = [_import(path) for path in django_settings.MIDDLEWARE]
    ours = _position(installed, MIDDLEWARE)
    if ours is None:
        return [
            Warning(
                "LOCK_TOKENS['ENFORCED_MODELS'] is set, but requests cannot present tokens: "
                f"MIDDLEWARE does not contain {MIDDLEWARE!r}.",
                hint="Add it after the session and authentication middleware.",
                id="lock_tokens.W001",
            )
        ]
    return [
        Error(
            f"{MIDDLEWARE!r} stands before {path!r} in MIDDLEWARE, so it cannot rely on it.",
            hint="Move it further down.",
            id="lock_tokens.E008",
        )
        for path in (SESSIONS, AUTHENTICATION)
        if (position := _position(installed, path)) is not None and position > ours
    ]


def _enforced() -> Any:
    try:
        return settings.raw().get("ENFORCED_MODELS", {})
    except ImproperlyConfigured:
        return {}


def _import(path: str) -> Any:
    try:
        return import_string(path)
    except ImportError:
        # Django reports it when it loads the middleware.
        return None


def _position(installed: list[Any], path: str) -> int | None:
    wanted = _import(path)
    for index, middleware in enumerate(installed):
        same = isinstance(middleware, type) and isinstance(wanted, type)
        if middleware is wanted or (same and issubclass(middleware, wanted)):
            return index
    return None


def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """Warn of what the REST API lets anybody lock (W002, W003)."""
    if check_settings() or not _api_is_served():
        return []
    current = settings.current
    warnings: list[CheckMessage] = []
    if current.API_MODELS == "__all__":
        warnings.append(
            Warning(
                "LOCK_TOKENS['API_MODELS'] is '__all__': the REST API can lock any object.",
                hint="List the models that clients need to lock.",
                id="lock_tokens.W002",
            )
        )
    lockable = filter(is_lockable, apps.get_models())
    anyone = [model._meta.label for model in lockable if is_open(model)]
    if anyone and import_string(current.API_PERMISSION) is default:
        warnings.append(
            Warning(
                f"Anybody, logged in or not, can lock objects of {', '.join(sorted(anyone))}.",
                hint="Set LOCK_TOKENS['API_PERMISSION'] to "
                "'lock_tokens.permissions.is_authenticated' or 'can_change_object' beside it.",
                id="lock_tokens.W003",
            )
        )
    return warnings


def _api_is_served() -> bool:
    try:
        reverse("lock-tokens:list-view", args=["app", "model", "1"])
    except (NoReverseMatch, ImproperlyConfigured):
        return False
    return True
