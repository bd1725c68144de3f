"""The command: `newsclippings train --config merged_balanced --model openai/clip-vit-base-patch32`."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from _newsclippings.errors import ConfigError, MissingDataError, NewsCLIPpingsError
from _newsclippings.facts import OUTLETS
from _newsclippings.storage import Patient, describe_os_error, forget_unprinted, free_at, not_printed
from _newsclippings.text import as_message
from _newsclippings.train import model as models
from _newsclippings.train import strangers
from _newsclippings.train.collate import Collator
from _newsclippings.train.data import Control, MapRows, count_rows, load_split, shard_sizes
from _newsclippings.train.evaluate import predict, write_report
from _newsclippings.train.options import CONTROLS, Options, UsageError, given_flags, parse
from _newsclippings.train.places import check_new_report, check_report, check_run, inputs_of
from _newsclippings.train.stream import StreamLoader, StreamRows

logger = logging.getLogger(__name__)


class PairTrainer(Trainer):
    """`Trainer` with two learning rates, and streams that are divided between ranks before they are read."""

    optimizer: Any
    shuffle = True

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """AdamW; the head and the backbone have rates of their own."""
        if self.optimizer is None:
            given = self.args
            groups = self.model.groups(given.learning_rate, given.weight_decay)
            betas = (given.adam_beta1, given.adam_beta2)
            self.optimizer = torch.optim.AdamW(groups, betas=betas, eps=given.adam_epsilon)
        optimizer: torch.optim.Optimizer = self.optimizer
        return optimizer

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of a stream are not divided again; others are as `Trainer` makes them."""
        if isinstance(self.train_dataset, StreamRows):
            size, drop_last = self.args.train_batch_size, self.args.dataloader_drop_last
            return loader(self.train_dataset, self.data_collator, self.args, size, drop_last)
        return super().get_train_dataloader()

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with saving(self.args.output_dir):
            super()._save_checkpoint(*args, **kwargs)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """As `Trainer`."""
        with saving(self.args.output_dir):
            super().save_model(*args, **kwargs)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return super()._get_train_sampler(*args, **kwargs) if self.shuffle else None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        load = super()._load_from_checkpoint
        place = Path(resume_from_checkpoint, strangers.WEIGHTS)
        if place.exists():
            strangers.same_shapes(place, strangers.shapes_of(place, resume_from_checkpoint))(self.model)
        strangers.careful(place, "weights", lambda: load(resume_from_checkpoint, *args, **kwargs))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        load = super()._load_optimizer_and_scheduler
        strangers.careful(checkpoint, "the state of this optimizer", lambda: load(checkpoint))
        for weights, state in self.optimizer.state.items() if checkpoint else ():
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and value.numel() != 1 and value.shape != weights.shape:
                    expected = f"{name} of shape {list(weights.shape)}"
                    raise strangers.fault(f"{checkpoint}/optimizer.pt", expected, list(value.shape))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        load = super()._load_rng_state
        strangers.careful(checkpoint, "the state of random numbers", lambda: load(checkpoint))

    def _load_scaler(self, checkpoint: str | None) -> None:
        load = super()._load_scaler
        strangers.careful(checkpoint, "the state of a scaler", lambda: load(checkpoint))


@contextlib.contextmanager
def saving(folder: str) -> Iterator[None]:
    """Raise errors as of other files where weights cannot be written: torch and safetensors have their own."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number:
            raise OSError(int(number[1]), os.strerror(int(number[1])), folder) from error
        if "PytorchStreamWriter failed" not in str(error):
            raise
        message = (
            f"{folder}: a checkpoint could not be written, and torch does not say why; {free_at(folder):,} bytes are "
            "free there. Is the disk full, or your quota used up? Make room, or choose another --output_dir."
        )
        raise ConfigError(message) from error


class Epochs(TrainerCallback):
    """Tells a stream its epoch; `Trainer`, when it goes on in the middle of one, tells it a wrapper that forgets it."""

    def __init__(self, rows: StreamRows) -> None:
        self.rows = rows

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the first batch."""
        self.rows.set_epoch(int(state.epoch or 0))


