#!/usr/bin/env bash
# The main job in small: phantom hearts, pretraining, fine-tuning, a report. Usage: demo.sh FOLDER
set -euo pipefail
out=${1:-demo}
mkdir -p "$out"
cd "$out"
echo "1/4 Phantom cohort: 48 beating hearts in four views, with truth"
cinema phantom --subjects 48 --size small --workers 2 --out cohort
cinema phantom --picture phantom.png
echo "2/4 Pretraining a small masked autoencoder"
cinema fit --config pretrain.yaml --config phantom.yaml --data.root cohort --trainer.max_epochs 100 \
    --model.optim.lr 4e-3 --ckpt_path auto
echo "3/4 Reconstructions and features of the held-out subjects"
cinema predict --config pretrain.yaml --config phantom.yaml --data.root cohort \
    --data.predict_split val --data.predict_frames ed_es --output.folder predictions --output.pictures true
echo "4/4 Fine-tuning: segmentation and survival, and their report"
cinema benchmark run --config benchmark_demo.yaml --local
cinema benchmark report --config benchmark_demo.yaml
run=$(ls -d runs/pretrain+phantom/* | sort -V | tail -n 1)
cells=benchmark/cells
seg=$(dirname "$(find $cells/acdc_seg/cinema -name summary.json | head -n 1)")
survival=$(dirname "$(find $cells/ukb_survival/cinema -name summary.json | head -n 1)")
cat <<TXT

Done. What to look at, in $(pwd):
  phantom.png                      the phantom: all views at ED and ES with contours
  cohort/cohort.csv                the cohort's table: subjects, volumes, EF, survival
  $run/pictures/   reconstructions of held-out hearts, epoch by epoch
  predictions/features.csv         one row of features per subject and frame
  $seg/
      cases.csv, function.csv, summary.csv, pictures/overlays_sax.png, pictures/lv_ef.png
  $survival/
      pictures/kaplan_meier.png, cox.csv
  benchmark/report/report.html     the report: open it in a browser
  tensorboard --logdir runs        losses, learning rate, speed
TXT
