// SPDX-License-Identifier: Apache-2.0
#ifndef EP_TEST_LANE_H
#define EP_TEST_LANE_H

#include "ep_lane.h"
#include "ep_seg.h"

#include <fcntl.h>
#include <stdexcept>
#include <unistd.h>

// Both segments of a worker, mapped by both sides as the two processes do, with
// one lane attached from either side.
//
// kTwo is the real thing: each side has mappings of its own, the peer's segment
// read-only. ThreadSanitizer takes two mappings for two memories, so races hide
// from it; kOne lets both sides use the same addresses.
class LanePair {
public:
    enum Mapping { kTwo, kOne };

    explicit LanePair(Mapping mapping = kTwo, uint32_t lanes = 2, uint32_t index = 1)
    {
        ep_layout_header header;
        ep_layout_init(&header, lanes);
        Must(ep_seg_create_own(&a, header.size_a, 0) == 0);
        Must(ep_seg_create_peer(&b, header.size_b) == 0);
        Must(ep_seg_create_slabs(&c, ep_layout_size_c(lanes)) == 0);
        *static_cast<ep_layout_header *>(a.mem) = header;

        Must(ep_seg_open(&worker_a, Duplicate(a.fd), false) == 0);
        Must(ep_seg_open(&worker_b, Duplicate(b.fd), true) == 0);
        Must(ep_seg_open(&worker_c, Duplicate(c.fd), false) == 0);
        Must(ep_layout_check(worker_a.mem, worker_a.size, worker_b.size, worker_c.size) == 0);

        ep_lane_vm_attach(&vm, a.mem, mapping == kTwo ? b.mem : worker_b.mem, c.mem, lanes, index);
        ep_lane_worker_attach(&worker, mapping == kTwo ? worker_a.mem : a.mem, worker_b.mem,
                              mapping == kTwo ? worker_c.mem : c.mem, lanes, index);
    }

    ~LanePair()
    {
        ep_lane_vm_finish(&vm);
        ep_lane_worker_finish(&worker);
        for (ep_seg *seg : {&a, &b, &c, &worker_a, &worker_b, &worker_c})
            ep_seg_finish(seg);
    }

    LanePair(const LanePair &) = delete;
    LanePair &operator=(const LanePair &) = delete;

    ep_seg a = {}, b = {}, c = {};                      // as the VM maps them
    ep_seg worker_a = {}, worker_b = {}, worker_c = {}; // as the worker does
    ep_lane_vm vm = {};
    ep_lane_worker worker = {};

    static int Duplicate(int fd)
    {
        return fcntl(fd, F_DUPFD_CLOEXEC, 3);
    }

private:
    static void Must(bool good)
    {
        if (!good)
            throw std::runtime_error("cannot make the segments of a test");
    }
};

#endif
