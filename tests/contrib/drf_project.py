"""The API of a project on Django REST framework, as its authors would write it."""

from contextlib import suppress

from django.urls import include, path
from rest_framework import permissions, serializers
from rest_framework.authentication import BasicAuthentication
from rest_framework.decorators import action, api_view
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.views import exception_handler as exception_handler_of_drf
from rest_framework.viewsets import ModelViewSet, ReadOnlyModelViewSet

from lock_tokens import exceptions
from lock_tokens.contrib.rest_framework import LockableViewSetMixin
from tests.app.models import Article, Slug

ERRORS = {
    name: getattr(exceptions, name)
    for name in (
        "AlreadyLockedError",
        "InvalidToken",
        "LockRequired",
        "ObjectLocked",
        "StaleToken",
        "UnlockForbiddenError",
        "WriteRefused",
    )
}


class ArticleSerializer(serializers.ModelSerializer):
    class Meta:
        model = Article
        fields = ["id", "title", "body"]


class SlugSerializer(serializers.ModelSerializer):
    class Meta:
        model = Slug
        fields = ["slug", "name"]


class PlainViewSet(ModelViewSet):
    """Knows nothing of locks."""

    queryset = Article.objects.order_by("pk")
    serializer_class = ArticleSerializer

    @action(detail=True, methods=["post", "put"])
    def write_first(self, request, **kwargs):
        self.write()
        return Response(request.data)

    @action(detail=True, methods=["post", "put"])
    def read_first(self, request, **kwargs):
        data = request.data
        self.write()
        return Response(data)

    @action(detail=True, methods=["post", "put"])
    def write_anyhow(self, request, **kwargs):
        with suppress(ParseError):
            request.data  # noqa: B018 - parses it
        self.write()
        return Response({})

    def write(self):
        article = self.get_object()
        article.title = "new"
        article.save()

    @action(detail=False, url_path="fail/(?P<name>[A-Za-z]+)")
    def fail(self, request, name):
        raise ERRORS[name](model_label="app.Article", pk=1)


class ArticleViewSet(LockableViewSetMixin, PlainViewSet):
    """Articles, each with its lock."""


class LoggingViewSet(LockableViewSetMixin, ModelViewSet):
    """Writes something else before the article that is refused."""

    queryset = Article.objects.order_by("pk")
    serializer_class = ArticleSerializer

    def perform_update(self, serializer):
        Article.objects.create(title="log")
        serializer.save()


class ByTitleViewSet(LockableViewSetMixin, ModelViewSet):
    queryset = Article.objects.all()
    serializer_class = ArticleSerializer
    lookup_field = "title"


class SlugViewSet(LockableViewSetMixin, ModelViewSet):
    queryset = Slug.objects.all()
    serializer_class = SlugSerializer
    # Any text, slashes too, up to the lock's own part of the path.
    lookup_value_regex = "(?:(?!/lock/$).)+"


class ByModelPermissionViewSet(ArticleViewSet):
    permission_classes = [permissions.DjangoModelPermissions]


class IsOwnOrReadOnly(permissions.BasePermission):
    def has_object_permission(self, request, view, obj):
        return request.method in permissions.SAFE_METHODS or obj.title == request.user.username


class ByObjectPermissionViewSet(ArticleViewSet):
    permission_classes = [IsOwnOrReadOnly]


class ByQuerysetViewSet(ArticleViewSet):
    """Lets its queryset decide what may be changed."""

    def get_queryset(self):
        if self.action in ("update", "partial_update", "destroy"):
            return Article.objects.filter(title=self.request.user.username)
        return Article.objects.all()


class ByActionViewSet(ArticleViewSet):
    """Knows the actions of a ModelViewSet and no other."""

    def get_permissions(self):
        kinds = {"retrieve": permissions.AllowAny, "metadata": permissions.AllowAny}
        return [kinds.get(self.action, permissions.IsAdminUser)()]

    def get_serializer_class(self):
        known = ("retrieve", "update", "partial_update")
        return dict.fromkeys(known, ArticleSerializer)[self.action]


class ReadOnlyViewSet(LockableViewSetMixin, ReadOnlyModelViewSet):
    queryset = Article.objects.all()
    serializer_class = ArticleSerializer


class BasicOnlyViewSet(ArticleViewSet):
    """Does not care who is logged in to the site."""

    authentication_classes = [BasicAuthentication]


class JSONOnlyViewSet(ArticleViewSet):
    parser_classes = [JSONParser]


@api_view(["GET"])
def fail(request, name):
    raise ERRORS[name](model_label="app.Article", pk=1)


def own_handler(exc, context):
    """Answer in the project's own way, and forget the rollback."""
    if isinstance(exc, APIException):
        return Response({"error": exc.get_codes(), "text": exc.detail}, status=exc.status_code)
    return None


def decorating_handler(exc, context):
    """Add to REST framework's answer, as its documentation shows."""
    response = exception_handler_of_drf(exc, context)
    if response is not None:
        response.data["status_code"] = response.status_code
    return response


def handler_that_gives_up(exc, context):
    return None


router = DefaultRouter()
router.register("articles", ArticleViewSet, basename="article")
router.register("plain", PlainViewSet, basename="plain")
router.register("logging", LoggingViewSet, basename="logging")
router.register("by-title", ByTitleViewSet, basename="by-title")
router.register("by-model-permission", ByModelPermissionViewSet, basename="by-model-permission")
router.register("by-object-permission", ByObjectPermissionViewSet, basename="by-object-permission")
router.register("by-queryset", ByQuerysetViewSet, basename="by-queryset")
router.register("by-action", ByActionViewSet, basename="by-action")
router.register("read-only", ReadOnlyViewSet, basename="read-only")
router.register("basic-only", BasicOnlyViewSet, basename="basic-only")
router.register("json-only", JSONOnlyViewSet, basename="json-only")
router.register("slugs", SlugViewSet, basename="slug")

urlpatterns = [
    path("api/", include(router.urls)),
    path("fail/<str:name>/", fail, name="fail"),
]
