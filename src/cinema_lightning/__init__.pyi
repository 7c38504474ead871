from cinema_lightning.errors import CinemaError as CinemaError
from cinema_lightning.inference.load import load as load

__version__: str
