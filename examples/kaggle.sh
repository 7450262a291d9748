#!/usr/bin/env bash
# From a competition's files to its submission, in Kaggle's format (Toxic Comment Classification and its kind).
#
#   examples/kaggle.sh --train train.csv --test test.csv --sample sample_submission.csv --out FOLDER \
#                      [--labels test_labels.csv] [-- options of `manylabel crossfit`]
#
# Written to FOLDER:
#   model            the ensemble: folds x seeds x encoders and a linear model, blended out of fold
#   submission.csv   ids and columns as in the sample, a probability in each cell
#   evaluation.txt   the mean column-wise ROC-AUC and every other figure; only with --labels
#
# Killed anywhere, by Ctrl-C, kill -9 or a power cut? Run it again: finished folds are kept, a finished step is skipped.
# To begin from the start, remove FOLDER. What stands after -- goes to `manylabel crossfit`, for example
#   -- --folds 5 --seeds 1,2 --encoder default --encoder bert-base-uncased --set training.epochs=3
# MANYLABEL names the command, for example MANYLABEL="python -m manylabel".

set -euo pipefail

usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

train='' test='' sample='' labels='' out=''
while [ $# -gt 0 ]; do
    case "$1" in
        --train | --test | --sample | --labels | --out)
            [ $# -ge 2 ] || usage
            printf -v "${1#--}" '%s' "$2"
            shift 2
            ;;
        --)
            shift
            break
            ;;
        *) usage ;;
    esac
done
if [ -z "$train" ] || [ -z "$test" ] || [ -z "$sample" ] || [ -z "$out" ]; then
    usage
fi
for file in "$train" "$test" "$sample" ${labels:+"$labels"}; do
    [ -f "$file" ] || { echo "kaggle.sh: no such file: $file" >&2; exit 2; }
done

read -r -a manylabel <<<"${MANYLABEL:-manylabel}"
mkdir -p "$out"

# A model, a submission and an evaluation appear under their names only when they are whole.
if [ -e "$out/model/manifest.json" ]; then
    echo "1/3 model: there already"
else
    echo "1/3 model: cross-fitting; finished folds of a former run are kept"
    "${manylabel[@]}" crossfit "$train" --out "$out/model" "$@"
fi

if [ "$out/submission.csv" -nt "$out/model/manifest.json" ]; then
    echo "2/3 submission: there already"
else
    echo "2/3 submission"
    "${manylabel[@]}" submit "$out/model" "$test" --sample "$sample" --out "$out/submission.csv" --overwrite
fi

if [ -z "$labels" ]; then
    echo "3/3 evaluation: left out, as there is no --labels"
elif [ "$out/evaluation.txt" -nt "$out/model/manifest.json" ]; then
    echo "3/3 evaluation: there already"
else
    echo "3/3 evaluation: rows whose labels are all -1 are not scored"
    "${manylabel[@]}" evaluate "$out/model" "$test" --labels "$labels" >"$out/evaluation.txt.part"
    mv "$out/evaluation.txt.part" "$out/evaluation.txt"
fi
[ -z "$labels" ] || tail -n 2 "$out/evaluation.txt"
echo "$out/submission.csv is ready"
