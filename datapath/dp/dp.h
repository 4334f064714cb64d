/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_H
#define DP_H

/*
 * The wall between Go and the pipeline. Values and C memory cross it, never a Go pointer that C keeps.
 * Calls that change something are made by one thread at a time; the counters may be read at any time but while a device closes.
 * Functions return 0 or a count, or a negative errno.
 */
#include <stdbool.h>
#include <stdint.h>

#include "pure_drops.h"
#include "pure_stages.h"

#define DP_MAX_WORKERS 16
#define DP_MAX_PORTS 4096
#define DP_MAX_VTEPS 4096
#define DP_MAX_NETS 4096
#define DP_MAX_MACS (1 << 17) /* with one for each network */
/* An endpoint has two addresses and a link-local one. */
#define DP_MAX_NEIGHBOURS (3 * DP_MAX_MACS)
#define DP_MAX_DEVICES 32
/* Source ports a worker has for each family: what spreads flows over paths and queues (RFC 7348 section 5). */
#define DP_UDP_SOURCES 8
#define DP_ERR_LEN 256
/* Longest frame that a port takes, Ethernet header included. */
#define DP_FRAME_MAX 65470

/* An IP address of either family; IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2), in network order. */
struct dp_addr {
	uint8_t b[16];
};

struct dp_config {
	unsigned n_workers;
	unsigned cpus[DP_MAX_WORKERS];
	struct dp_addr vtep; /* outer source */
	uint16_t port;       /* UDP, host order */
	bool hugepages;      /* use them: enough are free */
	uint32_t eth_mbufs;  /* packet buffers for devices, of which each keeps what its rings hold; 0: no devices */
	const char *pci;     /* devargs of the one PCI device that DPDK may take; NULL: none. Read by dp_start alone */
	int claims_fd;       /* eventfd(2), written to when there are claims to take; the caller's */
	int log_fd;          /* EAL's log is written there, a line each behind its level (RTE_LOG_ERR...); owned by the pipeline */
};

/* Starts EAL on a thread of its own and a worker on each CPU. Once in a process. err takes a line of text. */
int dp_start(const struct dp_config *config, char err[DP_ERR_LEN]);
void dp_stop(void);
/* Bytes of packet and table memory that n_workers need. */
uint64_t dp_memory(unsigned n_workers, uint32_t eth_mbufs);

/*
 * dp_tap_open makes the persistent tap `name` in the caller's network namespace, or attaches to the one that exists,
 * with a queue for each worker: fds[0..n_queues-1], all the same one when it was made for one worker.
 * IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, and IFF_MULTI_QUEUE for several, linux/if_tun.h.
 */
int dp_tap_open(const char *name, unsigned n_queues, int *fds);
/* Closes the queues; the tap itself goes too unless keep is set. */
void dp_tap_close(unsigned n_queues, const int *fds, bool keep);

/*
 * A DPDK ethdev by its devargs (`net_memif0,...`, `net_af_xdp0,...`): a queue for each worker. Returns the device's number,
 * also when it does not start: it is down.
 * -ENODEV: no such device, or its driver refused; EAL's log says why. -ENOTSUP: too few queues, or no packet buffers.
 */
int dp_device_open(const char *devargs);
/*
 * Stops the device and starts it again, unless its link is up: a memif client finds its peer no other way. One that does not
 * start stays down until the next call.
 */
int dp_device_restart(uint32_t device);
/* -EBUSY while a port or a VTEP's next hop uses it. */
int dp_device_close(uint32_t device);

struct dp_device_info {
	char driver[32];
	uint8_t mac[6];
	uint16_t mtu;     /* bytes of outer IP packet */
	bool up;          /* started */
	uint32_t ifindex; /* of the kernel's interface that it shares; 0: it is ours alone */
	/* What it does itself: checksums of what is sent and of what is received, cutting up of TCP super-frames. */
	bool tx_csum, rx_csum, tso;
};

