"""Run `newsclippings train`: read the flags, train, evaluate, and print the report."""

import contextlib
import copy
import io
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import torch
import transformers
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Subset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments, set_seed
from transformers.trainer_utils import IntervalStrategy

from _newsclippings.errors import ConfigError
from _newsclippings.evaluate import Evaluation, compare
from _newsclippings.facts import NAME, OUTLETS
from _newsclippings.hub import push_model, require_token
from _newsclippings.storage import (
    LossyStream,
    discard_unprinted,
    free_bytes,
    is_url,
    shows_progress,
    write_text,
)
from _newsclippings.train import model as models
from _newsclippings.train import published, untrusted
from _newsclippings.train.card import MARK, README, check_card, list_pushed, name_card, write_card
from _newsclippings.train.collate import Collator
from _newsclippings.train.data import (
    Control,
    Counts,
    MapRows,
    UnionRows,
    count_kept_rows,
    count_rows,
    find_widths,
    is_of_outlets,
    load_split,
    read_shard_sizes,
)
from _newsclippings.train.evaluate import (
    find_truth,
    measure_rows,
    predict,
    sort_predictions,
    validate,
    write_report,
)
from _newsclippings.train.flags import given_flags, parse, read_flags
from _newsclippings.train.lora import merge_adapters, require_peft
from _newsclippings.train.options import (
    CONTROLS,
    LOCATION_FLAGS,
    SHARDED_LORA,
    Options,
    UsageError,
)
from _newsclippings.train.places import (
    POSITIVE,
    SEEDS,
    check_new_report,
    check_report,
    check_run,
    check_seeds,
    list_inputs,
    list_reports,
    list_written,
    lock_run,
)
from _newsclippings.train.recipes import find_changes
from _newsclippings.train.record import (
    RULED,
    count_dropped,
    describe_run,
    describe_versions,
    judge_control,
    list_flags,
    name_model,
    read_positive,
    read_run,
)
from _newsclippings.train.stream import StreamLoader, StreamRows, StreamUnion, divide_evenly

logger = logging.getLogger(NAME)


class Push(NamedTuple):
    """Where a run is pushed to, and whether everybody may see it."""

    repo_id: str
    public: bool


class PairTrainer(Trainer):
    """A `Trainer` with two learning rates, for streams that are already divided between ranks."""

    optimizer: Any
    control: Any
    shuffle = True
    patience: int | None = None
    collator: Collator  # makes batches of validation, with their facts

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Create the optimizer of --optim with separate learning rates for the head and the backbone."""
        if self.optimizer is None:
            groups = self.model.groups(self.args.learning_rate, self.args.weight_decay)
            make, values = find_optimizer(self.args, self.model)
            self.optimizer = make(groups, **values)
        optimizer: torch.optim.Optimizer = self.optimizer
        return optimizer

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Count none: transformers counts by the tokens of a language model."""
        return 0

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validate: compute `eval_loss` and `eval_accuracy`, which are the same in all ranks."""
        arguments, rows = self.args, self.eval_dataset
        # its own generator, so that training draws the same random numbers with and without validation
        loader = make_loader(
            rows, self.collator, arguments, arguments.eval_batch_size, generator=torch.Generator().manual_seed(0)
        )
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        predictions = predict(self.model_wrapped if sharded else self.model, loader, arguments.device)
        if arguments.world_size > 1:
            predictions = sort_predictions(gather_object(predictions))
        metrics = {f"eval_{name}": value for name, value in validate(predictions).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(arguments, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], *args: Any, **kwargs: Any) -> bool:
        """Save the checkpoint if it is the best, and stop if there was no better one for long."""
        if not self.args.load_best_model_at_end:
            return False
        better: bool = super()._determine_best_metric(metrics, *args, **kwargs)
        self.control.should_save |= better
        if is_patience_over(self.args, self.state, self.patience):
            self.control.should_training_stop = self.control.should_save = True
        return better

    def _load_best_model(self) -> None:
        """Load the best checkpoint as data, like all weights."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
            return
        place = Path(str(self.state.best_model_checkpoint))
        models.load_weights(self.model, place)
        score, name = self.state.best_metric, self.args.metric_for_best_model
        logger.info("%s has the best %s on validation, %s: it is tested.", place, name, score)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Load a stream without dividing it again; load other rows as `Trainer` does."""
        if isinstance(self.train_dataset, StreamRows):
            size, drop_last = self.args.train_batch_size, self.args.dataloader_drop_last
            return make_loader(self.train_dataset, self.data_collator, self.args, size, drop_last)
        return super().get_train_dataloader()

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        limit, best = self.args.save_total_limit, self.state.best_global_step
        if limit and best and self.args.load_best_model_at_end:
            names = os.listdir(self.args.output_dir) if os.path.isdir(self.args.output_dir) else []
            steps = {int(number[1]) for name in names if (number := re.fullmatch(r"checkpoint-(\d+)", name))}
            newest = sorted(steps | {self.state.global_step})[-limit:]
            self.args.save_total_limit = limit + (best in steps and best not in newest)  # the best is kept beside them
        try:
            with report_failed_save(self.args.output_dir):
                super()._save_checkpoint(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save the weights and the arguments of the training only; the run has noted the rest once."""
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            state = self.model.state_dict() if state_dict is None else state_dict
            save_file(state, folder / untrusted.WEIGHTS, metadata={"format": "pt"})
            torch.save(self.args, folder / "training_args.bin")

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


