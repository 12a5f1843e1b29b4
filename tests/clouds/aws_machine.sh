#!/usr/bin/env bash
# aws_machine.sh FOLDER IMAGE CACHE NAME PRIVATE_ADDRESS KEY_FILE USER API_URL
# One instance of the AWS box: an ordinary user who may `sudo`, an sshd that is PID 1, a `poweroff` that ends it, and the
# metadata service in the environment. Run it by `unshare -m -n -p -u -f --kill-child`: killing it is pulling the plug.
source "$(dirname "$0")/machine.sh"
folder=$1 image=$2 cache=$3 name=$4 address=$5 key=$6 user=$7 api=$8
hostname "$name"
ip link set lo up
ip address add "$address/32" dev lo
make_root "$folder"
forget_the_laptop
id "$user" > /dev/null 2>&1 || chroot "$root" useradd --create-home --shell /bin/bash "$user"
install_image "$image" "$cache" "/home/$user"
limit_memory 16384
pretend_gpu "NVIDIA A10G" 24576
printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" > "$root/etc/hosts"
# PID 1 (sshd) listens to TERM, and all processes of its namespace end with it.
printf '#!/bin/sh\nkill -TERM 1\n' > "$root/usr/local/sbin/poweroff"
chmod +x "$root/usr/local/sbin/poweroff"
for command in systemctl service; do  # SkyPilot reloads sshd by them; Debian's init script would end the connection
  printf '#!/bin/sh\nexit 0\n' > "$root/usr/local/bin/$command"
  chmod +x "$root/usr/local/bin/$command"
done
printf 'AWS_ENDPOINT_URL=%s\nAWS_EC2_METADATA_SERVICE_ENDPOINT=%s\nPATH=%s\n' "$api" "$api" "$path" > "$root/etc/environment"
echo "$user ALL=(ALL) NOPASSWD:ALL" > "$root/etc/sudoers.d/box"
install -D -m 600 "$key" "$root/home/$user/.ssh/authorized_keys"
chroot "$root" chown -R "$user:$user" "/home/$user/.ssh" "/home/$user/.local"
chroot "$root" chown "$user:$user" "/home/$user"
chmod 700 "$root/home/$user/.ssh"
chroot "$root" ssh-keygen -A > /dev/null
exec chroot "$root" env -i HOME=/root PATH="$path" /usr/sbin/sshd -D -e -o ListenAddress=127.0.0.1 -o Port=22 -o UsePAM=yes \
  -o PidFile=/run/sshd.pid
