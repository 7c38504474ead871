"""What all views of an examination share: the heart at its moments, what lies around it, and how bright all is."""

from __future__ import annotations

from collections.abc import Sequence

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.acquisition import Acquisition
from cinema_lightning.phantom.anatomy import Heart, Tables
from cinema_lightning.phantom.contrast import CONTRASTS
from cinema_lightning.phantom.greatvessels import GreatVessels
from cinema_lightning.phantom.texture import Noise
from cinema_lightning.phantom.torso import Contrast, Torso


class Scene:
    """One heart in its chest, at the moments that are imaged.

    Args:
        heart: The heart.
        acquisition: The examination.
        times: Moments to image (fractions of the cycle); None for ``n_frames`` evenly spread ones.
    """

    def __init__(self, heart: Heart, acquisition: Acquisition, times: Sequence[float] | None = None) -> None:
        self.heart, self.acquisition = heart, acquisition
        signal = heart.subject.look.signal
        self.contrast: Contrast = {
            tissue: level * signal.get(tissue, 1.0) for tissue, level in CONTRASTS[acquisition.sequence].items()
        }
        self.torso, self.vessels = Torso(heart.subject, heart.underside), GreatVessels(heart)
        if times is None:
            times = [frame / acquisition.n_frames for frame in range(acquisition.n_frames)]
        self.phases = [heart.at(time) for time in times]
        self.tables = [heart.tables(phase) for phase in self.phases]
        self.noise = Noise(generator(heart.phase_seed, "phantom", "flow"))

    def some_tables(self) -> list[Tables]:
        """Surfaces at about six moments of the cycle: enough to know how far the heart reaches."""
        return self.tables[:: max(1, len(self.tables) // 6)]
