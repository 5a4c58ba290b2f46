"""Training and fine-tuning: seeded, resumable, with any DataLoader."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pmsm_hw.arguments import flag, integer, number, shown
from pmsm_hw.errors import FormatError, QuantizationError
from pmsm_hw.files import check_output, replacing
from pmsm_hw.nn.batches import as_classes, as_tensor, parts
from pmsm_hw.nn.evaluation import answer, check_module, evaluating
from pmsm_hw.nn.quantizer import PolarityQuant
from pmsm_hw.nn.tensor_files import read_tensors

__all__ = ["History", "accuracy", "finetune", "loader", "predict", "train"]

Array: TypeAlias = "Tensor | NDArray[Any]"
Batches: TypeAlias = "Iterable[tuple[Tensor, Tensor]]"

_SMALLEST_SHARE = 1e-3
"""Theta is kept above this share of its value when training starts."""


@dataclass(frozen=True, kw_only=True)
class History:
    """Course of a training.

    Parameters
    ----------
    loss, accuracy
        Mean over each epoch's training batches.
    validation_accuracy
        After each epoch; empty without validation data.
    stopped_early
        Whether patience ran out.
    """

    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    stopped_early: bool


def loader(
    x: Array, labels: Array, *, batch_size: int = 64, shuffle: bool = True, seed: int = 0
) -> DataLoader[tuple[Tensor, ...]]:
    """DataLoader over two arrays, with a generator of its own.

    Parameters
    ----------
    x
        ``(n, ...)`` float.
    labels
        ``(n,)``, one class per input.
    batch_size, shuffle, seed
        As their names say.
    """
    inputs, classes = as_tensor(x, "training data"), as_classes(labels)
    if len(inputs) != len(classes) or len(classes) == 0:
        raise QuantizationError(
            "training data",
            f"{len(inputs):,} inputs and {len(classes):,} labels, the same number is needed",
            remedy="give one label per input",
            actual=(len(inputs), len(classes)),
            limit="equal and positive",
        )
    wrong, high, remedy = QuantizationError, (1 << 63) - 1, "give a whole number"
    integer(wrong, "loader", "batch_size", batch_size, low=1, high=high, remedy=remedy)
    integer(wrong, "loader", "seed", seed, low=-high - 1, high=high, remedy=remedy)
    flag(wrong, "loader", "shuffle", shuffle)
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        TensorDataset(inputs, classes), batch_size=batch_size, shuffle=shuffle, generator=generator
    )


def train(
    model: nn.Module,
    data: Batches,
    *,
    epochs: int,
    learning_rate: float = 1e-2,
    weight_decay: float = 1e-4,
    optimizer: Literal["adamw", "sgd"] = "adamw",
    label_smoothing: float = 0.0,
    teacher: nn.Module | None = None,
    validation: Batches | None = None,
    patience: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    mixed_precision: bool = False,
    progress: bool | None = None,
) -> History:
    """Train a classifier in place, with a one-cycle learning rate.

    Parameters
    ----------
    model
        Any module that gives logits ``(batch, classes)``. Thetas are kept positive, within the
        limits of their quantizers, and take no weight decay. Ends in evaluation mode.
    data
        Yields ``(x, labels)``; gone through once per epoch.
    epochs, learning_rate, weight_decay, optimizer, label_smoothing
        The learning rate is the cycle's peak.
    teacher
        Its softened logits are learned beside the labels, in equal parts (distillation).
    validation, patience
        Data for an accuracy after each epoch; stop when ``patience`` epochs brought no better one.
    checkpoint
        File that is written after each epoch, and read to go on where it exists.
    seed
        Of everything random in here; torch's global generator is left as it was.
    mixed_precision
        Compute layers in bfloat16 (autocast): sooner on a GPU, and on processors with AMX. Not for
        integer models, whose sums need float32.
    progress
        Draw a bar on stderr; by default where that is a terminal.

    Raises
    ------
    QuantizationError
        If a label is out of range, the loss is not finite, or the checkpoint belongs elsewhere.
    """
    check_module(model)
    _check_batches(data, "training data")
    if validation is not None:
        _check_batches(validation, "validation data")
    if teacher is not None:
        check_module(teacher, "teacher")
    whole = {"epochs": epochs, "patience": patience, "seed": seed}
    _check_numbers(whole, learning_rate, weight_decay, label_smoothing)
    flag(QuantizationError, "training", "mixed_precision", mixed_precision)
    step = _optimizer(model, optimizer, learning_rate, weight_decay)
    n_batches = len(data) if isinstance(data, Sized) else sum(1 for _ in data)
    if epochs < 1 or n_batches < 1:
        raise QuantizationError(
            "training",
            f"{epochs} epochs of {n_batches} batches, at least 1 of each is needed",
            remedy="give data and epochs",
            actual=(epochs, n_batches),
            limit=1,
        )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        step, max_lr=learning_rate, total_steps=epochs * n_batches
    )
    floors = {
        name: m.theta.detach().clone() * _SMALLEST_SHARE
        for name, m in model.named_modules()
        if isinstance(m, PolarityQuant)
    }
    course = _Course()
    shuffler = getattr(data, "generator", None)
    if checkpoint is not None:
        check_output(checkpoint, "checkpoint")
    path = Path(checkpoint) if checkpoint is not None else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if path is not None and path.exists():
            _restore(path, model, step, schedule, course, shuffler, epochs)
        with _bar(progress, epochs * n_batches, len(course.loss) * n_batches) as advance:
            while len(course.loss) < epochs and not course.stopped_early:
                model.train()
                losses, n_right, n_seen = 0.0, 0, 0
                for batch in data:
                    x, labels = _to_device_of(model, batch)
                    with torch.autocast(x.device.type, torch.bfloat16, enabled=mixed_precision):
                        logits = model(x)
                    if mixed_precision:
                        logits = logits.float()
                    loss = _loss(logits, labels, x, label_smoothing, teacher)
                    step.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    step.step()
                    schedule.step()
                    _keep_allowed(model, floors)
                    losses += float(loss.detach()) * len(labels)
                    n_right += int((logits.argmax(1) == labels).sum())
                    n_seen += len(labels)
                    advance(losses / n_seen, n_right / n_seen)
                course.loss.append(losses / n_seen)
                course.accuracy.append(n_right / n_seen)
                if validation is not None:
                    course.validation_accuracy.append(_accuracy(model, validation))
                    best = int(np.argmax(course.validation_accuracy))
                    waited = len(course.validation_accuracy) - 1 - best
                    course.stopped_early = patience is not None and waited >= patience
                if path is not None:
                    _save(path, model, step, schedule, course, shuffler, epochs)
    model.eval()
    return History(
        loss=tuple(course.loss),
        accuracy=tuple(course.accuracy),
        validation_accuracy=tuple(course.validation_accuracy),
        stopped_early=course.stopped_early,
    )


def _check_numbers(
    whole: Mapping[str, Any], learning_rate: Any, weight_decay: Any, label_smoothing: Any
) -> None:
    """Raise for numbers that `train` cannot use; ``whole`` ones by name."""
    wrong = QuantizationError
    for what, value in whole.items():
        if value is not None or what != "patience":
            remedy, low = "give a whole number", -(1 << 63) if what == "seed" else 0
            integer(wrong, "training", what, value, low=low, high=(1 << 63) - 1, remedy=remedy)
    number(wrong, "training", "learning_rate", learning_rate, above=0, remedy="give a rate")
    number(wrong, "training", "weight_decay", weight_decay, at_least=0, remedy="give a rate")
    number(
        wrong, "training", "label_smoothing", label_smoothing, at_least=0,
        remedy="give a share in 0..1",
    )  # fmt: skip
    if label_smoothing > 1:
        raise QuantizationError(
            "training",
            f"label_smoothing {label_smoothing} is outside 0..1",
            remedy="give a share in 0..1",
            actual=label_smoothing,
            limit=(0, 1),
        )


def _optimizer(
    model: nn.Module, optimizer: str, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    parameters = _parameter_groups(model, weight_decay)
    if optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9, nesterov=True)
    if optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=learning_rate)
    raise QuantizationError(
        "optimizer",
        f"{optimizer!r} is not one of adamw, sgd",
        remedy="choose one of them",
        actual=optimizer,
        limit=("adamw", "sgd"),
    )


def finetune(
    model: nn.Module, data: Batches, *, epochs: int, learning_rate: float = 2e-3, **options: Any
) -> History:
    """Quantization-aware training of a quantized or integer model: `train` at a lower rate.

    Parameters
    ----------
    model
        From `quantize`, or an integer model of ``pmsm_hw.convert``. Trained in place.
    data, epochs, learning_rate, options
        See `train`.

    Raises
    ------
    QuantizationError
        If the model has no quantizer; see also `train`.
    """
    check_module(model)
    if not any(isinstance(m, PolarityQuant) for m in model.modules()):
        raise QuantizationError(
            f"model '{type(model).__name__}'",
            "has 0 PolarityQuant modules, at least 1 is needed",
            remedy="quantize it first: pmsm_hw.nn.quantize(model, calibration=x)",
            actual=0,
            limit=1,
        )
    return train(model, data, epochs=epochs, learning_rate=learning_rate, **options)


def predict(model: nn.Module, x: Array, *, batch_size: int = 256) -> Tensor:
    """Logits of a model in evaluation mode, without gradients, batch by batch.

    Parameters
    ----------
    model
        Gives a tensor whose first axis is the batch.
    x
        ``(n, ...)`` float.
    batch_size
        Inputs at a time.
    """
    inputs = as_tensor(x, "x")
    integer(
        QuantizationError, "predict", "batch_size", batch_size, low=1, high=(1 << 63) - 1,
        remedy="give the number of inputs at a time",
    )  # fmt: skip
    with evaluating(model), torch.no_grad():
        return torch.cat([answer(model, inputs[part]) for part in parts(len(inputs), batch_size)])


def accuracy(model: nn.Module, x: Array, labels: Array, *, batch_size: int = 256) -> float:
    """Share of inputs whose largest logit is at the label, in 0..1.

    Parameters
    ----------
    model
        Gives logits ``(batch, classes)``.
    x
        ``(n, ...)`` float.
    labels
        ``(n,)``, one class per input.
    batch_size
        Inputs at a time.
    """
    classes = as_classes(labels)
    logits = predict(model, x, batch_size=batch_size)
    if len(logits) != len(classes) or len(classes) == 0:
        raise QuantizationError(
            "accuracy",
            f"{len(logits):,} inputs and {len(classes):,} labels, the same number is needed, and 1 "
            "at least",
            remedy="give one label per input",
            actual=(len(logits), len(classes)),
            limit="equal and positive",
        )
    right = logits.argmax(1) == classes
    return float(right.to(torch.float64).mean())


@dataclass
class _Course:
    loss: list[float]
    accuracy: list[float]
    validation_accuracy: list[float]
    stopped_early: bool

    def __init__(self) -> None:
        self.loss, self.accuracy, self.validation_accuracy = [], [], []
        self.stopped_early = False


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights decay; thetas, biases and batch norm do not."""
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 else others).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _check_batches(data: object, what: str) -> None:
    """Raise unless data can be gone through again and again."""
    is_once = isinstance(data, Iterator)
    if is_once or isinstance(data, str | bytes) or not isinstance(data, Iterable | DataLoader):
        raise QuantizationError(
            what,
            f"{shown(data)} can be gone through only once, each epoch goes through it"
            if is_once
            else f"{shown(data)} yields no batches, pairs of tensors (x, labels) are needed",
            remedy="give pmsm_hw.nn.loader(x, labels), or a list of (x, labels)",
            actual=type(data).__name__,
            limit="pairs of tensors",
        )


