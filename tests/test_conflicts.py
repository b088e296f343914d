"""What was typed against what is stored, in the words of the page."""

from datetime import datetime, timezone

import pytest
from django import forms
from django.core.files.uploadedfile import SimpleUploadedFile
from django.forms import inlineformset_factory, modelform_factory

from lock_tokens.conflicts import Difference, differences
from tests.app.models import Desk, Section, Story, Tag


class EverythingForm(forms.Form):
    text = forms.CharField(widget=forms.Textarea, required=False)
    number = forms.DecimalField(required=False)
    day = forms.DateField(required=False)
    moment = forms.SplitDateTimeField(required=False)
    kind = forms.ChoiceField(choices=[("n", "News"), ("More", [("c", "Comment")])])
    kinds = forms.MultipleChoiceField(choices=[("n", "News"), ("c", "Comment")], required=False)
    flag = forms.BooleanField(required=False)
    file = forms.FileField(required=False)
    secret = forms.CharField(widget=forms.PasswordInput, required=False)
    hidden = forms.CharField(widget=forms.HiddenInput, required=False)
    fixed = forms.CharField(disabled=True, required=False)


STORED = {
    "text": "one\ntwo",
    "number": 1,
    "day": datetime(2026, 11, 22).date(),
    "moment": datetime(2026, 11, 22, 12, 30, tzinfo=timezone.utc),
    "kind": "n",
    "kinds": ["n"],
    "flag": True,
    "secret": "s",
    "hidden": "h",
    "fixed": "f",
}
SAME = {
    "text": "one\r\ntwo",
    "number": "1.0",
    "day": "2026-11-22",
    "moment_0": "2026-11-22",
    "moment_1": "12:30:00",
    "kind": "n",
    "kinds": ["n"],
    "flag": "on",
    "secret": "other",
    "hidden": "other",
    "fixed": "other",
}


def found(files=None, **typed):
    return differences(EverythingForm({**SAME, **typed}, files, initial=STORED))


def test_what_was_typed_as_it_is_stored_is_no_difference():
    assert found() == []


@pytest.mark.parametrize(
    ("typed", "difference"),
    [
        ({"text": "three"}, ("Text", "three", "one\ntwo")),
        ({"text": ""}, ("Text", "", "one\ntwo")),
        ({"number": "x"}, ("Number", "x", "1")),
        ({"day": "2026-11-23"}, ("Day", "2026-11-23", "2026-11-22")),
        ({"moment_1": "13:00"}, ("Moment", "2026-11-22 13:00", "2026-11-22 12:30:00")),
        ({"kind": "c"}, ("Kind", "Comment", "News")),
        ({"kind": "z"}, ("Kind", "z", "News")),
        ({"kinds": ["n", "c"]}, ("Kinds", "News, Comment", "News")),
        ({"flag": ""}, ("Flag", "No", "Yes")),
    ],
)
def test_a_difference_is_told_as_the_page_shows_it(typed, difference):
    assert found(**typed) == [Difference(*difference)]


def test_a_file_is_told_by_its_name():
    file = SimpleUploadedFile("bridge.txt", b"content")
    assert found({"file": file}) == [Difference("File", "bridge.txt", "")]


@pytest.fixture
def story(db):
    story = Story.objects.create(title="T", desk=Desk.objects.create(name="Sports"))
    story.tags.add(Tag.objects.create(name="old"))
    return story


def test_related_objects_are_told_by_their_names(story):
    desk, tag = Desk.objects.create(name="City"), Tag.objects.create(name="new")
    form_class = modelform_factory(Story, fields=["desk", "tags"])
    form = form_class({"desk": desk.pk, "tags": [tag.pk]}, instance=story)
    names = [str(story.desk), str(desk), str(story.tags.get()), str(tag)]
    assert [tuple(row) for row in differences(form)] == [
        ("Desk", names[1], names[0]),
        ("Tags", names[3], names[2]),
    ]


@pytest.mark.parametrize("nonsense", ["x", "99999999", ""])
def test_a_related_object_that_is_none_is_no_error(story, nonsense):
    form = modelform_factory(Story, fields=["desk"])({"desk": nonsense}, instance=story)
    assert len(differences(form)) == 1


def test_the_rows_of_formsets_are_told_by_their_objects(story):
    section = Section.objects.create(name="S")
    Story.objects.update(section=section)
    stories = inlineformset_factory(Section, Story, fields=["title"], extra=1)
    data = {
        "story_set-TOTAL_FORMS": "2",
        "story_set-INITIAL_FORMS": "1",
        "story_set-0-id": str(story.pk),
        "story_set-0-section": str(section.pk),
        "story_set-0-title": "New",
        "story_set-1-title": "Added",
    }
    formset = stories(data, instance=section)
    form = modelform_factory(Section, fields=["name"])({"name": "S"}, instance=section)
    assert differences(form, [formset]) == [Difference(f"{story}: Title", "New", "T")]
