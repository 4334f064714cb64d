//go:build ignore

// SPDX-License-Identifier: Apache-2.0
/*
 * Which frames of an interface go to overlane's AF_XDP sockets: VXLAN for this host's VTEP, UDP over IPv4 or IPv6 in one
 * piece. Everything else stays the kernel's: short, tagged and odd frames too, and VXLAN on a queue without a socket.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define IP_FRAGMENT 0x3fff /* more fragments, or an offset */

/* As wanted struct in xdp.go. All zero, as it is at first: nothing is taken. */
struct wanted {
	__u8 addr[16]; /* IPv4 as ::ffff:a.b.c.d, in network order */
	__u16 port;    /* in network order */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wanted);
} vxlan_wanted SEC(".maps");

/* The name that DPDK's net_af_xdp looks for. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

static __always_inline int
is_wanted4(const struct iphdr *ip, const void *end, const struct wanted *w)
{
	const struct udphdr *udp = (const void *)(ip + 1);
	const __u32 *addr = (const void *)w->addr;

	if ((const void *)(udp + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP)
		return 0;
	return !(ip->frag_off & bpf_htons(IP_FRAGMENT)) && addr[0] == 0 && addr[1] == 0 && addr[2] == bpf_htonl(0xffff) && ip->daddr == addr[3] &&
	       udp->dest == w->port;
}

static __always_inline int
is_wanted6(const struct ipv6hdr *ip, const void *end, const struct wanted *w)
{
	const struct udphdr *udp = (const void *)(ip + 1);
	const __u32 *addr = (const void *)w->addr;

	if ((const void *)(udp + 1) > end || ip->version != 6 || ip->nexthdr != IPPROTO_UDP)
		return 0;
	for (int i = 0; i < 4; i++)
		if (ip->daddr.in6_u.u6_addr32[i] != addr[i])
			return 0;
	return udp->dest == w->port;
}

SEC("xdp")
int
overlane_vxlan(struct xdp_md *ctx)
{
	const void *data = (const void *)(long)ctx->data, *end = (const void *)(long)ctx->data_end;
	const struct ethhdr *eth = data;
	const struct wanted *w;
	__u32 first = 0;
	int wanted = 0;

	w = bpf_map_lookup_elem(&vxlan_wanted, &first);
	if (!w || !w->port || (const void *)(eth + 1) > end)
		return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		wanted = is_wanted4((const void *)(eth + 1), end, w);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		wanted = is_wanted6((const void *)(eth + 1), end, w);
	return wanted ? bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS) : XDP_PASS;
}

char licence[] SEC("license") = "Dual BSD/GPL";
