"""Built folders on the Hugging Face Hub."""

from _newsclippings.hub.prepare import prepare_upload
from _newsclippings.hub.upload import push

__all__ = [
    "prepare_upload",
    "push",
]
