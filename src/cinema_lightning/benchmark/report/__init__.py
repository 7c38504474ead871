"""The benchmark's report: one self-contained page and its tables, from per-case CSVs of ours and of other tools."""

from cinema_lightning.benchmark.report.command import report

__all__ = ["report"]
