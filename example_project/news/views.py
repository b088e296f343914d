"""The public pages, the edit page that locks, and the articles as JSON."""

import json

from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.mixins import PermissionRequiredMixin
from django.http import JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_POST
from django.views.generic import DetailView, ListView, UpdateView

from example_project.news.forms import ArticleForm
from example_project.news.models import Article
from lock_tokens.exceptions import UnlockForbiddenError
from lock_tokens.mixins import LocksObjectMixin
from lock_tokens.sessions import unlock_for_session

MAY_EDIT = "news.change_article"


class ArticleList(ListView):
    model = Article


class ArticleDetail(DetailView):
    model = Article

    def get_object(self, queryset=None):
        article = super().get_object(queryset)
        article.count_view()
        return article


class ArticleEdit(PermissionRequiredMixin, LocksObjectMixin, UpdateView):
    """Opening the page takes the lock, saving releases it; the mixin and its banner do the rest."""

    model = Article
    form_class = ArticleForm
    permission_required = MAY_EDIT

    def form_valid(self, form):
        messages.success(self.request, "Saved, and free for others.")
        return super().form_valid(form)


@require_POST
@permission_required(MAY_EDIT)
def leave(request, pk):
    """Give the lock back without saving."""
    article = get_object_or_404(Article, pk=pk)
    try:
        unlock_for_session(article, request.session)
    except UnlockForbiddenError:
        messages.info(request, "You did not hold this article any more.")
    return redirect(article)


@method_decorator(ensure_csrf_cookie, name="dispatch")
class ArticleAPI(View):
    """One article as JSON: GET for everybody, PATCH for editors who present the lock's token.

    There is no word of locks in here. A refused save raises, and the middleware answers.
    """

    def get(self, request, pk):
        return self.answer(get_object_or_404(Article, pk=pk))

    def patch(self, request, pk):
        if not request.user.has_perm(MAY_EDIT):
            return JsonResponse({"detail": "Log in as an editor."}, status=403)
        article = get_object_or_404(Article, pk=pk)
        try:
            changes = dict(json.loads(request.body))
        except (ValueError, TypeError):
            return JsonResponse({"detail": "Send a JSON object."}, status=400)
        unchanged = {"title": article.title, "body": article.body}
        form = ArticleForm(unchanged | changes, instance=article)
        if not form.is_valid():
            return JsonResponse({"errors": form.errors}, status=400)
        return self.answer(form.save())

    def answer(self, article):
        return JsonResponse({"id": article.pk, "title": article.title, "body": article.body})
