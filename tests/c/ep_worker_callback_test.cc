/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What Python asks of Erlang: a real ep_worker, with the test in the place of the VM.
 */

#include "ep_worker_fixture.h"

using namespace term;

namespace {

class WorkerCallbackTest : public WorkerTest {
protected:
    /* Sends a request and returns the id of its call. */
    uint64_t begin(uint16_t kind, const std::string &payload, uint32_t lane = 1)
    {
        vm_->send(lane, kind, payload, ++last_id_);
        return last_id_;
    }

    uint64_t begin_eval(const std::string &code, uint32_t lane = 1)
    {
        return begin(EP_KIND_EVAL, binary(code) + map({}), lane);
    }

    /* The same as something that a callback needs: it runs on top of what waits. */
    uint64_t nest(uint16_t kind, const std::string &payload, uint32_t lane = 1)
    {
        vm_->send_urgent(lane, kind, payload, ++last_id_);
        return last_id_;
    }

    uint64_t nest_eval(const std::string &code, uint32_t lane = 1)
    {
        return nest(EP_KIND_EVAL, binary(code) + map({}), lane);
    }

    /* Takes the next message, which has to be a callback of that call. */
    Reply callback(uint64_t id, const std::string &text, uint32_t lane = 1)
    {
        Reply reply = vm_->receive(lane);
        EXPECT_EQ(EP_KIND_CALLBACK, reply.kind) << VmSide::shown(reply);
        EXPECT_EQ(id, reply.call_id);
        EXPECT_EQ(text, reply.text());
        return reply;
    }

    /* Takes the next message, which has to be the end of that call. */
    std::string end(uint64_t id, uint32_t lane = 1)
    {
        Reply reply = vm_->receive(lane);
        EXPECT_EQ(id, reply.call_id);
        return VmSide::shown(reply);
    }

    std::string answered(uint64_t id, const std::string &text, const std::string &payload,
                         ep_answer how = EP_ANSWER_VALUE)
    {
        vm_->answer(1, callback(id, text), payload, how);
        return end(id);
    }

    /* Returns when the control thread has done what was sent to it before. */
    void settle_control()
    {
        /* It takes a message before it does it, and one after the other. */
        vm_->interrupt(1, 0xdead);
        uint64_t sent = vm_->lane(0)->call.tail;
        while (ep_ring_taken(&vm_->lane(0)->call) < sent && vm_->is_alive())
            sched_yield();
    }

    /* Answers what was asked by other ways than that of a call: over the control lane. */
    void answer_elsewhere(const std::string &text)
    {
        Reply reply = vm_->receive(0);
        EXPECT_EQ(EP_KIND_CALLBACK, reply.kind) << VmSide::shown(reply);
        EXPECT_EQ(text, reply.text());
        vm_->send(0, EP_KIND_ANSWER, integer(1), reply.call_id);
    }

    uint64_t last_id_ = 1000;
};

/* --- questions and answers ---------------------------------------------------------- */

TEST_F(WorkerCallbackTest, AsksFromEvalCallAndExec)
{
    uint64_t id = begin_eval("erlang.call('f', 1, 'x') + 1");
    EXPECT_EQ("42", answered(id, "0 \"f\" [1,\"x\"]", integer(41)));
    id = begin(EP_KIND_CALL, VmSide::call_payload("erlang", "call", {binary("g"), real(2)}));
    EXPECT_EQ("[]", answered(id, "0 \"g\" [2f]", list({})));
    id = begin(EP_KIND_EXEC, binary("x = erlang.call('h')\ny = erlang.call('i', x)"));
    vm_->answer(1, callback(id, "0 \"h\" []"), atom("ok"));
    EXPECT_EQ("", answered(id, "0 \"i\" [\"ok\"]", tuple({integer(1)})));
    EXPECT_EQ("[\"ok\",{1}]", vm_->eval("[x, y]"));
}

TEST_F(WorkerCallbackTest, NumbersItsQuestions)
{
    uint64_t last = 0;
    uint64_t id = begin_eval("[erlang.call('f', i) for i in range(20)]");
    for (int i = 0; i < 20; i++) {
        Reply asked = callback(id, "0 \"f\" [" + std::to_string(i) + "]");
        ASSERT_LT(last, asked.subject);
        last = asked.subject;
        vm_->answer(1, asked, integer(i));
    }
    EXPECT_EQ("[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19]", end(id));
    id = begin_eval("erlang.call('f')");
    Reply asked = callback(id, "0 \"f\" []");
    EXPECT_LT(last, asked.subject) << "a number is not used again by a later call";
    vm_->answer(1, asked, integer(1));
    EXPECT_EQ("1", end(id));
}

TEST_F(WorkerCallbackTest, AsksAboutSharedState)
{
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"erlang.state_get('k')", "2 [\"k\"]"},
        {"erlang.state_set('k', [1])", "3 [\"k\",[1]]"},
        {"erlang.state_incr('k')", "4 [\"k\"]"},
        {"erlang.state_incr('k', 7)", "4 [\"k\",7]"},
        {"erlang.state_decr('k', 2**70)", "5 [\"k\",big+000000000000000040]"},
        {"erlang.state_delete(('k', 1))", "6 [{\"k\",1}]"},
        {"erlang.state_keys()", "7 []"},
        {"erlang.state_clear()", "8 []"},
        {"__import__('_erlang').is_registered('f')", "1 [\"f\"]"},
    };
    for (const auto &[code, text] : cases)
        EXPECT_EQ("\"yes\"", answered(begin_eval(code), text, binary("yes"))) << code;
    EXPECT_EQ("error: \"TypeError\" \"state_set() takes 2 to 2 arguments, not 1\" nil",
              vm_->eval("erlang.state_set('k')"));
}