class WithoutFacts:
    """Batches that the model takes as they are."""

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """As `Collator`, tensors only."""
        return {name: value for name, value in self.collator(rows).items() if name != "facts"}


def loader(
    rows: Any, collator: Any, arguments: TrainingArguments, size: int, drop_last: bool = False
) -> DataLoader[Any]:
    """Batches of rows, in their order, by as many workers as the arguments say."""
    kind = StreamLoader if isinstance(rows, StreamRows) else DataLoader
    return kind(
        rows,
        batch_size=size,
        collate_fn=collator,
        num_workers=arguments.dataloader_num_workers,
        prefetch_factor=arguments.dataloader_prefetch_factor,
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last,
    )


def rows_for(options: Options, split: str, seed: int, rank: int, ranks: int) -> Any:
    """Rows of a split, with whatever control there is."""
    learning = split == "train"
    outlets = None
    if options.train_outlets:
        outlets = set(options.train_outlets) if learning else set(OUTLETS) - set(options.train_outlets)
    control = Control(options.control, f"{seed} {split}")
    rows = load_split(options, split)
    if not options.streaming:
        return MapRows(rows, outlets, control)
    buffer = options.shuffle_buffer if learning and options.shuffle else 0
    sizes = shard_sizes(options, split)
    length = sum(sizes) if sizes else count_rows(options, rows, split)
    return StreamRows(rows, length, sizes=sizes, seed=seed, buffer=buffer, rank=rank, ranks=ranks, control=control)


def train(options: Options, arguments: TrainingArguments) -> tuple[models.Classifier, Collator]:
    """Train a new classifier; its weights end up in `output_dir`."""
    rank, ranks = arguments.process_index, arguments.world_size
    folder, last = Path(arguments.output_dir), arguments.resume_from_checkpoint
    readers = {"workers": max(1, arguments.dataloader_num_workers), "ranks": ranks} if options.streaming else None
    for one in {folder, models.home_of(Path(last)) if last not in (None, True) else folder}:
        models.check_about(one, options, readers)
    checkpoint = get_last_checkpoint(str(folder)) if last is True and folder.is_dir() else last
    if isinstance(checkpoint, str):
        strangers.check_checkpoint(Path(checkpoint), bool(arguments.fsdp or arguments.deepspeed))
    rows = rows_for(options, "train", arguments.seed, rank, ranks)  # first: what is missing is told before all else
    set_seed(arguments.seed)
    model, tokenizer = models.make(options)
    collator = make_collator(model, tokenizer)
    trainer = PairTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=WithoutFacts(collator),
    )
    trainer.shuffle = options.shuffle
    if isinstance(rows, StreamRows):
        trainer.add_callback(Epochs(rows))
    if rank == 0:
        models.save_about(folder, model, tokenizer, readers)
    trainer.train(resume_from_checkpoint=last)
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    leave_group(trainer)
    return model, collator


def leave_group(trainer: Trainer) -> None:
    """Leave the group of ranks in good order.

    Threads of gloo free tensors, for which they need the interpreter's lock. A process that ends before they have it is
    aborted; and one that frees the group together with the wrapped model waits for them with the lock in its hand.
    """
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()  # the wrapped model goes
    trainer.accelerator.end_training()  # then the group, without the lock


def make_collator(model: models.Classifier, tokenizer: Any) -> Collator:
    """What makes batches for a model."""
    if model.backbone is None:
        return Collator(model.options, tokenizer, side=0, tokens=0)
    config = model.backbone.config
    tokens = min(model.options.tokens, int(config.text_config.max_position_embeddings))
    return Collator(model.options, tokenizer, int(config.vision_config.image_size), tokens)


