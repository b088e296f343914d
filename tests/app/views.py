"""Views that edit articles, and views that let a refusal through to the middleware."""

from django.contrib.auth.mixins import LoginRequiredMixin, PermissionRequiredMixin
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse_lazy
from django.views.generic import DeleteView, DetailView, UpdateView
from django.views.generic.edit import DeletionMixin

from lock_tokens.mixins import LocksObjectMixin
from lock_tokens.sessions import unlock_for_session
from tests.app.models import Article, Correction


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


class PairUpdate(ArticleUpdate):
    """Writes the article of the form, and then another one."""

    def form_valid(self, form):
        response = super().form_valid(form)
        other = Article.objects.exclude(pk=self.object.pk).get()
        other.body = "written too"
        other.save()
        return response


class RestlessArticleUpdate(ArticleUpdate):
    lock_idle = None


class MembersArticleUpdate(LoginRequiredMixin, ArticleUpdate):
    login_url = "/login/"


class MembersArticleUpdateLast(LocksObjectMixin, LoginRequiredMixin, UpdateView):
    model = Article
    fields = ["title", "body"]
    template_name = "app/article_form.html"
    success_url = reverse_lazy("articles:done")
    login_url = "/login/"


class EditorsArticleUpdate(LocksObjectMixin, PermissionRequiredMixin, UpdateView):
    model = Article
    fields = ["title", "body"]
    template_name = "app/article_form.html"
    success_url = reverse_lazy("articles:done")
    permission_required = "app.change_article"


class ArticleDelete(LocksObjectMixin, DeleteView):
    model = Article
    template_name = "app/article_form.html"
    success_url = reverse_lazy("articles:done")


class UnprotectedArticleDelete(DeleteView):
    model = Article
    success_url = reverse_lazy("articles:done")


class EraseArticle(LocksObjectMixin, DeletionMixin, DetailView):
    """Without a form: POST and DELETE are the same method."""

    model = Article
    template_name = "app/article_form.html"
    success_url = reverse_lazy("articles:done")


class RetireArticle(EraseArticle):
    """Keeps what it deletes, and answers a program."""

    def delete(self, request, *args, **kwargs):
        article = self.get_object()
        article.title = "retired"
        article.save()
        return HttpResponse(status=204)


app_name = "articles"


class CorrectionUpdate(LocksObjectMixin, UpdateView):
    """Edits what the lock of another object protects."""

    model = Correction
    fields = ["text"]
    template_name = "app/article_form.html"
    success_url = reverse_lazy("articles:done")

    def get_locked_object(self, correction):
        return correction.story

    def get_context_data(self, **kwargs):
        return super().get_context_data(article=self.object.story, **kwargs)


urlpatterns = [
    path("corrections/<int:pk>/edit/", CorrectionUpdate.as_view(), name="edit-correction"),
    path("done/", lambda request: HttpResponse("done"), name="done"),
    path("<int:pk>/write/", write, name="write"),
    path("<int:pk>/unlock/", unlock, name="unlock"),
    path("<int:pk>/edit/", ArticleUpdate.as_view(), name="edit"),
    path("<int:pk>/edit/unprotected/", UnprotectedArticleUpdate.as_view(), name="edit-unprotected"),
    path("<int:pk>/edit/short/", ShortArticleUpdate.as_view(), name="edit-short"),
    path("<int:pk>/edit/failing/", FailingArticleUpdate.as_view(), name="edit-failing"),
    path("<int:pk>/edit/pair/", PairUpdate.as_view(), name="edit-pair"),
    path("<int:pk>/edit/restless/", RestlessArticleUpdate.as_view(), name="edit-restless"),
    path("<int:pk>/edit/members/", MembersArticleUpdate.as_view(), name="edit-members"),
    path("<int:pk>/edit/members/last/", MembersArticleUpdateLast.as_view(), name="edit-last"),
    path("<int:pk>/edit/editors/", EditorsArticleUpdate.as_view(), name="edit-editors"),
    path("<int:pk>/delete/", ArticleDelete.as_view(), name="delete"),
    path("<int:pk>/delete/unprotected/", UnprotectedArticleDelete.as_view(), name="unprotected"),
    path("<int:pk>/erase/", EraseArticle.as_view(), name="erase"),
    path("<int:pk>/retire/", RetireArticle.as_view(), name="retire"),
]