TEST_F(WorkerCallbackTest, RefusesWhatErlangCannotHaveWithoutAsking)
{
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"erlang.call()", "TypeError\" \"call() needs the name"},
        {"erlang.call(1)", "TypeError\" \"call() needs the name"},
        {"erlang.call('f', x=1)", "TypeError\" \"Erlang functions take no keyword arguments"},
        {"erlang.call('f', 1, [{'a': 1, b'a': 2}])",
         "ValueError\" \"args[1][0]: two keys of the dict become the same key"},
        {"erlang.call('f', '\\ud800')", "UnicodeEncodeError\" \"'utf-8' codec can't encode"},
    };
    for (const auto &[code, text] : cases) {
        std::string got = vm_->eval(code);
        EXPECT_EQ("error: \"" + text, got.substr(0, 8 + text.size())) << code;
    }
}

TEST_F(WorkerCallbackTest, RaisesWhatTheAnswerSays)
{
    std::string failed =
        atom("exit") + tuple({atom("noproc"), integer(3)}) + binary("it failed")
        + list({tuple({binary("m"), binary("f"), integer(2), binary("m.erl"), integer(7)})});
    uint64_t id = begin(EP_KIND_EXEC, binary("try: erlang.call('f')\n"
                                             "except erlang.CallbackError as e: x = e"));
    EXPECT_EQ("", answered(id, "0 \"f\" []", failed, EP_ANSWER_FAILED));
    EXPECT_EQ("[\"it failed\",\"exit\",\"exit\",{\"noproc\",3},[{\"m\",\"f\",2,\"m.erl\",7}]]",
              vm_->eval("[str(x), x.class_, getattr(x, 'class'), x.reason, x.stacktrace]"));
    id = begin_eval("erlang.call('f')");
    EXPECT_EQ("error: \"CallbackError\" \"it failed\" nil",
              answered(id, "0 \"f\" []", failed, EP_ANSWER_FAILED));

    const std::vector<std::pair<std::string, std::string>> cases = {
        {"ValueError", "ValueError"},
        {"KeyboardInterrupt", "KeyboardInterrupt"},
        {"NoSuchException", "RuntimeError"},
        {"print", "RuntimeError"},
    };
    for (const auto &[name, type] : cases) {
        id = begin_eval("erlang.call('f')");
        EXPECT_EQ("error: \"" + type + "\" \"why\" nil",
                  answered(id, "0 \"f\" []", binary(name) + binary("why"), EP_ANSWER_RAISE));
    }
}

TEST_F(WorkerCallbackTest, SaysThatAnAnswerMakesNoSense)
{
    for (ep_answer how : {EP_ANSWER_VALUE, EP_ANSWER_FAILED, EP_ANSWER_RAISE}) {
        uint64_t id = begin_eval("erlang.call('f')");
        EXPECT_EQ("error: \"SystemError\" \"an answer from Erlang is not in the wire format\" nil",
                  answered(id, "0 \"f\" []", "\x01\x02", how));
    }
    EXPECT_EQ("2", vm_->eval("1 + 1"));
}

