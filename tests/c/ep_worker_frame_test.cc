/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Requests on top of calls that wait for an answer, and interrupts among them.
 */

#include "ep_worker_callback_fixture.h"

using namespace term;

namespace {

class WorkerFrameTest : public WorkerCallbackTest {};

/* --- nesting ------------------------------------------------------------------------- */

TEST_F(WorkerFrameTest, RunsARequestOnTopOfOneThatWaits)
{
    uint64_t below = begin_eval("'below ' + erlang.call('f')");
    Reply f = callback(below, "0 \"f\" []");
    uint64_t top = nest_eval("'top ' + erlang.call('g')");
    Reply g = callback(top, "0 \"g\" []");
    uint64_t plain = nest(EP_KIND_CALL, VmSide::call_payload("math", "sqrt", {integer(16)}));
    EXPECT_EQ("4f", end(plain));
    vm_->answer(1, g, binary("of g"));
    EXPECT_EQ("\"top of g\"", end(top));
    uint64_t exec = nest(EP_KIND_EXEC, binary("z = 5"));
    EXPECT_EQ("", end(exec));
    vm_->answer(1, f, binary("of f"));
    EXPECT_EQ("\"below of f\"", end(below));
    EXPECT_EQ("5", vm_->eval("z"));
}

TEST_F(WorkerFrameTest, GoesAHundredLevelsDeep)
{
    EXPECT_EQ("", vm_->exec("def down(n): return 0 if n == 0 else erlang.call('down', n - 1) + 1"));
    auto payload = [](int n) { return VmSide::call_payload("__main__", "down", {integer(n)}); };
    std::vector<Reply> asked;
    uint64_t id = begin(EP_KIND_CALL, payload(100));
    for (int n = 99; n >= 0; n--) {
        asked.push_back(callback(id, "0 \"down\" [" + std::to_string(n) + "]"));
        ASSERT_FALSE(HasFailure());
        id = nest(EP_KIND_CALL, payload(n));
    }
    EXPECT_EQ("0", end(id));
    for (int n = 1; n <= 100; n++) {
        Reply f = asked.back();
        asked.pop_back();
        vm_->answer(1, f, integer(n - 1));
        ASSERT_EQ(std::to_string(n), end(f.call_id));
    }
}

TEST_F(WorkerFrameTest, LeavesTheCallRingAloneWhileACallWaits)
{
    uint64_t first = begin_eval("erlang.call('f')");
    Reply f = callback(first, "0 \"f\" []");
    uint64_t started = vm_->taken(1);
    uint64_t second = begin_eval("2");
    uint64_t stranger = nest_eval("3");
    EXPECT_EQ("3", end(stranger));
    EXPECT_EQ(started, vm_->taken(1));
    vm_->answer(1, f, integer(1));
    EXPECT_EQ("1", end(first));
    EXPECT_EQ("2", end(second));
}

TEST_F(WorkerFrameTest, ServesNestedRequestsThatFindNobodyWaiting)
{
    EXPECT_EQ("3", end(nest_eval("1 + 2")));
    uint64_t id = nest_eval("erlang.call('f')");
    EXPECT_EQ("7", answered(id, "0 \"f\" []", integer(7)));
}

TEST_F(WorkerFrameTest, KeepsAnAnswerForAFrameBelow)
{
    for (size_t size : {10u, 1000u}) {
        uint64_t below = begin_eval("erlang.call('f')");
        Reply f = callback(below, "0 \"f\" []");
        uint64_t middle = nest_eval("erlang.call('g')");
        Reply g = callback(middle, "0 \"g\" []");
        uint64_t top = nest_eval("erlang.call('h')");
        Reply h = callback(top, "0 \"h\" []");
        std::string text(size, 'x');
        vm_->answer(1, f, binary("f" + text));
        vm_->answer(1, g, binary("g" + text));
        /* Answers were read when a request behind them has been. */
        EXPECT_EQ("1", end(nest_eval("1")));
        EXPECT_TRUE(vm_->becomes_running(1, top | EP_RUNNING_WAITS));
        EXPECT_EQ(size > EP_INLINE_MAX ? 2u : 0u, vm_->blocks_out(1));
        vm_->answer(1, h, binary("h" + text));
        EXPECT_EQ("\"h" + text + "\"", end(top));
        EXPECT_EQ("\"g" + text + "\"", end(middle));
        EXPECT_EQ("\"f" + text + "\"", end(below));
        EXPECT_EQ(0u, vm_->blocks_out(1));
    }
}

TEST_F(WorkerFrameTest, IgnoresAnswersThatNobodyWaitsFor)
{
    const std::string wrong = binary(std::string(1000, 'w'));
    uint64_t id = begin_eval("[erlang.call('f'), erlang.call('g')]");
    Reply f = callback(id, "0 \"f\" []");
    Reply other = f;
    other.subject++;
    vm_->answer(1, other, wrong);
    other.subject = f.subject - 1;
    vm_->answer(1, other, wrong);
    other = f;
    other.call_id++;
    vm_->answer(1, other, wrong);
    vm_->answer(1, f, integer(1));
    vm_->answer(1, f, wrong); /* twice */
    Reply g = callback(id, "0 \"g\" []");
    vm_->answer(1, f, wrong); /* late */
    vm_->answer(1, g, integer(2));
    EXPECT_EQ("[1,2]", end(id));
    vm_->answer(1, f, wrong); /* to a call that has ended */
    vm_->answer(1, g, wrong);
    id = begin_eval("erlang.call('h')");
    Reply h = callback(id, "0 \"h\" []");
    vm_->answer(1, g, wrong);
    vm_->answer(1, h, integer(3));
    EXPECT_EQ("3", end(id));
    EXPECT_EQ(0u, vm_->blocks_out(1));
}

TEST_F(WorkerFrameTest, DropsANestedRequestThatWasCancelledBeforeItStarted)
{
    uint64_t below = begin_eval("[erlang.call('f'), 'ran' in globals()]");
    Reply f = callback(below, "0 \"f\" []");
    uint64_t busy = nest(EP_KIND_EXEC, binary("while True: pass"));
    ASSERT_TRUE(vm_->becomes_running(1, busy));
    uint64_t dropped = nest(EP_KIND_EXEC, binary("ran = True"));
    EXPECT_TRUE(vm_->cancel_last_urgent(1, dropped));
    vm_->interrupt(1, busy);
    EXPECT_EQ("error: \"KeyboardInterrupt\" \"\" nil", end(busy));
    EXPECT_EQ("dropped", end(dropped));
    vm_->answer(1, f, integer(1));
    EXPECT_EQ("[1,false]", end(below));
}

TEST_F(WorkerFrameTest, DropsACancelledRequestThatItFindsAfterStop)
{
    /* Published before STOP, on the other ring, when the lane had looked there. */
    EXPECT_EQ(EP_KIND_STOPPED, vm_->stop(1).kind);
    ASSERT_NO_FATAL_FAILURE(vm_->write_cancelled(1, EP_KIND_EXEC, binary("x = 1"), ++last_id_));
    EXPECT_EQ("dropped", end(last_id_));
    ASSERT_NO_FATAL_FAILURE(start(1));
}

TEST_F(WorkerFrameTest, DropsManyNamespacesAtOnceWhileACallWaits)
{
    std::vector<uint64_t> ids;
    for (uint64_t id = 1; id <= 300; id++) {
        ASSERT_EQ("", vm_->exec("x = 1", 1, id));
        ids.push_back(id);
    }
    uint64_t waiting = begin_eval("erlang.call('f')");
    Reply f = callback(waiting, "0 \"f\" []");
    vm_->drop_envs(1, ids);
    vm_->send_urgent(1, EP_KIND_EVAL, binary("'x' in globals()") + map({}), ++last_id_, 0, 300);
    EXPECT_EQ("false", end(last_id_));
    EXPECT_EQ(0u, vm_->blocks_out(1));
    vm_->answer(1, f, integer(1));
    EXPECT_EQ("1", end(waiting));
}

TEST_F(WorkerFrameTest, EncodesAResultWhoseTextCallsErlang)
{
    EXPECT_EQ("", vm_->exec("class Asks:\n  def __str__(self): return erlang.call('text')"));
    for (size_t size : {10u, 1000u, 100000u}) {
        std::string n = std::to_string(size), a(size, 'a'), b(size, 'b');
        uint64_t below = begin_eval("['a' * " + n + ", Asks(), 'a' * " + n + "]");
        Reply f = callback(below, "0 \"text\" []");
        uint64_t middle = nest_eval("['b' * " + n + ", Asks(), 'b' * " + n + "]");
        Reply g = callback(middle, "0 \"text\" []");
        uint64_t top = nest_eval("'c' * " + n);
        EXPECT_EQ("\"" + std::string(size, 'c') + "\"", end(top));
        vm_->answer(1, g, binary("inner"));
        EXPECT_EQ("[\"" + b + "\",\"inner\",\"" + b + "\"]", end(middle));
        vm_->answer(1, f, binary("outer"));
        EXPECT_EQ("[\"" + a + "\",\"outer\",\"" + a + "\"]", end(below));
        EXPECT_EQ(0u, vm_->blocks_out(1));
    }
}

/* The whole depth is C: no function of Python stands between the levels. */
TEST_F(WorkerFrameTest, RefusesToGoTooDeep)
{
    const std::string payload = VmSide::call_payload("erlang", "call", {binary("f")});
    ASSERT_NO_FATAL_FAILURE(start(2));
    for (uint32_t lane : {1u, 2u}) {
        std::vector<Reply> asked;
        uint64_t id = begin(EP_KIND_CALL, payload, lane);
        Reply last;
        for (;;) {
            last = vm_->receive(lane);
            ASSERT_EQ(id, last.call_id);
            if (last.kind != EP_KIND_CALLBACK)
                break;
            asked.push_back(last);
            ASSERT_LE(asked.size(), 1000u);
            id = nest(EP_KIND_CALL, payload, lane);
        }
        EXPECT_EQ(0u, VmSide::shown(last).find("error: \"RecursionError\"")) << VmSide::shown(last);
        EXPECT_LE(100u, asked.size());
        RecordProperty("depth_of_lane_" + std::to_string(lane), static_cast<int>(asked.size()));
        while (!asked.empty()) {
            vm_->answer(lane, asked.back(), integer(static_cast<int64_t>(asked.size())));
            ASSERT_EQ(std::to_string(asked.size()), end(asked.back().call_id, lane));
            asked.pop_back();
        }
        EXPECT_EQ("2", vm_->eval("1 + 1", map({}), lane));
    }
}

/* --- interrupts ----------------------------------------------------------------------- */

/* Counts the interrupts that the function f has seen, and asks again after each. */
const char *const kCounts = "def f():\n"
                            "  n = 0\n"
                            "  while True:\n"
                            "    try:\n"
                            "      if erlang.call('again', n) == 'end': return n\n"
                            "      sum(range(1000))\n"
                            "    except KeyboardInterrupt: n += 1";

TEST_F(WorkerFrameTest, InterruptsACallThatWaitsExactlyOnce)
{
    EXPECT_EQ("", vm_->exec(kCounts));
    uint64_t id = begin_eval("f()");
    callback(id, "0 \"again\" [0]");
    for (int n = 1; n <= 100; n++) {
        vm_->cancel_waiting(1, id, static_cast<uint64_t>(n));
        std::string text = "0 \"again\" [" + std::to_string(n) + "]";
        Reply again = callback(id, text);
        /* The other way comes too late, whether the call waits or runs. */
        vm_->interrupt(1, id, static_cast<uint64_t>(n));
        if (n % 2 == 0)
            settle_control();
        vm_->answer(1, again, atom("go"));
        again = callback(id, text);
        vm_->cancel_waiting(1, id, static_cast<uint64_t>(n));
        vm_->answer(1, again, atom("go"));
        callback(id, text);
        ASSERT_FALSE(HasFailure());
    }
    vm_->cancel_waiting(1, id, 101);
    vm_->answer(1, callback(id, "0 \"again\" [101]"), atom("end"));
    EXPECT_EQ("101", end(id));
}

TEST_F(WorkerFrameTest, InterruptsACallThatRunsExactlyOnce)
{
    EXPECT_EQ("", vm_->exec("def spin():\n  erlang.call('ready')\n  while True: pass\n"
                            "def f():\n  try: spin()\n"
                            "  except KeyboardInterrupt: return [erlang.call('a'), "
                            "erlang.call('b'), sum(range(1000))]"));
    for (uint64_t number = 1; number <= 100; number++) {
        uint64_t id = begin_eval("f()");
        vm_->answer(1, callback(id, "0 \"ready\" []"), integer(0));
        ASSERT_TRUE(vm_->becomes_running(1, id));
        vm_->interrupt_twice(1, id, number);
        Reply a = callback(id, "0 \"a\" []"); /* CANCEL has been read, or will be */
        vm_->answer(1, a, integer(1));
        Reply b = callback(id, "0 \"b\" []");
        vm_->cancel_waiting(1, id, number);
        vm_->answer(1, b, integer(2));
        ASSERT_EQ("[1,2,499500]", end(id));
    }
}

/* A call that catches interrupts and never asks leaves all its CANCELs unread. */
TEST_F(WorkerFrameTest, RemembersInterruptsUntilTheyAreReadOnTheOtherWay)
{
    int fds[2];
    ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
    std::string path = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fds[1]);
    EXPECT_EQ("", vm_->exec("import os\nw = os.open('" + path
                            + "', os.O_WRONLY)\n"
                              "def spin():\n  os.write(w, b'x')\n  while True: pass\n"
                              "def f(most):\n  n = 0\n  while n < most:\n    try: spin()\n"
                              "    except KeyboardInterrupt: n += 1\n"
                              "  return [n, erlang.call('a'), erlang.call('b')]"));
    uint64_t number = 0;
    for (int most : {1, 63, 64, 65, 100}) {
        std::string n = std::to_string(most);
        uint64_t id = begin_eval("f(" + n + ")");
        for (int i = 0; i < most; i++) {
            char byte;
            pollfd fd = {fds[0], POLLIN, 0};
            ASSERT_EQ(1, poll(&fd, 1, VmSide::kTimeoutMs));
            ASSERT_EQ(1, read(fds[0], &byte, 1));
            vm_->interrupt_twice(1, id, ++number);
        }
        vm_->answer(1, callback(id, "0 \"a\" []"), integer(1));
        vm_->answer(1, callback(id, "0 \"b\" []"), integer(2));
        ASSERT_EQ("[" + n + ",1,2]", end(id)) << "more than EP_PY_INTERRUPTS at a time";
    }
    close(fds[0]);
    close(fds[1]);
}

