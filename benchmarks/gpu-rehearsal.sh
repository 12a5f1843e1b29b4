#!/usr/bin/env bash
# Rehearse `benchmarks/gpu-box.sh` and what it prints, on this computer: in an environment of CPython 3.12 that holds what
# such a machine has and nothing else, in a copy of the tree without git. Then once more, killed at a random second: what
# was measured by then has to be there, and nothing may go on running.
#
#   benchmarks/gpu-rehearsal.sh [PARTS]       PARTS: with commas; left out: all
set -euo pipefail
cd "$(dirname "$0")/.."
parts=${1:-probe,smoke,tune,ceiling,compile,whole,timm,end}

python=$(command -v pyenv >/dev/null && pyenv prefix 3.12 2>/dev/null)/bin/python || true
[ -x "$python" ] || python=$(command -v python3.12 || true)
if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
  echo "no Python 3.12 on this computer: not rehearsed"; exit 0
fi

benchmarks/gpu-box.sh
uv=$(command -v uv || echo .uv/bin/uv)
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
"$uv" venv --quiet --seed --python "$python" "$place/box"
# As the machine was seen to have them; torch and what it needs are some 3 GB where they are not in uv's cache.
"$uv" pip install --quiet --python "$place/box/bin/python" \
  torch==2.11.0 torchvision==0.26.0 numpy==2.5.2 pandas pillow pyyaml safetensors scikit-learn huggingface_hub packaging
mkdir "$place/tree" "$place/tmp"
git ls-files -z | xargs -0 cp --parents --target-directory "$place/tree"
cp -r .gpu "$place/tree/"
cd "$place/tree"
there=(env -i PATH="$place/box/bin:/usr/bin:/bin" HOME="$place" TMPDIR="$place/tmp" OUT="$place/out" NO_COLOR=1)

"${there[@]}" bash .gpu/run.sh --rehearse --parts "$parts"
test "$(grep -c '"the whole part"' "$place/out/figures.jsonl")" = "$(tr ',' '\n' <<<"$parts" | wc -l)"

seconds=$((RANDOM % 25 + 5))
rm -rf "$place/out"
echo; echo "== once more, killed after $seconds s"
"${there[@]}" setsid bash .gpu/run.sh --rehearse --parts "$parts" >/dev/null 2>&1 & killed=$!
sleep "$seconds"
pkill -KILL -s "$killed" -f benchmarks.gpu || true
wait "$killed" || true
sleep 2
if pgrep -af "$place/(out|tmp|tree)"; then echo "error: these parts outlived it"; exit 1; fi
"$place/box/bin/python" - "$place/out/figures.jsonl" <<'P'
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
lines = path.read_text().splitlines() if path.exists() else []
print(f"{len([json.loads(line) for line in lines])} figures were left, each whole")
P
"${there[@]}" bash .gpu/run.sh --table > "$place/table.md"
tail -n 1 "$place/table.md"
