"""Run `newsclippings train`: read the flags, train, evaluate, and print the report."""

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
from _newsclippings.storage import (
    LossyStream,
    describe_os_error,
    describe_print_error,
    discard_unprinted,
    free_bytes,
)
from _newsclippings.text import as_message
from _newsclippings.train import model as models
from _newsclippings.train import untrusted
from _newsclippings.train.collate import Collator
from _newsclippings.train.data import Control, MapRows, count_rows, find_widths, load_split, read_shard_sizes
from _newsclippings.train.evaluate import predict, write_report
from _newsclippings.train.options import CONTROLS, LOCATION_FLAGS, Options, UsageError, given_flags, parse
from _newsclippings.train.places import check_new_report, check_report, check_run, list_inputs
from _newsclippings.train.stream import StreamLoader, StreamRows

logger = logging.getLogger(__name__)


class PairTrainer(Trainer):
    """A `Trainer` with two learning rates, for streams that are already divided between ranks."""

    optimizer: Any
    shuffle = True

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Create AdamW with separate learning rates for the head and the backbone."""
        if self.optimizer is None:
            arguments = self.args
            groups = self.model.groups(arguments.learning_rate, arguments.weight_decay)
            betas = (arguments.adam_beta1, arguments.adam_beta2)
            self.optimizer = torch.optim.AdamW(groups, betas=betas, eps=arguments.adam_epsilon)
        optimizer: torch.optim.Optimizer = self.optimizer
        return optimizer

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Load a stream without dividing it again; load other rows as `Trainer` does."""
        if isinstance(self.train_dataset, StreamRows):
            size, drop_last = self.args.train_batch_size, self.args.dataloader_drop_last
            return make_loader(self.train_dataset, self.data_collator, self.args, size, drop_last)
        return super().get_train_dataloader()

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with report_failed_save(self.args.output_dir):
            super()._save_checkpoint(*args, **kwargs)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """Save the model as `Trainer` does."""
        with report_failed_save(self.args.output_dir):
            super().save_model(*args, **kwargs)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return super()._get_train_sampler(*args, **kwargs) if self.shuffle else None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        load = super()._load_from_checkpoint
        place = Path(resume_from_checkpoint, untrusted.WEIGHTS)
        if place.exists():
            untrusted.check_shapes(place, untrusted.read_shapes(place, resume_from_checkpoint))(self.model)
        untrusted.call_safely(place, "weights", lambda: load(resume_from_checkpoint, *args, **kwargs))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        load = super()._load_optimizer_and_scheduler
        untrusted.call_safely(checkpoint, "the state of this optimizer", lambda: load(checkpoint))
        for weights, state in self.optimizer.state.items() if checkpoint else ():
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and value.numel() != 1 and value.shape != weights.shape:
                    expected = f"{name} of shape {list(weights.shape)}"
                    raise untrusted.make_error(f"{checkpoint}/optimizer.pt", expected, list(value.shape))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        load = super()._load_rng_state
        untrusted.call_safely(checkpoint, "the state of random numbers", lambda: load(checkpoint))

    def _load_scaler(self, checkpoint: str | None) -> None:
        load = super()._load_scaler
        untrusted.call_safely(checkpoint, "the state of a scaler", lambda: load(checkpoint))


@contextlib.contextmanager
def report_failed_save(folder: str) -> Iterator[None]:
    """Turn errors of torch and safetensors about files that cannot be written into OSError or ConfigError."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number:
            raise OSError(int(number[1]), os.strerror(int(number[1])), folder) from error
        if "PytorchStreamWriter failed" not in str(error):
            raise
        message = (
            f"{folder}: a checkpoint could not be written, and torch gives no reason; {free_bytes(folder):,} bytes are "
            "free there. Is the disk full, or your quota used up? Free some space, or choose another --output_dir."
        )
        raise ConfigError(message) from error


class EpochCallback(TrainerCallback):
    """Set the epoch of a stream; a `Trainer` that resumes within an epoch sets it on a wrapper that drops it."""

    def __init__(self, rows: StreamRows) -> None:
        self.rows = rows

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the epoch before the first batch."""
        self.rows.set_epoch(int(state.epoch or 0))


