"""The Python on a rented machine that runs what cloudrun brings: its own, or the one that SkyPilot installed."""

from __future__ import annotations

# Images without python3, or with one that is too old, are usual where `image_id` is set. Leaves the name in `$python`.
FIND_PYTHON = """\
for python in python3 "${SKY_RUNTIME_DIR:-$HOME}/skypilot-runtime/bin/python"; do
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && break
done
"""
