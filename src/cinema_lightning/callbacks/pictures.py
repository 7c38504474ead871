"""Pictures of what the network does, during training: PNG files and TensorBoard images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from cinema_lightning.files import replacing
from cinema_lightning.palette import ORANGE, RED, REGIONS, SKY
from cinema_lightning.tasks.base import Marked, Task
from cinema_lightning.views import get_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 90
MARKS = {"truth": ("o", SKY), "prediction": ("x", ORANGE)}


def middle_slice(image: Tensor) -> Tensor:
    """The middle slice of a stack (X, Y, Z), or the plane itself (X, Y)."""
    return image[..., image.shape[-1] // 2] if image.ndim == 3 else image


def draw_panels(view: str, panels: dict[str, Tensor | Marked], names: list[str], depths: list[int]) -> Figure:
    """One row per case, one column per panel; stacks show the middle of their true depth.

    Args:
        view: View name, for the title.
        panels: Title -> images (B, X, Y[, Z]) in [0, 1]; label maps of whole numbers, drawn over the panel ``image``;
            or marks.
        names: B case names.
        depths: True number of slices of each case (padding is not shown); 1 for long-axis views.

    Returns:
        The figure; x runs to the right and y downwards, as the arrays are stored.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(panels), 2.7 * len(names) + 0.4), layout="constrained")
    axes = figure.subplots(len(names), len(panels), squeeze=False)
    for row, (name, depth) in enumerate(zip(names, depths, strict=True)):
        for axis, (title, content) in zip(axes[row], panels.items(), strict=True):
            _draw(axis, title, content, row, depth, panels.get("image"))
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(title)
        axes[row][0].set_ylabel(name, fontsize=8)
    figure.suptitle(get_view(view).display)
    return figure


def rendered(figure: Figure) -> np.ndarray:
    """A figure as pixels, (rows, columns, 3) uint8; drawn once, whoever wants it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw(axis: Axes, title: str, content: Tensor | Marked, row: int, depth: int, image: Any) -> None:
    if isinstance(content, Marked):
        show_image(axis, content.image[row])
        show_points(axis, {name: points[row] for name, points in content.points.items()})
        return
    plane = _plane(content[row], depth)
    if content.is_floating_point():
        show_image(axis, plane, "magma" if title == "error" else "gray")
        return
    if isinstance(image, Tensor):
        show_image(axis, _plane(image[row], depth))
    show_labels(axis, plane)


def _plane(image: Tensor, depth: int) -> Tensor:
    return middle_slice(image[..., :depth] if image.ndim == 3 else image)


def show_image(axis: Axes, plane: Tensor, colours: str = "gray") -> None:
    """Shows one plane (X, Y) in [0, 1]."""
    axis.imshow(plane.float().cpu().T.numpy(), cmap=colours, vmin=0, vmax=1)


def show_labels(axis: Axes, plane: Tensor, opacity: float = 0.5) -> None:
    """Lays a label map (X, Y) over what is drawn; the background stays clear."""
    from matplotlib.colors import ListedColormap

    codes = plane.cpu().T.numpy()
    shown = np.ma.masked_equal(codes, 0)
    top = len(REGIONS) - 1
    axis.imshow(shown, cmap=ListedColormap(REGIONS), vmin=-0.5, vmax=top + 0.5, alpha=opacity, interpolation="nearest")


def show_points(axis: Axes, points: dict[str, Tensor]) -> None:
    """Marks landmarks, (L, 2) voxels by name."""
    for name, places in points.items():
        x, y = places.float().cpu().unbind(-1)
        marker, colour = MARKS.get(name, ("+", RED))
        style: dict[str, Any] = {"facecolors": "none", "edgecolors": colour} if marker == "o" else {"color": colour}
        axis.scatter(x.numpy(), y.numpy(), marker=marker, s=40, linewidths=1.6, label=name, **style)
    axis.legend(fontsize=6, loc="lower right", framealpha=0.6)


class Pictures(Callback):
    """Draws the task's panels of the first validation batch every few epochs.

    Args:
        every_n_epochs: Epochs between pictures, of those with a validation; 0 draws none. The last epoch is always
            drawn.
        cases: Cases per picture.
    """

    def __init__(self, every_n_epochs: int = 5, cases: int = 3) -> None:
        self.every_n_epochs = every_n_epochs
        self.cases = cases
        self._batch: dict[str, Any] | None = None
        self._drawn: int | None = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Remembers the first cases of the first batch."""
        if batch_idx == 0 and trainer.is_global_zero and not trainer.sanity_checking and self._due(trainer):
            self._batch = {
                key: value[: self.cases] if isinstance(value, list | Tensor) else value for key, value in batch.items()
            }

    def _due(self, trainer: Trainer) -> bool:
        if not self.every_n_epochs:
            return False
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs
        return last or trainer.current_epoch // self.every_n_epochs != self._drawn

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws what was remembered."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        self._drawn = trainer.current_epoch // self.every_n_epochs
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            assert isinstance(pl_module, Task)
            panels = pl_module.panels(batch, pl_module.infer(batch))
        folder = Path(trainer.default_root_dir) / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        for view, images in panels.items():
            sizes = batch[f"{view}_size"]
            depths = sizes[:, 2].tolist() if sizes.shape[1] == 3 else [1] * len(sizes)
            picture = rendered(draw_panels(view, images, batch["id"], depths))
            with replacing(folder / f"epoch_{trainer.current_epoch:04d}_{view}.png") as temporary:
                Image.fromarray(picture).save(temporary, format="PNG")
            experiment = getattr(trainer.logger, "experiment", None)
            if experiment is not None and hasattr(experiment, "add_image"):
                experiment.add_image(f"panels/{view}", picture, trainer.global_step, dataformats="HWC")

    def state_dict(self) -> dict[str, Any]:
        """When the last picture was drawn, so that a resumed run draws the same ones."""
        return {"drawn": self._drawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self._drawn = state_dict.get("drawn")
