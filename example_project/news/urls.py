from django.urls import path

from example_project.news import views

urlpatterns = [
    path("", views.ArticleList.as_view(), name="articles"),
    path("articles/<int:pk>/", views.ArticleDetail.as_view(), name="article"),
    path("articles/<int:pk>/edit/", views.ArticleEdit.as_view(), name="edit"),
    path("articles/<int:pk>/leave/", views.leave, name="leave"),
    path("api/articles/<int:pk>/", views.ArticleAPI.as_view(), name="api"),
]
