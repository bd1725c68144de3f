"""Built folders on the Hugging Face Hub."""

from _newsclippings.hub.plan import plan_upload
from _newsclippings.hub.upload import push

__all__ = [
    "plan_upload",
    "push",
]
