"""nnU-Net's side of nnunet.py, run by a Python that has nnunetv2; this file measures nothing by itself.

    NNUNET_PYTHON nnunet_side.py steps|predict DATASET STEPS THREADS [IMAGE]

Prints one JSON: core seconds of this process. nnU-Net is used as its own commands use it, on the CPU.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

FOLDER = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def trainer(dataset: str):
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = Path(os.environ["nnUNet_preprocessed"]) / dataset  # noqa: SIM112  (its own spelling)
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    described = json.loads((folder / "dataset.json").read_text())
    out = nnUNetTrainer(plans, "3d_fullres", "all", described, torch.device("cpu"))
    out.on_train_start()
    return out


def steps(dataset: str, n: int) -> dict[str, object]:
    """Core seconds of a step and of the batch that it is given, medians; and leaves a network to predict with."""
    fit = trainer(dataset)
    fit.network.train()
    seconds: dict[str, list[float]] = {"batch": [], "step": []}
    for turn in range(n + 1):
        start = time.process_time()
        batch = next(fit.dataloader_train)
        ready = time.process_time()
        fit.train_step(batch)
        if turn:
            seconds["batch"].append(ready - start)
            seconds["step"].append(time.process_time() - ready)
    fit.save_checkpoint(str(Path(fit.output_folder) / "checkpoint_final.pth"))
    middle = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    parameters = sum(p.numel() for p in fit.network.parameters())
    return middle | {"shape": list(batch["data"].shape), "parameters": parameters}


def predict(dataset: str, image: str) -> dict[str, object]:
    """Core seconds of one case, with and without nnU-Net's mirroring."""
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    folder = Path(os.environ["nnUNet_results"]) / dataset / FOLDER  # noqa: SIM112
    found: dict[str, object] = {}
    for name, mirrored in (("predict", False), ("predict_mirrored", True)):
        predictor = nnUNetPredictor(
            use_mirroring=mirrored, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(str(folder), ("all",))
        seconds = []
        for _ in range(3):
            start = time.process_time()
            voxels, properties = SimpleITKIO().read_images([image])
            predictor.predict_single_npy_array(voxels, properties)
            seconds.append(time.process_time() - start)
        found[name] = sorted(seconds)[1]
    return found


def main() -> None:
    what, dataset, n, threads, *image = sys.argv[1:]
    torch.set_num_threads(int(threads))
    found = steps(dataset, int(n)) if what == "steps" else predict(dataset, *image)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
