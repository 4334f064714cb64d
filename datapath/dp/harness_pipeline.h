/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_HARNESS_PIPELINE_H
#define DP_HARNESS_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

struct dp_worker *dp_harness_worker(void);
/*
 * One frame from a port, virtio-net header first, or one datagram from a VTEP, in memory of its exact size. The kernel tells that
 * its segments have so many bytes; 0: it tells nothing.
 */
void dp_harness_encap(uint32_t port, const uint8_t *bytes, uint32_t len);
void dp_harness_decap(uint32_t vtep, uint8_t tos, uint32_t size, const uint8_t *bytes, uint32_t len);
/* Has what follows captured, and looks at what was. */
void dp_harness_capture(const char *filter, uint32_t sample);
/* Whether taps take UDP super-frames. */
void dp_harness_uso(bool taken);
/* Frames that a port gets read in a turn; they are left at that. Beside it others are ready, that are normal. */
uint32_t dp_harness_turn(uint32_t port, uint32_t normal);
/* Has the ports served that are ready; how many frames the first one gets read. */
uint32_t dp_harness_serve(const uint32_t *ports, uint32_t n);
/* Flooding ports are to pause for so long, if others had work for the worker, and as long as they still have. */
void dp_harness_throttle(bool contended, bool still, uint64_t us);
/* Has the running worker take the port for flooding, and others for busy; whether the port pauses there. */
void dp_harness_flood(uint32_t port);
bool dp_harness_masked(uint32_t port);
/* What is left of a pause after others had so much of a window, a flooding port a turn, and some time has passed; microseconds. */
uint32_t dp_harness_throttle_after(uint32_t normal_us, uint32_t turn_us, uint32_t then_us);
/* A read of the underlay, after which there is more, and perhaps a full queue; cycles held against a source; whether it must wait. */
void dp_harness_settle(bool more, bool full);
void dp_harness_forget(void);
/* After some time a read of the underlay leaves a queue that is so full. A packet of so much work comes: whether it is dropped. */
void dp_harness_standing(double fill, uint64_t us);
bool dp_harness_stands(uint64_t mac, bool udp, uint64_t work);
void dp_harness_charge(uint64_t mac, uint64_t us);
bool dp_harness_over(uint64_t mac);
/* As if the kernel had refused UDP_SEGMENT on the way to the VTEP, or had not. */
void dp_harness_one_by_one(uint32_t vtep, bool refused);
/* As if the kernel had refused a packet on the way to the VTEP. */
void dp_harness_doubt(uint32_t vtep);
/* All drops that the two have counted, and all packets sent to the underlay. */
uint64_t dp_harness_drops(void);
uint64_t dp_harness_sent(void);

#endif
