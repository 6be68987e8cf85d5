# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# What the guest's shell can do; sourced there (busybox). The caller limits the time.

until_true() { until eval "$1"; do usleep 20000; done; }

# load MEBIBYTES: that much data that nowhere repeats itself at the same place of a block, and the
# drivers, in order.
load() {
	size=$1
	dd if=/dev/urandom of=/random bs=1M count=1 2>/dev/null
	for i in $(seq "$size"); do echo "$i" && cat /random; done | head -c "${size}m" >/data
	echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore
	for m in /modules/*.ko; do
		insmod "$m" || return
	done
	echo 1 >/sys/module/vfio/parameters/enable_unsafe_noiommu_mode
}

# interface DEVICE-ID: name of the network interface of that kind of card.
interface() {
	for i in /sys/class/net/*; do
		[ "$(cat "$i/device/device" 2>/dev/null)" != "$1" ] || echo "${i##*/}"
	done
}

# network DEVICE-ID OWN-ADDRESS PEER PORT: sends 1 MiB to the peer, which sends them back.
network() {
	until_true "[ -n \"\$(interface $1)\" ]"
	i=$(interface "$1")
	ip addr flush dev "$i" && ip addr add "$2/24" dev "$i" && ip link set "$i" up || return
	until_true "[ \"\$(cat /sys/class/net/$i/carrier)\" = 1 ]"
	ping -c 3 -W 20 "$3" || return
	dd if=/data of=/sent bs=1M count=1 2>/dev/null
	nc "$3" "$4" </sent >/back || return
	cmp /sent /back || return
	s=/sys/class/net/$i/statistics
	echo "$i: $(wc -c </back) bytes there and back, rx $(cat "$s/rx_packets") packets, $(cat "$s/rx_crc_errors") damaged"
	[ "$(cat "$s/rx_crc_errors")" = 0 ]
}

# disk MEBIBYTES-TO-SKIP: writes the data there, reads them back past all caches; prints the
# checksum.
disk() {
	until_true '[ -b /dev/nvme0n1 ]'
	dd if=/data of=/dev/nvme0n1 bs=1M seek="$1" oflag=direct 2>/dev/null || return
	want=$(md5sum </data)
	got=$(dd if=/dev/nvme0n1 bs=1M skip="$1" count="$size" iflag=direct 2>/dev/null | md5sum)
	[ "$want" = "$got" ] || { echo "wrote $want, read $got"; return 1; }
	echo "sum ${want%% *}"
}

# disk_still SUM MEBIBYTES-TO-SKIP: what was written before is still there.
disk_still() {
	until_true '[ -b /dev/nvme0n1 ]'
	got=$(dd if=/dev/nvme0n1 bs=1M skip="$2" count="$size" iflag=direct 2>/dev/null | md5sum)
	[ "$1" = "${got%% *}" ] || { echo "wrote $1, now there is $got"; return 1; }
}

# interrupts PATTERN KIND: lines of that device are of that kind, and counted something.
interrupts() {
	grep -E "$1" /proc/interrupts || { echo "no interrupt of $1"; cat /proc/interrupts; return 1; }
	! grep -E "$1" /proc/interrupts | grep -v "$2" || { echo "not $2"; return 1; }
	n=$(grep -E "$1" /proc/interrupts | awk '{ n += $2 } END { print n }')
	echo "$n interrupts"
	[ "$n" -gt 0 ]
}

# address DEVICE-ID: where that kind of device is.
address() {
	for d in /sys/bus/pci/devices/*; do
		[ "$(cat "$d/device")" != "$1" ] || echo "${d##*/}"
	done
}