/* --- payloads ----------------------------------------------------------------------- */

TEST_F(WorkerCallbackTest, CarriesPayloadsOfAnySizeBothWays)
{
    for (size_t size : {1u, 150u, 193u, 600u, 70000u, 1u << 20, 20u << 20}) {
        std::string n = std::to_string(size);
        uint64_t id = begin_eval("len(erlang.call('f', 'q' * " + n + "))");
        Reply asked = vm_->receive(1);
        ASSERT_EQ(EP_KIND_CALLBACK, asked.kind);
        ASSERT_EQ(integer(0) + binary("f") + list({binary(std::string(size, 'q'))}), asked.payload);
        ASSERT_EQ(asked.payload.size() > EP_INLINE_MAX, (asked.flags & EP_FLAG_BLOCK) != 0);
        vm_->answer(1, asked, binary(std::string(size, 'a')));
        ASSERT_EQ(n, end(id));
        ASSERT_EQ(0u, vm_->blocks_out(1));
    }
}

TEST_F(WorkerCallbackTest, HandsBlocksBackForAThousandRounds)
{
    /* More than both slabs hold, if any block stayed away. */
    const std::string answer = binary(std::string(200000, 'a'));
    uint64_t id = begin_eval("sum(len(erlang.call('f', b'q' * 200000)) for _ in range(1000))");
    for (int i = 0; i < 1000; i++) {
        Reply asked = vm_->receive(1);
        ASSERT_EQ(EP_KIND_CALLBACK, asked.kind);
        ASSERT_LT(200000u, asked.payload.size());
        /* One for a frame that is not there, now and then. */
        if (i % 10 == 0)
            vm_->send_urgent(1, EP_KIND_ANSWER, answer, id, 0, asked.subject + 1);
        vm_->answer(1, asked, answer);
    }
    EXPECT_EQ("200000000", end(id));
    EXPECT_EQ(0u, vm_->blocks_out(1));
}

TEST_F(WorkerCallbackTest, DoesNotLeakObjects)
{
    std::string value = map({{binary("k"), list({tuple({integer(1), real(2)}), binary("\xff")})}});
    std::string failed = atom("error") + value + binary("text") + list({value});
    uint64_t number = 0;
    auto round = [&](int n) {
        for (int i = 0; i < n && !HasFailure(); i++) {
            answered(begin_eval("erlang.call('f', {1: 2}, 2**70)"),
                     "0 \"f\" [#{1=>2},big+000000000000000040]", value);
            answered(begin_eval("erlang.call('f')"), "0 \"f\" []", failed, EP_ANSWER_FAILED);
            answered(begin_eval("erlang.call('f')"), "0 \"f\" []",
                     binary("ValueError") + binary("x"), EP_ANSWER_RAISE);
            answered(begin_eval("erlang.call('f')"), "0 \"f\" []", "\x01");
            vm_->eval("erlang.call('f', 1, [{'a': 1, b'a': 2}])");
            uint64_t id = begin_eval("erlang.call('f')");
            callback(id, "0 \"f\" []");
            vm_->cancel_waiting(1, id, ++number);
            end(id);
        }
        vm_->eval("__import__('gc').collect()");
        return std::stol(vm_->eval("__import__('sys').getallocatedblocks()"));
    };
    long warm = round(100), again = round(1000);
    EXPECT_LT(again - warm, 500);
}

/* --- nesting ------------------------------------------------------------------------- */

TEST_F(WorkerCallbackTest, RunsARequestOnTopOfOneThatWaits)
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

TEST_F(WorkerCallbackTest, GoesAHundredLevelsDeep)
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

TEST_F(WorkerCallbackTest, LeavesTheCallRingAloneWhileACallWaits)
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

TEST_F(WorkerCallbackTest, ServesNestedRequestsThatFindNobodyWaiting)
{
    EXPECT_EQ("3", end(nest_eval("1 + 2")));
    uint64_t id = nest_eval("erlang.call('f')");
    EXPECT_EQ("7", answered(id, "0 \"f\" []", integer(7)));
}

TEST_F(WorkerCallbackTest, KeepsAnAnswerForAFrameBelow)
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