TEST_F(WorkerFrameTest, InterruptsOnlyTheCallThatWasMeant)
{
    EXPECT_EQ("", vm_->exec(kCounts));
    uint64_t below = begin_eval("f()");
    Reply f = callback(below, "0 \"again\" [0]");
    uint64_t top = nest_eval("f()");
    Reply g = callback(top, "0 \"again\" [0]");
    vm_->interrupt_twice(1, 0xbad, 1);
    vm_->interrupt_twice(1, below, 2);
    settle_control();
    vm_->answer(1, g, atom("go"));
    g = callback(top, "0 \"again\" [0]");
    vm_->answer(1, g, atom("end"));
    EXPECT_EQ("0", end(top));
    /* The one below hears of it when it is on top again. */
    f = callback(below, "0 \"again\" [1]");
    vm_->answer(1, f, atom("end"));
    EXPECT_EQ("1", end(below));

    below = begin_eval("f()");
    f = callback(below, "0 \"again\" [0]");
    top = nest_eval("f()");
    callback(top, "0 \"again\" [0]");
    vm_->interrupt_twice(1, top, 3);
    vm_->answer(1, callback(top, "0 \"again\" [1]"), atom("end"));
    EXPECT_EQ("1", end(top));
    vm_->answer(1, f, atom("end"));
    EXPECT_EQ("0", end(below));
}