class TensorCollator:
    """Make batches of tensors only, which the model takes as they are."""

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch as `Collator` does, without the facts."""
        return {name: value for name, value in self.collator(rows).items() if name != "facts"}


def make_loader(
    rows: Any, collator: Any, arguments: TrainingArguments, size: int, drop_last: bool = False
) -> DataLoader[Any]:
    """Make a loader of batches in the order of the rows, with the workers that the arguments ask for."""
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


def load_rows(options: Options, split: str, seed: int, rank: int, ranks: int) -> tuple[Any, dict[str, int]]:
    """Load the rows of a split, changed by the control if there is one, and the widths of their columns of vectors."""
    learning = split == "train"
    outlets = None
    if options.train_outlets:
        outlets = set(options.train_outlets) if learning else set(OUTLETS) - set(options.train_outlets)
    control = Control(options.control, f"{seed} {split}")
    rows = load_split(options, split)
    widths = find_widths(options, rows)
    if not options.streaming:
        return MapRows(rows, outlets, control), widths
    buffer = options.shuffle_buffer if learning and options.shuffle else 0
    sizes = read_shard_sizes(options, split)
    length = sum(sizes) if sizes else count_rows(options, rows, split)
    stream = StreamRows(rows, length, sizes=sizes, seed=seed, buffer=buffer, rank=rank, ranks=ranks, control=control)
    return stream, widths


def train(options: Options, arguments: TrainingArguments) -> tuple[models.Classifier, Collator]:
    """Train a new classifier, and save its weights in `output_dir`."""
    rank, ranks = arguments.process_index, arguments.world_size
    folder, last = Path(arguments.output_dir), arguments.resume_from_checkpoint
    readers = {"workers": max(1, arguments.dataloader_num_workers), "ranks": ranks} if options.streaming else None
    runs = {folder, models.find_run(Path(last)) if last not in (None, True) else folder}
    for run in runs:
        models.check_notes(run, options, readers)
    checkpoint = get_last_checkpoint(str(folder)) if last is True and folder.is_dir() else last
    if isinstance(checkpoint, str):
        untrusted.check_checkpoint(Path(checkpoint), bool(arguments.fsdp or arguments.deepspeed))
    # first, so that missing files are reported early
    rows, widths = load_rows(options, "train", arguments.seed, rank, ranks)
    for run in runs:
        models.check_noted_widths(run, widths)
    set_seed(arguments.seed)
    model, tokenizer = models.make_classifier(options, widths)
    collator = make_collator(model, tokenizer)
    trainer = PairTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=TensorCollator(collator),
    )
    trainer.shuffle = options.shuffle
    if isinstance(rows, StreamRows):
        trainer.add_callback(EpochCallback(rows))
    if rank == 0:
        models.save_notes(folder, model, tokenizer, readers)
    trainer.train(resume_from_checkpoint=last)
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    leave_group(trainer)
    return model, collator


def leave_group(trainer: Trainer) -> None:
    """Leave the group of ranks in an order that cannot abort or deadlock.

    Threads of gloo free tensors, for which they need the interpreter's lock. A process that ends before they got the
    lock is aborted. A process that frees the group together with the wrapped model holds the lock while it waits.
    """
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()  # frees the wrapped model
    trainer.accelerator.end_training()  # then the group, without the lock


def make_collator(model: models.Classifier, tokenizer: Any) -> Collator:
    """Make the collator for a model."""
    if model.backbone is None:
        return Collator(model.options, tokenizer, side=0, tokens=0, widths=model.widths)
    config = model.backbone.config
    tokens = min(model.options.tokens, int(config.text_config.max_position_embeddings))
    return Collator(model.options, tokenizer, int(config.vision_config.image_size), tokens, widths={})


def warn_of_unused_places(run: Path, given: set[str]) -> None:
    """Warn that the places from which a run read its rows are not used, if the command line names none."""
    noted = untrusted.find_places(untrusted.read_notes(models.find_run(run))[0])
    if noted and not given & {"data", *LOCATION_FLAGS}:
        places = ", ".join(f"--{name} {value}" for name, value in noted.items())
        logger.warning("%s was made with %s, which is not used: pass the location of the rows.", run, places)


def main(arguments: list[str]) -> dict[str, Any]:
    """Train and evaluate; return the measures on test, in rank 0 only."""
    options, training = parse(arguments)
    if options.eval_only:
        given = given_flags(arguments)
        changed = [name for name in ("config", "train_outlets", "control") if name in given]
        if changed and "output_dir" not in given:
            raise UsageError(f"--eval_only with --{changed[0]} needs --output_dir, to keep the results of the run.")
        name = options.eval_only
        folder = Path(training.output_dir if "output_dir" in given else name)
        model, tokenizer = models.load_classifier(Path(options.eval_only))
        collator = make_collator(model, tokenizer)
        of_the_run = {"config", "features", "products", "train_outlets", "control"}
        of_the_run |= {"missing", "check_images"} if options.data == Options.data else set()
        warn_of_unused_places(Path(options.eval_only), given)
        options = replace(options, **{name: getattr(model.options, name) for name in of_the_run - given})
        options.check(given)
        options.check_vectors()
        run, inputs = Path(name), list_inputs(options)
        if any(folder.resolve() == own.resolve() for own in (run, models.find_run(run))):
            check_report(folder, inputs)
        else:
            check_new_report(folder, [*inputs, name])
    else:
        if not training.process_index:
            check_run(Path(training.output_dir), list_inputs(options), training)
        if not training.process_index:  # check the test rows before the training; a stream must be read for that
            next(iter(load_rows(options, "test", training.seed, 0, 1)[0]))
        model, collator = train(options, training)
        folder = Path(training.output_dir)
        name = options.features or options.from_config or options.model
    if training.process_index:
        return {}
    device = training.device
    rows, widths = load_rows(options, "test", training.seed, 0, 1)
    models.check_widths(Path(name) if options.eval_only else folder, model.widths, widths)
    batches = make_loader(rows, collator, training, training.eval_batch_size)
    predictions = predict(model.to(device), batches, device)
    title = f"{options.config}, {name}"
    if options.train_outlets:
        title += f": trained on pairs of {', '.join(sorted(options.train_outlets))} only, tested on those of the others"
    measures = write_report(folder, predictions, title, options.control and CONTROLS[options.control])
    print((folder / "report.md").read_text(encoding="utf-8"))
    return measures


def run_command(arguments: list[str]) -> int:
    """Run `main` as a program: print errors in one line, and return 1, or 2 for a mistake in the command line."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, _ = LossyStream(sys.stdout), LossyStream(sys.stderr)
    code = 0
    try:
        main(arguments)
    except SystemExit as error:  # raised by the parser
        code = error.code if isinstance(error.code, int) else 1
    except (NewsCLIPpingsError, ValueError, OSError, MemoryError) as error:
        print(f"Error: {format_error(error)}", file=sys.stderr)
        code = 2 if isinstance(error, UsageError) else 1
    finally:
        out.flush()
        sys.stdout, sys.stderr = streams
        discard_unprinted()
    if out.failure and not code:
        code = 1
        if not isinstance(out.failure, BrokenPipeError):  # if it is one, the reader closed the pipe
            with contextlib.suppress(OSError):
                print(f"Error: {describe_print_error(out.failure)}", file=sys.stderr, flush=True)
    discard_unprinted()
    return code


def format_error(error: Exception) -> str:
    """Format an error for people: what is wrong, and what to do."""
    if isinstance(error, OSError | MemoryError) and not isinstance(error, NewsCLIPpingsError):
        return as_message(describe_os_error(error))
    lines = str(error).splitlines()
    from_worker = lines and lines[0].startswith("Caught ")  # by a DataLoader, which adds the traceback of its worker
    message = lines[-1].removeprefix("ValueError: ") if from_worker else str(error)
    return as_message(message) + "\n  Here that is --missing drop_pair." * isinstance(error, MissingDataError)
