"""Wiring: what is connected when Django starts."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_out
from django.core import checks
from django.core.signals import setting_changed
from django.utils.translation import gettext_lazy as _


class LockTokensConfig(AppConfig):
    name = "lock_tokens"
    verbose_name = _("Locks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from lock_tokens.checks import (
            check_databases,
            check_deployment,
            check_middleware,
            check_settings,
        )
        from lock_tokens.enforcement import receivers
        from lock_tokens.enforcement.checks import check_roads
        from lock_tokens.sessions import release_at_logout

        checks.register(check_settings)
        checks.register(check_middleware)
        checks.register(check_roads)
        checks.register(check_databases, checks.Tags.database)
        checks.register(check_deployment, checks.Tags.security, deploy=True)
        user_logged_out.connect(release_at_logout, dispatch_uid="lock_tokens.release_at_logout")
        setting_changed.connect(receivers.reconnect, dispatch_uid="lock_tokens.reconnect")
        receivers.connect()
