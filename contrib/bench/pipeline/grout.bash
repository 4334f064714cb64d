# shellcheck shell=bash disable=SC2154
# grout, of the Debian in $root. Sourced by compare, which has set $root, $work (and $dir, as $root has it), $cpu, $other,
# $macs, $seconds, $vtep and $peer.

grcli() { chroot "$root" env GROUT_SOCK_PATH="$dir/grout.sock" grcli "$@"; }

# What leads to the containers on the far side, and to the one here.
grout_commands() { # UNDERLAY_DEVARGS CONTAINER_DEVARGS
	local n
	echo "affinity cpus set control $other datapath $cpu"
	echo "interface add port p0 devargs $1 rxqs 1"
	echo "interface add port p1 devargs $2 rxqs 1"
	[[ $1 = net_pcap* ]] || echo "interface set port p0 mac 02:00:00:00:00:01"
	echo "address add $vtep/24 iface p0"
	echo "nexthop add l3 iface p0 id 1 address $peer mac 02:00:00:00:00:02"
	echo "route add $peer/32 via id 1"
	echo "interface add bridge br0 learn off"
	echo "interface add vxlan v100 vni 4200 local $vtep domain br0"
	echo "interface set port p1 domain br0"
	echo "flood vtep add $peer vni 4200"
	[[ $1 != net_pcap* ]] || echo "fdb add 02:42:0a:01:00:01 iface p1"
	for ((n = 0; n < macs; n++)); do
		printf 'fdb add 02:42:0a:00:%02x:%02x iface v100 vtep %s\n' $((n >> 8)) $((n & 255)) "$peer"
	done
}

start_grout() { # UNDERLAY_DEVARGS CONTAINER_DEVARGS
	chroot "$root" env GROUT_SOCK_PATH="$dir/grout.sock" GROUT_MAX_FDB_ENTRIES=65536 grout --poll-mode --metrics :0 >"$work/grout.log" 2>&1 &
	grout=$!
	disown # so that its end is no news
	await ls "$work/grout.sock" >/dev/null
	grout_commands "$1" "$2" >"$work/grout.init"
	grcli -ef "$dir/grout.init" >"$work/grcli.log" 2>&1 || { cat "$work/grcli.log" >&2; return 1; }
}

# It does not always end on SIGTERM.
stop_grout() {
	[ ! "${grout:-}" ] || end KILL "$grout"
	grout=
	rm -f "$work/grout.sock"
}

sent() { grcli stats show hardware | awk -v name="$1.tx_good_packets:" '$1 == name { print $2 }'; }

# Mpps that leave through a port.
grout_rate() { # PORT
	local before began
	sleep 2
	before=$(sent "$1") began=$(date +%s%N)
	sleep "$seconds"
	awk -v n="$(($(sent "$1") - before))" -v ns="$(($(date +%s%N) - began))" 'BEGIN { printf "%.2f\n", n / ns * 1000 }'
}

grout_encap() {
	start_grout net_null0,no-rx=1 "net_pcap0,rx_pcap=$dir/inner.pcap,infinite_rx=1"
	grout_rate p0
	stop_grout
}

grout_decap() {
	start_grout "net_pcap0,rx_pcap=$dir/outer.pcap,infinite_rx=1" net_null0,no-rx=1
	grout_rate p1
	stop_grout
}
