"""The REST API: ``path("lock_tokens/", include("lock_tokens.urls"))``."""

from django.urls import path

from lock_tokens.views import LockTokenDetailView, LockTokenListView

app_name = "lock-tokens"

urlpatterns = [
    path(
        "<str:app_label>/<str:model>/<str:object_id>/",
        LockTokenListView.as_view(),
        name="list-view",
    ),
    path(
        "<str:app_label>/<str:model>/<str:object_id>/<str:token>/",
        LockTokenDetailView.as_view(),
        name="detail-view",
    ),
]
