"""The Hugging Face Hub: built folders are pushed there, and the authors' files come from there."""

from _newsclippings.hub.download import Download, download
from _newsclippings.hub.plan import plan_upload
from _newsclippings.hub.upload import push

__all__ = [
    "Download",
    "download",
    "plan_upload",
    "push",
]
