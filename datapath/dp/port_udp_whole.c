// SPDX-License-Identifier: Apache-2.0
/*
 * Super-frames that leave in one piece: VXLAN packets of up to 64 KiB, without a checksum inside, written to a tap whose
 * virtio-net header tells of the tunnel (Linux 6.17, linux/virtio_net.h struct virtio_net_hdr_v1_hash_tunnel). A program on the tap
 * passes them on to the interface, and the kernel or the card cuts them up.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "port.h"
#include "pure_csum.h"
#include "pure_gso.h"

/* linux/if_tun.h and linux/virtio_net.h of Linux 6.17. */
#define TUNNEL_GSO 0x080
#define TUNNEL_GSO_CSUM 0x100
#define VNET_GSO_TUNNEL4 0x20
#define VNET_GSO_TUNNEL6 0x40
#define VNET_F_TUNNEL_CSUM 8
/* As of a socket: port_udp.c. */
#define BUFFER_BYTES (8 << 20)
/* Smaller segments are as much work to the kernel as to us, and count against their container here: see frame_work(). */
#define SEGMENT_MIN 256

struct vnet {
	struct virtio_net_hdr_mrg_rxbuf hdr;
	uint32_t hash;
	uint16_t report, padding;
	uint16_t outer_th, inner_nh;
} __attribute__((packed));
_Static_assert(sizeof(struct vnet) == 24, "with a shorter header the kernel takes none of a tunnel");
/* drivers/net/tun.c: MAX_TAP_QUEUES. */
_Static_assert(DP_GSO_FILES(DP_MAX_WORKERS) <= 256, "a tap has so many files");
_Static_assert(sizeof(struct vnet) + DP_OUTER6_LEN <= DP_UDP_SLOT_LEN, "headers fit a slot");

struct dp_whole {
	struct dp_eth_outer outer;
	int fds[DP_GSO_FILES(DP_MAX_WORKERS)]; /* of the tap */
	bool udp;
};

/* Of the tap, so that packets are the host's own; and their source, in front of the interface. */
static const uint8_t tap_mac[6] = { 2 };

static int
file_open(char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, IFNAMSIZ, "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	snprintf(name, IFNAMSIZ, "%s", ifr.ifr_name);
	return fd;
}

/* By one file for all that the tap has by then. */
static int
set_up(int fd)
{
	struct ifreq hw = { .ifr_hwaddr.sa_family = ARPHRD_ETHER };
	const unsigned offload = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6 | TUNNEL_GSO | TUNNEL_GSO_CSUM;
	int header = sizeof(struct vnet), buffer = BUFFER_BYTES, no = 0;

	memcpy(hw.ifr_hwaddr.sa_data, tap_mac, sizeof(tap_mac));
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) || ioctl(fd, TUNSETOFFLOAD, offload) || ioctl(fd, TUNSETSNDBUF, &buffer) || ioctl(fd, TUNSETCARRIER, &no) || ioctl(fd, SIOCSIFHWADDR, &hw))
		return -errno;
	return 0;
}

int
dp_gso_tap_open(char *name, unsigned n_workers, int *fds)
{
	int ret = 0;

	memset(fds, -1, DP_GSO_FILES(n_workers) * sizeof(*fds));
	for (unsigned i = 0; i < DP_GSO_FILES(n_workers) && ret >= 0; i++)
		ret = fds[i] = file_open(name);
	if (ret >= 0)
		ret = set_up(fds[0]);
	if (ret)
		dp_gso_tap_close(n_workers, fds);
	return ret;
}

void
dp_gso_tap_close(unsigned n_workers, const int *fds)
{
	for (unsigned i = 0; i < DP_GSO_FILES(n_workers); i++)
		close(fds[i]);
}

static struct dp_whole *
way_new(struct dp_vtep *vtep, const int *fds, uint32_t ifindex, bool udp)
{
	struct dp_whole *way = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_CACHE_LINE_ROUNDUP(sizeof(*way)));
	uint8_t from[6];

	if (!way)
		return NULL;
	memcpy(from, tap_mac, sizeof(from));
	ifindex = htonl(ifindex);
	memcpy(from + 2, &ifindex, sizeof(ifindex));
	dp_outer_template(&way->outer, vtep, tap_mac, from);
	memcpy(way->fds, fds, sizeof(way->fds));
	way->udp = udp;
	return way;
}

