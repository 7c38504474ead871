"""Which metric decides, and in which direction."""

from __future__ import annotations

from typing import Any

from cinema_lightning.errors import CinemaError


def deciding_metric(task: Any, monitor: str | None, mode: str | None, key: str) -> tuple[str, str]:
    """Completes what the configuration says with what the task says.

    Args:
        task: Has ``monitor`` and ``monitor_mode``.
        monitor: Metric of the configuration; None takes the task's.
        mode: min or max; None takes the task's for its own metric, and min for a loss.
        key: Where the configuration says it, for messages.

    Returns:
        Metric and mode.

    Raises:
        CinemaError: If the mode is another word, or cannot be known.
    """
    own, own_mode = getattr(task, "monitor", "val/loss"), getattr(task, "monitor_mode", "min")
    metric = monitor or own
    if mode is not None:
        if mode not in ("min", "max"):
            raise CinemaError(f"{key}.mode is {mode!r}; write min or max.")
        return metric, mode
    if metric == own:
        return metric, own_mode
    if metric.rsplit("/", 1)[-1].startswith("loss"):
        return metric, "min"
    raise CinemaError(
        f"{key}.monitor is {metric}: say with {key}.mode whether a small (min) or a large value (max) is good."
    )
