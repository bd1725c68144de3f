"""Fine-tune a chat model that sees pictures with TRL. Needs trl, peft, and a model of transformers.

    python examples/chat.py MODEL [DATA_DIR]

MODEL is a vision-language model with a chat template, by its name on the Hub or its folder. Only its LoRA layers are
trained. The model learns to answer `pristine` or `falsified`, which `newsclippings evaluate` reads.
"""

import sys

import newsclippings


def main(model: str, data_dir: str | None = None, *, steps: int = 500) -> float:
    """Train, and return the loss."""
    import torch
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    train = newsclippings.load("merged_balanced", split="train", data_dir=data_dir)
    arguments = SFTConfig(
        "runs/chat",
        max_steps=steps,
        per_device_train_batch_size=4,
        bf16=torch.cuda.is_available(),
        max_length=None,  # cut, a chat would lose tokens of its picture
        save_strategy="no",
        report_to="none",
    )
    trainer = SFTTrainer(
        model,
        arguments,
        train_dataset=newsclippings.as_messages(train),
        peft_config=LoraConfig(target_modules="all-linear"),
    )
    return float(trainer.train().training_loss)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
