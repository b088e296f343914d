"""Settings of the newsroom. What concerns locks is the last paragraph and three marked lines."""

import os
from pathlib import Path

import django

HERE = Path(__file__).resolve().parent

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    # Before lock_tokens, so that the newsroom's own lock_tokens/refused.html is found first.
    "example_project.news",
    "lock_tokens",  # locks
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "lock_tokens.enforcement.middleware.LockTokenMiddleware",  # locks
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",  # locks
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("NEWSROOM_DATABASE", HERE / "var" / "newsroom.sqlite3"),
        # Whoever will write waits for its turn from the start, instead of failing half-way.
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
ROOT_URLCONF = "example_project.urls"
STATIC_URL = "static/"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "articles"
LOGOUT_REDIRECT_URL = "articles"
# Quick and strong; Django's default makes the demo wait at each login.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher"]
TIME_ZONE = "UTC"
USE_TZ = True
# An example on one's own machine: nothing of the following belongs on a server.
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
SECRET_KEY = "the newsroom keeps no secrets"

# Django 6 can send a Content Security Policy. This one allows the site's own files, no inline
# script and no inline style but Django's own, and it is all that the pages with locks need.
if django.VERSION >= (6, 0):
    from django.utils.csp import CSP

    MIDDLEWARE.insert(1, "django.middleware.csp.ContentSecurityPolicyMiddleware")
    TEMPLATES[0]["OPTIONS"]["context_processors"].append("django.template.context_processors.csp")
    SECURE_CSP = {
        "default-src": [CSP.NONE],
        "script-src": [CSP.SELF, CSP.NONCE],
        "style-src": [CSP.SELF, CSP.NONCE],
        "img-src": [CSP.SELF],
        "connect-src": [CSP.SELF],
        "form-action": [CSP.SELF],
        "frame-ancestors": [CSP.NONE],
        "base-uri": [CSP.NONE],
    }

LOCK_TOKENS = {
    "ENFORCED_MODELS": {
        "news.Article": {"TIMEOUT": 600, "EXEMPT_FIELDS": ["view_count"]},
    },
}
