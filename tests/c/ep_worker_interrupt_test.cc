/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An interrupt goes two ways, CANCEL to a call that waits and INTERRUPT to one that
 * runs (service/worker/ep_worker_callback.c). Here they meet calls that go from one to the
 * other, at moments that differ from round to round: each is seen by the call that
 * was meant, once. tests/model/mutants.sh takes parts of the protocol away;
 * then these tests fail. EP_ROUNDS in the environment multiplies the rounds.
 */

#include "ep_worker_fixture.h"

#include "ep_cpu.h"

#include <random>

using namespace term;

namespace {

/* In each, what an interrupt may hit lies within the try, in a function of its own: the
 * jumps of a loop are not always covered by the try that the loop stands in. */
const char *const kCode =
    "import time\n"
    /* Waits and runs, and goes on for some rounds after it was interrupted. It ends
     * when it has been told 'end', which is never before the interrupt was sent. */
    "def ask(n):\n"
    "  while erlang.call('more', n) != 'end':\n"
    "    for _ in range(20): pass\n"
    "  return n\n"
    "def counts():\n"
    "  n = 0\n"
    "  while True:\n"
    "    try: return ask(n)\n"
    "    except KeyboardInterrupt: n += 1\n"
    /* Waits once and then runs until it is interrupted. */
    "def spin():\n"
    "  erlang.call('once')\n"
    "  end = time.monotonic() + 10\n"
    "  while time.monotonic() < end: pass\n"
    "  return 'lost'\n"
    "def runs():\n"
    "  try: return spin()\n"
    "  except KeyboardInterrupt: return 'seen'\n"
    /* Waits once and then ends: the interrupt may come too late. */
    "def ends():\n"
    "  try:\n"
    "    erlang.call('once')\n"
    "    return 'late'\n"
    "  except KeyboardInterrupt: return 'seen'\n"
    /* Asks when it has caught the interrupt. */
    "def cleans():\n"
    "  try: return spin()\n"
    "  except KeyboardInterrupt: return erlang.call('cleanup')\n"
    /* Between two questions it runs C only, which notices nothing, for some milliseconds. */
    "from itertools import chain, islice, repeat\n"
    "def deaf(): return list(map(erlang.call, chain(['once'], islice(repeat('next'), 10**6, "
    "10**6 + 1))))\n"
    /* Imports a module between two questions, which asks, too, each second time. What cuts
     * its code is noted. */
    "import itertools, sys\n"
    "from importlib.machinery import ModuleSpec\n"
    "numbers, cuts = itertools.count(), []\n"
    "def load(n):\n"
    "  for _ in range(50): pass\n"
    "class Loader:\n"
    "  def create_module(self, spec): return None\n"
    "  def exec_module(self, module):\n"
    "    try: self.load()\n"
    "    except KeyboardInterrupt: cuts.append(module)\n"
    "class Made(Loader):\n"
    "  def load(self): load(0)\n"
    /* Long enough for an interrupt that does not wait. */
    "class Slow(Loader):\n"
    "  def load(self):\n"
    "    erlang.call('once')\n"
    "    end = time.monotonic() + 0.02\n"
    "    while time.monotonic() < end: pass\n"
    "class Endless(Loader):\n"
    "  def exec_module(self, module):\n"
    "    while True: pass\n"
    "loaders = {'made': Made, 'slow': Slow, 'endless': Endless}\n"
    "class Finder:\n"
    "  def find_spec(self, name, path=None, target=None):\n"
    "    loader = loaders.get(name.split('_')[0])\n"
    "    if loader: return ModuleSpec(name, loader())\n"
    "sys.meta_path.insert(0, Finder())\n"
    "def import_anew(kind):\n"
    "  name = f'{kind}_{next(numbers)}'\n"
    "  __import__(name)\n"
    "  del sys.modules[name]\n"
    "def make(n):\n"
    "  while erlang.call('more', n) != 'end':\n"
    "    import_anew('made')\n"
    "  return n\n"
    "def imports():\n"
    "  n = 0\n"
    "  while True:\n"
    "    try: return make(n)\n"
    "    except KeyboardInterrupt: n += 1\n"
    "def slow():\n"
    "  try: import_anew('slow')\n"
    "  except KeyboardInterrupt: return 'seen'\n"
    "  return 'lost'\n"
    /* Imports all the time until it is interrupted. */
    "def keep_importing():\n"
    "  end = time.monotonic() + 10\n"
    "  while time.monotonic() < end: import_anew('made')\n"
    "  return 'lost'\n"
    "def busy():\n"
    "  try: return keep_importing()\n"
    "  except KeyboardInterrupt: return 'seen'\n"
    "def never(): import endless\n"
    /* A call that nobody interrupts. */
    "def later():\n"
    "  erlang.call('later')\n"
    "  return sum([i for i in range(100)])\n";

/* On lane 1 SIGINT raises the exception, on lane 2 a thread that waits for the GIL. */
class WorkerInterruptTest : public WorkerTest, public ::testing::WithParamInterface<uint32_t> {
protected:
    void SetUp() override
    {
        WorkerTest::SetUp();
        if (HasFatalFailure())
            return;
        const char *factor = getenv("EP_ROUNDS");
        rounds_ = factor == nullptr ? 1 : atoi(factor);
        if (lane_ != 1) {
            ASSERT_NO_FATAL_FAILURE(start(lane_));
        }
        EXPECT_EQ("", vm_->exec(kCode, lane_));
    }

