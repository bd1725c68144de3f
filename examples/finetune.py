"""Fine-tune a model on the sample dataset, in a minute on a CPU; it uses GPUs that are there. Needs the extra `train`.

    python -m examples.finetune [MODEL]

MODEL is a CLIP or SigLIP, by its name on the Hub or its folder. The default is a tiny model from scratch. It shows that
all parts work together, but learns nothing useful from so few pictures.
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
    print(f"The report and the predictions are in {RUN}")
    return float(measures["measures"]["accuracy"]["value"])


if __name__ == "__main__":
    finetune(sys.argv[1] if len(sys.argv) > 1 else None)
