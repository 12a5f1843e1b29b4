#!/usr/bin/env bash
# runpod_machine.sh FOLDER IMAGE CACHE NAME START_COMMAND_FILE API_URL
# One pod of the RunPod box: a container, whose PID 1 is the very start command that it was rented with (it starts sshd): no
# init, no systemd, no `poweroff`, and no more capabilities than Docker gives. Run it by `unshare -m -n -p -u -f --kill-child`.
source "$(dirname "$0")/machine.sh"
folder=$1 image=$2 cache=$3 name=$4 start=$5 api=$6
hostname "$name"
ip link set lo up
make_root "$folder"
forget_the_laptop
install_image "$image" "$cache" /root
limit_memory 16384
pretend_gpu "NVIDIA GeForce RTX 4090" 24564
rm -f "$root"/{bin,usr/bin}/systemctl "$root"/{sbin,usr/sbin}/{poweroff,shutdown,halt,reboot}
printf '127.0.0.1 localhost %s\n' "$name" > "$root/etc/hosts"
printf 'RUNPOD_API_BASE_URL=%s\nRUNPOD_POD_ID=%s\nPATH=%s\n' "$api" "$name" "$path" > "$root/etc/environment"
cp "$start" "$root/start.sh"
caps=chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,audit_write,setfcap
exec chroot "$root" setpriv --bounding-set "-all$(printf ',+%s' ${caps//,/ })" \
  env -i HOME=/root PATH="$path" RUNPOD_API_BASE_URL="$api" RUNPOD_POD_ID="$name" sh /start.sh
