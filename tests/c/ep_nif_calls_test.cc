// SPDX-License-Identifier: Apache-2.0

/*
 * The call table, state by state: what each event makes of a call, what its caller gets
 * when the worker has died after it, and which messages of a worker are lies.
 */
#include "ep_nif_scene.h"

#include <algorithm>
#include <functional>
#include <map>

using namespace nif;

namespace {

constexpr uint32_t kPollsForEver = UINT32_MAX;
constexpr uint64_t kForgedGeneration = UINT64_C(1) << 40;

struct Row {
    const char *state; /* of the call, see make() */
    const char *event;
    const char *then;    /* its state after the event */
    const char *answer;  /* a part of what the caller gets in the end */
    const char *verdict; /* "lie": the worker is killed for it */
};

const char *const kFine = "";
const char *const kLie = "lie";

const Row kRows[] = {
    {"queued", "attach", "PARKED", "worker_died", kFine},
    {"queued", "close", "DONE", "context_died", kFine},
    {"queued", "unavailable", "DONE", "worker_unavailable", kFine},
    {"queued", "cancel", "none", "cancelled", kFine},
    {"queued", "drop", "none", "cancelled", kFine},

    {"polling", "result", "DONE", "{ok,7}", kFine},
    {"polling", "error", "DONE", "'KeyError'", kFine},
    {"polling", "ask", "DONE", "worker_died", kFine},
    {"polling", "die", "DONE", "worker_died", kFine},
    {"polling", "kill_after", "DONE", "worker_died", kFine},
    {"polling", "close", "DONE", "context_died", kFine},
    {"polling", "drop", "none", "cancelled", kFine},
    {"polling", "started", "SPINNING", "protocol_violation", kLie},

    {"parked", "result", "DONE", "{ok,7}", kFine},
    {"parked", "error", "DONE", "'KeyError'", kFine},
    {"parked", "ask", "DONE", "worker_died", kFine},
    {"parked", "await", "WAITING", "worker_died", kFine},
    {"parked", "interrupt", "PARKED", "worker_died", kFine},
    {"parked", "die", "DONE", "worker_died", kFine},
    {"parked", "kill_after", "DONE", "worker_died", kFine},
    {"parked", "close", "DONE", "context_died", kFine},
    {"parked", "cancel", "none", "cancelled", kFine},
    {"parked", "drop", "none", "cancelled", kFine},
    {"parked", "forge", "PARKED", "protocol_violation", kLie},

    {"waiting", "result", "DONE", "{ok,7}", kFine},
    {"waiting", "error", "DONE", "'KeyError'", kFine},
    {"waiting", "ask", "DONE", "worker_died", kFine},
    {"waiting", "die", "DONE", "worker_died", kFine},
    {"waiting", "kill_after", "DONE", "worker_died", kFine},
    {"waiting", "close", "DONE", "context_died", kFine},
    {"waiting", "cancel", "none", "cancelled", kFine},
    {"waiting", "drop", "none", "cancelled", kFine},

    /* A callback that the caller runs. */
    {"asked", "result", "DONE", "{ok,7}", kFine},
    {"asked", "error", "DONE", "'KeyError'", kFine},
    {"asked", "ask", "BUSY", "protocol_violation", kLie},
    {"asked", "answer", "PARKED", "worker_died", kFine},
    {"asked", "expire", "BUSY", "timeout", kFine},
    {"asked", "die", "DONE", "worker_died", kFine},
    {"asked", "kill_after", "DONE", "worker_died", kFine},
    {"asked", "close", "DONE", "context_died", kFine},
    {"asked", "drop", "none", "cancelled", kFine},

    /* One that the caller has not collected. */
    {"told", "result", "DONE", "protocol_violation", kLie},
    {"told", "ask", "DONE", "protocol_violation", kLie},
    {"told", "die", "DONE", "worker_died", kFine},
    {"told", "kill_after", "DONE", "worker_died", kFine},
    {"told", "close", "DONE", "context_died", kFine},
    {"told", "collect", "BUSY", "worker_died", kFine},
    {"told", "cancel", "DONE", "worker_died", kFine},
    {"told", "drop", "none", "cancelled", kFine},
    {"told and interrupted", "result", "OVERTAKEN", "{ok,7}", kFine},
    {"told and interrupted", "ask", "DONE", "worker_died", kFine},

    {"done", "result", "DONE", "{ok,7}", kLie},
    {"done", "error", "DONE", "{ok,7}", kLie},
    {"done", "dropped", "DONE", "{ok,7}", kLie},
    {"done", "ask", "DONE", "{ok,7}", kLie},
    {"done", "die", "DONE", "{ok,7}", kFine},
    {"done", "kill_after", "DONE", "{ok,7}", kFine},
    {"done", "close", "DONE", "{ok,7}", kFine},
    {"done", "drop", "none", "cancelled", kFine},

    {"given up", "result", "none", "cancelled", kFine},
    {"given up", "error", "none", "cancelled", kFine},
    {"given up", "ask", "none", "cancelled", kFine},
    {"given up", "die", "none", "cancelled", kFine},
    {"given up", "kill_after", "none", "cancelled", kFine},
    {"given up", "close", "none", "cancelled", kFine},
    {"given up in a callback", "result", "none", "cancelled", kFine},
    {"given up in a callback", "die", "none", "cancelled", kFine},
    {"given up in a callback", "close", "none", "cancelled", kFine},

    {"ended", "result", "none", "{ok,7}", kLie},
    {"ended", "error", "none", "{ok,7}", kLie},
    {"ended", "ask", "none", "{ok,7}", kLie},
    {"ended", "forge", "none", "{ok,7}", kLie},
    {"ended", "die", "none", "{ok,7}", kFine},
    {"ended", "close", "none", "{ok,7}", kFine},
};

class CallTableTest : public testing::Test {
protected:
    /* Brings a call into a state. */
    void make(Scene *scene, const std::string &state)
    {
        if (state == "queued") {
            scene->submit();
            return;
        }
        scene->attach();
        scene->submit();
        must(scene->take(), "the call is not in the ring");
        if (state == "waiting" || state == "told" || state == "told and interrupted"
            || state == "given up")
            scene->await();
        if (state == "asked" || state == "told" || state == "told and interrupted"
            || state == "given up in a callback")
            say(scene, EP_KIND_CALLBACK);
        if (state == "asked" || state == "given up in a callback")
            scene->await();
        if (state == "told and interrupted")
            scene->interrupt();
        if (state == "done" || state == "ended")
            say(scene, EP_KIND_RESULT);
        if (state == "ended")
            scene->await();
        if (state == "given up")
            must(scene->cancel(), "the call is not given up");
        if (state == "given up in a callback")
            scene->drop();
    }

