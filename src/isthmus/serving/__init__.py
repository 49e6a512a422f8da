"""A model as a web service: ``isthmus serve``, and an ASGI application for other servers."""

from isthmus.serving.entrance import app, serve
from isthmus.serving.limits import Limits

__all__ = ["Limits", "app", "serve"]
