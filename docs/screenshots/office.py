"""What a scene needs in the newsroom's database, done in the process that has it."""

from tests.browser import desk

ARTICLES = (
    ("The old bridge reopens", "The old bridge reopens on Monday, says the council."),
    ("Rain until Thursday", "It rains until Thursday, and the river rises."),
    ("The market moves", "The market moves to the station while the square is paved."),
    ("A new conductor", "The town's orchestra has a new conductor."),
)


def start_over() -> list[int]:
    """Leave nothing of the scene before; return the keys of the articles."""
    from example_project.news.models import Article
    from lock_tokens.enforcement import suspended
    from lock_tokens.models import LockToken

    with suspended(reason="a new scene"):
        Article.objects.all().delete()
    LockToken.objects.all().delete()
    return [desk.write_article(title=title, body=body) for title, body in ARTICLES]
