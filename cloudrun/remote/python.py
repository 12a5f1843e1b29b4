"""The Python on a machine that runs what cloudrun brings: its image's, or the one that SkyPilot installed."""

from __future__ import annotations

# Images without python3, or with one that is too old, are usual where `image_id` is set; rented containers often have
# conda's alone, which a command over SSH does not find by its name. Leaves the name in `$python`.
FIND_PYTHON = """\
for python in "${CLOUDRUN_PYTHON:-python3}" python3 "${SKY_RUNTIME_DIR:-$HOME}/skypilot-runtime/bin/python" \\
  "$HOME/miniconda3/bin/python" /opt/conda/bin/python "$HOME/anaconda3/bin/python" "$HOME/miniforge3/bin/python" \\
  /root/miniconda3/bin/python /usr/local/bin/python3 python3.13 python3.12 python3.11 python3.10; do
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && break
done
"""