TEST_F(WorkerCallbackTest, IgnoresAnswersThatNobodyWaitsFor)
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

TEST_F(WorkerCallbackTest, DropsANestedRequestThatWasCancelledBeforeItStarted)
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

TEST_F(WorkerCallbackTest, DropsACancelledRequestThatItFindsAfterStop)
{
    /* Published before STOP, on the other ring, when the lane had looked there. */
    EXPECT_EQ(EP_KIND_STOPPED, vm_->stop(1).kind);
    ASSERT_NO_FATAL_FAILURE(vm_->write_cancelled(1, EP_KIND_EXEC, binary("x = 1"), ++last_id_));
    EXPECT_EQ("dropped", end(last_id_));
    ASSERT_NO_FATAL_FAILURE(start(1));
}

TEST_F(WorkerCallbackTest, DropsManyNamespacesAtOnceWhileACallWaits)
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

TEST_F(WorkerCallbackTest, EncodesAResultWhoseTextCallsErlang)
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
TEST_F(WorkerCallbackTest, RefusesToGoTooDeep)
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

TEST_F(WorkerCallbackTest, InterruptsACallThatWaitsExactlyOnce)
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

TEST_F(WorkerCallbackTest, InterruptsACallThatRunsExactlyOnce)
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
TEST_F(WorkerCallbackTest, RemembersInterruptsUntilTheyAreReadOnTheOtherWay)
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

TEST_F(WorkerCallbackTest, InterruptsOnlyTheCallThatWasMeant)
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

TEST_F(WorkerCallbackTest, PrefersAnInterruptToAnAnswer)
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

TEST_F(WorkerCallbackTest, GivesBackAnAnswerThatAnInterruptOvertakes)
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

TEST_F(WorkerCallbackTest, TellsWhichCallIsOnTop)
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

/* --- what Python runs between requests ---------------------------------------------------- */

/* Finalizers run when a namespace is dropped, or the values of a nested request are, and
 * signal handlers while the lane sleeps: on top of the frame that waits, not in it. They
 * ask as threads of Python do, and the answer for the frame still reaches it. */
const char *const kAsksAtTheEnd = "class AsksAtTheEnd:\n"
                                  "  def __str__(self): return 'x'\n"
                                  "  def __del__(self, call=erlang.call): call('del')\n";

TEST_F(WorkerCallbackTest, WaitsOnWhenAFinalizerOfADroppedNamespaceAsks)
{
    EXPECT_EQ("", vm_->exec(kAsksAtTheEnd));
    EXPECT_EQ("", vm_->exec("x = AsksAtTheEnd()", 1, 5));
    uint64_t id = begin_eval("erlang.call('f')");
    Reply f = callback(id, "0 \"f\" []");
    vm_->drop_env(1, 5);
    answer_elsewhere("0 \"del\" []");
    EXPECT_EQ("1", end(nest_eval("1")));
    vm_->answer(1, f, integer(7));
    EXPECT_EQ("7", end(id));
}

TEST_F(WorkerCallbackTest, WaitsOnWhenAFinalizerOfANestedResultAsks)
{
    EXPECT_EQ("", vm_->exec(kAsksAtTheEnd));
    uint64_t id = begin_eval("erlang.call('f')");
    Reply f = callback(id, "0 \"f\" []");
    EXPECT_EQ("\"x\"", end(nest_eval("AsksAtTheEnd()")));
    answer_elsewhere("0 \"del\" []");
    EXPECT_EQ("1", end(nest_eval("1")));
    vm_->answer(1, f, integer(7));
    EXPECT_EQ("7", end(id));
}

TEST_F(WorkerCallbackTest, WaitsOnWhenASignalHandlerAsks)
{
    EXPECT_EQ("", vm_->exec("import signal\ndef handler(number, frame):\n"
                            "  signal.signal(number, signal.SIG_IGN)\n"
                            "  erlang.call('signal')\n"
                            "signal.signal(signal.SIGUSR1, handler)"));
    uint64_t id = begin_eval("erlang.call('f')");
    Reply f = callback(id, "0 \"f\" []");
    /* One that comes just before the lane sleeps is noticed with the next one. */
    Reply asked;
    for (int i = 0; i < 1000 && asked.kind == 0; i++) {
        ASSERT_EQ(0, kill(vm_->pid(), SIGUSR1));
        asked = vm_->receive(0, 20);
    }
    ASSERT_EQ("0 \"signal\" []", asked.text());
    vm_->send(0, EP_KIND_ANSWER, integer(1), asked.call_id);
    EXPECT_EQ("1", end(nest_eval("1")));
    vm_->answer(1, f, integer(7));
    EXPECT_EQ("7", end(id));
}

