from cinema_lightning.analysis.study import analyse as analyse
from cinema_lightning.errors import CinemaError as CinemaError
from cinema_lightning.inference.features import features as features
from cinema_lightning.inference.listing import networks as networks
from cinema_lightning.inference.load import load as load
from cinema_lightning.inference.store import open as open

__version__: str