int
dp_vtep_whole(uint32_t id, const int fds[DP_GSO_FILES(DP_MAX_WORKERS)], uint32_t ifindex, bool udp)
{
	struct dp_vtep *vtep = id < DP_MAX_VTEPS ? dp_vtep_get(id) : NULL;
	struct dp_whole *new = NULL, *old;

	if (!vtep)
		return -ENOENT;
	if (ifindex && dp_addr_is4(&vtep->addr) != dp_addr_is4(&dp.config.vtep))
		return -EAFNOSUPPORT;
	if (ifindex) {
		new = way_new(vtep, fds, ifindex, udp);
		if (!new)
			return -ENOMEM;
	}
	old = atomic_exchange_explicit(&vtep->whole, new, memory_order_acq_rel);
	dp_synchronize();
	free(old);
	return 0;
}

const struct dp_whole *
dp_udp_whole_way(const struct dp_frame *f, const struct dp_vtep *to)
{
	const struct dp_whole *way = atomic_load_explicit(&to->whole, memory_order_acquire);

	if (!way || f->vnet.gso_size < SEGMENT_MIN || f->len != f->hdrs.end || !dp_checksum_fits(f) || (f->hdrs.proto == IPPROTO_UDP && !way->udp))
		return NULL;
	return dp_gso_segments(f->data, &f->hdrs, &f->vnet) > 1 ? way : NULL;
}

int
dp_udp_whole_tap(const struct dp_whole *way, const struct dp_worker *w, unsigned source)
{
	return way->fds[DP_GSO_FILES(w->id) + source];
}

/* The kernel adds to these when it has cut the packet up: net/ipv4/udp_offload.c __skb_udp_tunnel_segment(). */
static void
put_ip4(uint8_t *outer, const struct dp_frame *f, uint32_t sum, uint16_t udp_len)
{
	dp_ipv4_hdr *ip = (void *)(outer + DP_ETH_LEN);

	ip->type_of_service = dp_ecn(f);
	ip->total_length = htons(sizeof(*ip) + udp_len);
	ip->hdr_checksum = ~dp_csum_fold((uint64_t)sum + ip->total_length + htons(ip->type_of_service));
}

static void
put_ip6(uint8_t *outer, const struct dp_frame *f, uint32_t sum, uint16_t udp_len)
{
	dp_ipv6_hdr *ip = (void *)(outer + DP_ETH_LEN);
	dp_udp_hdr *udp = (void *)(ip + 1);

	ip->vtc_flow = htonl(DP_IPV6_VERSION | (uint32_t)dp_ecn(f) << RTE_IPV6_HDR_TC_SHIFT);
	ip->payload_len = htons(udp_len);
	udp->dgram_cksum = dp_csum_fold((uint64_t)sum + ip->payload_len);
}

uint32_t
dp_udp_whole_headers(const struct dp_frame *f, const struct dp_whole *way, uint16_t source, uint8_t *at)
{
	const bool is4 = way->outer.is4;
	const uint32_t len = is4 ? DP_OUTER4_LEN : DP_OUTER6_LEN, outer_th = len - DP_VXLAN_LEN - sizeof(dp_udp_hdr);
	const uint16_t udp_len = sizeof(dp_udp_hdr) + DP_VXLAN_LEN + f->len;
	uint8_t *outer = at + sizeof(struct vnet);
	dp_udp_hdr *udp = (void *)(outer + outer_th);
	dp_vxlan_hdr *vxlan = (void *)(udp + 1);
	struct vnet vnet = { .hdr.hdr = f->vnet, .outer_th = outer_th, .inner_nh = len + f->hdrs.l3 };

	vnet.hdr.hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM | (is4 ? 0 : VNET_F_TUNNEL_CSUM);
	vnet.hdr.hdr.gso_type |= is4 ? VNET_GSO_TUNNEL4 : VNET_GSO_TUNNEL6;
	vnet.hdr.hdr.hdr_len = len + f->hdrs.payload;
	vnet.hdr.hdr.csum_start += len;
	memcpy(at, &vnet, sizeof(vnet));
	memcpy(outer, way->outer.bytes, len);
	udp->src_port = source;
	udp->dgram_len = htons(udp_len);
	vxlan->vx_vni = htonl(f->vni << 8);
	if (is4)
		put_ip4(outer, f, way->outer.sum, udp_len);
	else
		put_ip6(outer, f, way->outer.sum, udp_len);
	return sizeof(vnet) + len;
}
