/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_HDR_H
#define DP_HDR_H

/*
 * DPDK's headers, at any address: datagrams of an odd length lie one behind the other (UDP_GRO), and a frame in the second
 * begins at an odd one. Some of DPDK's, as they are, want an even one.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>

#include <rte_arp.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>
#include <rte_vxlan.h>

#include "pure_bytes.h"

#define DP_UNALIGNED __attribute__((aligned(1)))

typedef struct rte_ether_hdr dp_ether_hdr DP_UNALIGNED;
typedef struct rte_arp_hdr dp_arp_hdr DP_UNALIGNED;
typedef struct rte_ipv4_hdr dp_ipv4_hdr DP_UNALIGNED;
typedef struct rte_ipv6_hdr dp_ipv6_hdr DP_UNALIGNED;
typedef struct rte_tcp_hdr dp_tcp_hdr DP_UNALIGNED;
typedef struct rte_udp_hdr dp_udp_hdr DP_UNALIGNED;
typedef struct rte_vxlan_hdr dp_vxlan_hdr DP_UNALIGNED;

/* Of rte_ipv4_hdr's fragment_offset: more fragments, or an offset. */
#define DP_IPV4_FRAGMENT (RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)
/* Of rte_ipv6_hdr's vtc_flow. */
#define DP_IPV6_VERSION 0x60000000
#define DP_IPV6_VERSION_MASK 0xf0000000
/* Of rte_vxlan_hdr's vx_flags: the I flag, RFC 7348 section 5. */
#define DP_VXLAN_FLAG_I 0x08000000

/* Length of an IPv4 header with its options. */
static inline uint32_t
dp_ipv4_len(const dp_ipv4_hdr *ip)
{
	return (ip->version_ihl & RTE_IPV4_HDR_IHL_MASK) * RTE_IPV4_IHL_MULTIPLIER;
}

/* And of a TCP header. */
static inline uint32_t
dp_tcp_len(const dp_tcp_hdr *tcp)
{
	return (tcp->data_off >> 4) * 4;
}

/* Source and destination in one, to compare or to mix. */
static inline uint64_t
dp_ipv4_addrs(const dp_ipv4_hdr *ip)
{
	return dp_load64(&ip->src_addr);
}

/* Source and destination port likewise, of TCP or UDP. */
static inline uint32_t
dp_l4_ports(const void *l4)
{
	return dp_load32(l4);
}

static inline bool
dp_is_ipv6(const dp_ipv6_hdr *ip)
{
	return (ip->vtc_flow & htonl(DP_IPV6_VERSION_MASK)) == htonl(DP_IPV6_VERSION);
}

#endif