def find_optimizer(arguments: TrainingArguments, model: models.Classifier) -> tuple[Any, dict[str, Any]]:
    """Find the class of --optim, and its arguments but the groups of parameters.

    Raises:
        ValueError: the optimizer chooses parameters or learning rates itself, or its package is not installed.
    """
    name = arguments.optim.value
    try:
        make, values = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    except (ImportError, ValueError) as error:
        why = " ".join(str(error).split())[:200].rstrip(".")
        raise ValueError(f"--optim {name}: {why}. Install it, or choose another one, such as adamw_torch.") from error
    if values.keys() & {"params", "model", "optimizer_dict"} or name.startswith(("schedule_free", "lomo", "adalomo")):
        raise ValueError(
            f"--optim {name} chooses parameters or learning rates itself, and would not use the two learning rates of "
            "head and backbone. Choose another one, such as adamw_torch."
        )
    return make, values


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
    """Set the epoch of the rows; a `Trainer` that resumes within an epoch sets it on a wrapper that drops it."""

    def __init__(self, rows: StreamRows | UnionRows) -> None:
        self.rows = rows

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the epoch before the first batch."""
        self.rows.set_epoch(int(state.epoch or 0))


class State(TrainerState):
    """A state that saves no path: the best checkpoint is found again by its number, also in a folder that was moved."""

    best_model_checkpoint: str | None

    def save_to_json(self, json_path: str) -> None:
        """Save the state without the path of the best checkpoint."""
        best, self.best_model_checkpoint = self.best_model_checkpoint, None
        super().save_to_json(json_path)
        self.best_model_checkpoint = best


class BestCallback(TrainerCallback):
    """Find the best checkpoint of the run again when it resumes, and validate after the last update.

    Args:
        patience: as --patience.
        last: the checkpoint to resume from, or None.
    """

    def __init__(self, patience: int | None, last: str | None) -> None:
        self.patience, self.last = patience, last

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Choose the best among the validations that a run without an interruption makes, too."""
        state.__class__ = State
        state.best_metric = state.best_global_step = state.best_model_checkpoint = None
        if not (args.load_best_model_at_end and self.last):
            return
        for step, value in list_validations(args, state):
            best = state.best_metric
            if best is None or (value != best and (value > best) == args.greater_is_better):
                state.best_metric, state.best_global_step = value, step
        if state.best_global_step is None:
            return
        checkpoint = f"checkpoint-{state.best_global_step}"
        places = [Path(args.output_dir, checkpoint), Path(self.last).parent / checkpoint]
        found = [place for place in places if place.is_dir()]
        if not found:
            logger.warning("%s, the best so far, is missing: the best of the following is tested.", places[0])
            state.best_metric = state.best_global_step = None
            return
        untrusted.check_checkpoint(found[0], bool(args.fsdp or args.deepspeed))
        state.best_model_checkpoint = str(found[0])
        control.should_training_stop |= is_patience_over(args, state, self.patience)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Validate after the last update."""
        if state.global_step >= state.max_steps and args.eval_strategy == IntervalStrategy.STEPS:
            control.should_evaluate = True


def list_validations(arguments: TrainingArguments, state: Any) -> list[tuple[int, float]]:
    """Return the step and the metric of all validations but those after the last update of a run that was shorter."""
    name = f"eval_{arguments.metric_for_best_model}"
    every = state.eval_steps if arguments.eval_strategy == IntervalStrategy.STEPS else 1
    return [
        (entry["step"], entry[name])
        for entry in state.log_history
        if name in entry and (entry["step"] % every == 0 or entry["step"] == state.max_steps)
    ]


def is_patience_over(arguments: TrainingArguments, state: Any, patience: int | None) -> bool:
    """Check whether `patience` validations came after the best one."""
    best = state.best_global_step or 0
    return patience is not None and sum(step > best for step, _ in list_validations(arguments, state)) >= patience


class TensorCollator:
    """Make batches of tensors only, which the model takes as they are."""

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch as `Collator` does, without the facts."""
        return {name: value for name, value in self.collator(rows).items() if name != "facts"}


