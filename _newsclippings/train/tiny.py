"""A CLIP small enough to train in a test, and a tokenizer that needs no vocabulary file."""

from typing import Any

from transformers import CLIPConfig

SPECIAL = ["<pad>", "<bos>", "<unk>", "<eos>"]


def tiny_config() -> CLIPConfig:
    """Make a config with two layers of 32 units, for pictures of 32 x 32 pixels and captions of 77 bytes."""
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPConfig(
        text_config={
            **small,
            "vocab_size": 256 + len(SPECIAL),
            "max_position_embeddings": 77,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 3,
        },
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )


def byte_tokenizer() -> Any:
    """Make a tokenizer with one token per byte of UTF-8."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={token: k for k, token in enumerate(vocabulary)}, merges=[], unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