def told_of_places(run: Path, given: set[str]) -> None:
    """Log where a run's rows came from, if the command line says nothing of it: nothing is read there."""
    noted = strangers.named_places(strangers.read_about(models.home_of(run))[0])
    if noted and not given & {"data", "data_dir", "visual_news", "visual_news_index"}:
        places = ", ".join(f"--{name} {value}" for name, value in noted.items())
        logger.warning("%s was made with %s, which is not used: say where the rows are.", run, places)


def main(arguments: list[str]) -> dict[str, Any]:
    """Train and evaluate; returns the measures on test (of rank 0)."""
    options, training = parse(arguments)
    if options.eval_only:
        given = given_flags(arguments)
        other = [name for name in ("config", "train_outlets", "control") if name in given]
        if other and "output_dir" not in given:
            raise UsageError(f"--eval_only with --{other[0]}: expected --output_dir, to keep the results of the run.")
        name = options.eval_only
        folder = Path(training.output_dir if "output_dir" in given else name)
        model, tokenizer = models.load(Path(options.eval_only))
        collator = make_collator(model, tokenizer)
        of_the_run = {"config", "features", "products", "train_outlets", "control"}
        of_the_run |= {"missing", "check_images"} if options.data == Options.data else set()
        told_of_places(Path(options.eval_only), given)
        options = replace(options, **{name: getattr(model.options, name) for name in of_the_run - given})
        options.check(given)
        run, inputs = Path(name), inputs_of(options)
        if any(folder.resolve() == one.resolve() for one in (run, models.home_of(run))):
            check_report(folder, inputs)
        else:
            check_new_report(folder, [*inputs, name])
    else:
        if not training.process_index:
            check_run(Path(training.output_dir), inputs_of(options), training)
        if not training.process_index:  # before the training, not after it
            next(iter(rows_for(options, "test", training.seed, 0, 1)))  # a stream says nothing until it is read
        model, collator = train(options, training)
        folder = Path(training.output_dir)
        name = options.features or options.from_config or options.model
    if training.process_index:
        return {}
    device = training.device
    rows = rows_for(options, "test", training.seed, 0, 1)
    batches = loader(rows, collator, training, training.eval_batch_size)
    predictions = predict(model.to(device), batches, device)
    about = f"{options.config}, {name}"
    if options.train_outlets:
        about += f": trained on pairs of {', '.join(sorted(options.train_outlets))} only, tested on those of the others"
    measures = write_report(folder, predictions, about, options.control and CONTROLS[options.control])
    print((folder / "report.md").read_text(encoding="utf-8"))
    return measures


def command(arguments: list[str]) -> int:
    """As `main`, as a program: what goes wrong in a line, and exit code 1, or 2 for a mistake in the command line."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, _ = Patient(sys.stdout), Patient(sys.stderr)
    code = 0
    try:
        main(arguments)
    except SystemExit as error:  # of the parser
        code = error.code if isinstance(error.code, int) else 1
    except (NewsCLIPpingsError, ValueError, OSError, MemoryError) as error:
        print(f"Error: {in_a_line(error)}", file=sys.stderr)
        code = 2 if isinstance(error, UsageError) else 1
    finally:
        out.flush()
        sys.stdout, sys.stderr = streams
        forget_unprinted()
    if out.failure and not code:
        code = 1
        if not isinstance(out.failure, BrokenPipeError):  # who reads the results has seen enough
            with contextlib.suppress(OSError):
                print(f"Error: {not_printed(out.failure)}", file=sys.stderr, flush=True)
    forget_unprinted()
    return code


def in_a_line(error: Exception) -> str:
    """What went wrong, and what to do."""
    if isinstance(error, OSError | MemoryError) and not isinstance(error, NewsCLIPpingsError):
        return as_message(describe_os_error(error))
    lines = str(error).splitlines()
    from_worker = lines and lines[0].startswith("Caught ")  # by a DataLoader, with the traceback there
    said = lines[-1].removeprefix("ValueError: ") if from_worker else str(error)
    return as_message(said) + "\n  Here that is --missing drop_pair." * isinstance(error, MissingDataError)
