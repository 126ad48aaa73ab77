// SPDX-License-Identifier: Apache-2.0

/*
 * The call table, walked: all orders of what can happen to a call, up to a length of
 * EP_WALK_STEPS. Whatever happens, a caller that does not give up gets one answer, one that
 * gives up gets none, an honest worker is not killed, and nothing is left.
 */
#include "ep_nif_scene.h"

#include <cstdlib>

using namespace nif;

namespace {

/* The longest spin there is: callers poll as long as the test lets them. */
constexpr uint32_t kPollsForEver = UINT32_MAX;

/* What can happen. The last three end a walk. */
enum Step {
    kTake,
    kResult,
    kError,
    kDropped,
    kAsk,
    kUnread, /* a result that nobody looks at yet */
    kPoll,
    kAwait,
    kCollect,
    kAnswer,
    kCancel,
    kDrop,
    kInterrupt,
    kExpire,
    kAttach,
    kUnavailable,
    kDie,
    kKillAfter,
    kClose,
    kSteps
};

const char *const kNames[kSteps] = {"take",        "result", "error",      "dropped", "ask",
                                    "unread",      "poll",   "await",      "collect", "answer",
                                    "cancel",      "drop",   "interrupt",  "expire",  "attach",
                                    "unavailable", "die",    "kill_after", "close"};

bool can(Scene *scene, Step what)
{
    bool alive = scene->is_attached();
    bool has_call = scene->has_call() && !scene->has_answer();

    switch (what) {
    case kTake: return alive && !scene->is_taken() && scene->has_call();
    case kResult:
    case kError:
    case kUnread: return scene->may_end() && !scene->is_marked();
    case kDropped: return scene->may_end() && scene->is_marked();
    case kAsk: return scene->may_ask() && !scene->is_marked();
    case kPoll: return has_call && scene->call().result().is_scheduled();
    case kAwait: return has_call && scene->is_pending();
    case kCollect: return has_call && scene->is_waiting() && scene->is_told();
    case kAnswer:
    case kExpire: return has_call && scene->is_asked();
    case kCancel: return has_call && (scene->is_pending() || scene->is_waiting());
    case kDrop: return has_call;
    case kInterrupt: return alive && has_call;
    case kAttach:
    case kUnavailable: return !alive && !scene->is_closed();
    case kDie:
    case kKillAfter: return alive;
    default: return !scene->is_closed();
    }
}

void take_step(Scene *scene, Step what)
{
    switch (what) {
    case kTake: (void)scene->take(); break;
    case kResult:
    case kUnread: scene->reply(EP_KIND_RESULT); break;
    case kError: scene->reply(EP_KIND_ERROR); break;
    case kDropped: scene->reply(EP_KIND_DROPPED); break;
    case kAsk: scene->ask(); break;
    case kPoll: scene->call().poll(); break;
    case kAwait: scene->await(); break;
    case kCollect: scene->collect(); break;
    case kAnswer: scene->answer(); break;
    case kCancel: (void)scene->cancel(); break;
    case kDrop: scene->drop(); break;
    case kInterrupt: scene->interrupt(); break;
    case kExpire: scene->expire(); break;
    case kAttach: scene->attach(); break;
    case kUnavailable: scene->context().set_unavailable("enoent"); break;
    case kDie: scene->die(); break;
    case kKillAfter: scene->kill_after(); break;
    default: scene->close(); break;
    }
    if (what == kResult || what == kError || what == kDropped || what == kAsk)
        scene->drain();
    if (scene->is_attached() && scene->is_taken())
        scene->listen();
}

class WalkTest : public testing::Test {
protected:
    /* The length of walks; a step more takes about six times as long. */
    static int length()
    {
        const char *steps = getenv("EP_WALK_STEPS");
        return steps == nullptr ? 4 : atoi(steps);
    }

    /* Walks a path anew. Returns what can happen next. */
    std::vector<Step> walk(const std::vector<Step> &path)
    {
        Scene scene(&library_, &launcher_, spin_ns_, flags_);
        std::string text;
        if (is_attached_)
            scene.attach();
        scene.submit();
        for (Step what : path) {
            take_step(&scene, what);
            text += std::string(" ") + kNames[what];
        }
        SCOPED_TRACE("after" + text);
        std::vector<Step> next;
        for (int what = 0; what < kSteps; what++)
            if (can(&scene, static_cast<Step>(what)))
                next.push_back(static_cast<Step>(what));
        end(&scene, !path.empty() && path.back() == kDie);
        EXPECT_EQ("", scene.leave());
        EXPECT_FALSE(scene.is_violated());
        n_walks_++;
        return next;
    }

    /* A death ends every call; only after a deliberate kill some wait for the next worker,
     * as those do that have had none. */
    static void end(Scene *scene, bool has_died)
    {
        if (scene->is_attached()) {
            scene->die();
            has_died = true;
        }
        std::string answer = scene->finish();
        EXPECT_FALSE(has_died && answer == "waits");
        if (answer != "waits")
            return;
        if (!scene->is_closed())
            scene->close();
        EXPECT_NE("waits", scene->finish());
    }

    void explore(std::vector<Step> *path)
    {
        std::vector<Step> next = walk(*path);
        if (static_cast<int>(path->size()) == length())
            return;
        for (Step what : next) {
            if (HasFailure())
                return;
            path->push_back(what);
            explore(path);
            path->pop_back();
        }
    }

    void explore_all()
    {
        std::vector<Step> path;
        explore(&path);
        printf("%zu walks\n", n_walks_);
        EXPECT_LT(100u, n_walks_);
    }

    Library library_;
    Launcher launcher_;
    uint32_t spin_ns_ = 0;
    unsigned flags_ = 0;
    bool is_attached_ = true;
    size_t n_walks_ = 0;
};

TEST_F(WalkTest, EndsEveryCallWhoseCallerParks)
{
    explore_all();
}

TEST_F(WalkTest, EndsEveryCallWhoseCallerPolls)
{
    spin_ns_ = kPollsForEver;
    explore_all();
}

TEST_F(WalkTest, EndsEveryCallThatIsMadeBeforeThereIsAWorker)
{
    is_attached_ = false;
    explore_all();
}

TEST_F(WalkTest, EndsEveryCallThatIsMadeInACallback)
{
    flags_ = Call::kNested;
    explore_all();
}

} // namespace
