/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_DROPS_H
#define DP_DROPS_H

/*
 * Every reason for which a packet ends here, with the name that users read and what it means.
 * A super-frame counts once; the segments of a send that the kernel refused count one each.
 */
#define DP_DROPS(X) \
	X(RUNT, runt, "shorter than its Ethernet header, or than the VXLAN header in front of it") \
	X(MALFORMED, malformed, "an inner length that lies: IP, TCP or UDP header outside of the frame") \
	X(VLAN, vlan, "an inner VLAN tag, which RFC 7348 section 6.1 tells to drop") \
	X(OFFLOAD, offload, "a virtio-net header that does not fit the frame behind it, or a packet that a card's driver refuses") \
	X(OVERSIZE, oversize, "longer on a port than a packet buffer: 64 KiB less headroom") \
	X(SPOOFED_MAC, spoofed_mac, "source MAC is not the port's, lives behind another VTEP, or is not the one that ARP or neighbour discovery in the frame names") \
	X(SPOOFED_IP, spoofed_ip, "source address is not one of the port's, or from the underlay: is another MAC's") \
	X(CLAIMS, claims, "a trusted container says that it has addresses faster than they are looked at") \
	X(ARP_UNKNOWN, arp_unknown, "ARP request for an address that nobody has") \
	X(ND_UNKNOWN, nd_unknown, "neighbour solicitation for an address that nobody has") \
	X(ROUTER, router, "router advertisement or redirect from a container, of this host or another: no container is the network's router") \
	X(ROUTER_SOLICITED, router_solicited, "router solicitation: nobody would answer, and to all of a large network it is no small thing") \
	X(PROBE, probe, "a container asking for its own address: announcement or duplicate detection, nobody else has it") \
	X(FDB_MISS, fdb_miss, "destination MAC unknown in its network") \
	X(NOBODY, nobody, "to a group of which no other member is in the network") \
	X(HAIRPIN, hairpin, "destination is the port it came from") \
	X(NOT_LOCAL, not_local, "from the underlay for a MAC that lives on another host") \
	X(PORT_GONE, port_gone, "destination port was removed while the packet was on its way") \
	X(VXLAN_FLAGS, vxlan_flags, "VXLAN header without the I flag") \
	X(VNI_UNKNOWN, vni_unknown, "no network with this VNI on this host") \
	X(VTEP_UNKNOWN, vtep_unknown, "from an address that is no VTEP of ours") \
	X(SRC_UNKNOWN, src_unknown, "inner source MAC that nobody announced") \
	X(PLAIN, plain, "not encrypted, for an encrypted network") \
	X(ESP_UNWANTED, esp_unwanted, "encrypted, for a network that is not") \
	X(ESP_NO_KEY, esp_no_key, "to a host with which no key has been agreed on yet, in an encrypted network") \
	X(ESP_WORN, esp_worn, "to a host with which the key has encrypted as many packets as it may, and no other was agreed on") \
	X(ESP_SPI, esp_spi, "encrypted with a key that this host does not have: not yet, or no longer") \
	X(ESP_REPLAY, esp_replay, "an encrypted packet that has been here before, or is too old to tell") \
	X(ESP_FORGED, esp_forged, "an encrypted packet that is not as its sender made it: its integrity check value is wrong") \
	X(ESP_MALFORMED, esp_malformed, "an encrypted packet whose lengths lie, or that holds no VXLAN") \
	X(ECN, ecn, "congestion marked outside on a packet that cannot carry it inside: RFC 6040 section 4.2") \
	X(TAP_DOWN, tap_down, "container's interface is down or gone") \
	X(TAP_WRITE, tap_write, "kernel refused a frame for a container") \
	X(OVERLOAD, overload, "too much of one source, while the worker could not deliver all that came from the underlay") \
	X(DEVICE_FULL, device_full, "ethdev port took no more frames") \
	X(DEVICE_MISSED, device_missed, "dropped by an ethdev before it was read: too fast for the worker, or no packet buffer was left") \
	X(DEVICE_DOWN, device_down, "ethdev has not found its peer yet, or lost it") \
	X(VHOST_DOWN, vhost_down, "to a vhost-user container that is not there: its program has not made its socket, or has gone") \
	X(VHOST_FULL, vhost_full, "to a vhost-user container that has no free receive buffer: it is too slow, or does not read") \
	X(VHOST_BUFFER, vhost_buffer, "longer than a receive buffer of a vhost-user container, which does not merge them: mrg_rxbuf") \
	X(VHOST_RING, vhost_ring, "a vhost-user container's program was cut off for what it wrote into its rings, or memory that it took back: the log says more") \
	X(MEMIF_DOWN, memif_down, "to a memif container that is not there: its program has not made its socket, or has gone") \
	X(MEMIF_FULL, memif_full, "to a memif container whose ring is full: its program is too slow, or does not read") \
	X(MEMIF_RING, memif_ring, "a memif container's program was cut off for what it wrote into its rings: the log says what") \
	X(NO_MBUF, no_mbuf, "no packet buffer was left for a copy") \
	X(TOO_BIG, too_big, "longer than the path to the VTEP carries, and its container was told by ICMP how long it may be") \
	X(UNDERLAY_MTU, underlay_mtu, "longer than the path to the VTEP carries, and nobody could be told") \
	X(UNDERLAY_FULL, underlay_full, "underlay's send buffer stayed full") \
	X(UNDERLAY_UNREACHABLE, underlay_unreachable, "no route to the VTEP") \
	X(UNDERLAY_ERROR, underlay_error, "kernel refused to send for another reason") \
	X(UNDERLAY_TRUNCATED, underlay_truncated, "datagram longer than the receive buffer") \
	X(UNDERLAY_AMBIGUOUS, underlay_ambiguous, "a datagram that may be one super-frame or several packets: who sent it may have made it look so") \
	X(UNDERLAY_OVERFLOW, underlay_overflow, "dropped by the kernel before it was read: too fast for the worker, or a wrong outer checksum") \
	X(UNDERLAY_FOREIGN, underlay_foreign, "on the underlay's ethdev, but not UDP to this host's VXLAN port; the kernel has its copy where it shares the device") \
	X(UNDERLAY_MALFORMED, underlay_malformed, "an outer length that lies: IP or UDP header outside of the frame") \
	X(UNDERLAY_FRAGMENT, underlay_fragment, "an outer fragment, which RFC 7348 section 4.3 allows to drop") \
	X(UNDERLAY_CHECKSUM, underlay_checksum, "a wrong outer checksum, of IPv4 or UDP")

enum dp_drop {
#define X(id, name, help) DP_DROP_##id,
	DP_DROPS(X)
#undef X
		DP_DROP_COUNT,
};

#endif
