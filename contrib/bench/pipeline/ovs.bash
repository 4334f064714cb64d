# shellcheck shell=bash disable=SC2154
# Open vSwitch with DPDK, of the Debian in $root. Sourced by compare and native, which have set $root, $work (and $dir, as $root has it),
# $cpu, $seconds, $vtep, $peer and $mac.

vsctl() { chroot "$root" ovs-vsctl --timeout=30 --db="unix:$dir/db.sock" "$@"; }
appctl() { chroot "$root" ovs-appctl --timeout=30 --target="$dir/switch.ctl" "$@"; }

# rule BRIDGE IN OUT: what comes in through one port leaves through the other.
rule() {
	chroot "$root" env OVS_RUNDIR="$dir" ovs-ofctl del-flows "$1"
	chroot "$root" env OVS_RUNDIR="$dir" ovs-ofctl add-flow "$1" "in_port=$2,actions=output:$3"
}

# Two bridges, as Open vSwitch's documentation has tunnels over DPDK: containers on one, the underlay on the other.
start_ovs() { # CONTAINER_DEVARGS|SOCKET UNDERLAY_DEVARGS; the socket is that of a program that speaks vhost-user
	chroot "$root" ovsdb-tool create "$dir/conf.db" /usr/share/openvswitch/vswitch.ovsschema
	chroot "$root" ovsdb-server "$dir/conf.db" --remote="punix:$dir/db.sock" --unixctl="$dir/db.ctl" --pidfile="$dir/db.pid" --detach --log-file="$dir/db.log" 2>/dev/null
	vsctl --no-wait init
	vsctl --no-wait set Open_vSwitch . other_config:dpdk-init=true other_config:dpdk-extra="--no-pci --in-memory" \
		other_config:pmd-cpu-mask="$(printf '%#x' $((1 << cpu)))" other_config:dpdk-socket-mem=1024
	chroot "$root" env OVS_RUNDIR="$dir" /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk "unix:$dir/db.sock" --unixctl="$dir/switch.ctl" \
		--pidfile="$dir/switch.pid" --detach --log-file="$dir/switch.log" 2>/dev/null
	vsctl add-br underlay -- set bridge underlay datapath_type=netdev "other_config:hwaddr=\"$mac\""
	vsctl add-br inner -- set bridge inner datapath_type=netdev
	ip address replace "$vtep/24" dev underlay
	ip link set underlay up
	vsctl add-port inner vxlan -- set interface vxlan type=vxlan options:remote_ip="$peer" options:key=4200
	case $1 in
	*.sock) vsctl add-port inner container -- set interface container type=dpdkvhostuserclient options:vhost-server-path="$1" ;;
	*) vsctl add-port inner container -- set interface container type=dpdk options:dpdk-devargs="$1" ;;
	esac
	vsctl add-port underlay nic -- set interface nic type=dpdk options:dpdk-devargs="$2"
}

stop_ovs() {
	local file
	for file in "$work"/switch.pid "$work"/db.pid; do
		[ ! -f "$file" ] || end TERM "$(cat "$file")"
	done
	rm -f "$work"/*.pid "$work"/*.sock "$work"/*.ctl "$work"/conf.db
}

# Mpps of the polling thread.
ovs_rate() {
	sleep 2
	appctl dpif-netdev/pmd-stats-clear >/dev/null
	sleep "$seconds"
	appctl dpif-netdev/pmd-perf-show | sed -n 's/.*Rx packets:.*(\([0-9.]*\) Kpps.*/\1/p' | sort -n | tail -1 | awk '{ printf "%.2f\n", $1 / 1000 }'
}

ovs_encap() {
	start_ovs "net_pcap0,rx_pcap=$dir/inner.pcap,infinite_rx=1" net_null0,no-rx=1
	rule inner container vxlan
	rule underlay LOCAL nic
	await appctl tnl/neigh/set underlay "$peer" 02:00:00:00:00:02 >/dev/null
	ovs_rate
	stop_ovs
}

ovs_decap() {
	start_ovs net_null0,no-rx=1 "net_pcap0,rx_pcap=$dir/outer.pcap,infinite_rx=1"
	rule inner vxlan container
	ovs_rate
	stop_ovs
}