def make_loader(
    rows: Any,
    collator: Any,
    arguments: TrainingArguments,
    size: int,
    drop_last: bool = False,
    generator: torch.Generator | None = None,
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
        generator=generator,
    )


def load_rows(options: Options, split: str, seed: int, rank: int, ranks: int) -> tuple[Any, dict[str, int]]:
    """Load a rank's rows of a split, changed by the control if there is one, and the widths of its vectors.

    The configs follow one another. Rows of train are divided between the ranks by `Trainer`, except those of a stream.
    """
    learning = split == "train"
    outlets, rule = None, options.outlet_rule
    if options.train_outlets:
        outlets = set(OUTLETS) - set(options.train_outlets) if split == "test" else set(options.train_outlets)
    control = Control(options.control, f"{seed} {split}", options.mislabel_pristine if learning else 0.0)
    parts = {config: load_split(options.of_config(config), split) for config in options.configs()}
    all_widths = {config: find_widths(options, rows) for config, rows in parts.items()}
    widths = all_widths[options.configs()[0]]
    for config, others in all_widths.items():
        if others != widths:
            raise ValueError(
                f"--config {options.config}: vectors of {config} have other widths, {others}, not {widths}."
            )
    if not options.streaming:
        found = UnionRows([MapRows(rows, outlets, control, rule, config) for config, rows in parts.items()])
        if learning or ranks == 1:
            return found, widths
        most = -(-len(found) // ranks) * ranks  # some rows are there twice, so that ranks make as many batches
        return Subset(found, [k % len(found) for k in range(rank, most, ranks)]), widths
    union = StreamUnion([*parts.values()])
    if not learning and union.num_shards % ranks:
        rank, ranks = 0, 1  # each rank reads all rows
    buffer = options.shuffle_buffer if learning and options.shuffle else 0
    keeps = partial(is_of_outlets, outlets=outlets, rule=rule) if outlets else None
    sizes, kept, configs, counts = [], [], [], {}
    for config, rows in parts.items():
        one, shards = options.of_config(config), rows.num_shards
        own = read_shard_sizes(one, split) or divide_evenly(count_rows(one, rows, split), shards)
        own_kept = count_kept_rows(one, split, outlets, shards) if outlets else own
        counts[config] = Counts(sum(own), sum(own_kept), None)
        sizes += own
        kept += own_kept
        configs += [config] * shards
    stream = StreamRows(
        union,
        sum(sizes),
        sizes=sizes,
        seed=seed,
        buffer=buffer,
        rank=rank,
        ranks=ranks,
        control=control,
        kept=kept,
        keeps=keeps,
        configs=configs,
    )
    stream.counts = counts
    return stream, widths


def train(
    options: Options, arguments: TrainingArguments, counts: dict[str, dict[str, Counts]] | None = None
) -> tuple[models.Classifier, Collator]:
    """Train a new classifier, and save its weights in `output_dir`.

    Args:
        options: of the run.
        arguments: its other flags.
        counts: gets the counts of the rows of train.
    """
    rank, ranks = arguments.process_index, arguments.world_size
    folder, last = Path(arguments.output_dir), arguments.resume_from_checkpoint
    readers = {"workers": max(1, arguments.dataloader_num_workers), "ranks": ranks} if options.streaming else None
    runs = {folder, models.find_run(Path(last)) if last not in (None, True) else folder}
    for run in runs:
        models.check_notes(run, options, readers)
    checkpoint = untrusted.find_last_checkpoint(folder) if last is True else last
    if last is True and checkpoint is None:
        raise ValueError(f"{folder}: there is no checkpoint to resume from. Leave out --resume_from_checkpoint.")
    if isinstance(checkpoint, str):
        untrusted.check_checkpoint(Path(checkpoint), bool(arguments.fsdp or arguments.deepspeed))
    # first, so that missing files are reported early
    rows, widths = load_rows(options, "train", arguments.seed, rank, ranks)
    if counts is not None:
        counts["train"] = rows.counts
    validation = None
    if arguments.eval_strategy != IntervalStrategy.NO:
        validation = load_rows(options, "validation", arguments.seed, rank, ranks)[0]
    for run in runs:
        models.check_noted_widths(run, widths)
    set_seed(arguments.seed)
    model, tokenizer = models.make_classifier(options, widths)
    if options.recipe:
        values = {**vars(arguments), **vars(options), "lr_scheduler_type": str(arguments.lr_scheduler_type.value)}
        model.config.changes = find_changes(options.recipe, values)
    if options.lora is not None:
        model.config.changes["lora"] = options.lora
    if arguments.ddp_find_unused_parameters is None:  # the scale of CLIP's own loss has no gradient
        trained = [name for name, value in model.named_parameters() if value.requires_grad]
        arguments.ddp_find_unused_parameters = any(name.startswith("backbone.logit_") for name in trained)
    collator = Collator(model.options, model.processor, model.widths)
    trainer = PairTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=validation,
        data_collator=TensorCollator(collator),
    )
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    if sharded and options.lora is not None:
        raise ValueError(SHARDED_LORA)  # `accelerate` can divide it, too
    if sharded:
        models.make_shardable(model)
    trainer.shuffle, trainer.patience, trainer.collator = options.shuffle, options.patience, collator
    trainer.add_callback(EpochCallback(rows))
    trainer.add_callback(BestCallback(options.patience, checkpoint))
    if rank == 0:
        models.save_notes(folder, model, tokenizer, readers)
    if is_quiet():
        trainer.remove_callback(PrinterCallback)
    with contextlib.redirect_stdout(sys.stderr):  # the trainer prints its log
        trainer.train(resume_from_checkpoint=checkpoint)
    if options.lora is not None:
        merge_adapters(model.backbone)
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    leave_group(trainer)
    if sharded and rank == 0:  # each rank had a part of it
        model = models.load_classifier(folder)[0]
    return model, collator


