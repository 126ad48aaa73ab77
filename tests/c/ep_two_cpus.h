// SPDX-License-Identifier: Apache-2.0
#ifndef EP_TWO_CPUS_H
#define EP_TWO_CPUS_H

// ep_two_cpus - tests of what two threads do at the same time: where they run, and how often
// they try.

#include <cstdint>
#include <sched.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kScale = 4;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
constexpr uint64_t kScale = 4;
#else
constexpr uint64_t kScale = 1;
#endif
#else
constexpr uint64_t kScale = 1;
#endif

// Keeps two threads on two CPUs, where there are two: the tests are about what
// happens at the same time, and the kernel likes to put friends on one CPU.
class TwoCpus {
public:
    TwoCpus()
    {
        CPU_ZERO(&before_);
        (void)sched_getaffinity(0, sizeof(before_), &before_);
        Pin(0);
    }

    ~TwoCpus()
    {
        (void)sched_setaffinity(0, sizeof(before_), &before_);
    }

    // Called by the second thread.
    void PinOther() const
    {
        Pin(1);
    }

private:
    void Pin(int which) const
    {
        cpu_set_t one;
        CPU_ZERO(&one);
        for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&before_) > 1; cpu++) {
            if (CPU_ISSET(cpu, &before_) && which-- == 0)
                CPU_SET(cpu, &one);
        }
        if (CPU_COUNT(&one) == 1)
            (void)sched_setaffinity(0, sizeof(one), &one);
    }

    cpu_set_t before_;
};

#endif
