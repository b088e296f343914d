"""What a test does with the related models, in the desk's own process."""


def entrust():
    """Let the editors edit everything here."""
    from django.contrib.auth.models import Group, Permission

    here = Permission.objects.filter(content_type__app_label="related")
    Group.objects.get(name="Editors").permissions.add(*here)


def start_afresh():
    """Throw everything away, and return the keys of two stories, of which the first has it all."""
    from datetime import datetime, timezone

    from lock_tokens.enforcement import suspended
    from lock_tokens.models import LockToken
    from tests.browser.related.models import Correction, Person, Section, Story, Tag

    with suspended(reason="fixture"):
        LockToken.objects.all().delete()
        for model in (Correction, Story, Section, Tag, Person):
            model.objects.all().delete()
        city = Section.objects.create(name="City")
        tags = [Tag.objects.create(name=name) for name in ("Bridges", "Budget", "Traffic")]
        people = [Person.objects.create(name=name) for name in ("Carol", "Dan", "Erin")]
        old = Story.objects.create(title="The old bridge", note="Wait", section=city)
        new = Story.objects.create(title="The new bridge", note="Wait", section=city)
        old.tags.add(tags[0])
        old.sources.add(people[0])
        printed = datetime(2026, 11, 22, 6, tzinfo=timezone.utc)
        for text in ("It is a bridge.", "It is old."):
            Correction.objects.create(story=old, text=text, printed=printed)
    return old.pk, new.pk


def story(pk):
    """Return what is stored of a story, its relations by their names."""
    from tests.browser.related.models import Story

    found = Story.objects.get(pk=pk)
    return {
        "note": found.note,
        "published": found.published,
        "section": str(found.section),
        "author": str(found.author),
        "tags": [str(tag) for tag in found.tags.all()],
        "sources": [str(person) for person in found.sources.all()],
        "corrections": [correction.text for correction in found.correction_set.all()],
        "printed": [f"{correction.printed:%Y-%m-%d}" for correction in found.correction_set.all()],
    }


def keys(*names):
    """Return the keys of the people with these names, as text for a raw-id field."""
    from tests.browser.related.models import Person

    return ",".join(str(Person.objects.get(name=name).pk) for name in names)


def section(name):
    """Return the key of a section, and the titles of its leads."""
    from tests.browser.related.models import Section

    found = Section.objects.get(name=name)
    return found.pk, [str(story) for story in found.leads.all()]
