#!/usr/bin/env bash
# The main job in small: phantom hearts, pretraining, segmentation, one person's study. Usage: demo.sh FOLDER
set -euo pipefail
out=${1:-demo}
out=${out%/}
here=$(cd "$(dirname "$0")/.." && pwd)
# What is there of another version of the code is no part of this demo; what is there of this one is gone on with.
recipe=$({ cat "$0"; find "$here/src" "$here/configs" -type f \( -name '*.py' -o -name '*.yaml' \) -print0 | sort -z | xargs -0 cat; } | cksum)
if [ -d "$out" ] && [ -n "$(ls -A "$out")" ]; then
    if [ "$(cat "$out/.recipe" 2>/dev/null)" = "$recipe" ]; then
        echo "Going on with what is in $out."
    else
        number=1
        while [ -e "$out.$number" ]; do number=$((number + 1)); done
        mv "$out" "$out.$number"
        echo "What was in $out is of another version; it is in $out.$number now, and the demo starts anew."
    fi
fi
mkdir -p "$out"
cd "$out"
echo "$recipe" >.recipe
SECONDS=0
small="--config phantom.yaml --data.root cohort --ckpt_path auto"

echo "1/5 A cohort of 72 beating phantom hearts in four views, with truth"
cinema phantom --subjects 72 --size small --slice_distance 10 --workers 2 --out cohort
[ -f phantom.png ] || cinema phantom --picture phantom.png

echo "2/5 Pretraining: a masked autoencoder sees a quarter of each heart and draws the rest"
cinema fit --config pretrain.yaml $small --trainer.max_epochs 140 --model.optim.lr 5e-3 --data.num_workers 1
cinema predict --config pretrain.yaml --config phantom.yaml --data.root cohort \
    --data.predict_split val --data.predict_frames ed_es --output.folder reconstructions --output.pictures true

echo "3/5 Segmentation: fine-tuned from there"
cinema fit --config seg.yaml $small --config strong.yaml --name segmentation --model.weights pretrain+phantom \
    --data.views '[sax]' --data.batch_size 4 --model.optim.lr 8e-3 --trainer.max_epochs 12 \
    --trainer.check_val_every_n_epoch 3

echo "4/5 Test: subjects that it has never seen"
cinema test --config seg.yaml --config phantom.yaml --name segmentation --data.root cohort --output.folder test

echo "5/5 Analysis: one of them, as a scanner exports the study"
cinema phantom --dataset dicom --subjects 3 --size small --workers 2 --out studies
cinema analyse studies/phantom_00002 --out analysis --weights segmentation
python - <<'PY'
import csv

found = next(csv.DictReader(open("analysis/results.csv")))
truth = next(row for row in csv.DictReader(open("studies/phantom_truth.csv")) if row["id"] == "phantom_00002")
said = []
for name, key, unit in [("LVEDV", "lv_edv", "ml"), ("LVEF", "lv_ef", "%")]:
    given = f"{name} {float(found[key]):.0f} {unit}" if found[key] else f"no {name} is given"
    said.append(f"{given} (true: {float(truth[key + '_true']):.0f} {unit})")
why = f" Why: {found['reasons']}" if found["reasons"] else ""
print(f"analysis: {found['quality']}; {', '.join(said)}.{why}")
PY

report=$(ls analysis/*/report.html)
cat <<TXT

Done in $((SECONDS / 60)) min $((SECONDS % 60)) s. What to look at, in $(pwd):
  phantom.png                        the phantom: all views at ED and ES with contours
  cohort/cohort.csv                  the cohort's table: subjects, volumes, EF, outcomes
  runs/pretrain+phantom/0/pictures/  a held-out heart as it is drawn better and better
  reconstructions/                   held-out hearts drawn from a quarter of them; a row of features for each frame
  test/                              cases.csv, function.csv, summary.csv; pictures/overlays_sax.png, pictures/lv_ef.png
  $report
                                     the report of one study: open it in a browser
  studies/phantom_truth.csv          what is true of that heart
  tensorboard --logdir runs          losses, learning rate, speed
TXT