int dp_device_info(uint32_t device, struct dp_device_info *info);
/* From then on VXLAN is taken from the device. -EBUSY: it is a port. */
int dp_device_underlay(uint32_t device);
/*
 * A tap's queues through which the kernel uses a device that is ours alone: what comes from the device and is not VXLAN goes to the
 * tap (ARP, neighbour discovery, ICMP, whatever the host speaks itself), and what comes from the tap leaves through the device.
 * Returns the number for dp_port_del, which ends it.
 */
int dp_device_host(uint32_t device, const int fds[DP_MAX_WORKERS]);
/* The sockets take no VXLAN that arrives on an interface in our VTEP's family: a device has a copy of it. */
int dp_udp_ignore(uint32_t ifindex);
/* Sends from another VTEP address of this host from now on. Where no device is the underlay. -EAFNOSUPPORT: it is of another family. */
int dp_udp_move(struct dp_addr vtep);

/* What a port's container may send from beside its own MAC and addresses, and what the tables give it: nothing that is another port's. */
enum dp_trust {
	DP_TRUST_NONE,
	DP_TRUST_ADDRESS, /* any IP address */
	DP_TRUST_MAC,     /* and any MAC */
};

/* How a container's program and workers share rings. */
enum dp_rings {
	DP_RINGS_NONE,
	DP_RINGS_VHOST, /* see dp_vhost_start */
	DP_RINGS_MEMIF, /* see dp_memif_start */
};

struct dp_port_config {
	uint32_t vni;
	uint16_t mtu; /* of the container's interface, in bytes of IP packet */
	enum dp_trust trust;
	uint8_t mac[6];
	bool has_ip4, has_ip6;
	struct dp_addr ip4, ip6;
	bool has_device; /* the port is an ethdev, which nothing else uses */
	uint32_t device;
	enum dp_rings rings;     /* or has some that are shared with the container */
	int fds[DP_MAX_WORKERS]; /* else: a queue for each worker, non-blocking, frames behind a struct virtio_net_hdr */
};

/* Returns the port's number. The pipeline reads and writes the queues until dp_port_del returns; the caller closes them. */
int dp_port_add(const struct dp_port_config *config);
int dp_port_del(uint32_t port);

/*
 * Rings that are shared with a container. A file of memory, a memfd or one of a tmpfs or hugetlbfs, is mapped; the container may take
 * pages away from under the mapping, and what reads there then finds zeros. -EINVAL: the file is of another kind, or is shorter than len.
 */
int dp_shared_map(int fd, uint64_t len, uint64_t *host);
void dp_shared_unmap(uint64_t host);
/* Workers read and write a port's rings from the start of its kind, below, until this returns: the memory may go then. */
void dp_shared_stop(uint32_t port);
/* Why the rings are not looked at any more: what the container wrote there, or has done with its memory; NULL: they are. */
const char *dp_shared_fault(uint32_t port);

/* Features of virtio-net that a vhost-user port has, of those that bits of VIRTIO_F_ and VIRTIO_NET_F_ name (virtio 1.2 section 5.1.3). */
extern const uint64_t dp_vhost_features;
#define DP_SHARED_REGIONS 8

/* A virtqueue by addresses in this process, at which the container's memory was mapped: it lies wholly in one region. */
struct dp_vhost_ring {
	uint64_t desc, avail, used;
	uint16_t size; /* a power of two */
};

struct dp_vhost_config {
	uint64_t features; /* that the container has accepted */
	unsigned n_regions;
	struct {
		uint64_t guest, len, host; /* where descriptors say that it is, bytes, where it was mapped */
	} regions[DP_SHARED_REGIONS];
	struct dp_vhost_ring from, to; /* filled by the container, and by us */
	int kick;                      /* eventfd(2) by which the container tells of something in `from` */
	int bell;                      /* eventfd, non-blocking: the container wants to be woken up, or dp_shared_fault has something to say */
};

/* Called beside other calls, but for one port by one thread at a time. -EBUSY: they are in use already. */
int dp_vhost_start(uint32_t port, const struct dp_vhost_config *config);
/* Where a ring goes on, by what the container knows. */
uint16_t dp_vhost_index(const struct dp_vhost_ring *ring);

#define DP_MEMIF_LOG2_MIN 6 /* of a ring's slots: the longest frame fits */
#define DP_MEMIF_LOG2_MAX 10