    static void say(Scene *scene, ep_kind kind)
    {
        scene->say(kind);
        scene->drain();
    }

    void happen(Scene *scene, const std::string &event)
    {
        static const std::map<std::string, std::function<void(Scene *)>> events = {
            {"attach", [](Scene *s) { s->attach(); }},
            {"close", [](Scene *s) { s->close(); }},
            {"unavailable", [](Scene *s) { s->context().set_unavailable("enoent"); }},
            {"cancel", [](Scene *s) { (void)s->cancel(); }},
            {"drop", [](Scene *s) { s->drop(); }},
            {"result", [](Scene *s) { say(s, EP_KIND_RESULT); }},
            {"error", [](Scene *s) { say(s, EP_KIND_ERROR); }},
            {"dropped", [](Scene *s) { say(s, EP_KIND_DROPPED); }},
            {"ask", [](Scene *s) { say(s, EP_KIND_CALLBACK); }},
            {"started", [](Scene *s) { say(s, EP_KIND_STARTED); }},
            {"forge",
             [](Scene *s) {
                 s->say_of(s->id() + kForgedGeneration, EP_KIND_RESULT);
                 s->drain();
             }},
            {"await", [](Scene *s) { s->await(); }},
            {"collect", [](Scene *s) { s->collect(); }},
            {"answer", [](Scene *s) { s->answer(); }},
            {"interrupt", [](Scene *s) { s->interrupt(); }},
            {"expire", [](Scene *s) { s->expire(); }},
            {"die", [](Scene *s) { s->die(); }},
            {"kill_after", [](Scene *s) { s->kill_after(); }},
        };
        events.at(event)(scene);
    }

