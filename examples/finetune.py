"""Fine-tune on the sample: a minute on a CPU, from nothing. Needs the extra `train`.

    python -m examples.finetune [MODEL]

MODEL: a CLIP or SigLIP, by name or folder. Default: a tiny one from scratch, which shows that all parts fit together,
and learns nothing worth knowing of so few pictures.
"""

import sys
from pathlib import Path

from _newsclippings.show import write_sample
from _newsclippings.train import train

DATA, RUN = Path("demo/data"), Path("demo/run")


def finetune(model: str | None = None) -> float:
    """Train, evaluate, and return the accuracy on test."""
    if not DATA.exists():
        write_sample(DATA)
    measures = train(
        [
            "--data_dir", str(DATA), "--output_dir", str(RUN),
            *(["--model", model] if model else ["--from_config", "tiny"]),
            "--max_steps", "30", "--warmup_steps", "3", "--learning_rate", "1e-3", "--logging_steps", "10",
        ]
    )  # fmt: skip
    print(f"predictions and pictures are in {RUN}")
    return float(measures["accuracy"]["value"])


if __name__ == "__main__":
    finetune(sys.argv[1] if len(sys.argv) > 1 else None)