def _to_device_of(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    is_pair = isinstance(batch, tuple | list) and len(batch) == 2
    if not is_pair or not all(isinstance(part, Tensor) for part in batch):
        raise QuantizationError(
            "batch",
            f"{shown(batch)} is not a pair of tensors (x, labels)",
            remedy="give pmsm_hw.nn.loader(x, labels), or a list of (x, labels)",
            actual=type(batch).__name__,
            limit="pairs of tensors",
        )
    x, labels = batch
    return x.to(device), labels.to(device)


def _loss(
    logits: Tensor, labels: Tensor, x: Tensor, smoothing: float, teacher: nn.Module | None
) -> Tensor:
    lo, hi = int(labels.min()), int(labels.max())
    if lo < 0 or hi >= logits.shape[1]:
        raise QuantizationError(
            "labels",
            f"lie in [{lo}, {hi}], the model has {logits.shape[1]} outputs",
            remedy="number the classes from 0",
            actual=(lo, hi),
            limit=(0, logits.shape[1] - 1),
        )
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    if teacher is not None:
        with torch.no_grad():
            wanted = teacher(x).log_softmax(1)
        learned = F.kl_div(logits.log_softmax(1), wanted, reduction="batchmean", log_target=True)
        loss = 0.5 * loss + 0.5 * learned
    if not bool(torch.isfinite(loss.detach())):
        raise QuantizationError(
            "training",
            f"loss is {float(loss.detach())}, it must be finite",
            remedy="lower the learning rate, or clean the data",
            actual=float(loss.detach()),
            limit="finite",
        )
    return loss


def _keep_allowed(model: nn.Module, floors: dict[str, Tensor]) -> None:
    """Project theta onto what is allowed, as projected gradient descent does."""
    with torch.no_grad():
        for name, floor in floors.items():
            quantizer = cast(PolarityQuant, model.get_submodule(name))
            quantizer.theta.copy_(quantizer.bounded(quantizer.theta.clamp(min=floor)))


def _accuracy(model: nn.Module, data: Batches) -> float:
    model.eval()
    n_right, n_seen = 0, 0
    with torch.no_grad():
        for batch in data:
            x, labels = _to_device_of(model, batch)
            n_right += int((model(x).argmax(1) == labels).sum())
            n_seen += len(labels)
    return n_right / max(n_seen, 1)


def _save(
    path: Path,
    model: nn.Module,
    step: Any,
    schedule: Any,
    course: _Course,
    shuffler: Any,
    epochs: int,
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": step.state_dict(),
        "schedule": {
            k: v for k, v in schedule.state_dict().items() if isinstance(v, int | float | list)
        },
        "loss": course.loss,
        "accuracy": course.accuracy,
        "validation_accuracy": course.validation_accuracy,
        "stopped_early": course.stopped_early,
        "epochs": epochs,
        "generator": torch.get_rng_state(),
        "shuffler": shuffler.get_state() if shuffler is not None else None,
    }
    made = io.BytesIO()  # torch's writer ends with errors of its own kind where a disk is full
    torch.save(state, made)
    with replacing(path, "checkpoint") as file:
        file.write(made.getbuffer())


def _restore(
    path: Path,
    model: nn.Module,
    step: Any,
    schedule: Any,
    course: _Course,
    shuffler: Any,
    epochs: int,
) -> None:
    remedy = "delete it, or give another file"
    try:
        state = read_tensors(path, what="a checkpoint", remedy=remedy)
        same = state["epochs"] == epochs
        if same:
            model.load_state_dict(state["model"])
            step.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            course.loss, course.accuracy = state["loss"], state["accuracy"]
            course.validation_accuracy = state["validation_accuracy"]
            course.stopped_early = state["stopped_early"]
            torch.set_rng_state(state["generator"])
            if shuffler is not None and state["shuffler"] is not None:
                shuffler.set_state(state["shuffler"])
    except Exception as cause:  # whatever torch meets in a file that is damaged or of another kind
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        if isinstance(cause, FormatError):
            reason = cause.problem.removeprefix("cannot be read as a checkpoint: ")
        raise QuantizationError(
            f"checkpoint '{path}'",
            f"cannot be resumed: {reason}",
            remedy=remedy,
            actual=str(path),
            limit="a checkpoint of this training",
        ) from cause
    if not same:
        raise QuantizationError(
            f"checkpoint '{path}'",
            f"was written for {state['epochs']} epochs, {epochs} are asked for",
            remedy="give the same number, or another file",
            actual=state["epochs"],
            limit=epochs,
        )


@contextmanager
def _bar(progress: bool | None, total: int, done: int) -> Iterator[Any]:
    if not (sys.stderr.isatty() if progress is None else progress):
        yield lambda loss, accuracy: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:.2%}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=total, completed=done, loss=0.0, accuracy=0.0)
        yield lambda loss, accuracy: bar.update(task, advance=1, loss=loss, accuracy=accuracy)
