"""Job files that run on this computer within a second, and until they are stopped."""

TINY = """\
name: tiny
infra: local
data: {source: .}
run: |
  echo "line one"
  mkdir -p $CLOUDRUN_OUTPUT/checkpoints
  echo weights > $CLOUDRUN_OUTPUT/checkpoints/best.pt
  echo '{"epoch": 1, "epochs": 1, "eta_s": 0}' > $CLOUDRUN_OUTPUT/progress.json
"""
ENDLESS = """\
name: endless
infra: local
data: {source: .}
run: |
  trap 'echo saved > $CLOUDRUN_OUTPUT/last.txt; exit 75' TERM
  echo up
  while :; do sleep 0.05; done
"""
