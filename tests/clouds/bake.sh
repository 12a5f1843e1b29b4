#!/usr/bin/env bash
# bake.sh IMAGE CACHE UV CHECKOUT SKYPILOT_VERSION
# Make what all machines start from: SkyPilot's runtime with Ray, as SkyPilot's own AWS image has it, for both users, and a
# cache that lacks nothing which a machine installs. CACHE, uv's on this computer, stays as it is. Run it by `unshare -m`.
source "$(dirname "$0")/machine.sh"
image=$1 cache=$2 uv=$3 checkout=$4 version=$5
part=$image.part
rm -rf "$part"
mkdir -p "$part"
make_root "$part/machine"
forget_the_laptop
layer "$cache" "$root/uv-cache"
install -D -m 755 "$uv" "$root/usr/local/bin/uv"
chroot "$root" useradd --create-home --shell /bin/bash ubuntu 2> /dev/null || true
cp "$checkout/trainer/requirements.txt" "$root/tmp/"
cat > "$root/tmp/install.sh" <<SCRIPT
set -e
umask 000  # whoever is the user there writes into the cache
export UV_CACHE_DIR=/uv-cache UV_LINK_MODE=copy UV_NO_PROGRESS=1
for home in /root /home/ubuntu; do
  # SkyPilot asks for Python 3.10, which cannot be downloaded everywhere; a runtime that is there is taken as it is.
  uv venv --quiet --seed --python /usr/bin/python3 \$home/skypilot-runtime
  export VIRTUAL_ENV=\$home/skypilot-runtime
  uv pip install --quiet 'setuptools<70' 'click<8.3.0'
  uv pip install --quiet -U 'ray[default]==2.9.3' pydantic-core==2.41.1 'click<8.3.0'
  uv pip install --quiet 'skypilot[aws,runpod,remote]==$version'
  uv pip uninstall --quiet skypilot  # its wheel comes from the laptop
done
unset VIRTUAL_ENV
export UV_LINK_MODE=symlink
uv venv --quiet --python '>=3.11' /tmp/trainer
uv pip install --quiet --python /tmp/trainer/bin/python -r /tmp/requirements.txt
uv venv --quiet --seed --python /usr/bin/python3 /tmp/user
# Whatever uv writes into, however deep; unpacked packages are only read, and stay where they are.
find /uv-cache -maxdepth 2 -type f -exec chmod a+rw {} +
find /uv-cache -path '/uv-cache/archive-v0/*' -prune -o \( -type d -o -name '*.lock' \) -exec chmod a+rwX {} +
chown -R ubuntu:ubuntu /home/ubuntu/skypilot-runtime
SCRIPT
chroot "$root" env HOME=/root PATH="$path" bash /tmp/install.sh
mv "$root/root/skypilot-runtime" "$part/runtime-root"
mv "$root/home/ubuntu/skypilot-runtime" "$part/runtime-ubuntu"
cp -a "$folder/uv-cache.upper" "$part/cache"
cp "$uv" "$part/uv"
umount -R "$part/machine"
rmdir "$part/machine"
rm -rf "$image"
mv "$part" "$image"
