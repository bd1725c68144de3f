"""The Hugging Face Hub: built folders, vectors and runs are pushed there; runs and official files come from there."""

from _newsclippings.hub.download import Download, download
from _newsclippings.hub.models import fetch_model, push_model
from _newsclippings.hub.prepare import prepare_upload
from _newsclippings.hub.upload import push, require_token

__all__ = [
    "Download",
    "download",
    "fetch_model",
    "prepare_upload",
    "push",
    "push_model",
    "require_token",
]
