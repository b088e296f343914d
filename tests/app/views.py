"""Views that edit articles, and views that let a refusal through to the middleware."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse_lazy
from django.views.generic import DeleteView, UpdateView

from lock_tokens.mixins import LocksObjectMixin
from lock_tokens.sessions import unlock_for_session
from tests.app.models import Article


def write(request, pk):
    """Save the article, with whatever tokens the request presents."""
    article = get_object_or_404(Article, pk=pk)
    article.body = "written"
    article.save()
    return HttpResponse("written")


def unlock(request, pk):
    unlock_for_session(get_object_or_404(Article, pk=pk), request.session)
    return HttpResponse("unlocked")


class ArticleUpdate(LocksObjectMixin, UpdateView):
    model = Article
    fields = ["title", "body"]
    template_name = "app/article_form.html"
    success_url = reverse_lazy("articles:done")


class UnprotectedArticleUpdate(UpdateView):
    """What the mixin protects from."""

    model = Article
    fields = ["title", "body"]
    template_name = "app/article_form.html"
    success_url = reverse_lazy("articles:done")


class ShortArticleUpdate(ArticleUpdate):
    lock_timeout = 60


class FailingArticleUpdate(ArticleUpdate):
    """Fails after the form was saved."""

    def form_valid(self, form):
        super().form_valid(form)
        raise RuntimeError("after the save")


class ArticleDelete(LocksObjectMixin, DeleteView):
    model = Article
    template_name = "app/article_form.html"
    success_url = reverse_lazy("articles:done")


app_name = "articles"
urlpatterns = [
    path("done/", lambda request: HttpResponse("done"), name="done"),
    path("<int:pk>/write/", write, name="write"),
    path("<int:pk>/unlock/", unlock, name="unlock"),
    path("<int:pk>/edit/", ArticleUpdate.as_view(), name="edit"),
    path("<int:pk>/edit/unprotected/", UnprotectedArticleUpdate.as_view(), name="edit-unprotected"),
    path("<int:pk>/edit/short/", ShortArticleUpdate.as_view(), name="edit-short"),
    path("<int:pk>/edit/failing/", FailingArticleUpdate.as_view(), name="edit-failing"),
    path("<int:pk>/delete/", ArticleDelete.as_view(), name="delete"),
]
