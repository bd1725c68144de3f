"""Summarise the measures of runs with several seeds: mean, standard deviation, and an interval of the mean."""

from typing import Any

import numpy as np


def summarise_seeds(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Summarise each measure that all runs have.

    Args:
        runs: the measures of each run, as in measures.json; at least two.

    Returns:
        Measure -> `mean`, `deviation` (of a sample), `low` and `high` (95 % of Student's t) and `values`.
    """
    summary: dict[str, dict[str, Any]] = {}
    for name in runs[0]:
        results = [run.get(name) for run in runs]
        values = [float(result["value"]) for result in results if isinstance(result, dict)]
        if len(values) < len(runs):
            continue
        mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
        half = compute_t_quantile(len(values) - 1) * deviation / len(values) ** 0.5
        summary[name] = {"mean": mean, "deviation": deviation, "low": mean - half, "high": mean + half}
        summary[name]["values"] = values
    return summary


def compute_t_quantile(degrees: int) -> float:
    """Compute the 97.5 % quantile of Student's t.

    For t = sqrt(n) tan(angle) with n degrees of freedom, the density of the angle is proportional to its cosine to the
    power of n - 1.

    Args:
        degrees: of freedom, 1 or more.
    """
    angles = np.linspace(0, np.pi / 2, 200_001)
    density = np.cos(angles) ** (degrees - 1)
    below = np.append(0, np.cumsum((density[1:] + density[:-1]) / 2))
    angle = np.interp(0.95 * below[-1], below, angles)
    return float(np.sqrt(degrees) * np.tan(angle))


def format_seeds(title: str, summary: dict[str, dict[str, Any]], runs: int) -> str:
    """Format a summary as a table in Markdown, in per cent."""
    lines = [f"# {title}", "", f"{runs} runs; 95 % intervals of the mean over seeds (Student's t).", ""]
    lines += ["| measure | mean | deviation | 95 % interval |", "|---|---:|---:|---|"]
    for name, result in summary.items():
        mean, deviation, low, high = (100 * result[part] for part in ("mean", "deviation", "low", "high"))
        lines.append(f"| {name.replace('_', ' ')} | {mean:.1f} | {deviation:.1f} | {low:.1f} to {high:.1f} |")
    return "\n".join(lines) + "\n"