    /* A call that asks for more again and again is interrupted at any moment, and sees it once. */
    void hits_once(const std::string &function)
    {
        for (int round = 0; round < 1500 * rounds_ && !HasFailure(); round++) {
            uint64_t id = begin(function);
            unsigned at = 1 + random_() % 3; /* how many answers come before the interrupt */
            for (unsigned i = 0; i < at; i++)
                vm_->answer(lane_, callback(id, "0 \"more\" [0]"), atom("go"));
            Reply asked;
            if (random_() % 2 == 0) {
                /* While it waits, or just before it does. */
                linger();
                interrupt(id);
            } else {
                /* When the answer is there already. */
                vm_->answer(lane_, callback(id, "0 \"more\" [0]"), atom("go"));
                linger();
                interrupt(id);
            }
            /* Until it says that it was hit, and some rounds more. */
            bool is_hit = false;
            for (int more = 0; more < 4;) {
                asked = vm_->receive(lane_);
                ASSERT_EQ(EP_KIND_CALLBACK, asked.kind) << VmSide::shown(asked);
                ASSERT_EQ(id, asked.call_id);
                is_hit = is_hit || asked.text() == "0 \"more\" [1]";
                ASSERT_EQ(is_hit ? "0 \"more\" [1]" : "0 \"more\" [0]", asked.text());
                more += is_hit;
                vm_->answer(lane_, asked, atom(more == 4 ? "end" : "go"));
            }
            Reply reply = vm_->receive(lane_);
            ASSERT_EQ(id, reply.call_id);
            ASSERT_EQ("1", VmSide::shown(reply)) << "round " << round;
        }
    }

    uint64_t begin(const std::string &function)
    {
        vm_->send(lane_, EP_KIND_CALL, VmSide::call_payload("__main__", function, {}), ++last_id_,
                  EP_FLAG_TRACEBACK);
        return last_id_;
    }

    /* A moment of no fixed length, up to some tens of microseconds. */
    void linger()
    {
        for (unsigned i = random_() % 4 == 0 ? 0 : random_() % 3000; i > 0; i--)
            ep_cpu_relax();
    }

    Reply callback(uint64_t id, const std::string &text)
    {
        Reply reply = vm_->receive(lane_);
        EXPECT_EQ(EP_KIND_CALLBACK, reply.kind) << VmSide::shown(reply);
        EXPECT_EQ(id, reply.call_id);
        EXPECT_EQ(text, reply.text());
        return reply;
    }

    /* The next call waits, too, so it reads what is left on the urgent ring. */
    void later_is_not_hit()
    {
        uint64_t id = begin("later");
        Reply asked = callback(id, "0 \"later\" []");
        vm_->answer(lane_, asked, integer(1));
        Reply reply = vm_->receive(lane_);
        ASSERT_EQ(id, reply.call_id);
        ASSERT_EQ("4950", VmSide::shown(reply));
    }

    /* The two ways of one interrupt, and now and then another moment between them. */
    void interrupt(uint64_t id)
    {
        uint64_t number = ++number_;
        vm_->cancel_waiting(lane_, id, number);
        if (random_() % 2 == 0)
            linger();
        vm_->interrupt(lane_, id, number);
    }

