from django.apps import AppConfig


class NewsConfig(AppConfig):
    name = "example_project.news"
    default_auto_field = "django.db.models.BigAutoField"
