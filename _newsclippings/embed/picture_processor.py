"""Prepare pictures as the preprocessor_config.json of a model says, by `transformers`."""

from typing import Any

from _newsclippings.embed.libraries import report_library_errors
from _newsclippings.embed.model_folder import ModelFolder
from _newsclippings.errors import DataNotFoundError

KEPT = ("do_", "size", "crop", "resample", "rescale", "image_mean", "image_std", "pad_size", "patch_size", "max_num_")


class PictureProcessor:
    """Makes one picture ready for a model.

    Attributes:
        facts: all settings, as JSON.
        side: the shorter side, in pixels, that a picture needs; None for the whole picture.
    """

    def __init__(self, folder: ModelFolder) -> None:
        """Read the settings.

        Raises:
            DataNotFoundError, BadFileError: they are missing, or cannot be used.
        """
        from transformers import AutoImageProcessor

        if not folder.has("preprocessor_config.json", "processor_config.json"):
            message = (
                f"{folder.name} does not say how pictures are prepared: it has no preprocessor_config.json. Save the "
                "model's image processor there, too."
            )
            raise DataNotFoundError(message)
        with report_library_errors(folder.name, "has a preprocessor_config.json that cannot be used"):
            # With Pillow, whether torchvision is installed or not, which makes slightly different pictures.
            self._processor = AutoImageProcessor.from_pretrained(
                folder.path, backend="pil", trust_remote_code=False, local_files_only=True
            )
            settings = self._processor.to_dict()
        kept = {name: settings[name] for name in sorted(settings) if name.startswith(KEPT)}
        self.facts = {"processor": type(self._processor).__name__, **kept}
        self.side = _find_side(settings)

    def prepare(self, picture: Any) -> dict[str, Any]:
        """Return the arrays of a picture by the names of the model's inputs."""
        arrays = self._processor(images=[picture], return_tensors="np")
        return {name: array[0] for name, array in arrays.items()}


def _find_side(settings: dict[str, Any]) -> int | None:
    """Return the shorter side, in pixels, that a picture must have in order not to be enlarged."""
    size = settings.get("size")
    if not settings.get("do_resize") or not isinstance(size, dict):
        return None
    shortest, height, width = (size.get(name) for name in ("shortest_edge", "height", "width"))
    if isinstance(shortest, int):
        share = settings.get("crop_pct") or 1  # ConvNext resizes to this share more, and crops
        return -int(-shortest // share)
    return max(height, width) if isinstance(height, int) and isinstance(width, int) else None
