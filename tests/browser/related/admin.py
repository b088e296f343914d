"""The related models in the admin under locks, and in a plain one."""

from django.contrib import admin

from lock_tokens.admin import LockableModelAdmin
from tests.browser.related.models import Correction, Person, Section, Story, Tag

plain = admin.AdminSite("plain")


class CorrectionInline(admin.TabularInline):
    model = Correction
    extra = 0


class StoryOptions:
    list_display = ("title", "note", "published")
    list_editable = ("note",)
    fields = ("title", "note", "section", "author", "tags", "sources")
    filter_horizontal = ("tags",)
    raw_id_fields = ("author", "sources")
    inlines = (CorrectionInline,)
    actions = ("publish",)

    @admin.action(description="Publish", permissions=["change"])
    def publish(self, request, queryset):
        for story in queryset:
            story.published = True
            story.save()


@admin.register(Story)
class StoryAdmin(StoryOptions, LockableModelAdmin):
    pass


@admin.register(Story, site=plain)
class PlainStoryAdmin(StoryOptions, admin.ModelAdmin):
    pass


@admin.register(Section)
class SectionAdmin(LockableModelAdmin):
    raw_id_fields = ("leads",)


admin.site.register((Person, Tag), LockableModelAdmin)
plain.register((Person, Section, Tag))
