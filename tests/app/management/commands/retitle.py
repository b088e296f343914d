"""A command as a project writes it: it names its object, reads it and writes it."""

from django.core.management.base import BaseCommand

from lock_tokens.enforcement import locks, suspended
from tests.app.models import Article


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("pk", type=int)
        parser.add_argument("--title", default="new")
        parser.add_argument("--all", action="store_true")

    @locks(Article)
    def handle(self, *args, pk, title, **options):
        article = Article.objects.get(pk=pk)
        article.title = title
        article.save()
        if options["all"]:
            self.retitle_the_others(pk, title)
        return f"retitled {pk}"

    @suspended(Article, reason="retitle --all")
    def retitle_the_others(self, pk, title):
        for article in Article.objects.exclude(pk=pk):
            article.title = title
            article.save()