def leave_group(trainer: Trainer) -> None:
    """Leave the group of ranks in an order that cannot abort or deadlock.

    Threads of gloo free tensors, for which they need the interpreter's lock. A process that ends before they got the
    lock is aborted. A process that frees the group together with the wrapped model holds the lock while it waits.
    """
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()  # frees the wrapped model
    trainer.accelerator.end_training()  # then the group, without the lock


def warn_of_unused_places(run: Path, given: set[str]) -> None:
    """Warn that the places from which a run read its rows are not used, if the command line names none."""
    noted = untrusted.find_places(untrusted.read_notes(models.find_run(run))[0])
    if noted and not given & {"data", *LOCATION_FLAGS}:
        places = ", ".join(f"--{name} {value}" for name, value in noted.items())
        logger.warning("%s was made with %s, which is not used: pass the location of the rows.", run, places)


Evaluations = dict[str, Evaluation]  # config -> the measures of its rows


def main(arguments: list[str]) -> dict[str, Any]:
    """Train and evaluate.

    Returns:
        The measures on the split (rank 0 only), in the form of `newsclippings evaluate --format json`; with --seeds
        those of all runs, and their mean; with several configs, config -> measures.
    """
    return _of_one(_run(arguments)[0])


def _run(arguments: list[str]) -> tuple[dict[str, Any], dict[str, Path]]:
    """Train and evaluate; return config -> measures, and config -> the folder of its report."""
    arguments = read_flags(arguments)
    options, training = parse(arguments)
    if options.seeds > 1:
        found = train_seeds(arguments, options, training)
    elif options.eval_only is not None:
        found = {c: one.as_dict() for c, one in evaluate_run(arguments, options, training).items()}
    else:
        found = {c: one.as_dict() for c, one in train_and_test(options, training).items()}
    return found, list_reports(find_folder(arguments, options, training), [*found])


