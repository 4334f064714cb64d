/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_STAGES_H
#define DP_STAGES_H

/* Where a worker's cycles go, with the name that users read. Every cycle of a turn belongs to one of them; sleep to none. */
#define DP_STAGES(X) \
	X(RECEIVE, receive, "read from the underlay, outer headers off") \
	X(OPEN, open, "decrypted, of encrypted networks") \
	X(DECAP, decap, "VXLAN header off, checks, look-up, handed to the port or to merging") \
	X(DELIVER, deliver, "merged frames written to containers") \
	X(READ, read, "read from containers") \
	X(ENCAP, encap, "checks, look-up, VXLAN header on, or handed to a port") \
	X(SEND, send, "what the burst has queued is sent") \
	X(POLL, poll, "for events, and at devices that had nothing")

enum dp_stage {
#define X(id, name, help) DP_STAGE_##id,
	DP_STAGES(X)
#undef X
		DP_STAGE_COUNT,
};

#endif
