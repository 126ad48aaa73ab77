/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What Python asks of Erlang, and what becomes of it.
 */

#include "ep_worker_callback_fixture.h"

using namespace term;

namespace {

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
    EXPECT_EQ("error: \"TypeError\" \"state_set() takes 2 arguments, not 1\" nil",
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

/* --- the process -------------------------------------------------------------------------- */

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
