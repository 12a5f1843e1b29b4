"""Leave a machine of the user's own as it was: end the run's processes, remove its folder; or see it go off."""

from __future__ import annotations

import time

from cloudrun.errors import StoreError
from cloudrun.remote.ssh import Connection

LIVES = """\
[ -d {folder} ] || exit 44
[ -e {folder}/watchdog.lock ] || exit 0
flock --nonblock --shared --conflict-exit-code {code} {folder}/watchdog.lock true
"""
"""Exits with `code` while the run's watchdog lives, 0 where it does not, 44 where the folder is gone."""

# A process belongs to the run where the run's folder is in its command line, or is its folder. SIGTERM first: a trainer
# saves. `$$` and its parents have the folder in their command lines, too.
CLEAR = """\
folder={folder}
lives() {{
  flock --nonblock --shared --conflict-exit-code {code} "$folder/watchdog.lock" true 2>/dev/null
  [ $? = {code} ]
}}
mine() {{
  for process in /proc/[0-9]*; do
    pid=${{process#/proc/}}
    [ "$pid" = "$$" ] || [ "$pid" = "$PPID" ] && continue
    tr '\\0' '\\n' < "$process/cmdline" 2>/dev/null | grep -qxF -e "$folder" -e "$folder/out" -e "$folder/data" &&
      echo "$pid" && continue
    case "$(readlink "$process/cwd" 2>/dev/null)" in "$folder"|"$folder"/*) echo "$pid" ;; esac
  done
}}
cd / || exit 1
waited=0
while [ -e "$folder/watchdog.lock" ] && lives && [ $waited -lt {seconds} ]; do sleep 1; waited=$((waited + 1)); done
for signal in TERM KILL; do
  left="$(mine)"
  [ -n "$left" ] || break
  kill -$signal $left 2>/dev/null
  for _ in 1 2 3 4 5 6; do [ -n "$(mine)" ] || break; sleep 1; done
done
left="$(mine)"
[ -z "$left" ] || {{ echo "still there: $left"; exit 1; }}
rm -rf -- "$folder" || {{ echo "its folder could not be removed"; exit 1; }}
rm -f {secrets}
"""
"""Waits up to `seconds` for the watchdog to leave, ends what is left of the run, and removes its folder."""

_LOOK_EVERY_S = 3.0
_SILENT_LOOKS = 2


def stops_answering(connection: Connection, *, within_s: float) -> bool:
    """Return whether the machine stops to answer over SSH within `within_s` seconds, at two looks in a row."""
    until = time.monotonic() + within_s
    silent = 0
    while time.monotonic() < until:
        connection.close()
        try:
            connection.run("true", timeout_s=15)
            silent = 0
        except StoreError:
            silent += 1
            if silent == _SILENT_LOOKS:
                return True
        time.sleep(_LOOK_EVERY_S)
    return False
