#!/usr/bin/env bash
# The main job in small: phantom hearts, pretraining, reconstructions, features. Usage: demo.sh FOLDER
set -euo pipefail
out=${1:-demo}
mkdir -p "$out"
echo "1/3 Phantom cohort: 48 beating hearts in four views, with truth"
cinema phantom --subjects 48 --size small --workers 2 --out "$out/cohort" --picture "$out/phantom.png"
echo "2/3 Pretraining a small masked autoencoder"
cinema fit --config pretrain.yaml --config phantom.yaml --data.root "$out/cohort" --runs "$out/runs" --ckpt_path auto
echo "3/3 Features and reconstructions of the held-out subjects"
cinema predict --config pretrain.yaml --config phantom.yaml --data.root "$out/cohort" --runs "$out/runs" \
    --data.predict_split val --output.folder "$out/predictions" --output.reconstructions true
run=$(ls -d "$out"/runs/pretrain+phantom/* | sort -V | tail -n 1)
cat <<TXT

Done. What to look at:
  $out/phantom.png                      the phantom: all views at ED and ES with contours
  $out/cohort/cohort.csv                the cohort's table: subjects, volumes, EF, survival
  $run/pictures/         reconstructions of held-out hearts, epoch by epoch
  $out/predictions/features.csv         one row of features per subject and frame
  $out/predictions/reconstructions/     each frame as PNG and NIfTI
  tensorboard --logdir $out/runs        losses, learning rate, speed
TXT
