"""Writes what a test finds: cases.csv as it goes, then the other tables, the summary and pictures."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from cinema_lightning import runs
from cinema_lightning.data.protocol import data_of
from cinema_lightning.files import write_text
from cinema_lightning.output.overlays import draw_cases
from cinema_lightning.output.parts import PartTable, PartWriter
from cinema_lightning.output.rows import RowWriter
from cinema_lightning.results.summary import in_a_line, in_words
from cinema_lightning.tasks.base import Rows, Task, run_seed

VALIDATION = "validation"


class CaseWriter(RowWriter):
    """Streams cases to ``<folder>/cases.csv``; stopped and started again it goes on where it was.

    Args:
        folder: Where to write; None is ``test/<dataset>/`` in the run's folder.
        shard: Part of the cohort to do, such as ``3/8``; the parts merge when all are there.
        nifti: Also write each predicted label map as NIfTI under ``nifti/``, in the geometry and the codes in which the
            images came.
        overlays: Cases to draw of the best, the median and the worst each; 0 draws none.
        overwrite: Replace results of another checkpoint or other data that lie in the folder.
    """

    what = "results"
    of_table = ()  # a case has the fields of its study beside it

    def __init__(
        self,
        folder: str | None = None,
        shard: str | None = None,
        nifti: bool = False,
        overlays: int = 2,
        overwrite: bool = False,
    ) -> None:
        super().__init__(folder, shard, "cases", nifti, overwrite)
        self.overlays = overlays
        self._validation: PartTable | None = None
        self._validation_part: PartWriter | None = None
        self._completed = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See :meth:`RowWriter.setup`; where validation subjects are tested too, they have a table of their own."""
        data = data_of(trainer)
        if len(data.test_splits) > 1:
            self._validation = PartTable(self.place, VALIDATION, self.shard)
        super().setup(trainer, pl_module, stage)
        if self._validation is not None and not self.table.finished:
            data.restrict_prediction(self.shard.of, self.table.done() | self._validation.done())

    def _claim(self, folder: Path) -> str | None:
        refusal = super()._claim(folder)
        if refusal is None and self.overwrite and self._validation is not None:
            self._validation.clear()
        return refusal

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens this process's parts."""
        self.begin(trainer)
        if self._validation is not None and not self.table.finished:
            self._validation_part = self._validation.new_part(trainer.global_rank)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Has the rows of a batch written."""
        self.later(trainer, pl_module, partial(self._write, pl_module, batch, outputs["rows"]))

    def _write(self, task: LightningModule, batch: Any, found: Any) -> None:
        made = self.made(task, found, "test_rows", batch)
        rows = sorted(made, key=lambda row: (row["id"], row["frame"]))  # a sample's views stand together
        if self._validation_part is not None:
            self._validation_part.write([row for row in rows if row["split"] == "val" and _is_real(row, batch)])
            rows = [row for row in rows if row["split"] != "val"]
        self.add(task, batch, Rows(rows, made.output))

    def _close_part(self) -> None:
        super()._close_part()
        if self._validation_part is not None:
            self._validation_part.close()
            self._validation_part = None

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merges the parts of all ranks on the first one, and makes what follows from the whole table."""
        self.close()
        trainer.strategy.barrier("results")
        self._complete(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Completes the results where no case was left to test, for Lightning then calls no other hook."""
        super().teardown(trainer, pl_module, stage)
        if not self._completed:
            self._complete(trainer, pl_module)

    def _complete(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._completed = True
        if self.cut_short(trainer) or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, Task)
        self._write_facts(trainer, pl_module)
        fresh = not self.table.table.is_file()
        if fresh:
            if self._validation is not None:
                self._validation.finish()
            self.table.finish()
        if not self.table.table.is_file():
            rank_zero_info(f"Shard {self.shard.index} of {self.shard.count} is done; the others complete the results.")
            return
        if fresh or not (self.place / "summary.json").is_file():
            self._finish(trainer, pl_module)

    def _write_facts(self, trainer: Trainer, task: Any) -> None:
        data = data_of(trainer)
        spec = task.spec
        name, _, digest = str(self._record.get("checkpoint", "")).rpartition(":")
        content = {
            "kind": spec.get("kind"),
            "dataset": data.facts.name,
            "trained_on": spec.get("dataset"),
            "task": type(task.alone).__name__,
            "network": type(task.alone.network).__name__,
            "views": list(spec["views"]),
            "spacing_known": bool(data.spacing_known),
            "grid": "prepared",  # whose voxels the tables count; those of label maps under nifti/ are the scan's
            "n_train": spec.get("n_train"),
            "n_subjects": spec.get("n_subjects"),
            "seed": run_seed(),
            "checkpoint": name,
            "checkpoint_digest": digest,
            **({"other_checkpoints": self._record["others"]} if "others" in self._record else {}),
            "data": self._record.get("data", {}),
            "versions": runs.software_versions(),
            **task.facts(),
        }
        write_text(self.place / "test.json", json.dumps(content, indent=2, default=str) + "\n")

    def _finish(self, trainer: Trainer, task: Task) -> None:
        from cinema_lightning.results.finish import finish
        from cinema_lightning.results.kind import KINDS

        cases = read_cases(self.table.table)
        facts = json.loads((self.place / "test.json").read_text(encoding="utf-8"))
        if make := KINDS[facts["kind"]].function:
            table = make(cases, facts)
            if len(table):
                write_text(self.place / "function.csv", table.to_csv(index=False))
        headlines = finish(self.place, seed=run_seed())
        if self.overlays:
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                draw_cases(self.place / "pictures", cases, facts, trainer, task, self.overlays)
        skipped = json.loads((self.place / "summary.json").read_text(encoding="utf-8"))["skipped"]
        _say(headlines, facts, self.place, skipped.get("figures"))


def read_cases(path: Path) -> pd.DataFrame:
    """Reads cases.csv with names as text."""
    names = ("id", "subject", "view", "phase")
    kept = pd.read_csv(path, nrows=0).columns
    return pd.read_csv(path, dtype={name: str for name in names if name in kept}, keep_default_na=True)


def _is_real(row: dict[str, Any], batch: Any) -> bool:
    weights = dict(zip(batch["id"], batch["weight"].tolist(), strict=True))
    return bool(weights[row["id"]] > 0)


def _say(headlines: list[dict[str, Any]], facts: dict[str, Any], folder: Path, undefined: str | None) -> None:
    """What matters in a line, then each headline figure, with how many cases it is not defined in."""
    lines = []
    for row in headlines:
        if row.get("value") is None or row["value"] != row["value"]:
            continue
        missing, n = int(row.get("n_missing") or 0), int(row.get("n") or 0)
        lines.append("  " + in_words(row, 27) + (f"  (not defined in {missing} of {n + missing})" if missing else ""))
    if undefined:
        lines.append(f"  {undefined}.")
    text = "\n".join([*lines, in_a_line(headlines, facts)])
    rank_zero_info(f"{text}\nResults: {folder} (cases.csv, summary.csv, pictures/).")