/* A memif's memory has both rings and all buffers: its length, and where a ring begins that is filled by the container, or by us. */
uint64_t dp_memif_len(unsigned log2);
uint32_t dp_memif_ring(unsigned log2, bool from);
/* Lays out the memory, which was mapped at host, for a container that has not seen it yet. */
void dp_memif_format(uint64_t host, unsigned log2);

struct dp_memif_config {
	uint64_t host; /* where the memory was mapped */
	unsigned log2;
	int kick, bell; /* as in struct dp_vhost_config */
};

/* Called as dp_vhost_start, when the container has said that it is connected. */
int dp_memif_start(uint32_t port, const struct dp_memif_config *config);

/* A network with its flood list, empty at first. Encrypted: its packets are ESP on the underlay, and no others are taken. -EEXIST: it is there, and otherwise. */
int dp_net_add(uint32_t vni, bool encrypted);
int dp_net_del(uint32_t vni);
/* Replaces the network's flood list: the ports and VTEPs that take part in it. */
int dp_net_flood(uint32_t vni, const uint32_t *ports, unsigned n_ports, const uint32_t *vteps, unsigned n_vteps);

/* Returns the VTEP's number. */
int dp_vtep_add(struct dp_addr addr, uint16_t port);
int dp_vtep_del(uint32_t vtep);
/*
 * From then on packets to the VTEP leave through the device, for the Ethernet address mac; before, the kernel sends them.
 * -EAFNOSUPPORT: the VTEP's address is of another family than our own. -EBUSY: the device is a port.
 */
int dp_vtep_next_hop(uint32_t vtep, uint32_t device, const uint8_t mac[6]);
/* From then on the kernel sends them. */
int dp_vtep_by_kernel(uint32_t vtep);

/* Files of a tap for super-frames: as with sockets each worker has one for each source port, so that a full one stops no other. */
#define DP_GSO_FILES(workers) (DP_UDP_SOURCES * (workers))
/*
 * A tap that takes super-frames inside of VXLAN (TUN_F_UDP_TUNNEL_GSO), and lives as long as its DP_GSO_FILES(n_workers) files. What is
 * written to one has the number of the interface by which it is to leave in the last four bytes of its Ethernet source, in network
 * order. It has no carrier, so that nobody speaks on it. name, of IFNAMSIZ bytes, is a pattern at first, then the tap's name.
 * -EINVAL: a kernel before Linux 6.17.
 */
int dp_gso_tap_open(char *name, unsigned n_workers, int *fds);
void dp_gso_tap_close(unsigned n_workers, const int *fds);
/*
 * From then on super-frames of TCP, and with udp those of UDP as well, go to the VTEP in one piece, through such a tap and by the
 * interface; 0: no more. -EAFNOSUPPORT: the VTEP's address is of another family than our own.
 */
int dp_vtep_whole(uint32_t vtep, const int fds[DP_GSO_FILES(DP_MAX_WORKERS)], uint32_t ifindex, bool udp);

/*
 * From then on packets to the VTEP of more than mtu bytes of outer IP packet are not sent: their senders are told by ICMP, or they
 * are fragmented, or dropped. Before, all are sent.
 */
int dp_vtep_mtu(uint32_t vtep, uint32_t mtu);
/*
 * All VTEPs to which the kernel has refused packets that are not too long since the last call; how many. An eventfd (2), which is
 * the pipeline's, becomes readable when there are new ones: nobody hears again of one that is left out.
 */
unsigned dp_vtep_doubts(uint32_t vteps[DP_MAX_VTEPS]);
int dp_vtep_doubts_fd(void);

#define DP_SAS_IN 64               /* of a VTEP, with those of others that share its address */
#define DP_SA_PACKETS (1ull << 34) /* that are sent under one key at most */

/* A security association (RFC 4301 section 4.1) for ESP with AES-GCM (RFC 4303, 4106) and extended sequence numbers. */
struct dp_sa_config {
	uint32_t spi;       /* from 256 on (RFC 4303 section 2.1), without DP_ESP_VXLAN_BIT */
	const uint8_t *key; /* 16 or 32 bytes */
	unsigned key_len;
	uint8_t salt[4];
};

