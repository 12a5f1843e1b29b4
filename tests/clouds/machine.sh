# What each machine on this computer is made of; read by bake.sh, aws_machine.sh and runpod_machine.sh.
set -euo pipefail
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# make_root FOLDER: mount a file system of its own at $root: this computer's `/`, and changes that are in memory and go with
# the mount namespace.
make_root() {
  folder=$1
  mkdir -p "$folder"
  mount -t tmpfs tmpfs "$folder"
  root=$folder/root
  mkdir "$root"
  layer / "$root"
  mount --bind /dev "$root/dev"
  mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"  # else no terminal can be had
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"  # Ray's object store is made there by an ordinary user
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  mount -t tmpfs tmpfs "$root/run"
  mkdir "$root/run/sshd"
  mount -t proc proc "$root/proc"
}

# layer BELOW TARGET: show folders (one, or several by colons) at TARGET; changes are in memory, at $folder/<name of TARGET>.*
layer() {
  local changes=$folder/$(basename "$2")
  mkdir -p "$2" "$changes.upper" "$changes.work"
  mount -t overlay overlay -o "lowerdir=$1,upperdir=$changes.upper,workdir=$changes.work" "$2"
  chown --reference="${1%%:*}" "$2"
  chmod --reference="${1%%:*}" "$2"
}

# forget_the_laptop: a new machine has nobody's keys, and host keys of its own. The home folder is covered, not emptied:
# files that somebody writes there meanwhile cannot be removed through the overlay.
forget_the_laptop() {
  mount -t tmpfs -o mode=700 tmpfs "$root/root"
  rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/profile.d/container_env_var.sh"
}

# install_image IMAGE CACHE HOME: what bake.sh made. Every package comes out of the cache, since a machine has no way out; by
# links, since torch's 5 GB would be copied into memory.
install_image() {
  layer "$1/runtime-$(basename "$3")" "$root$3/skypilot-runtime"
  layer "$1/cache:$2" "$root/uv-cache"
  install -D -m 755 "$1/uv" "$root$3/.local/bin/uv"
  mkdir -p "$root/etc/uv"
  printf 'offline = true\nlink-mode = "symlink"\ncache-dir = "/uv-cache"\n' > "$root/etc/uv/uv.toml"
}

# limit_memory MIB: what a kernel says of a container's memory; see `Box.fill_memory`.
limit_memory() {
  mkdir -p "$root/sys/fs/cgroup"
  echo "$(($1 * 1048576))" > "$root/sys/fs/cgroup/memory.max"
  echo "$((512 * 1048576))" > "$root/sys/fs/cgroup/memory.current"
  printf 'inactive_file 0\nactive_file 0\n' > "$root/sys/fs/cgroup/memory.stat"
}

# pretend_gpu NAME MEMORY_MIB
pretend_gpu() {
  cat > "$root/usr/local/bin/nvidia-smi" <<SCRIPT
#!/bin/sh
case "\$*" in
  *name,memory.total,driver_version*) echo "$1, $2 MiB, 580.159.04";;
  *driver_version*) echo 580.159.04;;
  *query*) echo 0;;
  *) echo "NVIDIA-SMI 580.159.04  a pretended $1";;
esac
SCRIPT
  chmod +x "$root/usr/local/bin/nvidia-smi"
}
