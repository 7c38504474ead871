"""LightningCLI with this project's habits: run folders, overlays, checkpoints whose facts win at test.

Links from data to model act at fit only. At validate, test and predict the network and its facts (views, input sizes,
classes) come from the checkpoint, and the data follows them; otherwise another cohort's statistics would silently
replace those that the network was trained with.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from argparse import ArgumentError
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, LearningRateMonitor
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden

from cinema_lightning import launch, runs, trainer_options
from cinema_lightning.callbacks.checkpoint import Checkpoints, CleanStop, RunStopped, keep_apart
from cinema_lightning.callbacks.early_stop import EarlyStop
from cinema_lightning.callbacks.ema import Ema
from cinema_lightning.callbacks.pictures import Pictures
from cinema_lightning.callbacks.probe import Probe
from cinema_lightning.callbacks.record import RecordWhenItGoesOn
from cinema_lightning.callbacks.throughput import Throughput
from cinema_lightning.configs import refuse_unknown
from cinema_lightning.data import DATA
from cinema_lightning.data.augment import AUGMENTATIONS
from cinema_lightning.data.datamodule import CineDataModule
from cinema_lightning.data.seen import check_held_out, check_unseen
from cinema_lightning.data.sending import explained
from cinema_lightning.data.source import DataSource
from cinema_lightning.errors import CinemaError
from cinema_lightning.messages import quieten, suggestion, translate, understand_null, unmonitored
from cinema_lightning.models import BACKBONES
from cinema_lightning.output.predict import PredictionWriter
from cinema_lightning.output.rows import RowWriter
from cinema_lightning.output.test import CaseWriter
from cinema_lightning.paths import expand_all
from cinema_lightning.tasks import TASKS
from cinema_lightning.tasks.base import Task
from cinema_lightning.tasks.ensemble import load_ensemble
from cinema_lightning.tasks.turns import Turning
from cinema_lightning.trainer_options import as_list, choose_precision, of_run, refuse_unsupported, refuse_untrained
from cinema_lightning.weights.compatibility import buildable, check_fits
from cinema_lightning.weights.files import load_checkpoint
from cinema_lightning.weights.published import PUBLISHED, published_network
from cinema_lightning.weights.restore import find_checkpoint, keep_depth, trained_with


class CinemaCLI(LightningCLI):
    """One verb of LightningCLI.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        arguments: Its arguments, bases unfolded.
        configs: Configurations as the user named them; they name the run.
        source: What makes data where none is named.
    """

    def __init__(self, verb: str, arguments: list[str], configs: list[Path], source: DataSource | None = None) -> None:
        self._configs = configs
        self._source = source
        self._verb = verb
        self.checkpoint: Path | None = None
        self._others: list[Path] = []
        self._published: dict[str, Any] | None = None
        self.run_dir: Path | None = None
        self._trial = False
        try:
            super().__init__(
                Task,
                CineDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                save_config_callback=None,
                seed_everything_default=0,
                parser_kwargs={"exit_on_error": False, "prog": "cinema"},
                args=[verb, *arguments],
            )
        except BaseException:
            self._leave_no_empty_run()
            raise
        if self._trial:
            self._leave_no_empty_run()

    def _leave_no_empty_run(self) -> None:
        """A run that failed before it began leaves no folder, nor does a trial."""
        if self._verb == "fit" and self.run_dir is not None and self.run_dir.is_dir() and launch.is_first_process():
            if self._trial:
                shutil.rmtree(self.run_dir, ignore_errors=True)
            with suppress(OSError):  # not empty: the run had begun
                self.run_dir.rmdir()
                self.run_dir.parent.rmdir()

    # ------------------------------------------------------------------ what can be said on the command line
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds run folders, the standing callbacks, prediction output, and the link from data to model."""
        parser.add_argument("--base", type=str | list[str] | None, default=None, help="Configurations to stand on.")
        parser.add_argument("--runs", type=str, default="runs", help="Folder of all runs.")
        if self._verb == "fit":
            parser.add_argument(
                "--allow_changes", type=bool, default=False, help="Resume with other options than the run had."
            )
        parser.add_argument("--probe", type=str | None, default=None, help="Column that features are tried on (fit).")
        parser.add_argument("--name", type=str | None, default=None, help="Run name; made of the overlays otherwise.")
        if self._source is not None:
            self._source.add_options(parser)
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.add_lightning_class_args(Ema, "ema")  # before what saves at the end of a step
        parser.add_lightning_class_args(CleanStop, "stop")
        parser.add_lightning_class_args(Pictures, "pictures")
        parser.add_lightning_class_args(EarlyStop, "early_stop")
        names = "best, last, auto (fit), a file; test and predict take several, or a pattern in quotes."
        parser.add_argument("--ckpt_path", type=list[str] | str | None, default=None, help=names)
        if self._verb in WRITERS:
            parser.add_argument("--tta", type=Turning, default="none", help="Average over turned images.")
            parser.add_lightning_class_args(WRITERS[self._verb], "output")
            parser.add_argument("--shard", type=str | None, default=None, help="Part of the cohort to do: 3/8.")
            parser.link_arguments("shard", "output.shard")
        parser.link_arguments("data", "model.init_args.spec", self._spec, apply_on="instantiate")

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The verb that is run; parsers of the others would only cost time."""
        skip = {"model", "datamodule", "weights_only", "ckpt_path"}
        skip |= {"train_dataloaders", "val_dataloaders", "dataloaders"}
        return {self._verb: skip | ({"return_predictions"} if self._verb == "predict" else set())}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses, turning nested complaints into one sentence."""
        try:
            self.config = parser.parse_args(args)  # type: ignore[arg-type]
            refuse_unknown(parser, args, self.config[self._verb])  # type: ignore[arg-type]
        except ArgumentError as error:
            hint = " Give a --config, for example --config pretrain.yaml." if "are required" in str(error) else ""
            said = translate(str(error), REGISTRIES)
            keys = (action.dest for action in self._parser(self._verb)._actions)
            raise CinemaError(said + suggestion(said, keys, REGISTRIES) + hint) from error
        expand_all(self.config[self._verb])

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would let a checkpoint's hyperparameters silently replace the configuration's."""

    # ------------------------------------------------------------------ before anything is built
    def before_instantiate_classes(self) -> None:
        """Settles checkpoint, run folder, precision and data."""
        config = self.config[self._verb]
        config.base = None
        if config.data is None or (config.model is None and self._verb == "fit"):
            raise CinemaError("there is no model or no data: give a --config, for example --config pretrain.yaml.")
        refuse_unsupported(config.trainer, self._verb)
        if config.get("shard") is None:  # shards are processes of their own
            launch.check(config.trainer)
        root, name = Path(config.runs), config.name or runs.run_name(self._configs)
        named = runs.several(config.ckpt_path, self._verb)
        if self._verb != "fit":
            named = [runs.own_checkpoint(given, self._configs) for given in named]
        found = [find_checkpoint(given, root, name, self._verb) for given in named]
        (self.checkpoint, resumed), self._others = found[0], [path for path, _ in found[1:] if path is not None]
        config.ckpt_path = None
        if self._source is not None and resumed and runs.is_of_same_data(config.data.init_args, resumed):
            self._source.leave_open(config)
        runs.take_data(config.data.init_args, resumed)
        self._resolve_weights(config, root)
        if self._verb == "fit":
            if self.checkpoint:
                keep_depth(self.checkpoint, resumed, config)
            if self.checkpoint and resumed:
                runs.keep_weights(resumed, config)
                runs.check_same_experiment(resumed, self._plain_config(), bool(config.allow_changes))
            self._trial = bool(config.trainer.fast_dev_run)
            self.run_dir = (None if self._trial else resumed) or self._new_run(root, name)
        else:
            self.run_dir = root / name / "ensemble" if self._others else resumed or root / name
            self._follow_checkpoint()
            config = self.config[self._verb]
        choose_precision(config.trainer, self._verb == "fit")
        if self._source is not None:
            self._source.settle(config)
        runs.say_other_data(config.data.init_args.root, resumed)

    def _resolve_weights(self, config: Namespace, root: Path) -> None:
        """A run's name among the weights stands for its best checkpoint."""
        options: Any = config.model.init_args if config.model is not None else {}
        named = options.get("weights")
        if named is None or self._verb != "fit" or Path(named).exists() or Path(named).suffix in (".ckpt", PUBLISHED):
            return
        # a benchmark's cell has a folder of its own
        options.weights = str(runs.best_of([root, Path("runs")], named) or named)

    def _plain_config(self) -> dict[str, Any]:
        plain: dict[str, Any] = yaml.safe_load(self.parser.dump(self.config, skip_link_targets=True))[self._verb]
        return plain

    def _new_run(self, root: Path, name: str) -> Path:
        if not launch.is_first_process():
            shared = os.environ.get(runs.RUN_DIR_VARIABLE)
            return Path(shared) if shared else root / name / "elsewhere"  # never made: rank 0's folder is broadcast
        run = Path(tempfile.mkdtemp(prefix="cinema-trial-")) if self._trial else runs.new_run(root, name)
        os.environ[runs.RUN_DIR_VARIABLE] = str(run)
        return run

    def _follow_checkpoint(self) -> None:
        """Takes the network and its facts from the checkpoint; the data follows."""
        config = self.config[self._verb]
        assert self.checkpoint is not None
        if self.checkpoint.suffix == PUBLISHED:
            found, self._published = published_network(self.checkpoint, self._plain_config())
        else:
            found = load_checkpoint(self.checkpoint, mmap=True)["hyper_parameters"]
        self._hparams = buildable(found, self.checkpoint)
        arguments = {key: value for key, value in self._hparams.items() if key not in ("_class_path", "spec")}
        model = {"class_path": self._hparams["_class_path"], "init_args": arguments}
        config.model = None
        try:
            self.config = self.parser.parse_object({self._verb: {"model": model}}, self.config)
        except ArgumentError as error:
            raise CinemaError(
                f"{self.checkpoint} describes a network that this version cannot build: {translate(str(error))}"
            ) from error

    def _spec(self, data: CineDataModule) -> dict[str, Any]:
        """Facts for the model: the data's at fit; otherwise those it was trained with, which the data follows."""
        if self._verb == "fit":
            return data.spec
        data.follow(self._hparams["spec"], self._verb)
        return self._hparams["spec"]

    # ------------------------------------------------------------------ building
    def instantiate_classes(self) -> None:
        """Builds everything; what a constructor finds wrong stays the sentence that it is.

        Raises:
            CinemaError: If a value does not fit.
        """
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, ArgumentError) as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, CinemaError):
                cause = cause.__cause__ or cause.__context__
            if cause is not None:
                raise cause from None
            if "Union subtypes" in str(error):
                raise CinemaError(translate(str(error), REGISTRIES)) from error
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Adds what every run has."""
        assert self.run_dir is not None
        trainer = self._get(self.config_init, "trainer")
        self.datamodule.overfit = bool(trainer.get("overfit_batches"))
        kwargs |= of_run(trainer, self.run_dir, training=self._verb == "fit")
        return super().instantiate_trainer(**kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Keeps the callbacks that the verb has use for."""
        if self._verb != "fit":
            callbacks = [c for c in callbacks if isinstance(c, RowWriter)]
        else:
            unused = [c for c in callbacks if isinstance(c, RowWriter) or (isinstance(c, Ema) and not c.decay)]
            callbacks = [c for c in callbacks if c not in unused]
            callbacks += [Throughput(), *map(Probe, filter(None, [self.config[self._verb].probe]))]
            assert self.run_dir is not None
            if self.checkpoint is not None:  # what they found is in the run's state
                found = BatchSizeFinder | LearningRateFinder
                config["callbacks"] = [c for c in as_list(config["callbacks"]) if not isinstance(c, found)]
            keep_apart(as_list(config["callbacks"]), self.run_dir)
            if config["logger"]:
                callbacks.append(LearningRateMonitor(logging_interval="step"))
        callbacks += trainer_options.speakers(config, training=self._verb == "fit")
        try:
            return super()._instantiate_trainer(config, callbacks)
        except (ValueError, ModuleNotFoundError) as error:  # options that exclude each other, other accelerators
            raise CinemaError(f"the options of trainer cannot be had: {str(error).strip().splitlines()[0]}") from error

    # ------------------------------------------------------------------ running
    def _run_subcommand(self, subcommand: str) -> None:
        """Runs the verb, with the record of a training written first."""
        self._check_rank()
        if subcommand == "fit" and not self._trial and self.trainer.is_global_zero:
            assert self.run_dir is not None
            text = self._parser(self._verb).dump(self.config[self._verb], skip_none=False, skip_link_targets=True)
            if self.checkpoint is None:
                runs.write_record(self.run_dir, text)
            else:
                self.trainer.callbacks.append(RecordWhenItGoesOn(self.run_dir, text))  # type: ignore[attr-defined]
        if subcommand == "test" and not is_overridden("test_step", self.model):
            raise CinemaError(
                f"{type(self.model).__name__} has nothing to test: `cinema validate` computes its validation loss."
            )
        model, checkpoint = self._with_weights(self.config[subcommand].get("tta") or "none")
        if subcommand in ("validate", "test"):
            known = trained_with([self.checkpoint, *self._others], type(self.datamodule))
            check_unseen(self.datamodule, known, subcommand)
        options: dict[str, Any] = {"datamodule": self.datamodule, "ckpt_path": checkpoint, "weights_only": True}
        if subcommand in WRITERS:
            self._prepare_output()
        if subcommand == "predict":
            options["return_predictions"] = False
        if subcommand == "test":
            options["verbose"] = False  # the figures with their intervals follow from the table of cases
        getattr(self.trainer, subcommand)(model, **options)
        if subcommand == "fit":
            refuse_untrained(self.trainer, fresh=self.checkpoint is None)
            kept = f"The run is in {self.run_dir} (checkpoints, pictures, TensorBoard events, config.yaml)."
            rank_zero_info("A trial (trainer.fast_dev_run): nothing of it is kept." if self._trial else kept)

    def _check_rank(self) -> None:
        """Makes sure that Lightning, too, takes the first process for the first, and no other."""
        if not self.trainer.is_global_zero:
            if self._verb == "fit":
                self._leave_no_empty_run()
            return
        rank = launch.other_rank()
        if rank is not None and self.config[self._verb].get("shard") is None:
            raise CinemaError(launch.alone(rank))

    def _with_weights(self, turning: Turning) -> tuple[Task, str | None]:
        """What is run, and the checkpoint that Lightning still has to load into it."""
        if self.checkpoint is None:
            return self.model, None
        if self._others or turning != "none":
            ensemble = load_ensemble([self.checkpoint, *self._others], turning, self._plain_config())
            check_held_out(self.datamodule, ensemble.specs, self._verb)
            return ensemble, None
        if self._published is not None:
            self.model.network.load_state_dict(self._published)
            return self.model, None
        check_fits(self.model, self.checkpoint)
        return self.model, str(self.checkpoint)

    def _prepare_output(self) -> None:
        """Tells the writer what it writes, and where."""
        assert self.checkpoint is not None
        assert self.run_dir is not None
        config = self.config[self._verb]
        data = config.data.init_args.as_dict()
        options = {key: value for key, value in data.items() if f"data.{key}" not in runs.FREE_KEYS}
        options["root"] = str(Path(data["root"]).resolve())
        facts = getattr(self.datamodule, "facts", None)
        folder = Path("predictions") if self._verb == "predict" else Path("test") / (facts.name if facts else "")
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RowWriter):
                callback.describe(self.run_dir / folder, self.checkpoint, options, self._others, config.tta)


