"""The Hugging Face Hub: built folders and vectors are pushed there, and the authors' files come from there."""

from _newsclippings.hub.download import Download, download
from _newsclippings.hub.prepare import prepare_upload
from _newsclippings.hub.upload import push

__all__ = [
    "Download",
    "download",
    "prepare_upload",
    "push",
]
