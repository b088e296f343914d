"""More tokens in hand than are compared one by one, most of them worthless."""

import pytest
from django.db import transaction

from lock_tokens.enforcement import holding
from lock_tokens.exceptions import WriteRefused
from lock_tokens.models import LockableModel
from lock_tokens.tokens import FEW
from tests.app.models import Article

WORTHLESS = ["\ud800", "é" * 40, "x" * 100_000, *(f"{number:032x}" for number in range(FEW))]


@pytest.mark.django_db(transaction=True)
def test_only_the_valid_one_among_them_lets_a_write_pass(settings, article):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
    with transaction.atomic():
        rolled_back = LockableModel.lock(article)["token"]
        transaction.set_rollback(True)
    valid = LockableModel.lock(article)["token"]
    near = [rolled_back, valid.upper() + "0", f"{valid} ", valid[:-1]]
    article.title = "B"
    with holding(*WORTHLESS, *near):
        with pytest.raises(WriteRefused):
            article.save()
        with pytest.raises(WriteRefused):
            Article.objects.update(title="B")
    assert Article.objects.get().title == "A"
    with holding(*WORTHLESS, *near, valid):
        article.save()
        assert Article.objects.update(title="C") == 1
    assert Article.objects.get().title == "C"
