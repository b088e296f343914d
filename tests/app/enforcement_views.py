"""Views that write as a project's would: nothing in them knows of locks."""

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import path

from lock_tokens.enforcement import context, holding
from lock_tokens.exceptions import (
    AlreadyLockedError,
    InvalidToken,
    LockRequired,
    ObjectLocked,
    StaleToken,
    UnlockForbiddenError,
)
from tests.app.models import Article

ERRORS = {
    error.__name__: error
    for error in (
        AlreadyLockedError,
        InvalidToken,
        LockRequired,
        ObjectLocked,
        StaleToken,
        UnlockForbiddenError,
    )
}


def save(request: HttpRequest, pk: int) -> HttpResponse:
    article = Article.objects.get(pk=pk)
    article.title = "new"
    article.save()
    return HttpResponse("saved")


async def asave(request: HttpRequest, pk: int) -> HttpResponse:
    article = await Article.objects.aget(pk=pk)
    article.title = "new"
    await article.asave()
    return HttpResponse("saved")


def save_holding(request: HttpRequest, pk: int, token: str) -> HttpResponse:
    with holding(token):
        return save(request, pk)


def save_after_reading_the_body(request: HttpRequest, pk: int) -> HttpResponse:
    request.read()
    return save(request, pk)


def save_while_rendering(request: HttpRequest, pk: int) -> TemplateResponse:
    response = TemplateResponse(request, "lock_tokens/refused.html")
    response.add_post_render_callback(lambda response: save(request, pk))
    return response


def save_while_streaming(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    def lines():
        yield save(request, pk).content

    return StreamingHttpResponse(lines())


def read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(context.current().request is not None))


def fail(request: HttpRequest, name: str) -> HttpResponse:
    raise ERRORS[name](model_label="app.Article", pk=1)


app_name = "enforced"
urlpatterns = [
    path("<int:pk>/save/", save, name="save"),
    path("<int:pk>/asave/", asave, name="asave"),
    path("<int:pk>/holding/<str:token>/", save_holding, name="holding"),
    path("<int:pk>/body/", save_after_reading_the_body, name="body"),
    path("<int:pk>/rendering/", save_while_rendering, name="rendering"),
    path("<int:pk>/streaming/", save_while_streaming, name="streaming"),
    path("read/", read, name="read"),
    path("fail/<str:name>/", fail, name="fail"),
]
