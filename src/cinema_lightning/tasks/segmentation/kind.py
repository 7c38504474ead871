"""What a segmentation says of its results."""

from __future__ import annotations

from cinema_lightning.metrics.function_tables import ventricular_table
from cinema_lightning.results.kind import KINDS, Kind, Ranking
from cinema_lightning.results.pictures import function
from cinema_lightning.tasks.segmentation import figures, pictures

KINDS.add(
    "segmentation",
    Kind(
        figures.headlines,
        counted=figures.with_truth,
        pairs=figures.pairs,
        rows=figures.rows,
        pictures=(function, pictures.volume_curves, pictures.overlap, pictures.scan_rescan),
        function=ventricular_table,
        ranking=lambda _: Ranking("mean_dice", smaller_is_better=False, text="Dice {:.3f}"),
    ),
)