/* SPIs lack this bit, which a VXLAN header has: the I flag of RFC 7348 section 5. So packets of both kinds go to one UDP port. */
#define DP_ESP_VXLAN_BIT 0x08000000

/*
 * Returns the SA's number. locked: its memory is never swapped. It sends or receives, once it is one of a VTEP's. The same key is never
 * to be given twice for sending: packets would be encrypted with numbers that others had. -ENOTSUP: not on this CPU.
 */
int dp_sa_add(const struct dp_sa_config *config, bool *locked);
/* Wipes it. It must be none of a VTEP's. */
void dp_sa_del(uint32_t sa);
/* That were sent under it, or received. */
uint64_t dp_sa_packets(uint32_t sa);
/* Whether it takes, in ESP, TCP and UDP checksums that were left to a card and never computed: the ICV vouches for the packet. At first it does not. */
int dp_vtep_partial(uint32_t vtep, bool takes);
/* Replaces a VTEP's SAs; out is NULL where there is none. No worker has others any more when this returns. */
int dp_vtep_sas(uint32_t vtep, const uint32_t *out, const uint32_t *in, unsigned n_in);

int dp_fdb_set_vtep(uint32_t vni, const uint8_t mac[6], uint32_t vtep);
int dp_fdb_set_port(uint32_t vni, const uint8_t mac[6], uint32_t port);
int dp_fdb_del(uint32_t vni, const uint8_t mac[6]);
/* Extra: no port's own, so that who is trusted may claim it. */
int dp_neigh_set(uint32_t vni, struct dp_addr addr, const uint8_t mac[6], bool extra);
int dp_neigh_del(uint32_t vni, struct dp_addr addr);

/*
 * An address that the container on a trusted port says it has, at a MAC: by ARP or neighbour discovery. Who says it again and again
 * is heard again and again.
 */
struct dp_claim {
	uint32_t port;
	uint8_t mac[6];
	struct dp_addr addr;
};

#define DP_CLAIMS_TAKEN 256 /* at once, by Go */

/* Takes up to n of the claims that were made; returns how many. */
unsigned dp_claims_take(struct dp_claim *claims, unsigned n);
/* Source of the control plane's own requests, whose answers are claims. */
extern const uint8_t dp_prober[6];

/* Waits until no worker holds anything that was taken out of a table before. */
void dp_synchronize(void);

struct dp_traffic {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
	uint64_t trusted; /* of those received on a port: from a source that is not its own */
};

/* Where a worker's bursts come from. */
enum dp_origin {
	DP_ORIGIN_PORTS,
	DP_ORIGIN_UNDERLAY,
	DP_ORIGIN_COUNT,
};

#define DP_BURST_SIZES 7 /* up to 1, 2, 4 ... 64 packets */

/* Bursts that went through the pipeline. */
struct dp_bursts {
	uint64_t packets;               /* of all */
	uint64_t sizes[DP_BURST_SIZES]; /* how many bursts were of so many packets, and more than the next smaller size */
};

struct dp_stats {
	uint32_t mbufs_in_use, mbufs_total;
	struct dp_traffic underlay;
	uint64_t whole; /* super-frames that left as such */
	uint64_t drops[DP_DROP_COUNT];
	uint64_t cpu_ns[DP_MAX_WORKERS];   /* that each worker has run */
	double queue_fill[DP_MAX_WORKERS]; /* of what each worker has to read from the underlay by sockets, from 0 to 1 */
	uint64_t rests[DP_MAX_WORKERS];    /* of each worker: worker_moderation.c */
	struct dp_bursts bursts[DP_MAX_WORKERS][DP_ORIGIN_COUNT];
};

void dp_stats(struct dp_stats *stats);

/* Wakes a worker, and says whether it has taken the wake before. One that has not for some seconds does not run. */
bool dp_worker_answers(unsigned worker);