WRITERS: dict[str, type[RowWriter]] = {"test": CaseWriter, "predict": PredictionWriter}
"""What writes the results of a verb."""
REGISTRIES = {"model": (TASKS, BACKBONES), "data": (DATA,), "data.augment": (AUGMENTATIONS,)}
"""Where the names are that a key may take."""


def run(verb: str, arguments: list[str], configs: list[Path], source: DataSource | None = None) -> int:
    """Runs one verb of LightningCLI.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        arguments: Its arguments, the bases of configurations unfolded.
        configs: Configurations as the user named them.
        source: What makes data where none is named.

    Returns:
        Exit code, see :func:`cinema_lightning.cli.main`.
    """
    for registry in (TASKS, DATA, BACKBONES, AUGMENTATIONS):
        registry.load()
    quieten()
    understand_null()
    before = os.environ.get(runs.RUN_DIR_VARIABLE)
    try:
        CinemaCLI(verb, runs.one_argument(arguments), configs, source)
    except RunStopped as stop:
        rank_zero_info(str(stop))
        # a launched rank that ends with another code than 0 would have its siblings killed while they still save
        return runs.STOPPED_EXIT_CODE if launch.is_first_process() else 0
    except MisconfigurationException as error:
        raise CinemaError(str(error).strip().split("\n", 1)[0]) from error
    except RuntimeError as error:
        if (sentence := explained(error) or unmonitored(error)) is None:
            raise
        raise sentence from error
    except SystemExit as exit_:
        return int(exit_.code or 0)
    finally:
        if before is None:
            os.environ.pop(runs.RUN_DIR_VARIABLE, None)
    return 0