TEST_F(WorkerFrameTest, PrefersAnInterruptToAnAnswer)
{
    const std::string large = binary(std::string(1000, 'x'));
    for (uint64_t number = 1; number <= 200; number++) {
        uint64_t id = begin_eval("erlang.call('f')");
        Reply f = callback(id, "0 \"f\" []");
        vm_->cancel_waiting(1, id, number);
        vm_->answer(1, f, large);
        ASSERT_EQ("error: \"KeyboardInterrupt\" \"\" nil", end(id));
        ASSERT_EQ("1", end(nest_eval("1"))); /* the answer has been read */
        ASSERT_EQ(0u, vm_->blocks_out(1));
    }
}

TEST_F(WorkerFrameTest, GivesBackAnAnswerThatAnInterruptOvertakes)
{
    uint64_t below = begin_eval("erlang.call('f')");
    Reply f = callback(below, "0 \"f\" []");
    uint64_t top = nest_eval("erlang.call('g')");
    Reply g = callback(top, "0 \"g\" []");
    vm_->answer(1, f, binary(std::string(1000, 'x')));
    vm_->interrupt_twice(1, below, 1);
    vm_->answer(1, g, integer(1));
    EXPECT_EQ("1", end(top));
    EXPECT_EQ("error: \"KeyboardInterrupt\" \"\" nil", end(below));
    EXPECT_EQ(0u, vm_->blocks_out(1));
}