    void check(const Row &row)
    {
        SCOPED_TRACE(std::string(row.state) + ", " + row.event);
        Scene scene(&library_, &launcher_, strcmp(row.state, "polling") == 0 ? kPollsForEver : 0);
        bool lies = row.verdict == kLie;
        make(&scene, row.state);
        happen(&scene, row.event);
        EXPECT_EQ(row.then, scene.call().state());
        EXPECT_EQ(lies, scene.is_violated());
        if (scene.is_attached()) {
            EXPECT_EQ(lies ? "protocol_violation" : "SIGSEGV", scene.die());
        }
        std::string answer = scene.finish();
        EXPECT_NE(std::string::npos, unquoted(answer).find(unquoted(row.answer))) << answer;
        EXPECT_EQ("", scene.leave());
    }

    static std::string unquoted(std::string text)
    {
        text.erase(std::remove(text.begin(), text.end(), '\''), text.end());
        return text;
    }

    Library library_;
    Launcher launcher_;
};

TEST_F(CallTableTest, EndsEveryCallAndJudgesEveryMessage)
{
    for (const Row &row : kRows)
        check(row);
}

TEST_F(CallTableTest, TakesAReplyToACallThatIsStillQueuedForALie)
{
    Scene scene(&library_, &launcher_);
    Process others;
    std::vector<std::unique_ptr<Call>> calls;
    scene.attach();
    for (unsigned i = 0; i < EP_CALL_CELLS; i++)
        calls.push_back(std::make_unique<Call>(&others, scene.context().lane()));
    scene.submit();
    scene.say(EP_KIND_RESULT);
    scene.drain();
    EXPECT_TRUE(scene.is_violated());
    EXPECT_EQ("protocol_violation", scene.die());
    EXPECT_NE("waits", scene.finish());
    calls.clear();
    EXPECT_EQ("", scene.leave());
}

TEST_F(CallTableTest, KeepsNothingOfCallsThatWereGivenUp)
{
    Context context;
    Worker worker(&launcher_);
    Process caller;
    ASSERT_EQ("ok", context.attach(&worker, 1));
    worker.start(1);
    fake_counts before = fake_living();
    for (int i = 0; i < 200; i++) {
        Call call(&caller, context.lane());
        ASSERT_EQ("waiting", call.await(integer(1)).text());
        ASSERT_EQ("cancelled", call.go_on("cancel").text());
        while (worker.take(0) || worker.take(1, true)) {
        }
        std::optional<Request> request = worker.take(1);
        ASSERT_TRUE(request && request->cancelled);
        worker.send(1, EP_KIND_DROPPED, request->call_id, "");
        while (context.owner().receive_now()) {
        }
    }
    Call last(&caller, context.lane());
    last.go_on("check");
    EXPECT_EQ(1u, context.open_calls());
    last.drop();
    /* Entries of the call table come in chunks. */
    /* The reaper may have held one of its own when they were counted. */
    EXPECT_LE(fake_living().envs, before.envs);
    EXPECT_LE(fake_living().memory, before.memory + 1);
}

TEST_F(CallTableTest, GivesACallerThatHasACallbackItsAnswerWhenTheContextEnds)
{
    for (bool collects : {false, true}) {
        Scene scene(&library_, &launcher_);
        scene.attach();
        scene.submit();
        ASSERT_TRUE(scene.take());
        scene.ask();
        scene.drain();
        if (collects)
            scene.await();
        scene.die();
        scene.attach(); /* the next worker knows nothing of it */
        scene.close();
        EXPECT_NE(std::string::npos, scene.finish().find("worker_died"));
        EXPECT_EQ("", scene.leave());
    }
}

} // namespace
