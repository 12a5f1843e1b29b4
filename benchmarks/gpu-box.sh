#!/usr/bin/env bash
# Gather in .gpu/ what a GPU machine without internet needs for `python -m benchmarks.gpu`, say how much it is, and print
# the two commands to run there, in a copy of this tree with .gpu/ in it. That machine has CPython 3.12 on x86_64, torch
# with CUDA, torchvision, numpy, pillow and pyyaml; no git, no uv.
#
#   benchmarks/gpu-box.sh [--photos DIR] [--timm FILE]
#
# DIR: photographs as cameras make them (default: $CLOUDRUN_SHARED/data/photos, or shared/data/photos beside the
# checkout); without any, images are drawn. FILE: train.py of timm's repository, which is not in its package; without it
# the part `timm` says that it was left out.
set -euo pipefail
cd "$(dirname "$0")/.."
photos=${CLOUDRUN_SHARED:-../shared}/data/photos timm=
while [ $# -gt 0 ]; do
  case $1 in
    --photos) photos=${2:?--photos needs a folder}; shift 2 ;;
    --timm) timm=${2:?--timm needs a file}; shift 2 ;;
    *) echo "error: unknown word $1" >&2; echo "hint: benchmarks/gpu-box.sh [--photos DIR] [--timm FILE]" >&2; exit 2 ;;
  esac
done
if [ -n "$timm" ] && [ ! -f "$timm" ]; then
  echo "error: there is no file $timm" >&2; echo "hint: --timm takes train.py of timm's repository" >&2; exit 2
fi

make --silent .venv/ready
uv=$(command -v uv || echo .uv/bin/uv)
box=.gpu
rm -rf "$box"; mkdir -p "$box/wheels"

# What the trainer imports and a machine for deep learning does not have, in the versions of uv.lock.
wanted='^(annotated-types|pydantic|pydantic-core|timm|typing-extensions|typing-inspection)=='
"$uv" export --quiet --frozen --only-group machine --no-hashes --no-header --no-annotate --no-emit-project \
  | sed 's/ *;.*//' | grep -E "$wanted" > "$box/wheels.txt"
platforms=(); for of in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do platforms+=(--platform "${of}_x86_64"); done
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
  --implementation cp "${platforms[@]}" --dest "$box/wheels" --requirement "$box/wheels.txt"

photos_there=() timm_there=()
if [ -d "$photos" ]; then
  mkdir "$box/photos"; cp "$photos"/* "$box/photos/"; chmod -R u+w "$box/photos"; photos_there=(--photos "$box/photos")
else
  echo "no photographs in $photos: images will be drawn" >&2
fi
if [ -n "$timm" ]; then cp "$timm" "$box/timm_train.py"; timm_there=(--timm "$box/timm_train.py"); fi

echo "$box/: $(du -sm --apparent-size "$box" | cut -f1) MB, beside $(git ls-files -z | du -cm --apparent-size --files0-from=- | tail -n 1 | cut -f1) MB of the tree"
cat > "$box/run.sh" <<BOX
export PYTHONUNBUFFERED=1 CLOUDRUN_COMMIT=$(git rev-parse --short HEAD) TORCHINDUCTOR_CACHE_DIR=/tmp/inductor
export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True PYTORCH_ALLOC_CONF=expandable_segments:True
site=\${TMPDIR:-/tmp}/gpu-box-site
test -d "\$site" || python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "\$site" .gpu/wheels/*.whl || exit
export PYTHONPATH=\$site
python3 -m benchmarks.gpu --out "\${OUT:-gpu-figures}" ${photos_there[*]} ${timm_there[*]} "\$@"
BOX
cat <<SAY
there, in the copy of the tree, first (some 7 minutes):
  bash $box/run.sh --parts probe,smoke,tune,ceiling,compile,whole --budget 420
then, while the compiler's cache is still there (some 4 minutes):
  bash $box/run.sh --parts timm,end --budget 255
SAY