TEST_F(WorkerFrameTest, TellsWhichCallIsOnTop)
{
    ASSERT_TRUE(vm_->becomes_running(1, 0));
    uint64_t below = begin_eval("[erlang.call('f'), erlang.call('g')]");
    Reply f = callback(below, "0 \"f\" []");
    EXPECT_EQ(below | EP_RUNNING_WAITS, vm_->running(1));
    uint64_t top = nest(EP_KIND_EXEC, binary("while True: pass"));
    ASSERT_TRUE(vm_->becomes_running(1, top));
    vm_->interrupt(1, top);
    EXPECT_EQ("error: \"KeyboardInterrupt\" \"\" nil", end(top));
    ASSERT_TRUE(vm_->becomes_running(1, below | EP_RUNNING_WAITS));
    vm_->answer(1, f, integer(1));
    Reply g = callback(below, "0 \"g\" []");
    EXPECT_EQ(below | EP_RUNNING_WAITS, vm_->running(1));
    vm_->answer(1, g, integer(2));
    EXPECT_EQ("[1,2]", end(below));
    ASSERT_TRUE(vm_->becomes_running(1, 0));
}

TEST_F(WorkerFrameTest, WorksInAnInterpreterPerLane)
{
    if (!has_owngil())
        GTEST_SKIP() << "this Python has no interpreters with a GIL of their own";
    ASSERT_NO_FATAL_FAILURE(start(2, EP_MODE_OWNGIL));
    uint64_t first = begin_eval("erlang.call('main')");
    Reply main = callback(first, "0 \"main\" []");
    EXPECT_EQ("", vm_->exec(kCounts, 2));
    uint64_t below = begin_eval("f()", 2);
    callback(below, "0 \"again\" [0]", 2);
    vm_->interrupt_twice(2, below, 1);
    Reply f = callback(below, "0 \"again\" [1]", 2);
    uint64_t top = nest_eval("erlang.call('g', erlang.Pid)", 2);
    Reply g = vm_->receive(2);
    EXPECT_EQ(top, g.call_id);
    vm_->answer(2, g, handle(EP_HANDLE_PID, "abc"));
    EXPECT_EQ("pid:abc:8", end(top, 2));
    vm_->answer(2, f, atom("end"));
    EXPECT_EQ("1", end(below, 2));
    vm_->answer(1, main, integer(1));
    EXPECT_EQ("1", end(first));

    uint64_t id = begin(EP_KIND_EXEC,
                        binary("try: erlang.call('f')\n"
                               "except erlang.CallbackError as e: x = e.reason"),
                        2);
    vm_->answer(2, callback(id, "0 \"f\" []", 2),
                atom("throw") + integer(5) + binary("t") + list({}), EP_ANSWER_FAILED);
    EXPECT_EQ("", end(id, 2));
    EXPECT_EQ("5", vm_->eval("x", map({}), 2));
}

} // namespace
