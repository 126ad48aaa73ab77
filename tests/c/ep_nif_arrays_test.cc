/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays in the VM: many processes at once take, claim, drop and make them, and die. */
#include "ep_nif_arrays.h"
#include "fake_erl_nif.h"

#include <gtest/gtest.h>

namespace {

class ep_nif_arrays : public ::testing::Test {
protected:
    static void SetUpTestSuite()
    {
        fake_set_threads(FAKE_THREADS_HELD);
        fake_load();
    }
};

TEST_F(ep_nif_arrays, is_exact_when_threads_pass_arrays_and_processes_die)
{
    EXPECT_STREQ(nullptr, arrays_stress(4, 5));
    EXPECT_EQ(0u, arrays_left());
}

TEST_F(ep_nif_arrays, stays_within_its_limit)
{
    EXPECT_STREQ(nullptr, arrays_limit());
    EXPECT_EQ(0u, arrays_left());
}

} // namespace