def find_folder(arguments: list[str], options: Options, training: TrainingArguments) -> Path:
    """Return the folder for the report: of --eval_only without --output_dir, that of the run."""
    if options.eval_only and "output_dir" not in given_flags(arguments):
        return Path(options.eval_only)
    return Path(training.output_dir)


def _of_one(found: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of the only config, or of all of them."""
    return found if len(found) != 1 else next(iter(found.values()))


def train_and_test(options: Options, training: TrainingArguments) -> Evaluations:
    """Train a classifier and test it; with a control, train the same without the control before."""
    if options.lora is not None:
        require_peft()
    if training.process_index:  # the first process has the lock
        return _train_and_test(options, training)
    folder = Path(training.output_dir)
    check_run(folder, list_inputs(options), training, options.configs())
    with lock_run(folder):
        return _train_and_test(options, training)


def _train_and_test(options: Options, training: TrainingArguments) -> Evaluations:
    folder = Path(training.output_dir)
    push = take_push(training)
    flags = list_flags(options, training)
    resume = training.resume_from_checkpoint
    counts: dict[str, dict[str, Counts]] = {}
    if not training.process_index:
        # check the other rows before the training; a stream must be read for that
        validated = [] if training.eval_strategy == IntervalStrategy.NO else ["validation"]
        for split in [*validated, "test"]:
            rows = load_rows(options, split, training.seed, 0, 1)[0]
            next(iter(rows))
            counts[split] = rows.counts
    positive: Mapping[str, Any] = {}
    if options.control and not training.process_index:
        if options.positive:
            positive = read_positive(Path(options.positive), options.configs(), options.split, flags)
        else:
            without = copy.copy(training)
            without.output_dir = str(folder / POSITIVE)
            has_checkpoint = untrusted.find_last_checkpoint(folder / POSITIVE) is not None
            without.resume_from_checkpoint = True if resume and has_checkpoint else None
            logger.warning("First, the same is trained without the control, in %s.", without.output_dir)
            found = train_and_test(replace(options, control=None), without)
            positive = {config: one.as_dict()["measures"] for config, one in found.items()}
            if resume is True and untrusted.find_last_checkpoint(folder) is None:
                training.resume_from_checkpoint = None  # the run without the control was interrupted
    model, collator = train(options, training, counts)
    if training.process_index:
        return {}
    facts = describe_run(options, training, counts)
    found = test(options, training, model, collator, folder, facts, positive)
    finish_run(options, model, folder, found, facts, push)
    return found


def take_push(training: TrainingArguments) -> Push | None:
    """Return where to push the run to, or None; `Trainer` shall not push checkpoints by itself.

    Raises:
        ConfigError: there is no token for it.
    """
    if not training.push_to_hub:
        return None
    require_token()
    training.push_to_hub = False
    return Push(training.hub_model_id, public=training.hub_private_repo is False)


def finish_run(
    options: Options,
    model: models.Classifier,
    folder: Path,
    found: Evaluations,
    facts: Mapping[str, Any],
    push: Push | None,
) -> None:
    """Write the card of a run that was tested, and push the run if asked."""
    models.save_config(folder, model)
    reports = {config: {**evaluation.as_dict(), "run": facts} for config, evaluation in found.items()}
    write_card(folder, model.config, options, reports)
    if push:
        files = list_pushed(folder)
        with tempfile.TemporaryDirectory(prefix="newsclippings-") as place:
            named = Path(place, README)
            named.write_text(name_card(files[README].read_text(encoding="utf-8"), push.repo_id), encoding="utf-8")
            print(f"Pushed to {push_model({**files, README: named}, push.repo_id, MARK, public=push.public)}")


def evaluate_run(arguments: list[str], options: Options, training: TrainingArguments) -> Evaluations:
    """Evaluate a run, a checkpoint or published weights, as --eval_only says."""
    given, name = given_flags(arguments), str(options.eval_only or options.weights)
    push = take_push(training)
    changed = [flag for flag in ("config", "split", "train_outlets", "outlet_rule", "control") if flag in given]
    if changed and options.eval_only and "output_dir" not in given:
        raise UsageError(f"--eval_only with --{changed[0]} needs --output_dir, to keep the results of the run.")
    if options.weights and "output_dir" not in given:
        raise UsageError("--weights needs --output_dir, a folder for the report.")
    folder = find_folder(arguments, options, training)
    facts: dict[str, Any] = {}
    if options.weights:
        model, _ = published.load_classifier(options.weights, options.model)
        facts = {"model": name_model({"weights": options.weights}), "flags": list_flags(model.options, None)}
        inputs = [*list_inputs(options), *([] if is_url(name) else [name])]
    else:
        model, _ = models.load_classifier(Path(name))
        of_the_run = {"config", "features", "products", "train_outlets", "outlet_rule", "control"}
        of_the_run |= {"missing", "check_images"} if options.data == Options.data else set()
        warn_of_unused_places(Path(name), given)
        options = replace(options, **{flag: getattr(model.options, flag) for flag in of_the_run - given})
        options.check(given)
        options.check_vectors()
        inputs = list_inputs(options)
        home = models.find_run(Path(name))
        facts = next(
            (
                facts
                for facts in (read_run(place)[1] for place in list_reports(home, model.options.configs()).values())
                if facts
            ),
            {},
        )
        noted = untrusted.read_notes(home)[0]["options"]
        facts = {"model": name_model(noted), "flags": list_flags(model.options, None), **facts}
    options = replace(options, mislabel_pristine=model.options.mislabel_pristine)
    collator = Collator(model.options, model.processor, model.widths)
    run = Path(name)
    within = bool(options.eval_only) and any(folder.resolve() == own.resolve() for own in (run, models.find_run(run)))
    if within:
        check_report(folder, inputs, options.configs())
    else:
        check_new_report(folder, [*inputs, *([name] if options.eval_only else [])], options.configs())
    whole = within and models.find_run(run) == run
    if whole:
        check_card(folder)
    elif push:
        raise UsageError(f"--push_to_hub: {name} is a checkpoint. Push the run, whose last weights are those tested.")
    if training.process_index:
        return {}
    positive: Mapping[str, Any] = {}
    beside = models.find_run(run) / POSITIVE
    if options.control and (options.positive or beside.is_dir()):
        flags = {**facts["flags"], "control": options.control}
        try:
            positive = read_positive(Path(options.positive or beside), options.configs(), options.split, flags)
        except ConfigError as error:
            if options.positive:
                raise
            logger.warning("%s", error)
    facts = {"recipe": None, "seed": None, "versions": describe_versions(), **facts}
    facts |= {"configs": model.options.configs(), "tested_with": describe_versions()}
    with lock_run(folder):
        found = test(options, training, model, collator, folder, facts, positive)
        if whole:
            finish_run(options, model, folder, found, facts, push)
    return found


def test(
    options: Options,
    training: TrainingArguments,
    model: models.Classifier,
    collator: Collator,
    folder: Path,
    facts: Mapping[str, Any],
    positive: Mapping[str, Any],
) -> Evaluations:
    """Predict the rows of a split; write a report for each config into a folder, and print it.

    Args:
        options: which rows.
        training: for the loader and the device.
        model: the classifier.
        collator: of the model.
        folder: for the reports.
        facts: of the run.
        positive: config -> measures of the same training without the control; empty if there is none.
    """
    device = training.device
    rows, widths = load_rows(options, options.split, training.seed, 0, 1)
    models.check_widths(Path(options.eval_only or folder), model.widths, widths)
    batches = make_loader(rows, collator, training, training.eval_batch_size)
    predictions = predict(model.to(device), batches, device)
    title = str(facts["model"]) + (f", {options.split}" if options.split != "test" else "")
    if options.train_outlets:
        outlets = ", ".join(sorted(options.train_outlets))
        what = "pairs" if options.outlet_rule == "pair" else "captions"
        others = "those of the others" if options.split == "test" else "the same outlets"
        title += f": trained on {what} of {outlets} only, tested on {others}"
    if options.mislabel_pristine:
        title += f"; in training, pristine rows were called falsified with probability {options.mislabel_pristine:g}"
    if len(model.options.configs()) > 1:
        title += f": trained on {', '.join(model.options.configs())}"
    found: Evaluations = {}
    for config, place in list_reports(folder, options.configs()).items():
        own = [prediction for prediction in predictions if prediction["config"] == config]
        one = options.of_config(config)
        evaluation = found[config] = measure_rows(find_truth(one, options.split), one, own, str(facts["model"]))
        counted = {options.split: {config: rows.counts[config]._replace(whole=len(own))}}
        dropped = {split: count_dropped(counts) for split, counts in counted.items()}
        about = {**facts, "dropped_rows": {**facts.get("dropped_rows", {}), **dropped}}
        about.pop("control", None)  # of an evaluation before
        if options.control:
            verdict, sentence = judge_control(evaluation.as_dict()["measures"], positive.get(config))
            ruled = {name: positive[config].get(name) for name in RULED} if config in positive else None
            about["control"] = {
                "name": options.control, "what": CONTROLS[options.control], "verdict": verdict, "sentence": sentence,
                "positive": ruled,
            }  # fmt: skip
        write_report(place, own, evaluation, about, f"{config}, {title}")
        print((place / "report.md").read_text(encoding="utf-8"))
    return found


def train_seeds(arguments: list[str], options: Options, training: TrainingArguments) -> dict[str, Any]:
    """Train and test one run per seed, each in its own folder, and summarise them as `newsclippings evaluate --group`.

    Returns:
        Config -> the seeds, and what `newsclippings evaluate --group --format json` says of them.
    """
    folder = Path(training.output_dir)
    check_seeds(folder, list_inputs(options), options.configs())
    with lock_run(folder):
        return _train_seeds(arguments, options, training, folder)


def _train_seeds(arguments: list[str], options: Options, training: TrainingArguments, folder: Path) -> dict[str, Any]:
    seeds = [training.seed + k for k in range(options.seeds)]
    runs: list[Evaluations] = []
    for seed in seeds:
        place = folder / f"seed-{seed}"
        more = ["--seeds", "1", "--seed", str(seed), "--output_dir", str(place)]
        if training.resume_from_checkpoint is True and not untrusted.find_last_checkpoint(place):
            more += ["--resume_from_checkpoint", "false"]
        runs.append(train_and_test(*parse([*arguments, *more])))
    found = {}
    for config, report in list_reports(folder, options.configs()).items():
        report.mkdir(parents=True, exist_ok=True)
        systems = [replace(run[config].systems[0], name=f"seed-{k}") for k, run in zip(seeds, runs, strict=True)]
        summary = compare(systems, group=True)
        found[config] = {"seeds": seeds, **summary.as_dict()}
        title = f"# {config}, seeds {seeds[0]} to {seeds[-1]}\n\nRuns of `newsclippings train`.\n\n"
        table = title + summary.table("markdown") + "\n"
        write_text(report / "seeds.json", json.dumps(found[config], indent=1) + "\n", SEEDS["seeds.json"])
        write_text(report / "seeds.md", table, SEEDS["seeds.md"])
        print(table)
    return found


def run_command(arguments: list[str], show: bool) -> tuple[dict[str, Any], OSError | None]:
    """Run `main` as a program; see `_newsclippings.train.run`."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, _ = LossyStream(sys.stdout), LossyStream(sys.stderr)
    try:
        hide_others()
        with contextlib.nullcontext() if show else contextlib.redirect_stdout(io.StringIO()):
            found, places = _run(arguments)
    finally:
        out.flush()
        sys.stdout, sys.stderr = streams
        discard_unprinted()
    for config, place in places.items():
        found[config] |= {"folder": str(place), "files": list_written(place)}
    return _of_one(found), out.failure


def hide_others() -> None:
    """Hide the progress bars of libraries where this package shows none, and their logs after `-q`."""
    if not shows_progress():
        datasets.disable_progress_bars()
        transformers.logging.disable_progress_bar()
    if is_quiet():
        transformers.logging.set_verbosity_error()


def is_quiet() -> bool:
    """Whether nothing is logged, as after `-q`."""
    return not logger.isEnabledFor(logging.WARNING)