/* --- interpreters, processes ------------------------------------------------------------ */

TEST_F(WorkerCallbackTest, WorksInAnInterpreterPerLane)
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

TEST_F(WorkerCallbackTest, LetsOthersHaveTheGilWhileACallWaits)
{
    ASSERT_NO_FATAL_FAILURE(start(2));
    uint64_t id = begin_eval("erlang.call('f')");
    Reply f = callback(id, "0 \"f\" []");
    for (int i = 0; i < 1000; i++)
        ASSERT_EQ("2", vm_->eval("1 + 1", map({}), 2));
    vm_->answer(1, f, integer(1));
    EXPECT_EQ("1", end(id));
}

TEST_F(WorkerCallbackTest, RefusesToAskInAForkedChild)
{
    EXPECT_EQ("", vm_->exec("import os\n"
                            "def child():\n"
                            "  pid = os.fork()\n"
                            "  if pid == 0:\n"
                            "    try: erlang.call('f')\n"
                            "    except RuntimeError: pass\n"
                            "    try: erlang.some_name\n"
                            "    except RuntimeError: os._exit(7)\n"
                            "    os._exit(8)\n"
                            "  return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"));
    EXPECT_EQ("7", vm_->eval("child()"));
    uint64_t below = begin_eval("erlang.call('f')");
    Reply f = callback(below, "0 \"f\" []");
    EXPECT_EQ("7", end(nest_eval("child()")));
    /* A child that comes back to where its parent would answer ends there. */
    EXPECT_EQ("true",
              end(nest_eval("(lambda p: p == 0 or os.waitpid(p, 0) == (p, 0))(os.fork())")));
    vm_->answer(1, f, integer(1));
    EXPECT_EQ("1", end(below));
}

TEST_F(WorkerCallbackTest, ShutsDownWhileCallsWait)
{
    uint64_t below = begin_eval("erlang.call('f')");
    callback(below, "0 \"f\" []");
    uint64_t top = nest_eval("erlang.call('g')");
    callback(top, "0 \"g\" []");
    vm_->send(0, EP_KIND_SHUTDOWN);
    EXPECT_EQ(EP_EXIT_ASKED, vm_->wait(3500));
}

TEST_F(WorkerCallbackTest, ShutsDownAlthoughPythonKeepsAsking)
{
    callback(begin(EP_KIND_EXEC, binary("while True:\n  try: erlang.call('f')\n"
                                        "  except BaseException: pass")),
             "0 \"f\" []");
    vm_->send(0, EP_KIND_SHUTDOWN);
    EXPECT_EQ(EP_EXIT_ASKED, vm_->wait(6000));
}

TEST_F(WorkerCallbackTest, EndsWhenTheVmIsGoneWhileACallWaits)
{
    callback(begin_eval("erlang.call('f')"), "0 \"f\" []");
    vm_->close_control();
    EXPECT_EQ(0, vm_->wait(2000));
}

TEST_F(WorkerCallbackTest, EndsWhenANestedRequestBreaksTheProtocol)
{
    callback(begin_eval("erlang.call('f')"), "0 \"f\" []");
    nest(EP_KIND_CALL, "\x01\x02");
    EXPECT_EQ(EP_EXIT_PROTOCOL, vm_->wait());
}

TEST_F(WorkerCallbackTest, WorksWithoutSpinning)
{
    vm_.reset();
    ASSERT_NO_FATAL_FAILURE(start_worker(2, 0));
    uint64_t id = begin_eval("sum(erlang.call('f', i) for i in range(2000))");
    for (int i = 0; i < 2000; i++) {
        Reply asked = callback(id, "0 \"f\" [" + std::to_string(i) + "]");
        ASSERT_EQ("1", end(nest_eval("1")));
        vm_->answer(1, asked, integer(1));
        ASSERT_FALSE(HasFailure());
    }
    EXPECT_EQ("2000", end(id));
}

} // namespace
