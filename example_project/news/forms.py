from django import forms

from example_project.news.models import Article


class ArticleForm(forms.ModelForm):
    class Meta:
        model = Article
        fields = ("title", "body")

    def save(self, commit=True):
        """Write what the form edits and no more: readers are counted while somebody edits."""
        if not commit:
            return super().save(commit=False)
        self.instance.save(update_fields=self._meta.fields)
        return self.instance