    const uint32_t lane_ = GetParam();
    std::mt19937 random_{11};
    int rounds_ = 1;
    uint64_t last_id_ = 1000;
    uint64_t number_ = 0;
};

TEST_P(WorkerInterruptTest, HitsACallThatKeepsAskingOnce)
{
    hits_once("counts");
}

TEST_P(WorkerInterruptTest, HitsACallThatKeepsImportingOnceAndCutsNoImport)
{
    hits_once("imports");
    EXPECT_EQ("0", vm_->eval("len(cuts)", term::map({}), lane_));
}

TEST_P(WorkerInterruptTest, IsRaisedAtTheEndOfAnImportThatAsked)
{
    int late = 0;
    const int rounds = 10 * rounds_;
    for (int round = 0; round < rounds && !HasFailure(); round++) {
        uint64_t id = begin("slow");
        vm_->answer(lane_, callback(id, "0 \"once\" []"), integer(1));
        /* The import does not last, and this thread may not be on a CPU. */
        while (vm_->running(lane_) != (id | EP_RUNNING_IMPORTS) && !vm_->has_message(lane_)
               && vm_->is_alive())
            sched_yield();
        interrupt(id);
        Reply reply = vm_->receive(lane_);
        ASSERT_EQ(id, reply.call_id);
        std::string text = VmSide::shown(reply);
        late += text == "\"lost\"";
        ASSERT_TRUE(text == "\"lost\"" || text == "\"seen\"") << text;
    }
    EXPECT_LT(late, rounds); /* not all came late */
    EXPECT_EQ("0", vm_->eval("len(cuts)", term::map({}), lane_));
}

TEST_P(WorkerInterruptTest, IsNotLostBetweenRunningAndImporting)
{
    for (int round = 0; round < 200 * rounds_ && !HasFailure(); round++) {
        uint64_t id = begin("busy");
        while (vm_->running(lane_) != id && vm_->running(lane_) != (id | EP_RUNNING_IMPORTS)
               && vm_->is_alive())
            sched_yield();
        linger();
        interrupt(id);
        Reply reply = vm_->receive(lane_);
        ASSERT_EQ(id, reply.call_id);
        ASSERT_EQ("\"seen\"", VmSide::shown(reply)) << "round " << round;
    }
    EXPECT_EQ("0", vm_->eval("len(cuts)", term::map({}), lane_));
}

TEST_P(WorkerInterruptTest, WaitsForTheEndOfAnImportUnlessItIsForced)
{
    for (int round = 0; round < 20 * rounds_ && !HasFailure(); round++) {
        uint64_t id = begin("never");
        ASSERT_TRUE(vm_->becomes_running(lane_, id | EP_RUNNING_IMPORTS));
        uint64_t before = vm_->taken(0);
        /* Forces nothing: no interrupt waits. */
        vm_->interrupt_import(lane_, id);
        vm_->interrupt(lane_, id + 1);
        interrupt(id);
        while (vm_->taken(0) < before + 3 && vm_->is_alive())
            sched_yield();
        ASSERT_FALSE(vm_->has_message(lane_));
        ASSERT_EQ(id | EP_RUNNING_IMPORTS, vm_->running(lane_));
        vm_->interrupt_import(lane_, id);
        Reply reply = vm_->receive(lane_);
        ASSERT_EQ(id, reply.call_id);
        ASSERT_EQ(EP_KIND_ERROR, reply.kind) << VmSide::shown(reply);
        ASSERT_EQ(EP_ERROR_INTERRUPTED, static_cast<int>(reply.aux));
        later_is_not_hit();
    }
}

TEST_P(WorkerInterruptTest, IsNotLostBetweenWaitingAndRunning)
{
    for (int round = 0; round < 3000 * rounds_ && !HasFailure(); round++) {
        uint64_t id = begin("runs");
        Reply asked = callback(id, "0 \"once\" []");
        if (round % 3 == 0)
            vm_->interrupt(lane_, 0xbad); /* keeps the control thread busy */
        vm_->answer(lane_, asked, integer(1));
        linger();
        interrupt(id);
        Reply reply = vm_->receive(lane_);
        ASSERT_EQ(id, reply.call_id);
        ASSERT_EQ("\"seen\"", VmSide::shown(reply)) << "round " << round;
    }
}

TEST_P(WorkerInterruptTest, IsOverForACallThatHasSeenIt)
{
    for (int round = 0; round < 200 * rounds_ && !HasFailure(); round++) {
        uint64_t id = begin("cleans");
        vm_->answer(lane_, callback(id, "0 \"once\" []"), integer(1));
        ASSERT_TRUE(vm_->becomes_running(lane_, id));
        interrupt(id);
        vm_->answer(lane_, callback(id, "0 \"cleanup\" []"), integer(2));
        Reply reply = vm_->receive(lane_);
        ASSERT_EQ(id, reply.call_id);
        ASSERT_EQ("2", VmSide::shown(reply)) << "round " << round;
    }
}

TEST_P(WorkerInterruptTest, IsNotLostBetweenRunningAndWaiting)
{
    for (int round = 0; round < 50 * rounds_ && !HasFailure(); round++) {
        uint64_t id = begin("deaf");
        vm_->answer(lane_, callback(id, "0 \"once\" []"), integer(1));
        /* It does not run for long. */
        while (vm_->running(lane_) != id && !vm_->has_message(lane_) && vm_->is_alive())
            sched_yield();
        interrupt(id);
        Reply reply = vm_->receive(lane_);
        ASSERT_EQ(id, reply.call_id);
        if (reply.kind == EP_KIND_CALLBACK) /* the interrupt came late */
            reply = vm_->receive(lane_);
        ASSERT_EQ(id, reply.call_id);
        ASSERT_EQ(EP_KIND_ERROR, reply.kind) << VmSide::shown(reply);
        ASSERT_EQ(EP_ERROR_INTERRUPTED, static_cast<int>(reply.aux));
    }
}

/* Between the answer and the call that runs again lies the wait for the GIL, long enough
 * for both ways of the interrupt to find the call neither waiting nor running. */
TEST_P(WorkerInterruptTest, IsNotLostWhileTheLaneWaitsForTheGil)
{
    uint32_t other = 3 - lane_;
    if (other != 1) {
        ASSERT_NO_FATAL_FAILURE(start(other));
    }
    EXPECT_EQ("", vm_->exec("import sys; sys.setswitchinterval(0.001)", lane_));
    ASSERT_NO_FATAL_FAILURE(start_endless("while True: pass", 7, other));
    for (int round = 0; round < 100 * rounds_ && !HasFailure(); round++) {
        uint64_t id = begin("runs");
        vm_->answer(lane_, callback(id, "0 \"once\" []"), integer(1));
        linger();
        interrupt(id);
        Reply reply = vm_->receive(lane_);
        ASSERT_EQ(id, reply.call_id);
        ASSERT_EQ("\"seen\"", VmSide::shown(reply)) << "round " << round;
    }
    vm_->interrupt(other, 7);
    EXPECT_EQ(7u, vm_->receive(other).call_id);
}

TEST_P(WorkerInterruptTest, NeverHitsALaterCall)
{
    int seen = 0, late = 0;
    for (int round = 0; round < 2000 * rounds_ && !HasFailure(); round++) {
        uint64_t id = begin("ends");
        vm_->answer(lane_, callback(id, "0 \"once\" []"), integer(1));
        linger();
        interrupt(id);
        Reply reply = vm_->receive(lane_);
        ASSERT_EQ(id, reply.call_id);
        std::string text = VmSide::shown(reply);
        seen += text != "\"late\"";
        late += text == "\"late\"";
        /* It may also hit outside of the function. */
        ASSERT_TRUE(text == "\"late\"" || text == "\"seen\""
                    || (reply.kind == EP_KIND_ERROR && reply.aux == EP_ERROR_INTERRUPTED))
            << text;
        later_is_not_hit();
    }
    RecordProperty("seen", seen);
    RecordProperty("late", late);
}

TEST_P(WorkerInterruptTest, HitsTheFrameThatWasMeant)
{
    for (int round = 0; round < 700 * rounds_ && !HasFailure(); round++) {
        uint64_t below = begin("counts");
        Reply f = callback(below, "0 \"more\" [0]");
        uint64_t top = ++last_id_;
        vm_->send_urgent(lane_, EP_KIND_CALL, VmSide::call_payload("__main__", "later", {}), top);
        bool is_early = round % 2 == 0;
        if (is_early) {
            linger();
            interrupt(below);
        }
        vm_->answer(lane_, callback(top, "0 \"later\" []"), integer(1));
        if (!is_early) {
            linger();
            interrupt(below);
        }
        Reply reply = vm_->receive(lane_);
        ASSERT_EQ(top, reply.call_id);
        ASSERT_EQ("4950", VmSide::shown(reply));
        vm_->answer(lane_, callback(below, "0 \"more\" [1]"), atom("end"));
        reply = vm_->receive(lane_);
        ASSERT_EQ(below, reply.call_id);
        ASSERT_EQ("1", VmSide::shown(reply));
    }
}

INSTANTIATE_TEST_SUITE_P(Lanes, WorkerInterruptTest, ::testing::Values(1u, 2u));

TEST_F(WorkerTest, AFloodOfInterruptsMakesNoCrowd)
{
    /* One by one they would all wait for the GIL, beside the call that wants it. */
    const uint64_t flood = 200, id = 7;
    ASSERT_NO_FATAL_FAILURE(start(2));
    ASSERT_NO_FATAL_FAILURE(start_endless("n = sum(range(3 * 10**7))\nwhile True: pass", id, 2));
    uint64_t before = vm_->taken(0);
    for (uint64_t number = 1; number <= flood; number++)
        vm_->interrupt(2, id, number);
    while (vm_->taken(0) < before + flood && vm_->is_alive())
        sched_yield();

    auto tasks =
        std::filesystem::directory_iterator("/proc/" + std::to_string(vm_->pid()) + "/task");
    EXPECT_LT(std::distance(begin(tasks), end(tasks)), 16);
    Reply reply = vm_->receive(2);
    EXPECT_EQ(id, reply.call_id);
    EXPECT_EQ(EP_ERROR_INTERRUPTED, static_cast<int>(reply.aux));
    EXPECT_EQ("4f", vm_->call("math", "sqrt", {integer(16)}, 2));
}

} // namespace