/* Points of a packet's way at which it can be captured. */
enum dp_point {
	DP_POINT_READ,      /* from a container */
	DP_POINT_SENT,      /* to a VTEP: not yet cut up nor encrypted */
	DP_POINT_RECEIVED,  /* from a VTEP: decrypted, not yet merged with others */
	DP_POINT_DELIVERED, /* to a container, whose interface may still refuse it: a drop follows then */
	DP_POINT_DROPPED,
	DP_POINT_COUNT,
};

#define DP_CAPTURES 8 /* at a time */

struct dp_capture_config {
	uint32_t vni; /* 0: of all networks */
	bool has_mac, has_vtep;
	bool opaque;         /* also drops of which no frame can be looked at, such as what does not decrypt: of any network */
	uint8_t mac[6];      /* of a container: what is from it and for it */
	struct dp_addr vtep; /* at the points that know one: what is from it and for it */
	uint32_t points;     /* a bit for each */
	uint32_t sample;     /* one packet in so many, the same ones on every host; 1: all */
	uint32_t snap;       /* bytes of a packet that are kept */
	uint32_t room;       /* bytes that wait to be taken, of each worker; a power of two from DP_CAPTURE_ROOM_MIN on */
	bool headers;        /* the filter is to see headers alone: what it asks of bytes behind them does not match */
	const char *filter;  /* of the frame: pcap-filter(7); empty: all */
};

/* Two records of the longest frames. */
#define DP_CAPTURE_ROOM_MIN (1 << 18)

struct dp_captured_start {
	uint32_t size; /* of the record, in bytes: a multiple of 8 */
	uint16_t point;
	uint16_t drop; /* at DP_POINT_DROPPED */
};

/* A record: this, and `kept` bytes of the packet. */
struct dp_captured {
	struct dp_captured_start start;
	int64_t time; /* nanoseconds since 1970 by the host's clock, once it is taken */
	uint32_t len; /* of the frame, Ethernet header included */
	uint32_t kept;
	uint32_t vni;
	uint16_t gso_size;   /* of a super-frame; 0: none, or not known */
	uint16_t vtep_port;  /* host order */
	struct dp_addr vtep; /* to or from which; 0: the point knows none */
	uint8_t mac[6];      /* of the port; 0: likewise */
	bool encrypted;      /* on the underlay */
	bool payload;        /* what came in UDP holds no frame that can be looked at, and is kept as it is */
};

/*
 * Makes a capture that does nothing yet, beside all other calls: it may take a while. NULL: err has a line of text, the filter is wrong or there
 * is no memory.
 */
struct dp_capture *dp_capture_new(const struct dp_capture_config *config, char err[DP_ERR_LEN]);
void dp_capture_free(struct dp_capture *capture);
/* Starts it, and owns it from then on; returns a number. -EBUSY: all are in use. */
int dp_capture_start(struct dp_capture *capture);
/* Takes whole records of a worker, as many as fit; how many bytes. `to` has room for DP_CAPTURE_ROOM_MIN at least. */
uint32_t dp_capture_take(unsigned number, unsigned worker, void *to, uint32_t len);
/* Packets that found no room since the start. */
uint64_t dp_capture_lost(unsigned number);
/* Frees it; the number may be used again then. */
void dp_capture_stop(unsigned number);

struct dp_stage_sum {
	uint64_t cycles, packets;
};

/* Workers count cycles from their next turn on, or no longer. dp_stages adds up all that were ever counted. */
void dp_stages_measure(bool on);
void dp_stages(struct dp_stage_sum sums[DP_STAGE_COUNT]);
uint64_t dp_cycles_hz(void);
const char *dp_stage_name(unsigned stage);
const char *dp_stage_help(unsigned stage);
/* Frames as the device itself counts them. */
int dp_device_stats(uint32_t device, struct dp_traffic *traffic);
int dp_port_stats(uint32_t port, struct dp_traffic *traffic, uint64_t drops[DP_DROP_COUNT]);
/* VXLAN packets, as UDP payload: from the VTEP, whether or not they were taken then, and to it. */
int dp_vtep_stats(uint32_t vtep, struct dp_traffic *traffic);
const char *dp_drop_name(unsigned drop);
const char *dp_drop_help(unsigned drop);

#endif
