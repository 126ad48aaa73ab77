// SPDX-License-Identifier: Apache-2.0

/*
 * What ends a call at once, where later ends would hide that it did not: tests/model/mutants.sh
 * takes each step away.
 */
#include "ep_nif_scene.h"

using namespace nif;

namespace {

class EndsTest : public testing::Test {
protected:
    EndsTest() : scene_(&library_, &launcher_)
    {
    }

    void SetUp() override
    {
        scene_.attach();
        scene_.submit();
        ASSERT_TRUE(scene_.take());
    }

    void TearDown() override
    {
        EXPECT_EQ("", scene_.leave());
    }

    Library library_;
    Launcher launcher_;
    Scene scene_;
};

TEST_F(EndsTest, FreesACallWhoseWorkerDiedBeforeItsCallbackWhenItsCallerGoes)
{
    scene_.ask();
    scene_.drain();
    scene_.die();
    ASSERT_EQ("DONE", scene_.call().state());
    unsigned before = scene_.context().open_calls();
    scene_.drop();
    EXPECT_EQ(before - 1, scene_.context().open_calls());
    EXPECT_EQ(0u, scene_.context().parked());
}

TEST_F(EndsTest, InterruptsACallThatAsksWhenItsCallerHasGone)
{
    scene_.drop();
    while (scene_.worker().take(1, true)) { /* the interrupt of a call that runs */
    }
    scene_.ask();
    scene_.drain();
    std::optional<Request> request = scene_.worker().take(1, true);
    ASSERT_TRUE(request.has_value());
    EXPECT_EQ(EP_KIND_CANCEL, request->kind);
    EXPECT_EQ(scene_.id(), request->call_id);
    EXPECT_FALSE(scene_.is_violated());
}

TEST_F(EndsTest, DeliversWhatTheWorkerHadPublishedWhenItDied)
{
    scene_.reply(EP_KIND_RESULT);
    scene_.die();
    EXPECT_EQ("{ok,7}", scene_.finish());
}

TEST_F(EndsTest, TakesASecondReplyToAClosedContextForALie)
{
    scene_.close();
    scene_.reply(EP_KIND_RESULT);
    for (int calls = 0; calls < 3; calls++) /* that of the caller beside, and one too many */
        scene_.say(EP_KIND_RESULT);
    scene_.die();
    EXPECT_TRUE(scene_.is_violated());
}

} // namespace
